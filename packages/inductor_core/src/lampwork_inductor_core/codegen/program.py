"""The host plan: which kernels a schedule launches on which buffers, and the wrapper program around them.

Joins the schedule, the kernels and the memory plan: stage every fused node, plan memory over what the kernels store,
name arguments, then write the lines. Invariant: kernels are complete before any device is asked for text, and equal
kernels of one graph are one object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from lampwork_symshape import BoolExpr, IntExpr, Quantity, Symbol, stride_of

from ..backend import LargeMemory
from ..config import ScheduleConfig
from ..ir.buffer import (
    BufferView,
    ConstantBuffer,
    ExternBuffer,
    GraphOutput,
    InputBuffer,
    LoweredGraph,
    Origin,
    symbols_of,
)
from ..ir.float_expr import FloatExpr
from ..ir.layout import Layout, OpaqueLayout
from ..ir.loop_body import Load, walk
from ..ir.loops import Scatter
from ..schedule.dependencies import ExternNode
from ..schedule.fusion import FusedNode
from ..schedule.memory import MemoryPlan, StepAccess, plan
from ..schedule.new_values import overwrites
from ..schedule.scheduler import Schedule, Tuned
from .given_memory import given_memory
from .kernel import finish, may_overwrite
from .scheduled_kernel import KernelLaunch, ScheduledKernel
from .staging import StagedKernel, comment_of, stage
from .wrapper import (
    Allocate,
    Comment,
    CopyInto,
    ExternCall,
    Free,
    FreeInputs,
    Launch,
    Line,
    OutputValue,
    Return,
    SizeBinding,
    TakeOver,
    WrapperProgram,
)

_NOTHING: Mapping[int, int] = {}
_COMMENT_LINES = 4
_COMMENT_NODES = 8


@dataclass(frozen=True, slots=True)
class DeviceLaunch:
    """A launch and the device that it runs on."""

    launch: KernelLaunch
    device: torch.device


@dataclass(frozen=True, slots=True)
class HostPlan:
    """Everything decided but the kernels' generated names. `launches[k]` is None where step k is an operator call."""

    graph: LoweredGraph
    schedule: Schedule
    launches: tuple[DeviceLaunch | None, ...]
    accesses: tuple[StepAccess, ...]
    memory: MemoryPlan

    def kernels(self) -> dict[ScheduledKernel, torch.device]:
        """Each different kernel once, in order of first launch."""
        found: dict[ScheduledKernel, torch.device] = {}
        for item in self.launches:
            if item is not None:
                found.setdefault(item.launch.kernel, item.device)
        return found


def plan_host(
    graph: LoweredGraph,
    schedule: Schedule,
    config: ScheduleConfig,
    new_values: Mapping[int, int] = _NOTHING,
    handed_over: frozenset[str] | None = None,
    tuned: Tuned | None = None,
) -> HostPlan:
    """Stage every fused node, plan memory, name the kernels' arguments. `new_values`: which results (by position) may
    be written into which inputs, if that can be done. `handed_over`: for a graph whose peak of memory matters more than
    anything, the inputs that are freed behind their last reader. `tuned`: a device's own configuration, where that is
    another."""
    staged: list[StagedKernel | None] = []
    accesses: list[StepAccess] = []
    for step in schedule.steps:
        if isinstance(step, ExternNode):
            staged.append(None)
            accesses.append(_extern_access(step))
        else:
            needed = {n for n in step.writes if n in schedule.readers or n in schedule.outputs}
            kernel = stage(step, needed, config if tuned is None else tuned(step.device))
            staged.append(kernel)
            accesses.append(_kernel_access(step, kernel))

    def works_in_place(number: int, source: str, target: str) -> bool:
        kernel = staged[number]
        return kernel is not None and may_overwrite(kernel, source, target)

    memory = plan(
        accesses,
        schedule.buffers,
        schedule.outputs,
        works_in_place,
        reuse=config.reuse_buffers,
        in_place=config.update_in_place,
        inputs=overwrites(graph, schedule, new_values),
        handed_over=handed_over,
    )
    known: dict[ScheduledKernel, ScheduledKernel] = {}
    launches: list[DeviceLaunch | None] = []
    for step, kernel, access, placed in zip(schedule.steps, staged, accesses, memory.placements):
        if kernel is None:
            launches.append(None)
            continue
        assert isinstance(step, FusedNode)
        in_place = {p.name: p.source for p in placed if p.in_place and p.source is not None}
        if access.scatter_initial is not None:
            in_place.setdefault(access.written[0], access.written[0])
        launch = finish(kernel, schedule.buffers, in_place)
        same = known.setdefault(launch.kernel, launch.kernel)
        launches.append(DeviceLaunch(KernelLaunch(same, launch.buffers, launch.sizes, launch.floats), step.device))
    return HostPlan(graph, schedule, tuple(launches), tuple(accesses), memory)


