"""Self-distillation inside verl's engine.

The calls are verl's own (``FSDPEngineWithLMHead``, ``ppo_loss``, ``agg_loss``); the formula is written out in float64, token by
token.
"""

import functools
import math
from types import SimpleNamespace

import pytest

pytest.importorskip("verl.workers.engine.fsdp.transformer_impl", reason="verl 0.8 hands no logits to a loss")

import torch
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils as tu
from verl.utils import torch_functional as verl_F
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import Metric
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.utils.losses import ppo_loss

from verl_efficiency.methods.distillation import rounded
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.verl.distillation_loss import DistillationLoss, StudentTopk, TeacherTargets, routed_positions

V, K, TEMPERATURE = 11, 4, 0.8
MINI_BATCH_TOKENS, RANKS = 37, 2  # more than this micro-batch holds: the denominator is that of all ranks

# Every kind of row: prompt tokens, mask of the response (0: a tool wrote it), advantage, whether a teacher scores it.
ROWS = (
    (3, [1, 1, 1, 1, 1], 0.7, False),
    (2, [1, 0, 0, 1, 1, 1], 0.0, True),
    (4, [0, 0, 0], 0.0, False),  # skipped
    (5, [0], 0.0, False),  # padding, as verl makes it
    (1, [1, 1, 1, 1], 0.0, True),
    (2, [1, 1, 0, 1], -1.1, False),
)
both_forms = pytest.mark.parametrize("remove_padding", [True, False], ids=["packed", "padded"])


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def jagged(rows):
    """Also for rows that are all empty, as they come out of TransferQueue."""
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return torch.nested.nested_tensor_from_jagged(torch.cat(rows), offsets)


class Example:
    """A micro-batch and its logits, (T, V) float64, one row per token of all sequences; a leaf that wants a gradient."""

    def __init__(self, rows=ROWS, dtype=torch.float64, calculate_entropy=False, remove_padding=True, **fields):
        random = torch.Generator().manual_seed(11)
        self.rows, self.remove_padding = rows, remove_padding
        self.lengths = [prompt + len(mask) for prompt, mask, _, _ in rows]
        self.ids = [torch.randint(0, V, (length,), generator=random) for length in self.lengths]
        noise = torch.randn(sum(self.lengths), V, generator=random, dtype=torch.float64)
        self.logits = (2 * noise).to(dtype).requires_grad_()
        masks = [torch.tensor(mask) for _, mask, _, _ in rows]
        routed = [mask * distil for mask, (_, _, _, distil) in zip(masks, rows, strict=True)]
        self.topk = [
            torch.stack([torch.randperm(V, generator=random)[:K] for _ in range(8)])[: m.sum()] for m in routed
        ]
        self.teacher = []
        for ids in self.topk:
            logits = 2 * torch.randn(len(ids), V, generator=random, dtype=torch.float64)
            self.teacher.append(logits.log_softmax(-1).gather(1, ids).to(dtype))
        # Off policy: the ratios of a row are 3.7, 0.4, 1.1, 1.6, 0.7, 1.2, which pass verl's clips and is_clip.
        gap = torch.tensor([1.3, -0.9, 0.1, 0.5, -0.3, 0.2], dtype=torch.float64)
        self.old = [self.own_log_probs(row).detach() - gap[: len(mask)] for row, mask in enumerate(masks)]
        self.weights = [torch.rand(len(mask), generator=random, dtype=torch.float64) * mask for mask in routed]
        self.correction = [0.5 + torch.rand(len(mask), generator=random, dtype=torch.float64) for mask in masks]
        self.data = TensorDict(
            {
                "input_ids": nested(self.ids),
                "position_ids": nested([torch.arange(length) for length in self.lengths]),
                "prompts": nested([ids[:prompt] for ids, (prompt, *_) in zip(self.ids, rows, strict=True)]),
                "responses": nested([ids[prompt:] for ids, (prompt, *_) in zip(self.ids, rows, strict=True)]),
                "response_mask": nested(masks),
                "loss_mask": nested(masks),
                "old_log_probs": nested(self.old),
                "advantages": nested([a * m.double() for m, (_, _, a, _) in zip(masks, rows, strict=True)]),
                "distil_mask": nested(routed),
                "distil_weight": nested(self.weights),
                "distil_topk_ids": jagged([ids.int() for ids in self.topk]),
                "distil_teacher_logps": jagged(self.teacher),
            },
            batch_size=len(rows),
        )
        if fields.pop("rollout_is_weights", False):
            self.data["rollout_is_weights"] = nested(self.correction)
        values = {"dp_size": RANKS, "batch_num_tokens": MINI_BATCH_TOKENS, "global_batch_size": 2 * len(rows)}
        values |= {"temperature": TEMPERATURE, "use_remove_padding": remove_padding}
        values |= {"calculate_entropy": calculate_entropy, "distillation_use_topk": True, "distillation_only": True}
        tu.assign_non_tensor(self.data, **(values | fields))

    def place(self, row, token):
        """Which of the T tokens predicts this token of the response."""
        return sum(self.lengths[:row]) + self.rows[row][0] + token - 1

    def log_probs(self, row, token):
        """(V,) after the temperature, which verl holds in float32."""
        scaled = self.logits[self.place(row, token)] / torch.tensor(TEMPERATURE).to(self.logits.dtype)
        return scaled - scaled.logsumexp(-1)

    def own_log_probs(self, row):
        prompt, mask, *_ = self.rows[row]
        own = [self.log_probs(row, token)[self.ids[row][prompt + token]] for token in range(len(mask))]
        return torch.stack(own)


