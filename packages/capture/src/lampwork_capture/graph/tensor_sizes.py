"""TensorSizes: which sizes and strides of the input tensors of one trace are symbols.

Asked by the graph builder when a tensor becomes an input. A dimension is symbolic if it is marked, if all are
(`dynamic=True`), or if it varied between calls; dimensions that always were equal share a symbol. A stride follows from
the sizes inside it where there are no gaps. Invariant: what is symbolic is guarded by what the trace came to assume of
it, everything else by its value.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lampwork_symshape.dim_policy import DimDecision, decide_dims
from lampwork_symshape.expr import IntExpr, Symbol, as_expr
from lampwork_symshape.sym_node import expr_of
from torch._subclasses.fake_tensor import FakeTensor

from ..dimension_marks import Mark, marks_of
from ..errors import SpecializedDimensionError
from ..guards.facts import DynamicSize, Stride, UserLine
from ..source import ArrayTensorSource, Source, TensorSizeSource, TensorStrideSource, is_module_state
from ..specialized_size import SpecializedSize
from ..varying import Varying, strides_behind
from .scalar_inputs import ScalarInputs

RIGHT_FOR_ONE: frozenset[Callable[..., Any]] = frozenset(
    {F.scaled_dot_product_attention, torch.adaptive_avg_pool1d, torch.adaptive_max_pool1d,
     F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d,
     F.adaptive_max_pool2d, F.adaptive_max_pool3d}
)  # fmt: skip
"""Operations that ask whether a size is 1 to choose among ways that compute the same."""


class SymbolicSizes(enum.Enum):
    """Which sizes of input tensors may be symbols; each includes those before it."""

    NONE = 0
    MARKED = 1
    VARYING = 2
    ALL = 3

    @classmethod
    def of(cls, dynamic: bool | None) -> SymbolicSizes:
        """What `optimize(dynamic=...)` asks for."""
        return cls.VARYING if dynamic is None else cls.ALL if dynamic else cls.MARKED


LAYOUT = "lampwork_layout"  # of a placeholder: the SymbolicLayout of a tensor, or None
_MADE_UP = 2  # what a marked dimension of 0 or 1 is traced with: no rule about those applies


_POLICY: Mapping[SymbolicSizes, bool | None] = {
    SymbolicSizes.MARKED: False,
    SymbolicSizes.VARYING: None,
    SymbolicSizes.ALL: True,
}


@dataclass(frozen=True, slots=True)
class SymbolicLayout:
    """The sizes and strides of a tensor, some of them symbolic, and how they are guarded."""

    sizes: tuple[IntExpr | int, ...]
    strides: tuple[IntExpr | int, ...]
    guarded_sizes: tuple[int | DynamicSize, ...]
    guarded_strides: tuple[Stride, ...]


def arriving(fake: Any, example: Any, layout: SymbolicLayout | None, scalars: ScalarInputs) -> dict[str, Any] | None:
    """What `torch.empty_strided` takes for the fake of an input tensor as it arrives, if operations on the fake changed
    its sizes or strides; None if they did not."""
    if type(fake) is not FakeTensor:
        return None
    found = (*fake.shape, *fake.stride())
    if layout is not None:
        wanted, known = (*layout.sizes, *layout.strides), scalars.env.simplified
        if len(found) == len(wanted) and all(known(expr_of(a)) is known(as_expr(b)) for a, b in zip(found, wanted)):
            return None
        sizes, strides = ([scalars.symbol_of(number) for number in part] for part in (layout.sizes, layout.strides))
    else:
        sizes, strides = list(example.shape), list(example.stride())
        if not fake._has_symbolic_sizes_strides and found == (*sizes, *strides):
            return None
    options = {"dtype": fake.dtype, "device": fake.device, "requires_grad": fake.requires_grad}
    return {"size": sizes, "stride": strides, **options}


@dataclass(frozen=True, slots=True)
class MarkedDimension:
    """A dimension that the user said is dynamic, with the symbol that it became."""

    source: TensorSizeSource
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class _Dimension:
    """One dimension that may become a symbol: its size now, and the one to trace with."""

    source: TensorSizeSource
    size: int
    hint: int
    mark: Mark | None


class AssumedOtherSizes(Exception):
    """A trace for other sizes than those of this call assumed what does not hold for them."""


class TensorSizes:
    """The symbolic sizes of one trace.

    `as_given`: traced with the sizes of this call only. A dimension that is 1 in this call, and was not before, is
    otherwise traced with what it was before, as 1 stands for what is repeated; whether the graph is right for 1 is told
    by what was assumed. The same goes for 0, where a mark allows it.
    """

    def __init__(
        self,
        scalars: ScalarInputs,
        varying: Varying,
        wanted: SymbolicSizes,
        *,
        as_given: bool = False,
        takes_data: bool = False,
    ) -> None:
        self._scalars = scalars
        self._varying = varying
        self._wanted = wanted
        self._as_given = as_given
        self.takes_data = takes_data  # whether sizes that depend on data are symbols, too
        self._made: list[tuple[TensorSizeSource, DimDecision, Symbol]] = []
        self.marked: list[MarkedDimension] = []
        self.has_other_hints = False  # whether a size is traced with another one than that of this call

    def __bool__(self) -> bool:
        return bool(self._made)

    def layout_of(self, tensor: torch.Tensor, source: Source) -> SymbolicLayout | None:
        """The layout of an input tensor; None if it is all numbers."""
        wanted = self._wanted
        if wanted is SymbolicSizes.NONE or type(tensor) is not torch.Tensor or tensor.dim() == 0:
            return None
        if isinstance(source, ArrayTensorSource):
            return None  # the array is guarded, by its shape
        marks = marks_of(tensor)
        if not marks and wanted is SymbolicSizes.MARKED:
            return None
        if is_module_state(source):  # as a rule it stays: all of it symbolic would cost what backends make of weights
            wanted = min(wanted, SymbolicSizes.VARYING, key=lambda sizes: sizes.value)
        if not marks and wanted is SymbolicSizes.VARYING and not self._varying:
            return None
        dimensions = [self._dimension(source, dim, size, marks) for dim, size in enumerate(tensor.shape)]
        varied = frozenset(dim for dim, found in enumerate(dimensions) if found.source in self._varying)
        decisions = decide_dims(
            [dimension.hint for dimension in dimensions],
            dynamic=_POLICY[wanted],
            marks={dim: mark.mark for dim, mark in marks.items()},
            varied=varied,
        )
        sizes = [self._size(found, decision) for found, decision in zip(dimensions, decisions)]
        strides, guarded = self._strides(tensor, source, sizes)
        if not any(isinstance(number, IntExpr) for number in (*sizes, *strides)):
            return None
        guarded_sizes = tuple(DynamicSize.ANY if isinstance(size, IntExpr) else size for size in sizes)
        return SymbolicLayout(tuple(sizes), strides, guarded_sizes, guarded)

    def check_assumed(self) -> None:
        """Raise AssumedOtherSizes if what the trace assumed does not hold for the sizes of this call."""
        wrong = self._scalars.first_wrong() if self.has_other_hints else None
        if wrong is not None:
            raise AssumedOtherSizes(wrong)

    def check_marks(self) -> None:
        """Raise SpecializedDimensionError if the trace came to need one size of a dimension that is marked."""
        if not self.marked:
            return
        sources = {marked.symbol: marked.source for marked in reversed(self.marked)}
        for found in self._scalars.env.specializations:
            source, frame = sources.get(found.symbol.symbol), found.frame
            if source is not None:
                line = None if frame is None else UserLine(frame.filename, frame.line, frame.function)
                operation = "" if frame is None else frame.text
                raise SpecializedDimensionError(SpecializedSize(str(source), found.value, operation, line))

    def _dimension(self, source: Source, dim: int, size: int, marks: Mapping[int, Mark]) -> _Dimension:
        of_dim = TensorSizeSource(source, dim)
        mark = marks.get(dim)
        hint = size
        if size <= 1 and not self._as_given:
            earlier = (int(value) for value in self._varying.earlier_values(of_dim) if value > 1)
            made_up = _MADE_UP if mark is not None and mark.must_hold else size
            hint = next(earlier, made_up)
        return _Dimension(of_dim, size, hint, mark)

    def _size(self, dimension: _Dimension, decision: DimDecision) -> IntExpr | int:
        if not decision.symbolic or dimension.size < decision.lower:
            return dimension.size
        if decision.upper is not None and dimension.size > decision.upper:
            return dimension.size
        if decision.upper is not None and dimension.hint > decision.upper:
            return dimension.size
        if self._as_given and dimension.size <= 1:
            return dimension.size  # tried as a symbol before, and the program does another thing there
        shared = self._shared(dimension, decision)
        symbol = self._scalars.add_size(
            dimension.source, dimension.size, dimension.hint, decision.lower, decision.upper, shared
        )
        self.has_other_hints |= dimension.hint != dimension.size
        self._made.append((dimension.source, decision, symbol))
        if dimension.mark is not None and dimension.mark.must_hold:
            self.marked.append(MarkedDimension(dimension.source, symbol))
        return symbol

    def _shared(self, dimension: _Dimension, decision: DimDecision) -> Symbol | None:
        """The symbol of a dimension that has been equal to this one so far."""
        for source, other, symbol in self._made:
            if (other.lower, other.upper) != (decision.lower, decision.upper):
                continue
            if self._scalars.values_of(symbol) != (dimension.size, dimension.hint):
                continue
            if self._varying.have_varied_alike(source, dimension.source):
                return symbol
            is_new = source not in self._varying and dimension.source not in self._varying
            if is_new and source.dim == dimension.source.dim and source.base != dimension.source.base:
                return symbol  # nothing but this call is known: rows go with rows
        return None

    def _strides(
        self, tensor: torch.Tensor, source: Source, sizes: list[IntExpr | int]
    ) -> tuple[tuple[IntExpr | int, ...], tuple[Stride, ...]]:
        actual, behind = tensor.stride(), strides_behind(tensor)
        found: dict[int, IntExpr | int] = {}
        guarded: dict[int, Stride] = {}

        def resolve(dim: int) -> IntExpr | int:
            if dim in found:
                return found[dim]
            around = behind[dim]
            stride: IntExpr | int = actual[dim]
            guard: Stride = actual[dim]
            if around is not None:
                whole = sizes[around.dim] * resolve(around.dim)
                if isinstance(whole, IntExpr):
                    stride, guard = whole, around
            elif TensorStrideSource(source, dim) in self._varying:
                stride = self._scalars.add_stride(TensorStrideSource(source, dim), actual[dim])
                guard = DynamicSize.ANY
            found[dim], guarded[dim] = stride, guard
            return stride

        dims = range(len(actual))
        strides = tuple(resolve(dim) for dim in dims)
        return strides, tuple(guarded[dim] for dim in dims)
