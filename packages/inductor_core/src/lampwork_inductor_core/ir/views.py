"""Views as index maps: how the elements of a view are found in the tensor that it views.

The lowering describes every view operator with these pure functions over symshape expressions; where an index map is
affine it becomes a strided layout and costs nothing. Invariant: a map's expressions range over the canonical index
variables of the view's own sizes (`i0`, `i1`, ...; a dimension of size one contributes the literal 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch
from lampwork_symshape import IntExpr, Kind, Symbol, integer, stride_of, symbol
from lampwork_symshape.node import postorder
from lampwork_symshape.rules import factors_of

from .layout import Layout, contiguous_strides
from .loop_body import index_variable
from .size_facts import with_facts

if TYPE_CHECKING:
    from lampwork_symshape.expr import Max

Indices = tuple[IntExpr, ...]
ZERO = integer(0)
ONE = integer(1)


class UnknownSize(ValueError):
    """A size that only the run will tell (how many elements are not zero, ...): no expression stands for it."""


def to_expr(value: int | torch.SymInt | IntExpr) -> IntExpr:
    """A size as torch gives it (an int, or a SymInt whose node carries a symshape expression) as an expression.

    Raises UnknownSize for one that depends on data.
    """
    if isinstance(value, IntExpr):
        return value
    if isinstance(value, torch.SymInt):
        expression = getattr(value.node, "expr", None)
        if isinstance(expression, IntExpr):
            return with_facts(expression, value.node.shape_env)
        if not value.node.has_hint():
            raise UnknownSize(f"size {value} depends on data")
        return integer(int(value))
    return integer(value)


def raw_expr(value: torch.SymInt) -> IntExpr:
    """The expression behind a SymInt as it was traced, whatever facts say. Raises UnknownSize if it is not ours."""
    expression = getattr(value.node, "expr", None)
    if not isinstance(expression, IntExpr):
        raise UnknownSize(f"size {value} is of another environment")
    return expression


def to_exprs(values: Sequence[int | torch.SymInt | IntExpr]) -> Indices:
    """`to_expr` of each."""
    return tuple([to_expr(v) for v in values])


def stride_exprs(strides: Sequence[int | torch.SymInt]) -> Indices:
    """Strides as torch gives them, as expressions.

    torch counts an empty dimension as one element in contiguous strides, `max(size, 1)`; where a tensor is empty its
    strides say nothing, so here they are products of sizes.
    """
    return tuple([_without_least_one(to_expr(s)) for s in strides])


def _without_least_one(stride: IntExpr) -> IntExpr:
    found: dict[Symbol, IntExpr] = {}
    result = stride
    for factor in postorder(stride):
        if factor.kind is not Kind.MAX:
            continue
        rest = [a for a in cast("Max", factor).args if a != 1]
        if len(rest) == 1 and rest[0].lower is not None and rest[0].lower >= 0:
            found[symbol(f"least_one_{len(found)}", 1)] = rest[0]
            result = _replaced(result, cast("IntExpr", factor), next(reversed(found)))
    return result.substitute(found) if found else stride


def _replaced(expression: IntExpr, old: IntExpr, new: IntExpr) -> IntExpr:
    """`expression` with one of its terms' factors replaced; as it is where `old` is nested deeper."""
    total: IntExpr = integer(expression.constant)
    for term, coefficient in expression.terms:
        product: IntExpr = integer(coefficient)
        for factor in factors_of(term):
            product = product * (new if factor is old else factor)
        total = total + product
    return total


@lru_cache(maxsize=4096)
def canonical_indices(sizes: Indices) -> Indices:
    """The index of a general element of a tensor of these sizes: a variable a dimension, 0 where the size is one."""
    return tuple([ZERO if size == 1 else index_variable(k, size) for k, size in enumerate(sizes)])


@lru_cache(maxsize=4096)
def canonical_variables(sizes: Indices) -> tuple[Symbol, ...]:
    """The variables of a loop nest of these sizes, those of dimensions of size one included."""
    return tuple([index_variable(k, size) for k, size in enumerate(sizes)])


def element_count(sizes: Sequence[IntExpr]) -> IntExpr:
    """The product of the sizes."""
    count: IntExpr = ONE
    for size in sizes:
        count = count * size
    return count


@dataclass(frozen=True, slots=True)
class IndexMap:
    """A view of sizes `sizes` whose general element lies at `indices` of the viewed tensor."""

    sizes: Indices
    indices: Indices

    def at(self, indices: Sequence[IntExpr]) -> Indices:
        """Where the element at `indices` of the view lies in the viewed tensor."""
        return substitute_indices(self.indices, self.sizes, indices)

    def after(self, inner: IndexMap) -> IndexMap:
        """The view (self) of a view (inner) as one map."""
        return IndexMap(self.sizes, inner.at(self.indices))


def substitute_indices(expressions: Indices, sizes: Indices, indices: Sequence[IntExpr]) -> Indices:
    """`expressions` over the canonical variables of `sizes`, at `indices`."""
    mapping = {v: index for v, index in zip(canonical_variables(sizes), indices) if v is not index}
    return tuple([e.substitute(mapping) for e in expressions]) if mapping else expressions