def run_engine(example, loss):
    """``forward_step`` of verl without a model: its inputs, its outputs, its two calls of the loss."""
    engine = SimpleNamespace(
        pad_to_length=False,
        use_ulysses_sp=False,
        engine_config=SimpleNamespace(entropy_checkpointing=False, entropy_from_logits_with_chunking=False),
        compute_entropy_from_logits=verl_F.entropy_from_logits,
    )
    for name in ("_get_packed_pad_size", "_gather_and_unpad_packed", "prepare_model_inputs", "prepare_model_outputs"):
        setattr(engine, name, functools.partial(getattr(FSDPEngineWithLMHead, name), engine))
    _, output_args = engine.prepare_model_inputs(example.data)
    logits = example.logits * 1.0  # a model's logits are not a leaf
    example.seen = logits
    if example.remove_padding:
        logits = logits[None]
    else:
        longest = max(example.lengths)
        parts = [torch.nn.functional.pad(p, (0, 0, 0, longest - len(p))) for p in logits.split(example.lengths)]
        logits = torch.stack(parts)
    output = SimpleNamespace(logits=logits)
    model_output = engine.prepare_model_outputs(output, output_args, example.data, loss)
    return (model_output, *loss(model_output=model_output, data=example.data, dp_group=None))


@pytest.fixture
def stock(compose):
    """verl's own loss as its worker builds it."""

    def built(*overrides):
        config = compose(
            *("actor_rollout_ref.actor.strategy=fsdp2", "actor_rollout_ref.rollout.n=1"),
            *(f"actor_rollout_ref.actor.{override}" for override in overrides),
        )
        return functools.partial(ppo_loss, config=omega_conf_to_dataclass(config.actor_rollout_ref.actor))

    return built


def settings(**given):
    return DistillationSettings(distillation_topk=K, chunk_tokens=5, **given)


def expected_divergence(student, teacher, alpha, tail):
    """SDPO's formula on two lists of K log-probabilities."""

    def complete(logps):
        if tail:
            return torch.cat([logps, torch.log1p(-logps.exp().sum())[None]])
        return logps - logps.exp().sum().log()

    s, t = complete(student), complete(teacher.double())

    def kl(a, b):
        return (a.exp() * (a - b)).sum()

    if alpha == 0:
        return kl(t, s)
    if alpha == 1:
        return kl(s, t)
    m = ((1 - alpha) * s.exp() + alpha * t.exp()).log()
    return (1 - alpha) * kl(s, m) + alpha * kl(t, m)


