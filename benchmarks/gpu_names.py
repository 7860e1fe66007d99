"""Names that the parent and the cells of the GPU benchmarks agree on; imports nothing, so neither waits for it."""

from __future__ import annotations

LOCK = "LAMPWORK_BENCHMARK_LOCK"
"""The environment variable that names the file which is locked while a cell compiles (shared) or is timed (alone)."""
EAGER, TORCH, OVERHEAD, OURS = "eager", "torch.compile", "reduce-overhead", "lampwork"
CONTESTANTS = (EAGER, TORCH, OVERHEAD, OURS)
INFERENCE_MODELS = ("bert", "gpt2", "llama", "resnet50", "convnext", "efficientnet", "vit", "t5")
TRAINING_MODELS = ("bert", "gpt2", "llama", "resnet50", "vit")
