"""One kernel as C++ text: loops, parallel region, segments, tails.

Takes a ScheduledKernel and gives a KernelSource; everything inside a loop is `body`'s. Invariants: pure (equal
kernels give equal text), readable without this package, and no statement or test that is provably without effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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
from lampwork_inductor_core.ir.loop_body import Load

from .body import BodyWriter
from .column_blocks import column_block
from .config import CpuConfig
from .expression_printer import CppPrinter
from .inner_loop import LoopWriter, for_loop
from .isa import Isa
from .ops import convert, register_type, storage_type
from .parallel import CHUNK, ParallelPlan, plan_parallel
from .parameters import parameters_of
from .reduction import combined
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
    writer = KernelWriter(kernel, vector, parallel)
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


@dataclass(slots=True)
class KernelWriter:
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
        columns = column_block(self.kernel, vector)
        if vector is not None and columns > 1:
            self._column_blocks(vector, columns)
            return
        shared, rest = outer[:count], outer[count:]
        if vector is not None and shared and not rest:
            self._vector_nest(shared[:-1], vector, self._pragma(count))
            return
        if shared:
            with self.block([*self._pragma(count), *map(for_loop, shared)], shared):
                self._nest(rest, vector)
        else:
            self._nest(rest, vector)

    def _column_blocks(self, vector: VectorPlan, columns: int) -> None:
        """Blocks of several vectors of columns: the inner loop for all of them, then the outer stages for each."""
        *before, dimension = self.kernel.outer
        name, lanes = dimension.symbol.name, vector.lanes
        step = columns * lanes
        pragma = self._pragma(self.parallel.collapse) if self.parallel.collapse else []
        blocks = f"for (int64_t {name}_block = 0; {name}_block < {_print(vector.size)}; {name}_block += {step})"
        parts = f"for (int part = 0; part < {columns}; ++part)"
        first, *rest = self.kernel.segments
        assert isinstance(first, InnerLoop)
        with self.block([*pragma, *map(for_loop, before), blocks], before):
            loop = LoopWriter(self, first, self._stage, columns=columns, partials=columns)
            with loop.rows(), self.block([parts], [dimension]):
                self.blocks.line(f"const int64_t {name} = {name}_block + part * {lanes};")
                self.stages(first.stages, loop)
            with self.block([parts], [dimension]):
                self.blocks.line(f"const int64_t {name} = {name}_block + part * {lanes};")
                loop.finish()
                for segment in rest:
                    self.stages(segment.stages, None)

    def _nest(self, dimensions: Sequence[Dimension], vector: VectorPlan | None) -> None:
        if vector is not None and len(dimensions) == 1:
            self._vector_nest([], vector, [])
        elif dimensions:
            with self.block([for_loop(dimensions[0])], dimensions[:1]):
                self._nest(dimensions[1:], vector)
        else:
            self._segments()

    @contextmanager
    def block(self, headers: Sequence[str], dimensions: Sequence[Dimension], closing: str = "}") -> Generator[None]:
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
            with self.block([*pragma, *map(for_loop, before), for_loop(dimension, lanes)], dimensions):
                self._segments()
            return
        if vector.full_vectors == 0 and not before:
            self.blocks.line(f"const int64_t {name} = 0;")
            self.blocks.line(f"const lw::mask active = lw::first({size});")
            self.blocks.symbol_depth[vector.symbol] = self.blocks.depth
            self.with_active(self._segments)
            return
        parameters = ", ".join(f"const int64_t {d.symbol.name}" for d in dimensions)
        header = f"const auto point = [&]({parameters}, const auto active) LW_LAMBDA"
        with self.block([header], dimensions, "};"):
            self.with_active(self._segments)
        names = ", ".join(d.symbol.name for d in dimensions)
        loops = [*pragma, *map(for_loop, before)]
        if before:
            with self.blocks.block([*loops, for_loop(dimension, lanes)]):
                self.blocks.line(f"if ({name} + {lanes} <= {size})")
                self.blocks.line(f"  point({names}, lw::all);")
                self.blocks.line("else")
                self.blocks.line(f"  point({names}, lw::first({size} - {name}));")
            return
        self.call_and_tail(vector, loops, "point")

    def call_and_tail(self, vector: VectorPlan, loops: list[str], function: str, extra: str = "") -> None:
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

    def with_active(self, write: object) -> None:
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
                self.stages(segment.stages, None)
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

    def stages(self, stages: Sequence[Stage], loop: LoopWriter | None) -> None:
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
        loop = LoopWriter(self, segment, self._stage)
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
        loop = LoopWriter(self, segment, 0)
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
        with self.block([f"#pragma omp parallel for{enough} schedule(static) num_threads(threads)", header], []):
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
            self.finished(stage_position, stage, Value(total, accumulator.dtype))
        self._stage = len(segment.stages)
        for rest in self.kernel.segments[1:]:
            self.stages(rest.stages, None)

    def finished(self, position: int, stage: Stage, value: Value) -> None:
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
