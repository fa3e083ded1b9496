"""What would go wrong, said before a model is loaded."""

import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_efficiency.data.columns import column
from verl_efficiency.data.files import ENDINGS, Sample, read_sample
from verl_efficiency.data.gradable import check_gradable
from verl_efficiency.data.messages import prompt_problem
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.methods.own import offers
from verl_efficiency.methods.routing.variance_routing import VarianceRoutingSettings
from verl_efficiency.methods.shaping.base import ShapingSettings
from verl_efficiency.methods.shaping.drpo import DrpoSettings
from verl_efficiency.methods.shaping.length_shaped import LengthShapedSettings
from verl_efficiency.openrlhf import rewards
from verl_efficiency.openrlhf.options import ROOT, Options, teaches
from verl_efficiency.own_code import lacks, source_file
from verl_efficiency.settings import SettingsError

logger = logging.getLogger("verl_efficiency")
TESTED = {"openrlhf": ("0.11.2",), "ray": ("2.55.0",), "transformers": ("5.15.0", "5.16.1")}
UNTESTED_VERSIONS = "VERL_EFFICIENCY_UNTESTED_VERSIONS"
_GROUP_ADVANTAGES = {"rloo": "rloo", "dr_grpo": "dr_grpo", "reinforce_baseline": "batch"}  # of OpenRLHF, and ours


def check_versions() -> None:
    """Refuse versions of OpenRLHF, Ray and transformers that were not tried: we enter them by names inside of them.

    Raises:
        SettingsError: one is missing, or is another and ``VERL_EFFICIENCY_UNTESTED_VERSIONS`` is not 1.
    """
    try:
        found = {name: importlib.metadata.version(name) for name in TESTED}
    except importlib.metadata.PackageNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed; `pip install verl-efficiency[openrlhf]` brings it"
        ) from None
    wrong = [
        f"{name} {version} (tested: {', '.join(TESTED[name])})"
        for name, version in found.items()
        if version not in TESTED[name]
    ]
    if not wrong:
        return
    if os.environ.get(UNTESTED_VERSIONS) == "1":
        logger.warning("%s=1: going on with %s", UNTESTED_VERSIONS, "; ".join(wrong))
        return
    raise SettingsError(
        f"verl-efficiency was not tested with {'; '.join(wrong)}. Install a tested version, or set {UNTESTED_VERSIONS}=1 to "
        "try all the same"
    )


def reward_file(name: str) -> str:
    """The file of the reward ``name`` with its default settings.

    Raises:
        SettingsError: there is none.
    """
    file = Path(rewards.__file__).parent / f"{name}.py"
    if not file.exists():
        why = {
            "repetition": "repetition alone would teach the empty response; make it a term of composition",
            "token_budget": f"it needs b_min and b_max; the method needs nothing: {ROOT}.method token_budget",
        }[name]
        raise SettingsError(
            f"{ROOT}.reward: {name} has no file with default settings, since {why}. With settings of yours, write a reward "
            "file, see verl_efficiency.openrlhf.reward"
        )
    return str(file)


def stock_flags(options: Options, arguments: list[str]) -> list[str]:
    """The stock flags after those that ours imply: what the user wrote comes last, also abbreviated, and so counts.

    Raises:
        SettingsError: a reward without a file.
    """
    implied = []
    if options.reward is not None:
        implied += ["--train.agent_func_path", reward_file(options.reward)]
    if options.method is not None:
        implied += ["--algo.advantage.estimator", "group_norm"]  # gae, OpenRLHF's default, would bring a critic
    return [*implied, *arguments]


def check(args: Any, options: Options) -> list[str]:
    """Every problem of OpenRLHF's parsed ``args`` that concerns us, one line each; empty when all is well."""
    checks = (_check_method, _check_teacher, _check_reward, _check_data)
    return [problem for part in checks for problem in part(args, options)]


