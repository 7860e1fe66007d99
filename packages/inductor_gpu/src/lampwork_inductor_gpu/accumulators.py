"""Accumulators of looped reductions: what starts one before the loop, what a block adds, what is left at the end.

Between a kernel's stages and its text; the kernel writer asks for lines. Invariant: lanes outside the space change
nothing, and lanes that never saw an element hold what changes nothing when lanes are combined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Accumulate
from lampwork_inductor_core.ir.loops import ReductionKind

from .ops import literal
from .reduction import COMBINE, block_reduction, carrier, converted, identity

_BLOCK = "[X_BLOCK, R_BLOCK]"
_ZEROS = f"tl.full({_BLOCK}, 0.0, tl.float32)"


@dataclass(frozen=True, slots=True)
class Result:
    """The finished value of the stage at `stage`."""

    stage: int
    text: str


class Accumulator(Protocol):
    """Running state of one or two stages, in lanes of a block."""

    def start(self) -> list[str]:
        """Lines before the loop."""
        ...

    def step(self, value: str) -> list[str]:
        """Lines in the loop. `value`: a full block in the accumulation type, with the identity of the (first) stage's
        kind in lanes outside the space."""
        ...

    def finish(self) -> list[str]:
        """Lines behind the loop."""
        ...

    def results(self) -> list[Result]:
        """What they leave."""
        ...


@dataclass(frozen=True, slots=True)
class Single:
    """One value a lane."""

    stage: int
    accumulate: Accumulate
    name: str

    def start(self) -> list[str]:
        dtype = carrier(self.accumulate.accumulate)
        return [f"{self.name} = tl.broadcast_to({literal(identity(self.accumulate.kind, dtype), dtype)}, {_BLOCK})"]

    def step(self, value: str) -> list[str]:
        kind = self.accumulate.kind
        if kind is ReductionKind.XOR_SUM:
            combined = f"{self.name} ^ {value}"
        else:
            combined = f"{COMBINE[kind]}({self.name}, {value})"
        return [f"{self.name} = {combined}"]

    def finish(self) -> list[str]:
        return []

    def results(self) -> list[Result]:
        return [Result(self.stage, converted(block_reduction(self.accumulate.kind, self.name, ""), self.accumulate))]


@dataclass(frozen=True, slots=True)
class Positioned:
    """The greatest or least value of a lane, and where it is."""

    stage: int
    accumulate: Accumulate
    name: str
    where: str

    def start(self) -> list[str]:
        dtype = carrier(self.accumulate.accumulate)
        return [
            f"{self.name} = tl.broadcast_to({literal(identity(self.accumulate.kind, dtype), dtype)}, {_BLOCK})",
            f"{self.where} = tl.full({_BLOCK}, {2**63 - 1}, tl.int64)",
        ]

    def step(self, value: str) -> list[str]:
        combine = "greater_or_first" if self.accumulate.kind is ReductionKind.ARGMAX else "less_or_first"
        position = f"tl.broadcast_to(r.to(tl.int64), {_BLOCK})"
        return [f"{self.name}, {self.where} = {combine}({self.name}, {self.where}, {value}, {position})"]

    def finish(self) -> list[str]:
        return []

    def results(self) -> list[Result]:
        text = block_reduction(self.accumulate.kind, self.name, self.where)
        return [Result(self.stage, converted(text, self.accumulate))]


@dataclass(frozen=True, slots=True)
class Powers:
    """The greatest value of a lane, and the sum of exponentials of differences to it."""

    first: int
    second: int
    accumulate: Accumulate
    largest: str
    total: str

    def start(self) -> list[str]:
        lowest = literal(float("-inf"), torch.float32)
        return [f"{self.largest} = tl.broadcast_to({lowest}, {_BLOCK})", f"{self.total} = {_ZEROS}"]

    def step(self, value: str) -> list[str]:
        return [
            f"{self.total} = add_power({self.largest}, {self.total}, {value})",
            f"{self.largest} = maximum({self.largest}, {value})",
        ]

    def finish(self) -> list[str]:
        return [
            f"{self.largest}, {self.total} = tl.reduce(({self.largest}, {self.total}), 1, join_powers)",
            f"{self.largest} = {self.largest}[:, None]",
            # An infinity less itself is not a number, in whatever order.
            f'{self.total} = tl.where(tl.abs({self.largest}) == float("inf"), float("nan"), {self.total}[:, None])',
        ]

    def results(self) -> list[Result]:
        return [Result(self.first, converted(self.largest, self.accumulate)), Result(self.second, self.total)]


@dataclass(frozen=True, slots=True)
class Moments:
    """The sum of a lane and its squared deviations from the mean, by sums alone (Youngs and Cramer), so that the sum is
    the one that a loop of its own would give. All lanes of a block have seen equally many elements, but for those that
    the last block leaves out (`masked`; their value is zero)."""

    first: int
    second: int
    count: int
    masked: bool
    total: str
    squares: str
    blocks: str

    def start(self) -> list[str]:
        return [
            f"{self.total} = {_ZEROS}",
            f"{self.squares} = {_ZEROS}",
            f"{self.blocks} = tl.full([], 0.0, tl.float32)",
        ]

    def step(self, value: str) -> list[str]:
        distance = f"{self.blocks} * {value} - {self.total}"
        return [
            f"{self.blocks} = {self.blocks} + 1.0",
            f"{self.total} = {self.total} + {value}",
            f"distance = {f'tl.where(r_mask, {distance}, 0.0)' if self.masked else distance}",
            f"share = 1.0 / ({self.blocks} * tl.maximum({self.blocks} - 1.0, 1.0))",
            f"{self.squares} = {self.squares} + distance * (distance * share)",
        ]

    def finish(self) -> list[str]:
        if self.masked:
            seen = f"(({self.count} + R_BLOCK - 1 - tl.arange(0, R_BLOCK)[None, :]) // R_BLOCK).to(tl.float32)"
        else:
            seen = self.blocks
        moments = f"{self.total}, {self.squares}, tl.broadcast_to({seen}, {_BLOCK})"
        return [f"{self.total}, {self.squares}, {self.blocks} = tl.reduce(({moments}), 1, join_moments)"]

    def results(self) -> list[Result]:
        return [Result(self.first, f"{self.total}[:, None]"), Result(self.second, f"{self.squares}[:, None]")]
