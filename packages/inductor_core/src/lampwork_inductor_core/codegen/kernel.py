"""Kernels: a staged fused node becomes a `ScheduledKernel` with canonical names, and a launch of it.

Second half of building a kernel. Names inside are canonical, so the same work on other buffers (another layer of a
model) is an equal kernel, generated and built once. Invariant: the launch lists one graph buffer for each buffer
argument.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lampwork_symshape import IntExpr, Symbol

from ..ir.buffer import Buffer, ComputedBuffer, ConstantBuffer, ExternBuffer, Origin
from ..ir.float_expr import FloatExpr, FloatInput
from ..ir.layout import Layout
from ..ir.loop_body import CheckedIndex, FloatValue, IndexValue, Load, Node, ops, rewrite, walk
from ..ir.merged_index import put_together
from ..ir.views import span_of
from .scheduled_kernel import (
    ArgumentRole,
    BufferArgument,
    Dimension,
    FloatArgument,
    Forwarded,
    InnerLoop,
    KernelArgument,
    KernelLaunch,
    OuterSegment,
    ScheduledKernel,
    Segment,
    SizeArgument,
    Stage,
    Store,
    forwarded,
)
from .staging import StagedKernel

ALLOCATION_ALIGNMENT = 16  # bytes; what torch's allocators guarantee at least, on every device
_OVERLOAD = re.compile(
    r"(_(default|tensor|scalar|self|correction|start_step|dim|dim_int_?list|tensor_scalar|int))?(_\d+)*$"
)
_NAME_PARTS = 6
_NAME_LENGTH = 56


# ------------------------------------------------------------------------------------------------------------- in place


def may_overwrite(staged: StagedKernel, source: str, target: str) -> bool:
    """Whether `target` may take over the memory of `source`: each point reads of it only the element that it
    overwrites, and before it does."""
    stages = list(staged.stages())
    writer = next((k for k, s in enumerate(stages) if s.store is not None and s.store.argument == target), None)
    if writer is None:
        return False
    store = stages[writer].store
    assert store is not None
    if store.scatter is not None or stages[writer].scan is not None:
        return False
    for position, stage in enumerate(stages):
        for load in _loads(stage):
            if load.buffer != source:
                continue
            if load.indirect or load.index is not store.index or position > writer:
                return False
    # a device may compute a local row again where it is read, and would then read `source` there
    local = {b.name for b in staged.locals}
    return not any(load.buffer in local for stage in stages[writer + 1 :] for load in _loads(stage))


def _loads(stage: Stage) -> list[Load]:
    return [node for root in stage.roots for node in walk(root) if isinstance(node, Load)]


# ------------------------------------------------------------------------------------------------------------- building


@dataclass(frozen=True, slots=True)
class _Names:
    """What each graph buffer is called inside the kernel, in argument order."""

    canonical: Mapping[str, str]
    arguments: tuple[BufferArgument, ...]
    buffers: tuple[str, ...]


def _name_arguments(staged: StagedKernel, buffers: Mapping[str, Buffer], in_place: Mapping[str, str]) -> _Names:
    """`in_place`: written buffer -> the buffer whose memory it takes over (or itself: it holds what is updated)."""
    local = {b.name for b in staged.locals}
    stored = dict.fromkeys(staged.stored)
    taken = {source: target for target, source in in_place.items()}
    read: dict[str, None] = {}
    for stage in staged.stages():
        for load in _loads(stage):
            if load.buffer not in local and load.buffer not in stored and load.buffer not in taken:
                read[load.buffer] = None
    canonical: dict[str, str] = {name: name for name in local}
    arguments: list[BufferArgument] = []
    order: list[str] = []
    groups: tuple[tuple[Sequence[str], str, ArgumentRole], ...] = (
        (tuple(read), "in", ArgumentRole.READ),
        (tuple(n for n in stored if n in in_place), "inout", ArgumentRole.READ_WRITE),
        (tuple(n for n in stored if n not in in_place), "out", ArgumentRole.WRITE),
    )
    for names, prefix, role in groups:
        for number, name in enumerate(names):
            layout = buffers[name].layout
            assert isinstance(layout, Layout), f"a kernel indexes the opaque buffer {name}"
            canonical[name] = f"{prefix}{number}"
            alignment = ALLOCATION_ALIGNMENT if _is_allocation(buffers[name]) else 1
            arguments.append(BufferArgument(canonical[name], layout.dtype, role, span_of(layout), alignment))
            order.append(name)
    for target, source in in_place.items():
        canonical[source] = canonical[target]
    return _Names(canonical, tuple(arguments), tuple(order))


def _is_allocation(buffer: Buffer) -> bool:
    """Whether the pointer is what an allocator returned: not a view, and not a graph input (which may be one)."""
    if isinstance(buffer, ExternBuffer):
        return buffer.aliases is None
    return isinstance(buffer, ComputedBuffer | ConstantBuffer)


def finish(staged: StagedKernel, buffers: Mapping[str, Buffer], in_place: Mapping[str, str]) -> KernelLaunch:
    """The kernel and its launch. `in_place` says which written buffers live in the memory of a buffer that dies
    here."""
    names = _name_arguments(staged, buffers, in_place)
    floats = _floats(staged)
    segments: list[Segment] = []
    for number, stages in enumerate(staged.segments):
        if not stages:
            continue
        renamed = tuple(_renamed(stage, names.canonical, floats) for stage in stages)
        segments.append(InnerLoop(renamed) if number % 2 else OuterSegment(renamed))
    space = staged.space
    outer = tuple(Dimension(s, n) for s, n in zip(space.outer_symbols, space.outer))
    inner = tuple(Dimension(s, n) for s, n in zip(space.inner_symbols, space.inner))
    sizes = _free_sizes(staged, (*outer, *inner))
    size_arguments = tuple(SizeArgument(s.name, s) for s in sizes)
    float_arguments = tuple(FloatArgument(name) for name in floats.values())
    arguments: tuple[KernelArgument, ...] = (*names.arguments, *size_arguments, *float_arguments)
    kernel = ScheduledKernel(kernel_name(staged.origins), outer, inner, tuple(segments), arguments, staged.locals)
    return KernelLaunch(kernel, names.buffers, tuple(sizes), tuple(floats))


def _floats(staged: StagedKernel) -> dict[FloatExpr, str]:
    """The floats of the call that a kernel reads, each with the name of its argument."""
    found: dict[FloatExpr, str] = {}
    for stage in staged.stages():
        for root in stage.roots:
            for node in walk(root):
                if isinstance(node, FloatValue):
                    found.setdefault(node.expression, f"f{len(found)}")
    return found


def _renamed(stage: Stage, names: Mapping[str, str], floats: Mapping[FloatExpr, str]) -> Stage:
    store = stage.store
    if store is not None:
        pairs = tuple((s, _rename(n, names, floats)) for s, n in store.indirect)
        store = Store(names[store.argument], put_together(store.index), store.scatter, pairs)
    return dataclasses.replace(stage, value=_rename(stage.value, names, floats), store=store)


def _rename(value: Node, names: Mapping[str, str], floats: Mapping[FloatExpr, str]) -> Node:
    done: dict[Node, Node] = {}
    for node in walk(value):
        if isinstance(node, Load):
            pairs = tuple((s, rewrite(n, done.get, put_together)) for s, n in node.indirect)
            done[node] = ops.load(names[node.buffer], put_together(node.index), node.dtype, pairs)
        elif isinstance(node, FloatValue):
            done[node] = ops.float_value(FloatInput(floats[node.expression]), node.dtype)
    return rewrite(value, done.get, put_together)


def _same(index: IntExpr) -> IntExpr:
    return index


def _free_sizes(staged: StagedKernel, dimensions: Sequence[Dimension]) -> list[Symbol]:
    """Symbols that are neither loop variables nor indirect indices: they are passed as integers."""
    bound = {d.symbol for d in dimensions}
    expressions: dict[IntExpr, None] = {d.size: None for d in dimensions}
    for stage in staged.stages():
        if stage.store is not None:
            expressions[stage.store.index] = None
            bound.update(s for s, _ in stage.store.indirect)
        for root in stage.roots:
            for node in walk(root):
                if isinstance(node, Load):
                    expressions[node.index] = None
                    bound.update(s for s, _ in node.indirect)
                elif isinstance(node, IndexValue):
                    expressions[node.expression] = None
                elif isinstance(node, CheckedIndex):
                    expressions[node.size] = None
    free = {s for e in expressions for s in e.free_symbols} - bound
    return sorted(free, key=lambda s: s.name)


def kernel_name(origins: Sequence[Origin]) -> str:
    """`add_gelu`: the ATen operators that a kernel computes, without their numbers."""
    words: dict[str, None] = {}
    for origin in origins:
        for node in origin.nodes:
            word = _OVERLOAD.sub("", node.lower()).strip("_")
            if word:
                words[re.sub(r"\W", "_", word)] = None
    chosen = list(words)
    if len(chosen) > _NAME_PARTS:
        chosen = [*chosen[: _NAME_PARTS - 1], chosen[-1]]
    return "_".join(chosen)[:_NAME_LENGTH].strip("_") or "kernel"


# ------------------------------------------------------------------------------------------------- without local rows


def inline_locals(kernel: ScheduledKernel) -> ScheduledKernel:
    """The equal kernel without local rows: what crosses between inner loops is computed again in each."""
    if not kernel.locals:
        return kernel
    local = {b.name for b in kernel.locals}
    stages = kernel.stages()
    loop_of = [k for k, segment in enumerate(kernel.segments) for _ in segment.stages]
    filled = {s.store.argument: k for k, s in enumerate(stages) if s.store is not None and s.store.argument in local}

    def computed_in(root: Node, loop: int) -> Node:
        """A value as a loop may compute it."""

        def leaf(node: Node) -> Node | None:
            if isinstance(node, Load) and node.buffer in local:
                return computed_in(stages[filled[node.buffer]].value, loop)
            if isinstance(node, Forwarded):
                source = stages[node.stage]
                outside = (
                    isinstance(kernel.segments[loop_of[node.stage]], OuterSegment) or source.accumulate is not None
                )
                return node if outside or loop_of[node.stage] == loop else computed_in(source.value, loop)
            return None

        return rewrite(root, leaf, _same)

    segments: list[Segment] = []
    for loop, segment in enumerate(kernel.segments):
        changed: list[Stage] = []
        for stage in segment.stages:
            kept = stage
            if stage.store is not None and stage.store.argument in local:
                kept = dataclasses.replace(stage, store=None)
            changed.append(_changed_values(kept, lambda root, loop=loop: computed_in(root, loop)))
        segments.append(InnerLoop(tuple(changed)) if isinstance(segment, InnerLoop) else OuterSegment(tuple(changed)))
    return _without_unused(dataclasses.replace(kernel, segments=tuple(segments), locals=()))


def _changed_values(stage: Stage, change: Callable[[Node], Node]) -> Stage:
    """A stage with all its values changed."""
    store = stage.store
    if store is not None:
        store = dataclasses.replace(store, indirect=tuple((s, change(n)) for s, n in store.indirect))
    return dataclasses.replace(stage, value=change(stage.value), store=store)


def _without_unused(kernel: ScheduledKernel) -> ScheduledKernel:
    """Drop stages that are neither stored nor read, and renumber the rest."""
    stages = kernel.stages()
    used = [s.store is not None for s in stages]
    for position in range(len(stages) - 1, -1, -1):
        if used[position]:
            for node in (n for root in stages[position].roots for n in walk(root)):
                if isinstance(node, Forwarded):
                    used[node.stage] = True
    number = {old: new for new, old in enumerate(k for k, kept in enumerate(used) if kept)}

    def renumber(value: Node) -> Node:
        return rewrite(
            value, lambda n: forwarded(number[n.stage], n.dtype) if isinstance(n, Forwarded) else None, _same
        )

    segments: list[Segment] = []
    position = 0
    for segment in kernel.segments:
        kept: list[Stage] = []
        for stage in segment.stages:
            if used[position]:
                kept.append(_changed_values(stage, renumber))
            position += 1
        if kept:
            segments.append(InnerLoop(tuple(kept)) if isinstance(segment, InnerLoop) else OuterSegment(tuple(kept)))
    return dataclasses.replace(kernel, segments=tuple(segments))
