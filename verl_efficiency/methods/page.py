"""Builds the page of a method from the catalog and the docstrings, for ``verl-efficiency methods NAME`` and the docs."""

import dataclasses
import importlib
import inspect
import re

from verl_efficiency.methods.launch import command
from verl_efficiency.methods.own import OwnMethod
from verl_efficiency.methods.row import Method

USE = {
    "estimator": "`algorithm.adv_estimator={name}`; settings: `+algorithm.efficiency.<setting>=…`",
    "trainer": "`algorithm.adv_estimator={name}` with one of our trainers, such as `trainer.v1.trainer_mode=efficiency_sync`; "
    "settings: `+algorithm.efficiency.<setting>=…`",
    "reward": "`reward.custom_reward_function.name={name}`; "
    "settings: `+reward.custom_reward_function.reward_kwargs.<setting>=…`",
}


def page(method: Method) -> str:
    """The page as Markdown: use, formula and choices, settings with defaults and meaning, paper, recipe."""
    recipe = f"Paper: {method.paper or 'none'}. Recipe: `{command(method)}`"
    parts = [
        f"## {method.name} ({method.hook})",
        method.summary,
        USE[method.hook].format(name=method.name),
        markdown(importlib.import_module(method.module).__doc__ or ""),
        markdown(method.function().__doc__ or ""),
        settings_table(method),
        f"Offered by: {method.owner}" if isinstance(method, OwnMethod) else recipe,
    ]
    return "\n\n".join(part for part in parts if part)


def settings_table(method: Method) -> str:
    """The settings of ``method`` as a table: its own first, then inherited ones."""
    cls = method.settings_class()
    described, own = meanings(cls), vars(cls).get("__annotations__", {})
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.name not in own):
        default = "null" if field.default is None else str(field.default).replace("\n", r"\n")
        meaning = described.get(field.name, "").replace("|", r"\|")
        rows.append(f"| `{field.name}` | `{default}` | {meaning} |")
    return "\n".join(rows)


def meanings(cls: type) -> dict[str, str]:
    """The meaning of each setting, from the section ``Attributes`` or ``Args`` in the docstrings of ``cls`` and its bases.

    >>> from verl_efficiency.methods.shaping.kimi import KimiSettings
    >>> meanings(KimiSettings)["length_weight"]
    'weight of the length term in `decoupled`.'
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.split(
            r"^(?:Attributes|Args):\n", inspect.cleandoc(vars(base).get("__doc__") or ""), flags=re.MULTILINE
        )[-1]
        for names, text in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8,}.*)*)", section, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), inline(" ".join(text.split())))
    return found


def markdown(docstring: str) -> str:
    """A docstring as Markdown, up to ``Args``, ``Returns`` or ``Raises``; literal blocks and examples become code blocks."""
    text = re.split(r"^(?:Args|Returns|Raises):\n", inspect.cleandoc(docstring), maxsplit=1, flags=re.MULTILINE)[0]
    out = []
    for block in re.split(r"\n\n(?! )", text.strip()):  # an indented paragraph belongs to what is before it
        if block.startswith(">>> "):
            out.append(f"```python\n{block}\n```")
            continue
        prose, *literal = block.split("\n\n", maxsplit=1)
        out.append(inline(prose.removesuffix(":") if prose.endswith("::") else prose))
        out += [f"```text\n{inspect.cleandoc(chr(10) + code)}\n```" for code in literal]
    return "\n\n".join(out)


def inline(text: str) -> str:
    """Replace roles and double backticks by Markdown code."""
    return re.sub(r"(?::\w+:)?`{1,2}~?([^`]+?)`{1,2}", r"`\1`", text)
