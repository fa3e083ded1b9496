"""Train reasoning models to spend fewer tokens, and measure what they spend."""

# `--help` imports every command, so commands import numpy, torch and the rest of the package only when they run.

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from verl_efficiency.commands.calibrate import calibrate_command
from verl_efficiency.commands.evaluate import evaluate_command, live_command, report_command, task_scaling_command
from verl_efficiency.commands.grade import grade_command
from verl_efficiency.commands.pack import pack_command
from verl_efficiency.commands.runs import diagnose_command, watch_command
from verl_efficiency.commands.stored import offline_command, strategies_command
from verl_efficiency.settings import SettingsError, misspelt, unknown
from verl_efficiency.verl.train import train_command


class ModelFirst(TyperGroup):
    """``evaluate MODEL DATA`` is ``evaluate model MODEL DATA``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] == "--help"
        meant = None if named or Path(args[0]).exists() else misspelt(args[0], self.commands.keys() - {"model"})
        if meant is not None:
            raise SettingsError(
                f"evaluate: unknown command {args[0]!r}; did you mean '{meant}'? "
                f"A model of this name needs `verl-efficiency evaluate model {args[0]}`"
            )
        if not named and args[0].endswith((".jsonl", ".json", ".parquet")):
            raise SettingsError(
                f"evaluate: {args[0]} is a file, and MODEL comes first: `verl-efficiency evaluate MODEL {args[0]}`. "
                f"Stored responses: `verl-efficiency evaluate offline {args[0]}`"
            )
        return super().parse_args(ctx, args if named else ["model", *args])


evaluate_app = typer.Typer(
    cls=ModelFirst,
    no_args_is_help=True,
    help="Measure accuracy and tokens of a model, or of stored text. `evaluate MODEL DATA` is `evaluate model MODEL DATA`.",
)
evaluate_app.command("model")(evaluate_command)
evaluate_app.command("task-scaling")(task_scaling_command)
evaluate_app.command("offline")(offline_command)
evaluate_app.command("strategies")(strategies_command)
evaluate_app.command("live")(live_command)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, help=__doc__)
app.command("pack")(pack_command)
app.add_typer(evaluate_app, name="evaluate")
app.command("calibrate")(calibrate_command)
app.command("watch")(watch_command)
app.command("diagnose")(diagnose_command)
app.command("report")(report_command)
app.command("grade")(grade_command)
app.command("train", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(train_command)
console = Console()


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method with its formula and settings.")] = None,
) -> None:
    """List the methods, or show one: formula, settings with defaults, paper, recipe."""
    from rich.markdown import Markdown
    from rich.table import Table

    from verl_efficiency.methods.catalog import METHODS
    from verl_efficiency.methods.own import OwnMethod, offers
    from verl_efficiency.methods.page import page

    if name is None:
        table = Table("method", "hook", "what it does", "paper")
        for method in METHODS:
            table.add_row(method.name, method.hook, method.summary, method.paper)
        for own in offers().methods.values():
            try:
                summary = own.described().summary
            except SettingsError as error:
                summary = f"warning: {error}"
            table.add_row(own.name, own.hook, summary, own.owner)
        console.print(table)
        for problem in offers().problems:
            Console(stderr=True).print(f"warning: {problem}", markup=False, style="yellow", soft_wrap=True)
        return
    known = [*METHODS, *offers().methods.values()]
    found = [method.described() if isinstance(method, OwnMethod) else method for method in known if method.name == name]
    if not found:
        raise SettingsError(offers().refused.get(name) or unknown("method", name, {method.name for method in known}))
    for method in found:
        console.print(Markdown(page(method)))


@app.command(context_settings={"ignore_unknown_options": True})
def doctor(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="YAML files and overrides (key=value) of your run.")
    ] = None,
    ray: Annotated[bool, typer.Option(help="Also look inside a Ray worker (starts a local Ray).")] = True,
) -> None:
    """Check verl, the plugin and a configuration; exits with 1 if a run would fail or silently do something else."""
    from verl_efficiency.verl.doctor import examine

    for argument in arguments or []:
        if argument.startswith("-"):
            fix = (
                f"an override has no leading --; write {argument.lstrip('-')}"
                if "=" in argument
                else "doctor has no such option; give YAML files and overrides (key=value)"
            )
            raise SettingsError(f"{argument}: {fix}")
    failed = False
    marks = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
    for finding in examine(arguments or [], ray_worker=ray):
        failed |= finding.level == "fail"
        console.print(marks[finding.level], end=" ")
        console.print(finding.text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command("train-openrlhf", add_help_option=False, context_settings={"ignore_unknown_options": True})
def train_openrlhf(
    flags: Annotated[list[str] | None, typer.Argument(help="Our flags and OpenRLHF's; --help lists ours.")] = None,
) -> None:
    """Train with stock OpenRLHF and --efficiency.method NAME."""
    from verl_efficiency.openrlhf.train import main as launch

    launch(flags or [])


def main() -> None:
    """Entry point: a wrong setting or file is one line on stderr and exit code 2, not a traceback."""
    try:
        app()
    except SettingsError as error:
        text = str(error)
    except OSError as error:  # no permission, no space, a file that went away
        if error.filename is None:
            raise
        text = f"{error.filename}: {error.strerror}"
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can contain
        text = (
            f"{error.object[error.start : error.end]!a} is half a character and cannot be written as UTF-8; remove it"
        )
    else:
        return
    Console(stderr=True).print(f"error: {text}", markup=False, style="red", soft_wrap=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
