"""Self-distillation without Ray and vLLM: routes, the teacher's prompt, what it says, the loss, and the teacher's average.

The actor is the real one (DeepSpeed, bfloat16, on the CPU). Expectations are computed from logits of the same model over the
whole vocabulary of 78 tokens, with sequences put together here.
"""

from types import SimpleNamespace

import pytest
import torch

from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.openrlhf.self_teacher import DISTIL
from verl_efficiency.openrlhf.start_up import reward_file
from verl_efficiency.settings import SettingsError

from .launching import parse
from .test_rewards import executor_of
from .world import label, make_world

QUESTIONS = [("0f3.", label("3", "0f3.")), ("0l7.", label("7", "0l7."))]
GOOD = "0f0+3=3\\boxed{3}"
BAD = ["\\boxed{4}", "0f0+3=5\\boxed{5}", "5"]
HOPELESS = ["\\boxed{1}", "\\boxed{2}", "0", "\\boxed{4}"]  # to the second question: nobody knows
ANSWERS = [answer + "<|im_end|>" for answer in [GOOD, *BAD, *HOPELESS]]
TEACHER_QUESTION = "0f3.\nCorrect solution:\n\n" + GOOD + "\n\nCorrectly solve the original question."


@pytest.fixture(scope="module")
def make(stock):
    """A world for a method; the actors of all worlds share DeepSpeed's process group."""
    worlds = {}

    def of(method: str, *flags: str):
        if (method, flags) not in worlds:
            correction = ["--train.micro_batch_size", "8"]
            given = ["--efficiency.method", method, "--efficiency.reward", "accuracy", *flags]
            worlds[method, flags] = make_world(parse([*given, *stock, *correction]))
        return worlds[method, flags]

    return of


def experience_of(world):
    return world.maker.make_experience_batch(
        world.roll_out(executor_of(reward_file("accuracy"), agent=True), QUESTIONS, ANSWERS)
    )


def by_rollout(experiences, read):
    """What ``read`` finds for each rollout, in the order of generation (which is that of the experiences here)."""
    return [read(experience, row) for experience in experiences for row in range(len(experience.sequences))]


def full_log_probs(world, question: str, answer: str) -> torch.Tensor:
    """(n, V): log-probabilities at every token of ``answer`` to ``question``."""
    tokenizer = world.tokenizer
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt + tokenizer.encode(answer, add_special_tokens=False)])
    with torch.no_grad():
        logits = world.actor.actor.model.module(ids, attention_mask=torch.ones_like(ids)).logits.float()
    return logits[0, len(prompt) - 1 : -1].log_softmax(-1)


def jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(n,) from log-probabilities over the whole vocabulary, alpha = 0.5."""
    m = ((p.exp() + q.exp()) / 2).log()
    return ((p.exp() * (p - m)).sum(-1) + (q.exp() * (q - m)).sum(-1)) / 2


def entropy(p: torch.Tensor) -> torch.Tensor:
    return -(p.exp() * p).sum(-1)


def test_sample_routing_targets(make):
    """Wrong rollouts with a correct sibling, and only those, have a target, which is the teacher's distribution."""
    world = make("sample_routing")
    made = experience_of(world)
    targets = by_rollout(made, lambda experience, row: experience.info[DISTIL][row])
    assert [len(target) > 0 for target in targets] == [False, True, True, True, False, False, False, False]
    teachers = [full_log_probs(world, TEACHER_QUESTION, answer) for answer in ANSWERS[1:4]]
    students = [full_log_probs(world, "0f3.", answer) for answer in ANSWERS[1:4]]
    raw = torch.cat([(-entropy(teacher)).exp() for teacher in teachers])
    torch.testing.assert_close(torch.cat([t[:, 0] for t in targets[1:4]]), raw / raw.mean(), rtol=0.02, atol=0.02)
    for target, teacher, student in zip(targets[1:4], teachers, students, strict=True):
        k = (target.shape[1] - 1) // 2
        assert k == 78  # the vocabulary, less than the 100 of the default
        ids, logps = target[:, 1 : 1 + k].long(), target[:, 1 + k :]
        assert (ids[:, 0] == student.argmax(-1)).float().mean() > 0.9  # the most likely for the student first
        torch.testing.assert_close(logps, teacher.gather(1, ids), rtol=0.02, atol=0.05)
    advantages = by_rollout(made, lambda experience, row: experience.advantages[row].abs().max().item())
    assert advantages[0] > 0
    assert advantages[1:4] == [0, 0, 0]


