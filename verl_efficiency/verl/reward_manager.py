"""``reward.reward_manager.name=efficiency``: verl's own reward manager, which also tells the reward what the response cost.

verl hands a reward function the decoded text only. This manager adds to ``extra_info``:

* ``response_tokens``  int, tokens of the response, EOS included. Tool output counts, because verl does not hand the response
  mask to reward managers. Where replay of ``t_spmo`` restarts a response, the prefix does not count. If an agent loop returns
  several outputs for the session, their tokens count together; the text that the reward reads is that of the last one.
* ``truncated``        bool, the response ended because it reached ``rollout.response_length``; of several outputs: the last.
* ``response_limit``   int, ``rollout.response_length``.
* ``prompt_id``        str, a name of the prompt that is the same in every epoch.
* ``thinking_opened``  bool, the prompt ends in ``<think>``, as chat templates of thinking models write it. The response then
  begins inside the thinking, and one that is cut off there holds no tag that shows it.

**A reward that raises.** verl's V0 trainer crashes. Its V1 trainer logs the error and drops the sample: the group trains with
fewer rollouts than ``rollout.n``, validation loses the sample, and a bug in the reward looks like a harder data set. This
manager keeps the sample with ``score`` 0.0 and the extra ``reward_error`` 1.0 (0.0 for all others); its other extras are zero
or empty. It logs the first error of each kind with the function, the row and the traceback, and the count at 10, 100, 1000 … A
score that is not a finite number counts as an error too, because it would spoil the advantages of its whole group.

**The same extras for every sample.** verl's V0 trainer (verl 0.8, ``trainer.use_v1=False``) takes the keys of a batch from its
first sample. A sample that lacks some of them ends the run, or hides them for the whole batch. The keys of our rewards are
known, so a sample that cannot be scored has them all. Your own function declares what it returns::

    def my_reward(data_source, solution_str, ground_truth, extra_info): ...

    my_reward.extras = {"score": 0.0, "acc": 0.0, "steps": 0.0, "comment": ""}  # values for a sample that cannot be scored

A reward that returns a number declares ``{"acc": 0.0}``, verl's name for it. Without a declaration, the first result tells the
keys. If the function raises before that, the V1 trainer keeps the sample with ``score`` and ``acc``; for the V0 trainer the
error is raised, as without this manager, and the log says what to declare.

Errors never stop the run: whatever a reward worker raises, verl swallows, and the sample is lost. Instead, the start-up checks
refuse wrong settings and columns of our rewards, and ``trainer.val_before_train`` (verl's default) shows ``reward_error``
before the first step. verl does not log the extras of training steps as metrics, so look into the log, or use our trainer
``efficiency_sync``, which logs them.

>>> outcomes = Outcomes("my_reward")
>>> outcomes.filled({"score": 0.5, "text": "x"}), outcomes.blank()
({'reward_error': 0.0, 'score': 0.5, 'text': 'x'}, {'reward_error': 1.0, 'score': 0.0, 'text': ''})
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

from verl_efficiency.adapter.rollouts import prompt_name
from verl_efficiency.grading import opens_thinking
from verl_efficiency.verl.checks.extras import extras_of

logger = logging.getLogger("verl_efficiency")
_LOOK_BACK = 16  # last tokens of a prompt, enough for a <think> in several tokens and blanks
_NOT_OURS_TO_CATCH = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


class EfficiencyRewardManager(NaiveRewardManager):
    """See the module."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        function = config.reward.get("custom_reward_function") or {}
        name = f"{function['path']}:{function['name']}" if function.get("path") else "verl's default_compute_score"
        uniform = not (config.get("trainer") or {}).get("use_v1", False)
        # Read once: it is an interpolation, which OmegaConf resolves again at every look, in a millisecond.
        self.response_limit = config.actor_rollout_ref.rollout.response_length
        self.outcomes = Outcomes(name, extras_of(self.compute_score), uniform=uniform, **_filtered_by(config))
        if not self.is_async_reward_score and self.compute_score is not None:
            self.compute_score = _without_stop_iteration(self.compute_score)

    async def run_single(self, data: Any) -> dict:
        last = data[-1:]  # verl rewards the last of several sequences
        try:
            result = await super().run_single(self._with_cost(data))
            score = result["reward_score"]
            if not math.isfinite(float(score)):
                raise ValueError(f"the score must be a finite number, got {score!r}")
        except _NOT_OURS_TO_CATCH:
            raise
        except BaseException as error:
            # verl would drop the sample, see the module. math-verify's TimeoutException is not an Exception.
            self.outcomes.failed(error, last.non_tensor_batch)
            if not self.outcomes.can_be_blank:
                raise
            return {"reward_score": 0.0, "reward_extra_info": self.outcomes.blank()}
        return {"reward_score": score, "reward_extra_info": self.outcomes.filled(result["reward_extra_info"])}

    def _with_cost(self, outputs: Any) -> DataProto:
        """The last output of a session, with what the whole session cost."""
        sample, earlier = outputs[-1:], outputs.non_tensor_batch.get("response_len", ())[:-1]
        tensors, row = _unpadded(sample.batch, sample.non_tensor_batch), dict(sample.non_tensor_batch)
        prompt_length = tensors["prompts"].shape[-1]
        ids = tensors["responses"][0][tensors["attention_mask"][0][prompt_length:].bool()]
        ended = len(ids) > 0 and int(ids[-1]) == self.tokenizer.eos_token_id  # type: ignore[attr-defined]
        limit = self.response_limit
        extra_info = dict(row["extra_info"][0]) if "extra_info" in row else {}
        extra_info["response_tokens"] = sum(map(int, earlier)) + len(ids)
        extra_info["response_limit"] = limit
        extra_info["truncated"] = len(ids) >= limit and not ended
        end_of_prompt = tensors["prompts"][0][: prompt_length - len(extra_info.get("replay_prefix", ()))][-_LOOK_BACK:]
        extra_info["thinking_opened"] = opens_thinking(self.tokenizer.decode(end_of_prompt))  # type: ignore[attr-defined]
        if "raw_prompt" in row:
            extra_info["prompt_id"] = prompt_name(row["raw_prompt"][0])
        row["extra_info"] = np.array([extra_info], dtype=object)
        if "replay_prefix" in extra_info:  # t_spmo: the prompt ends with the beginning of the response
            border = prompt_length - len(extra_info["replay_prefix"])
            begun = tensors["prompts"][:, border:]
            tensors |= {
                "prompts": tensors["prompts"][:, :border],
                "responses": torch.cat([begun, tensors["responses"]], 1),
            }
        return DataProto.from_dict(tensors=tensors, non_tensors=row, meta_info=sample.meta_info)


