"""Whether the prompts of a data set ask for what the reward reads."""

import shlex
from collections.abc import Iterator
from typing import Any

from verl_efficiency.data.files import Sample
from verl_efficiency.rewards.base import AnswerSettings
from verl_efficiency.rewards.batched_accuracy import BatchedAccuracySettings
from verl_efficiency.rewards.ground_truth import read_answers
from verl_efficiency.verl.checks.dataset import OURS
from verl_efficiency.verl.checks.reward import OurReward


def advise_to_ask(sample: Sample, prompt_key: str, reward: OurReward, file: Any) -> Iterator[str]:
    r"""No prompt of the sample asks for ``\boxed{…}``, or for the marker that the reward looks for."""
    readers = [one for one in _answer_settings(reward) if not isinstance(one, BatchedAccuracySettings)]
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
    fix = f"verl-efficiency pack {file} NEW.parquet --problems 1 --ending {shlex.quote(ending)}"
    yield (f"no prompt of {file} that was looked at asks for {asked}, where {reward.method.name} looks for the answer. If your "
           f"chat template does not ask either, add the sentence: `{fix}`")  # fmt: skip


def advise_to_pack(sample: Sample, reward: OurReward, file: Any) -> Iterator[str]:
    """The reward is ``batched_accuracy``, but every row of the sample holds one problem."""
    if not any(isinstance(settings, BatchedAccuracySettings) for settings in _answer_settings(reward)):
        return
    rows = ((row["reward_model"]["ground_truth"], (row.get("extra_info") or {}).get("n")) for row in sample.rows)
    if all(len(read_answers(truth, count)) == 1 for truth, count in rows):
        yield (f"every row of {file} that was looked at holds one problem, but batched_accuracy is for several; pack them: "
               f"`verl-efficiency pack {file} NEW.parquet --grouping random`, or add data.custom_cls.path=pkg://{OURS} "
               "data.custom_cls.name=PackedDataset data.dataloader_num_workers=0 +data.efficiency.grouping=random")  # fmt: skip


def _filled(marker: str) -> str:
    """The marker with an answer."""
    return marker.replace("…", "answer") if "…" in marker else f"{marker} answer"


def _answer_settings(reward: OurReward) -> list[AnswerSettings]:
    """The settings of the reward, or of every term of a composition, that say where the answer stands."""
    composed = reward.method.name == "composition"
    every = [term.settings for term in reward.settings.read()] if composed else [reward.settings]
    return [settings for settings in every if isinstance(settings, AnswerSettings)]
