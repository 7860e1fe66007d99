"""Reductions in C++: the accumulator of each kind, how it takes a value and how its lanes combine.

Used by `body` for every accumulating stage. A scalar loop has one accumulator, a vectorised inner loop one or several
vectors of them (several hide the latency of the addition), combined in a fixed order. Invariant: a lane that a tail
leaves inactive takes the identity, and nan wins in MAX, MIN, ARGMAX and ARGMIN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind

from .ops import literal, register_type, vector_type

PARTIALS = 4
"""Vector accumulators of one reduction, at most."""

LONG_SUM = 2048
"""Additions to one accumulator from which on a floating-point sum is added up in blocks."""

_ARGUMENT = (ReductionKind.ARGMAX, ReductionKind.ARGMIN)


@dataclass(frozen=True, slots=True)
class Accumulator:
    """One reduction: its kind, and the dtype of what it accumulates (for ARGMAX and ARGMIN, of the values compared)."""

    name: str
    kind: ReductionKind
    dtype: torch.dtype
    cascade: bool = False  # a long floating-point sum: added up in blocks, so that rounding errors stay small

    @property
    def is_position(self) -> bool:
        """Whether it is a position that is wanted."""
        return self.kind in _ARGUMENT

    def identity(self) -> str:
        """The identity as a scalar literal."""
        return identity(self.kind, self.dtype)

    def declare(self, vector: bool, partials: int = 1) -> str:
        """The statement that declares it; `partials` > 1 makes an array."""
        if self.is_position:
            lanes = "_lanes" if vector else ""
            greatest = "true" if self.kind is ReductionKind.ARGMAX else "false"
            zero = f"{self.identity()}, int64_t(0)"
            return f"lw::best{lanes}<{register_type(self.dtype)}, {greatest}> {self.name}{{{zero}}};"
        cpp = vector_type(self.dtype) if vector else register_type(self.dtype)
        if self.cascade:
            return f"lw::cascade<{cpp}> {self.name}{f'[{partials}]' if partials > 1 else ''};"
        if partials == 1:
            return f"{cpp} {self.name} = {self.identity()};"
        return f"{cpp} {self.name}[{partials}] = {{{', '.join([self.identity()] * partials)}}};"

    def take(self, value: str, position: str, active: str | None, part: str = "") -> str:
        """The statement that combines a value. `active` is None in scalar loops; `part` indexes the partials."""
        target = self.name + part
        if self.is_position:
            arguments = f"{value}, {position}" if active is None else f"{value}, {position}, {active}"
            return f"{target}.take({arguments});"
        if active is not None and active != "lw::all":
            value = f"lw::keep({active}, {value}, {vector_type(self.dtype)}({self.identity()}))"
        if self.cascade:
            return f"{target}.take({value});"
        return f"{target} = {combined(self.kind, target, value, self.dtype)};"

    def merge_partials(self, partials: int) -> str:
        """All partials as one vector, in a fixed order."""
        total = ".total()" if self.cascade else ""
        texts = [f"{self.name}[{k}]{total}" for k in range(partials)]
        while len(texts) > 1:
            pairs = [combined(self.kind, a, b, self.dtype, nested=True) for a, b in zip(texts[::2], texts[1::2])]
            texts = pairs + ([texts[-1]] if len(texts) % 2 else [])
        return texts[0]

    def result(self, vector: bool, partials: int = 1) -> str:
        """The finished scalar: lanes combined."""
        if self.is_position:
            return f"{self.name}.combine().index" if vector else f"{self.name}.index"
        name = f"{self.name}.total()" if self.cascade else self.name
        if not vector:
            return name
        merged = name if partials == 1 else self.merge_partials(partials)
        return f"{_HORIZONTAL[self.kind]}({merged})"

    def result_per_lane(self, part: str = "") -> str:
        """The finished value of each lane, where the lanes are different outer points (and so are the partials)."""
        name = self.name + part
        if self.cascade:
            return f"{name}.total()"
        return f"{name}.index" if self.is_position else name


_HORIZONTAL: dict[ReductionKind, str] = {
    ReductionKind.SUM: "lw::sum_lanes",
    ReductionKind.PROD: "lw::product_lanes",
    ReductionKind.MAX: "lw::max_lanes",
    ReductionKind.MIN: "lw::min_lanes",
    ReductionKind.ANY: "lw::any_lane",
    ReductionKind.ALL: "lw::every_lane",
    ReductionKind.XOR_SUM: "lw::xor_lanes",
}


def identity(kind: ReductionKind, dtype: torch.dtype) -> str:
    """What a reduction starts from, as C++ text."""
    if kind is ReductionKind.ANY:
        return "false"
    if kind is ReductionKind.ALL:
        return "true"
    if kind is ReductionKind.PROD:
        return literal(1, dtype)
    if kind in (ReductionKind.SUM, ReductionKind.XOR_SUM):
        return literal(0, dtype)
    greatest = kind in (ReductionKind.MAX, ReductionKind.ARGMAX)
    if dtype == torch.bool:
        return "false" if greatest else "true"
    if dtype.is_floating_point:
        return literal(float("-inf") if greatest else float("inf"), dtype)
    limits = torch.iinfo(dtype)
    return literal(limits.min if greatest else limits.max, dtype)


def combined(kind: ReductionKind, a: str, b: str, dtype: torch.dtype, nested: bool = False) -> str:
    """Two values of a reduction as one."""
    if kind in (ReductionKind.MAX, ReductionKind.MIN):
        return f"lw::{'maximum' if kind is ReductionKind.MAX else 'minimum'}({a}, {b})"
    operator = {
        ReductionKind.SUM: "+",
        ReductionKind.PROD: "*",
        ReductionKind.ANY: "|",
        ReductionKind.ALL: "&",
        ReductionKind.XOR_SUM: "^",
    }[kind]
    text = f"{a} {operator} {b}"
    return f"({text})" if nested else text


SCAN_AS_REDUCTION: dict[ScanKind, ReductionKind] = {
    ScanKind.SUM: ReductionKind.SUM,
    ScanKind.PROD: ReductionKind.PROD,
    ScanKind.MAX: ReductionKind.MAX,
    ScanKind.MIN: ReductionKind.MIN,
}
