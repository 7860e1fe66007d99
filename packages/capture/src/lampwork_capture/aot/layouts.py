"""Strides across functionalization: a tensor written in place keeps its strides, whatever its new value was made with.

Functionalization gives a written tensor the strides of the functional operator's result. Eager code goes on with the
strides it had, and asks about them (`contiguous`, `view`). So after every node that wrote, the tensor's value is put
back into its layout. Invariant: a wrapper's strides are eager's strides after every node of the captured graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from . import torch_layer
from .errors import UnsupportedForAot
from .known_sizes import equal_strides, known, traced
from .metadata import is_dense
from .trace import AtenRecorder, restride, same_strides

aten = torch.ops.aten


def synchronise(wrapper: Tensor) -> None:
    """Bring a functional wrapper's value up to date with writes through its aliases.

    The replayed views are recorded, so they must not pass through autograd, which would mark the recorder's shared
    values as views.
    """
    with torch_layer.below_autograd(), torch_layer.exclude_keys(torch_layer.VIEW_TRACKING):
        torch_layer.sync(wrapper)


@dataclass(slots=True)
class _Seen:
    wrapper: Tensor
    writes: int
    size: torch.Size
    stride: tuple[int, ...]


class LayoutKeeper:
    """Watches the tensors that nodes take and give; `after` repairs the layouts of those that a node wrote to."""

    def __init__(self, recorder: AtenRecorder, inputs: Sequence[Any]) -> None:
        self._recorder = recorder
        self._bases: dict[int, _Seen] = {}  # functional storage -> the tensor that owns it, as eager sees it
        for wrapper in inputs:
            self._own(wrapper)

    def before(self, args: Any, kwargs: Any) -> list[_Seen]:
        """What to compare with after a node that takes `args` and `kwargs` has run."""
        if len(args) == 2 and type(args[0]) in (list, tuple) and type(args[1]) is int and not kwargs:
            return []  # an item of a list, which may be long and is taken apart by one node for each
        return [
            _Seen(t, torch_layer.mutation_counter(t), t.shape, t.stride()) for t in _tensors((*args, *kwargs.values()))
        ]

    def after(self, seen: list[_Seen], result: Any) -> None:
        """Repair what the node wrote to; `seen` comes from `before`."""
        for entry in seen:
            if torch_layer.mutation_counter(entry.wrapper) != entry.writes:
                base = self._bases.get(torch_layer.storage_address(entry.wrapper))
                if base is not None:
                    synchronise(base.wrapper)
                    self._repair(base)
                synchronise(entry.wrapper)
                self._repair(entry)
        for t in _tensors((result,)):
            self._own(t)

    def _own(self, wrapper: Any) -> None:
        if (
            isinstance(wrapper, Tensor)
            and torch_layer.is_functional(wrapper)
            and torch_layer.is_functional_base(wrapper)
        ):
            self._bases.setdefault(
                torch_layer.storage_address(wrapper), _Seen(wrapper, 0, wrapper.shape, wrapper.stride())
            )

    def _repair(self, entry: _Seen) -> None:
        wrapper = entry.wrapper
        if wrapper.shape != entry.size:  # resized, by `out=` or by a metadata operator that eager runs too
            entry.size, entry.stride = wrapper.shape, wrapper.stride()
            return
        expected = entry.stride
        if equal_strides(entry.size, expected, wrapper.stride()) or not wrapper.numel():
            return
        if not torch_layer.is_functional_base(wrapper):
            raise UnsupportedForAot("a tensor that was reshaped in place is written to and has gaps in memory")
        value = torch_layer.from_functional(wrapper)
        laid = _with_layout(self._recorder, value, expected)
        with torch_layer.below_autograd(), torch_layer.exclude_keys(torch_layer.VIEW_TRACKING):
            torch_layer.replace_value(wrapper, laid)
            torch_layer.commit_update(wrapper)
            torch_layer.sync(wrapper)


def _with_layout(recorder: AtenRecorder, value: Tensor, stride: tuple[int, ...]) -> Tensor:
    """`value` in the memory order of `stride`, recorded, and described with exactly those strides.

    Memory with gaps is for the caller's eyes: the recorded value is dense, its description is not. `laid_out` finds
    the dense one.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch_layer.below_autograd())
        stack.enter_context(torch_layer.exclude_keys(torch_layer.VIEW_TRACKING | torch_layer.FUNCTIONALIZE))
        stack.enter_context(recorder.fake_mode)
        expected = torch.empty_strided(value.shape, stride, dtype=value.dtype, device=value.device)
        stack.enter_context(recorder)
        ordered = value if _same_order(value, stride) else restride(value, stride)
    if is_dense(expected) and same_strides(ordered, expected):
        return ordered
    return recorder.describe_as(ordered, expected)


def _same_order(value: Tensor, stride: tuple[int, ...]) -> bool:
    dims = [d for d in range(value.dim()) if not known(value.shape[d] == 1)]
    mine, theirs = value.stride(), stride
    return is_dense(value) and sorted(dims, key=lambda d: -traced(mine[d])) == sorted(
        dims, key=lambda d: -traced(theirs[d])
    )


def laid_out(node: fx.Node) -> fx.Node:
    """The dense value behind a node that only describes it with other strides."""
    while node.target is aten.alias.default and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            if torch_layer.is_functional(value):
                yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
