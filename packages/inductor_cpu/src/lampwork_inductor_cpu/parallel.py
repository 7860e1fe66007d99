"""Parallel: which loops of a kernel OpenMP shares out, and whether that pays.

Decided once per kernel. One parallel region a kernel, over leading outer dimensions collapsed until there is enough to
share. A lone large reduction is cut into chunks of fixed size, whose results are combined in order. Invariant: results
do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import InnerLoop, OuterSegment, ScheduledKernel, Stage
from lampwork_inductor_core.ir.loop_body import Compute, Load
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_symshape import IntExpr, integer

from .ops import SPELLINGS
from .tiling import VectorLevel, VectorPlan, scatter_is_private, stage_nodes

ENOUGH_TASKS = 16
"""Iterations to share out, at least, before collapsing stops."""
CHUNK = 65536
"""Inner points of one chunk of a split reduction."""
_SYMBOLIC_EXTENT = 64  # what a size that is not constant is taken for when costs are compared


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """How a kernel is shared out."""

    collapse: int = 0
    """Leading outer loops in the parallel region; 0: serial."""
    condition: IntExpr | None = None
    """Points of the kernel, where whether it pays depends on sizes: parallel if this is at least `least`."""
    least: int = 0
    chunks: bool = False
    """Split the inner loop of a full reduction."""
    work: int = 0
    """Weighted work where all sizes are constant, else an estimate."""


def stage_cost(stage: Stage) -> int:
    """Weight of one evaluation of a stage: loads and stores count 2."""
    cost = 2 if stage.store is not None else 1
    for node in stage_nodes(stage):
        if isinstance(node, Load):
            cost += 2
        elif isinstance(node, Compute):
            slow = 4 if node.dtype == torch.float64 and SPELLINGS[node.op].cost > 8 else 1
            cost += SPELLINGS[node.op].cost * slow
    return cost


def _extent(dimensions: list[IntExpr]) -> tuple[IntExpr, int]:
    product: IntExpr = integer(1)
    estimate = 1
    for size in dimensions:
        product = product * size
        estimate *= int(size) if size.is_constant else _SYMBOLIC_EXTENT
    return product, estimate


def plan_parallel(kernel: ScheduledKernel, vector: VectorPlan | None, grain: int, enabled: bool) -> ParallelPlan:
    """Decide from the sizes, the cost of a point and the kinds of stores."""
    outer, outer_estimate = _extent([d.size for d in kernel.outer])
    inner, inner_estimate = _extent([d.size for d in kernel.inner])
    per_outer = sum(stage_cost(s) for g in kernel.segments if isinstance(g, OuterSegment) for s in g.stages)
    per_inner = sum(stage_cost(s) for g in kernel.segments if isinstance(g, InnerLoop) for s in g.stages)
    work = outer_estimate * (per_outer + per_inner * inner_estimate)
    # a vector does the work of its lanes; the grain is meant in elements of a simple kernel, which cost about 4
    weighted = work // 4
    if not enabled:
        return ParallelPlan(work=weighted)
    constant = outer.is_constant and inner.is_constant
    if constant and weighted < grain:
        return ParallelPlan(work=weighted)
    points = outer * inner
    condition = None if constant else points
    per_point = max(1, (per_outer + per_inner * inner_estimate) // (4 * max(inner_estimate, 1)))
    least = max(1, grain // per_point)
    many = inner_estimate >= 2 * CHUNK or not inner.is_constant  # then the run sees
    if _splittable(kernel, vector) and outer_estimate == 1 and many:
        return ParallelPlan(0, None, 0, chunks=True, work=weighted)
    collapse = _collapse(kernel, vector)
    return ParallelPlan(collapse, condition if collapse else None, least, work=weighted)


def _collapse(kernel: ScheduledKernel, vector: VectorPlan | None) -> int:
    tasks, count = 1, 0
    for dimension in kernel.outer:
        symbol = dimension.symbol
        if not all(scatter_is_private(stage, symbol) for stage in kernel.stages()):
            break
        size = int(dimension.size) if dimension.size.is_constant else _SYMBOLIC_EXTENT
        if vector is not None and vector.level is VectorLevel.OUTER and symbol is vector.symbol:
            size //= vector.lanes
            if tasks > 1 and size < 2:
                break
        tasks *= size
        count += 1
        if tasks >= ENOUGH_TASKS:
            break
    return count if tasks > 1 else 0


def _splittable(kernel: ScheduledKernel, vector: VectorPlan | None) -> bool:
    """Only reductions in one flat inner loop, and outer stages after it."""
    loops = [g for g in kernel.segments if isinstance(g, InnerLoop)]
    if len(loops) != 1 or len(kernel.inner) != 1 or kernel.outer or kernel.locals:
        return False
    if isinstance(kernel.segments[0], OuterSegment):
        return False
    if vector is not None and vector.level is not VectorLevel.INNER:
        return False
    return all(
        stage.accumulate is not None
        and stage.scan is None
        and stage.accumulate.kind not in (ReductionKind.ARGMAX, ReductionKind.ARGMIN)
        for stage in loops[0].stages
    )
