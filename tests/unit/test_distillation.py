"""The distillation loss: against formulas in float64, against numbers recorded from SDPO's code, and against autograd."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from verl_efficiency.methods.distillation import (
    chunked_divergence,
    divergence,
    entropy_weights,
    renormalise,
    sampled_token_loss,
    student_topk,
    teacher_targets,
    with_tail,
)
from verl_efficiency.settings import SettingsError

TOKENS, VOCABULARY, ROUTED = 11, 50, 6
EVERY_FORM = (
    pytest.mark.parametrize("k", [1, 20, VOCABULARY]),
    *(
        pytest.mark.parametrize("add_tail", [True, False]),
        pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 0.3]),
    ),
)

# Recorded from lasgroup/SDPO at 0e6d5106abe69f578c63bf38a9394e22905c8773, verl/trainer/ppo/core_algos.py, by calling its
# unchanged `compute_self_distillation_loss` (with its `agg_loss` and `masked_sum`) in float64, torch 2.13.0, on the tensors
# of `published()` below: log-probabilities = logits − logsumexp at the student's top K as in its dp_actor.py, two responses of
# three tokens, full_logit_distillation, is_clip None, token-mean. First the loss, then Σ direction · ∂loss/∂logits by its
# autograd. K = 50 is the whole vocabulary, for which distillation_topk = None gave the same twelve digits.
PUBLISHED = {  # (alpha, add_tail, K)
    (0.0, True, 1): (0.022937290082, -0.020874365073),
    (0.5, True, 1): (0.006082430831, -0.005543548021),
    (1.0, True, 1): (0.028526011976, -0.027457014688),
    (0.0, True, 20): (0.366241158665, -0.010853710921),
    (0.5, True, 20): (0.096354261531, -0.000658199916),
    (1.0, True, 20): (0.469878537370, 0.019663330480),
    (0.0, True, 50): (0.397834026139, -0.000217981704),
    (0.5, True, 50): (0.102870046848, 0.001426874584),
    (1.0, True, 50): (0.495512924486, 0.028462074334),
    (0.0, False, 1): (0.0, 0.0),
    (0.5, False, 1): (0.0, 0.0),
    (1.0, False, 1): (0.0, 0.0),
    (0.0, False, 20): (0.390104157573, -0.003201034105),
    (0.5, False, 20): (0.101420134966, 0.001759193391),
    (1.0, False, 20): (0.487153067754, 0.033181641779),
    (0.0, False, 50): (0.397834026139, -0.000217981704),
    (0.5, False, 50): (0.102870046848, 0.001426874584),
    (1.0, False, 50): (0.495512924486, 0.028462074334),
}
PUBLISHED_SAMPLED = (5.475682376452, 0.136960488676)  # full_logit_distillation False, ids of `published_sampled()`


def waves(step: float, scale: float) -> torch.Tensor:
    """(6, 50) float64 that look random and depend on no generator."""
    numbers = torch.arange(1, 6 * 50 + 1, dtype=torch.float64)
    return (scale * torch.sin(step * numbers * numbers)).reshape(6, 50)


def published() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The student's and the teacher's logits, and the direction on which the gradient is projected."""
    student = waves(0.37, 3.0)
    return student, 0.8 * student + waves(0.73, 1.5), waves(0.11, 1.0)