def prepared(args: Any, options: Options) -> Options:
    """``options`` with what the method needs of the stock flags: the limit on generated tokens."""
    settings = options.build_settings()
    if settings is None or getattr(settings, "max_response_length", 0) is not None:
        return options
    return replace(options, settings={**options.settings, "max_response_length": args.rollout.max_new_tokens})


def _check_method(args: Any, options: Options) -> Iterator[str]:
    estimator, name = args.algo.advantage.estimator, options.method
    if name is None:
        return
    settings = options.build_settings()
    scaled = teaches(options) or getattr(settings, "normalise", "none") != "none"
    if scaled and args.actor.loss_agg_mode != "token-mean":
        yield f"--actor.loss_agg_mode: {name} is scaled for token-mean, not {args.actor.loss_agg_mode}; leave it out"
    if getattr(settings, "replay", 0):
        yield f"{ROOT}.replay: only verl's trainer restarts rollouts; set it to 0"
    if estimator == "gae" or args.critic.model_name_or_path:
        yield (f"--algo.advantage.estimator: {name} computes the advantages without a critic; leave "
               "--algo.advantage.estimator and --critic.model_name_or_path out")  # fmt: skip
    elif estimator != "group_norm":
        instead = (
            f"; leave it out, and write {ROOT}.advantage {_GROUP_ADVANTAGES[estimator]} where that is what you want"
            if estimator in _GROUP_ADVANTAGES
            else "; leave it out"
        )
        yield f"--algo.advantage.estimator: {estimator} would be ignored, since {name} computes the advantages{instead}"
    if args.algo.kl.init_coef > 0 and not args.algo.kl.use_loss:
        yield (f"--algo.kl.init_coef: a KL penalty inside the reward would be ignored, since {name} computes the advantages; "
               "add --algo.kl.use_loss, or write --algo.kl.init_coef 0")  # fmt: skip
    advantage = args.algo.advantage
    for flag, given, instead in (
        ("--algo.advantage.no_std_norm", advantage.no_std_norm, f"write {ROOT}.advantage dr_grpo"),
        ("--algo.advantage.gamma", advantage.gamma != 1, "leave it out"),
        ("--algo.advantage.lambd", advantage.lambd != 1, "leave it out"),
        ("--reward.clip_range", tuple(args.reward.clip_range) != (-10, 10), "clip in a reward of yours"),
    ):
        if given:
            yield f"{flag}: would be ignored, since {name} computes the advantages; {instead}"
    for flag, value, term in (
        ("overlong_buffer_len", args.reward.overlong_buffer_len, "a term of yours"),
        ("stop_properly_penalty_coef", args.reward.stop_properly_penalty_coef, "the term stop_properly"),
    ):
        if value is not None:
            yield (f"--reward.{flag}: {name} reads correctness from the reward, which this penalty changes; leave it out, or "
                   f"put {term} into a composition, see verl_efficiency.openrlhf.reward")  # fmt: skip
    if args.reward.normalize_enable:
        yield f"--reward.normalize_enable: {name} reads correctness from the reward, which this changes; leave it out"
    if args.rollout.max_new_tokens is None and getattr(settings, "max_response_length", 0) is None:
        yield (f"--rollout.max_new_tokens: {name} looks at the limit on generated tokens, which would be another for every "
               f"prompt; set it, or {ROOT}.max_response_length")  # fmt: skip


