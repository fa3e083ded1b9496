"""The table of methods, one row each: name, paper, what it does. Adapters, command line, README, docs and tests read it.

Importing it imports no method and no torch.
"""

import functools
from pathlib import Path

from verl_efficiency.methods.row import Estimator, Method, Reward

__all__ = ["ESTIMATORS", "METHODS", "REMOVED", "REWARDS", "SHAPERS", "Estimator", "Method", "Reward", "markdown_table"]

_shaping, _selection, _routing = (
    functools.partial(Estimator, family=name) for name in ("shaping", "selection", "routing")
)

# fmt: off
METHODS: tuple[Method, ...] = (
    _shaping("token_budget", "ours; after arXiv 2604.02322, 2503.04472, 2505.15612",
             "A correct answer pays for the tokens it spends over a budget that grows with the problem's difficulty."),
    _shaping("kimi", "Kimi k1.5, arXiv 2501.12599",
             "A bonus for the shorter half of a group, a malus for the longer; wrong answers only get the malus."),
    _shaping("arora", "arXiv 2502.04463",
             "A correct answer loses a share of its reward that grows with its length among its correct siblings."),
    _shaping("laser", "LASER, arXiv 2505.15612",
             "A correct answer within the target length gets a bonus."),
    _shaping("laser_d", "LASER-D, arXiv 2505.15612",
             "LASER with a target length per band of difficulty, chosen again every few steps from the rollouts."),
    _shaping("laser_de", "LASER-DE, arXiv 2505.15612",
             "LASER-D that also gives the bonus to a wrong answer longer than its target, to encourage exploration."),
    _shaping("short_rl", "Short-RL, arXiv 2505.12284",
             "Kimi's term for correct answers only, with a tolerance, paused while accuracy is below its best."),
    _shaping("alp", "ALP, arXiv 2506.05256",
             "Every token costs, and costs more the more often the problem is solved."),
    _shaping("dast", "DAST, arXiv 2503.04472",
             "The reward compares the length with a budget between the group's mean and the limit."),
    _shaping("shorter_better", "ShorterBetter, arXiv 2504.21370",
             "Pulls every answer towards the length of the shortest correct answer of its group."),
    _shaping("grpo_lead", "GRPO-LEAD, arXiv 2504.09696",
             "Shorter correct answers score higher, wrong ones −1, and hard problems count more."),
    _shaping("gr3", "GR³, arXiv 2603.10535",
             "The reward is divided by a factor that grows with the length relative to the group's mean."),
    _shaping("hapo", "HAPO, arXiv 2505.11225",
             "Compares an answer with the shortest correct one that its problem has had in the whole run."),
    _shaping("leash", "Leash, arXiv 2512.21540",
             "Tokens over a target cost; the price rises while the mean length is over the target."),
    _shaping("a_dlp", "A-DLP, arXiv 2505.18298",
             "Every token costs; the price rises while accuracy is above a reference."),
    _shaping("drpo", "DRPO, arXiv 2510.04474",
             "Correct rollouts compete by length only with each other, and with wrong ones by correctness only."),
    _shaping("cosine", "arXiv 2502.03373",
             "The reward follows a cosine over the length: it falls for correct answers and rises for wrong ones."),
    _shaping("truncation", "DLER, arXiv 2510.15110",
             "A truncated answer keeps a fraction of its reward; correct answers get a small extra advantage."),
    _shaping("overlong", "DAPO, arXiv 2503.14476",
             "An answer that ends close to the token limit loses score, right or wrong, up to a fixed penalty."),
    _shaping("toggle", "Kimi K2.5, arXiv 2602.02276",
             "Alternates phases: a correct answer counts only within its problem's budget, then at any length."),
    _shaping("pass_rate", "prime-rl's linear length penalty",
             "Tokens, context and turns cost, in proportion to how often the problem is solved."),
    _shaping(name="grlc", paper="Nemotron 3 (NVIDIA), NeMo Gym", trainer=True,
             summary="A bonus for short thinking and one for a short answer, each relative to the group."),
    _selection(name="t_spmo", paper="arXiv 2504.20834", trainer=True,
               summary="Credits only the tokens where rollouts diverge: mean reward after it minus mean reward before it."),
    _selection("gfpo", "GFPO, arXiv 2508.09726",
               "Learns from the shortest rollouts of a group, or those with the most score per token."),
    _selection("grpo_roc", "rStar2-Agent, arXiv 2508.20722",
               "Learns from the shortest correct rollouts of a group and from a proportional share of the wrong ones."),
    _selection("s_grpo", "arXiv 2504.20834",
               "GRPO that learns from a random part of the tokens of each rollout."),
    _routing(name="variance_routing", paper="ours; compare SRPO, arXiv 2604.02288", router="route_by_variance",
             summary="GRPO where the rewards of a group vary; elsewhere the group imitates its shortest correct rollout."),
    _routing(name="sample_routing", paper="SRPO, arXiv 2604.02288", trainer=True, router="route_by_sample",
             summary="A wrong rollout with a correct sibling learns from the self-teacher token by token; all others by GRPO."),
    _routing(name="self_distillation", paper="SDPO, arXiv 2601.20802", trainer=True, router="route_all",
             summary="Every rollout with a correct sibling or feedback learns from the self-teacher; no policy gradient."),
    _routing(name="concise_teacher", paper="CRISP, arXiv 2603.05433", trainer=True, router="route_to_instruction",
             summary="The model, told to be concise, teaches itself on every rollout; no ground truth, no policy gradient."),
    Estimator("custom", "",
              "Your own method: the function that the setting `shaper` names."),
    Reward("batched_accuracy", "Batched Contextual Reinforcement, arXiv 2604.02322",
           "N problems share one prompt and one token limit; the reward is the mean accuracy over the problems."),
    Reward("accuracy", "",
           "One problem, one answer in \\boxed{}: 1 if it equals the ground truth, else 0."),
    Reward("composition", "",
           "A weighted sum of other rewards and your own functions; each term is reported."),
    Reward("token_budget", "ours; after arXiv 2604.02322, 2503.04472, 2505.15612",
           "The estimator's formula without its floor, for one response at a time; the difficulty is a column of the data."),
    Reward("cosine", "Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373",
           "The longer a correct answer, the less it scores; the longer a wrong one, the less it is punished."),
    Reward("repetition", "Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373",
           "A term for `composition`: minus the share of n-grams that the response repeats."),
    Reward("lcpo_exact", "L1, arXiv 2503.04697",
           "A correct answer scores higher the closer its tokens are to the number that the prompt asks for."),
    Reward("lcpo_max", "L1, arXiv 2503.04697",
           "A correct answer within the tokens that the prompt allows scores higher the more it saves."),
    Reward("length_levels", "the behaviour of TLDR, arXiv 2505.07961; the term is ours",
           "The prompt asks for short, medium or long; a correct answer pays for the tokens over its level."),
    Reward("stop_properly", "ProRL v2 (NVIDIA); see DLER, arXiv 2510.15110",
           "A truncated response keeps a part of its score, or gets a fixed penalty."),
)
# fmt: on

