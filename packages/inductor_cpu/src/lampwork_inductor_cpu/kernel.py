"""One kernel as C++ text: loops, parallel region, segments, tails.

Takes a ScheduledKernel and gives a KernelSource; everything inside a loop is `body`'s. Invariants: pure (equal
kernels give equal text), readable without this package, and no statement or test that is provably without effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from lampwork_inductor_core.codegen.kernel import inline_locals
from lampwork_inductor_core.codegen.scheduled_kernel import (
    BufferArgument,
    Dimension,
    InnerLoop,
    KernelSource,
    OuterSegment,
    ScheduledKernel,
    Stage,
)
from lampwork_inductor_core.ir.loop_body import Load, ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_symshape import IntExpr, integer

from .body import BodyWriter
from .config import CpuConfig
from .expression_printer import CppPrinter
from .isa import Isa
from .ops import convert, register_type, storage_type
from .parallel import CHUNK, ParallelPlan, plan_parallel
from .parameters import parameters_of
from .reduction import LONG_SUM, PARTIALS, SCAN_AS_REDUCTION, Accumulator, combined
from .scope import ScopeStack, Value
from .tiling import VectorLevel, VectorPlan, plan_vectors, stage_nodes

_print = CppPrinter()


def generate_kernel(kernel: ScheduledKernel, isa: Isa, config: CpuConfig) -> KernelSource:
    """The text of one kernel. Raises UnsupportedDtype for element types that C++ kernels do not handle."""
    vector = plan_vectors(kernel, isa.lanes)
    if _local_bytes(kernel, vector) > config.local_bytes:
        kernel = inline_locals(kernel)
        vector = plan_vectors(kernel, isa.lanes)
    parallel = plan_parallel(kernel, vector, config.grain, config.parallel)
    writer = _KernelWriter(kernel, vector, parallel)
    writer.write()
    parameters = parameters_of(kernel)
    threaded = parallel.chunks or parallel.collapse > 0
    if writer.body.uses_status:
        parameters.append("lw::status* failed")
    if threaded:
        parameters.append("const int threads")
    lines = writer.blocks.scopes[0].lines
    text_body = "\n".join(f"  {line}" for line in lines)
    signature = f"({', '.join(parameters)}) {{\n{text_body}\n}}\n"
    digest = hashlib.sha256(f"{kernel.name}|{isa.name}|{signature}".encode()).hexdigest()[:12]
    name = f"{kernel.name}_{digest}"
    text = f'{_comments(kernel)}extern "C" void {name}{signature}'
    launch = {
        "isa": isa.name,
        "status": writer.body.uses_status,
        "threads": threaded,
        "release_gil": parallel.work >= config.release_gil,
    }
    return KernelSource(name, text, kernel.arguments, launch)


def _local_bytes(kernel: ScheduledKernel, vector: VectorPlan | None) -> int:
    """Stack bytes of a kernel's rows, all of which live at once; vectors of outer points have a row a lane."""
    rows = vector.lanes if vector is not None and vector.level is VectorLevel.OUTER else 1
    known = [local for local in kernel.locals if local.element_count.is_constant]  # others find room as they need it
    return rows * sum(int(local.element_count) * local.dtype.itemsize for local in known)


def _comments(kernel: ScheduledKernel) -> str:
    seen = dict.fromkeys(s.comment for s in kernel.stages() if s.comment)
    lines = [line for comment in seen for line in comment.splitlines()]
    return "".join(f"// {line}\n" for line in lines)


_Chunk = tuple[int, "int | None"]  # points of a chunk, and of all chunks where that is known


