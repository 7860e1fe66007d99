"""Memory that is shared for some sizes alone: `x.transpose(1, 2).contiguous()` copies, but not where a size is 1.

Nor does `x[:, -4:].contiguous()` where it takes all. A trace for other sizes sees the copy, and the graph copies
always. That shows only if a write to the one would be seen in the other, if both leave the graph, or if the program
asks whether they are one; then sizes of 1, and those that leave no gap, are ruled out by facts. Told of each operation
by the graph builder. Invariant: for sizes that the facts allow nobody can tell the copy from what eager does; of sizes
that depend on data the graph checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_symshape import ContradictionError
from lampwork_symshape.condition import BoolExpr, eq, ge, ne
from lampwork_symshape.expr import IntExpr
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of

from ..graph_break import BreakId, GraphBreak

_COPIES_IF_NEEDED: frozenset[str | Callable[..., Any]] = frozenset(
    {"contiguous", "reshape", "reshape_as", "flatten", "ravel", "unflatten", torch.reshape, torch.flatten, torch.ravel}
)


@dataclass(frozen=True, slots=True)
class _Copy:
    """The storages of what was copied and of the copy, and how the former lay there."""

    original: int
    copied: int
    sizes: tuple[IntExpr, ...]
    strides: tuple[IntExpr, ...]


class SharedAtOne:
    """The copies of one trace that eager would not make for sizes of 1."""

    def __init__(self) -> None:
        self._copies: list[_Copy] = []

    def note(self, target: str | Callable[..., Any], args: Any, result: Any) -> None:
        """An operation was recorded."""
        if target not in _COPIES_IF_NEEDED or not args or not isinstance(args[0], torch.Tensor):
            return
        source: torch.Tensor = args[0]
        original, copied = _storage(source), _storage(result)
        if original != copied and any(isinstance(n, torch.SymInt) for n in (*source.shape, *source.stride())):
            sizes, strides = (tuple(map(expr_of, numbers)) for numbers in (source.shape, source.stride()))
            self._copies.append(_Copy(original, copied, sizes, strides))

    def written(self, storages: Collection[int], env: Callable[[], TorchShapeEnv]) -> None:
        """Memory was written to."""
        for copy in self._copies:
            if copy.original in storages or copy.copied in storages:
                _rule_out(copy, env())

    def compared(self, a: torch.Tensor, b: torch.Tensor, env: Callable[[], TorchShapeEnv]) -> None:
        """The program asks whether two tensors are one object."""
        pair = {_storage(a), _storage(b)} if self._copies else ()
        for copy in self._copies:
            if pair == {copy.original, copy.copied}:
                _rule_out(copy, env())

    def left(self, outputs: Collection[int], inputs: Collection[int], env: Callable[[], TorchShapeEnv]) -> None:
        """The graph ends: this memory leaves it, and that came in."""
        for copy in self._copies:
            if copy.copied in outputs and (copy.original in inputs or copy.original in outputs):
                _rule_out(copy, env())


def _rule_out(copy: _Copy, env: TorchShapeEnv) -> None:
    for size in copy.sizes:
        if env.hint_of(ge(size, 2)) is not False:
            _assume(env, ge(size, 2))
    for stride, inner, step in zip(copy.strides, copy.sizes[1:], copy.strides[1:]):
        if not env.hint_of(eq(stride, inner * step)):
            _assume(env, ne(stride, inner * step))


def _assume(env: TorchShapeEnv, condition: BoolExpr) -> None:
    """Make a fact of it; where it depends on data, the graph checks it."""
    try:
        env.require(condition)
    except ContradictionError as error:
        raise GraphBreak(
            BreakId.SIDE_EFFECT_ORDER, f"memory that eager shares and the graph does not: {error}"
        ) from error


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
