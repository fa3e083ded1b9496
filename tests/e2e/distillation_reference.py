"""Recomputes a self-distillation step in float64 from verl's dumped rollouts and saved weights.

It follows the papers' formulas with plain transformers and autograd, one sequence at a time. It uses no code of verl or of
this package.
"""

import copy
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION = "<|im_start|>{}<|im_end|>\n<|im_start|>"
TAUGHT = "{}\nCorrect solution:\n\n{}\n\nCorrectly solve the original question."


@dataclass
class Step:
    """The expected values of the step."""

    loss: float
    grad_norm: float
    tokens: int
    routed: dict[str, str]
    entropy: float = math.nan
    weight_largest: float = math.nan
    asked: dict[str, tuple[list[int], list[int], torch.Tensor]] = field(default_factory=dict)

    def answers(self, teacher: torch.nn.Module) -> dict[str, torch.Tensor]:
        """(L, K) per routed rollout: the teacher's log-probabilities at the student's most likely tokens."""
        with torch.no_grad():
            return {
                key: log_probs(teacher, prompt, response).gather(1, top)
                for key, (prompt, response, top) in self.asked.items()
            }


@dataclass
class Row:
    key: str
    group: str
    prompt: list[int]
    question: str
    response: list[int]
    text: str
    score: float


