"""What all rewards share: the response they score, their settings, and the form in which verl calls them.

A reward is a function ``(response, settings) -> dict``. The decorator :func:`reward` gives it verl's form: it reads the
settings, checks the types and hands over a :class:`Response`. See :mod:`verl_efficiency.rewards` for how to add one.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from verl_efficiency.grading import drop_thinking, extract_answer, grade, require_marker
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.rewards.ground_truth import one_answer
from verl_efficiency.settings import SettingsError, build_settings, misspelt, require, require_at_least_0

WHERE = "reward.custom_reward_function.reward_kwargs"
_ADDED_BY_VERL = {"reward_router_address", "reward_model_tokenizer"}  # where a reward model is served

Result = dict[str, float | str]
Reward = Callable[..., Result]  # (data_source, solution_str, ground_truth, extra_info=None, **settings)


@dataclass(slots=True)
class Response:
    """One response to one row of the data set.

    Attributes:
        reward: name of the reward, for errors.
        text: the decoded response.
        ground_truth: ``reward_model.ground_truth`` of the row, in any form that the data set has it.
        data_source: ``data_source`` of the row.
        info: ``extra_info`` of the row, with what ``reward_manager.name=efficiency`` adds.
    """

    reward: str
    text: str
    ground_truth: Any
    data_source: Any
    info: Mapping[str, Any]

    @property
    def row(self) -> str:
        """How an error names the row: one sample among thousands."""
        return row_name(self.data_source, self.info)

    @property
    def tokens(self) -> float:
        """Tokens of the response, EOS included."""
        return self._cost("response_tokens")

    @property
    def limit(self) -> float:
        """The token limit of the run's responses."""
        return self._cost("response_limit")

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the response off."""
        return bool(self._cost("truncated"))

    def _cost(self, key: str) -> Any:
        value = self.info.get(key)
        if value is None:
            raise ValueError(
                f"{self.reward} needs extra_info[{key!r}] ({self.row}), which verl's own reward managers do not give: "
                "set reward.reward_manager.name=efficiency"
            )
        return value

    def column(self, path: str) -> Any:
        """The row's value in the column ``path``, ``extra_info.…``.

        >>> Response("length_levels", "", "4", "sums", {"level": {"name": "short"}}).column("extra_info.level.name")
        'short'
        """
        value: Any = self.info
        for part in path.split(".")[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            raise ValueError(
                f"{self.reward} needs the column {path} of the data set, and it is missing or empty in {self.row}"
            )
        return value

    def number(self, path: str) -> float:
        """:meth:`column` for a finite number."""
        value = self.column(path)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, str | bool) or not abs(number) < float("inf"):
            raise ValueError(f"{path} must be a finite number, got {value!r} ({self.row})")
        return number


@dataclass(frozen=True)
class RewardSettings:
    """Settings of a reward. The class variables below are facts about the reward; the start-up checks read them."""

    # The reward reads response.tokens, .limit or .truncated, which only reward_manager.name=efficiency tells.
    needs_cost: ClassVar[bool] = False
    # Two correct responses may differ in score, and so may two wrong ones.
    ranks_correct: ClassVar[bool] = True
    ranks_wrong: ClassVar[bool] = False
    # What the reward does when used alone, if it must only be a term of composition.
    only_as_term: ClassVar[str] = ""
    # All that the reward returns, with the values for a sample that it fails to score. verl's V0 trainer needs the same keys
    # for every sample.
    extras: ClassVar[Mapping[str, float | str]] = {"score": 0.0}

    def __post_init__(self) -> None:
        for setting, path in self._columns():
            if not path.startswith("extra_info.") or path == "extra_info.":
                raise SettingsError(
                    f"{setting}: must begin with 'extra_info.', the only column that a reward can see, got {path!r}"
                )

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the data set that the reward reads, from its settings ``<role>_column``: role → path."""
        return {setting.removesuffix("_column"): path for setting, path in self._columns()}

    def _columns(self) -> list[tuple[str, str]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self) if field.name.endswith("_column")]

    @classmethod
    def build(cls, given: Mapping[str, Any] | None, where: str) -> "RewardSettings":
        """The settings that a user wrote at ``where``.

        Raises:
            SettingsError: an unknown setting, a wrong value, or a setting that belongs elsewhere, with the reason.
        """
        own = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in own and not misspelt(name, own) and (reason := cls.belongs_elsewhere(name)):
                raise SettingsError(f"{where}.{name}: {reason}")
        return build_settings(cls, given, where)

    @classmethod
    def belongs_elsewhere(cls, name: str) -> str | None:
        """Why the setting ``name`` has no meaning in this reward, although it exists; None where it exists nowhere."""
        same_name = cls.__module__.rpartition(".")[2]
        for estimator in sorted(ESTIMATORS, key=lambda other: other != same_name):
            if name in (field.name for field in fields(ESTIMATORS[estimator].settings_class())):
                return (
                    "is a setting of estimators, which compare the responses of a group; a reward sees one response. Write "
                    f"+algorithm.efficiency.{name}=… with algorithm.adv_estimator={estimator}, or leave it out"
                )
        return None


