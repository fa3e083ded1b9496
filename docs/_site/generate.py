"""The pages made of code: one per method, the tables of methods, the settings, the papers. None of them is committed."""

import dataclasses
import functools
import re
import typing

import measured

from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.grading.pool import PoolSettings
from verl_efficiency.methods.catalog import METHODS, Method
from verl_efficiency.methods.page import meanings, page

ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
OTHERS = {  # settings that belong to no single method: class, and where a user writes them
    PackingSettings: "Packed data: `+data.efficiency.<setting>=…` in verl, `pack --set <setting>=…` from file to file",
    PoolSettings: "Processes that grade: `verl_efficiency.grading.configure(PoolSettings(…))`",
}


@functools.cache  # MkDocs asks for them several times
def pages() -> dict[str, str]:
    """Markdown by the page's path below docs/."""
    made = {path_of(method): _page(method) for method in METHODS}
    return made | {
        "methods/index.md": _table("estimator"),
        "rewards/index.md": _table("reward"),
        "reference/settings.md": settings(),
        "reference/papers.md": papers(),
    }


def path_of(method: Method) -> str:
    return f"{'rewards' if method.hook == 'reward' else 'methods'}/{method.name}.md"


def _page(method: Method) -> str:
    """The output of ``verl-efficiency methods NAME`` as a page, and what we measured."""
    text = _linked_papers(re.sub(r"^## .*", f"# {method.name}", page(method), count=1))
    return f"{text.rstrip()}\n\n{measured.of_method(method)}"


def _linked_papers(text: str) -> str:
    return ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", text)


def _table(kind: str) -> str:
    rewards = kind == "reward"
    rows = [method for method in METHODS if (method.hook == "reward") == rewards]
    where = "reward.custom_reward_function.name" if rewards else "algorithm.adv_estimator"
    text = [f"# {'Rewards' if rewards else 'Methods'}", f"Each name is a value of `{where}`.", ""]
    text += ["| name | what it does | paper |", "|---|---|---|"]
    for method in rows:
        note = " Needs one of our trainers, for example `efficiency_sync`." if method.hook == "trainer" else ""
        paper = _linked_papers(method.paper) or "–"
        text.append(f"| [`{method.name}`]({method.name}.md) | {method.summary}{note} | {paper} |")
    return "\n".join(text) + "\n"


def settings() -> str:
    """Every setting of every method once, in the group of the class that introduces it."""
    groups: dict[type, list[Method]] = {}
    for method in METHODS:
        for cls in method.settings_class().__mro__:
            if vars(cls).get("__annotations__") and dataclasses.is_dataclass(cls):
                groups.setdefault(cls, []).append(method)
    shared = {cls: users for cls, users in groups.items() if len(users) > 1}
    text = [
        "# Settings",
        "One frozen dataclass per method. A wrong name, type or value is refused before a model loads.",
        "",
        "- verl, methods: `+algorithm.efficiency.<setting>=…`",
        "- verl, rewards: `+reward.custom_reward_function.reward_kwargs.<setting>=…`",
        "- OpenRLHF: `--efficiency.<setting> …`; rewards: arguments of `agent_executor` in your own file",
        "",
        "Settings that several methods share come first. A method that replaces a default says so on its own page.",
    ]
    for cls, users in sorted(shared.items(), key=lambda item: -len(item[1])):
        text += ["", f"## {cls.__name__}", "", f"Used by {_links(users)}.", "", _rows(cls)]
    for cls, where in OTHERS.items():
        text += ["", f"## {cls.__name__}", "", f"{where}.", "", _rows(cls)]
    for kind, title in (("methods", "Of one method"), ("rewards", "Of one reward")):
        text += ["", f"## {title}", "", "| setting | default | values | of |", "|---|---|---|---|"]
        for cls, users in groups.items():
            if len(users) == 1 and path_of(users[0]).startswith(kind):
                hints = typing.get_type_hints(cls)
                for field in _own(cls):
                    text.append(
                        f"| `{field.name}` | {_default(field)} | {_values(hints[field.name])} | {_links(users)} |"
                    )
    return "\n".join(text) + "\n"


def _own(cls: type) -> list[dataclasses.Field]:
    names = vars(cls).get("__annotations__", {})
    return [field for field in dataclasses.fields(cls) if field.name in names]


def _rows(cls: type) -> str:
    described, hints = meanings(cls), typing.get_type_hints(cls)
    rows = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for field in _own(cls):
        meaning = described.get(field.name, "").replace("|", r"\|")
        rows.append(f"| `{field.name}` | {_default(field)} | {_values(hints[field.name])} | {meaning} |")
    return "\n".join(rows)


def _links(methods: list[Method]) -> str:
    return ", ".join(f"[`{method.name}`](../{path_of(method)})" for method in methods)


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "must be given" if field.default_factory is dataclasses.MISSING else "empty"
    shown = "null" if field.default is None else str(field.default).replace("\n", r"\n").replace("|", r"\|")
    return f"`{shown}`" if shown.strip() else "empty"


def _values(hint: typing.Any) -> str:
    """
    >>> _values(float), _values(typing.Literal["a", "b"]), _values(int | None)
    ('number', '`a`, `b`', 'whole number or null')
    """
    names = {float: "number", int: "whole number", str: "text", bool: "true, false", type(None): "null"}
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is not None and type(None) in typing.get_args(hint):
        return " or ".join(_values(part) for part in typing.get_args(hint))
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def papers() -> str:
    """The arXiv numbers in the catalog, and which methods come from each."""
    found: dict[str, list[Method]] = {}
    elsewhere = []
    for method in METHODS:
        numbers = ARXIV.findall(method.paper)
        for number in numbers:
            found.setdefault(number, []).append(method)
        if method.paper and not numbers:
            elsewhere.append(f"- {method.paper}: {_links([method])}")
    rows = [
        f"| [{number}](https://arxiv.org/abs/{number}) | {_named(methods[0].paper, number)} | {_links(methods)} |"
        for number, methods in sorted(found.items())
    ]
    return "\n".join(
        [
            "# Papers",
            "The source of every method, by arXiv number. A method's page says what the paper leaves open and what we chose.",
            "",
            "| arXiv | name | methods and rewards |",
            "|---|---|---|",
            *rows,
            "",
            "Not on arXiv:",
            "",
            *elsewhere,
            "",
        ]
    )


def _named(paper: str, number: str) -> str:
    """
    >>> _named("SRPO, arXiv 2604.02288", "2604.02288"), _named("ours; after arXiv 2604.02322", "2604.02322")
    ('SRPO', '')
    """
    name = paper.split(f"arXiv {number}")[0].strip(" ,")
    return (
        ""
        if "arXiv" in name or "after" in name
        else name.split(";")[-1].removeprefix(" compare ").removeprefix("the behaviour of ").strip(" ,")
    )
