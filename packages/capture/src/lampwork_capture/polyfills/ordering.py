"""`heapq` and `bisect` in plain Python, traced in place of the library's C functions, which cannot be traced.

Items may be anything that `<` compares, so the comparisons are those of the traced program. Invariant: the same items
in the same places, found by the same comparisons in the same order, as with CPython's functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Key = Callable[[Any], Any]
Before = Callable[[Any, Any], bool]


def _less(a: Any, b: Any) -> bool:
    return a < b


def _greater(a: Any, b: Any) -> bool:
    return b < a  # not `a > b`: items need only define `<`


def _toward_root(heap: list[Any], first: int, place: int, before: Before) -> None:
    """Move the item at `place` up, not above `first`, past every parent that it comes before."""
    item = heap[place]
    while place > first:
        parent = (place - 1) >> 1
        if not before(item, heap[parent]):
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = item


def _from_root(heap: list[Any], place: int, before: Before = _less) -> None:
    """Move the item at `place` down to a leaf along the first of the children, then up to where it belongs."""
    size, first, item = len(heap), place, heap[place]
    child = 2 * place + 1
    while child < size:
        other = child + 1
        if other < size and not before(heap[child], heap[other]):
            child = other
        heap[place] = heap[child]
        place, child = child, 2 * child + 1
    heap[place] = item
    _toward_root(heap, first, place, before)


def heapify(heap: list[Any]) -> None:
    """`heapq.heapify`."""
    for place in range(len(heap) // 2 - 1, -1, -1):
        _from_root(heap, place)


def heappush(heap: list[Any], item: Any) -> None:
    """`heapq.heappush`."""
    heap.append(item)
    _toward_root(heap, 0, len(heap) - 1, _less)


def heappop(heap: list[Any]) -> Any:
    """`heapq.heappop`."""
    if not heap:
        raise IndexError("index out of range")
    last = heap.pop()
    if not heap:
        return last
    least, heap[0] = heap[0], last
    _from_root(heap, 0)
    return least


def heapreplace(heap: list[Any], item: Any) -> Any:
    """`heapq.heapreplace`."""
    if not heap:
        raise IndexError("index out of range")
    least, heap[0] = heap[0], item
    _from_root(heap, 0)
    return least


def heappushpop(heap: list[Any], item: Any) -> Any:
    """`heapq.heappushpop`."""
    if heap and heap[0] < item:
        item, heap[0] = heap[0], item
        _from_root(heap, 0)
    return item


def heapify_max(heap: list[Any]) -> None:
    """The heap of `heapq.nlargest`: its greatest item is first."""
    for place in range(len(heap) // 2 - 1, -1, -1):
        _from_root(heap, place, _greater)


def heapreplace_max(heap: list[Any], item: Any) -> Any:
    """`heapreplace` of a heap whose greatest item is first."""
    if not heap:
        raise IndexError("index out of range")
    greatest, heap[0] = heap[0], item
    _from_root(heap, 0, _greater)
    return greatest


def bisect_left(a: Any, x: Any, lo: int = 0, hi: int | None = None, *, key: Key | None = None) -> int:
    """`bisect.bisect_left`: the first place whose item is not less than `x`."""
    if lo < 0:
        raise ValueError("lo must be non-negative")
    end = len(a) if hi is None else hi
    while lo < end:
        middle = (lo + end) // 2
        if (a[middle] if key is None else key(a[middle])) < x:
            lo = middle + 1
        else:
            end = middle
    return lo


def bisect_right(a: Any, x: Any, lo: int = 0, hi: int | None = None, *, key: Key | None = None) -> int:
    """`bisect.bisect_right`: the first place whose item is greater than `x`."""
    if lo < 0:
        raise ValueError("lo must be non-negative")
    end = len(a) if hi is None else hi
    while lo < end:
        middle = (lo + end) // 2
        if x < (a[middle] if key is None else key(a[middle])):
            end = middle
        else:
            lo = middle + 1
    return lo


def insort_left(a: Any, x: Any, lo: int = 0, hi: int | None = None, *, key: Key | None = None) -> None:
    """`bisect.insort_left`."""
    a.insert(bisect_left(a, x if key is None else key(x), lo, hi, key=key), x)


def insort_right(a: Any, x: Any, lo: int = 0, hi: int | None = None, *, key: Key | None = None) -> None:
    """`bisect.insort_right`."""
    a.insert(bisect_right(a, x if key is None else key(x), lo, hi, key=key), x)
