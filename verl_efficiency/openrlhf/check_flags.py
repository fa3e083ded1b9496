"""Stock flags of OpenRLHF that our methods or rewards would ignore, or cannot work with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.adapter import checks
from verl_efficiency.adapter.checks import Need
from verl_efficiency.methods.catalog import REWARDS
from verl_efficiency.openrlhf.options import ROOT, Options
from verl_efficiency.own_code import lacks, source_file
from verl_efficiency.settings import SettingsError

# OpenRLHF's estimators that have a counterpart among our group advantages.
_GROUP_ADVANTAGES = {"rloo": "rloo", "dr_grpo": "dr_grpo", "reinforce_baseline": "batch"}
_OF_ROLLOUTS = {"gspo": "takes one ratio per rollout, through which every token gets the same gradient"}
_GUIDE = "see verl_efficiency.openrlhf.reward"


def check_method(args: Any, options: Options) -> Iterator[str]:
    """No flag changes the advantages or the scores behind the method's back."""
    method, settings = options.row(), options.build_settings()
    if method is None or settings is None:
        return
    name, actor, advantage = method.name, args.actor, args.algo.advantage
    yield from checks.check_limit(method, options.settings, settings, args.rollout.max_new_tokens, ROOT)
    yield from checks.check_aggregation(
        *(method, settings, actor.loss_agg_mode, "--actor.loss_agg_mode"),
        "leave it out",
        f"write {ROOT}.normalise none",
    )
    loss = actor.policy_loss_type
    yield from checks.check_loss(method, settings, loss, "--actor.policy_loss_type", _OF_ROLLOUTS, "leave it out")
    if getattr(settings, "replay", 0):
        yield f"{ROOT}.replay: only verl's trainer restarts rollouts; set it to 0"
    if advantage.estimator == "gae" or args.critic.model_name_or_path:
        yield (f"--algo.advantage.estimator: {name} computes the advantages without a critic; leave "
               "--algo.advantage.estimator and --critic.model_name_or_path out")  # fmt: skip
    estimator = advantage.estimator not in ("gae", "group_norm")
    same = _GROUP_ADVANTAGES.get(advantage.estimator)
    ignored = [
        (f"--algo.advantage.estimator: {advantage.estimator}", estimator,
         f"leave it out, or write {ROOT}.advantage {same}" if same else "leave it out"),
        ("--algo.kl.init_coef: a KL penalty inside the reward", args.algo.kl.init_coef > 0 and not args.algo.kl.use_loss,
         "add --algo.kl.use_loss, or write --algo.kl.init_coef 0"),
        ("--algo.advantage.no_std_norm:", advantage.no_std_norm, f"write {ROOT}.advantage dr_grpo"),
        ("--algo.advantage.gamma:", advantage.gamma != 1, "leave it out"),
        ("--algo.advantage.lambd:", advantage.lambd != 1, "leave it out"),
        ("--reward.clip_range:", tuple(args.reward.clip_range) != (-10, 10), "clip in your own reward"),
    ]  # fmt: skip
    for what, given, fix in ignored:
        if given:
            yield f"{what} would be ignored, since {name} computes the advantages; {fix}"
    changed = [
        ("overlong_buffer_len", args.reward.overlong_buffer_len is not None, "your own term"),
        ("stop_properly_penalty_coef", args.reward.stop_properly_penalty_coef is not None, "the term stop_properly"),
        ("normalize_enable", args.reward.normalize_enable, None),
    ]
    for flag, given, term in changed:
        if given:
            instead = f", or add {term} to a composition, {_GUIDE}" if term else ""
            yield f"--reward.{flag}: {name} reads correctness from the score, which this changes; leave it out{instead}"
    if args.rollout.max_new_tokens is None and getattr(settings, "max_response_length", 0) is None:
        yield (f"--rollout.max_new_tokens: {name} needs one response limit, and without this flag it differs from prompt to "
               f"prompt; set it, or {ROOT}.max_response_length")  # fmt: skip


