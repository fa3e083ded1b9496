"""The self-distillation loss: the divergence between the student's and the teacher's next token, computed in chunks.

Student s and teacher t are log-probabilities of the *student's* K most likely tokens, normalised over the whole vocabulary. To
make them sum to 1, :func:`with_tail` adds a tail bucket log(1 − Σₖ exp sₖ), or :func:`renormalise` normalises within the K.
Over these buckets, with KL(a‖b) = Σ exp(a)·(a − b)::

    D = KL(t‖s)                          alpha = 0
    D = KL(s‖t)                          alpha = 1
    D = (1 − α)·KL(s‖m) + α·KL(t‖m)      otherwise; exp m = (1 − α)·exp s + α·exp t   (Jensen–Shannon for α = 0.5)

This is the loss of SDPO (arXiv 2601.20802, code lasgroup/SDPO). SRPO (arXiv 2604.02288) adds weights from the teacher's entropy
(:func:`entropy_weights`). Ids, teacher and weights are constants, so only the student gets gradients.

Order of calls: :func:`student_topk` and :func:`teacher_targets` in two forward-only passes, :func:`entropy_weights` on the
whole batch, :func:`chunked_divergence` in the training pass. Names end in their dimensions: T tokens of a packed micro-batch,
N routed tokens, K ids, V the vocabulary, C tokens of a chunk.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from verl_efficiency.settings import require

CHUNK_TOKENS = 256  # tokens in float32 at once: 156 MB for a vocabulary of 151,936
FULL = -1e-7  # above this log Σ exp of the K, the tail counts as empty: its bucket is the constant 1e-7, as in SDPO


def entropy_weights(entropy_N: Tensor, beta: float) -> Tensor:
    """(N,) float32: exp(−beta·H) divided by its mean.

    Args:
        entropy_N: entropy H of the teacher in nats at every routed token of the *whole* batch.
        beta: at least 0; 0 gives equal weights.

    >>> entropy_weights(torch.tensor([0.0, math.log(3.0)]), beta=1.0)
    tensor([1.5000, 0.5000])
    """
    require(beta >= 0, "beta", beta, "a number of at least 0")
    if not entropy_N.isfinite().all():
        raise ValueError("entropy_weights: the teacher's entropy must be finite; look for NaN in its logits")
    if entropy_N.numel() == 0:
        return entropy_N.float()
    entropy_N = entropy_N.double()
    weights_N = torch.exp(-beta * (entropy_N - entropy_N.min()))  # the shift cancels, and prevents underflow
    return (weights_N / weights_N.mean()).float()


def with_tail(logp_NK: Tensor) -> Tensor:
    """(N, K + 1): one more column with the log-probability of all other tokens; a constant for probabilities below 1e-7."""
    inside_N1 = logp_NK.logsumexp(-1, keepdim=True).clamp(max=FULL)
    return torch.cat([logp_NK, torch.log(-torch.expm1(inside_N1))], dim=-1)


def renormalise(logp_NK: Tensor) -> Tensor:
    """(N, K): log-probabilities conditional on the token being one of the K."""
    return logp_NK.log_softmax(-1)


def divergence(student_logp_NK: Tensor, teacher_logp_NK: Tensor, alpha: float) -> Tensor:
    """(N,) nats: D of the module's formula, between log-probabilities that sum to 1; differentiable by autograd.

    >>> half, quarter = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(divergence(half, quarter, alpha=1.0).item(), 6)  # 0.5·ln(0.5 / 0.25) + 0.5·ln(0.5 / 0.75)
    0.143841
    """
    require(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
    if alpha == 0:
        return _kl(teacher_logp_NK, student_logp_NK)
    if alpha == 1:
        return _kl(student_logp_NK, teacher_logp_NK)
    mixture_NK = _mixture(student_logp_NK, teacher_logp_NK, alpha)
    return (1 - alpha) * _kl(student_logp_NK, mixture_NK) + alpha * _kl(teacher_logp_NK, mixture_NK)


def sampled_token_loss(log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """SDPO without top-K: (log π − log q)·log π of the sampled tokens, any shape; the bracket has no gradient.

    The expected gradient is that of KL(student‖teacher), which is alpha = 1. The value has no meaning.
    """
    return (log_probs - teacher_log_probs).detach() * log_probs


@torch.no_grad()
def student_topk(logits_TV: Tensor, positions_N: Tensor, k: int, *, chunk_tokens: int = CHUNK_TOKENS) -> Tensor:
    """(N, K) int32: the ids of the K largest logits at each position, in descending order; K = min(``k``, V), as in SDPO."""
    require(k >= 1, "k", k, "a whole number of at least 1")
    k = min(k, logits_TV.shape[1])
    ids_NK = torch.empty(len(positions_N), k, dtype=torch.int32, device=logits_TV.device)
    for part in _parts(len(positions_N), chunk_tokens):
        ids_NK[part] = logits_TV[positions_N[part]].topk(k, dim=-1).indices.int()
    return ids_NK


@torch.no_grad()
def teacher_targets(
    logits_TV: Tensor, positions_N: Tensor, topk_ids_NK: Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """The teacher's log-probabilities at the ids, (N, K), and its entropy over the whole vocabulary, (N,).

    Both are in nats and float32 (float64 for float64 logits). The logits must already be divided by the temperature.
    """
    dtype = torch.promote_types(logits_TV.dtype, torch.float32)
    logp_NK = torch.empty(topk_ids_NK.shape, dtype=dtype, device=logits_TV.device)
    entropy_N = torch.empty(len(positions_N), dtype=dtype, device=logits_TV.device)
    for part in _parts(len(positions_N), chunk_tokens):
        logp_CV = logits_TV[positions_N[part]].log_softmax(-1, dtype=dtype)
        logp_NK[part] = logp_CV.gather(1, topk_ids_NK[part].long())
        entropy_N[part] = torch.special.entr(logp_CV.exp_()).sum(-1)
    return logp_NK, entropy_N


def rounded(logp_NK: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-probabilities in a smaller type, to be stored. In float16 they keep 3 digits, an error of at most 0.05 %.

    bfloat16 takes the same space with 8 times the error. What float16 cannot hold becomes its lowest number, −65,504, whose
    probability is 0 as well.

    >>> rounded(torch.tensor([-0.1, -1e6]), torch.float16)
    tensor([-9.9976e-02, -6.5504e+04], dtype=torch.float16)
    """
    return logp_NK.clamp(min=torch.finfo(dtype).min).to(dtype)


