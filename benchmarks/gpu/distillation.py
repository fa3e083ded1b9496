"""The distillation loss at a real vocabulary in bf16: error against float64, memory and time beside the unchunked forms.

    python -m benchmarks.gpu.distillation [--device cuda] [--quick]

The error: our log-probabilities, divergences and gradient from bf16 logits, against plain autograd in float64 on the same
logits. The gradient is written in bf16, whose own rounding is 2^-9 = 0.2 % of a value; its error is given as the norm of the
difference over the norm. Memory and time: ``benchmarks/distillation.py``, one process per pass, also for verl's own top-k loss
(which is another divergence: forward KL without tail; it answers what verl's form costs, not what it computes).
"""

import torch
from torch import Tensor

from benchmarks.distillation import ALPHA, VOCABULARY, in_child, make_inputs
from benchmarks.gpu.common import Row, done_before, read_options, save
from verl_efficiency.methods.distillation import CHUNK_TOKENS, chunked_divergence, divergence, with_tail

GRADIENT_LIMIT, VALUE_LIMIT = 2**-8, 1e-5
LIMIT_GIB = {"cpu": 12, "cuda": 78}


def errors(tokens: int, device: str) -> dict[str, float]:
    """The largest error of the two outputs, relative above 1, and the relative error of the gradient."""
    logits, *given = make_inputs(tokens, torch.bfloat16, device)
    exact = logits.detach().double().requires_grad_()
    expected = exact_form(exact, *given[:3], given[3].double())
    ours = chunked_divergence(logits, *given, alpha=ALPHA, add_tail=True)
    found = {}
    for name, value, right in zip(("log_probs", "divergence"), ours, expected, strict=True):
        found[name] = ((value.double() - right).abs() / right.abs().clamp_min(1)).max().item()
    # Weights that differ from token to token, so that a gradient in the wrong row is seen.
    weights = [torch.linspace(0.5, 1.5, len(value), device=device, dtype=torch.float64) for value in expected]
    right = torch.autograd.grad(expected, exact, weights)[0]
    got = torch.autograd.grad(ours, logits, [weight.float() for weight in weights])[0]
    found["gradient"] = ((got.double() - right).norm() / right.norm()).item()
    return found


def exact_form(
    logits: Tensor, labels: Tensor, positions: Tensor, ids: Tensor, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    """Both outputs by plain autograd, in the precision of the logits."""
    logp = logits.log_softmax(-1)
    student = logp[positions[:, None], ids]
    return logp.gather(1, labels[:, None])[:, 0], divergence(with_tail(student), with_tail(teacher), ALPHA)


def main() -> None:
    options = read_options(__doc__)
    if done_before("distillation", options):
        return
    tokens = 512 if options.small else 8192
    found = errors(64, options.device)
    forms = [("ours", CHUNK_TOKENS), ("shared", 0), ("verl", 0), ("verl, chunked", CHUNK_TOKENS)]
    limit = LIMIT_GIB[options.device]
    passes = {form: in_child(limit, form, chunk, tokens, "bfloat16", options.device) for form, chunk in forms}
    values = max(found["log_probs"], found["divergence"])
    rows = [
        Row(
            f"distillation in bf16 against float64, V = {VOCABULARY:,}: values",
            f"{values:.1e}",
            f"at most {VALUE_LIMIT:.0e}",
            values <= VALUE_LIMIT,
        ),
        Row(
            "its gradient",
            f"{found['gradient']:.1e}",
            f"at most {GRADIENT_LIMIT:.1e}",
            found["gradient"] <= GRADIENT_LIMIT,
        ),
    ]
    names = {"ours": "ours", "shared": "full-logits form", "verl": "verl's", "verl, chunked": "verl's, chunked"}
    for form, measured in passes.items():
        figure = "out of memory"
        if measured is not None:
            figure = f"{measured['bytes'] / 2**20:,.0f} MiB above the logits, {measured['seconds']:.2f} s"
        rows.append(Row(f"one pass over {tokens} tokens, {names[form]}", figure))
    full, ours = passes["shared"], passes["ours"]
    if full and ours:
        share = ours["bytes"] / full["bytes"]
        rows.append(Row("our memory over that of the full-logits form", f"{share:.3f}", "below 1", share < 1))
    save("distillation", options, rows, errors=found, passes=passes, tokens=tokens)


if __name__ == "__main__":
    main()