def _check_teacher(args: Any, options: Options) -> Iterator[str]:
    """A self-teacher can have the logits, the weights and the question that it needs."""
    settings: Any = options.build_settings()
    name = options.method
    if not teaches(options):
        return
    needs_logits = settings.full_logit_distillation or settings.entropy_beta > 0
    for flag, used in (
        ("--ds.packing_samples", args.ds.packing_samples),
        ("--train.dynamic_batch_enable", args.train.dynamic_batch_enable),
        ("--ds.ring_attn_size", args.ds.ring_attn_size > 1),
        ("--ds.tensor_parallel_size", args.ds.tensor_parallel_size > 1),
    ):
        if used and needs_logits:
            yield (f"{flag}: {name} reads the logits of whole rows, which are packed or split there; leave it out, or distil "
                   f"the sampled token: {ROOT}.full_logit_distillation false {ROOT}.alpha 1 {ROOT}.entropy_beta 0")  # fmt: skip
    if settings.teacher_regularization == "ema" and args.ds.zero_stage == 3:
        yield (f"--ds.zero_stage: the teacher of {name} is an average of weights that stage 3 splits; take stage 2, or "
               f"{ROOT}.teacher_regularization none")  # fmt: skip
    for key in ("include_environment_feedback", "environment_feedback_only_without_solution", "feedback_template"):
        if key in options.settings:
            yield f"{ROOT}.{key}: no feedback in words reaches OpenRLHF's trainer; leave it out"
    if args.algo.kl.use_loss and args.algo.kl.init_coef > 0:
        yield (f"--algo.kl.use_loss: a KL to the reference pulls routed rollouts away from the teacher of {name} (the papers "
               "have none); leave it out, or write --algo.kl.init_coef 0")  # fmt: skip
    if not args.data.apply_chat_template:
        yield f"--data.apply_chat_template: {name} writes another prompt for the teacher with the chat template; add the flag"


def _check_reward(args: Any, options: Options) -> Iterator[str]:
    """There is one reward, and no other that OpenRLHF would leave aside silently."""
    url, agent, model = args.reward.remote_url, args.train.agent_func_path, args.reward.model_name_or_path
    if options.reward is not None:
        ours = f"there is {ROOT}.reward {options.reward} already; leave one of them out"
        for flag, given in (
            ("--reward.remote_url", url),
            ("--train.agent_func_path", agent != reward_file(options.reward)),
            ("--reward.model_name_or_path", model),
        ):
            if given:
                yield f"{flag}: {ours}"
    elif not (url or agent or model):
        yield (f"{ROOT}.reward: is missing, and so is any other reward; write for example {ROOT}.reward accuracy, or name a "
               "file of yours with --train.agent_func_path, see verl_efficiency.openrlhf.reward")  # fmt: skip
    for flag, value, name in (
        ("--reward.remote_url", url, "reward_func"),
        ("--train.agent_func_path", agent, "AgentExecutor"),
    ):
        first = (value or "").partition(",")[0]
        if not first or "://" in first:
            continue
        hint = f"; for the reward of ours write {ROOT}.reward {first}" if first in REWARDS else ""
        try:
            problem = lacks(source_file(first), name)
        except SettingsError as error:
            problem = f"{error}{hint}"
        if problem:
            yield f"{flag}: {problem}"
    if url and "," in url and url.partition(",")[0].endswith(".py"):
        yield (f"--reward.remote_url: of several files OpenRLHF calls the first only, got {url}; make their functions terms of "
               "a composition, see verl_efficiency.openrlhf.reward")  # fmt: skip


def _check_data(args: Any, options: Options) -> Iterator[str]:
    """The data sets can be read, and their labels have what the method and our reward read: a sample is looked at."""
    settings = options.build_settings()
    columns = {} if settings is None else {role: path for role, path in settings.columns.items() if role != "reference"}
    if teaches(options):
        columns["question"] = "prompt"
    reads_labels = bool(columns) or options.reward is not None
    if reads_labels and args.data.label_key is None:
        reader, read = (options.method, ", ".join(columns.values())) if columns else (options.reward, "the answer")
        yield f"--data.label_key: {reader} reads {read} from the labels; name their column"
    for flag, given in (("--data.prompt_dataset", args.data.prompt_dataset), ("--eval.dataset", args.eval.dataset)):
        for name in (given or "").split(",") if given else []:
            file = Path(name.partition("@")[0].strip())
            if file.suffix not in ENDINGS:
                logger.warning("%s is not a local .jsonl, .json or .parquet file; it is not checked at start-up", file)
                continue
            try:
                sample = read_sample(file, flag, columns=[args.data.input_key, args.data.label_key])
                yield from _check_prompts(sample, args.data, f"{flag}: {file}")
                if reads_labels and args.data.label_key is not None:
                    yield from _check_labels(sample, args.data.label_key, file, columns, options)
            except SettingsError as error:
                yield str(error)


