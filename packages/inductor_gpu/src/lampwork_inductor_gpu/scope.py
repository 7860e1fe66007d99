"""What the kernel writer knows at one place of the text: names of values, what was stored, what varies over what.

Beside the kernel writer. Invariant: a name that a scope finds holds the value at this place; what a store may have
changed is forgotten.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from lampwork_inductor_core.codegen.scheduled_kernel import InnerLoop, ScheduledKernel
from lampwork_inductor_core.ir.loop_body import Load, Node, walk
from lampwork_symshape import IntExpr


@dataclass
class Scope:
    """Names of values and index texts that are visible at one place of the text."""

    values: dict[object, str] = field(default_factory=dict)
    parent: Scope | None = None

    def find(self, key: object) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.values:
                return scope.values[key]
            scope = scope.parent
        return None

    def forget_loads(self, buffer: str) -> None:
        """`buffer` was written to: what was computed from its old contents is not what the same expression says now."""
        scope: Scope | None = self
        while scope is not None:
            scope.values = {
                key: name for key, name in scope.values.items() if not (isinstance(key, tuple) and _reads(key, buffer))
            }
            scope = scope.parent


def _reads(key: tuple[object, ...], buffer: str) -> bool:
    return any(isinstance(n, Load) and n.buffer == buffer for part in key if isinstance(part, Node) for n in walk(part))


@dataclass(frozen=True, slots=True)
class Held:
    """A full block that was stored at an index, and is what a load of that index gives."""

    index: IntExpr
    text: str


@dataclass(frozen=True, slots=True)
class Passes:
    """The loops (numbers of segments) that read an element of a row, first and last."""

    first: int
    last: int


def passes_of(kernel: ScheduledKernel, left_out: Set[int]) -> dict[Load, Passes]:
    """Of each load in an inner loop, which loops have it; but for the stages that are `left_out`."""
    found: dict[Load, Passes] = {}
    position = 0
    for number, segment in enumerate(kernel.segments):
        for stage in segment.stages:
            position += 1
            if not isinstance(segment, InnerLoop) or position - 1 in left_out:
                continue
            for node in (n for root in stage.roots for n in walk(root) if isinstance(n, Load)):
                found[node] = Passes(found[node].first if node in found else number, number)
    return found


@dataclass(frozen=True, slots=True)
class Lanes:
    """Which flat spaces a value varies over: decides its masks and its shape."""

    x: bool
    r: bool