@dataclass(frozen=True)
class AnswerSettings(RewardSettings):
    r"""Where the answer of a response stands.

    Attributes:
        strip_thinking: whether an answer inside ``<think>…</think>`` does not count. Where the prompt opens the block and the
            response is cut off in it, no tag shows it; in verl only ``reward_manager.name=efficiency`` knows.
        marker: the answer is what follows the last such text (``####`` in GSM8K) on its line or the next, or, with a ``…`` in
            it, what stands between two texts (``<answer>…</answer>``); unset, the last ``\boxed{…}``. A shell takes one pair of
            quotes away, so write two: ``"+reward.custom_reward_function.reward_kwargs.marker='####'"``.
    """

    extras: ClassVar[Mapping[str, float | str]] = {
        **RewardSettings.extras,
        **{"acc": 0.0, "finished": 0.0, "tokens": 0.0, "status": "", "answer": ""},
    }

    strip_thinking: bool = False
    marker: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_marker(self.marker)

    def answering_part(self, response: Response) -> str:
        """The part of a response that may hold answers: all of it, or what is outside the thinking."""
        if not self.strip_thinking:
            return response.text
        return drop_thinking("<think>" * bool(response.info.get("thinking_opened")) + response.text)

    def find_answer(self, response: Response) -> str | None:
        """The answer of a response to a single problem, or ``None``."""
        return extract_answer(self.answering_part(response), marker=self.marker)


@dataclass(frozen=True)
class OverrunSettings(AnswerSettings):
    """Settings of a reward that takes score off a correct answer for its tokens over a budget.

    Attributes:
        penalty: λ, the score lost at an overrun of 100 %.
        overrun_max: o_max; a larger overrun costs no more.
        margin: the least that a correct answer scores, in [0, 1].
    """

    needs_cost: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "budget": 0.0, "overrun": 0.0}

    penalty: float = 0.3
    overrun_max: float = 2.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(self, "penalty", "overrun_max")
        require(0 <= self.margin <= 1, "margin", self.margin, "in [0, 1]")

    def graded(self, response: Response, tokens: float, budget: float) -> Result:
        """:func:`graded`, with ``score`` max(1 − λ · min(o, o_max), margin) if correct; ``budget``; ``overrun``, o ≥ 0."""
        overrun = max(0.0, tokens - budget) / budget
        result = graded(response, self)
        if result["acc"] == 1:
            result["score"] = max(1 - self.penalty * min(overrun, self.overrun_max), self.margin)
        return result | {"budget": budget, "overrun": overrun}


def graded(response: Response, settings: AnswerSettings) -> Result:
    """What ``accuracy`` returns. Other rewards change ``score`` and add their own keys.

    Returns:
        ``score`` and ``acc``, 1 if the answer is correct, else 0; ``finished``, 1 if there is an answer; ``tokens`` of the
        response, or -1 where they are not known; ``status``, see :class:`verl_efficiency.grading.Status`; ``answer``, empty if
        there is none.

    Raises:
        ValueError: the ground truth is missing, empty, a worked solution or a list of several answers.
    """
    try:
        truth = one_answer(response.ground_truth, response.info.get("n"))
    except ValueError as error:
        raise ValueError(f"reward_model.ground_truth of {response.row} {error}") from None
    answer = settings.find_answer(response)
    verdict = grade(answer, truth)
    tokens = response.info.get("response_tokens")
    return {
        "score": float(verdict.correct),
        "acc": float(verdict.correct),
        "finished": float(answer is not None),
        "tokens": -1.0 if tokens is None else float(tokens),
        "status": verdict.status.value,
        "answer": answer or "",
    }


S = TypeVar("S", bound=RewardSettings)


def reward(cls: type[S]) -> Callable[[Callable[[Response, S], Result]], Reward]:
    """Decorator: give a function ``(response, settings) -> dict`` the form in which verl calls a reward.

    The result is ``(data_source, solution_str, ground_truth, extra_info=None, **settings) -> dict``. It is a module-level
    function with the name of the decorated one, so verl imports it by path and pickles it. It raises SettingsError for a
    wrong setting and ValueError for a response that is not a text.
    """

    def decorate(score: Callable[[Response, S], Result]) -> Reward:
        name = score.__name__

        def call(
            data_source: str,
            solution_str: str,
            ground_truth: Any,
            extra_info: Mapping[str, Any] | None = None,
            **settings: Any,
        ) -> Result:
            chosen = read_settings(cls, settings)
            response = Response(name, solution_str, ground_truth, data_source, extra_info or {})
            if not isinstance(solution_str, str):
                got = f"{type(solution_str).__name__}: {solution_str!r}"
                raise ValueError(f"solution_str of {response.row}: must be a text, got {got}")
            return score(response, chosen)

        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):  # not the signature, which is verl's
            setattr(call, attribute, getattr(score, attribute))
        call.settings = cls  # type: ignore[attr-defined]  # the catalog reads it
        return call

    return decorate


def read_settings(cls: type[S], given: Mapping[str, Any]) -> S:
    """The settings among a reward's keyword arguments; the two that verl adds itself are not settings."""
    if not _ADDED_BY_VERL.isdisjoint(given):
        given = {key: value for key, value in given.items() if key not in _ADDED_BY_VERL}
    try:
        return _built(cls, **given)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
    except TypeError:  # a list cannot be hashed
        return cls.build(given, WHERE)  # type: ignore[return-value]


@functools.lru_cache(maxsize=64, typed=True)  # a reward is called once per response, and its settings do not change
def _built(cls: type[S], /, **given: Any) -> S:
    return cls.build(given, WHERE)  # type: ignore[return-value]


def require_limit(max_tokens: int | None) -> None:
    """Refuse a ``max_tokens`` that is neither unset nor above 0."""
    expected = "a number of tokens above 0, or null for the run's limit"
    require(max_tokens is None or max_tokens > 0, "max_tokens", max_tokens, expected)


def row_name(data_source: Any, extra_info: Mapping[str, Any] | None) -> str:
    """The row of the data set, as an error calls it.

    >>> row_name("sums", {"index": 7})
    "data source 'sums', index 7"
    """
    return f"data source {str(data_source)!r}, index {(extra_info or {}).get('index')!r}"
