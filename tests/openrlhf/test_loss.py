"""The loss by itself, against the formula written out with plain autograd."""

import pytest
import torch
from openrlhf.models import PolicyLoss

from verl_efficiency.methods.distillation import divergence, with_tail
from verl_efficiency.methods.teacher import DistillationSettings
from verl_efficiency.openrlhf.actor import EfficiencyPolicyLoss

V, K, T = 11, 4, 7
MASK = torch.tensor(
    [[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0]]
)  # (b, T − 1); a tool wrote in the second
ROUTED = (0, 1)


def inputs():
    torch.manual_seed(0)
    logits = torch.randn(3, T, V, requires_grad=True)
    sampled = torch.randint(V, (3, T - 1))
    log_probs = logits[:, :-1].log_softmax(-1).gather(2, sampled[..., None])[..., 0]
    old = (log_probs + torch.randn(3, T - 1)).detach()  # ratios below and above is_clip
    advantages = torch.randn(3, T - 1) * MASK
    advantages[list(ROUTED)] = 0
    targets = [torch.empty(0)] * 3
    for row in ROUTED:
        n = int(MASK[row].sum())
        ids = torch.stack([torch.randperm(V)[:K] for _ in range(n)])
        teacher = torch.randn(n, V).log_softmax(-1).gather(1, ids)
        targets[row] = torch.cat([torch.rand(n, 1), ids.float(), teacher], dim=1)
    return logits, log_probs, old, advantages, targets


@pytest.mark.parametrize("is_clip", [None, 1.2])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_value_and_gradient(alpha, is_clip):
    logits, log_probs, old, advantages, targets = inputs()
    totals = {"dp_size": 2, "batch_num_tokens": torch.tensor(20.0), "global_batch_size": torch.tensor(6.0)}

    loss = EfficiencyPolicyLoss()
    loss.settings = DistillationSettings(alpha=alpha, is_clip=is_clip)
    loss.targets, loss.logits = targets, logits
    got = loss(log_probs, old, advantages, action_mask=MASK, **totals)[0]
    (gradient,) = torch.autograd.grad(got, logits, retain_graph=True)

    want = PolicyLoss()(log_probs, old, advantages, action_mask=MASK, **totals)[0]
    for row in ROUTED:
        places = MASK[row].bool()
        student = logits[row, :-1][places].log_softmax(-1)
        weight, ids, teacher = targets[row][:, 0], targets[row][:, 1 : 1 + K].long(), targets[row][:, 1 + K :]
        distance = divergence(with_tail(student.gather(1, ids)), with_tail(teacher), alpha)
        ratio = (log_probs - old).exp().detach()[row][places]
        ratio = torch.ones_like(ratio) if is_clip is None else ratio.clamp(max=is_clip)
        want = want + (weight * ratio * distance).sum() / 20 * 2
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logits)[0], rtol=1e-4, atol=1e-6)


def test_without_targets_it_is_the_stock_loss():
    _, log_probs, old, advantages, _ = inputs()
    got = EfficiencyPolicyLoss()(log_probs, old, advantages, action_mask=MASK)
    want = PolicyLoss()(log_probs, old, advantages, action_mask=MASK)
    assert [value if value is None else value.item() for value in got] == [v if v is None else v.item() for v in want]


def test_targets_that_do_not_fit_the_tokens_are_refused():
    logits, log_probs, old, advantages, targets = inputs()
    loss = EfficiencyPolicyLoss()
    loss.settings, loss.logits, loss.targets = DistillationSettings(), logits, [targets[0][1:], *targets[1:]]
    with pytest.raises(RuntimeError, match="5 targets for 6"):
        loss(log_probs, old, advantages, action_mask=MASK)


def test_missing_logits_are_refused():
    _, log_probs, old, advantages, targets = inputs()
    loss = EfficiencyPolicyLoss()
    loss.settings, loss.targets = DistillationSettings(), targets
    with pytest.raises(RuntimeError, match="the actor gave no logits"):
        loss(log_probs, old, advantages, action_mask=MASK)
