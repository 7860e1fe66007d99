"""Memory that is shared for sizes of 1 alone: `x.transpose(1, 2).contiguous()` copies, but not where a size is 1.

A trace for larger sizes sees the copy, and the graph copies always. That shows only if a write to the one would be seen
in the other, or if both leave the graph; then sizes of 1 are ruled out by a fact. Told of each operation by the graph
builder. Invariant: for sizes that the facts allow nobody can tell the copy from what eager does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_symshape.condition import ge
from lampwork_symshape.expr import Symbol
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of

_COPIES_IF_NEEDED: frozenset[str | Callable[..., Any]] = frozenset(
    {"contiguous", "reshape", "reshape_as", "flatten", "ravel", "unflatten", torch.reshape, torch.flatten, torch.ravel}
)


@dataclass(frozen=True, slots=True)
class _Copy:
    """The storages of what was copied and of the copy, and the sizes that may be 1."""

    original: int
    copied: int
    sizes: frozenset[Symbol]


class SharedAtOne:
    """The copies of one trace that eager would not make for sizes of 1."""

    def __init__(self) -> None:
        self._copies: list[_Copy] = []

    def note(self, target: str | Callable[..., Any], args: Any, result: Any) -> None:
        """An operation was recorded."""
        if target not in _COPIES_IF_NEEDED or not args or not isinstance(args[0], torch.Tensor):
            return
        original, copied = _storage(args[0]), _storage(result)
        sizes = frozenset(
            symbol
            for size in args[0].shape
            if isinstance(size, torch.SymInt)
            for symbol in expr_of(size).free_symbols
            if symbol.lower is None or symbol.lower < 2
        )
        if original != copied and sizes:
            self._copies.append(_Copy(original, copied, sizes))

    def written(self, storages: Collection[int], env: Callable[[], TorchShapeEnv]) -> None:
        """Memory was written to."""
        for copy in self._copies:
            if copy.original in storages or copy.copied in storages:
                _rule_out(copy, env())

    def left(self, outputs: Collection[int], inputs: Collection[int], env: Callable[[], TorchShapeEnv]) -> None:
        """The graph ends: this memory leaves it, and that came in."""
        for copy in self._copies:
            if copy.copied in outputs and (copy.original in inputs or copy.original in outputs):
                _rule_out(copy, env())


def _rule_out(copy: _Copy, env: TorchShapeEnv) -> None:
    for symbol in copy.sizes:
        env.evaluate(ge(symbol, 2))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
