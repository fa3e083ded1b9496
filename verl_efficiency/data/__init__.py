"""Packing problems into prompts, from rows or files; ``verl_efficiency.data.dataset`` repacks in every epoch (needs torch)."""

from verl_efficiency.data.files import read_rows
from verl_efficiency.data.pack_plan import Band, PackPlan, load_plan, pack_rows_by_plan, packs_by_plan
from verl_efficiency.data.packing import pack_rows, plan_packs, prompt_text
from verl_efficiency.data.parquet import load_problems, pack_parquet, write_rows
from verl_efficiency.data.settings import PackingSettings

__all__ = [
    "Band",
    "PackPlan",
    "PackingSettings",
    "load_plan",
    "load_problems",
    "pack_parquet",
    "pack_rows",
    "pack_rows_by_plan",
    "packs_by_plan",
    "plan_packs",
    "prompt_text",
    "read_rows",
    "write_rows",
]