def expected(example, *, alpha, tail, is_clip, correct=False, tokens=MINI_BATCH_TOKENS):
    """The two terms of the loss: dual-clipped policy gradient of verl (ε = 0.2, c = 3), and the distillation."""
    policy, distil, divergences = torch.zeros(2, dtype=torch.float64)[0], torch.zeros((), dtype=torch.float64), []
    for row, (prompt, mask, advantage, routed) in enumerate(example.rows):
        scored = 0
        for token, real in enumerate(mask):
            if not real:
                continue
            logps = example.log_probs(row, token)
            ratio = torch.exp(logps[example.ids[row][prompt + token]] - example.old[row][token])
            correction = example.correction[row][token] if correct else 1.0
            plain, clipped = -advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)
            loss = torch.maximum(plain, clipped)
            if advantage < 0:
                loss = loss.clamp(max=-advantage * 3.0)
            policy = policy + loss * correction
            if routed:
                ids, teacher = example.topk[row][scored], example.teacher[row][scored]
                divergences.append(expected_divergence(logps[ids], teacher, alpha, tail))
                factor = 1.0 if is_clip is None else min(ratio.item(), is_clip)
                distil = distil + example.weights[row][token] * factor * correction * divergences[-1]
                scored += 1
    return policy / tokens * RANKS, distil / tokens * RANKS, torch.stack(divergences).sum() / tokens * RANKS