def chunked_divergence(
    logits_TV: Tensor,
    labels_T: Tensor,
    positions_N: Tensor,
    topk_ids_NK: Tensor,
    teacher_logp_NK: Tensor,
    *,
    alpha: float,
    add_tail: bool,
    chunk_tokens: int = CHUNK_TOKENS,
    overwrite_logits: bool = False,
    label_log_probs: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of the label at every token, (T,), and the divergence D at the routed tokens, (N,); differentiable.

    Forward and backward process ``chunk_tokens`` tokens at a time in float32 (float64 for float64 logits), so the extra memory
    is a few chunks × V. One function returns both, so nothing else has to read the logits. That lets the backward overwrite
    them with their gradient (``overwrite_logits``).

    Args:
        logits_TV: floating point, already divided by the temperature.
        labels_T: the id that follows each token.
        positions_N: indices of the routed tokens, each once, in any order.
        topk_ids_NK: from :func:`student_topk`; any integer type, distinct within a row.
        teacher_logp_NK: from :func:`teacher_targets`; constants.
        alpha: in [0, 1].
        add_tail: True: add the tail bucket. False: normalise within the K.
        overwrite_logits: True: the gradient overwrites the logits. False: it is a new tensor. True is safe if no other
            operation needs the logits in its backward. Autograd sees the write as an in-place change. It raises its usual error
            for such an operation and for a second backward, so no gradient is silently wrong. A leaf is refused.
        label_log_probs: the framework's own function (logits (C, V), labels (C,)) → (C,), called per chunk without gradient. It
            gives the values of the first output, with the framework's rounding. None: in float32. The gradient is that of the
            exact log-probability in both cases.

    Raises:
        SettingsError: ``alpha`` or ``chunk_tokens`` out of range.
        ValueError: shapes do not fit, a position is repeated or out of range, or the logits to overwrite are a leaf.
    """
    require(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
    require(chunk_tokens >= 1, "chunk_tokens", chunk_tokens, "a whole number of at least 1")
    tokens, routed = len(logits_TV), len(positions_N)
    if labels_T.shape != (tokens,) or topk_ids_NK.shape != teacher_logp_NK.shape or len(topk_ids_NK) != routed:
        shapes = [tuple(x.shape) for x in (logits_TV, labels_T, positions_N, topk_ids_NK, teacher_logp_NK)]
        raise ValueError(f"chunked_divergence: expected (T, V), (T,), (N,), (N, K), (N, K), got {shapes}")
    if overwrite_logits and logits_TV.is_leaf and logits_TV.requires_grad:
        raise ValueError("chunked_divergence: overwrite_logits would destroy a leaf tensor; set it to False")
    return _ChunkedDivergence.apply(
        *(logits_TV, labels_T, positions_N, topk_ids_NK, teacher_logp_NK),
        *(alpha, add_tail, chunk_tokens, overwrite_logits, label_log_probs),
    )


class _ChunkedDivergence(torch.autograd.Function):
    """See :func:`chunked_divergence`. z are the logits of a token, p = softmax(z), g and h the gradients of its two outputs::

    ∂ log p(label) / ∂z_v = 1[v = label] − p_v

    D depends on the buckets' log-probabilities x_j. With b_j = exp x_j, d_j = ∂D/∂x_j and E = Σ_j d_j over all buckets::

        ∂D/∂z_v = d_v − b_v·E             v among the K
        ∂D/∂z_v = p_v·(d_tail/b_tail − E) any other v, with tail;   0 without

        alpha = 0: d_j = −exp t_j    alpha = 1: d_j = b_j·(x_j − t_j)    otherwise: d_j = (1 − α)·b_j·(x_j − m_j)

    Since Σ b = 1, a multiple of b_j in d_j cancels in the first two lines, so d_j leaves it out. The gradient of a row is
    p_v·(h·(d_tail/b_tail − E) − g). The K ids have h·(d_j − b_j·E) − g·p_j instead. The label gets g in addition. The values at
    the ids are written and not added: with a small tail, adding would cancel two large numbers.
    """

    @staticmethod
    def forward(
        ctx,
        logits_TV,
        labels_T,
        positions_N,
        topk_ids_NK,
        teacher_logp_NK,
        alpha,
        add_tail,
        chunk_tokens,
        overwrite,
        label_log_probs,
    ):
        ctx.save_for_backward(logits_TV, labels_T, positions_N, topk_ids_NK, teacher_logp_NK)
        ctx.settings = alpha, add_tail, chunk_tokens, overwrite
        complete = with_tail if add_tail else renormalise
        dtype = torch.promote_types(logits_TV.dtype, torch.float32)
        log_probs_T = torch.empty(len(logits_TV), dtype=dtype, device=logits_TV.device)
        divergence_N = torch.empty(len(positions_N), dtype=dtype, device=logits_TV.device)
        for chunk, routed, logp_CV in _chunks(logits_TV, positions_N, chunk_tokens):
            if label_log_probs is None:
                log_probs_T[chunk] = logp_CV.gather(1, labels_T[chunk, None])[:, 0]
            else:
                log_probs_T[chunk] = label_log_probs(logits_TV[chunk], labels_T[chunk])
            at = positions_N[routed, None] - chunk.start, topk_ids_NK[routed].long()
            teacher = complete(teacher_logp_NK[routed].to(dtype))
            divergence_N[routed] = divergence(complete(logp_CV[at]), teacher, alpha)
        return log_probs_T, divergence_N

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_log_probs_T, grad_divergence_N):
        logits_TV, labels_T, positions_N, topk_ids_NK, teacher_logp_NK = ctx.saved_tensors
        alpha, add_tail, chunk_tokens, overwrite = ctx.settings
        # detach() shares the storage and the version counter: see overwrite_logits above
        grad_TV = logits_TV.detach() if overwrite else torch.empty_like(logits_TV)
        for chunk, routed, logp_CV in _chunks(logits_TV.detach(), positions_N, chunk_tokens):
            rows, ids = positions_N[routed] - chunk.start, topk_ids_NK[routed].long()
            student = logp_CV[rows[:, None], ids]
            at_ids, elsewhere = _gradient(student, teacher_logp_NK[routed].to(logp_CV.dtype), alpha, add_tail)
            grad_label, grad_routed = grad_log_probs_T[chunk], grad_divergence_N[routed]
            at_ids = grad_routed[:, None] * at_ids - grad_label[rows, None] * student.exp()
            factor = -grad_label
            factor[rows] += grad_routed * elsewhere
            grad_CV = logp_CV.exp_().mul_(factor[:, None])
            grad_CV[rows[:, None], ids] = at_ids
            grad_CV.scatter_add_(1, labels_T[chunk, None], grad_label[:, None])
            grad_TV[chunk] = grad_CV
        return grad_TV, *[None] * 9


def _gradient(student_nK: Tensor, teacher_nK: Tensor, alpha: float, add_tail: bool) -> tuple[Tensor, Tensor]:
    """∂D/∂z at the K ids, (n, K), and ∂D/∂z / p at all other ids, (n,); formulas in :class:`_ChunkedDivergence`."""
    complete = with_tail if add_tail else renormalise
    x, t = complete(student_nK), complete(teacher_nK)
    b = x.exp()
    if alpha == 0:
        d = -t.exp()
    elif alpha == 1:
        d = b * (x - t)
    else:
        d = (1 - alpha) * b * (x - _mixture(x, t, alpha))
    if not add_tail:
        return d - b * d.sum(-1, keepdim=True), torch.zeros_like(d[:, 0])
    d[:, -1].masked_fill_(student_nK.logsumexp(-1) > FULL, 0)  # there the tail is constant
    total = d.sum(-1)
    return (d - b * total[:, None])[:, :-1], d[:, -1] / b[:, -1] - total


def _kl(a: Tensor, b: Tensor) -> Tensor:
    return (a.exp() * (a - b)).sum(-1)


def _mixture(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    return torch.logaddexp(student + math.log(1 - alpha), teacher + math.log(alpha))


def _parts(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _chunks(logits_TV: Tensor, positions_N: Tensor, size: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Per chunk: its tokens, which of the N are in it, and the log-softmax of its logits (in a reused buffer)."""
    tokens = len(logits_TV)
    order_N = positions_N.argsort()
    sorted_N = positions_N[order_N]
    parts = list(_parts(tokens, size))
    edges = torch.tensor([0, *(part.stop for part in parts)], dtype=sorted_N.dtype, device=sorted_N.device)
    twice = (sorted_N.diff() == 0).sum()[None]
    *places, twice = torch.cat([torch.searchsorted(sorted_N, edges), twice]).tolist()  # the only wait for a GPU
    if twice or places[0] != 0 or places[-1] != len(positions_N):
        raise ValueError(f"positions: must be from 0 to {tokens - 1}, each once")
    dtype = torch.promote_types(logits_TV.dtype, torch.float32)
    buffer_CV = torch.empty(min(size, tokens), logits_TV.shape[1], dtype=dtype, device=logits_TV.device)
    for part, first, stop in zip(parts, places[:-1], places[1:], strict=True):
        logp_CV = buffer_CV[: part.stop - part.start]
        torch.log_softmax(logits_TV[part], -1, dtype=dtype, out=logp_CV)
        yield part, order_N[first:stop], logp_CV
