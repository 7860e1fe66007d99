"""Value ranges: the interval of integers that an expression can take.

Ranges are computed once when an expression is built and decide most simplifications and comparisons.
Invariant: every operation is sound - the result contains every value that the operands' values can produce
(divisions by zero excepted, which produce no value). `None` is an absent bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

Bound = int | None
Bounds = tuple[Bound, Bound]


def _low(bound: Bound) -> float | int:
    return -inf if bound is None else bound


def _high(bound: Bound) -> float | int:
    return inf if bound is None else bound


def _bound(value: float | int) -> Bound:
    return value if isinstance(value, int) else None


def _times(x: float | int, y: float | int) -> float | int:
    if x == 0 or y == 0:
        return 0
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    return inf if (x > 0) == (y > 0) else -inf


def add_bounds(al: Bound, ah: Bound, bl: Bound, bh: Bound) -> Bounds:
    """The interval of x + y."""
    return (
        None if al is None or bl is None else al + bl,
        None if ah is None or bh is None else ah + bh,
    )


def mul_bounds(al: Bound, ah: Bound, bl: Bound, bh: Bound) -> Bounds:
    """The interval of x * y for independent x and y."""
    if al is not None and bl is not None and al >= 0 and bl >= 0 and ah is not None and bh is not None:
        return al * bl, ah * bh
    x0, x1, y0, y1 = _low(al), _high(ah), _low(bl), _high(bh)
    corners = (_times(x0, y0), _times(x0, y1), _times(x1, y0), _times(x1, y1))
    return _bound(min(corners)), _bound(max(corners))


def scale_bounds(low: Bound, high: Bound, factor: int) -> Bounds:
    """The interval of factor * x."""
    if factor < 0:
        low, high = high, low
    return (
        None if low is None else low * factor,
        None if high is None else high * factor,
    )


def square_bounds(low: Bound, high: Bound) -> Bounds:
    """The interval of x * x."""
    if low is not None and low >= 0:
        return low * low, None if high is None else high * high
    if high is not None and high <= 0:
        return high * high, None if low is None else low * low
    return 0, None if low is None or high is None else max(low * low, high * high)


def union_bounds(al: Bound, ah: Bound, bl: Bound, bh: Bound) -> Bounds:
    """The smallest interval that contains both."""
    return (
        None if al is None or bl is None else min(al, bl),
        None if ah is None or bh is None else max(ah, bh),
    )


def _div_positive(al: Bound, ah: Bound, p: int, q: Bound) -> Bounds:
    """x // y for y in [p, q], p >= 1."""
    if al is None:
        low: Bound = None
    elif al < 0:
        low = al // p
    else:
        low = 0 if q is None else al // q
    if ah is None:
        high: Bound = None
    elif ah >= 0:
        high = ah // p
    else:
        high = -1 if q is None else ah // q
    return low, high


def floor_div_bounds(al: Bound, ah: Bound, bl: Bound, bh: Bound) -> Bounds:
    """The interval of x // y (floor), over the non-zero values of y."""
    parts: list[Bounds] = []
    if bh is None or bh >= 1:
        parts.append(_div_positive(al, ah, 1 if bl is None or bl < 1 else bl, bh))
    if bl is None or bl <= -1:
        nl, nh = scale_bounds(al, ah, -1)
        parts.append(_div_positive(nl, nh, 1 if bh is None or bh > -1 else -bh, None if bl is None else -bl))
    if not parts:
        return None, None
    return parts[0] if len(parts) == 1 else union_bounds(*parts[0], *parts[1])


def mod_bounds(al: Bound, ah: Bound, bl: Bound, bh: Bound) -> Bounds:
    """The interval of x % y (sign of y), over the non-zero values of y."""
    if bl is not None and bl >= 1:
        if bl == bh and al is not None and ah is not None and al // bl == ah // bl:
            return al % bl, ah % bl
        top = None if bh is None else bh - 1
        if al is not None and al >= 0:
            if ah is not None and ah < bl:
                return al, ah
            if ah is not None and (top is None or ah < top):
                top = ah
        return 0, top
    if bh is not None and bh <= -1:
        return (None if bl is None else bl + 1), 0
    return (
        None if bl is None else min(bl + 1, 0),
        None if bh is None else max(bh - 1, 0),
    )


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The integers from `lower` to `upper`, both inclusive; `None` is unbounded on that side."""

    lower: int | None = None
    upper: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no integer is inside."""
        return self.lower is not None and self.upper is not None and self.lower > self.upper

    @property
    def is_bounded(self) -> bool:
        """Whether both bounds exist."""
        return self.lower is not None and self.upper is not None

    @property
    def is_singleton(self) -> bool:
        """Whether exactly one integer is inside."""
        return self.lower is not None and self.lower == self.upper

    def __contains__(self, value: int) -> bool:
        return (self.lower is None or self.lower <= value) and (self.upper is None or value <= self.upper)

    def __iter__(self) -> Iterator[int]:
        if self.lower is None or self.upper is None:
            raise ValueError(f"the range {self} has no end; only a bounded range can be iterated")
        return iter(range(self.lower, self.upper + 1))

    def __add__(self, other: ValueRange) -> ValueRange:
        return ValueRange(*add_bounds(self.lower, self.upper, other.lower, other.upper))

    def __neg__(self) -> ValueRange:
        return ValueRange(*scale_bounds(self.lower, self.upper, -1))

    def __sub__(self, other: ValueRange) -> ValueRange:
        return self + -other

    def __mul__(self, other: ValueRange) -> ValueRange:
        return ValueRange(*mul_bounds(self.lower, self.upper, other.lower, other.upper))

    def __floordiv__(self, other: ValueRange) -> ValueRange:
        return ValueRange(*floor_div_bounds(self.lower, self.upper, other.lower, other.upper))

    def __mod__(self, other: ValueRange) -> ValueRange:
        return ValueRange(*mod_bounds(self.lower, self.upper, other.lower, other.upper))

    def union(self, other: ValueRange) -> ValueRange:
        """The smallest range that contains both."""
        return ValueRange(*union_bounds(self.lower, self.upper, other.lower, other.upper))

    def intersect(self, other: ValueRange) -> ValueRange:
        """The integers in both; may be empty."""
        lowers = [b for b in (self.lower, other.lower) if b is not None]
        uppers = [b for b in (self.upper, other.upper) if b is not None]
        return ValueRange(max(lowers) if lowers else None, min(uppers) if uppers else None)

    def minimum(self, other: ValueRange) -> ValueRange:
        """The range of min(x, y)."""
        uppers = [b for b in (self.upper, other.upper) if b is not None]
        low = None if self.lower is None or other.lower is None else min(self.lower, other.lower)
        return ValueRange(low, min(uppers) if uppers else None)

    def maximum(self, other: ValueRange) -> ValueRange:
        """The range of max(x, y)."""
        return -((-self).minimum(-other))

    def __str__(self) -> str:
        low = "-inf" if self.lower is None else str(self.lower)
        high = "inf" if self.upper is None else str(self.upper)
        return f"[{low}, {high}]"