def _check_prompts(sample: Sample, data: Any, where: str) -> Iterator[str]:
    """The prompts are texts, or messages where a chat template reads them."""
    key, place = data.input_key, sample.places.__getitem__
    try:
        prompts = column(sample.rows, key, "--data.input_key", place)
    except SettingsError as error:
        yield f"{error} of {where.partition(': ')[2]}"
        return
    for number, prompt in enumerate(prompts):
        problem = None if isinstance(prompt, str) else prompt_problem(prompt)
        if problem is None and not data.apply_chat_template and not isinstance(prompt, str):
            problem = "is a list of messages; add --data.apply_chat_template"
        if problem:
            yield f"{where}: {key} of {place(number)} {problem}"
            return


def _check_labels(sample: Sample, key: str, file: Path, columns: Mapping[str, str], options: Options) -> Iterator[str]:
    place = sample.places.__getitem__
    labels = column(sample.rows, key, "--data.label_key", place)
    rows = [read_label(label) for label in labels]
    infos = [row.get("extra_info") for row in rows]
    packed = any(isinstance(info, Mapping) and (info.get("n") or 1) > 1 for info in infos)
    if packed and options.reward not in (None, "batched_accuracy"):
        yield (f"{ROOT}.reward: {options.reward} grades one problem, but {file} has several in a prompt; "
               "take batched_accuracy, or pack with --problems 1")  # fmt: skip
    elif options.reward is not None:
        labelled = Sample(rows, sample.places, sample.columns)
        yield from check_gradable(labelled, REWARDS[options.reward], {}, f"--data.label_key: {file}")
    for role, path in columns.items():
        try:
            values = column(rows, path, f"{ROOT}.{role}_column" if role != "question" else ROOT, place)
        except SettingsError as error:
            yield f"{error} of the labels in {file}; `verl-efficiency pack --format openrlhf` writes such labels"
            continue
        wrong = [value for value in values if role == "difficulty" and not _is_share(value)]
        if wrong:
            yield f"{ROOT}.{role}_column: {path} must be a number in [0, 1] in every row, but {file} has {wrong[0]!r}"


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def warn(args: Any, options: Options) -> None:
    """Say what was never tried with our classes, what is not saved, and which methods of other packages are not there."""
    for problem in offers().problems:
        logger.warning("%s", problem)
    tried_nowhere = {
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
    for flag in [flag for flag, used in tried_nowhere.items() if used]:
        logger.warning("%s: verl-efficiency was never tried with it; compare the first steps with a run without", flag)
    settings = options.build_settings()
    for text in settings.warnings if settings is not None else ():
        logger.warning("%s", text)
    by_length = isinstance(settings, ShapingSettings | LengthShapedSettings | DrpoSettings | VarianceRoutingSettings)
    if by_length and args.algo.dynamic_filtering_enable and args.algo.dynamic_filtering_range[1] <= 1:
        logger.warning(
            "--algo.dynamic_filtering_range: prompts that are always solved are dropped, though %s learns from them to be "
            "short; to keep them write --algo.dynamic_filtering_range %g 1.01",
            *(options.method, args.algo.dynamic_filtering_range[0]),
        )
    if teaches(options) and args.algo.advantage.is_correction_level != "off":
        logger.warning(
            "--algo.advantage.is_correction_level: is not applied to the distillation term of %s", options.method
        )
    if settings is not None and settings.keeps_state and args.ckpt.disable_ds:
        logger.warning(
            "--ckpt.disable_ds: %s keeps running averages, which are saved with DeepSpeed's checkpoints only: a resumed run "
            "starts them again.",
            options.method,
        )
