"""Rerunning: what happens when a graph raises that may raise where the program can see it.

Such an operation stands in a `try` or `with`, or behind side effects that are replayed only after the graph. When the
graph raises, nothing was replayed yet and nothing that existed before was written to but what is brought back, so the
emitted code runs the original frame from its start, as plain Python: the exception then happens where eager has it.
Invariant: a graph that writes to its inputs for good (`input_writes`), or runs hooks on saved tensors, is never rerun:
what it raises goes through as it is. One that calls operators or functions of the user's is only for the sake of side
effects, and that is told of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import _native

RERUN = None  # what takes the place of the tuple of outputs (`_native.OrNone` gives it too)


def or_rerun(compiled: Callable[..., Any], *, draws_random: bool, written: Sequence[int] = ()) -> Callable[..., Any]:
    """`compiled`, which returns RERUN where it raises an Exception; the random state is then as before the call, and so
    is the memory of the inputs at the positions `written`."""
    if not (draws_random or written):
        return _native.OrNone(compiled)

    def call_with_state(*inputs: Any) -> Any:
        states = _random_states() if draws_random else []
        spans = [_span(inputs[position]) for position in written]
        copies = [span.clone() for span in spans]
        try:
            return compiled(*inputs)
        except Exception:
            for generator, state in states:
                generator.set_state(state)
            for span, copy in zip(spans, copies):
                span.copy_(copy)
            return RERUN

    return call_with_state


def _span(tensor: torch.Tensor) -> torch.Tensor:
    """The memory from the first to the last element of a tensor: its sizes and strides are guarded, its storage's are
    not. Writes to it are seen by no version counter of the program's."""
    data = tensor.data
    last = sum((size - 1) * stride for size, stride in zip(data.shape, data.stride())) if data.numel() else -1
    return data.as_strided((last + 1,), (1,))


def _random_states() -> list[tuple[torch.Generator, torch.Tensor]]:
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    return [(generator, generator.get_state()) for generator in generators]