def example(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    student, teacher = 3 * torch.randn(2, TOKENS, VOCABULARY, generator=generator, dtype=torch.float64)
    return {
        "logits": student.to(dtype),
        "teacher": teacher.to(dtype),
        "labels": torch.randint(0, VOCABULARY, (TOKENS,), generator=generator),
        "positions": torch.randperm(TOKENS, generator=generator)[:ROUTED],
        "grad_log_probs": torch.randn(TOKENS, generator=generator, dtype=torch.float64),
        "grad_divergence": torch.randn(ROUTED, generator=generator, dtype=torch.float64),
    }


def by_formula(logits, labels, positions, ids, teacher_logp, alpha: float, add_tail: bool):
    """Both outputs with probabilities instead of their logarithms, nothing shared with ours."""
    probabilities = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
    p, q = probabilities[positions].gather(1, ids.long()), torch.exp(teacher_logp)
    if not add_tail:
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    elif ids.shape[1] < logits.shape[1]:  # of the whole vocabulary nothing is left
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
    m = (1 - alpha) * p + alpha * q
    if alpha == 0:
        result = (q * torch.log(q / p)).sum(-1)
    elif alpha == 1:
        result = (p * torch.log(p / q)).sum(-1)
    else:
        result = (1 - alpha) * (p * torch.log(p / m)).sum(-1) + alpha * (q * torch.log(q / m)).sum(-1)
    return torch.log(probabilities.gather(1, labels[:, None])[:, 0]), result


def every_form(test):
    for mark in EVERY_FORM:
        test = mark(test)
    return test


@every_form
def test_values_and_gradients_are_those_of_the_formula(k: int, add_tail: bool, alpha: float):
    x = example()
    ids = student_topk(x["logits"], x["positions"], k)
    teacher, _ = teacher_targets(x["teacher"], x["positions"], ids)
    grads = x["grad_log_probs"], x["grad_divergence"]
    theirs = x["logits"].clone().requires_grad_()
    expected = by_formula(theirs, x["labels"], x["positions"], ids, teacher, alpha, add_tail)
    torch.autograd.backward(expected, grads)
    for chunk_tokens in (1, 4, TOKENS, 1000):
        ours = x["logits"].clone().requires_grad_()
        got = chunked_divergence(
            ours, x["labels"], x["positions"], ids, teacher, alpha=alpha, add_tail=add_tail, chunk_tokens=chunk_tokens
        )
        torch.autograd.backward(got, grads)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-10)


@every_form
def test_gradcheck(k: int, add_tail: bool, alpha: float):
    x = example()
    logits, labels, positions = x["logits"][:3].clone().requires_grad_(), x["labels"][:3], torch.tensor([2, 0])
    ids = student_topk(logits, positions, k)
    teacher, _ = teacher_targets(x["teacher"], positions, ids)

    def outputs(logits):
        form = {"alpha": alpha, "add_tail": add_tail, "chunk_tokens": 2}
        return chunked_divergence(logits, labels, positions, ids, teacher, **form)

    assert torch.autograd.gradcheck(outputs, (logits,))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("alpha", "add_tail", "k"), PUBLISHED)
def test_published_loss_of_sdpo(alpha: float, add_tail: bool, k: int, dtype: torch.dtype, tolerance: float):
    student, teacher, direction = (x.to(dtype) for x in published())
    student.requires_grad_()
    positions = torch.arange(6)
    ids = student_topk(student, positions, k)
    teacher_logp, _ = teacher_targets(teacher, positions, ids)
    labels = torch.zeros(6, dtype=torch.long)
    _, result = chunked_divergence(student, labels, positions, ids, teacher_logp, alpha=alpha, add_tail=add_tail)
    result.mean().backward()
    got = result.mean().item(), (student.grad * direction).sum().item()
    assert got == pytest.approx(PUBLISHED[alpha, add_tail, k], abs=tolerance)