if REWARD_MANAGER.setdefault("efficiency", EfficiencyRewardManager) is not EfficiencyRewardManager:
    logger.warning(
        "the reward manager 'efficiency' is already registered by %s; for ours, set reward.reward_manager.source=importlib "
        "reward.reward_manager.module.path=pkg://verl_efficiency.verl.reward_manager "
        "reward.reward_manager.name=EfficiencyRewardManager.",
        REWARD_MANAGER["efficiency"].__module__,
    )


def _unpadded(tensors: Any, row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Prompt and response of one row, without padding where the lengths are known.

    verl 0.9.1 pads the outputs of one rollout on the right, and pads prompts, responses and masks separately. Where prompts
    differ in length the masks fit neither, so the lengths that verl hands over are used instead.
    """
    if "prompt_len" not in row or "response_len" not in row:
        return {key: tensors[key] for key in ("prompts", "responses", "attention_mask")}
    prompts = tensors["prompts"][:, : int(row["prompt_len"][0])]
    responses = tensors["responses"][:, : int(row["response_len"][0])]
    mask = torch.ones((1, prompts.shape[1] + responses.shape[1]), dtype=torch.int64)
    return {"prompts": prompts, "responses": responses, "attention_mask": mask}


def _without_stop_iteration(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with StopIteration as a RuntimeError: from an executor's thread, it would make asyncio wait forever."""

    def call(**arguments: Any) -> Any:
        try:
            return function(**arguments)
        except StopIteration as error:
            raise RuntimeError("StopIteration, from a next() without a default") from error

    return call


def _filtered_by(config: Any) -> dict[str, str]:
    """The extra that ``algorithm.filter_groups`` reads from every sample, as a keyword of :class:`Outcomes`."""
    groups = (config.get("algorithm") or {}).get("filter_groups") or {}
    metric = str(groups.get("metric"))
    return {"needed": metric} if groups.get("enable", False) and metric not in ("None", "reward") else {}


class Outcomes:
    """What the reward function of this process has returned and raised so far.

    Args:
        function: name of the reward function, for the log.
        extras: what it returns, with the values for a sample that cannot be scored; None: not known.
        uniform: whether every sample must have the same extras, as for the V0 trainer.
        needed: an extra that every sample must have, because the trainer reads it.
    """

    def __init__(
        self, function: str, extras: dict[str, Any] | None = None, *, uniform: bool = False, needed: str | None = None
    ) -> None:
        self.function = function
        self.uniform = uniform
        self.declared = extras is not None
        self.scored = 0
        self.errors: dict[str, int] = {}  # kind of error → how many
        self._blank: dict[str, Any] = extras or {}
        self._least = {"score": 0.0, "acc": 0.0} | ({needed: 0.0} if needed else {})

    @property
    def can_be_blank(self) -> bool:
        """Whether an unscored sample can be kept: its extras are known, or may differ between samples."""
        return self.declared or self.scored > 0 or not self.uniform

    def filled(self, extras: dict[str, Any]) -> dict[str, Any]:
        """The extras of a scored sample; their keys are remembered for samples that cannot be scored."""
        self.scored += 1
        new = {key: "" if isinstance(value, str) else 0.0 for key, value in extras.items() if key not in self._blank}
        if new and self.uniform and (self.declared or self.scored > 1):
            logger.error(
                "REWARD ERROR: %s returned %s for some samples only, and verl's V0 trainer needs the same extras for every "
                "sample. Declare all that it returns: %s.extras = {name: value for a sample that cannot be scored, …}.",
                *(self.function, ", ".join(new), self.function.rpartition(":")[2]),
            )
        self._blank |= new
        missing = self._blank if self.uniform else {}
        return dict(sorted((missing | extras | {"reward_error": 0.0}).items()))

    def blank(self) -> dict[str, Any]:
        """The extras of a sample that could not be scored; before the first scored sample, those that every reward has."""
        known = self._blank or self._least
        return dict(sorted((known | {"reward_error": 1.0}).items()))

    def failed(self, error: BaseException, row: Any) -> None:
        """Count the error, and log it if it is the first of its kind or the count is a power of ten."""
        kind = type(error).__name__
        self.errors[kind] = self.errors.get(kind, 0) + 1
        total = sum(self.errors.values())
        extra_info = row.get("extra_info", [None])[0]
        if self.errors[kind] == 1:
            logger.error(
                "REWARD ERROR: %s raised %s: %s (data_source %r, index %r). %s",
                self.function,
                kind,
                error,
                str(row.get("data_source", [None])[0]),  # numpy's texts call themselves np.str_('…')
                extra_info.get("index") if isinstance(extra_info, Mapping) else None,
                "The sample is kept with score 0 and reward_error=1; further errors of this kind are counted."
                if self.can_be_blank
                else "The run ends, because verl's V0 trainer needs the same extras for every sample. To keep the sample, "
                f"declare what the function returns: {self.function.rpartition(':')[2]}.extras = "
                "{name: value for a sample that cannot be scored, …}.",
                exc_info=error,
            )
        elif math.log10(total).is_integer():
            logger.error(
                "REWARD ERROR: %s has raised for %d of %d samples in this worker (%s); they are kept with score 0 and "
                "reward_error=1.",
                self.function,
                total,
                total + self.scored,
                ", ".join(f"{name}: {count}" for name, count in self.errors.items()),
            )
