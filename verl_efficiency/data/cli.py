"""The command ``verl-efficiency pack``, as typer wants it."""

from pathlib import Path
from typing import Annotated

import typer

from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError, build_settings, unknown


def pack_command(
    source: Annotated[Path, typer.Argument(help="Single problems: .parquet in verl's form, or .jsonl.")],
    target: Annotated[Path, typer.Argument(help="The file to write: .parquet, or .jsonl with --format openrlhf.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A packing setting, name=value; see PackingSettings. May be repeated."),
    ] = None,
    problems: Annotated[int, typer.Option(help="Problems in one prompt; 1 only converts.")] = 3,
    grouping: Annotated[str, typer.Option(help="stratified (needs a difficulty), random or easy_hard.")] = "stratified",
    seed: Annotated[int, typer.Option(help="The packs are a function of it.")] = 0,
    question: Annotated[str, typer.Option(help=".jsonl: column of the problem's text.")] = "question",
    answer: Annotated[str, typer.Option(help=".jsonl: column of the answer.")] = "answer",
    answer_after: Annotated[
        str | None, typer.Option(help=".jsonl: the answer is what follows this mark (GSM8K: ####).")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help=".jsonl: columns to keep in extra_info, for example difficulty.")
    ] = None,
    split: Annotated[str, typer.Option(help=".jsonl: written to extra_info.split.")] = "train",
    ending: Annotated[str | None, typer.Option(help="--problems 1: a sentence to end every prompt with.")] = None,
    lcpo: Annotated[
        str | None, typer.Option(help="--problems 1: exact or max; each prompt asks for a number of tokens.")
    ] = None,
    tokens: Annotated[str, typer.Option(help="--lcpo: LOW:HIGH, the tokens asked for.")] = "100:4000",
    levels: Annotated[bool, typer.Option("--levels", help="--problems 1: short, medium or long reasoning.")] = False,
    form: Annotated[str, typer.Option("--format", help="For whom to write: verl or openrlhf.")] = "verl",
) -> None:
    """Pack N problems into each prompt (or, with --problems 1, turn .jsonl into single problems in verl's form)."""
    # Here, so that the other commands start without numpy and pyarrow.
    from verl_efficiency.data.length_prompts import add_levels, add_targets, ask
    from verl_efficiency.data.openrlhf import write_openrlhf
    from verl_efficiency.data.parquet import load_problems, pack_parquet, read_rows, write_rows

    if form not in ("verl", "openrlhf"):
        raise SettingsError(f"--format: {unknown('format', form, ('verl', 'openrlhf'))}")
    write = write_openrlhf if form == "openrlhf" else write_rows

    settings = build_settings(
        PackingSettings, packing_settings(setting) | {"problems": problems, "grouping": grouping}, "pack"
    )
    if source.suffix == ".jsonl":
        rows = load_problems(source, question, answer, answer_after, split=split, keep=keep or ())
    else:
        rows = read_rows(source)
    if (ending or lcpo or levels) and problems != 1:
        raise SettingsError("--ending, --lcpo and --levels: their rewards grade single problems; add --problems 1")
    if lcpo and levels:
        raise SettingsError("--levels: not together with --lcpo; each states its own length")
    if ending:
        rows = [ask(row, ending, number) for number, row in enumerate(rows)]
    if lcpo:
        rows = add_targets(rows, lcpo, *_range(tokens), seed)
    if levels:
        rows = add_levels(rows, seed)
    if problems == 1:
        write(target, rows)
        print(f"{len(rows)} single problems: {target}")
    else:
        print(f"{pack_parquet(rows, target, settings, seed, write)}\n{target}")


def packing_settings(given: list[str] | None) -> dict[str, str]:
    """What ``--set name=value`` says, for :class:`PackingSettings`."""
    return dict(_pair(text) for text in given or [])


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
