"""Sizes that depend on data: what operators give on fake tensors whose results only the run time knows the size of.

Asked by the fake tensor mode of a trace. The size of `nonzero`, of what a mask selects or of `unique`, and the number
that `item()` reads, is an unbacked symbol within the bounds that follow from the argument. Invariant: a rule describes
exactly what the kernel gives, strides included; an operator without a rule is one that torch itself refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape.condition import and_, ge, le, lt, where
from lampwork_symshape.expr import IntExpr, Symbol, integer, maximum, minimum
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of
from torch._subclasses.fake_tensor import FakeTensor

aten: Any = torch.ops.aten
_MOST = 2**63 - 1
_SOME_POWER = 3  # of which torch makes nothing simpler
# A symbolic integer has 64 bits, with sign
WHOLE_DTYPES = frozenset({torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.int64})


class DataSizes:
    """The unbacked symbols of one trace: makes them, and gives the same one for the same question about a tensor."""

    def __init__(self, env: TorchShapeEnv) -> None:
        self.env = env
        self.made: list[Symbol] = []
        """Every symbol made here, in order."""
        self._known: dict[tuple[Any, ...], tuple[Any, int, Any]] = {}  # kept alive: ids stay valid
        self._writes: dict[int, int] = {}  # how often each storage was written to

    def describe(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What an operator gives, or NotImplemented if its result does not depend on data in a way that is known."""
        rule = _RULES.get(func)
        return NotImplemented if rule is None else rule(self, *args, **kwargs)

    def size(self, most: int | torch.SymInt, origin: str, *, least: int = 0) -> torch.SymInt | int:
        """A size that only the run time knows, from `least` to `most`."""
        bound = expr_of(most)
        upper = bound.constant_value if bound.is_constant else None
        if upper == 0:
            return 0
        made = self._make(origin, least, upper)
        if upper is None:
            self.env.assume(le(made, bound))
        return self.env.sym_int(made)

    def number(self, dtype: torch.dtype) -> torch.SymInt | int:
        """An integer that is read from a tensor."""
        limits = torch.iinfo(dtype)
        return self.env.sym_int(self._make("item", limits.min, limits.max))

    def once(self, tensor: torch.Tensor, question: str, answer: Callable[[], Any]) -> Any:
        """The answer to a question about the data of a tensor, the same until something writes to it."""
        key = (id(tensor), question)
        known, writes = self._known.get(key), self._writes.get(tensor.untyped_storage()._cdata, 0)
        if known is None or known[1] != writes:
            known = self._known[key] = (tensor, writes, answer())
        return known[2]

    def note_write(self, storage: int) -> None:
        """Something wrote to the memory of a storage (its address): what is known of its data is not known any more."""
        self._writes[storage] = self._writes.get(storage, 0) + 1

    def forget(self) -> None:
        """Another run over the same tensors begins, whose checks are still to come: it gets symbols of its own."""
        self._known.clear()

    def _make(self, origin: str, lower: int, upper: int | None) -> Symbol:
        frame = self.env.find_frame()
        place = f" at {frame.filename}:{frame.line}" if frame else ""
        made = self.env.create_unbacked(f"the result of `{origin}`{place}", lower=lower, upper=upper)
        self.made.append(made)
        return made


def _count(sizes: Sequence[int | torch.SymInt]) -> Any:
    return math.prod(sizes)


def _nonzero(data: DataSizes, x: FakeTensor) -> torch.Tensor:
    found = data.once(x, "nonzero", lambda: data.size(_count(x.shape), "nonzero"))
    # the indices of one element lie apart: the kernel fills a row for each dimension
    return x.new_empty_strided((found, x.dim()), (1, found), dtype=torch.int64)


def _masked_select(data: DataSizes, x: FakeTensor, mask: FakeTensor) -> torch.Tensor:
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    if _same_shape(shape, mask.shape):
        found = data.once(mask, "nonzero", lambda: data.size(_count(shape), "masked_select"))
    else:
        found = data.size(_count(shape), "masked_select")
    return x.new_empty((found,))


def _same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(expr_of(x) is expr_of(y) for x, y in zip(a, b))


