"""The models of the benchmarks: architectures of `transformers` with random weights, and inputs of a given size."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers


@dataclass(frozen=True)
class Workload:
    """A model in eval mode, the keyword arguments of one call, and how to read tensors from what it returns."""

    name: str
    model: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    read: Callable[[Any], list[torch.Tensor]]


def _logits(output: Any) -> list[torch.Tensor]:
    return [output.logits]


def _tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocabulary, (batch, length), generator=generator, device="cpu")


def _image(batch: int, edge: int) -> torch.Tensor:
    return torch.randn(batch, 3, edge, edge, generator=torch.Generator().manual_seed(1), device="cpu")


def bert(batch: int = 1, length: int = 128, **config: Any) -> Workload:
    """BERT-base, masked language model, sequences of 128 tokens with an attention mask."""
    chosen = transformers.BertConfig(**config)
    model = transformers.BertForMaskedLM(chosen).eval()
    tokens = _tokens(batch, length, chosen.vocab_size)
    return Workload("bert", model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, _logits)


def gpt2(batch: int = 1, length: int = 128, **config: Any) -> Workload:
    """GPT-2 (124M), sequences of 128 tokens; the key-value cache is built and returned, as by default."""
    chosen = transformers.GPT2Config(**config)
    model = transformers.GPT2LMHeadModel(chosen).eval()
    return Workload("gpt2", model, {"input_ids": _tokens(batch, length, chosen.vocab_size)}, _logits)


LLAMA: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}


def llama(batch: int = 1, length: int = 128, **config: Any) -> Workload:
    """A Llama of 4 layers, width 1024, grouped-query attention, sequences of 128 tokens, with its cache."""
    chosen = transformers.LlamaConfig(**{**LLAMA, **config})
    model = transformers.LlamaForCausalLM(chosen).eval()
    return Workload("llama", model, {"input_ids": _tokens(batch, length, chosen.vocab_size)}, _logits)


def t5(batch: int = 1, length: int = 128, **config: Any) -> Workload:
    """T5-small, encoder and decoder over as many tokens each, with the decoder's cache."""
    chosen = transformers.T5Config(**config)
    model = transformers.T5ForConditionalGeneration(chosen).eval()
    tokens = _tokens(batch, length, chosen.vocab_size)
    return Workload("t5", model, {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)}, _logits)


def vit(batch: int = 1, edge: int = 224, **config: Any) -> Workload:
    """ViT-base/16, image classification, images of 224x224."""
    chosen = transformers.ViTConfig(num_labels=1000, image_size=edge, **config)
    model = transformers.ViTForImageClassification(chosen).eval()
    return Workload("vit", model, {"pixel_values": _image(batch, edge)}, _logits)


def _with_statistics(model: torch.nn.Module) -> torch.nn.Module:
    """Batch-norm statistics that are not trivial."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                shape = module.running_mean.shape
                module.running_mean.copy_(0.1 * torch.randn(shape, generator=generator, device="cpu"))
                module.running_var.copy_(0.5 + torch.rand(shape, generator=generator, device="cpu"))
    return model


def resnet50(batch: int = 4, edge: int = 224, **config: Any) -> Workload:
    """ResNet-50, image classification, images of 224x224, with batch-norm statistics that are not trivial."""
    chosen = transformers.ResNetConfig(num_labels=1000, **config)
    model = _with_statistics(transformers.ResNetForImageClassification(chosen).eval())
    return Workload("resnet50", model, {"pixel_values": _image(batch, edge)}, _logits)


def convnext(batch: int = 4, edge: int = 224, **config: Any) -> Workload:
    """ConvNeXt-tiny, image classification, images of 224x224."""
    chosen = transformers.ConvNextConfig(num_labels=1000, image_size=edge, **config)
    model = transformers.ConvNextForImageClassification(chosen).eval()
    return Workload("convnext", model, {"pixel_values": _image(batch, edge)}, _logits)


# The defaults of the configuration are EfficientNet-b7's.
EFFICIENTNET_B0: dict[str, Any] = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}


def efficientnet(batch: int = 4, edge: int = 224, **config: Any) -> Workload:
    """EfficientNet-b0, image classification, images of 224x224, with batch-norm statistics that are not trivial."""
    chosen = transformers.EfficientNetConfig(num_labels=1000, image_size=edge, **{**EFFICIENTNET_B0, **config})
    model = _with_statistics(transformers.EfficientNetForImageClassification(chosen).eval())
    return Workload("efficientnet", model, {"pixel_values": _image(batch, edge)}, _logits)


MODELS: dict[str, Callable[..., Workload]] = {
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama,
    "vit": vit,
    "resnet50": resnet50,
    "convnext": convnext,
    "efficientnet": efficientnet,
    "t5": t5,
}


# Sizes at which a GPU is busy, and sizes at which a test of a benchmark is quick.
GPU_SIZES: dict[str, dict[str, Any]] = {
    "bert": {"batch": 16, "length": 512},
    "gpt2": {"batch": 8, "length": 512},
    "llama": {
        "batch": 4, "length": 512, "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 12,
        "num_key_value_heads": 16,
    },
    "resnet50": {"batch": 64},
    "convnext": {"batch": 64},
    "efficientnet": {"batch": 64},
    "vit": {"batch": 64},
    "t5": {"batch": 8, "length": 512},
}  # fmt: skip
_NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY_SIZES: dict[str, dict[str, Any]] = {
    "bert": {"batch": 2, "length": 16, "vocab_size": 99, **_NARROW},
    "gpt2": {
        "batch": 2, "length": 16, "vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": {"batch": 2, "length": 16, "vocab_size": 99, "num_key_value_heads": 2, **_NARROW},
    "resnet50": {"batch": 2, "edge": 32, "hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 8},
    "convnext": {"batch": 2, "edge": 32, "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "efficientnet": {"batch": 2, "edge": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    "vit": {"batch": 2, "edge": 32, **_NARROW},
    "t5": {"batch": 2, "length": 16, "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2,
           "num_heads": 2},
}  # fmt: skip


def build(name: str, **sizes: Any) -> Workload:
    """A workload with weights that are the same in every process. `sizes`: those of its function in `MODELS`."""
    torch.manual_seed(0)
    return MODELS[name](**sizes)
