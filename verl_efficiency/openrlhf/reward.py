r"""Our rewards in the two forms in which OpenRLHF loads one from a file.

``--reward.remote_url`` takes a file with ``reward_func``, ``--train.agent_func_path`` one with ``AgentExecutor``.
``--efficiency.reward NAME`` writes the latter for you, see :class:`RewardFile`. For other settings, write such a file::

    from verl_efficiency.openrlhf.reward import agent_executor, reward_function
    reward_func = reward_function("composition", terms=[{"name": "accuracy", "weight": 1.0}])
    AgentExecutor = agent_executor("length_levels", short=0.2)  # also knows how many tokens a response has

Instead of the name you can give your own function. It is called as verl calls a reward, and returns a number, or a dict with
``score`` and, for dynamic filtering, ``acc``.

OpenRLHF gets ``rewards``, the score, and ``scores``, which dynamic filtering reads: ``acc``, or the score where there is no
``acc``. Every other number is logged as ``reward/<name>``. Labels: see :mod:`verl_efficiency.data.openrlhf`.

Rewards read the response without special tokens, as in verl. OpenRLHF gives a reward function no tokenizer, and a text with
special tokens (``42<|im_end|>``), so those at the end are recognised by their form, see
:func:`verl_efficiency.grading.without_end_tokens`. An agent has the tokenizer, which skips them all.

>>> reward_func = reward_function("accuracy")
>>> reward_func([r"2+2? \boxed{4}"], ["2+2?"], ["4"])["rewards"]
1.0
"""

import functools
import math
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_efficiency.adapter.rollouts import prompt_name
from verl_efficiency.data.files import write_text
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.grading import opens_thinking, without_end_tokens
from verl_efficiency.grading.turn import without_start_tokens
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.settings import SettingsError, unknown

SHOWN = 300  # characters of a prompt in an error


class RewardError(BaseException):
    """A reward raised or returned no score; the message names the function, the prompt and the cause.

    Not an ``Exception``: OpenRLHF swallows those, then goes on without the sample or fails later with another error. This one
    ends the run.
    """


class RewardFile(str):
    """Path of an agent file that runs one of our rewards with its default settings, on every machine of the run.

    OpenRLHF loads a reward from a file, on the machine of each engine. So the file is written when the path is made, and again
    when Ray unpickles the path on another machine. There the path is a plain ``str``: Python cannot store the byte code of a
    file whose path is of a subclass, and ends the import with "unmarshallable object".
    """

    def __new__(cls, reward: str) -> "RewardFile":
        path = super().__new__(cls, _written(reward))
        path.reward = reward
        return path

    reward: str

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return _written, (self.reward,)