# By name. A name may stand for an estimator and for a reward.
ESTIMATORS = {method.name: method for method in METHODS if isinstance(method, Estimator)}
REWARDS = {method.name: method for method in METHODS if isinstance(method, Reward)}
SHAPERS = tuple(name for name, row in ESTIMATORS.items() if row.family == "shaping" and name != "token_budget")
REMOVED = {  # the answer to an old name
    "length_shaped": "length_shaped was removed; write the name of the method itself, which was in its setting shaper, for "
    "example kimi",
}


def markdown_table() -> str:
    """The table of methods for the README; a test keeps the two equal."""
    where = {
        "estimator": "`algorithm.adv_estimator`",
        "trainer": "`algorithm.adv_estimator`, a trainer `efficiency_…`",
        "reward": "`reward.custom_reward_function.name`",
    }
    rows = ["| name | where | what it does | paper |", "|---|---|---|---|"]
    for method in METHODS:
        file = method.module.replace(".", "/") + ".py"
        rows.append(f"| [`{method.name}`]({file}) | {where[method.hook]} | {method.summary} | {method.paper or '–'} |")
    return "\n".join(rows)


if __name__ == "__main__":  # python -m verl_efficiency.methods.catalog: write the table into README.md
    readme, begin, end = Path("README.md"), "<!-- methods -->\n", "\n<!-- /methods -->"
    before, after = readme.read_text().split(begin)[0], readme.read_text().split(end)[1]
    readme.write_text(before + begin + markdown_table() + end + after)
