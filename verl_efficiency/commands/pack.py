"""The command ``verl-efficiency pack``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verl_efficiency.commands.options import AnswerAfter, AnswerInBox
from verl_efficiency.settings import SettingsError, build_settings, require, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_efficiency.data.columns import Row


TOKENS = "100:4000"  # the default range of --tokens


def pack_command(
    source: Annotated[
        Path,
        typer.Argument(help="Single problems, raw or in verl's form: .parquet, .jsonl or .json."),
    ],
    target: Annotated[Path, typer.Argument(help="The file to write: .parquet, or .jsonl with --format openrlhf.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A packing setting, name=value; see PackingSettings. May be repeated."),
    ] = None,
    problems: Annotated[
        str,
        typer.Option(
            help="Problems in one prompt; 1 only converts. Or a result of `evaluate task-scaling --problems auto`, whose plan "
            "says how many."
        ),
    ] = "3",
    grouping: Annotated[
        str | None,
        typer.Option(help="stratified (needs a difficulty), random or easy_hard. Default: stratified."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the packs.")] = 0,
    question: Annotated[str, typer.Option(help="Not in verl's form: column of the problem's text.")] = "question",
    answer: Annotated[str, typer.Option(help="Not in verl's form: column of the answer.")] = "answer",
    answer_after: AnswerAfter = None,
    answer_in_box: AnswerInBox = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Not in verl's form: columns to keep in extra_info, for example difficulty."),
    ] = None,
    split: Annotated[str, typer.Option(help="Not in verl's form: the value of extra_info.split.")] = "train",
    ending: Annotated[
        str | None, typer.Option(help="--problems 1: a sentence added to the end of every prompt.")
    ] = None,
    lcpo: Annotated[
        str | None, typer.Option(help="--problems 1: exact or max; each prompt asks for a number of tokens.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help=f"--lcpo: LOW:HIGH, the tokens asked for. Default: {TOKENS}.")
    ] = None,
    levels: Annotated[bool, typer.Option("--levels", help="--problems 1: short, medium or long reasoning.")] = False,
    form: Annotated[str, typer.Option("--format", help="The framework to write for: verl or openrlhf.")] = "verl",
) -> None:
    """Pack N problems into each prompt (or, with --problems 1, write single problems in verl's form)."""
    from verl_efficiency.data.files import read_sample, require_ending, require_other_file
    from verl_efficiency.data.length_prompts import add_levels, add_targets, ask
    from verl_efficiency.data.openrlhf import write_openrlhf
    from verl_efficiency.data.pack_plan import load_plan, pack_rows_by_plan
    from verl_efficiency.data.parquet import (
        ANSWER,
        QUESTION,
        is_in_verls_form,
        load_problems,
        load_verl_rows,
        pack_parquet,
        write_rows,
    )
    from verl_efficiency.data.settings import PackingSettings

    if form not in ("verl", "openrlhf"):
        raise SettingsError(f"--format: {unknown('format', form, ('verl', 'openrlhf'))}")
    write, endings = (write_openrlhf, (".jsonl",)) if form == "openrlhf" else (write_rows, (".parquet",))
    require_ending(target, "target", endings)
    require_other_file(target, "target", source)
    require(tokens is None or lcpo is not None, "--tokens", tokens, "used together with --lcpo")
    require(seed >= 0, "--seed", seed, "a whole number of at least 0")

    given, settings, plan = packing_settings(setting), None, None
    for name in ("problems", "grouping"):
        require(name not in given, f"--set {name}", given.get(name), f"written as --{name}")
    if problems.isdecimal():
        own = {"problems": int(problems)} | ({} if grouping is None else {"grouping": grouping})
        settings = build_settings(PackingSettings, given | own, "pack")
    elif not problems.endswith(".json"):
        raise SettingsError(
            f"--problems: must be a whole number, or the .json of `evaluate task-scaling --problems auto`, got {problems!r}"
        )
    else:
        plan = load_plan(problems)
        for flag, value in (("--grouping", grouping), ("--set", setting)):
            require(not value, flag, value, "left out, since the plan of --problems says how to pack")
    if is_in_verls_form(read_sample(source, "source", 1).rows):
        for flag, given_here in (
            ("--question", question != QUESTION),
            ("--answer", answer != ANSWER),
            ("--keep", bool(keep)),
        ):
            if given_here:
                raise SettingsError(f"{flag}: would be ignored, since {source} is in verl's form already; leave it out")
        rows = load_verl_rows(source, answer_after, answer_in_box)
    else:
        rows = load_problems(
            source, question, answer, answer_after, split=split, keep=keep or (), answer_in_box=answer_in_box
        )
    _refuse_sentences(rows, source)
    single = settings is not None and settings.problems == 1
    if (ending or lcpo or levels) and not single:
        raise SettingsError("--ending, --lcpo and --levels: their rewards grade single problems; add --problems 1")
    if lcpo and levels:
        raise SettingsError("--levels: not together with --lcpo; each states its own length")
    if ending:
        rows = [ask(row, ending, number) for number, row in enumerate(rows)]
    if lcpo:
        rows = add_targets(rows, lcpo, *_range(TOKENS if tokens is None else tokens), seed)
    if levels:
        rows = add_levels(rows, seed)
    if single:
        write(target, rows)
        print(f"{len(rows)} single problems: {target}")
    elif plan is not None:
        packed = pack_rows_by_plan(rows, plan, seed)
        write(target, packed)
        print(f"{len(rows)} problems -> {len(packed)} prompts, by {plan.by}: {plan}\npacks: {target}")
    elif settings is not None:
        print(f"{pack_parquet(rows, target, settings, seed, write)}\npacks: {target}")


def packing_settings(given: list[str] | None) -> dict[str, str | float]:
    """What ``--set name=value`` says, for :class:`PackingSettings`: a number where the setting is one."""
    from dataclasses import fields

    from verl_efficiency.data.settings import PackingSettings

    numbers = {field.name for field in fields(PackingSettings) if field.type in (int, float)}
    return {name: _number(value) if name in numbers else value for name, value in map(_pair, given or [])}


def _number(text: str) -> str | float:
    """The number that a text is. Another text stays, and ``build_settings`` refuses it by the setting's name."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def _refuse_sentences(rows: "Sequence[Row]", source: Path) -> None:
    """Refuse a file whose answers are mostly sentences, since they are most likely whole solutions."""
    from verl_efficiency.rewards.ground_truth import sentences

    answers = [str(row["reward_model"]["ground_truth"]) for row in rows]
    found = sentences(answers)
    if 2 * len(found) > len(answers):
        raise SettingsError(
            f"answer: {len(found)} of {len(answers)} answers of {source} are sentences, which no reward can grade, for example "
            f"{answers[found[0]][:80]!r}; name the column of the answer with --answer, or where the answer stands in it with "
            "--answer-after or --answer-in-box"
        )


def _range(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    if not colon or not low.isdecimal() or not high.isdecimal():
        raise SettingsError(f"--tokens {text}: must be LOW:HIGH, two whole numbers")
    return int(low), int(high)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: must be name=value")
    return name, value