def test_sample_routing_loss(make):
    """Stock loss of the others + Σ w · D over all tokens; the ratio is 1 before the first update."""
    world = make("sample_routing")
    made = experience_of(world)
    trainer = world.actor.trainer
    world.maker.actor_model_group.async_run_method_batch("append", experience=made)
    teachers = [full_log_probs(world, TEACHER_QUESTION, answer) for answer in ANSWERS[1:4]]
    students = [full_log_probs(world, "0f3.", answer) for answer in ANSWERS[1:4]]
    raw = torch.cat([(-entropy(teacher)).exp() for teacher in teachers])
    distances = torch.cat([jensen_shannon(p, q) for p, q in zip(students, teachers, strict=True)])
    tokens = sum(experience.action_mask.sum().item() for experience in made)
    want = (raw / raw.mean() * distances).sum() / tokens
    stock = -sum((e.advantages * e.action_mask).sum().item() for e in made) / tokens
    status = world.actor.fit(kl_ctl=0.0)
    assert want > 0.001
    assert status["efficiency/distil_loss"] == pytest.approx(want.item(), rel=0.05)
    assert status["policy_loss"] == pytest.approx(stock + want.item(), abs=0.05 * want.item() + 1e-4)
    assert status["actor_grad_norm"] > 0
    assert DISTIL not in status
    assert trainer.actor_loss_fn.logits is None  # they are not kept alive


