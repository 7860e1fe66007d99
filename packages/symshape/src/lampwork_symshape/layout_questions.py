"""Layout questions: what torch asks about sizes only to describe memory in the best way, where any answer is right.

Asked by `sym_node` before an answer by hint becomes a fact. torch sorts dimensions by stride, and expands operands to
the shape they are broadcast to; for a dimension that turns out to be of size 1 the other answer gives strides that mean
nothing, or a view of the same elements. Invariant: a function is listed only if its callers compute the same whichever
answer they get; one that this torch does not have is asked about as any other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

import torch._prims_common
import torch._refs

_ANSWERED_IN = 3  # frames between the function that asks and ours: torch's guard_or_false, and what it shares


def _codes() -> Iterator[CodeType]:
    # sorts (size, stride) of all dimensions: strides are equal only where a size is 1
    compare = getattr(getattr(torch._prims_common, "K", None), "__lt__", None)
    yield from filter(None, [getattr(compare, "__code__", None)])
    # whether an operand is expanded to the common shape, which leaves one of that shape as it is
    broadcast: Any = getattr(torch._refs, "_maybe_broadcast", None)
    for constant in getattr(getattr(broadcast, "__code__", None), "co_consts", ()):
        if isinstance(constant, CodeType) and constant.co_name == "should_expand":
            yield constant


_CODES: frozenset[CodeType] = frozenset(_codes())


def is_layout_question() -> bool:
    """Whether the function of torch that asks the environment's `evaluate_sym_node` right now is one of these."""
    frame = sys._getframe(2)
    for _ in range(_ANSWERED_IN):
        if frame.f_code in _CODES:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
