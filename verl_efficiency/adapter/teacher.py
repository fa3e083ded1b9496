"""What a self-teacher does in every framework: choose the rollouts it scores, ask its questions, weight its answers.

The framework runs the forward passes and holds the targets for the loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verl_efficiency.methods.catalog import Method
from verl_efficiency.methods.distillation import entropy_weights
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import REFERENCE, SKIP, Routes, route
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages, truncate_prompt


@dataclass(frozen=True)
class Plan:
    """Which rollouts of a step learn by what.

    Attributes:
        rollouts: the batch.
        routes: what the router said.
        taught: rows that the teacher scores: those routed to it that have at least one token.
        skipped: rows to take out of every loss and denominator. Empty where nobody else would be left: their advantages are 0
            anyway, and a batch without tokens has no loss.
    """

    rollouts: Rollouts
    routes: Routes
    taught: list[int]
    skipped: list[int]

    @property
    def tokens(self) -> list[int]:
        """How many tokens the teacher scores in each taught rollout."""
        return self.rollouts.lengths_B[self.taught].tolist()


class Teacher:
    """A self-teacher as far as no framework is concerned; derive the framework's own from it.

    Args:
        method: row of the catalog, with a router.
        settings: of the method.
        tokenizer: of the model, with its chat template.
        template_options: further arguments for the chat template, as for the student's prompts.
    """

    def __init__(
        self, method: Method, settings: DistillationSettings, tokenizer: Any, template_options: Mapping | None = None
    ) -> None:
        self.method, self.settings, self.tokenizer = method, settings, tokenizer
        self.template_options = dict(template_options or {})

    def plan(self, rollouts: Rollouts) -> Plan:
        """Ask the method's router, or the user's own."""
        routes = route(self.method.own_router(), rollouts, self.settings)
        skipped_B = rollouts.real_B & (routes.route_B == SKIP)
        some_learn = bool((rollouts.real_B & ~skipped_B).any())
        return Plan(
            rollouts,
            routes,
            taught=(routes.distil_B & (rollouts.lengths_B > 0)).nonzero().flatten().tolist(),
            skipped=skipped_B.nonzero().flatten().tolist() if some_learn else [],
        )

    def prompt(self, plan: Plan, row: int, messages: Sequence[Mapping], responses_B: Sequence[Tensor]) -> Tensor:
        """Token ids of the teacher's prompt for a taught rollout: its question, and a correct response or feedback.

        Args:
            plan: of the step.
            row: the rollout.
            messages: the student's prompt.
            responses_B: token ids of every response of the batch.
        """
        rollouts, source = plan.rollouts, int(plan.routes.source_B[row])
        demonstration = feedback = None
        if source == REFERENCE:
            demonstration = rollouts.references_G[int(rollouts.groups_B[row])]  # type: ignore[index]  # see check_routes
        elif source >= 0:
            demonstration = self.text(responses_B[source])
        if plan.routes.feedback_B[row]:
            feedback = rollouts.feedback_B[row]  # type: ignore[index]  # likewise
        question = teacher_messages(messages, demonstration, feedback, self.settings)
        return torch.tensor(truncate_prompt(self.templated(question), self.settings))

    def templated(self, messages: Sequence[Mapping]) -> list[int]:
        """Token ids of a conversation, up to where the model answers."""
        return self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, **self.template_options
        )

    def text(self, response: Tensor) -> str:
        """A response without special tokens."""
        return self.tokenizer.decode(response, skip_special_tokens=True)

    def weights(self, plan: Plan, entropy: Sequence[Tensor] | None) -> tuple[list[Tensor], dict[str, float]]:
        """The weight of every scored token, and the metrics of the teacher's pass.

        Args:
            plan: of the step.
            entropy: per taught rollout, the teacher's entropy at each of its n tokens, (n,) in nats; None: it was not
                computed, because ``entropy_beta`` is 0.

        Returns:
            Per taught rollout, (n,) float32; the mean over all tokens is 1.
        """
        weights_N = torch.ones(sum(plan.tokens))
        metrics = {}
        if entropy is not None:
            entropy_N = torch.cat(list(entropy))
            weights_N = entropy_weights(entropy_N, self.settings.entropy_beta)
            metrics["teacher_entropy"] = float(entropy_N.mean())
        learning = int(plan.rollouts.lengths_B[plan.routes.route_B != SKIP].sum())
        return list(weights_N.split(plan.tokens)), metrics | {
            "distil_token_share": len(weights_N) / learning,
            "weight_largest": float(weights_N.max()),
            "weight_smallest": float(weights_N.min()),
            "feedback_share": int(plan.routes.feedback_B.sum()) / len(plan.taught),
        }

    def store(self, state: Any, plan: Plan, responses_B: Sequence[Tensor]) -> dict[str, float]:
        """Keep the shortest correct response to each prompt, where the method stores them; the metrics of that."""
        if not (isinstance(state, StoredResponses) and self.settings.keeps_state):
            return {}
        state.offer_all(plan.rollouts, lambda row: self.text(responses_B[row]))
        return {"stored_responses": float(len(state.texts))}

    def moves(self, step: int) -> bool:
        """Whether the running average takes a step after training step ``step``."""
        return self.settings.teacher_regularization == "ema" and step % self.settings.teacher_refresh_steps == 0


def sampled_advantages(
    weights: Sequence[Tensor], teacher: Sequence[Tensor], old: Sequence[Tensor]
) -> tuple[list[Tensor], dict[str, float]]:
    """Distillation on the sampled token: the advantage ``w · (log q − log π_old)``; the framework's own loss does the rest.

    Args:
        weights: per taught rollout, (n,).
        teacher: log q of its n tokens, (n,).
        old: log π_old of the same tokens, (n,).

    Returns:
        Advantages, (n,) per rollout, and the metric ``sampled_kl``, the mean of log π_old − log q.
    """
    gaps = [q - p for q, p in zip(teacher, old, strict=True)]
    return [w * gap for w, gap in zip(weights, gaps, strict=True)], {"sampled_kl": -float(torch.cat(gaps).mean())}


def token_weights(weights: Tensor, log_probs: Tensor, old_log_probs: Tensor, settings: DistillationSettings) -> Tensor:
    """``w · min(π / π_old, is_clip)``, not differentiated; ``w`` where ``is_clip`` is None. All of one shape."""
    if settings.is_clip is None:
        return weights
    return weights * (log_probs - old_log_probs).detach().exp().clamp(max=settings.is_clip)