def test_the_concise_teacher_loss(make):
    """Σ KL(student ‖ teacher) over the tokens of every rollout, divided by their number; nothing else."""
    world = make(
        "concise_teacher",
        "--efficiency.teacher_refresh_steps",
        "2",
        "--efficiency.instruction_template",
        "{prompt}{prompt}",
    )
    made = experience_of(world)
    assert all(target > 0 for target in by_rollout(made, lambda experience, row: len(experience.info[DISTIL][row])))
    assert all(experience.advantages.abs().max() == 0 for experience in made)
    distances = []
    for number, answer in enumerate(ANSWERS):
        question = QUESTIONS[number // 4][0]
        p, q = (full_log_probs(world, text, answer) for text in (question, question * 2))
        distances.append((p.exp() * (p - q)).sum(-1))
    want = torch.cat(distances).mean().item()
    assert want > 0.001
    name = "model.layers.0.mlp.down_proj.weight"
    parameter = dict(world.actor.actor.model.module.named_parameters())[name]
    first = world.actor.average.average[name].clone()
    world.maker.actor_model_group.async_run_method_batch("append", experience=made)
    status = world.actor.fit(kl_ctl=0.0)
    assert status["efficiency/distil_loss"] == pytest.approx(want, rel=0.05)
    torch.testing.assert_close(world.actor.average.average[name], first, rtol=0, atol=0)  # after every second step
    world.maker.actor_model_group.async_run_method_batch("append", experience=made)
    world.actor.fit(kl_ctl=0.0)
    torch.testing.assert_close(world.actor.average.average[name], parameter.detach().float(), rtol=0, atol=0)


def test_the_student_comes_nearer_to_the_teacher(make):
    world = make("self_distillation", "--efficiency.teacher_regularization", "none", "--efficiency.alpha", "0.0")
    losses = []
    for _ in range(6):
        world.maker.actor_model_group.async_run_method_batch("append", experience=experience_of(world))
        losses.append(world.actor.fit(kl_ctl=0.0)["efficiency/distil_loss"])
    assert losses[-1] < 0.5 * losses[0], losses


def test_self_distillation_leaves_out_what_has_no_teacher(make):
    """The hopeless group, and the only correct rollout, are in no loss and in no denominator."""
    made = experience_of(make("self_distillation"))
    tokens = by_rollout(made, lambda experience, row: int(experience.action_mask[row].sum()))
    assert [count > 0 for count in tokens] == [False, True, True, True, False, False, False, False]
    assert all(bool((experience.advantages == 0).all()) for experience in made)


def test_a_step_in_which_all_is_skipped_is_finite(make):
    world = make("self_distillation")
    answers = [answer + "<|im_end|>" for answer in HOPELESS * 2]
    made = world.maker.make_experience_batch(
        world.roll_out(executor_of(reward_file("accuracy"), agent=True), QUESTIONS[1:] * 2, answers)
    )
    for experience in made[1:]:
        experience.action_mask = torch.zeros_like(experience.action_mask)  # as where others of the step are taught
    made[0].action_mask = torch.zeros_like(made[0].action_mask)
    world.maker.actor_model_group.async_run_method_batch("append", experience=made)
    status = world.actor.fit(kl_ctl=0.0)
    assert status["policy_loss"] == 0.0
    assert all(torch.as_tensor(value).isfinite().all() for value in (status["policy_loss"], status["actor_grad_norm"]))


SAMPLED = ["--efficiency.full_logit_distillation", "false", "--efficiency.alpha", "1"]


@pytest.mark.parametrize("beta", ["0", "1"], ids=["stock forward", "with entropy"])
def test_sampled_tokens_become_advantages(make, beta):
    world = make("sample_routing", *SAMPLED, "--efficiency.entropy_beta", beta)
    made = experience_of(world)
    assert all(DISTIL not in experience.info for experience in made)
    rows = by_rollout(made, lambda e, row: (e.advantages[row], e.action_log_probs[row], e.action_mask[row].bool()))
    teachers = [full_log_probs(world, TEACHER_QUESTION, answer) for answer in ANSWERS[1:4]]
    raw = torch.cat([(-float(beta) * entropy(teacher)).exp() for teacher in teachers])
    weights = (raw / raw.mean()).split([len(teacher) for teacher in teachers])
    for (advantages, old, mask), teacher, weight, answer in zip(
        rows[1:4], teachers, weights, ANSWERS[1:4], strict=True
    ):
        ids = torch.tensor(world.tokenizer.encode(answer, add_special_tokens=False))
        want = weight * (teacher.gather(1, ids[:, None])[:, 0] - old[mask])
        torch.testing.assert_close(advantages[mask], want, rtol=0.03, atol=0.1)
        assert want.abs().max() > 0.5


def test_the_teacher_is_an_average(make):
    world = make("sample_routing", "--efficiency.teacher_update_rate", "0.25")
    average = world.actor.average
    name = "model.layers.0.mlp.down_proj.weight"
    parameter = dict(world.actor.actor.model.module.named_parameters())[name]
    start, teacher = parameter.detach().float().clone(), average.average[name].clone()
    torch.testing.assert_close(start, teacher, rtol=0, atol=0)
    world.maker.actor_model_group.async_run_method_batch("append", experience=experience_of(world))
    world.actor.fit(kl_ctl=0.0)
    now = parameter.detach().float()
    assert (now - start).abs().max() > 0
    torch.testing.assert_close(average.average[name], 0.75 * teacher + 0.25 * now)
    own = parameter.detach().clone()
    average.exchange()
    torch.testing.assert_close(parameter.detach(), average.average[name].to(parameter.dtype), rtol=0, atol=0)
    average.exchange()
    torch.testing.assert_close(parameter.detach(), own, rtol=0, atol=0)


def test_the_average_is_saved_and_restored(make, tmp_path):
    average = make("sample_routing", "--efficiency.teacher_update_rate", "0.25").actor.average
    saved = {name: value.clone() for name, value in average.average.items()}
    average.save(tmp_path)
    average.average = {name: torch.zeros_like(value) for name, value in average.average.items()}
    assert average.load(tmp_path)
    assert all(torch.equal(average.average[name], value) for name, value in saved.items())
    with pytest.raises(SettingsError, match="average of the self-teacher"):
        average.load(tmp_path / "nothing")


def test_the_average_goes_on_from_a_checkpoint_of_deepspeed(make, tmp_path, monkeypatch):
    actor = make("sample_routing", "--efficiency.teacher_update_rate", "0.25").actor
    monkeypatch.setattr(actor.strategy.args.ckpt, "path", str(tmp_path))
    now = {name: value.detach().float() for name, value in actor.average.weights()}
    taught = {name: value + 1 for name, value in now.items()}
    monkeypatch.setattr(actor.average, "average", taught)
    actor.save_checkpoint("global_step1", {"global_step": 1})
    monkeypatch.setattr(actor, "checkpoint_states", {"global_step": 1})
    assert all(torch.equal(value, taught[name]) for name, value in actor._start_average().average.items())

    folder = tmp_path / "_actor" / "global_step1"
    (folder / "verl_efficiency_teacher_0_of_1.pt").unlink()  # as of a run without a teacher
    with pytest.raises(SettingsError, match=f"touch {folder / STARTS_AGAIN}"):
        actor._start_average()
    (folder / STARTS_AGAIN).touch()
    assert all(torch.equal(value, now[name]) for name, value in actor._start_average().average.items())


class Handle:
    """A Ray actor's handle whose calls happen at once, and are counted."""

    def __init__(self, actor) -> None:
        self.actor, self.passes = actor, []

    def __getattr__(self, name: str) -> SimpleNamespace:
        def call(*args, **kwargs):
            if name == "execute_batch":
                self.passes.append((args[0], len(next(iter(args[1].values())))))
            return getattr(self.actor, name)(*args, **kwargs)

        return SimpleNamespace(remote=call)


def by_id(target: torch.Tensor) -> torch.Tensor:
    """(n, 1 + V): weight, and log-probabilities in the order of the ids; equally likely ones may come in any."""
    if len(target) == 0:
        return target
    ids, logps = target[:, 1:79].long(), target[:, 79:]
    return torch.cat([target[:, :1], torch.zeros_like(logps).scatter(1, ids, logps)], dim=1)


def test_several_ranks_are_given_equally_many_passes(make, monkeypatch):
    """Three routed rollouts in micro-batches of 1, 2 and 3: on one rank and, by the stock group's own division, on two."""
    import openrlhf.trainer.ray.launcher as stock_launcher

    world = make("sample_routing", "--efficiency.teacher_regularization", "none", "--rollout.micro_batch_size", "2")
    one = by_rollout(experience_of(world), lambda experience, row: experience.info[DISTIL][row])
    monkeypatch.setattr(stock_launcher, "ray", SimpleNamespace(put=lambda value: value))
    group = object.__new__(stock_launcher.RayActorGroup)
    group._actor_handlers, group.duplicate_actors = [Handle(world.actor), Handle(world.actor)], 1
    monkeypatch.setattr(world.maker, "actor_model_group", group)
    for ranks, size in ((2, 2), (2, 1), (2, 3)):
        monkeypatch.setattr(world.args.actor, "num_gpus_per_node", ranks)
        monkeypatch.setattr(world.args.rollout, "micro_batch_size", size)
        first, second = (handle.passes for handle in group._actor_handlers)
        first.clear(), second.clear()
        two = by_rollout(experience_of(world), lambda experience, row: experience.info[DISTIL][row])
        assert [len(target) for target in two] == [len(target) for target in one]
        for ours, theirs in zip(two, one, strict=True):
            torch.testing.assert_close(by_id(ours), by_id(theirs), rtol=0.02, atol=0.1)
        taught = [[count for name, count in passes if name != "forward"] for passes in (first, second)]
        assert taught[0] == taught[1] != []


def test_a_variance_router_with_stored_responses(make):
    """All-wrong groups learn from a correct response of an earlier step."""
    flags = ["--efficiency.distil", "true", "--efficiency.store_responses", "true"]
    world = make("variance_routing", *flags, "--efficiency.teacher_regularization", "none")
    experience_of(world)  # the good answer to the first question is kept; the hopeless group has nothing
    assert list(world.maker.method_state.texts.values()) == [GOOD]
    answers = [answer + "<|im_end|>" for answer in [*BAD, "6", *HOPELESS]]
    made = world.maker.make_experience_batch(
        world.roll_out(executor_of(reward_file("accuracy"), agent=True), QUESTIONS, answers)
    )
    targets = by_rollout(made, lambda experience, row: len(experience.info[DISTIL][row]) > 0)
    assert targets == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--ds.packing_samples", "--ds.packing_samples: sample_routing needs False"),
        ("--ds.ring_attn_size 2", "--ds.ring_attn_size: sample_routing needs 1, not 2"),
        ("--ds.zero_stage 3", "--ds.zero_stage: sample_routing needs 2 or 1, not 3"),
    ],
)
def test_what_cannot_be_taught_is_refused(flags, message, stock):
    with pytest.raises(SettingsError) as error:
        parse([*stock, "--efficiency.method", "sample_routing", *flags.split()])
    assert message in str(error.value)


def test_sampled_tokens_in_every_mode(stock):
    everywhere = [*SAMPLED, "--efficiency.entropy_beta", "0", "--efficiency.teacher_regularization", "none"]
    flags = [
        "--ds.packing_samples",
        "--ds.zero_stage",
        "3",
        "--ds.tensor_parallel_size",
        "2",
        "--actor.num_gpus_per_node",
        "2",
    ]
    assert parse([*stock, "--efficiency.method", "sample_routing", *everywhere, *flags]).ds.packing_samples


def test_a_label_without_the_question_is_refused(stock, tmp_path):
    file = tmp_path / "plain.jsonl"
    file.write_text('{"input": "1+1?", "label": "2"}\n')
    with pytest.raises(SettingsError, match=r"--efficiency: 'prompt' .*pack --format openrlhf"):
        parse([*stock, "--efficiency.method", "sample_routing", "--data.prompt_dataset", str(file)])
