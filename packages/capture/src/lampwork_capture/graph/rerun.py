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
        storages = [inputs[position].untyped_storage() for position in written]
        copies = [storage.clone() for storage in storages]
        try:
            return compiled(*inputs)
        except Exception:
            for generator, state in states:
                generator.set_state(state)
            for storage, copy in zip(storages, copies):
                storage.copy_(copy)
            return RERUN

    return call_with_state


def _random_states() -> list[tuple[torch.Generator, torch.Tensor]]:
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    return [(generator, generator.get_state()) for generator in generators]