def _written(reward: str) -> str:
    """Write the agent file of a reward; returns its path. The folder is the user's, in the temporary folder."""
    folder = Path(tempfile.gettempdir(), f"verl_efficiency_{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SettingsError(f"{folder} belongs to another user; set TMPDIR to your own folder")
    file = folder / f"{reward}.py"
    write_text(file, f"from {__name__} import agent_executor\n\nAgentExecutor = agent_executor({reward!r})\n")
    return str(file)


def reward_function(reward: str | Callable, **settings: Any) -> Callable[[Sequence, Sequence, Sequence], dict]:
    """``reward_func(queries, prompts, labels)`` for a reward file.

    Raises:
        SettingsError: an unknown reward, a wrong setting, or a reward that needs the token count.
    """
    score, needs_cost = _scorer(reward, settings)
    if needs_cost:
        raise SettingsError(
            f"the reward {reward} needs the token count of the response, which OpenRLHF does not give a reward function; "
            f"write AgentExecutor = agent_executor({reward!r}, …) in the file and name it with --train.agent_func_path"
        )

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
        ((query, prompt, label),) = zip(queries, prompts, labels, strict=True)  # OpenRLHF calls with one at a time
        response = _after_prompt(query, prompt)
        if response is None:
            raise RewardError(
                f"the reward {reward}: a query does not begin with its prompt (truncated, or changed by the tokenizer), so the "
                f"response cannot be found; name the file with --train.agent_func_path. {_shown(prompt, label)}"
            )
        return score(prompt, label, response, {})

    return reward_func


def agent_executor(reward: str | Callable, **settings: Any) -> type:
    """``AgentExecutor`` for an agent file: one turn as OpenRLHF plays it, then our reward.

    Rewards find in ``extra_info``: ``response_tokens`` (EOS included), ``truncated``, ``response_limit``, ``prompt_id`` and, as
    with :func:`reward_function`, ``thinking_opened``: whether the prompt ends inside a ``<think>`` block.

    Raises:
        SettingsError: an unknown reward, or a wrong setting.
    """
    import asyncio

    from openrlhf.utils.agent import SingleTurnAgentExecutor

    score, _ = _scorer(reward, settings)

    class AgentExecutor(SingleTurnAgentExecutor):
        def __init__(self) -> None:
            super().__init__(None)

        async def execute(
            self,
            prompt: str,
            label: str,
            sampling_params: Any,
            max_length: int,
            hf_tokenizer: Any,
            llm_engine: Any,
            images: Any = None,
        ) -> dict[str, Any]:
            output = await super().execute(
                prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=images
            )
            ((start, end),) = output["action_ranges"]
            cost = {
                "response_tokens": end - start,
                "response_limit": sampling_params.max_tokens or max_length - start,
                "truncated": bool(output["truncated"]),
                "prompt_id": prompt_name(prompt),
            }
            response = hf_tokenizer.decode(output["observation_tokens"][start:end], skip_special_tokens=True)
            result = await asyncio.to_thread(score, prompt, label, response, cost)
            return output | {
                "reward": result["rewards"],
                "scores": result["scores"],
                "extra_logs": result["extra_logs"],
            }

    return AgentExecutor


def _after_prompt(query: str, prompt: str) -> str | None:
    """The response of a query; ``None`` if the query, without padding and start token, does not begin with its prompt."""
    if not query.startswith(prompt):
        query, prompt = without_start_tokens(query), without_start_tokens(prompt)
    return query[len(prompt) :] if query.startswith(prompt) else None


def _scorer(reward: str | Callable, settings: Mapping[str, Any]) -> tuple[Callable[..., dict], bool]:
    """A function that scores one response, and whether it needs the token count."""
    if callable(reward):
        return functools.partial(_score, reward, settings, set()), False
    if reward not in REWARDS:
        raise SettingsError(unknown("reward", reward, REWARDS))
    built = REWARDS[reward].build_settings(settings, f"the reward {reward}")
    return functools.partial(_score, REWARDS[reward].function(), settings, set()), built.needs_cost  # type: ignore[attr-defined]


def _score(
    function: Callable, settings: Mapping, keys: set[str], prompt: str, label: str, response: str, cost: Mapping
) -> dict[str, Any]:
    try:
        row = read_label(label)
        extra_info = {**(row.get("extra_info") or {}), **cost, "thinking_opened": opens_thinking(prompt)}
        returned = function(
            row.get("data_source", ""),
            without_end_tokens(response),
            row["reward_model"]["ground_truth"],
            extra_info,
            **settings,
        )
        result = dict(returned) if isinstance(returned, Mapping) else {"score": returned}
        score = result.pop("score", None)
        if not hasattr(score, "__float__") or not math.isfinite(float(score)):
            raise ValueError(f"a reward must return a finite number, or a dict with one as 'score', got {returned!r}")
        numbers = {name: float(value) for name, value in result.items() if hasattr(value, "__float__")}
        keys.update(keys or numbers)
        if keys != numbers.keys():
            raise ValueError(f"a reward must return the same numbers for every sample; {sorted(keys ^ numbers.keys())} "
                             "are not in all")  # fmt: skip
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # math-verify's TimeoutException is not an Exception, and a StopIteration from a thread would hang asyncio.
        name = getattr(function, "__name__", repr(function))
        place = traceback.extract_tb(error.__traceback__)[-1]  # in a composition, the term's
        raise RewardError(
            f"the reward {name} raised {type(error).__name__}: {error} (in {place.name}, {place.filename}:{place.lineno}). "
            f"{_shown(prompt, label)}"
        ) from error
    logs = {f"reward/{name}": value for name, value in numbers.items()}
    return {"rewards": float(score), "scores": numbers.get("acc", float(score)), "extra_logs": logs}


def _shown(prompt: str, label: str) -> str:
    short = prompt if len(prompt) <= SHOWN else prompt[: SHOWN // 2] + " … " + prompt[-SHOWN // 2 :]
    return f"Prompt: {short!r}. Label: {str(label)[:SHOWN]!r}"