@dataclass(slots=True)
class _KernelWriter:
    kernel: ScheduledKernel
    vector: VectorPlan | None
    parallel: ParallelPlan
    blocks: ScopeStack = field(default_factory=ScopeStack)
    body: BodyWriter = field(init=False)
    _stage: int = 0

    def __post_init__(self) -> None:
        dtypes = {a.name: a.dtype for a in self.kernel.arguments if isinstance(a, BufferArgument)}
        dtypes |= {local.name: local.dtype for local in self.kernel.locals}
        locals_ = frozenset(local.name for local in self.kernel.locals)
        self.body = BodyWriter(self.blocks, self.vector, dtypes, locals_)

    # -- loops

    def write(self) -> None:
        if self.parallel.chunks:
            self._chunked()
            return
        outer = list(self.kernel.outer)
        vector = self.vector if self.vector is not None and self.vector.level is VectorLevel.OUTER else None
        count = self.parallel.collapse
        shared, rest = outer[:count], outer[count:]
        if vector is not None and shared and not rest:
            self._vector_nest(shared[:-1], vector, self._pragma(count))
            return
        if shared:
            with self._block([*self._pragma(count), *map(_for, shared)], shared):
                self._nest(rest, vector)
        else:
            self._nest(rest, vector)

    def _nest(self, dimensions: Sequence[Dimension], vector: VectorPlan | None) -> None:
        if vector is not None and len(dimensions) == 1:
            self._vector_nest([], vector, [])
        elif dimensions:
            with self._block([_for(dimensions[0])], dimensions[:1]):
                self._nest(dimensions[1:], vector)
        else:
            self._segments()

    @contextmanager
    def _block(self, headers: Sequence[str], dimensions: Sequence[Dimension], closing: str = "}") -> Generator[None]:
        with self.blocks.block(headers, [d.symbol for d in dimensions], closing):
            self.body.moved()
            yield
        self.body.moved()

    def _pragma(self, collapse: int) -> list[str]:
        clauses = ["#pragma omp parallel for"]
        if collapse > 1:
            clauses.append(f"collapse({collapse})")
        if self.parallel.condition is not None:
            clauses.append(f"if({_print(self.parallel.condition)} >= {self.parallel.least})")
        clauses.append("schedule(static) num_threads(threads)")
        return [" ".join(clauses)]

    def _vector_nest(self, before: Sequence[Dimension], vector: VectorPlan, pragma: list[str]) -> None:
        """The outer loops down to the vectorised one, as one block or as a function of the point and its lanes."""
        dimension = Dimension(vector.symbol, vector.size)
        dimensions = [*before, dimension]
        lanes, name, size = vector.lanes, vector.symbol.name, _print(vector.size)
        if vector.tail == 0:
            with self._block([*pragma, *map(_for, before), _for(dimension, lanes)], dimensions):
                self._segments()
            return
        if vector.full_vectors == 0 and not before:
            self.blocks.line(f"const int64_t {name} = 0;")
            self.blocks.line(f"const lw::mask active = lw::first({size});")
            self.blocks.symbol_depth[vector.symbol] = self.blocks.depth
            self._with_active(self._segments)
            return
        parameters = ", ".join(f"const int64_t {d.symbol.name}" for d in dimensions)
        header = f"const auto point = [&]({parameters}, const auto active) LW_LAMBDA"
        with self._block([header], dimensions, "};"):
            self._with_active(self._segments)
        names = ", ".join(d.symbol.name for d in dimensions)
        loops = [*pragma, *map(_for, before)]
        if before:
            with self.blocks.block([*loops, _for(dimension, lanes)]):
                self.blocks.line(f"if ({name} + {lanes} <= {size})")
                self.blocks.line(f"  point({names}, lw::all);")
                self.blocks.line("else")
                self.blocks.line(f"  point({names}, lw::first({size} - {name}));")
            return
        self._call_and_tail(vector, loops, "point")

    def _call_and_tail(self, vector: VectorPlan, loops: list[str], function: str, extra: str = "") -> None:
        lanes, name = vector.lanes, vector.symbol.name
        if vector.full_vectors is not None:
            whole = vector.full_vectors * lanes
            if whole:
                self.blocks.line(
                    "\n  ".join([*loops, f"for (int64_t {name} = 0; {name} < {whole}; {name} += {lanes})"])
                )
                self.blocks.line(f"  {function}({name}, lw::all{extra});")
            if vector.tail:
                self.blocks.line(f"{function}({whole}, lw::first({vector.tail}){extra});")
            return
        size = _print(vector.size)
        if vector.tail == 0:
            for text in [*loops, f"for (int64_t {name} = 0; {name} < {size}; {name} += {lanes})"]:
                self.blocks.line(text)
            self.blocks.line(f"  {function}({name}, lw::all{extra});")
            return
        whole_name = self.blocks.fresh("whole")
        self.blocks.line(f"const int64_t {whole_name} = ({size}) / {lanes} * {lanes};")
        for text in [*loops, f"for (int64_t {name} = 0; {name} < {whole_name}; {name} += {lanes})"]:
            self.blocks.line(text)
        self.blocks.line(f"  {function}({name}, lw::all{extra});")
        self.blocks.line(f"if ({whole_name} < {size})")
        self.blocks.line(f"  {function}({whole_name}, lw::first({size} - {whole_name}){extra});")

    def _with_active(self, write: object) -> None:
        previous = self.body.active
        self.body.active = "active"
        assert callable(write)
        write()
        self.body.active = previous

    # -- segments

    def _segments(self) -> None:
        self._locals()
        for segment in self.kernel.segments:
            if isinstance(segment, OuterSegment):
                self._stages(segment.stages, None)
            else:
                self._inner_loop(segment)

    def _locals(self) -> None:
        lane_rows = self.vector is not None and self.vector.level is VectorLevel.OUTER
        for local in self.kernel.locals:
            count = local.element_count * (self.vector.lanes if self.vector is not None and lane_rows else 1)
            cpp = storage_type(local.dtype)
            if count.is_constant:
                self.blocks.line(f"alignas(64) {cpp} {local.name}[{_print(count)}];")
            else:
                self.blocks.line(f"const lw::row<{cpp}> {local.name}_row({_print(count)});")
                self.blocks.line(f"{cpp}* const __restrict {local.name} = {local.name}_row.data;")

    def _stages(self, stages: Sequence[Stage], loop: _Loop | None) -> None:
        """Values in order; a store into an argument that later stages still read waits for them."""
        first = self._stage
        waiting: list[tuple[Stage, Value]] = []
        for position, stage in enumerate(stages):
            value = self.body.value(stage.value)
            depth = self.body.depth_of(stage.value)
            if stage.accumulate is not None:
                assert loop is not None
                loop.accumulate(first + position, stage, value)
                continue
            if stage.scan is not None:
                assert loop is not None
                value, depth = loop.scan(first + position, stage, value), self.blocks.depth
            self.body.forwarded[first + position] = (value, depth)
            if stage.store is not None:
                if _read_later(stage.store.argument, stages[position + 1 :]):
                    waiting.append((stage, value))
                else:
                    self.body.store(stage.store, value)
        for stage, value in waiting:
            assert stage.store is not None
            self.body.store(stage.store, value)
        self._stage = first + len(stages)

    def _inner_loop(self, segment: InnerLoop) -> None:
        loop = _Loop(self, segment, self._stage)
        loop.write()
        loop.finish()

    # -- a full reduction, shared out

    def _chunked(self) -> None:
        """`partial[k]` of every chunk in parallel, then their combination in order, then the outer stages."""
        segment = self.kernel.segments[0]
        assert isinstance(segment, InnerLoop)
        extent = self.kernel.inner[0].size
        known = extent.is_constant
        size = int(extent) if known else 0
        chunks = str(-(-size // CHUNK)) if known else "chunks"
        if not known:
            text = _print(extent)
            self.blocks.line(f"const int64_t chunks = lw::maximum<int64_t>(({text} + {CHUNK - 1}) / {CHUNK}, 1);")
        loop = _Loop(self, segment, 0)
        partials: list[str] = []
        for stage in segment.stages:
            assert stage.accumulate is not None
            name = self.blocks.fresh("partial")
            partials.append(name)
            cpp = register_type(stage.accumulate.accumulate)
            if known:
                self.blocks.line(f"{cpp} {name}[{chunks}];")
            else:
                self.blocks.line(f"const lw::row<{cpp}> {name}_row(chunks);")
                self.blocks.line(f"{cpp}* const {name} = {name}_row.data;")
        header = f"for (int64_t chunk = 0; chunk < {chunks}; ++chunk)"
        enough = "" if known else " if(chunks > 1)"
        with self._block([f"#pragma omp parallel for{enough} schedule(static) num_threads(threads)", header], []):
            if not known:
                self.blocks.line(f"const int64_t first = chunk * {CHUNK};")
                self.blocks.line(f"const int64_t last = lw::minimum<int64_t>(first + {CHUNK}, {_print(extent)});")
            loop.write(chunk=(CHUNK, size if known else None))
            for stage_position, name in enumerate(partials):
                self.blocks.line(
                    f"{name}[chunk] = {loop.accumulators[stage_position].result(loop.lanes > 1, loop.partials)};"
                )
        self.body.forwarded.clear()
        for stage_position, (stage, name) in enumerate(zip(segment.stages, partials)):
            accumulator = loop.accumulators[stage_position]
            total = self.blocks.fresh("total")
            cpp = register_type(accumulator.dtype)
            self.blocks.line(f"{cpp} {total} = {name}[0];")
            self.blocks.line(f"for (int64_t chunk = 1; chunk < {chunks}; ++chunk)")
            self.blocks.line(f"  {total} = {combined(accumulator.kind, total, f'{name}[chunk]', accumulator.dtype)};")
            self._finished(stage_position, stage, Value(total, accumulator.dtype))
        self._stage = len(segment.stages)
        for rest in self.kernel.segments[1:]:
            self._stages(rest.stages, None)

    def _finished(self, position: int, stage: Stage, value: Value) -> None:
        """The result of a reduction: converted, known to later stages, stored."""
        assert stage.accumulate is not None
        result = stage.accumulate.result
        text = convert(value.text, value.dtype, result)
        if text != value.text or not text.isidentifier():
            name = self.blocks.fresh(stage.accumulate.kind.value)
            cpp = "const auto" if value.vector else f"const {register_type(result)}"
            self.blocks.line(f"{cpp} {name} = {text};")
            text = name
        finished = Value(text, result, value.vector)
        self.body.forwarded[position] = (finished, self.blocks.depth)
        if stage.store is not None:
            self.body.store(stage.store, finished)


def _read_later(argument: str, stages: Sequence[Stage]) -> bool:
    return any(isinstance(n, Load) and n.buffer == argument for s in stages for n in stage_nodes(s))


def _for(dimension: Dimension, step: int = 1) -> str:
    name = dimension.symbol.name
    advance = f"++{name}" if step == 1 else f"{name} += {step}"
    return f"for (int64_t {name} = 0; {name} < {_print(dimension.size)}; {advance})"


@dataclass(slots=True)
class _Loop:
    """One InnerLoop being written: its accumulators, and how many partial ones each has."""

    writer: _KernelWriter
    segment: InnerLoop
    first: int
    accumulators: dict[int, Accumulator] = field(default_factory=dict)
    partials: int = 1
    lanes: int = 1
    _outer_depth: int = 0
    _part: str = ""
    _by_lane: dict[int, bool] = field(default_factory=dict)
    _chunk: _Chunk | None = None

    def write(self, chunk: _Chunk | None = None) -> None:
        writer = self.writer
        vector = writer.vector
        inner = list(writer.kernel.inner)
        self._outer_depth = writer.blocks.depth
        self._chunk = chunk
        if vector is not None and vector.level is VectorLevel.INNER:
            self.lanes = vector.lanes
            self.partials = self._partials(vector, chunk)
            self._declare()
            self._vector(inner, vector, chunk)
        else:
            self._scalar(inner, chunk)

    def _scalar(self, inner: list[Dimension], chunk: _Chunk | None) -> None:
        writer = self.writer
        if not inner:
            writer._stages(self.segment.stages, self)
            return
        header = _for(inner[0])
        if chunk is not None:
            name, (step, size) = inner[0].symbol.name, chunk
            begin, end = f"chunk * {step}", f"lw::minimum<int64_t>(chunk * {step} + {step}, {size})"
            if size is None:
                begin, end = "first", "last"
            header = f"for (int64_t {name} = {begin}; {name} < {end}; ++{name})"
        with writer._block([header], inner[:1]):
            self._scalar(inner[1:], None)

    def _partials(self, vector: VectorPlan, chunk: _Chunk | None) -> int:
        if any(s.accumulate.kind in _POSITIONS for s in self.segment.stages if s.accumulate is not None):
            return 1
        reductions = [s for s in self.segment.stages if s.accumulate is not None]
        if not reductions or len(reductions) > 2:
            return 1
        if vector.full_vectors is None:
            return PARTIALS if len(self.writer.kernel.inner) == 1 else 1
        vectors = vector.full_vectors
        size = None if chunk is None else chunk[1]
        if chunk is not None and size is not None:
            step = chunk[0]
            last = size - (size - 1) // step * step
            vectors = last // vector.lanes
        for count in (PARTIALS, 3, 2):
            if vectors % count == 0 and vectors >= 2 * count:
                return count
        return 1

    def _declare(self) -> None:
        """Accumulators of a vectorised inner loop exist before it; those of other loops when their value is known."""
        for position, stage in enumerate(self.segment.stages):
            if stage.accumulate is not None:
                self._declare_one(self.first + position, stage, vector=True)

    def _declare_one(self, position: int, stage: Stage, vector: bool) -> Accumulator:
        assert stage.accumulate is not None
        kind = stage.accumulate.kind
        dtype = stage.value.dtype if kind in _POSITIONS else stage.accumulate.accumulate
        if kind in (ReductionKind.ANY, ReductionKind.ALL):
            dtype = torch.bool
        accumulator = Accumulator(
            self.writer.blocks.fresh(f"{kind.value}_so_far"), kind, dtype, self._is_long(kind, dtype)
        )
        self.accumulators[position] = accumulator
        self._by_lane[position] = vector
        self.writer.blocks.line(accumulator.declare(vector, self.partials), self._outer_depth)
        return accumulator

    def _is_long(self, kind: ReductionKind, dtype: torch.dtype) -> bool:
        """Whether so many values meet one accumulator that a plain sum would lose digits."""
        if kind is not ReductionKind.SUM or not dtype.is_floating_point:
            return False
        points = 1
        for dimension in self.writer.kernel.inner:
            points *= int(dimension.size) if dimension.size.is_constant else LONG_SUM
        if self._chunk is not None:
            points = min(points, self._chunk[0])
        return points // (self.lanes * self.partials) >= LONG_SUM

    def _vector(self, inner: list[Dimension], vector: VectorPlan, chunk: _Chunk | None) -> None:
        writer = self.writer
        if len(inner) > 1:
            with writer._block([_for(inner[0])], inner[:1]):
                self._vector(inner[1:], vector, chunk)
            return
        lanes, name = vector.lanes, vector.symbol.name
        begin, end = "0", _print(vector.size)
        if chunk is not None:
            step, size = chunk
            if size is None:
                begin, end = "first", "last"
            else:
                begin = f"chunk * {step}"
                whole = size // lanes * lanes
                end = f"lw::minimum<int64_t>(chunk * {step} + {step}, {whole})"
        if vector.tail == 0 and self.partials == 1:
            header = f"for (int64_t {name} = {begin}; {name} < {end}; {name} += {lanes})"
            with writer._block([header], inner):
                writer._stages(self.segment.stages, self)
            return
        if vector.full_vectors == 0:
            with writer._block([""], []):
                writer.blocks.line(f"const int64_t {name} = 0;")
                writer.blocks.line(f"const lw::mask active = lw::first({end});")
                writer.blocks.symbol_depth[vector.symbol] = writer.blocks.depth
                writer.body.moved()
                writer._with_active(lambda: writer._stages(self.segment.stages, self))
                del writer.blocks.symbol_depth[vector.symbol]
            return
        self._part = "[part]" if self.partials > 1 else ""
        if vector.tail == 0 and vector.full_vectors is not None:
            headers = self._unrolled_headers(name, begin, end, lanes)
            with writer._block(headers, inner):
                writer.blocks.line(f"const int64_t {name} = {name}_block + part * {lanes};")
                writer._stages(self.segment.stages, self)
            return
        function = writer.blocks.fresh("step")
        part_parameter = ", const int part" if self.partials > 1 else ""
        header = f"const auto {function} = [&](const int64_t {name}, const auto active{part_parameter}) LW_LAMBDA"
        with writer._block([header], inner, "};"):
            writer._with_active(lambda: writer._stages(self.segment.stages, self))
        self._call_steps(vector, function, begin, end, chunk)

    def _unrolled_headers(self, name: str, begin: str, end: str, lanes: int) -> list[str]:
        block = self.partials * lanes
        return [
            f"for (int64_t {name}_block = {begin}; {name}_block < {end}; {name}_block += {block})",
            f"for (int part = 0; part < {self.partials}; ++part)",
        ]

    def _call_steps(self, vector: VectorPlan, function: str, begin: str, end: str, chunk: _Chunk | None) -> None:
        blocks, lanes, name = self.writer.blocks, vector.lanes, vector.symbol.name
        zero = ", 0" if self.partials > 1 else ""
        if self.partials == 1 and chunk is None:
            self.writer._call_and_tail(vector, [], function)
            return
        if vector.full_vectors is None:
            self._call_steps_of_unknown_size(vector, function, begin, end)
            return
        assert vector.tail is not None
        whole = vector.full_vectors * lanes
        stop = end if chunk is not None else str(whole)
        if self.partials > 1:
            headers = self._unrolled_headers(name, begin, stop, lanes)
            blocks.line(headers[0])
            blocks.line(f"  {headers[1]}")
            blocks.line(f"    {function}({name}_block + part * {lanes}, lw::all, part);")
        else:
            blocks.line(f"for (int64_t {name} = {begin}; {name} < {stop}; {name} += {lanes})")
            blocks.line(f"  {function}({name}, lw::all);")
        if vector.tail:
            last = ""
            if chunk is not None and chunk[1] is not None:
                last = f"if (chunk == {(chunk[1] - 1) // chunk[0]}) "
            blocks.line(f"{last}{function}({whole}, lw::first({vector.tail}){zero});")

    def _call_steps_of_unknown_size(self, vector: VectorPlan, function: str, begin: str, end: str) -> None:
        """Blocks of all partials, then vectors and the tail into the first one."""
        blocks, lanes, name = self.writer.blocks, vector.lanes, vector.symbol.name
        part = ", 0" if self.partials > 1 else ""
        start = begin

        def multiples(number: int) -> str:
            return (
                f"({end}) / {number} * {number}"
                if begin == "0"
                else f"{begin} + ({end} - {begin}) / {number} * {number}"
            )

        if self.partials > 1:
            start = blocks.fresh("blocks")
            blocks.line(f"const int64_t {start} = {multiples(self.partials * lanes)};")
            headers = self._unrolled_headers(name, begin, start, lanes)
            blocks.line(headers[0])
            blocks.line(f"  {headers[1]}")
            blocks.line(f"    {function}({name}_block + part * {lanes}, lw::all, part);")
        whole = end
        if vector.tail != 0:
            whole = blocks.fresh("whole")
            blocks.line(f"const int64_t {whole} = {multiples(lanes)};")
        blocks.line(f"for (int64_t {name} = {start}; {name} < {whole}; {name} += {lanes})")
        blocks.line(f"  {function}({name}, lw::all{part});")
        if vector.tail != 0:
            blocks.line(f"if ({whole} < {end})")
            blocks.line(f"  {function}({whole}, lw::first({end} - {whole}){part});")

    # -- what stages ask for

    def accumulate(self, position: int, stage: Stage, value: Value) -> None:
        writer = self.writer
        body = writer.body
        inner_vector = self.lanes > 1
        accumulator = self.accumulators.get(position)
        if accumulator is None:
            accumulator = self._declare_one(position, stage, value.vector)
        if value.dtype != accumulator.dtype:
            value = Value(convert(value.text, value.dtype, accumulator.dtype), accumulator.dtype, value.vector)
        text = body.splat(value) if inner_vector else value.text
        active = body.active if inner_vector else None
        place = "0"
        if accumulator.is_position:
            place = self._position(self._by_lane[position])
            active = (body.active if inner_vector else "lw::all") if self._by_lane[position] else None
        writer.blocks.line(accumulator.take(text, place, active, self._part))

    def _position(self, by_lane: bool) -> str:
        flat: IntExpr = integer(0)
        for dimension in self.writer.kernel.inner:
            flat = flat * dimension.size + dimension.symbol
        value = self.writer.body.value(ops.index_value(flat))
        return self.writer.body.splat(value) if by_lane else value.text

    def scan(self, position: int, stage: Stage, value: Value) -> Value:
        assert stage.scan is not None
        writer = self.writer
        kind = SCAN_AS_REDUCTION[stage.scan.kind]
        accumulator = Accumulator(writer.blocks.fresh("running"), kind, stage.scan.accumulate)
        writer.blocks.line(accumulator.declare(value.vector), self._outer_depth)
        text = convert(value.text, value.dtype, accumulator.dtype)
        writer.blocks.line(accumulator.take(text, "0", None))
        result = convert(accumulator.name, accumulator.dtype, stage.scan.result)
        name = writer.blocks.fresh("scanned")
        writer.blocks.line(f"const auto {name} = {result};")
        return Value(name, stage.scan.result, value.vector)

    def finish(self) -> None:
        """After the loop: combine lanes and partials, convert, store."""
        writer = self.writer
        for position, stage in enumerate(self.segment.stages, self.first):
            if stage.accumulate is None:
                writer.body.forwarded.pop(position, None)
                continue
            accumulator = self.accumulators[position]
            if self.lanes > 1:
                value = Value(accumulator.result(True, self.partials), _result_dtype(accumulator))
            else:
                by_lane = self._by_lane[position]
                value = Value(accumulator.result_per_lane(), _result_dtype(accumulator), by_lane)
            writer._finished(position, stage, value)


_POSITIONS = (ReductionKind.ARGMAX, ReductionKind.ARGMIN)


def _result_dtype(accumulator: Accumulator) -> torch.dtype:
    return torch.int64 if accumulator.is_position else accumulator.dtype
