"""Greedy decoding with the caches of `transformers`: few captures for many steps, no breaks, the tokens of eager."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import transformers

PROMPT, STEPS = 5, 12


def gpt2():
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=100, initializer_range=0.3, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config)


def llama():
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100, initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def decoded(model, config, cache):
    past = cache(config=config, max_cache_len=PROMPT + STEPS) if cache is transformers.StaticCache else cache()
    current, taken = torch.arange(3, 3 + 2 * PROMPT).reshape(2, PROMPT), []
    with torch.no_grad():
        for _ in range(STEPS):
            output = model(input_ids=current, past_key_values=past, use_cache=True)
            current = output.logits[:, -1].argmax(-1, keepdim=True)
            taken.append(current)
    return torch.cat(taken, 1)


@pytest.mark.parametrize("cache", [transformers.DynamicCache, transformers.StaticCache])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_at_most_three_captures(make, cache):
    torch.manual_seed(0)
    model = make().eval()
    expected = decoded(model, model.config, cache)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = capture.optimize(backend, fullgraph=True)(model)
    assert torch.equal(decoded(optimized, model.config, cache), expected)
    assert len(graphs) <= 3