def _extern_access(step: ExternNode) -> StepAccess:
    results = tuple(r.name for r in step.results)
    if step.results[0].out_variant is not None:
        return StepAccess(step.read_buffers, results)
    return StepAccess(step.read_buffers, (), results)


def _kernel_access(step: FusedNode, kernel: StagedKernel) -> StepAccess:
    local = {b.name for b in kernel.locals}
    read: dict[str, None] = {}
    for item in kernel.stages():
        for root in item.roots:
            read.update((n.buffer, None) for n in walk(root) if isinstance(n, Load))
    reads = tuple(name for name in read if name not in local and name not in kernel.stored)
    loops = step.members[0].node.buffer.loops
    return StepAccess(reads, kernel.stored, (), loops.initial if isinstance(loops, Scatter) else None)


# ---------------------------------------------------------------------------------------------------------- the program


def build_wrapper(
    host: HostPlan,
    names: Mapping[ScheduledKernel, str],
    *,
    shared_inputs: Collection[int] = (),
    large_memory: Mapping[str, LargeMemory] = MappingProxyType({}),
) -> WrapperProgram:
    """The wrapper program. `names` are the kernels' generated names; results at `shared_inputs` (values that a cache
    keeps) are returned as copies, because the caller may write into what it gets. `large_memory`: by device type."""
    graph, schedule = host.graph, host.schedule
    lines: list[Line] = []
    tensors, used = _used_as_tensors(host), _used_names(host)
    mentioned = _mentioned(host)
    held: dict[str, Layout | OpaqueLayout] = {}  # the layout of the tensor that a name holds
    released = _last_readers(host)
    for name in schedule.empty:
        layout = schedule.buffers[name].layout
        if isinstance(layout, Layout) and (name in schedule.readers or name in schedule.outputs):
            lines.append(Allocate(name, layout))
            held[name] = layout
    for number, step in enumerate(schedule.steps):
        lines.append(Comment(_comment(step)))
        access = host.accesses[number]
        for placement in host.memory.placements[number]:
            layout = schedule.buffers[placement.name].layout
            assert isinstance(layout, Layout)
            if placement.source is None:
                lines.append(Allocate(placement.name, layout))
                held[placement.name] = layout
                continue
            source_layout = held.get(placement.source, schedule.buffers[placement.source].layout)
            differs = placement.name in tensors and source_layout != layout
            if access.scatter_initial is not None and not placement.in_place:
                differs = source_layout != layout
            lines.append(TakeOver(placement.name, placement.source, layout if differs else None))
            held[placement.name] = layout if differs else source_layout
        if access.scatter_initial is not None and not any(p.in_place for p in host.memory.placements[number]):
            lines.append(CopyInto(access.written[0], access.scatter_initial))
        launched = host.launches[number]
        if launched is not None:
            launch = launched.launch
            lines.append(Launch(names[launch.kernel], launch.buffers, launch.sizes, launch.floats))
        elif isinstance(step, ExternNode):
            lines.append(_extern_line(step, used, mentioned))
        freed = tuple(n for n in host.memory.frees[number] if n in used or not isinstance(step, ExternNode))
        if number + 1 < len(schedule.steps):
            lines.extend([Free(freed)] if freed else [])
            lines.extend([FreeInputs(released[number])] if number in released else [])
    lines.append(Return(tuple(_output(o, host, shared_inputs) for o in graph.outputs)))
    inputs = [b for b in graph.buffers if isinstance(b, InputBuffer)]
    layouts = [b.layout for b in inputs if b.name in used]  # views of inputs are spelled in terms of theirs
    numbers = _numbers_in((*lines, *layouts))
    bindings = _needed(_size_bindings(inputs), numbers.symbols)
    used = used | {b.input for b in bindings} | numbers.floats
    by_position = {b.position: b.name for b in inputs if b.name in used}
    read = {*schedule.outputs, *(name for names in released.values() for name in names)}
    unread = [b.name for b in inputs if b.name in used - read and b.layout.dtype is not None]
    lines[:0] = [FreeInputs(tuple(unread))] if unread else []  # of which only sizes are wanted
    count = max((b.position for b in inputs), default=-1) + 1
    return WrapperProgram(
        tuple(by_position.get(k) for k in range(count)),
        tuple(b.name for b in graph.buffers if isinstance(b, ConstantBuffer) and b.name in used),
        bindings,
        tuple(lines),
        {b.name: b.layout for b in graph.buffers if isinstance(b, InputBuffer | ConstantBuffer)},
        tuple(dict.fromkeys(names[item.launch.kernel] for item in host.launches if item is not None)),
        large_memory,
        () if large_memory else given_memory(lines),  # what a device prepares is never a caller's
    )


