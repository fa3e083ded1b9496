"""The part of the self-teacher that all frameworks share: which rollouts it scores, with which prompt and which weights.

* Full form: the loss compares the student with the teacher on the student's top-K tokens.
* Sampled-token form (``full_logit_distillation=False``): a taught token has the advantage ``w · (log q − log π_old)``, where q
  is the teacher. The framework's own loss does the rest.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from verl_efficiency.methods.catalog import Estimator
from verl_efficiency.methods.distillation import entropy_weights
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import REFERENCE, SKIP, Routes, route
from verl_efficiency.methods.routing.variance_routing import VarianceRoutingSettings
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages, truncate_prompt

AT_ONCE = 64  # texts in one call of the tokenizer; more would only take more memory
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How each rollout of a step learns.

    Attributes:
        rollouts: the batch.
        routes: the router's decision.
        taught: rows that the teacher scores: those routed to it that have at least one token.
        skipped: rows to take out of every loss and denominator; empty if no rollout would be left.
    """

    rollouts: Rollouts
    routes: Routes
    taught: list[int]
    skipped: list[int]

    @property
    def tokens(self) -> list[int]:
        """Tokens of each taught rollout."""
        return self.rollouts.lengths_B[self.taught].tolist()


@dataclass(frozen=True)
class Shown:
    """What the teacher's prompt of a rollout holds besides the question: equal for equal prompts.

    Attributes:
        group: the group, which stands for the question.
        source: the demonstration, see ``Routes.source_B``.
        feedback: the reward's feedback on the rollout, or None.
    """

    group: int
    source: int
    feedback: str | None

    @classmethod
    def of(cls, plan: Plan, row: int) -> "Shown":
        """What the teacher of a taught rollout is shown."""
        told = bool(plan.routes.feedback_B[row])
        feedback = plan.rollouts.feedback_B[row] if told else None  # type: ignore[index]  # see check_routes
        return cls(int(plan.rollouts.groups_B[row]), int(plan.routes.source_B[row]), feedback)

    def demonstration(self, plan: Plan, text_of: Mapping[int, str]) -> str | None:
        """The demonstration as text; ``text_of`` has those of the batch."""
        if self.source == REFERENCE:
            return plan.rollouts.references_G[self.group]  # type: ignore[index]  # likewise
        return text_of.get(self.source)


