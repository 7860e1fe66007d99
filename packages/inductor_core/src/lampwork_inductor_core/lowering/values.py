"""Tensor values: what the lowering knows of a tensor while the graph is being lowered.

A value is a strided view of a buffer, an expression that no buffer holds yet, or an index map over one of these; all
of them can be loaded at an index. Invariant: the base of a `ViewValue` is never a view, so views of views stay one
substitution deep; `buffer` is set once, when the value is realised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr

from ..ir.layout import Layout, OpaqueLayout
from ..ir.loop_body import Node, ops, substitute
from ..ir.views import IndexMap, Indices, affine_layout, canonical_variables


class TensorValue:
    """Base of the values. `sizes` in elements; `load(indices)` is the element there as a body node."""

    __slots__ = ("buffer", "device", "dtype", "sizes")

    def __init__(self, sizes: Indices, dtype: torch.dtype, device: torch.device) -> None:
        self.sizes = sizes
        self.dtype = dtype
        self.device = device
        self.buffer: BufferValue | None = None

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.sizes)

    def load(self, indices: Sequence[IntExpr]) -> Node:
        """The element at `indices`."""
        raise NotImplementedError

    def view(self, view: IndexMap) -> TensorValue:
        """This tensor through an index map; strided where the map is affine, never a copy."""
        raise NotImplementedError


class BufferValue(TensorValue):
    """A buffer through a layout."""

    __slots__ = ("layout", "name")

    def __init__(self, name: str, layout: Layout) -> None:
        super().__init__(layout.sizes, layout.dtype, layout.device)
        self.name = name
        self.layout = layout
        self.buffer = self

    def load(self, indices: Sequence[IntExpr]) -> Node:
        return ops.load(self.name, self.layout.index(indices), self.dtype)

    def view(self, view: IndexMap) -> TensorValue:
        layout = affine_layout(self.layout, view)
        return ViewValue(self, view) if layout is None else BufferValue(self.name, layout)


@dataclass(frozen=True, slots=True)
class Cost:
    """What computing one element takes: buffers read, those of about the result's size, operations, expensive ones."""

    reads: frozenset[str]
    heavy_reads: frozenset[str]
    operations: int
    expensive: int


class ExpressionValue(TensorValue):
    """A tensor that no buffer holds yet: the body of its general element over the canonical indices of its sizes.

    `strides` are those that the buffer gets if the value is realised (None: contiguous). `node` and `user_line` name
    the operator that made it, `sources` the expressions that were inlined into it.
    """

    __slots__ = ("body", "cost", "node", "sources", "strides", "user_line")

    def __init__(
        self,
        sizes: Indices,
        device: torch.device,
        body: Node,
        cost: Cost,
        sources: tuple[ExpressionValue, ...],
        node: str,
        user_line: str | None,
    ) -> None:
        super().__init__(sizes, body.dtype, device)
        self.body = body
        self.cost = cost
        self.sources = sources
        self.strides: Indices | None = None
        self.node = node
        self.user_line = user_line

    def load(self, indices: Sequence[IntExpr]) -> Node:
        if self.buffer is not None:
            return self.buffer.load(indices)
        variables = canonical_variables(self.sizes)
        mapping = {v: i for v, i, size in zip(variables, indices, self.sizes) if v is not i and size != 1}
        return substitute(self.body, mapping) if mapping else self.body

    def view(self, view: IndexMap) -> TensorValue:
        if self.buffer is not None:
            return self.buffer.view(view)
        return ViewValue(self, view)


class ViewValue(TensorValue):
    """An index map over a value that is no view, where no strides express it (or the base has no buffer yet)."""

    __slots__ = ("base", "map")

    def __init__(self, base: BufferValue | ExpressionValue, view: IndexMap) -> None:
        super().__init__(view.sizes, base.dtype, base.device)
        self.base = base
        self.map = view

    def load(self, indices: Sequence[IntExpr]) -> Node:
        if self.buffer is not None:
            return self.buffer.load(indices)
        return self.base.load(self.map.at(indices))

    def view(self, view: IndexMap) -> TensorValue:
        if self.buffer is not None:
            return self.buffer.view(view)
        return self.base.view(view.after(self.map))


class OpaqueValue:
    """A result that only extern calls understand: a packed tensor, a number computed at run time, a list's carrier."""

    __slots__ = ("layout", "name")

    def __init__(self, name: str, layout: OpaqueLayout) -> None:
        self.name = name
        self.layout = layout


Value = TensorValue | OpaqueValue
