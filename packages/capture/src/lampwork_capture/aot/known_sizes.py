"""Questions about symbolic sizes that leave no fact behind: what is known already, and how it was in the traced call.

A fact that this stage makes is checked at every call of the compiled graph and excludes the calls where it does not
hold, so it asks what is known first, and orders dimensions by the traced call's numbers: an order is only a choice,
which every user of these functions confirms by what it asks afterwards. Invariant: nothing here records a fact but
`equal_strides`, whose True may be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import SymBool, SymInt, Tensor


def known(condition: bool | SymBool | Any) -> bool:
    """Whether a condition certainly holds."""
    if not isinstance(condition, SymBool):
        return bool(condition)
    node: Any = condition.node
    asked = getattr(node, "statically_known_true", None)
    return bool(asked("", 0)) if asked is not None else False


def traced(number: Any) -> int:
    """The value of a size in the traced call; 2**62 where only the run time knows."""
    if not isinstance(number, SymInt):
        return int(number)
    hint = getattr(number.node, "hint", None)
    return hint if type(hint) is int else 2**62


def by_stride(sizes: Sequence[Any], strides: Sequence[Any]) -> list[int]:
    """The dimensions from the innermost to the outermost one, as in the traced call."""
    return sorted(range(len(strides)), key=lambda d: (traced(strides[d]), traced(sizes[d])))


def known_equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two lists of sizes or strides are certainly equal."""
    return len(a) == len(b) and all(x is y or known(x == y) for x, y in zip(a, b))


def equal_strides(sizes: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether strides agree where they matter. That they do is a fact where it is not known; that they do not, as in
    the traced call, is none: whoever is told so makes them equal."""
    for size, x, y in zip(sizes, a, b):
        if x is y or known(x == y) or known(size == 1):
            continue
        if traced(size) == 1 and bool(size == 1):
            continue
        if traced(x) != traced(y) or not bool(x == y):
            return False
    return True


def is_contiguous(t: Tensor) -> bool:
    """Whether a tensor is certainly row-major."""
    if not any(isinstance(n, SymInt) for n in (*t.shape, *t.stride())):
        return t.is_contiguous()
    expected: Any = 1
    for size, stride in zip(reversed(t.shape), reversed(t.stride())):
        if not known(size == 1) and not known(stride == expected):
            return False
        expected = expected * size
    return True


def may_be_empty(t: Tensor, dims: Sequence[int] | None = None) -> bool:
    """Whether a tensor is empty, or, where its sizes depend on data, one of `dims` (None: all) may be 0."""
    if not any(isinstance(size, SymInt) for size in t.shape):
        return t.numel() == 0
    if any(type(size) is int and size == 0 for size in t.shape):
        return True
    wanted = t.shape if dims is None else [t.shape[dim] for dim in dims]
    return not all(known(size > 0) for size in wanted)
