"""Two reductions in one pass: a greatest value with the sum of exponentials below it, a mean with the deviations.

Beside the kernel's text, for looped reductions: the second of such a pair needs the result of the first, and would read
the row again. Invariant: a pair is found only where the second value is exactly the function of the first that its
accumulator computes; all else stays two loops.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Forwarded, InnerLoop, ScheduledKernel, Stage
from lampwork_inductor_core.ir.loop_body import Compute, Constant, Node, rewrite, walk
from lampwork_inductor_core.ir.loops import ReductionKind

from .traffic import size_of


class PairKind(enum.Enum):
    """What a pair computes."""

    POWERS = "a greatest value, and the sum of exponentials of differences to it"
    MOMENTS = "a sum, and the sum of squared deviations from the mean"


@dataclass(frozen=True, slots=True)
class Pair:
    """Positions of two accumulating stages that one loop computes."""

    kind: PairKind
    first: int
    second: int


def pairs_of(kernel: ScheduledKernel) -> tuple[Pair, ...]:
    """The pairs of a kernel; each stage is in one at most."""
    stages = kernel.stages()
    loop_of = [k for k, segment in enumerate(kernel.segments) for _ in segment.stages]
    search = _Search(kernel, stages, loop_of)
    found: list[Pair] = []
    taken: set[int] = set()
    for second, stage in enumerate(stages):
        if not _sums(stage) or not isinstance(kernel.segments[loop_of[second]], InnerLoop):
            continue
        for first in range(second):
            apart = loop_of[first] < loop_of[second]
            if not apart or first in taken or stages[first].accumulate is None:
                continue
            kind = search.kind(first, second)
            if kind is not None:
                found.append(Pair(kind, first, second))
                taken |= {first, second}
                break
    return tuple(found)


def left_out(kernel: ScheduledKernel, pairs: Sequence[Pair]) -> frozenset[int]:
    """The stages that need no loop of their own: the second ones of pairs, and what only these read."""
    stages = kernel.stages()
    readers: dict[int, set[int]] = {}
    for position, stage in enumerate(stages):
        for node in (n for root in stage.roots for n in walk(root)):
            if isinstance(node, Forwarded):
                readers.setdefault(node.stage, set()).add(position)
    gone = {pair.second for pair in pairs}
    for position in range(len(stages) - 1, -1, -1):
        stage = stages[position]
        if stage.store is None and stage.accumulate is None and readers.get(position, {position}) <= gone:
            gone.add(position)
    return frozenset(gone)


def _sums(stage: Stage) -> bool:
    accumulate = stage.accumulate
    return (
        accumulate is not None
        and accumulate.kind is ReductionKind.SUM
        and accumulate.accumulate == torch.float32
        and stage.value.dtype == torch.float32
    )


@dataclass(frozen=True, slots=True)
class _Search:
    kernel: ScheduledKernel
    stages: tuple[Stage, ...]
    loop_of: list[int]

    def kind(self, first: int, second: int) -> PairKind | None:
        before, value = self.stages[first], self._expanded(self.stages[second].value)
        assert before.accumulate is not None
        if before.accumulate.kind is ReductionKind.MAX and before.accumulate.accumulate == torch.float32:
            shifted = _operands(value, "exp")
            if len(shifted) == 1 and self._is_difference(shifted[0], before, lambda n: self._is_result(n, first)):
                return PairKind.POWERS
        if _sums(before) and (count := self._count()) is not None:
            factors = _operands(value, "mul")
            if len(factors) == 2 and factors[0] is factors[1]:  # noqa: SIM102
                if self._is_difference(factors[0], before, lambda n: self._is_mean(n, first, count)):
                    return PairKind.MOMENTS
        return None

    def _count(self) -> int | None:
        count = size_of(self.kernel.inner)
        known = all(d.size.is_constant for d in self.kernel.inner)
        return count if known and 0 < count < 1 << 24 else None  # exact in float32

    def _expanded(self, value: Node) -> Node:
        """A value without plain stages of its own loop."""

        def leaf(node: Node) -> Node | None:
            if isinstance(node, Forwarded):
                source = self.stages[node.stage]
                inner = isinstance(self.kernel.segments[self.loop_of[node.stage]], InnerLoop)
                if inner and source.accumulate is None and source.scan is None:
                    return self._expanded(source.value)
            return None

        return rewrite(value, leaf, lambda index: index)

    def _is_difference(self, node: Node, before: Stage, is_reference: Callable[[Node], bool]) -> bool:
        """Whether a node is the first stage's own value less what `is_reference` holds for."""
        sides = _operands(node, "sub")
        if len(sides) != 2 or node.dtype != torch.float32 or not is_reference(sides[1]):
            return False
        return _exact(sides[0]) is _exact(self._expanded(before.value))

    def _is_result(self, node: Node, first: int) -> bool:
        """The finished result of a stage, perhaps by way of outer stages that widen it."""
        node = _exact(node)
        while isinstance(node, Forwarded) and node.stage != first:
            source = self.stages[node.stage]
            if source.accumulate is not None or isinstance(self.kernel.segments[self.loop_of[node.stage]], InnerLoop):
                return False
            node = _exact(source.value)
        accumulate = self.stages[first].accumulate
        assert accumulate is not None
        # A greatest value is one of the values, which a conversion to their own type did not change.
        return isinstance(node, Forwarded) and accumulate.result in (
            accumulate.accumulate,
            _exact(self._expanded(self.stages[first].value)).dtype,
        )

    def _is_mean(self, node: Node, first: int, count: int) -> bool:
        while isinstance(node, Forwarded) and node.stage != first:
            source = self.stages[node.stage]
            if source.accumulate is not None:
                return False
            node = source.value
        sides = _operands(node, "truediv")
        if len(sides) != 2 or not isinstance(sides[1], Constant) or float(sides[1].value) != float(count):
            return False
        accumulate = self.stages[first].accumulate
        assert accumulate is not None
        whole = accumulate.result == torch.float32
        return whole and isinstance(sides[0], Forwarded) and sides[0].stage == first


def _operands(node: Node, op: str) -> tuple[Node, ...]:
    return node.arguments if isinstance(node, Compute) and node.op == op else ()


def _exact(node: Node) -> Node:
    """A node without conversions that change no value."""
    while isinstance(node, Compute) and node.op == "to_dtype":
        source = node.arguments[0]
        exact = source.dtype in (torch.bfloat16, torch.float16) and node.dtype == torch.float32
        if not exact and source.dtype != node.dtype:
            return node
        node = source
    return node