class Teacher:
    """In each step, the adapter calls :meth:`plan`, :meth:`prompts` and :meth:`lesson`. A subclass implements what they call.

    Args:
        method: row of the catalog, with a router.
        settings: settings of the method.
        tokenizer: tokenizer of the model, with its chat template.
        template_options: further arguments for the chat template, as for the student's prompts.
    """

    def __init__(
        self, method: Estimator, settings: DistillationSettings, tokenizer: Any, template_options: Mapping | None = None
    ) -> None:
        self.method, self.settings, self.tokenizer = method, settings, tokenizer
        self.template_options = dict(template_options or {})
        self.metrics: dict[str, float] = {}

    def plan(self, rollouts: Rollouts) -> Plan:
        """Route each rollout, by the method's router or the user's own."""
        routes = route(self.method.own_router(), rollouts, self.settings)
        learn_B = rollouts.real_B & (routes.route_B != SKIP)
        skipped_B = rollouts.real_B & ~learn_B if learn_B.any() else torch.zeros_like(learn_B)
        taught_B = routes.distil_B & (rollouts.lengths_B > 0)
        return Plan(rollouts, routes, taught_B.nonzero().flatten().tolist(), skipped_B.nonzero().flatten().tolist())

    def lesson(self, plan: Plan, prompts: Callable[[], list[Tensor]], state: Any) -> dict[str, float]:
        """Score the taught rollouts and hand the loss what it needs. Returns the metrics of the step.

        Args:
            plan: the plan of this step.
            prompts: returns the result of :meth:`prompts`; called only if a rollout is taught.
            state: state of the method, in which it may store responses.
        """
        self.metrics = {"teacher_rows": float(len(plan.taught))}
        if plan.taught:
            start = time.perf_counter()
            of_taught = prompts()
            self.metrics["teacher_prompt_wait_s"] = time.perf_counter() - start
            self.metrics["teacher_prompt_tokens"] = sum(map(len, of_taught)) / len(of_taught)
            entropy = self.score(plan, of_taught)
            weights = self._weights(plan, torch.cat(list(entropy)) if entropy is not None else None)
            if self.settings.full_logit_distillation:
                self.give_targets(plan, weights)
            else:
                gaps = [q_n - old_n for q_n, old_n in zip(*self.log_probs(plan), strict=True)]
                self.metrics["sampled_kl"] = -float(torch.cat(gaps).mean())
                self.give_advantages(plan, [w_n * gap_n for w_n, gap_n in zip(weights, gaps, strict=True)])
        if plan.skipped:
            self.skip(plan.skipped)
        settings = self.settings
        if isinstance(settings, VarianceRoutingSettings) and settings.store_responses:
            limit = settings.stored_characters
            refused = state.offer_all(plan.rollouts, lambda row: self._texts([self.response(row)])[0], limit)
            self.metrics |= {"stored_responses": float(len(state.texts)), "responses_not_stored": float(refused)}
        return self.metrics

    def messages(self, row: int) -> Sequence[Mapping]:
        """The student's prompt of a taught rollout."""
        raise NotImplementedError

    def response(self, row: int) -> Tensor:
        """Token ids of the response of a rollout that is a demonstration, or that the method stores."""
        raise NotImplementedError

    def score(self, plan: Plan, prompts: list[Tensor]) -> Sequence[Tensor] | None:
        """Run the passes with the prompts of ``plan.taught``.

        Returns:
            The teacher's entropy in nats at each token, (n,) per taught rollout. May be None if ``entropy_beta`` is 0.
        """
        raise NotImplementedError

    def give_targets(self, plan: Plan, weights: list[Tensor]) -> None:
        """Full form: hand the targets and the weights, (n,) per taught rollout, to the loss."""
        raise NotImplementedError

    def log_probs(self, plan: Plan) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Sampled-token form: log q and log π_old, each (n,) per taught rollout."""
        raise NotImplementedError

    def give_advantages(self, plan: Plan, values: list[Tensor]) -> None:
        """Sampled-token form: replace the advantages of the taught rollouts, (n,) each."""
        raise NotImplementedError

    def skip(self, rows: list[int]) -> None:
        """Take rollouts out of every loss and denominator."""
        raise NotImplementedError

    def prompts(self, plan: Plan) -> list[Tensor]:
        """Token ids of the teacher's prompt of each rollout in ``plan.taught``.

        Rollouts of a group that are shown the same share one tensor. The tokenizer gets :data:`AT_ONCE` texts per call, which
        fast tokenizers process in parallel, without Python's lock. So this can run in a thread beside the trainer.
        """
        shown = [Shown.of(plan, row) for row in plan.taught]
        rows = dict(zip(reversed(shown), reversed(plan.taught), strict=True))  # the first row that is shown it
        sources = sorted({one.source for one in rows if one.source >= 0})
        text_of: dict[int, str] = {}
        for some in batched(sources, AT_ONCE):
            text_of |= zip(some, self._texts([self.response(source) for source in some]), strict=True)
        prompt_of: dict[Shown, Tensor] = {}
        for part in batched(rows.items(), AT_ONCE):
            conversations = [
                teacher_messages(self.messages(row), one.demonstration(plan, text_of), one.feedback, self.settings)
                for one, row in part
            ]
            for (one, _), ids in zip(part, self.templated(conversations), strict=True):
                prompt_of[one] = torch.tensor(truncate_prompt(ids, self.settings))
        return [prompt_of[one] for one in shown]

    def templated(self, conversations: Sequence[Sequence[Mapping]]) -> list[list[int]]:
        """Token ids of each conversation, up to where the model answers."""
        return self.tokenizer.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=False, **self.template_options
        )

    def _texts(self, responses: Sequence[Tensor]) -> list[str]:
        return self.tokenizer.batch_decode([ids.tolist() for ids in responses], skip_special_tokens=True)

    def _weights(self, plan: Plan, entropy_N: Tensor | None) -> list[Tensor]:
        """(n,) float32 per taught rollout; their mean over all tokens is 1."""
        weights_N = torch.ones(sum(plan.tokens))
        if entropy_N is not None:
            weights_N = entropy_weights(entropy_N, self.settings.entropy_beta)
            self.metrics["teacher_entropy"] = float(entropy_N.mean())
        learning = int(plan.rollouts.lengths_B[plan.routes.route_B != SKIP].sum())
        self.metrics |= {
            "distil_token_share": len(weights_N) / learning,
            "weight_largest": float(weights_N.max()),
            "weight_smallest": float(weights_N.min()),
            "feedback_share": int(plan.routes.feedback_B.sum()) / len(plan.taught),
        }
        return list(weights_N.split(plan.tokens))


def token_weights(weights: Tensor, log_probs: Tensor, old_log_probs: Tensor, settings: DistillationSettings) -> Tensor:
    """``w · min(π / π_old, is_clip)``, without gradient, or ``w`` where ``is_clip`` is None; all of one shape."""
    if settings.is_clip is None:
        return weights
    return weights * (log_probs - old_log_probs).detach().exp().clamp(max=settings.is_clip)


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of ``size`` items, the last of the rest (``itertools.batched``, which Python 3.10 and 3.11 lack)."""
    left = iter(items)
    while part := tuple(islice(left, size)):
        yield part