def _last_readers(host: HostPlan) -> dict[int, tuple[str, ...]]:
    """The tensors among the inputs by the last step that reads them; not those that are returned."""
    last: dict[str, int] = {}
    for number, access in enumerate(host.accesses):
        last.update(dict.fromkeys(access.reads, number))
        if access.scatter_initial is not None:
            last[access.scatter_initial] = number
    found: dict[int, list[str]] = {}
    tensors = [b.name for b in host.graph.buffers if isinstance(b, InputBuffer) and b.layout.dtype is not None]
    for name in tensors:
        if name in last and name not in host.schedule.outputs:
            found.setdefault(last[name], []).append(name)
    return {number: tuple(names) for number, names in found.items()}


def _mentioned(host: HostPlan) -> set[Symbol]:
    """The symbols that anything but their definition needs, where calls define any."""
    steps = host.schedule.steps
    buffers = [r for s in steps if isinstance(s, ExternNode) for r in s.results]
    if not any(buffer.defines for buffer in buffers):
        return set()
    found = {sym for buffer in buffers for sym in (*symbols_of(buffer), *_numbers_in([buffer.layout]).symbols)}
    for name in host.schedule.buffers:
        buffer = host.schedule.buffers[name]
        if not isinstance(buffer, InputBuffer | ConstantBuffer):
            found |= symbols_of(buffer)
    found.update(*(o.literal.free_symbols for o in host.graph.outputs if isinstance(o.literal, IntExpr)))
    return found


def _comment(step: FusedNode | ExternNode) -> str:
    """The ATen nodes of a step, by the user's lines that they come from."""
    origins = [m.node.buffer.origin for m in step.members] if isinstance(step, FusedNode) else [step.results[0].origin]
    by_line: dict[str | None, dict[str, None]] = {}
    for origin in origins:
        by_line.setdefault(origin.user_line and str(origin.user_line), {}).update(dict.fromkeys(origin.nodes))
    texts: list[str] = []
    for line, nodes in by_line.items():
        shown = list(nodes)
        if len(shown) > _COMMENT_NODES:
            shown = [*shown[: _COMMENT_NODES - 1], f"... {len(shown) - _COMMENT_NODES + 1} more"]
        texts.append(comment_of(Origin(tuple(shown), line)))
    if len(texts) > _COMMENT_LINES:
        texts = [*texts[: _COMMENT_LINES - 1], f"... and {len(texts) - _COMMENT_LINES + 1} more lines"]
    return "\n".join(texts)


def _used_as_tensors(host: HostPlan) -> set[str]:
    """Buffers that somebody sees as a tensor of exactly their layout: the caller, copies, operators that write to it.

    Kernels see pointers, and operators that read name the layout that they want.
    """
    found = set(host.schedule.outputs)
    for step, access in zip(host.schedule.steps, host.accesses):
        if isinstance(step, ExternNode):
            found.update(access.written)
        if access.scatter_initial is not None:
            found.update((access.scatter_initial, *access.written))
    return found


def _used_names(host: HostPlan) -> set[str]:
    found = set(host.schedule.outputs)
    for access in host.accesses:
        found.update(access.reads)
        if access.scatter_initial is not None:
            found.add(access.scatter_initial)
    for placed in host.memory.placements:
        found.update(p.source for p in placed if p.source is not None)
    return found


def _extern_line(step: ExternNode, used: Collection[str], mentioned: set[Symbol]) -> ExternCall:
    first = step.results[0]
    defines = _solved([place for result in step.results for place in _defined_places(result)])
    defines = tuple(binding for binding in defines if binding.symbol in mentioned)
    telling = {binding.input for binding in defines}
    results = [r for r in step.results if r.name in used or r.name in telling] or [first]
    out = first.name if first.out_variant is not None else None
    return ExternCall(
        first.call,
        first.out_variant if out is not None else first.target,
        first.arguments,
        first.keywords,
        tuple((r.result_index, r.name, r.layout) for r in results),
        out,
        first.aliases is not None,
        defines,
    )


