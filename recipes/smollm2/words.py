"""Word problems of one to three steps, with solutions written by a program.

    Leo has 5 coins. Leo gives away 3 coins. Then he buys 3 more coins. How many coins does Leo have now?

A solution repeats the question, leads into each step and closes with a sentence, each only sometimes. So the lengths of the
solutions vary as a writer's do, and only the equations are needed.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

LEVELS = (1, 2, 3)  # steps of a problem
NAMES = {"Tom": "he", "Ben": "he", "Sam": "he", "Jack": "he", "Leo": "he"} | {
    "Anna": "she",
    "Lily": "she",
    "Mia": "she",
    "Emma": "she",
    "Zoe": "she",
}
THINGS = ("apples", "books", "coins", "pencils", "marbles", "stickers", "cards", "cookies")


@dataclass(frozen=True)
class Problem:
    """One problem: its number of steps, the question, a written solution without its last sentence, and the answer."""

    steps: int
    question: str
    working: str
    answer: int

    @property
    def solution(self) -> str:
        """The written solution."""
        return f"{self.working} The answer is \\boxed{{{self.answer}}}."


def draw(rng: random.Random, steps: int) -> Problem:
    """A problem of ``steps`` steps. Every intermediate result is above 0."""
    name, thing, count = rng.choice(list(NAMES)), rng.choice(THINGS), rng.randint(3, 9)
    he = NAMES[name]
    question, solution = [f"{name} has {count} {thing}."], []
    if rng.random() < 0.7:
        solution.append(
            rng.choice(
                [
                    f"{name} starts with {count} {thing}.",
                    f"Let us solve this step by step. At first there are {count} {thing}.",
                    f"We know that {name} has {count} {thing}.",
                ]
            )
        )
    for step in range(steps):
        change = rng.randint(2, 6)
        subject = name if step == 0 else f"Then {he}"
        lead = ""
        if rng.random() < 0.5 and count > change:
            question.append(f"{subject} gives away {change} {thing}.")
            if rng.random() < 0.8:
                long = f"{name} gives away {change} {thing}, so we subtract: "
                lead = rng.choice([long, f"After giving away {change} {thing}, {he} has "])
            solution.append(f"{lead}{count} - {change} = {count - change}.")
            count -= change
        else:
            question.append(f"{subject} buys {change} more {thing}.")
            if rng.random() < 0.8:
                long = f"{name} buys {change} more {thing}, so we add: "
                lead = rng.choice([long, f"After buying {change} more {thing}, {he} has "])
            solution.append(f"{lead}{count} + {change} = {count + change}.")
            count += change
    if rng.random() < 0.7:
        solution.append(
            rng.choice([f"So {name} has {count} {thing} now.", f"This means that {name} now has {count} {thing}."])
        )
    question.append(f"How many {thing} does {name} have now?")
    return Problem(steps, " ".join(question), " ".join(solution), count)


def problems(rng: random.Random, number: int, taken: Collection[str] = ()) -> list[Problem]:
    """``number`` different problems, balanced over :data:`LEVELS`, none of whose questions is in ``taken``."""
    drawn: list[Problem] = []
    seen = set(taken)
    while len(drawn) < number:
        problem = draw(rng, LEVELS[len(drawn) % len(LEVELS)])
        if problem.question not in seen:
            seen.add(problem.question)
            drawn.append(problem)
    return drawn


def row(problem: Problem, split: str, index: int) -> dict:
    """The problem in verl's data format; ``difficulty`` is 0 for one step and 1 for three."""
    return {
        "data_source": "word_problems",
        "prompt": [{"role": "user", "content": problem.question}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
        "extra_info": {
            "split": split,
            "index": index,
            "question": problem.question,
            "steps": problem.steps,
            "difficulty": (problem.steps - 1) / (len(LEVELS) - 1),
        },
    }


def packed_solution(pack: Sequence[Problem]) -> str:
    """The solutions of the problems of a pack, in the form that ``batched_accuracy`` reads."""
    return "\n".join(f"{one.working} Answer{index}::\\boxed{{{one.answer}}}" for index, one in enumerate(pack, start=1))
