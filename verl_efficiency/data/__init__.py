"""Packing problems into prompts, from rows or files; ``verl_efficiency.data.dataset`` repacks in every epoch (needs torch)."""

from verl_efficiency.data.files import read_rows
from verl_efficiency.data.packing import pack_rows, plan_packs
from verl_efficiency.data.parquet import load_problems, pack_parquet, write_rows
from verl_efficiency.data.settings import PackingSettings

__all__ = ["PackingSettings", "load_problems", "pack_parquet", "pack_rows", "plan_packs", "read_rows", "write_rows"]