def map_of(sizes: Indices, function: Callable[[Indices], Sequence[IntExpr]]) -> IndexMap:
    """The map of a view given as a function from its indices to the viewed tensor's."""
    return IndexMap(sizes, tuple(function(canonical_indices(sizes))))


def affine_layout(layout: Layout, view: IndexMap) -> Layout | None:
    """The layout of `view` of a buffer with `layout` when it is strided (strides >= 0), else None.

    Strides of dimensions of size one carry no information and are made to look contiguous.
    """
    rest = layout.index(view.indices)
    variables = canonical_indices(view.sizes)
    strides: list[IntExpr] = []
    for variable, size in zip(variables, view.sizes):
        if size == 1:
            strides.append(ONE)
            continue
        assert isinstance(variable, Symbol)
        stride = stride_of(rest, variable)
        if stride is None or stride.lower is None or stride.lower < 0:
            return None
        strides.append(stride)
        rest = rest.substitute({variable: 0})
    if any(v in rest.free_symbols for v in variables if isinstance(v, Symbol)):
        return None
    for k in range(len(strides) - 2, -1, -1):
        if view.sizes[k] == 1:
            strides[k] = strides[k + 1] * view.sizes[k + 1]
    return Layout(layout.device, layout.dtype, view.sizes, tuple(strides), rest)


@dataclass(frozen=True, slots=True)
class _Group:
    """Positions of old and new dimensions (none of size one) that hold the same elements."""

    old: tuple[int, ...]
    new: tuple[int, ...]


def _groups(old: Indices, new: Indices) -> list[_Group]:
    """Split a reshape into the finest groups of dimensions whose products agree. Linear in the number of dimensions."""
    left = [k for k, size in enumerate(old) if size != 1]
    right = [k for k, size in enumerate(new) if size != 1]
    groups: list[_Group] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start_i, start_j = i, j
        a, b = old[left[i]], new[right[j]]
        i, j = i + 1, j + 1
        while a is not b:
            extend_left = int(a) < int(b) if a.is_constant and b.is_constant else (b % a) == 0
            if extend_left and i < len(left):
                a = a * old[left[i]]
                i += 1
            elif not extend_left and j < len(right):
                b = b * new[right[j]]
                j += 1
            else:  # sizes that cannot be told apart symbolically: one group of all that is left
                i, j = len(left), len(right)
                break
        groups.append(_Group(tuple(left[start_i:i]), tuple(right[start_j:j])))
    return groups


def reshape_map(old: Indices, new: Indices) -> IndexMap:
    """The map of a reshape; both sizes hold equally many elements. Only merged dimensions cost a division."""
    if any(size == 0 for size in new):
        return IndexMap(new, (ZERO,) * len(old))
    variables = canonical_indices(new)
    indices: list[IntExpr] = [ZERO] * len(old)
    for group in _groups(old, new):
        flat: IntExpr = ZERO
        for k in group.new:
            flat = flat * new[k] + variables[k]
        for position, k in enumerate(reversed(group.old)):
            last = position == len(group.old) - 1
            indices[k] = flat if last else flat % old[k]
            if not last:
                flat = flat // old[k]
    return IndexMap(new, tuple(indices))


def reshape_layout(layout: Layout, new: Indices) -> Layout | None:
    """The layout of a reshape when the strides allow it without a copy, else None."""
    if any(size == 0 for size in new):
        return Layout(layout.device, layout.dtype, new, contiguous_strides(new), layout.offset)
    strides: list[IntExpr] = [ZERO] * len(new)
    for group in _groups(layout.sizes, new):
        for outer, inner in zip(group.old, group.old[1:]):
            if layout.strides[outer] != layout.strides[inner] * layout.sizes[inner]:
                return None
        running = layout.strides[group.old[-1]]
        for k in reversed(group.new):
            strides[k] = running
            running = running * new[k]
    following: IntExpr = ONE
    for k in range(len(new) - 1, -1, -1):
        if new[k] == 1:
            strides[k] = following
        following = strides[k] * new[k]
    return Layout(layout.device, layout.dtype, new, tuple(strides), layout.offset)


def span_of(layout: Layout) -> IntExpr:
    """How many elements lie between a buffer's first one (offset 0) and the layout's last one, that included."""
    if any(size == 0 for size in layout.sizes):
        return ZERO
    last = layout.offset + 1
    for size, stride in zip(layout.sizes, layout.strides):
        last = last + (size - 1) * stride
    return last


def _is_dense_in_some_order(sizes: Sequence[IntExpr], strides: Sequence[IntExpr]) -> bool:
    waiting = [k for k, size in enumerate(sizes) if size != 1]
    expected: IntExpr = ONE
    while waiting:
        found = next((k for k in reversed(waiting) if strides[k] == expected), None)
        if found is None:
            return False
        waiting.remove(found)
        expected = expected * sizes[found]
    return True


def is_dense(sizes: Sequence[IntExpr], strides: Sequence[IntExpr]) -> bool:
    """Whether the strides are a permutation of contiguous ones: no gaps and no overlap (torch's term too)."""
    if any(size == 0 for size in sizes):
        return True
    if not all(e.is_constant for e in (*sizes, *strides)):
        return _is_dense_in_some_order(sizes, strides)
    expected = 1
    for stride, size in sorted((int(stride), int(size)) for size, stride in zip(sizes, strides) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True
