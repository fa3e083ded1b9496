r"""What the prompts of ``data.train_files`` and ``data.val_files`` ask for, compared with what the reward reads."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from verl_efficiency.data.files import Sample
from verl_efficiency.methods.catalog import Method
from verl_efficiency.rewards.base import AnswerSettings
from verl_efficiency.rewards.batched_accuracy import BatchedAccuracySettings
from verl_efficiency.rewards.ground_truth import read_answers
from verl_efficiency.verl.checks.dataset import OURS


def advise_to_ask(
    sample: Sample, prompt_key: str, method: Method, kwargs: Mapping[str, Any], file: Any
) -> Iterator[str]:
    r"""No prompt of the sample asks for ``\boxed{…}``, or for the marker in use, where the reward looks for the answer."""
    readers = [one for one in _settings(method, kwargs) if not isinstance(one, BatchedAccuracySettings)]
    if not readers:
        return
    marker = readers[0].marker
    form = "boxed" if marker is None else marker.partition("…")[0].strip().casefold()
    if any(form in str(row.get(prompt_key)).casefold() for row in sample.rows):
        return
    asked, ending = (
        (r"\boxed{}", r"Put the final answer in \boxed{}.")
        if marker is None
        else (marker, f"End with: {_filled(marker)}")
    )
    yield (f"no prompt of {file} that was looked at asks for {asked}, where {method.name} looks for the answer; if your chat "
           f"template does not ask either, add the sentence: `verl-efficiency pack {file} NEW.parquet --problems 1 --ending "
           f"{shlex.quote(ending)}`")  # fmt: skip


def advise_to_pack(sample: Sample, method: Method, kwargs: Mapping[str, Any], file: Any) -> Iterator[str]:
    """``batched_accuracy`` is used, and every row of the sample holds one problem."""
    if not any(isinstance(settings, BatchedAccuracySettings) for settings in _settings(method, kwargs)):
        return
    rows = ((row["reward_model"]["ground_truth"], (row.get("extra_info") or {}).get("n")) for row in sample.rows)
    if all(len(read_answers(truth, count)) == 1 for truth, count in rows):
        yield (f"every row of {file} that was looked at holds one problem, but batched_accuracy is for several; pack them: "
               f"`verl-efficiency pack {file} NEW.parquet --grouping random`, or add data.custom_cls.path=pkg://{OURS} "
               "data.custom_cls.name=PackedDataset data.dataloader_num_workers=0 +data.efficiency.grouping=random")  # fmt: skip


def _filled(marker: str) -> str:
    """The marker with its answer."""
    return marker.replace("…", "answer") if "…" in marker else f"{marker} answer"


def _settings(method: Method, kwargs: Mapping[str, Any]) -> list[AnswerSettings]:
    """The settings of the reward, or of every term of a composition, that look for an answer."""
    settings: Any = method.build_settings(kwargs, method.name)
    every = [term.checked for term in settings.read()] if method.name == "composition" else [settings]
    return [one for one in every if isinstance(one, AnswerSettings)]
