"""LoopBody: what one iteration of a loop nest computes, as an interned expression graph.

Lowerings build nodes define-by-run (`ops.add(x, y)`); equal nodes are the same object, so sharing is free and equality
is identity. Inlining a producer is substitution of its index variables, memoised, and the identity when the indices
already agree: a chain of a thousand pointwise operations stays linear. Invariant: nodes are immutable and pure; index
expressions are symshape expressions over the body's index variables and the symbols of indirect indices.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lampwork_symshape import IntExpr, Symbol, symbol

from .float_expr import FloatExpr
from .scalar_ops import SCALAR_OPS, DtypeRule


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Node:
    """Base of the nodes of a body. `dtype` is the element type of the value."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Node):
    """A literal of the node's dtype. Never compare with ==: nan and -0.0 are distinct constants by bit pattern."""

    value: float | int | bool


@dataclass(frozen=True, slots=True, eq=False)
class IndexValue(Node):
    """An index expression used as data (`arange`, a mask `i < j`)."""

    expression: IntExpr


@dataclass(frozen=True, slots=True, eq=False)
class FloatValue(Node):
    """A Python float of the call, rounded to the node's dtype as a literal would be; in a kernel, an argument."""

    expression: FloatExpr


@dataclass(frozen=True, slots=True, eq=False)
class Load(Node):
    """The element of `buffer` at the flat element offset `index` from its data pointer (strides and offset applied).

    `indirect` binds symbols that occur in `index` to the integer nodes that compute them, in order of first use; they
    are already wrapped (negative indices) and in bounds, or a `CheckedIndex` asserts it.
    """

    buffer: str
    index: IntExpr
    indirect: tuple[tuple[Symbol, Node], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Compute(Node):
    """A scalar operation on nodes."""

    op: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Masked(Node):
    """`value` where `condition` holds, else `otherwise`; loads inside `value` happen only where it holds."""

    condition: Node
    value: Node
    otherwise: float | int | bool


@dataclass(frozen=True, slots=True, eq=False)
class CheckedIndex(Node):
    """`value` (int64), wrapped when negative, asserted to lie in [0, size): eager's IndexError otherwise."""

    value: Node
    size: IntExpr


_NodeT = TypeVar("_NodeT", bound=Node)
_table: weakref.WeakValueDictionary[tuple[Any, ...], Node] = weakref.WeakValueDictionary()


def _intern(key: tuple[Any, ...], make: Callable[[], _NodeT]) -> _NodeT:
    node = _table.get(key)
    if node is None:
        node = _table.setdefault(key, make())
    return node  # pyright: ignore[reportReturnType]  (a key starts with its class)


class _Ops:
    """The builder of nodes: `ops.load(...)`, `ops.constant(...)`, and every scalar operation by name."""

    def constant(self, value: float | int | bool, dtype: torch.dtype) -> Constant:
        if dtype == torch.bool:
            value = bool(value)
        elif dtype.is_floating_point:
            value = float(value)
        else:
            value = int(value)
        return _intern((Constant, dtype, type(value), repr(value)), lambda: Constant(dtype, value))

    def index_value(self, expression: IntExpr, dtype: torch.dtype = torch.int64) -> IndexValue:
        return _intern((IndexValue, dtype, expression), lambda: IndexValue(dtype, expression))

    def float_value(self, expression: FloatExpr, dtype: torch.dtype) -> FloatValue:
        return _intern((FloatValue, dtype, expression), lambda: FloatValue(dtype, expression))

    def load(
        self, buffer: str, index: IntExpr, dtype: torch.dtype, indirect: tuple[tuple[Symbol, Node], ...] = ()
    ) -> Load:
        return _intern((Load, dtype, buffer, index, indirect), lambda: Load(dtype, buffer, index, indirect))

    def masked(self, condition: Node, value: Node, otherwise: float | int | bool) -> Masked:
        key = (Masked, condition, value, type(otherwise), repr(otherwise))
        return _intern(key, lambda: Masked(value.dtype, condition, value, otherwise))

    def checked_index(self, value: Node, size: IntExpr) -> CheckedIndex:
        return _intern((CheckedIndex, value, size), lambda: CheckedIndex(torch.int64, value, size))

    def compute(self, op: str, *arguments: Node, dtype: torch.dtype | None = None) -> Compute:
        """A scalar operation. `dtype` only for EXPLICIT operations; SAME operations need operands of one dtype."""
        row = SCALAR_OPS[op]
        if len(arguments) != row.arity:
            raise TypeError(f"scalar operation {op} takes {row.arity} operands, got {len(arguments)}")
        if row.rule is DtypeRule.EXPLICIT:
            assert dtype is not None, op
            result = dtype
        elif row.rule is DtypeRule.BOOL:
            result = torch.bool
        elif row.rule is DtypeRule.LAST:
            result = arguments[-1].dtype
        else:
            result = arguments[0].dtype
            if any(a.dtype != result for a in arguments):
                raise TypeError(f"scalar operation {op} on mixed dtypes {[a.dtype for a in arguments]}")
        return _intern((Compute, op, result, arguments), lambda: Compute(result, op, arguments))

    def to_dtype(self, value: Node, dtype: torch.dtype) -> Node:
        return value if value.dtype == dtype else self.compute("to_dtype", value, dtype=dtype)

    def __getattr__(self, name: str) -> Callable[..., Compute]:
        if name not in SCALAR_OPS:
            raise AttributeError(f"no scalar operation named {name}")
        return lambda *arguments, dtype=None: self.compute(name, *arguments, dtype=dtype)


ops = _Ops()


def index_variable(position: int, size: IntExpr | int) -> Symbol:
    """The canonical index variable of a pointwise dimension: `i0`, `i1`, ... in [0, size)."""
    return _variable("i", position, size)


def reduction_variable(position: int, size: IntExpr | int) -> Symbol:
    """The canonical index variable of a reduced dimension: `r0`, `r1`, ... in [0, size)."""
    return _variable("r", position, size)


def _variable(prefix: str, position: int, size: IntExpr | int) -> Symbol:
    if isinstance(size, int):
        upper: int | None = max(size - 1, 0)
    elif size.is_constant:
        upper = max(int(size) - 1, 0)
    else:
        bound = size.value_range.upper
        upper = None if bound is None else max(bound - 1, 0)
    return symbol(f"{prefix}{position}", 0, upper)


def operands(node: Node) -> tuple[Node, ...]:
    """The nodes that a node reads."""
    if isinstance(node, Compute):
        return node.arguments
    if isinstance(node, Load):
        return tuple(n for _, n in node.indirect)
    if isinstance(node, Masked):
        return (node.condition, node.value)
    if isinstance(node, CheckedIndex):
        return (node.value,)
    return ()


def walk(root: Node) -> Iterator[Node]:
    """Every node once, operands before users. Iterative: bodies may be thousands deep."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        stack.extend((n, False) for n in reversed(operands(node)) if n not in seen)


def rewrite(root: Node, leaf: Callable[[Node], Node | None], index: Callable[[IntExpr], IntExpr]) -> Node:
    """Rebuild a body: `leaf` may replace any node (before its operands are rebuilt), `index` maps index expressions.

    Linear in the number of distinct nodes; returns the same object when nothing changes.
    """
    done: dict[Node, Node] = {}
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if node in done:
            continue
        if not expanded:
            replacement = leaf(node)
            if replacement is not None:
                done[node] = replacement
                continue
            stack.append((node, True))
            stack.extend((n, False) for n in operands(node) if n not in done)
            continue
        done[node] = _rebuild(node, done, index)
    return done[root]


def _rebuild(node: Node, done: Mapping[Node, Node], index: Callable[[IntExpr], IntExpr]) -> Node:
    if isinstance(node, Compute):
        return ops.compute(node.op, *(done[a] for a in node.arguments), dtype=node.dtype)
    if isinstance(node, Load):
        return ops.load(node.buffer, index(node.index), node.dtype, tuple((s, done[n]) for s, n in node.indirect))
    if isinstance(node, IndexValue):
        return ops.index_value(index(node.expression), node.dtype)
    if isinstance(node, Masked):
        return ops.masked(done[node.condition], done[node.value], node.otherwise)
    if isinstance(node, CheckedIndex):
        return ops.checked_index(done[node.value], index(node.size))
    return node


def substitute(root: Node, mapping: Mapping[Symbol, IntExpr]) -> Node:
    """Inline: the body with its index variables replaced. The identity mapping returns `root` itself at once."""
    if all(key is value for key, value in mapping.items()):
        return root
    return rewrite(root, lambda _: None, lambda e: e.substitute(mapping))  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class LoopBody:
    """A function from index variables to one value.

    `variables` are `i0..` for pointwise dimensions followed, for reductions, by `r0..` for `reduction_variables`.
    """

    variables: tuple[Symbol, ...]
    reduction_variables: tuple[Symbol, ...]
    value: Node

    def reads(self) -> tuple[Load, ...]:
        """The loads of the body, in order of execution."""
        return tuple(n for n in walk(self.value) if isinstance(n, Load))