def load(model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager", dtype=torch.float64)


def with_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A copy of ``model`` with ``weights``, by name."""
    other = copy.deepcopy(model)
    parameters = dict(other.named_parameters())
    assert set(parameters) == set(weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return other


def weights_after(folder: Path, step: int, template: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The actor's weights in float64 as verl saved them for Hugging Face."""
    saved = load(folder / "run" / f"global_step_{step}" / "actor" / "huggingface")
    return {
        name: parameter.detach()
        for name, parameter in saved.named_parameters()
        if name in dict(template.named_parameters())
    }


def teacher_after(folder: Path, step: int, template: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The teacher's weights: the ranks' shards, concatenated along the first dimension."""
    files = sorted((folder / "run" / f"global_step_{step}" / "actor").glob("teacher_world_size_*_rank_*.pt"))
    parts = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    whole = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return {name.removeprefix("_orig_mod."): value for name, value in whole.items()}


def read_rows(dump: list[dict], model: Path, limit: int) -> list[Row]:
    """The rollouts of a step, ordered by key. The dump leaves out the EOS token."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    rows = []
    for entry in dump:
        if entry["uid"].startswith("pad"):
            continue
        question, response = entry["input"].strip(), ids(entry["output"])
        if len(response) < limit:
            response = [*response, tokenizer.eos_token_id]
        rows.append(
            Row(
                key=entry["uid"],
                group=entry["uid"].rsplit("_", 2)[0],
                prompt=ids(QUESTION.format(question)),
                question=question,
                response=response,
                text=entry["output"],
                score=entry["score"],
            )
        )
    return rows


def log_probs(model: torch.nn.Module, prompt: list[int], response: list[int]) -> torch.Tensor:
    """(L, V) of each response token."""
    logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0].double()
    return torch.log_softmax(logits[len(prompt) - 1 : -1], -1)


Routes = dict[str, tuple[str, str | None]]


def by_group(rows: list[Row]) -> dict[str, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return groups


def route_samples(rows: list[Row], *, everyone: bool = False, shortest: bool = False) -> Routes:
    """Routes of SRPO, or of SDPO with ``everyone``: key → route, and the demonstration in its teacher's prompt.

    The demonstration is the first correct sibling, or with ``shortest`` the shortest one (ties: the smaller token ids).
    """
    groups, routes = by_group(rows), {}
    for row in rows:
        siblings = [other for other in groups[row.group] if other.score >= 0.5 and other is not row]
        if shortest:
            siblings.sort(key=lambda other: (len(other.response), other.response))
        if siblings and (everyone or row.score < 0.5):
            routes[row.key] = ("distil", siblings[0].text)
        else:
            routes[row.key] = ("skip" if everyone else "grpo", None)
    return routes


def route_by_variance(rows: list[Row], solutions: dict[str, str]) -> Routes:
    """All-correct groups learn from their shortest rollout, all-wrong groups from the solution."""
    routes: Routes = {}
    for group in by_group(rows).values():
        right = [row for row in group if row.score >= 0.5]
        shortest = min(right, key=lambda row: len(row.response)) if len(right) == len(group) else None
        for row in group:
            if 0 < len(right) < len(group):
                routes[row.key] = ("grpo", None)
            elif shortest is None:
                routes[row.key] = ("distil", solutions[row.question])
            else:
                routes[row.key] = ("skip", None) if row is shortest else ("distil", shortest.text)
    return routes


def step(
    rows: list[Row],
    routes: Routes,
    model: Path,
    student: torch.nn.Module,
    teacher: torch.nn.Module,
    *,
    alpha: float,
    beta: float,
    k: int | None,
    taught: str = TAUGHT,
) -> Step:
    """The loss with one denominator; ``k`` None: sampled-token form. The group advantage has no standard deviation.

    ``taught`` is the teacher's question, a template of the student's question and of what the route shows.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    groups = by_group(rows)
    kind = {key: name for key, (name, _) in routes.items()}

    teachers, prompts, weights = {}, {}, {}
    with torch.no_grad():
        for row in rows:
            if kind[row.key] == "distil":
                shown = QUESTION.format(taught.format(row.question, routes[row.key][1]))
                prompts[row.key] = tokenizer(shown, add_special_tokens=False)["input_ids"]
                teachers[row.key] = log_probs(teacher, prompts[row.key], row.response)
    entropies = {key: -(logp.exp() * logp).sum(-1) for key, logp in teachers.items()}
    if entropies:
        every = torch.cat([torch.exp(-beta * entropy) for entropy in entropies.values()])
        weights = {key: torch.exp(-beta * entropy) / every.mean() for key, entropy in entropies.items()}

    tokens = sum(len(row.response) for row in rows if kind[row.key] != "skip")
    student.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    result = Step(loss=0.0, grad_norm=0.0, tokens=tokens, routed=kind)
    for row in rows:
        if kind[row.key] == "skip":
            continue
        logp = log_probs(student, row.prompt, row.response)
        sampled = torch.tensor(row.response)[:, None]
        chosen = logp.gather(1, sampled)[:, 0]
        if kind[row.key] == "grpo":
            scores = [other.score for other in groups[row.group]]
            advantage = row.score - sum(scores) / len(scores) if len(scores) > 1 else row.score
            term = -advantage * torch.exp(chosen - chosen.detach()).sum()
        elif k is None:
            result.asked[row.key] = prompts[row.key], row.response, sampled
            advantage = weights[row.key] * (teachers[row.key].gather(1, sampled)[:, 0] - chosen.detach())
            term = -(advantage * torch.exp(chosen - chosen.detach())).sum()
        else:
            top = logp.detach().topk(k, -1).indices
            result.asked[row.key] = prompts[row.key], row.response, top
            p, q = logp.exp().gather(1, top), teachers[row.key].exp().gather(1, top)
            p = torch.cat([p, 1 - p.sum(-1, keepdim=True)], -1)
            q = torch.cat([q, 1 - q.sum(-1, keepdim=True)], -1)
            if alpha == 1:
                divergence = (p * (p / q).log()).sum(-1)
            else:
                m = (1 - alpha) * p + alpha * q
                divergence = (1 - alpha) * (p * (p / m).log()).sum(-1) + alpha * (q * (q / m).log()).sum(-1)
            term = (weights[row.key] * divergence).sum()
        (term / tokens).backward()
        total += term.detach() / tokens
    result.loss = float(total)
    gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
    result.grad_norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    if entropies:
        result.entropy = float(torch.cat(list(entropies.values())).mean())
        result.weight_largest = float(max(weight.max() for weight in weights.values()))
    return result
