"""What every expression node is: interned, ordered, traversable.

The ground under `expr` (integers) and `condition` (booleans): intern tables, memos, the canonical order, substitution
and evaluation. Invariants: a node's children exist before it, so the node graph is acyclic; every traversal visits a
shared node once and needs no recursion, so depth is not limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, cast

from .kind import Kind
from .printer import PythonPrinter

if TYPE_CHECKING:
    from .expr import IntExpr, Symbol

Order: TypeAlias = tuple[str, int, int, int, int]
E = TypeVar("E", bound="Expr")

_RANK = {kind: rank for rank, kind in enumerate(Kind)}
_MASK = (1 << 60) - 1
_MEMO_LIMIT = 1 << 17  # entries; a memo is a cache only and is emptied when it is full

interned: dict[tuple[object, ...], Any] = {}
"""Every node, by what it is made of. Filled with `setdefault`, which is atomic: threads agree on one object."""


def remember(memo: dict[Any, E], key: tuple[Any, ...], value: E) -> E:
    """Store in a bounded memo."""
    if len(memo) >= _MEMO_LIMIT:
        memo.clear()
    memo[key] = value
    return value


def _mix(number: int) -> int:
    # hash(-1) == hash(-2) and integers hash modulo 2**61 - 1: fold the sign and the high digits in
    if 0 <= number <= _MASK:
        return number
    magnitude = abs(number)
    return hash((1 if number < 0 else 2, magnitude & _MASK, (magnitude >> 60) & _MASK, magnitude >> 120))


class SymbolicValueError(TypeError):
    """A Python number or truth value was asked of an expression that depends on symbols."""

    def __init__(self, expr: Expr, wanted: str, hint: str) -> None:
        super().__init__(f"'{expr}' depends on {_names(expr)}, so it has no {wanted}. Hint: {hint}")
        self.expr = expr
        self.hint = hint


def _names(expr: Expr) -> str:
    return ", ".join(s.name for s in sorted(expr.free_symbols, key=lambda s: s.order))


class Expr:
    """An integer or boolean expression. Immutable and interned: compare with `is` or `==`, both by identity."""

    __slots__ = ("__weakref__", "children", "free_symbols", "order")
    kind: ClassVar[Kind]

    children: tuple[Expr, ...]
    """The operands, each once, in canonical order."""
    free_symbols: frozenset[Symbol]
    """Every symbol inside."""
    order: Order
    """Sort key: leading symbol, kind, depth and a digest; the same in every process."""

    def seal(self, children: tuple[Expr, ...], *numbers: int) -> None:
        """Fill what every node has, from its operands."""
        self.children = children
        prefix, number, depth = "", 0, 0
        free: frozenset[Symbol] = frozenset()
        digests: list[int] = []
        for child in children:
            order = child.order
            if order[3] > depth:
                depth = order[3]
            if child.free_symbols:
                if not prefix or (order[0], order[1]) < (prefix, number):
                    prefix, number = order[0], order[1]
                if not free:
                    free = child.free_symbols
                elif free is not child.free_symbols and not child.free_symbols <= free:
                    free = free | child.free_symbols
            digests.append(order[4])
        self.free_symbols = free
        rank = _RANK[self.kind]
        self.order = (prefix, number, rank, depth + 1, hash((rank, *digests, *map(_mix, numbers))))

    @property
    def is_constant(self) -> bool:
        """Whether the expression is a literal."""
        return False

    def substitute(self: E, mapping: Mapping[Symbol, IntExpr | int]) -> E:
        """Replace symbols, all at once, and simplify again.

        Linear in the number of distinct nodes; returns the same object when nothing changes.
        """
        return cast(E, _substitute(self, mapping))

    def evaluate(self, mapping: Mapping[Symbol, int]) -> int | bool:
        """The value for these values of the symbols.

        Raises KeyError for a symbol that is not in `mapping` and ZeroDivisionError as Python does.
        """
        values: dict[Expr, Any] = {}
        for node in postorder(self):
            values[node] = node._value([values[c] for c in node.children], mapping)
        return cast("int | bool", values[self])

    def replaced(self, mapping: Mapping[Symbol, IntExpr | int]) -> Expr:
        """What `mapping` says this node is, if it is a symbol."""
        return self

    def _rebuild(self, children: Sequence[Any]) -> Expr:
        raise NotImplementedError

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int | bool:
        raise NotImplementedError

    def __str__(self) -> str:
        return _python(self)

    def __repr__(self) -> str:
        return str(self)

    def __copy__(self: E) -> E:
        return self

    def __deepcopy__(self: E, memo: object) -> E:
        return self


def postorder(root: Expr, keep: frozenset[Symbol] | None = None) -> Iterator[Expr]:
    """Every distinct node under `root`, operands first; with `keep`, only nodes that contain one of those symbols."""
    done: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in done and (keep is None or not keep.isdisjoint(node.free_symbols)):
            done.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child in node.children)


def _substitute(root: Expr, mapping: Mapping[Symbol, IntExpr | int]) -> Expr:
    wanted = root.free_symbols.intersection(mapping)
    if not wanted:
        return root
    results: dict[Expr, Expr] = {}
    for node in postorder(root, wanted):
        if node.kind is Kind.SYMBOL:
            results[node] = node.replaced(mapping)
            continue
        children = [results.get(child, child) for child in node.children]
        if all(new is old for new, old in zip(children, node.children)):
            results[node] = node
        else:
            results[node] = node._rebuild(children)
    return results[root]


_python = PythonPrinter()
