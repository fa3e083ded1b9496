r"""A reward made of others: the weighted sum of their scores.

::

    score = Σ_k weight_k · score_k

in YAML, or on verl's command line, each term with its own settings beside its name and weight::

    reward.custom_reward_function.name: composition
    reward.custom_reward_function.reward_kwargs.terms:
      - {name: accuracy, weight: 1.0}
      - {name: repetition, weight: 0.1, n: 4}
      - {name: "pkg://my_package.my_module:my_function", weight: 0.5, my_setting: 3}

Of every reward a higher score is better, penalties being negative already, so a weight of ours is above 0; your own function
may have any. It is called as verl calls a reward, and returns a number, or a dict with ``score``. ``acc`` and the other extras
come from the first term that has them.

**Terms of different scale.** In a plain sum the term that varies most decides the advantage. GDPO (arXiv 2601.05242)
normalises each term within its group, weighs and adds the results, and whitens the sum over the batch. verl has it as the
estimator ``gdpo``, which reads the terms from the extras of this reward::

    algorithm.adv_estimator=gdpo trainer.use_v1=False
    +algorithm.gdpo_reward_keys=[term_accuracy,term_repetition] +algorithm.gdpo_reward_weights=[1.0,0.1]

Normalising undoes the weights of the terms, all but their signs, so ``gdpo_reward_weights`` are the ones that count. verl
0.9.1 hands the extras to the estimator in its older trainer only, hence ``use_v1=False``.

>>> composition("sums", r"2+2 is \boxed{4}", "4")["score"]
1.0
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.rewards.inputs import RewardSettings, read_settings, row_name
from verl_efficiency.settings import SettingsError, build_settings, unknown

DEFAULT_TERMS = ({"name": "accuracy", "weight": 1.0}, {"name": "repetition", "weight": 0.1})


@dataclass(frozen=True)
class Term:
    """One term, as :class:`CompositionSettings` reads it.

    Attributes:
        label: the extra ``term_<label>`` holds its contribution.
        weight: of its score in the sum.
        function: called as verl calls a reward.
        settings: its own keyword arguments.
        checked: its settings as a class, or None for a function of yours.
    """

    label: str
    weight: float
    function: Callable[..., Any]
    settings: dict[str, Any]
    checked: RewardSettings | None


@dataclass(frozen=True)
class CompositionSettings(RewardSettings):
    """Settings of ``composition``.

    Args:
        terms: a list of mappings: ``name`` of one of our rewards, or ``pkg://module:function``; ``weight``; ``label``, under
            which its contribution is reported (needed only where two terms have the same name); the term's own settings.
    """

    terms: Sequence = DEFAULT_TERMS

    def __post_init__(self) -> None:
        self.read()

    def read(self) -> list[Term]:
        """The terms, checked and ready to be called."""
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
        return any(term.checked.needs_cost for term in self.read() if term.checked)

    @property
    def extras(self) -> dict[str, float | str]:  # type: ignore[override]
        """Those of the terms. Your own function declares them by an attribute: ``my_function.extras = {"length": 0.0}``."""
        found: dict[str, float | str] = {}
        for term in self.read():
            of_term = term.checked.extras if term.checked else getattr(term.function, "extras", {})
            found = {f"term_{term.label}": 0.0, **of_term, **found}
        return {"score": 0.0, **found}

    @property
    def columns(self) -> dict[str, str]:
        return {role: path for term in self.read() if term.checked for role, path in term.checked.columns.items()}


def composition(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score one response, as verl calls it.

    Args:
        data_source: handed to each term, and named in errors.
        solution_str: handed to each term.
        ground_truth: handed to each term.
        extra_info: each term is handed its own copy.
        settings: see :class:`CompositionSettings`.

    Returns:
        ``score``; ``term_<label>`` for each term, weight · score; then what the terms return, the first one that has a key
        first, without their scores.

    Raises:
        SettingsError: an unknown or wrong setting of the composition or of a term.
        ValueError: a term returned no finite score, or ``ground_truth`` and ``extra_info`` lack what a term needs.
    """
    chosen = read_settings(CompositionSettings, settings)
    contributions: dict[str, float] = {}
    extras: dict[str, Any] = {}
    for term in chosen.read():
        returned = term.function(data_source, solution_str, ground_truth, dict(extra_info or {}), **term.settings)
        result = dict(returned) if isinstance(returned, Mapping) else {"score": returned}
        score = result.pop("score", None)
        if isinstance(score, bool) or not hasattr(score, "__float__") or not math.isfinite(float(score)):
            row = row_name(data_source, extra_info)
            raise ValueError(f"the term {term.label!r} must return a finite number or a dict with one as 'score' ({row}), "
                             f"got {returned!r}")  # fmt: skip
        contributions[f"term_{term.label}"] = term.weight * float(score)
        extras |= {key: value for key, value in result.items() if key not in extras}
    return {"score": sum(contributions.values())} | contributions | extras


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
    method = REWARDS[name]
    checked = build_settings(method.settings_class(), settings, where)
    return Term(str(given.get("label", name)), float(weight), method.function(), settings, checked)


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
