r"""A weighted sum of the scores of other rewards and your own functions.

::

    score = Σ_k weight_k · score_k

In YAML, or on verl's command line, each term has its name, its weight and its own settings::

    reward.custom_reward_function.name: composition
    reward.custom_reward_function.reward_kwargs.terms:
      - {name: accuracy, weight: 1.0}
      - {name: repetition, weight: 0.1, n: 4}
      - {name: "pkg://my_package.my_module:my_function", weight: 0.5, my_setting: 3}

A higher score of our rewards is always better (penalties are negative), so their weights are above 0. Your own function may
have any weight. It is called as verl calls a reward, and returns a number, or a dict with ``score``. ``acc`` and the other
extras come from the first term that has them.

**Terms of different scale.** In a plain sum, the term that varies most decides the advantage. GDPO (arXiv 2601.05242)
normalises each term within its group, adds the weighted results, and whitens the sum over the batch. verl has it as the
estimator ``gdpo``, which reads the terms from the extras of this reward::

    algorithm.adv_estimator=gdpo trainer.use_v1=False
    +algorithm.gdpo_reward_keys=[term_accuracy,term_repetition] +algorithm.gdpo_reward_weights=[1.0,0.1]

Normalising removes the size of a term's own weight and leaves its sign, so ``gdpo_reward_weights`` are the weights that count.
In verl 0.9.1 only the older trainer hands the extras to the estimator, hence ``use_v1=False``.

>>> composition("sums", r"2+2 is \boxed{4}", "4")["score"]
1.0
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.rewards.base import Response, Result, RewardSettings, reward
from verl_efficiency.settings import SettingsError, unknown

DEFAULT_TERMS = ({"name": "accuracy", "weight": 1.0}, {"name": "repetition", "weight": 0.1})


@dataclass(frozen=True)
class Term:
    """One term of the sum.

    Attributes:
        label: the extra ``term_<label>`` holds its contribution.
        weight: of its score in the sum.
        function: called as verl calls a reward.
        given: its own keyword arguments.
        settings: the same, checked; None for your own function.
    """

    label: str
    weight: float
    function: Callable[..., Any]
    given: dict[str, Any]
    settings: RewardSettings | None


@dataclass(frozen=True)
class CompositionSettings(RewardSettings):
    """Settings of ``composition``.

    Args:
        terms: a list of mappings: ``name`` of one of our rewards, or ``pkg://module:function``; ``weight``; ``label``, under
            which its contribution is reported (needed only where two terms have the same name); the term's own settings.
    """

    ranks_wrong: ClassVar[bool] = True

    terms: Sequence = DEFAULT_TERMS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read()

    def read(self) -> list[Term]:
        """The terms, checked and ready to be called."""
        return self._terms

    @cached_property
    def _terms(self) -> list[Term]:
        if isinstance(self.terms, str) or not self.terms:
            raise SettingsError(f"terms: must be a list of at least one {{name: …, weight: …}}, got {self.terms!r}")
        terms = [_read_term(term, f"terms[{place}]") for place, term in enumerate(self.terms)]
        labels = [term.label for term in terms]
        for place, label in enumerate(labels):
            if label in labels[:place]:
                raise SettingsError(f"terms[{place}]: there are two terms {label!r}; give this one another `label`")
        return terms

    @property
    def needs_cost(self) -> bool:  # type: ignore[override]
        return any(term.settings.needs_cost for term in self.read() if term.settings)

    @property
    def extras(self) -> dict[str, float | str]:  # type: ignore[override]
        """Those of the terms. Your own function declares them by an attribute: ``my_function.extras = {"length": 0.0}``."""
        found: dict[str, float | str] = {}
        for term in self.read():
            of_term = term.settings.extras if term.settings else getattr(term.function, "extras", {})
            found = {f"term_{term.label}": 0.0, **of_term, **found}
        return {"score": 0.0, **found}

    @property
    def columns(self) -> dict[str, str]:
        return {role: path for term in self.read() if term.settings for role, path in term.settings.columns.items()}

    @classmethod
    def belongs_elsewhere(cls, name: str) -> str | None:
        for row in REWARDS.values():
            if row.name != "composition" and name in (field.name for field in fields(row.settings_class())):
                return f"belongs to a term; write it in the list `terms`: {{name: {row.name}, weight: 1.0, {name}: …}}"
        return super().belongs_elsewhere(name)


@reward(CompositionSettings)
def composition(response: Response, settings: CompositionSettings) -> Result:
    """Returns ``score``; ``term_<label>`` for each term, weight · score; then what the terms return besides their scores. Where
    two terms return the same key, the first one counts. Each term gets its own copy of ``extra_info``.

    Raises:
        ValueError: a term returned no finite score, or ``ground_truth`` and ``extra_info`` lack what a term needs.
    """
    contributions: Result = {}
    extras: Result = {}
    score = 0.0
    for term in settings.read():
        returned = term.function(
            response.data_source, response.text, response.ground_truth, dict(response.info), **term.given
        )
        result = dict(returned) if isinstance(returned, Mapping) else {"score": returned}
        value = result.pop("score", None)
        if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
            raise ValueError(f"the term {term.label!r} must return a finite number or a dict with one as 'score' "
                             f"({response.row}), got {returned!r}")  # fmt: skip
        contribution = term.weight * float(value)
        score += contribution
        contributions[f"term_{term.label}"] = contribution
        extras |= {key: value for key, value in result.items() if key not in extras}
    return {"score": score} | contributions | extras


compute_score = composition


def _read_term(given: Any, where: str) -> Term:
    if not isinstance(given, Mapping) or "name" not in given or "weight" not in given:
        raise SettingsError(f"{where}: must be a mapping with `name` and `weight`, got {given!r}")
    settings = {key: value for key, value in given.items() if key not in ("name", "weight", "label")}
    name, weight = str(given["name"]), given["weight"]
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight == 0:
        raise SettingsError(f"{where}.weight: must be a finite number other than 0, got {weight!r}")
    if name.startswith("pkg://"):
        label = str(given.get("label", name.rpartition(":")[2]))
        return Term(label, float(weight), _own_function(name, where), settings, None)
    known = [reward for reward in REWARDS if reward != "composition"]
    if name not in known:
        raise SettingsError(f"{where}.name: {unknown('reward', name, known)}, or pkg://module:function")
    if weight < 0:
        raise SettingsError(
            f"{where}.weight: must be above 0, got {weight:g}: a higher score of {name} is better (penalties are negative "
            "already)"
        )
    checked: Any = REWARDS[name].build_settings(settings, where)
    return Term(str(given.get("label", name)), float(weight), REWARDS[name].function(), settings, checked)


def _own_function(name: str, where: str) -> Callable[..., Any]:
    module, colon, function = name.removeprefix("pkg://").rpartition(":")
    if not colon or not module or not function:
        raise SettingsError(f"{where}.name: must be pkg://module:function, got {name!r}")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{where}.name: {name} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise SettingsError(f"{where}.name: {name} must be a plain function (def, not async def), got {found!r}")
    return found
