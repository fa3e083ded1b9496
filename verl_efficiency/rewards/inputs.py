"""What every reward reads: its settings, and the facts beside the text that verl (or a reward file of OpenRLHF) hands over.

Errors name the row: a reward sees one sample among thousands, and "must be a number" without it is no help.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from verl_efficiency.grading import drop_thinking, extract_answer, require_marker
from verl_efficiency.settings import MethodSettings, SettingsError, build_settings

WHERE = "reward.custom_reward_function.reward_kwargs"
_GIVEN_BY_VERL = {"reward_router_address", "reward_model_tokenizer"}  # added by verl where a reward model is served


@dataclass(frozen=True)
class RewardSettings(MethodSettings):
    """Settings of a reward.

    Attributes:
        needs_cost: whether the reward must know what the response cost, which only ``reward_manager.name=efficiency`` tells.
        extras: all that the reward returns, with the values of a sample that cannot be scored. verl's V0 trainer needs the same
            keys of every sample, and a reward that raises returns none.
    """

    needs_cost: ClassVar[bool] = False
    extras: ClassVar[Mapping[str, float | str]] = {"score": 0.0}


@dataclass(frozen=True)
class AnswerSettings(RewardSettings):
    r"""Where the answer of a response is looked for.

    Attributes:
        strip_thinking: whether an answer inside ``<think>…</think>`` does not count. Where the prompt has opened the block, a
            response that is cut off in it holds no tag to know it by; in verl only ``reward_manager.name=efficiency`` tells.
        marker: the answer is what follows the last such text on its line (``####`` in GSM8K), or, with a ``…`` in it, what
            stands between two texts (``<answer>…</answer>``); unset, the last ``\boxed{…}``. In a shell it needs quotes inside
            quotes, because the shell takes the outer ones away:
            ``"+reward.custom_reward_function.reward_kwargs.marker='####'"``.
    """

    extras: ClassVar[Mapping[str, float | str]] = {
        **RewardSettings.extras,
        **{"acc": 0.0, "finished": 0.0, "tokens": 0.0, "status": "", "answer": ""},
    }

    strip_thinking: bool = False
    marker: str | None = None

    def __post_init__(self) -> None:
        require_marker(self.marker)

    def answering_part(self, response: str, extra_info: Mapping[str, Any]) -> str:
        """What of a response may hold answers: all of it, or what is outside the thinking."""
        if not self.strip_thinking:
            return response
        return drop_thinking("<think>" * bool(extra_info.get("thinking_opened")) + response)

    def find_answer(self, response: str, extra_info: Mapping[str, Any]) -> str | None:
        """The answer of a response to a single problem, or ``None``."""
        return extract_answer(self.answering_part(response, extra_info), marker=self.marker)

    @property
    def for_accuracy(self) -> dict[str, Any]:
        """These settings, for a reward that asks ``accuracy``."""
        return {"strip_thinking": self.strip_thinking, "marker": self.marker}


S = TypeVar("S", bound=RewardSettings)


def read_settings(cls: type[S], given: Mapping[str, Any]) -> S:
    """The settings among a reward's keyword arguments; the two that verl adds itself are no settings."""
    return build_settings(cls, {key: value for key, value in given.items() if key not in _GIVEN_BY_VERL}, WHERE)


def require_text(solution_str: Any, row: str) -> None:
    """A response that is no text is the caller's mistake, and says so."""
    if not isinstance(solution_str, str):
        raise ValueError(f"solution_str of {row}: must be a text, got {type(solution_str).__name__}: {solution_str!r}")


def row_name(data_source: Any, extra_info: Mapping[str, Any] | None) -> str:
    """The row of the data set, as an error calls it.

    >>> row_name("sums", {"index": 7})
    "data source 'sums', index 7"
    """
    return f"data source {str(data_source)!r}, index {(extra_info or {}).get('index')!r}"


def response_cost(extra_info: Mapping[str, Any] | None, key: str, reward: str, row: str) -> Any:
    """What our reward manager says of the response: ``response_tokens``, ``truncated`` or ``response_limit``.

    Raises:
        ValueError: it says nothing, because another reward manager is in use.
    """
    value = (extra_info or {}).get(key)
    if value is None:
        raise ValueError(
            f"{reward} needs extra_info[{key!r}] ({row}), which verl's own reward managers do not give: "
            "set reward.reward_manager.name=efficiency"
        )
    return value


def require_column(name: str, path: str) -> None:
    """A column that a reward reads lies below ``extra_info``, the only one that verl hands to a reward function."""
    if not path.startswith("extra_info.") or path == "extra_info.":
        raise SettingsError(
            f"{name}: must begin with 'extra_info.', the only column that a reward can see, got {path!r}"
        )


def read_column(extra_info: Mapping[str, Any] | None, path: str, reward: str, row: str) -> Any:
    """The value at ``path``, ``extra_info.…``.

    >>> read_column({"level": {"name": "short"}}, "extra_info.level.name", "length_levels", "")
    'short'
    """
    value: Any = extra_info or {}
    for part in path.split(".")[1:]:
        if not isinstance(value, Mapping) or value.get(part) is None:
            raise ValueError(f"{reward} needs the column {path} of the data set, and it is missing or empty in {row}")
        value = value[part]
    return value


def read_number(extra_info: Mapping[str, Any] | None, path: str, reward: str, row: str) -> float:
    """:func:`read_column` for a finite number."""
    value = read_column(extra_info, path, reward, row)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, str | bool) or not abs(number) < float("inf"):
        raise ValueError(f"{path} must be a finite number, got {value!r} ({row})")
    return number
