"""The table of methods. README, command line, adapters and tests read it; importing it imports no method and no torch."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from verl_efficiency.settings import MethodSettings, SettingsError, build_settings, unknown


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: the word in a user's configuration, the file's name and the recipe's name.
        hook: ``estimator`` (``algorithm.adv_estimator``), ``trainer`` (the same, and needs
            ``trainer.v1.trainer_mode=efficiency_sync``) or ``reward`` (``reward.custom_reward_function.name``).
        summary: the method in one sentence.
        paper: where it is published.
        module: the module that defines the function ``name``.
        settings: name of its settings class in ``module``; None for a reward whose settings are its keyword arguments.
        state: name of the class in ``module`` that carries something from step to step, or None.
        recipe: a script that runs it.
        router: name of the function in ``module`` that says which rollout a teacher scores, or None.
    """

    name: str
    hook: Literal["estimator", "trainer", "reward"]
    summary: str
    paper: str
    module: str
    settings: str | None
    state: str | None
    recipe: str
    router: str | None = None

    def function(self) -> Callable:
        """The method itself."""
        return getattr(importlib.import_module(self.module), self.name)

    def own_router(self) -> Callable:
        """Its router: ``(rollouts, settings) -> Routes``."""
        assert self.router is not None, f"{self.name} routes nothing"
        return getattr(importlib.import_module(self.module), self.router)

    def settings_class(self) -> type[Any]:
        """Its settings class."""
        assert self.settings is not None, f"{self.name} has no settings class"
        return getattr(importlib.import_module(self.module), self.settings)

    def build_settings(self, mapping: Any, where: str) -> MethodSettings:
        """Its settings from what the user wrote; see :func:`verl_efficiency.settings.build_settings`."""
        cls = self.settings_class()
        return cls.build(mapping, where) if hasattr(cls, "build") else build_settings(cls, mapping, where)

    def new_state(self) -> Any:
        """A fresh state, or None for a method that keeps none."""
        return getattr(importlib.import_module(self.module), self.state)() if self.state else None

    def restored_state(self, saved: Mapping[str, Any]) -> Any:
        """The state that ``dataclasses.asdict`` made ``saved`` of.

        Raises:
            SettingsError: a field that this version does not have.
        """
        state = self.new_state()
        known = [field.name for field in fields(state)] if state is not None else []
        for name in saved:
            if name not in known:
                raise SettingsError(
                    f"the checkpoint's state of {self.name} is another version's: {unknown('field', name, known)}; resume with "
                    "the version that wrote it"
                )
        return replace(state, **saved)