def _defined_places(result: ExternBuffer) -> list[_Place]:
    return [
        _Place(number, result.name, dim or 0, Quantity.VALUE if dim is None else Quantity.SIZE)
        for number, dim in result.defines
    ]


def _output(output: GraphOutput, host: HostPlan, shared_inputs: Collection[int]) -> OutputValue:
    if output.buffer is None:
        return OutputValue(None, literal=output.literal)
    buffer = host.schedule.buffers[output.buffer]
    fresh = isinstance(buffer, ConstantBuffer) or (isinstance(buffer, InputBuffer) and buffer.position in shared_inputs)
    layout = output.layout if isinstance(output.layout, Layout) and output.layout != buffer.layout else None
    return OutputValue(output.buffer, layout, fresh=fresh)


def _size_bindings(inputs: Sequence[InputBuffer]) -> tuple[SizeBinding, ...]:
    """Every symbol of the inputs' numbers, bound by solving one of them for it; plain symbols first."""
    return _solved([place for buffer in inputs for place in _places(buffer)])


def _solved(places: list[_Place]) -> tuple[SizeBinding, ...]:
    places.sort(key=lambda place: (place.quantity is Quantity.STRIDE, not isinstance(place.number, Symbol)))
    found: dict[Symbol, SizeBinding] = {}
    missing = {s for place in places for s in place.number.free_symbols}
    progress = True
    while missing and progress:
        progress = False
        for place in places:
            unknown = missing & place.number.free_symbols
            if len(unknown) != 1:
                continue
            (sym,) = unknown
            factor = stride_of(place.number, sym)
            if factor is None or factor.lower is None or factor.lower < 1:
                continue  # not affine, or the symbol could not be told where the factor is zero
            rest = place.number.substitute({sym: 0})
            found[sym] = SizeBinding(sym, place.input, place.dimension, place.quantity, factor, rest)
            missing.discard(sym)
            progress = True
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Place:
    """A number of an input."""

    number: IntExpr
    input: str
    dimension: int
    quantity: Quantity


def _places(buffer: InputBuffer) -> list[_Place]:
    layout = buffer.layout
    if isinstance(layout, Layout):
        sizes = [_Place(n, buffer.name, k, Quantity.SIZE) for k, n in enumerate(layout.sizes)]
        return [*sizes, *(_Place(n, buffer.name, k, Quantity.STRIDE) for k, n in enumerate(layout.strides))]
    return [] if buffer.integer is None else [_Place(buffer.integer, buffer.name, 0, Quantity.VALUE)]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers that something mentions: symbols of sizes and integers, and float inputs by name."""

    symbols: set[Symbol] = dataclasses.field(default_factory=set)
    floats: set[str] = dataclasses.field(default_factory=set)


def _numbers_in(lines: Iterable[Line | Layout | OpaqueLayout]) -> _Numbers:
    """The numbers that lines and layouts mention."""
    found = _Numbers()

    def visit(value: Any) -> None:
        if isinstance(value, IntExpr | BoolExpr | FloatExpr):
            found.symbols.update(value.free_symbols)
            if isinstance(value, FloatExpr):
                found.floats.update(value.inputs)
        elif isinstance(value, Layout):
            for number in (*value.sizes, *value.strides, value.offset):
                found.symbols.update(number.free_symbols)
        elif isinstance(value, slice):
            visit((value.start, value.stop, value.step))
        elif isinstance(value, Mapping):
            visit(tuple(cast("Mapping[Any, Any]", value).values()))
        elif isinstance(value, list | tuple):
            for item in cast("Sequence[Any]", value):
                visit(item)
        elif isinstance(value, BufferView):
            visit(value.layout)
        elif isinstance(value, Allocate | TakeOver | Launch | ExternCall | Return | OutputValue):
            for field in dataclasses.fields(value):
                visit(getattr(value, field.name))

    for line in lines:
        visit(line)
    return found


def _needed(bindings: Sequence[SizeBinding], wanted: set[Symbol]) -> tuple[SizeBinding, ...]:
    """The bindings of wanted symbols, and those that these are made from."""
    wanted = set(wanted)
    kept: list[SizeBinding] = []
    for binding in reversed(bindings):
        if binding.symbol in wanted:
            kept.append(binding)
            wanted |= binding.factor.free_symbols | binding.rest.free_symbols
    return tuple(reversed(kept))
