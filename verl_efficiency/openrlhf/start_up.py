"""What the launcher does before OpenRLHF starts anything: versions, implied flags, checks, warnings."""

import importlib.metadata
import logging
import os
from dataclasses import replace
from typing import Any

from verl_efficiency.adapter.checks import (
    check_budget,
    check_keep,
    has_teacher,
    learns_where_all_are_right,
    only_a_term,
    state_is_lost,
    with_limit,
)
from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS
from verl_efficiency.methods.own import offers
from verl_efficiency.openrlhf.check_data import check_data
from verl_efficiency.openrlhf.check_flags import check_method, check_reward, check_teacher
from verl_efficiency.openrlhf.options import ROOT, Options
from verl_efficiency.openrlhf.reward import RewardFile
from verl_efficiency.settings import SettingsError

logger = logging.getLogger("verl_efficiency")
TESTED = {"openrlhf": ("0.11.2",), "ray": ("2.55.0",), "transformers": ("5.15.0", "5.16.1")}
UNTESTED_VERSIONS = "VERL_EFFICIENCY_UNTESTED_VERSIONS"


def check_versions() -> None:
    """Refuse untested versions of OpenRLHF, Ray and transformers, because our classes rely on their internals.

    Raises:
        SettingsError: a package is missing, or is untested and ``VERL_EFFICIENCY_UNTESTED_VERSIONS`` is not 1.
    """
    try:
        found = {name: importlib.metadata.version(name) for name in TESTED}
    except importlib.metadata.PackageNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed; `pip install verl-efficiency[openrlhf]` installs it"
        ) from None
    untested = [
        f"{name} {version} (tested: {', '.join(TESTED[name])})"
        for name, version in found.items()
        if version not in TESTED[name]
    ]
    if not untested:
        return
    if os.environ.get(UNTESTED_VERSIONS) == "1":
        logger.warning("%s=1: going on with %s", UNTESTED_VERSIONS, "; ".join(untested))
        return
    raise SettingsError(
        f"verl-efficiency was not tested with {'; '.join(untested)}. Install a tested version, or set {UNTESTED_VERSIONS}=1 "
        "to run anyway"
    )


def reward_file(name: str) -> str:
    """The file that runs the reward ``name`` with its default settings.

    Raises:
        SettingsError: the reward cannot run without settings, or not alone.
    """
    if problem := not_alone(name):
        raise SettingsError(
            f"{ROOT}.reward: {problem}; write your own reward file, see verl_efficiency.openrlhf.reward"
        )
    return RewardFile(name)


def not_alone(name: str) -> str | None:
    """Why the reward ``name`` cannot run alone with its default settings, or None."""
    try:
        REWARDS[name].build_settings({}, name)
    except SettingsError as error:
        instead = f", but {ROOT}.method {name} has" if name in ESTIMATORS else ""
        return f"{name} has no defaults for all of its settings ({error}){instead}"
    return only_a_term(REWARDS[name])


def stock_flags(options: Options, arguments: list[str]) -> list[str]:
    """OpenRLHF's flags: first those that ours imply, then the user's, which therefore win.

    Raises:
        SettingsError: see :func:`reward_file`.
    """
    implied = []
    if options.reward is not None:
        implied += ["--train.agent_func_path", reward_file(options.reward)]
    if options.method is not None:
        implied += ["--algo.advantage.estimator", "group_norm"]  # gae, OpenRLHF's default, would add a critic
    return [*implied, *arguments]


def check(args: Any, options: Options) -> list[str]:
    """Every problem that concerns us in OpenRLHF's parsed ``args``, one line each."""
    reward = reward_file(options.reward) if options.reward is not None else None
    return [
        *check_method(args, options),
        *check_teacher(args, options),
        *check_reward(args, options, reward),
        *check_data(args, options),
    ]


def prepared(args: Any, options: Options) -> Options:
    """``options``, plus the response limit if the method needs it."""
    settings = with_limit(options.settings, options.build_settings(), args.rollout.max_new_tokens)
    return options if settings is None else replace(options, settings=settings)


def warn(args: Any, options: Options) -> None:
    """Log warnings: findings that do not stop the run."""
    for problem in offers().problems:
        logger.warning("%s", problem)
    untried = {
        "--train.colocate_all": args.train.colocate_all,
        "--train.colocate_actor_ref": args.train.colocate_actor_ref,
        "--vllm.enable_sleep": args.vllm.enable_sleep,
        "--ds.enable_sleep": args.ds.enable_sleep,
        "--ds.packing_samples": args.ds.packing_samples,
        "--train.dynamic_batch_enable": args.train.dynamic_batch_enable,
        "--ds.ring_attn_size": args.ds.ring_attn_size > 1,
        "--ds.tensor_parallel_size": args.ds.tensor_parallel_size > 1,
        "--train.partial_rollout_enable": args.train.partial_rollout_enable,
        "--vllm.num_engines": (args.vllm.num_engines or 0) > 1,
        "--actor.num_nodes": args.actor.num_nodes > 1,
        "--data.max_images_per_prompt": args.data.max_images_per_prompt > 0,
    }
    for flag in [flag for flag, used in untried.items() if used]:
        logger.warning("%s: verl-efficiency is untested with it; compare the first steps with a run without it", flag)
    method, settings = options.row(), options.build_settings()
    if method is None or settings is None:
        return
    for text in [
        *settings.warnings,
        *check_budget(settings, args.rollout.max_new_tokens, ROOT, "--rollout.max_new_tokens"),
        *check_keep(settings, args.rollout.n_samples_per_prompt, ROOT, "--rollout.n_samples_per_prompt"),
    ]:
        logger.warning("%s", text)
    lowest, highest = args.algo.dynamic_filtering_range
    if args.algo.dynamic_filtering_enable and highest <= 1 and learns_where_all_are_right(method, settings):
        logger.warning(
            "--algo.dynamic_filtering_range: drops prompts where every rollout is correct, and %s learns most from them; to "
            "keep them write --algo.dynamic_filtering_range %g 1.01",
            *(method.name, lowest),
        )
    if has_teacher(method, settings) and args.algo.advantage.is_correction_level != "off":
        logger.warning(
            "--algo.advantage.is_correction_level: does not apply to the distillation term of %s", method.name
        )
    if settings.keeps_state and args.ckpt.disable_ds:
        fix = "leave it out, since DeepSpeed's checkpoints hold the state"
        logger.warning("%s", state_is_lost(method, "--ckpt.disable_ds", fix))