METHODS = (
    Method(
        name="token_budget",
        hook="estimator",
        summary="A correct answer pays for the tokens it spends over a budget that grows with the problem's difficulty.",
        paper="ours; after arXiv 2604.02322, 2503.04472, 2505.15612",
        module="verl_efficiency.methods.shaping.token_budget",
        settings="TokenBudgetSettings",
        state="TokenBudgetState",
        recipe="recipes/verl/token_budget.sh",
    ),
    Method(
        name="variance_routing",
        hook="estimator",
        summary="GRPO where the rewards of a group vary; imitation of its shortest correct rollout where they do not.",
        paper="ours; compare SRPO, arXiv 2604.02288",
        module="verl_efficiency.methods.routing.variance_routing",
        settings="VarianceRoutingSettings",
        state="StoredResponses",
        recipe="recipes/verl/variance_routing.sh",
        router="route_by_variance",
    ),
    Method(
        name="sample_routing",
        hook="trainer",
        summary="A wrong rollout with a correct sibling learns from the self-teacher token by token, everything else by GRPO.",
        paper="SRPO, arXiv 2604.02288",
        module="verl_efficiency.methods.routing.sample_routing",
        settings="SampleRoutingSettings",
        state=None,
        recipe="recipes/verl/sample_routing.sh",
        router="route_by_sample",
    ),
    Method(
        name="self_distillation",
        hook="trainer",
        summary="Every rollout with a correct sibling or feedback learns from the self-teacher; no policy gradient.",
        paper="SDPO, arXiv 2601.20802",
        module="verl_efficiency.methods.routing.self_distillation",
        settings="SelfDistillationSettings",
        state=None,
        recipe="recipes/verl/self_distillation.sh",
        router="route_all",
    ),
    Method(
        name="concise_teacher",
        hook="trainer",
        summary="The model, told to be concise, teaches itself on every rollout; no ground truth, no policy gradient.",
        paper="CRISP, arXiv 2603.05433",
        module="verl_efficiency.methods.routing.concise_teacher",
        settings="ConciseTeacherSettings",
        state=None,
        recipe="recipes/verl/concise_teacher.sh",
        router="route_to_instruction",
    ),
    Method(
        name="t_spmo",
        hook="trainer",
        summary="Credits only the tokens where rollouts diverge: mean reward after the token minus mean reward before it.",
        paper="arXiv 2504.20834",
        module="verl_efficiency.methods.selection.t_spmo",
        settings="TSpmoSettings",
        state=None,
        recipe="recipes/verl/t_spmo.sh",
    ),
    Method(
        name="length_shaped",
        hook="estimator",
        summary="Any of the length-shaped methods below (kimi … truncation), named by the setting `shaper`.",
        paper="see each",
        module="verl_efficiency.methods.shaping.length_shaped",
        settings="LengthShapedSettings",
        state="LengthShapedState",
        recipe="recipes/verl/length_shaped.sh",
    ),
    Method(
        name="custom",
        hook="estimator",
        summary="A method of your own: the function that the setting `shaper` names.",
        paper="",
        module="verl_efficiency.methods.custom",
        settings="CustomSettings",
        state="CustomState",
        recipe="recipes/verl/custom.sh",
    ),
    Method(
        name="kimi",
        hook="estimator",
        summary="A bonus for the shorter half of a group, a malus for the longer; wrong answers only get the malus.",
        paper="Kimi k1.5, arXiv 2501.12599",
        module="verl_efficiency.methods.shaping.kimi",
        settings="KimiSettings",
        state=None,
        recipe="recipes/verl/kimi.sh",
    ),
    Method(
        name="arora",
        hook="estimator",
        summary="A correct answer loses a share of its reward, by how its length compares with its correct siblings.",
        paper="arXiv 2502.04463",
        module="verl_efficiency.methods.shaping.arora",
        settings="AroraSettings",
        state=None,
        recipe="recipes/verl/arora.sh",
    ),
    Method(
        name="laser",
        hook="estimator",
        summary="A correct answer within the target length gets a bonus.",
        paper="LASER, arXiv 2505.15612",
        module="verl_efficiency.methods.shaping.laser",
        settings="LaserSettings",
        state=None,
        recipe="recipes/verl/laser.sh",
    ),
    Method(
        name="laser_d",
        hook="estimator",
        summary="LASER with a target length per band of difficulty, chosen again and again from the rollouts.",
        paper="LASER-D, arXiv 2505.15612",
        module="verl_efficiency.methods.shaping.laser_d",
        settings="LaserDSettings",
        state="LaserDState",
        recipe="recipes/verl/laser_d.sh",
    ),
    Method(
        name="laser_de",
        hook="estimator",
        summary="LASER-D, where a wrong answer beyond its target gets the bonus too, for exploring.",
        paper="LASER-DE, arXiv 2505.15612",
        module="verl_efficiency.methods.shaping.laser_de",
        settings="LaserDeSettings",
        state="LaserDeState",
        recipe="recipes/verl/laser_de.sh",
    ),
    Method(
        name="short_rl",
        hook="estimator",
        summary="Kimi's term for correct answers only, with a tolerance, paused while accuracy is below its best.",
        paper="Short-RL, arXiv 2505.12284",
        module="verl_efficiency.methods.shaping.short_rl",
        settings="ShortRlSettings",
        state="ShortRlState",
        recipe="recipes/verl/short_rl.sh",
    ),
    Method(
        name="alp",
        hook="estimator",
        summary="Every token costs, and costs more the more often the problem is solved.",
        paper="ALP, arXiv 2506.05256",
        module="verl_efficiency.methods.shaping.alp",
        settings="AlpSettings",
        state=None,
        recipe="recipes/verl/alp.sh",
    ),
    Method(
        name="dast",
        hook="estimator",
        summary="The reward compares the length with a budget between the group's mean and the limit.",
        paper="DAST, arXiv 2503.04472",
        module="verl_efficiency.methods.shaping.dast",
        settings="DastSettings",
        state=None,
        recipe="recipes/verl/dast.sh",
    ),
    Method(
        name="shorter_better",
        hook="estimator",
        summary="Every answer is drawn towards the length of the shortest correct one of its group.",
        paper="ShorterBetter, arXiv 2504.21370",
        module="verl_efficiency.methods.shaping.shorter_better",
        settings="ShorterBetterSettings",
        state=None,
        recipe="recipes/verl/shorter_better.sh",
    ),
    Method(
        name="grpo_lead",
        hook="estimator",
        summary="Shorter correct answers score higher, wrong ones minus 1, and hard problems count more.",
        paper="GRPO-LEAD, arXiv 2504.09696",
        module="verl_efficiency.methods.shaping.grpo_lead",
        settings="GrpoLeadSettings",
        state=None,
        recipe="recipes/verl/grpo_lead.sh",
    ),
    Method(
        name="gr3",
        hook="estimator",
        summary="The reward is divided by a factor that grows with the length relative to the group's mean.",
        paper="GR³, arXiv 2603.10535",
        module="verl_efficiency.methods.shaping.gr3",
        settings="Gr3Settings",
        state=None,
        recipe="recipes/verl/gr3.sh",
    ),
    Method(
        name="hapo",
        hook="estimator",
        summary="An answer is compared with the shortest correct one that its problem has ever had.",
        paper="HAPO, arXiv 2505.11225",
        module="verl_efficiency.methods.shaping.hapo",
        settings="HapoSettings",
        state="HapoState",
        recipe="recipes/verl/hapo.sh",
    ),
    Method(
        name="leash",
        hook="estimator",
        summary="Tokens over a target cost, at a price that rises while the mean length is over the target.",
        paper="Leash, arXiv 2512.21540",
        module="verl_efficiency.methods.shaping.leash",
        settings="LeashSettings",
        state="LeashState",
        recipe="recipes/verl/leash.sh",
    ),
    Method(
        name="a_dlp",
        hook="estimator",
        summary="Every token costs, at a price that rises while accuracy is above a reference.",
        paper="A-DLP, arXiv 2505.18298",
        module="verl_efficiency.methods.shaping.a_dlp",
        settings="ADlpSettings",
        state="ADlpState",
        recipe="recipes/verl/a_dlp.sh",
    ),
    Method(
        name="drpo",
        hook="estimator",
        summary="Correct rollouts compare by length with each other only, and with the wrong ones by correctness only.",
        paper="DRPO, arXiv 2510.04474",
        module="verl_efficiency.methods.shaping.drpo",
        settings="DrpoSettings",
        state=None,
        recipe="recipes/verl/drpo.sh",
    ),
    Method(
        name="cosine",
        hook="estimator",
        summary="A reward between two values over the length, falling for correct and rising for wrong answers.",
        paper="arXiv 2502.03373",
        module="verl_efficiency.methods.shaping.cosine",
        settings="CosineSettings",
        state=None,
        recipe="recipes/verl/cosine.sh",
    ),
    Method(
        name="truncation",
        hook="estimator",
        summary="A cut-off answer keeps a fraction of its reward; correct ones get a little advantage on top.",
        paper="DLER, arXiv 2510.15110",
        module="verl_efficiency.methods.shaping.truncation",
        settings="TruncationSettings",
        state=None,
        recipe="recipes/verl/truncation.sh",
    ),
    Method(
        name="overlong",
        hook="estimator",
        summary="An answer in the last part before the token limit loses score, right or wrong, up to a fixed penalty.",
        paper="DAPO, arXiv 2503.14476",
        module="verl_efficiency.methods.shaping.overlong",
        settings="OverlongSettings",
        state=None,
        recipe="recipes/verl/overlong.sh",
    ),
    Method(
        name="toggle",
        hook="estimator",
        summary="Phases in which a correct answer counts only within its problem's fixed budget, and phases without one.",
        paper="Kimi K2.5, arXiv 2602.02276",
        module="verl_efficiency.methods.shaping.toggle",
        settings="ToggleSettings",
        state="ToggleState",
        recipe="recipes/verl/toggle.sh",
    ),
    Method(
        name="pass_rate",
        hook="estimator",
        summary="Tokens, context and turns cost, in proportion to how often the problem is solved.",
        paper="prime-rl's linear length penalty",
        module="verl_efficiency.methods.shaping.pass_rate",
        settings="PassRateSettings",
        state=None,
        recipe="recipes/verl/pass_rate.sh",
    ),
    Method(
        name="grlc",
        hook="estimator",
        summary="A bonus for short thinking and one for a short answer, each relative to the group.",
        paper="Nemotron 3 (NVIDIA), NeMo Gym",
        module="verl_efficiency.methods.shaping.grlc",
        settings="GrlcSettings",
        state=None,
        recipe="recipes/verl/grlc.sh",
    ),
    Method(
        name="gfpo",
        hook="estimator",
        summary="Learns from the shortest rollouts of a group, or those with the most score per token.",
        paper="GFPO, arXiv 2508.09726",
        module="verl_efficiency.methods.selection.gfpo",
        settings="GfpoSettings",
        state="GfpoState",
        recipe="recipes/verl/gfpo.sh",
    ),
    Method(
        name="grpo_roc",
        hook="estimator",
        summary="Learns from the shortest correct rollouts of a group and from any of the wrong ones, in proportion.",
        paper="rStar2-Agent, arXiv 2508.20722",
        module="verl_efficiency.methods.selection.grpo_roc",
        settings="GrpoRocSettings",
        state=None,
        recipe="recipes/verl/grpo_roc.sh",
    ),
    Method(
        name="s_grpo",
        hook="estimator",
        summary="GRPO that learns from a random part of the tokens of each rollout.",
        paper="arXiv 2504.20834",
        module="verl_efficiency.methods.selection.s_grpo",
        settings="SGrpoSettings",
        state=None,
        recipe="recipes/verl/s_grpo.sh",
    ),
    Method(
        name="batched_accuracy",
        hook="reward",
        summary="N problems share one prompt and one token limit; the reward is the mean accuracy over the problems.",
        paper="Batched Contextual Reinforcement, arXiv 2604.02322",
        module="verl_efficiency.rewards.batched_accuracy",
        settings="BatchedAccuracySettings",
        state=None,
        recipe="recipes/verl/batched_accuracy.sh",
    ),
    Method(
        name="accuracy",
        hook="reward",
        summary="One problem, one answer in \\boxed{}: 1 if it equals the ground truth, else 0.",
        paper="",
        module="verl_efficiency.rewards.accuracy",
        settings="AccuracySettings",
        state=None,
        recipe="recipes/verl/token_budget.sh",
    ),
    Method(
        name="composition",
        hook="reward",
        summary="A weighted sum of the rewards below and of your own functions, each contribution reported.",
        paper="",
        module="verl_efficiency.rewards.composition",
        settings="CompositionSettings",
        state=None,
        recipe="recipes/verl/composition.sh",
    ),
    Method(
        name="token_budget",
        hook="reward",
        summary="The estimator's formula for one response at a time; the difficulty is a column of the data set.",
        paper="ours; after arXiv 2604.02322, 2503.04472, 2505.15612",
        module="verl_efficiency.rewards.token_budget",
        settings="TokenBudgetRewardSettings",
        state=None,
        recipe="recipes/verl/token_budget.sh",
    ),
    Method(
        name="cosine",
        hook="reward",
        summary="A correct answer is worth less the longer it is, a wrong one is punished less, along a cosine.",
        paper="Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373",
        module="verl_efficiency.rewards.cosine",
        settings="CosineRewardSettings",
        state=None,
        recipe="recipes/verl/cosine.sh",
    ),
    Method(
        name="repetition",
        hook="reward",
        summary="A term for `composition`: minus the share of n-grams that stood in the response before.",
        paper="Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373",
        module="verl_efficiency.rewards.repetition",
        settings="RepetitionSettings",
        state=None,
        recipe="recipes/verl/repetition.sh",
    ),
    Method(
        name="lcpo_exact",
        hook="reward",
        summary="A correct answer in as many tokens as the prompt asks for.",
        paper="L1, arXiv 2503.04697",
        module="verl_efficiency.rewards.lcpo_exact",
        settings="LcpoExactSettings",
        state=None,
        recipe="recipes/verl/lcpo_exact.sh",
    ),
    Method(
        name="lcpo_max",
        hook="reward",
        summary="A correct answer in no more tokens than the prompt allows; the more it saves, the better.",
        paper="L1, arXiv 2503.04697",
        module="verl_efficiency.rewards.lcpo_max",
        settings="LcpoMaxSettings",
        state=None,
        recipe="recipes/verl/lcpo_max.sh",
    ),
    Method(
        name="length_levels",
        hook="reward",
        summary="The prompt asks for short, medium or long; a correct answer pays for what it overruns its level by.",
        paper="the behaviour of TLDR, arXiv 2505.07961; the term is ours",
        module="verl_efficiency.rewards.length_levels",
        settings="LengthLevelsSettings",
        state=None,
        recipe="recipes/verl/length_levels.sh",
    ),
    Method(
        name="stop_properly",
        hook="reward",
        summary="A response that the token limit cut off keeps a part of its score, or gets a fixed penalty.",
        paper="ProRL v2 (NVIDIA); see DLER, arXiv 2510.15110",
        module="verl_efficiency.rewards.stop_properly",
        settings="StopProperlySettings",
        state=None,
        recipe="recipes/verl/stop_properly.sh",
    ),
)

# By name. A method may be both an estimator and a reward: the name is the same, the table has a row for each.
ESTIMATORS = {method.name: method for method in METHODS if method.hook != "reward"}
REWARDS = {method.name: method for method in METHODS if method.hook == "reward"}
SHAPERS = tuple(  # what ``length_shaped`` can be
    method.name
    for method in ESTIMATORS.values()
    if method.module.startswith("verl_efficiency.methods.shaping.")
    and method.name not in ("token_budget", "length_shaped")
)


def markdown_table() -> str:
    """The table of methods for the README; a test keeps the two equal."""
    rows = ["| name | where | what it does | paper |", "|---|---|---|---|"]
    where = {
        "estimator": "`algorithm.adv_estimator`",
        "trainer": "`algorithm.adv_estimator`, trainer `efficiency_sync`",
        "reward": "`reward.custom_reward_function.name`",
    }
    for method in METHODS:
        rows.append(
            f"| [`{method.name}`]({method.recipe}) | {where[method.hook]} | {method.summary} | {method.paper or '–'} |"
        )
    return "\n".join(rows)