@both_forms
@pytest.mark.parametrize(
    ("alpha", "tail", "is_clip", "correct"),
    [
        (0.0, True, 2.0, False),
        (0.5, True, 2.0, True),
        (1.0, True, None, False),
        (0.5, False, None, True),
        (1.0, False, 1.1, False),
        (0.3, True, 0.5, True),
    ],
)
def test_loss_and_gradient_are_those_of_the_formula(stock, remove_padding, alpha, tail, is_clip, correct):
    example = Example(remove_padding=remove_padding, rollout_is_weights=correct)
    given = settings(alpha=alpha, distillation_add_tail=tail, is_clip=is_clip)
    output, loss, metrics = run_engine(example, DistillationLoss(stock(), given))
    policy, distil, mean = expected(example, alpha=alpha, tail=tail, is_clip=is_clip, correct=correct)
    assert abs(policy) > 1e-3
    assert distil > 1e-3
    torch.testing.assert_close(loss, policy + distil, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(metrics["actor/pg_loss"].values[0], policy.item(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(metrics["actor/distil_loss"].values[0], distil.item(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(metrics["actor/distil_kl"].values[0], mean.item(), rtol=1e-6, atol=1e-9)

    (theirs,) = torch.autograd.grad(policy + distil, example.logits)
    (ours,) = torch.autograd.grad(loss, example.logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)
    # No token of a prompt, of a tool, of a skipped row or of padding has a gradient.
    live = {example.place(row, t) for row, (_, mask, *_) in enumerate(ROWS) for t, real in enumerate(mask) if real}
    silent = [place for place in range(len(ours)) if place not in live]
    assert not ours[silent].any()
    assert output["log_probs"].offsets().tolist() == example.data["input_ids"].offsets().tolist()


@both_forms
def test_entropy_bonus_beside_it_and_the_logits_stay_as_they_are(stock, remove_padding):
    """The entropy reads the logits again in its backward, so their gradient may not take their place."""
    example = Example(remove_padding=remove_padding, calculate_entropy=True)
    _, loss, metrics = run_engine(example, DistillationLoss(stock("entropy_coeff=0.01"), settings(alpha=0.5)))
    policy, distil, _ = expected(example, alpha=0.5, tail=True, is_clip=2.0)
    entropy = torch.zeros((), dtype=torch.float64)
    for row, (_, mask, *_) in enumerate(ROWS):
        for token, real in enumerate(mask):
            logps = example.log_probs(row, token)
            entropy = entropy - real * (logps.exp() * logps).sum()
    whole = policy + distil - 0.01 * entropy / MINI_BATCH_TOKENS * RANKS
    torch.testing.assert_close(loss, whole, rtol=1e-10, atol=1e-12)
    assert "actor/entropy_loss" in metrics
    (theirs,) = torch.autograd.grad(whole, example.logits)
    before = example.seen.detach().clone()
    (ours,) = torch.autograd.grad(loss, example.logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)
    assert torch.equal(example.seen, before)


@pytest.mark.parametrize("calculate_entropy", [False, True])
def test_the_gradient_takes_the_logits_place_only_if_nobody_reads_them_again(stock, calculate_entropy):
    """At temperature 1, where verl hands the model's logits over as they are."""
    example = Example(calculate_entropy=calculate_entropy, temperature=1.0)
    before = example.logits.detach().clone()
    _, loss, _ = run_engine(example, DistillationLoss(stock(), settings()))
    assert torch.equal(example.seen, before)
    loss.backward()
    assert torch.equal(example.seen, before) == calculate_entropy
    assert torch.equal(example.logits, before)  # the leaf in any case


def test_an_update_at_temperature_one_has_the_same_gradient_with_and_without_overwriting(stock):
    gradients = []
    for calculate_entropy in (False, True):
        example = Example(calculate_entropy=calculate_entropy, temperature=1.0)
        _, loss, _ = run_engine(example, DistillationLoss(stock("entropy_coeff=0"), settings()))
        gradients += torch.autograd.grad(loss, example.logits)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


@both_forms
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_log_probs_are_those_that_verl_would_have_made(stock, remove_padding, dtype, autocast):
    """To the bit, in the precision and the autocast that verl's engine has in both passes."""
    ours = Example(dtype=dtype, remove_padding=remove_padding)
    theirs = Example(dtype=dtype, remove_padding=remove_padding, distillation_use_topk=False, distillation_only=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output, _, _ = run_engine(ours, DistillationLoss(stock(), settings()))
        stock_output, _, _ = run_engine(theirs, stock())
    assert "divergence" not in stock_output
    assert torch.equal(output["log_probs"].values(), stock_output["log_probs"].values())


@both_forms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_at_unchanged_weights_the_ratio_is_1(stock, remove_padding, dtype):
    """Every token's factor min(π/π_old, is_clip) is then 1, and so is the ratio of verl's own loss."""
    given = {"dtype": dtype, "remove_padding": remove_padding}
    before = Example(distillation_only=False, **given)
    with torch.no_grad():
        old, _, _ = run_engine(before, StudentTopk(K, chunk_tokens=3))
    losses = []
    for is_clip in (2.0, None):
        example = Example(**given)
        example.data["old_log_probs"] = nested(
            [row[prompt - 1 : -1] for row, (prompt, *_) in zip(old["log_probs"].unbind(), ROWS, strict=True)]
        )
        _, _, metrics = run_engine(example, DistillationLoss(stock(), settings(is_clip=is_clip)))
        assert metrics["actor/ppo_kl"].values == [0.0]
        assert metrics["actor/pg_clipfrac"].values == [0.0]
        losses.append(metrics["actor/distil_loss"].values)
    assert losses[0] == losses[1] != [0.0]


@both_forms
def test_a_batch_without_targets_is_verls_business_alone(stock, remove_padding):
    """Nothing is routed: the worker leaves verl's flags alone, and the batch has none of our fields."""
    results = []
    for wrap in (lambda loss: loss, lambda loss: DistillationLoss(loss, settings())):
        example = Example(remove_padding=remove_padding, distillation_use_topk=False, distillation_only=False)
        for name in ("distil_mask", "distil_weight", "distil_topk_ids", "distil_teacher_logps"):
            del example.data[name]
        output, loss, metrics = run_engine(example, wrap(stock()))
        (gradient,) = torch.autograd.grad(loss, example.logits)
        said = {key: getattr(value, "values", value) for key, value in metrics.items()}
        results.append((sorted(output.keys()), loss.item(), said, gradient))
    (names, loss, metrics, gradient), (our_names, our_loss, our_metrics, our_gradient) = results
    assert our_names == names == ["log_probs"]
    assert our_loss == loss
    assert our_metrics == metrics
    assert torch.equal(our_gradient, gradient)


def test_rows_without_a_teacher_in_a_batch_with_targets_have_verls_loss(stock):
    """A micro-batch may hold GRPO rows only, all of whose K fields are empty."""
    rows = tuple(row for row in ROWS if not row[3])
    example = Example(rows)
    _, loss, metrics = run_engine(example, DistillationLoss(stock(), settings()))
    theirs = Example(rows, distillation_use_topk=False, distillation_only=False)
    _, stock_loss, _ = run_engine(theirs, stock())
    torch.testing.assert_close(loss, stock_loss, rtol=1e-12, atol=0)
    assert metrics["actor/distil_loss"].values[0] == 0
    # verl adds up the values of the micro-batches rank by rank, and wants as many of each
    with_targets = run_engine(Example(), DistillationLoss(stock(), settings()))[2]
    for name in ("actor/distil_loss", "actor/distil_kl"):
        assert metrics[name].values == [0.0]
        assert Metric.aggregate_dp([with_targets[name], metrics[name]]) >= 0
    (ours,) = torch.autograd.grad(loss, example.logits)
    (expected_gradient,) = torch.autograd.grad(stock_loss, theirs.logits)
    torch.testing.assert_close(ours, expected_gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("targets", [True, False])
def test_a_mini_batch_without_tokens_has_loss_zero_and_gradient_zero(stock, targets):
    """All of it skipped: verl's own loss is 0 / 0."""
    rows = ((3, [0, 0], 0.0, False), (2, [0], 0.0, False))
    flags = {"distillation_use_topk": targets, "distillation_only": targets}
    example = Example(rows, batch_num_tokens=0, **flags)
    _, loss, _ = run_engine(example, DistillationLoss(stock(), settings()))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, example.logits)
    assert not gradient.any()
    example = Example(rows, batch_num_tokens=0, distillation_use_topk=False, distillation_only=False)
    assert math.isnan(run_engine(example, stock())[1].item())


def test_the_sum_over_micro_batches_and_ranks_is_the_loss_of_the_whole(stock):
    """Split in any way, the parts add up: verl averages gradients over ranks and sums them over micro-batches."""
    parts = []
    for kept in ((0, 1), (2, 3, 4, 5)):
        example = Example()
        full = example.data
        cut = Example(tuple(ROWS[row] for row in kept))
        for name in set(full.keys()):
            if isinstance(full[name], torch.Tensor):
                make = jagged if full[name].dim() == 3 else nested
                cut.data[name] = make([full[name].unbind()[row] for row in kept])
        spans = torch.arange(sum(example.lengths)).split(example.lengths)
        cut.logits = example.logits.detach()[torch.cat([spans[row] for row in kept])].requires_grad_()
        parts.append(run_engine(cut, DistillationLoss(stock(), settings()))[1])
    whole = run_engine(Example(), DistillationLoss(stock(), settings()))[1]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_targets_in_half_precision_change_the_loss_by_a_thousandth_at_most(stock, alpha):
    """A log-probability of −8 is off by 0.004 at most, one of −0.1 by 0.00005."""
    losses, gradients = [], []
    for dtype in (torch.float32, torch.float16):
        example = Example(dtype=torch.float32)
        example.data["distil_teacher_logps"] = jagged([rounded(part, dtype) for part in example.teacher])
        _, loss, metrics = run_engine(example, DistillationLoss(stock(), settings(alpha=alpha)))
        losses.append(metrics["actor/distil_loss"].values[0])
        gradients += torch.autograd.grad(loss, example.logits)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-3 * gradients[0].abs().max().item())


def test_a_length_that_verl_padded_is_refused(stock):
    example = Example()
    with pytest.raises(RuntimeError, match=r"rows of logits for \d+ tokens"):
        DistillationLoss(stock(), settings())(
            student_logits=torch.zeros(1, sum(example.lengths) + 3, V), data=example.data
        )


@both_forms
def test_the_students_most_likely_tokens_are_noted_beside_verls_log_probs(remove_padding):
    flags = {"distillation_only": False, "remove_padding": remove_padding, "calculate_entropy": True}
    example = Example(**flags)
    with torch.no_grad():
        output, loss, metrics = run_engine(example, StudentTopk(K, chunk_tokens=3))
        plain = Example(**flags, distillation_use_topk=False)
        stock_output, _, _ = run_engine(plain, lambda **_: (None, {}))
    assert (float(loss), metrics) == (0.0, {})
    assert torch.equal(output["log_probs"].values(), stock_output["log_probs"].values())
    assert torch.equal(output["entropy"].values(), stock_output["entropy"].values())
    for row, ids in enumerate(output["distil_topk_ids"].unbind()):
        _, mask, _, routed = ROWS[row]
        wanted = [example.log_probs(row, t).topk(K).indices for t, real in enumerate(mask) if real and routed]
        assert ids.dtype == torch.int32
        assert ids.tolist() == [w.tolist() for w in wanted]


@both_forms
def test_the_teachers_targets_in_half_precision(remove_padding):
    """float16 has 11 binary digits, so a rounded value is off by at most 2**-11 of itself."""
    example = Example(remove_padding=remove_padding, dtype=torch.float32)
    with torch.no_grad():
        said, *_ = run_engine(example, TeacherTargets(3, torch.float16))
        exact, *_ = run_engine(Example(remove_padding=remove_padding, dtype=torch.float32), TeacherTargets(3))
    rounded, exact = (output["distil_teacher_logps"].values() for output in (said, exact))
    assert rounded.dtype == torch.float16
    assert 0 < ((rounded.float() - exact) / exact).abs().max() <= 2**-11


@both_forms
@pytest.mark.parametrize("sampled", [False, True], ids=["top-K", "sampled"])
def test_the_teachers_targets(remove_padding, sampled):
    example = Example(remove_padding=remove_padding)
    if sampled:
        del example.data["distil_topk_ids"]
    with torch.no_grad():
        output, loss, metrics = run_engine(example, TeacherTargets(chunk_tokens=3))
    assert (float(loss), metrics) == (0.0, {})
    assert sorted(output) == ["distil_teacher_logps", "teacher_entropy"]
    said, entropy = output["distil_teacher_logps"].unbind(), output["teacher_entropy"].unbind()
    for row, (prompt, mask, _, routed) in enumerate(ROWS):
        tokens = [t for t, real in enumerate(mask) if real and routed]
        assert len(said[row]) == len(entropy[row]) == len(tokens)
        for place, token in enumerate(tokens):
            logps = example.log_probs(row, token).detach()
            at = logps[example.ids[row][prompt + token]][None] if sampled else logps[example.topk[row][place]]
            torch.testing.assert_close(said[row][place], at, rtol=0, atol=1e-12)
            torch.testing.assert_close(entropy[row][place], -(logps.exp() * logps).sum(), rtol=0, atol=1e-12)


def test_routed_positions():
    example = Example()
    positions, offsets = routed_positions(example.data)
    wanted = [
        example.place(row, token)
        for row, (_, mask, _, routed) in enumerate(ROWS)
        for token, real in enumerate(mask)
        if real and routed
    ]
    assert positions.tolist() == wanted
    assert offsets.tolist() == [0, 0, 4, 4, 4, 8, 8]


def test_the_denominator_is_verls(stock):
    """``agg_loss`` is called with what ``ppo_loss`` has put down for this mini-batch, not with this micro-batch's tokens."""
    example = Example()
    loss = stock()
    _, _, metrics = run_engine(example, DistillationLoss(loss, settings(is_clip=None, alpha=1.0)))
    config = loss.keywords["config"]
    assert config.global_batch_info["batch_num_tokens"] == MINI_BATCH_TOKENS
    _, distil, _ = expected(example, alpha=1.0, tail=True, is_clip=None)
    again = agg_loss(
        loss_mat=torch.tensor([[distil.item() * MINI_BATCH_TOKENS / RANKS]], dtype=torch.float64),
        loss_mask=torch.ones(1, 1, dtype=torch.bool),
        loss_agg_mode="token-mean",
        **config.global_batch_info,
    )
    torch.testing.assert_close(metrics["actor/distil_loss"].values[0], again.item(), rtol=1e-6, atol=0)
