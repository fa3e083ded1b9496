"""The quickstart's model for vLLM's CPU build computes what the testbed's model computes."""

import torch
from transformers import Qwen2ForCausalLM
from widen import widened

from .conftest import WARM_START


def test_the_wide_model_is_the_same_function():
    model = Qwen2ForCausalLM.from_pretrained(WARM_START, dtype="float32").eval()
    wide = widened(model)
    assert wide.config.hidden_size // wide.config.num_attention_heads == 32
    ids = torch.randint(78, (4, 90), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(wide(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def test_its_new_columns_get_no_gradient():
    wide = widened(Qwen2ForCausalLM.from_pretrained(WARM_START, dtype="float32").eval())
    ids = torch.randint(78, (2, 40), generator=torch.Generator().manual_seed(0))
    wide(ids, labels=ids).loss.backward()
    grown = [value.grad[value == 0] for value in wide.parameters() if value.grad is not None]
    assert sum(len(grad) for grad in grown) > 50_000
    assert all(bool((grad == 0).all()) for grad in grown)
