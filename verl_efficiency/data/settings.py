"""Settings of packing for batched contextual reinforcement: which problems share a prompt, and how it is worded."""

from dataclasses import dataclass
from typing import Literal

from verl_efficiency.rewards.answer_form import PAPER_FORM, read_form
from verl_efficiency.settings import require

INSTRUCTION = (
    "Solve the following {n} problems in order, each on its own. "
    "As soon as a problem is solved, give its final answer in the form {answers}."
)
"""The text before the problems. The paper (arXiv 2604.02322) does not publish its wording: this one is our choice."""


@dataclass(frozen=True)
class PackingSettings:
    r"""How problems are packed into prompts.

    Args:
        problems: N, the number of problems in one prompt, at least 1.
        grouping: which problems share a prompt. ``stratified``: every pack has about the same mean difficulty, as in the
            paper; ``random``; ``easy_hard``: half of a pack (rounded up) from the easier half of the problems, the rest from
            the harder half.
        difficulty: column path of the difficulty (any real number; larger is harder). ``random`` does not need it.
        singles: the share of the problems, in [0, 1), that come alone: in their own prompt, graded by their own answer. The
            seed and the epoch decide which. What a small model learns in packs may not carry over to single problems.
            0, as in the paper: all are packed.
        distinct_by: column path whose values must differ within a pack, or ``None``.
        question: column path of the problem's text; ``None``: the last user message of ``prompt``.
        remainder: what happens to the last ``len % N`` problems. ``drop``: they are left out (which ones depends on the seed);
            ``smaller``: they form a smaller pack; ``wrap``: problems of other packs fill up their pack.
        instruction: text before the problems, with ``{n}`` and ``{answers}``; empty for none. The wording is our choice, see
            :data:`INSTRUCTION`.
        problem_template: one problem, with ``{index}`` (from 1) and ``{problem}``.
        answer_template: the form of one answer, with ``{index}`` and ``…``. Write literal braces twice, see
            :mod:`verl_efficiency.rewards.answer_form`. A template other than the default is written to
            ``extra_info.answer_template`` of each row, where ``batched_accuracy`` finds it.
        separator: text between the instruction and the problems.
        split: ``PackedDataset`` packs files whose rows have this ``extra_info.split``, and leaves other files as they are.
            The command ``pack`` ignores it.
    """

    problems: int = 3
    grouping: Literal["stratified", "random", "easy_hard"] = "stratified"
    difficulty: str = "extra_info.difficulty"
    singles: float = 0.0
    distinct_by: str | None = None
    question: str | None = None
    remainder: Literal["drop", "smaller", "wrap"] = "drop"
    instruction: str = INSTRUCTION
    problem_template: str = "### Problem {index}\n{problem}"
    answer_template: str = PAPER_FORM
    separator: str = "\n\n"
    split: str = "train"

    def __post_init__(self) -> None:
        require(self.problems >= 1, "problems", self.problems, "a whole number of at least 1")
        require(0 <= self.singles < 1, "singles", self.singles, "in [0, 1): a share of the problems")
        require(
            not self.singles or self.problems > 1, "singles", self.singles, "0 with problems=1, where all come alone"
        )
        filled = _fill("problem_template", self.problem_template, index=7, problem="<text>")
        require(
            "7" in filled and "<text>" in filled,
            "problem_template",
            self.problem_template,
            "a text with {index} and {problem}",
        )
        read_form(self.answer_template)
        _fill("instruction", self.instruction, n=self.problems, answers="")


def _fill(name: str, template: str, **values: object) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        expected = f"a text whose only placeholders are {', '.join('{' + key + '}' for key in values)} ({error!r})"
        require(False, name, template, expected)
        raise
