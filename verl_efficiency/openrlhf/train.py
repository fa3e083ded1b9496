"""The launcher: ``python -m verl_efficiency.openrlhf.train <our flags> <stock flags>``.

OpenRLHF has no plugins. The launcher therefore binds three names in OpenRLHF's modules to our subclasses
(:mod:`verl_efficiency.openrlhf.ray_classes`), and then runs OpenRLHF's own command line in this process. Our settings travel to
every Ray actor with the stock ones (``strategy.args.efficiency``). No file of OpenRLHF is changed.
"""

import dataclasses
import json
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS
from verl_efficiency.methods.own import offers
from verl_efficiency.openrlhf.options import ROOT, Options, take_options
from verl_efficiency.settings import SettingsError

STOCK = "openrlhf.cli.train_ppo_ray"


def main(arguments: Sequence[str] | None = None, **classes: type) -> None:
    """Run OpenRLHF with our flags; a wrong one is one line on stderr and exit code 2.

    Args:
        arguments: the command line; None: that of the process.
        classes: your own actors, see :func:`verl_efficiency.openrlhf.ray_classes.install`.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if {"-h", "--help"} & set(arguments):
            print(help_text(arguments))
            return
        launch(arguments, **classes)
    except SettingsError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        sys.exit(2)


def launch(arguments: Sequence[str], **classes: type) -> None:
    """Check the flags, install our classes, and run the stock command line.

    Raises:
        SettingsError: this run would not do what its flags say.
    """
    options, stock = take_options(arguments)
    from verl_efficiency.openrlhf import start_up

    stock = start_up.stock_flags(options, stock)
    start_up.check_versions()
    import openrlhf.utils.config as config

    from verl_efficiency.openrlhf import ray_classes

    ray_classes.install(**classes)
    original = config.hierarchize

    def hierarchize(parsed: Any) -> Any:
        """The only call that sees all stock flags before anything starts (train_ppo_ray.py:628)."""
        args = original(parsed)
        problems = start_up.check(args, options)
        if problems:
            raise SettingsError("\n".join(["this run would not do what its flags say:", *problems]))
        start_up.warn(args, options)
        args.efficiency = start_up.prepared(args, options)
        if options.reward is not None:
            args.train.agent_func_path = start_up.reward_file(options.reward)  # argparse has made it a plain text
        return args

    config.hierarchize = hierarchize
    sys.argv = [sys.argv[0], *stock]
    runpy.run_module(STOCK, run_name="__main__", alter_sys=True)


def help_text(arguments: Sequence[str]) -> str:
    """Our flags; with a method among ``arguments``, its settings."""
    from verl_efficiency.openrlhf.start_up import not_alone

    with_defaults = sorted(name for name in REWARDS if not_alone(name) is None)
    lines = [
        "usage: python -m verl_efficiency.openrlhf.train --efficiency.method NAME [--efficiency.<setting> VALUE …]",
        "           [--efficiency.reward NAME] <flags of OpenRLHF>",
        "",
        f"{ROOT}.method   which method computes the advantages (null: OpenRLHF itself):",
        *(f"    {name:18s} {method.summary}" for name, method in ESTIMATORS.items()),
        *(f"    {name:18s} {method.owner}" for name, method in offers().methods.items()),
        f"{ROOT}.reward   one of our rewards, with its default settings: {', '.join(with_defaults)}",
        f"{ROOT}.<name>   a setting of the method; --help after {ROOT}.method NAME lists them",
    ]
    given = [argument for argument in arguments if argument not in ("-h", "--help")]
    options = take_options(given)[0] if any(argument.startswith(ROOT) for argument in given) else Options()
    settings, row = options.build_settings(), options.row()
    if settings is not None and row is not None:
        lines += [
            "",
            f"settings of {row.name}, with their values here (`verl-efficiency methods {row.name}` says more):",
        ]
        lines += [
            f"    {ROOT}.{name} {value if isinstance(value, str) else json.dumps(value)}"
            for name, value in dataclasses.asdict(settings).items()  # type: ignore[call-overload]
        ]
    return "\n".join([*lines, "", f"All other flags are OpenRLHF's: python -m {STOCK} --help"])


if __name__ == "__main__":
    main()
