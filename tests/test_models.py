"""Small transformers and a small ResNet, from their own code: one graph each, and as exact as eager."""

import copy

import pytest
import torch
import transformers
from lampwork_capture import capture

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def bert() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = transformers.BertConfig(vocab_size=97, intermediate_size=128, **SMALL)
    tokens = torch.randint(0, 97, (2, 11))
    mask = torch.ones_like(tokens)
    mask[1, 7:] = 0
    return transformers.BertForMaskedLM(config), {"input_ids": tokens, "attention_mask": mask}


def gpt2() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = transformers.GPT2Config(vocab_size=97, n_embd=64, n_layer=2, n_head=4, n_positions=32)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.randint(0, 97, (2, 11))}


def llama() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = transformers.LlamaConfig(vocab_size=97, intermediate_size=128, num_key_value_heads=2, **SMALL)
    return transformers.LlamaForCausalLM(config), {"input_ids": torch.randint(0, 97, (2, 11))}


def vit() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = transformers.ViTConfig(image_size=32, patch_size=8, intermediate_size=128, **SMALL)
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def resnet() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], layer_type="bottleneck")
    model = transformers.ResNetForImageClassification(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model, {"pixel_values": torch.randn(2, 3, 48, 48)}


MODELS = {f.__name__: f for f in (bert, gpt2, llama, vit, resnet)}


def distance(got: torch.Tensor, reference: torch.Tensor) -> float:
    return ((got.double() - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("name", MODELS)
def test_one_graph_and_as_exact_as_eager(name: str) -> None:
    model, inputs = MODELS[name]()
    model.eval()
    doubles = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        eager = model(**inputs)
        reference = copy.deepcopy(model).double()(**doubles).logits
        found = capture(model, **inputs)
        assert (len(found.graphs), len(found.graph_breaks)) == (1, 0), found
        compiled = torch.compile(model, backend="lampwork", fullgraph=True)
        for _ in range(2):
            output = compiled(**inputs)
            assert type(output) is type(eager) and output.keys() == eager.keys()
            assert distance(output.logits, reference) <= max(2 * distance(eager.logits, reference), 1e-7)


def test_a_new_batch_size_recompiles_and_stays_right() -> None:
    model, inputs = bert()
    model.eval()
    compiled = torch.compile(model, backend="lampwork", fullgraph=True)
    with torch.no_grad():
        for batch in (2, 1, 2):
            part = {k: v[:batch] for k, v in inputs.items()}
            torch.testing.assert_close(compiled(**part).logits, model(**part).logits, rtol=1e-4, atol=1e-5)


def test_weights_changed_in_place_are_seen() -> None:
    model, inputs = resnet()
    model.eval()
    compiled = torch.compile(model, backend="lampwork", fullgraph=True)
    with torch.no_grad():
        compiled(**inputs)
        for parameter in model.parameters():
            parameter.mul_(1.1)
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)
        for parameter in model.parameters():
            parameter.data.mul_(0.9)  # does not tell autograd
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)
        model.load_state_dict(
            {k: v * 1.05 for k, v in model.state_dict().items() if v.is_floating_point()}, strict=False
        )
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)


def test_training_mode_call_has_gradients() -> None:
    model, inputs = vit()
    model.eval()
    compiled = torch.compile(model, backend="lampwork")
    compiled(**inputs).logits.sum().backward()
    got = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model(**inputs).logits.sum().backward()
    want = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(got) == len(want) > 10
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
