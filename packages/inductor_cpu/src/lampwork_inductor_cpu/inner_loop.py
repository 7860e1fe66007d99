"""One inner loop of a kernel as C++ text: accumulators, partial sums, vectors and their tail.

Used by `kernel` for every InnerLoop segment; what a stage computes is `body`'s. Invariant: partial accumulators combine
in a fixed order, so that a result does not depend on how loops are shared out.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Dimension, InnerLoop, Stage
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_symshape import IntExpr, integer

from .expression_printer import CppPrinter
from .ops import convert
from .reduction import LONG_SUM, PARTIALS, SCAN_AS_REDUCTION, Accumulator
from .scope import Value
from .tiling import VectorLevel, VectorPlan

if TYPE_CHECKING:
    from .kernel import KernelWriter

_print = CppPrinter()
_POSITIONS = (ReductionKind.ARGMAX, ReductionKind.ARGMIN)
_Chunk = tuple[int, "int | None"]  # points of a chunk, and of all chunks where that is known


def for_loop(dimension: Dimension, step: int = 1) -> str:
    """The header of a loop over a dimension."""
    name = dimension.symbol.name
    advance = f"++{name}" if step == 1 else f"{name} += {step}"
    return f"for (int64_t {name} = 0; {name} < {_print(dimension.size)}; {advance})"


@dataclass(slots=True)
class LoopWriter:
    """One InnerLoop being written: its accumulators, and how many partial ones each has."""

    writer: KernelWriter
    segment: InnerLoop
    first: int
    accumulators: dict[int, Accumulator] = field(default_factory=dict)
    partials: int = 1
    lanes: int = 1
    columns: int = 1  # vectors of columns that go down the rows together; each has its own accumulators
    _outer_depth: int = 0
    _part: str = ""
    _by_lane: dict[int, bool] = field(default_factory=dict)
    _chunk: _Chunk | None = None

    @contextmanager
    def rows(self) -> Generator[None]:
        """The inner loops open, for a block of columns."""
        self._outer_depth, self._part = self.writer.blocks.depth, "[part]"
        inner = self.writer.kernel.inner
        with self.writer.block([for_loop(d) for d in inner], inner):
            yield

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
            writer.stages(self.segment.stages, self)
            return
        header = for_loop(inner[0])
        if chunk is not None:
            name, (step, size) = inner[0].symbol.name, chunk
            begin, end = f"chunk * {step}", f"lw::minimum<int64_t>(chunk * {step} + {step}, {size})"
            if size is None:
                begin, end = "first", "last"
            header = f"for (int64_t {name} = {begin}; {name} < {end}; ++{name})"
        with writer.block([header], inner[:1]):
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
        return points * self.columns // (self.lanes * self.partials) >= LONG_SUM

    def _vector(self, inner: list[Dimension], vector: VectorPlan, chunk: _Chunk | None) -> None:
        writer = self.writer
        if len(inner) > 1:
            with writer.block([for_loop(inner[0])], inner[:1]):
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
            with writer.block([header], inner):
                writer.stages(self.segment.stages, self)
            return
        if vector.full_vectors == 0:
            with writer.block([""], []):
                writer.blocks.line(f"const int64_t {name} = 0;")
                writer.blocks.line(f"const lw::mask active = lw::first({end});")
                writer.blocks.symbol_depth[vector.symbol] = writer.blocks.depth
                writer.body.moved()
                writer.with_active(lambda: writer.stages(self.segment.stages, self))
                del writer.blocks.symbol_depth[vector.symbol]
            return
        self._part = "[part]" if self.partials > 1 else ""
        if vector.tail == 0 and vector.full_vectors is not None:
            headers = self._unrolled_headers(name, begin, end, lanes)
            with writer.block(headers, inner):
                writer.blocks.line(f"const int64_t {name} = {name}_block + part * {lanes};")
                writer.stages(self.segment.stages, self)
            return
        function = writer.blocks.fresh("step")
        part_parameter = ", const int part" if self.partials > 1 else ""
        header = f"const auto {function} = [&](const int64_t {name}, const auto active{part_parameter}) LW_LAMBDA"
        with writer.block([header], inner, "};"):
            writer.with_active(lambda: writer.stages(self.segment.stages, self))
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
            self.writer.call_and_tail(vector, [], function)
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
                text = accumulator.result_per_lane(self._part if self.columns > 1 else "")
                value = Value(text, _result_dtype(accumulator), by_lane)
            writer.finished(position, stage, value)


def _result_dtype(accumulator: Accumulator) -> torch.dtype:
    return torch.int64 if accumulator.is_position else accumulator.dtype
