"""`heapq` and `bisect`: C functions that compare the traced program's own objects, traced through a Python form.

Invariant: a heap is a plain list here, as CPython demands; anything else breaks the graph.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from ..polyfills import ordering
from .base import Tracer, Value
from .registry import handles

_ON_HEAPS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    heapq.heapify: ordering.heapify,
    heapq.heappush: ordering.heappush,
    heapq.heappop: ordering.heappop,
    heapq.heapreplace: ordering.heapreplace,
    heapq.heappushpop: ordering.heappushpop,
    vars(heapq)["_heapify_max"]: ordering.heapify_max,
    vars(heapq)["_heapreplace_max"]: ordering.heapreplace_max,
}
_IN_SORTED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    bisect.bisect_left: ordering.bisect_left,
    bisect.bisect_right: ordering.bisect_right,
    bisect.insort_left: ordering.insort_left,
    bisect.insort_right: ordering.insort_right,
}


def _register_traced_forms() -> None:
    for original, traced in (*_ON_HEAPS.items(), *_IN_SORTED.items()):

        @handles(original)
        def call(
            tracer: Tracer,
            args: Sequence[Value],
            kwargs: Mapping[str, Value],
            original: Callable[..., Any] = original,
            traced: Callable[..., Any] = traced,
        ) -> Value:
            if original in _ON_HEAPS and args[0].realize().python_type() is not list:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{original.__name__}` of {args[0].realize().describe()}")
            return tracer.call(tracer.constant(traced), list(args), dict(kwargs))


_register_traced_forms()
