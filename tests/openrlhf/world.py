"""One process in the place of OpenRLHF's actors: the real policy actor, experience maker and executor, and a scripted vLLM."""

import asyncio
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from vllm import SamplingParams


class LocalGroup:
    """``RayActorGroup`` with one actor in this process."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def async_run_method(self, method_name: str, *args: Any, **kwargs: Any) -> list:
        return [getattr(self.actor, method_name)(*args, **kwargs)]

    def async_run_method_batch(self, method_name: str, **kwargs: Any) -> list:
        return [self.actor.execute_batch(method_name, kwargs, 0, len(next(iter(kwargs.values()))))]


class ScriptedEngine:
    """A vLLM engine that gives the answers of a list; one that does not end with <|im_end|> was cut off."""

    def __init__(self, tokenizer: Any, answers: list[str]) -> None:
        self.tokenizer, self.answers = tokenizer, iter(answers)

    async def generate(self, _prompt: Any, params: Any, multi_modal_data: Any = None) -> Any:
        text = next(self.answers)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        reason = "stop" if text.endswith("<|im_end|>") else "length"
        logprobs = None
        if params.logprobs is not None:
            logprobs = [{token: SimpleNamespace(logprob=-0.5)} for token in ids]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=reason, logprobs=logprobs)])


@dataclass
class World:
    """See the module; ``args`` are those of OpenRLHF's ``train``."""

    args: Any
    actor: Any
    maker: Any
    generator: Any

    @property
    def tokenizer(self) -> Any:
        return self.actor.tokenizer

    def roll_out(self, executor: Any, prompts: list[tuple[str, str]], answers: list[str]) -> list:
        """Samples as ``SamplesGenerator`` makes them: ``n_samples_per_prompt`` answers for each (question, label)."""
        engine = ScriptedEngine(self.tokenizer, answers)
        params = SamplingParams(
            max_tokens=self.args.rollout.max_new_tokens,
            logprobs=None if self.args.algo.advantage.is_correction_level == "off" else 1,
        )
        samples = []
        for question, label in prompts:
            chat = [{"role": "user", "content": question}]
            text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            for _ in range(self.args.rollout.n_samples_per_prompt):
                call = executor.execute(text, label, params, self.args.data.max_len, self.tokenizer, engine)
                samples.append(self.generator._process_response_into_experience(asyncio.run(call), max_len=128))
        return samples


def make_world(args: Any) -> World:
    """Start the actor (DeepSpeed, on the CPU) and build the experience maker for ``args``."""
    import openrlhf.trainer.ppo_utils.experience_maker as stock_maker
    from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
    from openrlhf.utils import get_strategy

    from verl_efficiency.openrlhf.experience import EfficiencyExperienceMaker
    from verl_efficiency.openrlhf.ray_classes import EfficiencyPolicyModelActor

    stock_maker.ray = SimpleNamespace(get=lambda refs: refs, put=lambda value: value)
    EfficiencyExperienceMaker.wait = staticmethod(lambda refs: refs)  # type: ignore[method-assign]
    strategy = get_strategy(args)
    actor = EfficiencyPolicyModelActor(1, 0, "127.0.0.1", None)
    actor.init_model_from_pretrained(strategy, args.actor.model_name_or_path, max_steps=10, vllm_engines=None)
    maker = EfficiencyExperienceMaker(
        LocalGroup(actor), None, None, None, FixedKLController(0.0), strategy, actor.tokenizer
    )
    return World(args, actor, maker, SamplesGenerator(strategy, None, None, actor.tokenizer, []))


def label(answer: str, question: str = "?", **extra_info: Any) -> str:
    """A label as `verl-efficiency pack --format openrlhf` writes it."""
    return json.dumps(
        {
            "data_source": "testbed",
            "prompt": [{"role": "user", "content": question}],
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": extra_info,
        }
    )
