"""Options of `lampwork.compile`: the modes and options of `torch.compile`, as the lowering core's frozen config.

On the path before anything is captured, so that a wrong option fails at the call of `compile`, not at the first run.
Invariant: an unknown name is an error with a hint, never silently dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lampwork_inductor_core import CompileOptions, Config

# Each mode and the options that it sets. They differ on a GPU only; on a CPU every mode is the default one. CUDA graphs
# are on by default, as their results may be kept.
MODES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "reduce-overhead": {},
    "max-autotune": {},
    "max-autotune-no-cudagraphs": {"cuda_graphs": False},
}


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of training, by their names in `options`."""

    memory_budget: float = 1.0
    """What part of the bytes that eager would keep for the backward pass may be kept; the rest is computed again."""
    backward_at_once: bool = False
    """Compile the backward graph together with the forward graph, rather than when it is first needed."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Options of graphs on a GPU, by their names in `options`."""

    cuda_graphs: bool = True
    """Record a graph's work as a CUDA graph and replay it, in inference, where that is proven safe. `explain` says
    where it is not, and why."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a user may choose, for each stage that it is for."""

    core: CompileOptions
    training: TrainingOptions


class OptionError(ValueError):
    """An unknown mode or option, or a value of the wrong type."""


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def stack_options(mode: str | None, options: Mapping[str, Any] | None, *, keep_artifacts: bool = False) -> StackOptions:
    """The stages' options for a `mode` and `options` as `torch.compile` takes them. Raises OptionError.

    Options are the fields of `Config`, `ScheduleConfig`, `TrainingOptions` and `GpuOptions` by their own names.
    """
    if mode is not None and mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}: {_suggestion(str(mode), list(MODES))}")
    parts: dict[str, Any] = {
        "config": Config.from_environment(),
        "schedule": Config.from_environment().schedule,
        "training": TrainingOptions(),
        "gpu": GpuOptions(),
    }
    for name, value in {**MODES[mode or "default"], **(options or {})}.items():
        part = _part_of(parts, name, value)
        parts[part] = dataclasses.replace(parts[part], **{name: value})
    if not 0 < parts["training"].memory_budget <= 1:
        raise OptionError(f"option 'memory_budget' is a part in (0, 1], got {parts['training'].memory_budget}")
    replay = parts["config"].replay and parts["gpu"].cuda_graphs
    config = dataclasses.replace(parts["config"], schedule=parts["schedule"], replay=replay)
    # Guards have established what the lowering would check again at each call.
    core = CompileOptions(config=config, check_inputs=False, keep_artifacts=keep_artifacts)
    return StackOptions(core, parts["training"])


def _part_of(parts: Mapping[str, Any], name: str, value: Any) -> str:
    """Which part has the option. Raises OptionError for an unknown one and a value of another type."""
    known = {f.name: part for part, fields in parts.items() for f in dataclasses.fields(fields) if f.name not in parts}
    if name not in known:
        raise OptionError(f"unknown option {name!r}: {_suggestion(name, sorted(known))}")
    current = getattr(parts[known[name]], name)
    if type(value) is not type(current):
        raise OptionError(f"option {name!r} takes a value of type {type(current).__name__}, got {value!r}")
    return known[name]