def _unique(
    data: DataSizes, x: FakeTensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = data.once(x, "unique", lambda: data.size(_count(x.shape), "unique"))
    inverse = x.new_empty(x.shape if return_inverse else (0,), dtype=torch.int64)
    return x.new_empty((found,)), inverse, x.new_empty((found if return_counts else 0,), dtype=torch.int64)


def _unique_consecutive(
    data: DataSizes, x: FakeTensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    if dim is not None and not (dim == 0 and x.dim() == 1):
        return _unique_rows(data, x, dim, "unique_consecutive")
    found = data.size(_count(x.shape), "unique_consecutive")
    inverse = x.new_empty(x.shape if return_inverse else (0,), dtype=torch.int64)
    return x.new_empty((found,)), inverse, x.new_empty((found if return_counts else 0,), dtype=torch.int64)


def _unique_dim(
    data: DataSizes,
    x: FakeTensor,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    return _unique_rows(data, x, dim, "unique")


def _unique_rows(data: DataSizes, x: FakeTensor, dim: int, origin: str) -> Any:
    """Slices along a dimension that are told apart: the CPU's kernel stacks them, and moves that dimension back.

    It gives the places and counts whether they are asked for or not. A GPU's kernel lays all of them out otherwise.
    """
    if x.fake_device.type != "cpu" or not -x.dim() <= dim < x.dim():
        return NotImplemented
    sizes = list(x.shape)
    length = sizes.pop(dim)
    not_empty = [ge(expr_of(size), 1) for size in (length, *sizes)]
    if any(data.env.known(condition) is False for condition in not_empty):
        return NotImplemented  # which the kernel refuses, or treats in its own way
    for condition in not_empty:
        data.env.require(condition)
    found = data.size(length, origin, least=1)
    inverse, counts = (x.new_empty((count,), dtype=torch.int64) for count in (length, found))
    return x.new_empty((found, *sizes)).movedim(0, dim), inverse, counts


def _bincount(data: DataSizes, x: FakeTensor, weights: FakeTensor | None = None, minlength: Any = 0) -> Any:
    if weights is not None:  # of no elements the kernel counts in integers, whatever their weights are
        some = ge(expr_of(_count(x.shape)), 1)
        if data.env.known(some) is False or data.env.hint_of(some) is False:
            return NotImplemented
        data.env.require(some)
    least = expr_of(minlength)
    data.env.require(ge(least, 0))
    made = data.size(_MOST, "bincount", least=least.constant_value if least.is_constant else 0)
    data.env.assume(ge(expr_of(made), least))
    if weights is None:
        return x.new_empty((made,), dtype=torch.int64)
    return x.new_empty((made,), dtype=torch.float32 if weights.dtype == torch.float32 else torch.float64)


def _repeat_interleave(data: DataSizes, repeats: FakeTensor, output_size: Any = None) -> Any:
    if output_size is not None:
        return NotImplemented
    return repeats.new_empty((data.size(_MOST, "repeat_interleave"),))


def _item(data: DataSizes, x: FakeTensor) -> Any:
    if x.dtype not in WHOLE_DTYPES or x.constant is not None:
        return NotImplemented
    return data.once(x, "item", lambda: data.number(x.dtype))


def _slice(data: DataSizes, x: FakeTensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """A slice with bounds that only the run time knows, clamped as the kernel clamps them."""
    if not any(_is_unknown(data, bound) for bound in (start, end)) or x.dim() == 0 or not -x.dim() <= dim < x.dim():
        return NotImplemented
    sizes: list[Any] = list(x.shape)
    strides = list(x.stride())
    size = expr_of(sizes[dim])
    first = integer(0) if start is None else _clamped(data, expr_of(start), size)
    last = size if end is None else _clamped(data, expr_of(end), size)
    length = _at_least_zero(data, last - first)
    sizes[dim] = data.env.sym_int((length + (step - 1)) // step)
    strides[dim] = strides[dim] * step
    offset = x.storage_offset() + data.env.sym_int(first) * x.stride(dim)
    return x.as_strided(sizes, strides, offset)


def _select(data: DataSizes, x: FakeTensor, dim: int, index: Any) -> Any:
    """One row, of which only the run time knows which."""
    if not _is_unknown(data, index) or x.dim() == 0 or not -x.dim() <= dim < x.dim():
        return NotImplemented
    sizes, strides = list(x.shape), list(x.stride())
    place, size = expr_of(index), expr_of(sizes.pop(dim))
    data.env.require(and_(ge(place, -size), lt(place, size)))
    stride = strides.pop(dim)
    from_start = place if data.env.known(ge(place, 0)) else where(ge(place, 0), place, place + size)
    return x.as_strided(sizes, strides, x.storage_offset() + data.env.sym_int(from_start) * stride)


def _power(data: DataSizes, x: FakeTensor, exponent: Any) -> Any:
    """A power by a number that only the run time knows: no result looks different for it."""
    if not _is_unknown(data, exponent):
        return NotImplemented
    if not (x.is_floating_point() or x.is_complex()):
        data.env.require(ge(expr_of(exponent), 0))  # integers have no other powers
    return aten.pow.Tensor_Scalar(x, _SOME_POWER)


def _power_of_number(data: DataSizes, base: Any, exponent: FakeTensor) -> Any:
    return aten.pow.Scalar(_SOME_POWER, exponent) if _is_unknown(data, base) else NotImplemented


def _is_unknown(data: DataSizes, bound: Any) -> bool:
    return isinstance(bound, torch.SymInt) and data.env.hint_of(expr_of(bound)) is None


def _clamped(data: DataSizes, index: IntExpr, size: IntExpr) -> IntExpr:
    """Where a bound of a slice lies in a dimension: from its end if negative, and within it."""
    if not data.env.known(ge(index, 0)):
        index = _at_least_zero(data, where(ge(index, 0), index, index + size))
    return index if data.env.known(le(index, size)) else minimum(index, size)


def _at_least_zero(data: DataSizes, value: IntExpr) -> IntExpr:
    return value if data.env.known(ge(value, 0)) else maximum(value, 0)


_RULES: dict[Any, Callable[..., Any]] = {
    aten.nonzero.default: _nonzero,
    aten.masked_select.default: _masked_select,
    aten._unique2.default: _unique,
    aten.unique_consecutive.default: _unique_consecutive,
    aten.unique_dim.default: _unique_dim,
    aten.bincount.default: _bincount,
    aten.repeat_interleave.Tensor: _repeat_interleave,
    aten._local_scalar_dense.default: _item,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.pow.Tensor_Scalar: _power,
    aten.pow.Scalar: _power_of_number,
}


def depends_on_data(func: Any) -> bool:
    """Whether an operator is one that may have to be described here."""
    return func in _RULES
