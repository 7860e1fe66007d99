"""Layout questions: what torch asks about sizes only to describe memory in the best way, where any answer is right.

And one to which one answer is right for all sizes, though another describes some more simply; and one of which torch
thinks so although the answer shows. Asked by `sym_node` before an answer by hint becomes a fact. torch sorts dimensions
by stride, and expands operands to a common shape; for a size of 1 the other answer gives strides that mean nothing, or
a view of the same elements. Invariant: a function is listed only if its callers compute the same whichever answer they
get; one that this torch does not have is asked about as any other.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import torch._prims_common
import torch._refs
import torch._subclasses.fake_impls

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
# where a slice starts or ends; for an answer that is not known it goes on to the minimum or maximum of both cases
_SLICE_INDEX: CodeType | None = getattr(
    getattr(torch._subclasses.fake_impls, "_compute_slice_index", None), "__code__", None
)

# which dimensions are left out: one that is kept for a size of 1 shows, whatever torch makes of the answer
_SQUEEZE: CodeType | None = getattr(inspect.unwrap(torch._refs.squeeze), "__code__", None)


def is_answer_seen() -> bool:
    """Whether it asks what the shape of its result shows, so that no answer is right for all sizes."""
    return any(frame.f_code is _SQUEEZE for frame in _asking(_ANSWERED_IN + 1))  # it asks in a generator


def is_layout_question() -> bool:
    """Whether the function of torch that asks the environment's `evaluate_sym_node` right now is one of these."""
    return any(frame.f_code in _CODES for frame in _asking())


def asks_for_the_last() -> bool:
    """Whether it asks if there are as many as `x[-k:]` takes, which are all of them where there are fewer.

    Then a fallback is right for all sizes: the size is a minimum, and never 0. Of slices with an end that is not so."""
    asking = next((frame for frame in _asking() if frame.f_code is _SLICE_INDEX), None)
    if asking is None or asking.f_back is None:
        return False
    index = asking.f_locals.get("index")
    return type(index) is int and index < 0 and asking.f_back.f_locals.get("end", 0) in (None, sys.maxsize)


def _asking(most: int = _ANSWERED_IN) -> list[FrameType]:
    """The frames in which the function may run that asks `evaluate_sym_node`, which asks who asks us."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and len(frames) < most:
        frames.append(frame)
        frame = frame.f_back
    return frames
