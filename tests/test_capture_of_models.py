"""Real transformer and vision models, small and with random weights: one graph each, results equal to eager's."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import transformers


def tokens():
    return {"input_ids": torch.randint(0, 100, (2, 16))}


def bert():
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    inputs = tokens()
    return transformers.BertForMaskedLM(config), {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])}


def gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, bos_token_id=1, eos_token_id=2)
    return transformers.GPT2LMHeadModel(config), tokens()


def llama():
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), tokens()


def vit():
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def resnet():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1])
    return transformers.ResNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 64, 64)}


def tensors_of(output):
    """Every tensor of a model output, caches included, in order."""
    found = []
    for value in output.values() if hasattr(output, "values") else output:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif hasattr(value, "layers"):
            for layer in value.layers:
                found += [layer.keys, layer.values]
        elif isinstance(value, (tuple, list)):
            found += tensors_of(value)
    return found


@pytest.mark.parametrize("make", [bert, gpt2, llama, vit, resnet], ids=lambda make: make.__name__)
def test_one_graph_and_equal_results(make):
    torch.manual_seed(0)
    model, inputs = make()
    model.eval()
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    optimized = capture.optimize(backend, fullgraph=True)(model)
    with torch.no_grad():
        expected = model(**inputs)
        for _ in range(2):
            actual = optimized(**inputs)
            assert type(actual) is type(expected) and list(actual) == list(expected)
            wanted, given = tensors_of(expected), tensors_of(actual)
            assert len(wanted) == len(given) >= 1
            for a, b in zip(wanted, given):
                # the same operators on memory of another alignment may round otherwise
                torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 1
    assert not optimized.lampwork_callback.cache.recompilations
