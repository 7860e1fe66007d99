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
    return torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


def _image(batch: int, edge: int = 224) -> torch.Tensor:
    return torch.randn(batch, 3, edge, edge, generator=torch.Generator().manual_seed(1))


def bert() -> Workload:
    """BERT-base, masked language model, one sequence of 128 tokens with an attention mask."""
    config = transformers.BertConfig()
    model = transformers.BertForMaskedLM(config).eval()
    tokens = _tokens(1, 128, config.vocab_size)
    return Workload("bert", model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, _logits)


def gpt2() -> Workload:
    """GPT-2 (124M), one sequence of 128 tokens; the key-value cache is built and returned, as by default."""
    config = transformers.GPT2Config()
    model = transformers.GPT2LMHeadModel(config).eval()
    return Workload("gpt2", model, {"input_ids": _tokens(1, 128, config.vocab_size)}, _logits)


def llama() -> Workload:
    """A Llama of 4 layers, width 1024, grouped-query attention, one sequence of 128 tokens, with its cache."""
    config = transformers.LlamaConfig(
        hidden_size=1024, intermediate_size=2816, num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=4
    )
    model = transformers.LlamaForCausalLM(config).eval()
    return Workload("llama", model, {"input_ids": _tokens(1, 128, config.vocab_size)}, _logits)


def vit() -> Workload:
    """ViT-base/16, image classification, one image of 224x224."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).eval()
    return Workload("vit", model, {"pixel_values": _image(1)}, _logits)


def resnet50() -> Workload:
    """ResNet-50, image classification, four images of 224x224, with batch-norm statistics that are not trivial."""
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return Workload("resnet50", model, {"pixel_values": _image(4)}, _logits)


MODELS: dict[str, Callable[[], Workload]] = {
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama,
    "vit": vit,
    "resnet50": resnet50,
}


def build(name: str) -> Workload:
    """A workload with weights that are the same in every process."""
    torch.manual_seed(0)
    return MODELS[name]()