def check_teacher(args: Any, options: Options) -> Iterator[str]:
    """A self-teacher gets the logits, the weights and the question that it needs."""
    method, settings = options.row(), options.build_settings()
    if method is None or settings is None or not checks.has_teacher(method, settings):
        return
    teacher: Any = settings
    yield from checks.check_router(method, settings, ROOT)
    kl = args.algo.kl.use_loss and args.algo.kl.init_coef > 0
    needs = [
        Need("--algo.kl.use_loss", kl, (False,), checks.KL_TO_REFERENCE),
        Need("--data.apply_chat_template", args.data.apply_chat_template, (True,), "it writes the teacher's prompt"),
    ]
    if teacher.full_logit_distillation or teacher.entropy_beta > 0:
        reason = ("the loss reads the logits of whole rows; or distil the sampled token only: "
                  f"{ROOT}.full_logit_distillation false {ROOT}.alpha 1 {ROOT}.entropy_beta 0")  # fmt: skip
        needs += [
            Need("--ds.packing_samples", args.ds.packing_samples, (False,), reason),
            Need("--train.dynamic_batch_enable", args.train.dynamic_batch_enable, (False,), reason),
            Need("--ds.ring_attn_size", args.ds.ring_attn_size, (1,), reason),
            Need("--ds.tensor_parallel_size", args.ds.tensor_parallel_size, (1,), reason),
        ]
    if teacher.teacher_regularization == "ema":
        reason = f"stage 3 splits the weights that the teacher averages; or write {ROOT}.teacher_regularization none"
        needs.append(Need("--ds.zero_stage", args.ds.zero_stage, (2, 1, 0), reason))
    yield from checks.unmet(method.name, needs, _written)
    for key in ("include_environment_feedback", "environment_feedback_only_without_solution", "feedback_template"):
        if key in options.settings:
            yield f"{ROOT}.{key}: OpenRLHF's trainer gets no feedback in words; leave it out"
    if teacher.target_dtype != "float32" and "target_dtype" in options.settings:
        yield f"{ROOT}.target_dtype: only verl's workers store {teacher.target_dtype}, OpenRLHF stores float32; leave it out"


def _written(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return "add the flag" if value else "leave it out"
    return f"write {flag} {value}"


def check_reward(args: Any, options: Options, file: str | None) -> Iterator[str]:
    """There is exactly one reward, and its code can be loaded; ``file`` is that of ``--efficiency.reward``."""
    url, agent, model = args.reward.remote_url, args.train.agent_func_path, args.reward.model_name_or_path
    if file is not None:
        for flag, given in (
            ("--reward.remote_url", url),
            ("--train.agent_func_path", agent != file),
            ("--reward.model_name_or_path", model),
        ):
            if given:
                yield f"{flag}: there is {ROOT}.reward {options.reward} already; leave one of them out"
    elif not (url or agent or model):
        yield (f"{ROOT}.reward: is missing, and so is any other reward; write for example {ROOT}.reward accuracy, or name "
               f"your own file with --train.agent_func_path, {_GUIDE}")  # fmt: skip
    for flag, value, name in (
        ("--reward.remote_url", url, "reward_func"),
        ("--train.agent_func_path", agent, "AgentExecutor"),
    ):
        first = (value or "").partition(",")[0]
        if not first or "://" in first:
            continue
        try:
            problem = lacks(source_file(first), name)
        except SettingsError as error:
            problem = str(error)
            if Path(first).stem in REWARDS:
                problem += f"; for our reward of that name write {ROOT}.reward {Path(first).stem}"
        if problem:
            yield f"{flag}: {problem}"
    if url and "," in url and url.partition(",")[0].endswith(".py"):
        yield (f"--reward.remote_url: OpenRLHF calls only the first of several files, got {url}; make their functions terms of "
               f"a composition, {_GUIDE}")  # fmt: skip