def test_published_loss_of_sdpo_for_sampled_tokens():
    student, teacher, direction = published()
    student.requires_grad_()
    sampled = (torch.arange(6) * 17 % 50)[:, None]
    log_probs, teacher_log_probs = (x.log_softmax(-1).gather(1, sampled) for x in (student, teacher))
    loss = sampled_token_loss(log_probs, teacher_log_probs).mean()
    loss.backward()
    assert (loss.item(), (student.grad * direction).sum().item()) == pytest.approx(PUBLISHED_SAMPLED, abs=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("overwrite", [False, True])
def test_low_precision_logits_are_worked_on_in_float32(dtype: torch.dtype, overwrite: bool):
    x = example(dtype)
    ids = student_topk(x["logits"], x["positions"], 20)
    teacher, entropy = teacher_targets(x["teacher"], x["positions"], ids)
    exact, exact_entropy = teacher_targets(x["teacher"].double(), x["positions"], ids)
    assert teacher.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(teacher.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropy.double(), exact_entropy, rtol=1e-5, atol=1e-6)

    form = {"alpha": 0.5, "add_tail": True, "chunk_tokens": 4}
    results = []
    for leaf, in_place in ((x["logits"].clone(), overwrite), (x["logits"].double(), False)):
        leaf.requires_grad_()
        got = chunked_divergence(
            leaf.view_as(leaf), x["labels"], x["positions"], ids, exact, **form, overwrite_logits=in_place
        )
        torch.autograd.backward(got, [x[name].to(got[0].dtype) for name in ("grad_log_probs", "grad_divergence")])
        results.append((*got, leaf.grad))
    ours, reference = results
    assert ours[0].dtype == ours[1].dtype == torch.float32
    assert ours[2].dtype == dtype
    torch.testing.assert_close(ours[0].double(), reference[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[1].double(), reference[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[2].double(), reference[2], rtol=2 * torch.finfo(dtype).eps, atol=2e-6)


def scaled(hidden, weight, temperature):  # as verl does when it is not 1
    return (hidden @ weight).squeeze(0) / temperature


def scaled_in_place(hidden, weight, temperature):
    return (hidden @ weight).squeeze(0).div_(temperature)


def view_only(hidden, weight, temperature):
    return (hidden @ (weight / temperature)).squeeze(0)


@pytest.mark.parametrize("head", [scaled, scaled_in_place, view_only])
def test_overwritten_logits_give_the_same_gradient_behind_a_head(head):
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(1, TOKENS, 8, generator=generator), torch.randn(8, VOCABULARY, generator=generator)
    temperature = torch.full((TOKENS, 1), 0.7) if head is not view_only else torch.tensor(0.7)
    x = example()
    ids = student_topk(x["logits"], x["positions"], 5)
    teacher, _ = teacher_targets(x["teacher"].float(), x["positions"], ids)
    grads = {}
    for overwrite in (False, True):
        inputs = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        logits = head(*inputs, temperature)
        before = logits.detach().clone()
        outputs = chunked_divergence(
            logits,
            x["labels"],
            x["positions"],
            ids,
            teacher,
            alpha=0.5,
            add_tail=True,
            chunk_tokens=3,
            overwrite_logits=overwrite,
        )
        torch.autograd.backward(outputs, [x["grad_log_probs"].float(), x["grad_divergence"].float()])
        grads[overwrite] = [tensor.grad for tensor in inputs]
        assert torch.equal(logits, before) != overwrite
    assert all(torch.equal(a, b) for a, b in zip(grads[False], grads[True], strict=True))


def overwriting(logits):
    """The sum of the outputs of a call that overwrites ``logits`` in backward."""
    x = example()
    ids = torch.arange(3).expand(ROUTED, 3)
    teacher = torch.full((ROUTED, 3), math.log(0.2), dtype=torch.float64)
    form = {"alpha": 0.5, "add_tail": True, "overwrite_logits": True}
    log_probs, result = chunked_divergence(logits, x["labels"], x["positions"], ids, teacher, **form)
    return log_probs.sum() + result.sum()


def test_overwriting_is_refused_where_it_would_be_wrong():
    leaf = example()["logits"].requires_grad_()
    with pytest.raises(ValueError, match="leaf"):
        overwriting(leaf)
    logits = leaf * 1
    early = logits.exp() * 0 + logits.square()  # square needs the logits in its backward, which runs after ours
    with pytest.raises(RuntimeError, match="inplace operation"):
        (early.sum() + overwriting(logits)).backward()
    loss = overwriting(leaf * 1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest storage that any operation made or returned a view of."""

    def __init__(self, known: set[int]):
        super().__init__()
        self.known, self.largest = known, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


def test_nothing_larger_than_a_chunk_is_made():
    tokens, vocabulary, chunk, k = 256, 1000, 4, 3
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(tokens, vocabulary, generator=generator).requires_grad_() * 1
    labels, positions = torch.zeros(tokens, dtype=torch.long), torch.arange(tokens)
    with LargestTensor({logits.untyped_storage().data_ptr()}) as made:
        ids = student_topk(logits, positions, k, chunk_tokens=chunk)
        teacher, _ = teacher_targets(logits, positions, ids, chunk_tokens=chunk)
        form = {"alpha": 0.5, "add_tail": True, "chunk_tokens": chunk, "overwrite_logits": True}
        outputs = chunked_divergence(logits, labels, positions, ids, teacher, **form)
        (grad,) = torch.autograd.grad(outputs, logits, [torch.ones(tokens), torch.ones(tokens)])
    assert grad.data_ptr() == logits.data_ptr()
    assert made.largest == 4 * chunk * vocabulary  # bytes; all N × V would be 64 times as much


def test_autocast_changes_nothing():  # verl calls the loss within it
    x = example(torch.float32)
    results = []
    for enabled in (False, True):
        leaf = x["logits"].clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            ids = student_topk(leaf, x["positions"], 20)
            teacher, entropy = teacher_targets(x["teacher"], x["positions"], ids)
            outputs = chunked_divergence(leaf, x["labels"], x["positions"], ids, teacher, alpha=0.5, add_tail=True)
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        results.append((teacher, entropy, *outputs, leaf.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("tokens", "routed"), [(0, 0), (5, 0)])
@pytest.mark.parametrize("add_tail", [True, False])
def test_nothing_routed_and_nothing_at_all(tokens: int, routed: int, add_tail: bool):
    logits = torch.randn(tokens, 7, dtype=torch.float64).requires_grad_()
    labels, positions = torch.zeros(tokens, dtype=torch.long), torch.zeros(routed, dtype=torch.long)
    ids = student_topk(logits, positions, 3)
    teacher, entropy = teacher_targets(logits, positions, ids)
    assert ids.shape == teacher.shape == (0, 3)
    assert entropy.shape == (0,)
    log_probs, result = chunked_divergence(logits, labels, positions, ids, teacher, alpha=0.5, add_tail=add_tail)
    assert result.shape == (0,)
    (log_probs.sum() + result.sum()).backward()
    expected = torch.nn.functional.one_hot(labels, 7) - logits.detach().softmax(-1)
    torch.testing.assert_close(logits.grad, expected)


def test_tail_completes_to_one_and_an_empty_tail_has_no_nan():
    logp = torch.tensor([[0.5, 0.2], [0.1, 0.6]], dtype=torch.float64).log()
    torch.testing.assert_close(with_tail(logp).exp()[:, 2], torch.tensor([0.3, 0.3], dtype=torch.float64))
    full = torch.randn(4, 6).requires_grad_()  # K = V in float32: the sum rounds to either side of 1
    teacher = torch.randn(4, 6).log_softmax(-1)
    for alpha in (0.0, 0.5, 1.0):
        (grad,) = torch.autograd.grad(
            divergence(with_tail(full.log_softmax(-1)), with_tail(teacher), alpha).sum(), full
        )
        plain = divergence(full.log_softmax(-1), teacher, alpha)
        (expected,) = torch.autograd.grad(plain.sum(), full)
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_student_without_a_tail_against_a_teacher_with_one(alpha: float):
    logits = torch.tensor([[40.0, 38.0, 1.0, 0.0, -2.0]], dtype=torch.float64).requires_grad_()
    ids, teacher = torch.tensor([[0, 1]]), torch.tensor([[0.3, 0.4]], dtype=torch.float64).log()
    plain = divergence(with_tail(logits.log_softmax(-1)[:, :2]), with_tail(teacher), alpha)
    (expected,) = torch.autograd.grad(plain.sum(), logits)
    zero = torch.zeros(1, dtype=torch.long)
    _, ours = chunked_divergence(logits, zero, zero, ids, teacher, alpha=alpha, add_tail=True)
    (grad,) = torch.autograd.grad(ours.sum(), logits)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-12)


def test_divergence_against_a_hand_computed_example():
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert divergence(student, teacher, 0.0).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert divergence(student, teacher, 1.0).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    to_student = 0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625)
    to_teacher = 0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)
    assert divergence(student, teacher, 0.5).item() == pytest.approx(0.5 * to_student + 0.5 * to_teacher)
    torch.testing.assert_close(renormalise(torch.tensor([[0.2, 0.6]]).log()).exp(), torch.tensor([[0.25, 0.75]]))


def test_targets_of_the_teacher_with_tokens_that_are_masked_out():
    logits = torch.tensor([[0.0, 0.0, -math.inf], [5.0, 5.0, 5.0]])
    logp, entropy = teacher_targets(logits, torch.tensor([1, 0]), torch.tensor([[2], [1]]), chunk_tokens=1)
    torch.testing.assert_close(logp[:, 0], -entropy)
    torch.testing.assert_close(entropy, torch.tensor([math.log(3), math.log(2)]))


def test_ids_of_the_student():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 9.0, 4.0]]).bfloat16()
    assert student_topk(logits, torch.tensor([1, 0]), 2).tolist() == [[1, 2], [0, 2]]
    assert student_topk(logits, torch.tensor([0]), 100).tolist() == [[0, 2, 1]]  # no more than there are


def test_entropy_weights():
    entropy = torch.tensor([0.0, math.log(2), math.log(4)])
    torch.testing.assert_close(entropy_weights(entropy, 1.0), torch.tensor([12 / 7, 6 / 7, 3 / 7]))
    torch.testing.assert_close(entropy_weights(entropy, 0.0), torch.ones(3))
    torch.testing.assert_close(
        entropy_weights(entropy + 11, 100.0), torch.tensor([3.0, 0.0, 0.0])
    )  # e^−1100 underflows
    assert entropy_weights(torch.empty(0), 1.0).shape == (0,)
    assert entropy_weights(entropy.bfloat16(), 1.0).dtype == torch.float32
    with pytest.raises(ValueError, match="finite"):
        entropy_weights(torch.tensor([1.0, math.nan]), 1.0)
    with pytest.raises(SettingsError, match="beta: must be"):
        entropy_weights(entropy, -1.0)


@pytest.mark.parametrize("positions", [[0, 1, 1], [0, 1, 4], [-1, 0, 1]])
def test_positions_twice_or_outside_are_refused(positions: list[int]):
    logits, ids = torch.zeros(4, 3), torch.zeros(3, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="from 0 to 3, each once"):
        chunked_divergence(
            logits,
            torch.zeros(4, dtype=torch.long),
            torch.tensor(positions),
            ids,
            ids.float(),
            alpha=0.5,
            add_tail=True,
        )


def test_wrong_shapes_and_settings_are_refused():
    logits, labels, positions = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), torch.arange(2)
    ids, teacher = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1)
    for wrong in (
        (labels[:3], positions, ids, teacher),
        (labels, positions[:1], ids, teacher),
        (labels, positions, ids, ids.T),
    ):
        with pytest.raises(ValueError, match=r"expected \(T, V\)"):
            chunked_divergence(logits, *wrong, alpha=0.5, add_tail=True)
    with pytest.raises(SettingsError, match=r"alpha: must be in \[0, 1\], got 1.5"):
        chunked_divergence(logits, labels, positions, ids, teacher, alpha=1.5, add_tail=True)
    with pytest.raises(SettingsError, match="chunk_tokens"):
        chunked_divergence(logits, labels, positions, ids, teacher, alpha=0.5, add_tail=True, chunk_tokens=0)
