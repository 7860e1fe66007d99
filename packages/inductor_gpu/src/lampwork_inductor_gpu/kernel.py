"""A scheduled kernel as Triton source text.

From `ScheduledKernel` to `KernelSource`: this is the package's code generator. One program computes a block of outer
points; reductions hold their rows at once (persistent) or walk them in blocks (looped). Invariant: a lane outside the
space never touches memory, a mask stands only where the sizes leave such lanes, and equal kernels give equal text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Forwarded,
    InnerLoop,
    KernelSource,
    OuterSegment,
    ScheduledKernel,
    Segment,
    SizeArgument,
    Stage,
)
from lampwork_inductor_core.ir.loop_body import (
    CheckedIndex,
    Compute,
    Constant,
    FloatValue,
    IndexValue,
    Load,
    Masked,
    Node,
    operands,
    walk,
)
from lampwork_inductor_core.ir.loops import ReductionKind, ScatterMode
from lampwork_symshape import IntExpr, Symbol

from .accumulators import Accumulator, Moments, Positioned, Powers, Single
from .divisibility import dividing_sizes
from .heuristics import KernelShape, LaunchConfig
from .index_width import IndexReach, IndexWidth
from .indexing import FlatSpace, TritonPrinter, is_local
from .one_pass import Pair, PairKind, left_out, pairs_of
from .ops import TRITON_TYPES, format_op, is_generated, literal, reciprocal
from .reduction import SCAN_AS_REDUCTION, SCAN_COMBINE, block_reduction, carrier, converted, identity
from .rounding import rough_operations
from .scope import Held, Lanes, Scope, passes_of
from .spaces import spaces_of

_CASTS = {IndexWidth.NARROW: "", IndexWidth.WIDE: ".to(tl.int64)", IndexWidth.BY_SIZES: ".to(INDEX)"}
_HEADER = """import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import {functions}


@triton.jit
def {name}({parameters}):
"""
_HEADER_PLAIN = """import triton
import triton.language as tl


@triton.jit
def {name}({parameters}):
"""
_DEVICE_FUNCTIONS = (
    "acos", "acosh", "add", "add_power", "asin", "asinh", "atan", "atan2", "atanh", "copysign", "cosh", "erfc",
    "erfinv", "expm1", "float_floor_div", "float_remainder", "floor_div", "floor_mod", "fmod", "greater_or_first",
    "hypot", "integer_pow", "join_moments", "join_powers", "less_or_first", "lgamma", "log10", "log1p", "maximum",
    "minimum", "multiply", "nextafter", "pow", "rough_erf", "rough_sigmoid", "round_half_even", "sinh", "tan",
    "tanh", "trunc", "widened",
)  # fmt: skip


class NotGenerated(RuntimeError):
    """A kernel asks for what this generator has no text for; `TritonBackend.lowerings` keeps such operators out."""


class TritonKernelWriter:
    """Writes one kernel. Use `write_kernel`."""

    def __init__(self, kernel: ScheduledKernel, config: LaunchConfig) -> None:
        self.kernel = kernel
        self.config = config
        self.lines: list[str] = []
        self.indent = 1
        self.counter = 0
        self.spaces = spaces_of(kernel, config)
        self.x: FlatSpace = self.spaces.x
        self.r: FlatSpace = self.spaces.second
        self.block = f"{self.r.name.upper()}_BLOCK"  # of the second space
        self.blocked = self.x.in_blocks_of(config.x_block)
        x = self.x.dimensions if self.blocked is None else self.blocked.dimensions
        self.symbols: dict[Symbol, IntExpr] = {**x, **self.r.dimensions}
        self.printer = TritonPrinter()
        self.reach = IndexReach.of(kernel, config)
        self.cast = _CASTS[self.reach.width]
        self.stage_names: dict[int, str] = {}
        self.local_values: dict[str, str] = {}
        self.loaded: set[str] = set()
        self.comments: set[str] = set()
        self.stored: set[str] = set()  # arguments written since the last barrier
        self.held: dict[str, Held] = {}  # what arguments hold where this program wrote them
        looped = config.shape is KernelShape.LOOPED
        self.segment = 0
        self.rough = rough_operations(kernel)
        self.pairs = pairs_of(kernel) if looped else ()
        self.left_out = left_out(kernel, self.pairs)
        self.passes = passes_of(kernel, self.left_out) if looped else {}

    # The skeleton

    def write(self) -> str:
        """The body's text, without the header."""
        self._emit_x()
        outer = Scope()
        if self.config.shape in (KernelShape.PERSISTENT, KernelShape.TILED):
            if self.config.shape is KernelShape.PERSISTENT:
                self._emit_r("0")
            for segment, first in self._numbered():
                self._emit_stages(segment, first, outer)
        else:
            for number, (segment, first) in enumerate(self._numbered()):
                self.segment = number
                if isinstance(segment, OuterSegment):
                    self._emit_stages(segment, first, outer)
                else:
                    self._emit_inner_loop(segment, first, outer)
        return "\n".join(_without_unused(self.lines, "x")) + "\n"

    def _numbered(self) -> Iterable[tuple[Segment, int]]:
        position = 0
        for segment in self.kernel.segments:
            yield segment, position
            position += len(segment.stages)

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def fresh(self, prefix: str = "tmp") -> str:
        self.counter += 1
        return f"{prefix}{self.counter - 1}"

    def block_reads(self) -> tuple[int, ...]:
        """The positions of the arguments that the card's copy engine reads in blocks."""
        return ()

    def constants(self) -> dict[str, int]:
        """The sizes of blocks, by the names of the parameters that take them."""
        second = {self.block: self.config.r_block} if self.two_spaces else {}
        return {"X_BLOCK": self.config.x_block, **second}

    @property
    def two_spaces(self) -> bool:
        """Whether blocks have two dimensions."""
        return self.config.shape is not KernelShape.POINTWISE

    def _divides(self, size: IntExpr, block: int) -> bool:
        return size.is_constant and int(size) % block == 0

    @property
    def x_masked(self) -> bool:
        return not self._divides(self.x.size, self.config.x_block)

    @property
    def r_masked(self) -> bool:
        return self.two_spaces and not self._divides(self.r.size, self.config.r_block)

    def _emit_x(self) -> None:
        across = "[:, None]" if self.two_spaces else ""
        program = f"tl.program_id(0){self.cast}"
        second = self.spaces.second_programs
        if second is not None:
            self.line(f"program = {program}")
            program = f"program // {self._factor(second)}"
        start = f"{program} * X_BLOCK" if second is None else f"({program}) * X_BLOCK"
        if self.blocked is not None:
            # No block crosses the end of the last loop: the others are the same for all of it.
            self.line(f"start = {start}")
            self.line(f"{self.blocked.high.name} = start // {self.blocked.size}")
            self.line(f"{self.blocked.low.name} = start % {self.blocked.size} + tl.arange(0, X_BLOCK){across}")
            start = "start"
        self.line(f"x = {start} + tl.arange(0, X_BLOCK){across}")
        if self.x_masked:
            self.line(f"x_mask = x < {self.printer(self.x.size)}")
        if second is not None:
            self.line(f"y = (program % {self._factor(second)}) * Y_BLOCK + tl.arange(0, Y_BLOCK)[None, :]")
            if self.r_masked:
                self.line(f"y_mask = y < {self.printer(self.r.size)}")

    def _factor(self, expression: IntExpr) -> str:
        return self._parenthesised(self.printer(expression))

    def _emit_r(self, start: str) -> None:
        block = "tl.arange(0, R_BLOCK)[None, :]"
        self.line(f"r = {block}{self.cast}" if start == "0" else f"r = {start} + {block}{self.cast}")
        if self.r_masked:
            self.line(f"r_mask = r < {self.printer(self.r.size)}")

    def _emit_inner_loop(self, segment: InnerLoop, first: int, outer: Scope) -> None:
        accumulators = self._accumulators(segment, first)
        carries = self._emit_carries(segment, first)
        for accumulator in dict.fromkeys(accumulators.values()):
            self.lines.extend("    " * self.indent + text for text in accumulator.start())
        if any(p not in self.left_out for p, _ in enumerate(segment.stages, first)):
            self._emit_barrier(segment)
            self.line(f"for r_start in range(0, {self.printer(self.r.size)}, R_BLOCK):")
            self.indent += 1
            self._emit_r("r_start")
            self._emit_stages(segment, first, Scope(parent=outer), accumulators, carries)
            self.indent -= 1
        for accumulator in dict.fromkeys(accumulators.values()):
            self._finish_accumulator(accumulator)
        for position, stage in enumerate(segment.stages, first):
            if stage.accumulate is not None:
                self._store(stage, self.stage_names[position], outer, reduced=True)

    # Stages

    def _emit_stages(
        self,
        segment: Segment,
        first: int,
        scope: Scope,
        accumulators: dict[int, Accumulator] | None = None,
        carries: dict[int, str] | None = None,
    ) -> None:
        for position, stage in enumerate(segment.stages, first):
            if position in self.left_out:
                continue  # an earlier loop computes it along
            if stage.comment and stage.comment not in self.comments:
                self.comments.add(stage.comment)
                self.line(f"# {stage.comment}")
            name = self._value(stage.value, scope)
            if stage.scan is not None:
                name = self._scan(position, stage, name, (carries or {}).get(position))
            if stage.accumulate is None:
                self.stage_names[position] = name
                self._store(stage, name, scope, reduced=False)
            elif accumulators is not None:
                accumulator = accumulators[position]
                prepared = self._prepared(stage, name, masked=self.r_masked)
                self.lines.extend("    " * self.indent + text for text in accumulator.step(prepared))
            else:
                self.stage_names[position] = self._reduce_block(stage, name)
                self._store(stage, self.stage_names[position], scope, reduced=True)

    def _store(self, stage: Stage, name: str, scope: Scope, *, reduced: bool) -> None:
        store = stage.store
        if store is None:
            return
        if is_local(store.argument):
            self.local_values[store.argument] = self._spread(name, self._lanes_of(stage.value), Lanes(True, True))
            return
        index, lanes = self._index(store.index, store.indirect, scope)
        # One store a lane: pointers and values get the full shape of the segment they stand in.
        full = Lanes(True, self.two_spaces and not reduced and self._in_second(stage))
        mask = self._mask(full)
        pointer = f"{store.argument} + {self._spread(index, lanes, full)}"
        held = Lanes(True, False) if reduced else self._lanes_of(stage.value)
        value = self._spread(name, held, full)
        if store.scatter is ScatterMode.ADD:
            self.line(f"tl.atomic_add({pointer}, {value}, {mask or 'None'})")
        else:
            self.line(f"tl.store({pointer}, {value}{', ' + mask if mask else ''})")
        self.stored.add(store.argument)
        if store.argument in self.loaded:
            scope.forget_loads(store.argument)
        self.held.pop(store.argument, None)
        if self.config.shape is not KernelShape.LOOPED and store.scatter is None and not store.indirect:
            self.held[store.argument] = Held(store.index, value)

    def _in_second(self, stage: Stage) -> bool:
        """Whether a stage runs for every point of the second space."""
        return self.config.shape in (KernelShape.TILED, KernelShape.CONTRACTION) or any(
            isinstance(s, InnerLoop) and stage in s.stages for s in self.kernel.segments
        )

    def _shape(self, lanes: Lanes) -> str:
        if not self.two_spaces:
            return "[X_BLOCK]"
        return f"[X_BLOCK, {self.block if lanes.r else '1'}]"

    def _spread(self, text: str, held: Lanes, wanted: Lanes) -> str:
        """A block that varies over `held`, in the shape of `wanted`."""
        if held == wanted:
            return self._parenthesised(text)
        if text.lstrip("-").isdigit():
            typed = "tl.int32" if abs(int(text)) < 2**31 else "tl.int64"
            return f"tl.full({self._shape(wanted)}, {text}, {typed})"
        return f"tl.broadcast_to({text}, {self._shape(wanted)})"

    # Values

    def _lanes_of(self, root: Node) -> Lanes:
        symbols: set[Symbol] = set()
        stages: list[int] = []
        pending, seen = [root], {root}
        while pending:
            node = pending.pop()
            if isinstance(node, Load):
                if is_local(node.buffer):
                    return Lanes(True, True)
                symbols |= node.index.free_symbols
            elif isinstance(node, IndexValue):
                symbols |= node.expression.free_symbols
            elif isinstance(node, Forwarded):
                stages.append(node.stage)
            for operand in operands(node):
                if operand not in seen:
                    seen.add(operand)
                    pending.append(operand)
        x = bool(symbols & self.x.dimensions.keys())
        r = bool(symbols & self.r.dimensions.keys())
        for position in stages:
            stage = self.kernel.stages()[position]
            lanes = self._lanes_of(stage.value)
            x, r = x or lanes.x, r or (lanes.r and stage.accumulate is None)
            if stage.accumulate is not None:
                x = True
        return Lanes(x, r)

    def _mask(self, lanes: Lanes, *extra: str) -> str:
        parts = list(extra)
        if lanes.x and self.x_masked:
            parts.append("x_mask")
        if lanes.r and self.r_masked:
            parts.append(f"{self.r.name}_mask")
        return " & ".join(parts)

    def _index(
        self, expression: IntExpr, indirect: tuple[tuple[Symbol, Node], ...], scope: Scope, guard: str = ""
    ) -> tuple[str, Lanes]:
        """An index expression's text, and over which spaces it varies."""
        renames: dict[Symbol, IntExpr] = dict(self.symbols)
        bound: dict[Symbol, str] = {}
        lanes = Lanes(False, False)
        for placeholder, node in indirect:
            bound[placeholder] = self._value(node, scope, guard)
            other = self._lanes_of(node)
            lanes = Lanes(lanes.x or other.x, lanes.r or other.r)
        free = expression.free_symbols
        lanes = Lanes(
            lanes.x or bool(free & self.x.dimensions.keys()), lanes.r or bool(free & self.r.dimensions.keys())
        )
        flat = expression.substitute(renames)
        printer = TritonPrinter(lambda s: bound.get(s, s.name))
        return printer(flat), lanes

    def _value(self, root: Node, scope: Scope, guard: str = "") -> str:
        """Emit what a value needs, operands first; the name that holds it. Iterative: bodies may be deep."""
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if scope.find((node, guard)) is not None:
                continue
            if not ready and not isinstance(node, Masked):
                stack.append((node, True))
                stack.extend((o, False) for o in reversed(operands(node)))
                continue
            scope.values[node, guard] = self._emit_node(node, scope, guard)
        name = scope.find((root, guard))
        assert name is not None
        return name

    def _emit_node(self, node: Node, scope: Scope, guard: str) -> str:
        if isinstance(node, Constant):
            return literal(node.value, node.dtype)
        if isinstance(node, Forwarded):
            return self.stage_names[node.stage]
        if isinstance(node, Load):
            return self._emit_load(node, scope, guard)
        name = self.fresh()
        if isinstance(node, IndexValue):
            typed = TRITON_TYPES[node.dtype]
            if node.expression.is_constant:  # no block to convert
                self.line(f"{name} = tl.full([], {node.expression}, {typed})")
            else:
                text, _ = self._index(node.expression, (), scope)
                is_number = text.lstrip("-").isdigit()  # where a loop was written out
                self.line(f"{name} = tl.full([], {text}, {typed})" if is_number else f"{name} = ({text}).to({typed})")
        elif isinstance(node, FloatValue):
            wide = node.dtype if node.dtype == torch.float64 else torch.float32  # halves are rounded by way of float32
            text = f"tl.full([], {node.expression}, {TRITON_TYPES[wide]})"
            self.line(f"{name} = {text if node.dtype == wide else f'{text}.to({TRITON_TYPES[node.dtype]})'}")
        elif isinstance(node, Compute):
            if not is_generated(node.op):
                raise NotGenerated(f"scalar operation {node.op} has no Triton text")
            texts = [self._need(a, scope, guard) for a in node.arguments]
            operand_type, op = node.arguments[-1].dtype, node.op
            divisor = node.arguments[-1]
            if op == "truediv" and isinstance(divisor, Constant):
                factor = reciprocal(divisor.value, divisor.dtype)
                if factor is not None:
                    op, texts[-1] = "mul", literal(factor, torch.float32)
            elif node in self.rough:
                op = self.rough[node]
            self.line(f"{name} = {format_op(op, texts, operand_type, node.dtype)}")
        elif isinstance(node, Masked):
            condition = self._value(node.condition, scope, guard)
            inner_guard = f"{guard} & {condition}" if guard else condition
            value = self._value(node.value, scope, inner_guard)
            self.line(f"{name} = tl.where({condition}, {value}, {literal(node.otherwise, node.dtype)})")
        elif isinstance(node, CheckedIndex):
            self._emit_checked_index(node, name, scope, guard)
        else:
            raise NotGenerated(f"no Triton text for {type(node).__name__}")
        return name

    def _need(self, node: Node, scope: Scope, guard: str) -> str:
        name = scope.find((node, guard))
        return name if name is not None else self._value(node, scope, guard)

    def _emit_load(self, node: Load, scope: Scope, guard: str) -> str:
        if is_local(node.buffer):
            return self.local_values[node.buffer]
        held = self.held.get(node.buffer)
        if held is not None and held.index is node.index and not node.indirect:
            return held.text
        index, lanes = self._index(node.index, node.indirect, scope, guard)
        mask = self._mask(lanes, *([guard] if guard else []))
        if node.buffer in self.stored:
            self._emit_barrier_of(node)
        self.loaded.add(node.buffer)
        name = self.fresh()
        # Lanes beyond the mask hold zero: defined, and never stored.
        extra = (f", {mask}, 0" if mask else "") + self._eviction(node)
        self.line(f"{name} = tl.load({node.buffer} + {self._parenthesised(index)}{extra})")
        return name

    def _emit_barrier(self, segment: InnerLoop) -> None:
        """Before a loop, not in each round of it."""
        for node in (n for stage in segment.stages for root in stage.roots for n in walk(root)):
            if isinstance(node, Load) and node.buffer in self.stored:
                self._emit_barrier_of(node)

    def _emit_barrier_of(self, node: Load) -> None:
        """Another thread of the program may have stored what this one reads."""
        assert node.buffer in self.stored
        self.line("tl.debug_barrier()")
        self.stored.clear()

    def _eviction(self, node: Load) -> str:
        """Rows that a later loop reads again should stay in the cache until it has."""
        passes = self.passes.get(node)
        rows = not node.index.free_symbols.isdisjoint(self.x.dimensions)
        if passes is None or passes.first == passes.last or not rows:
            return ""
        return f', eviction_policy="evict_{"first" if self.segment == passes.last else "last"}"'

    @staticmethod
    def _parenthesised(text: str) -> str:
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def _emit_checked_index(self, node: CheckedIndex, name: str, scope: Scope, guard: str) -> None:
        size = self.printer(node.size)
        value = self._need(node.value, scope, guard)
        self.line(f"{name} = tl.where({value} < 0, {value} + {size}, {value})")
        lanes = self._lanes_of(node.value)
        mask = self._mask(lanes, *([guard] if guard else []))
        inside = f"(0 <= {name}) & ({name} < {size})"
        condition = f"({inside}) | (({mask}) == 0)" if mask else inside
        self.line(f'tl.device_assert({condition}, "index out of bounds for a dimension of size {size}")')

    # Reductions

    def _prepared(self, stage: Stage, name: str, *, masked: bool) -> str:
        """A stage's value in the accumulation type, with the identity in lanes that are not part of the space."""
        accumulate = stage.accumulate
        assert accumulate is not None
        dtype = carrier(accumulate.accumulate)
        text = name if stage.value.dtype == dtype else f"{name}.to({TRITON_TYPES[dtype]})"
        lanes = self._lanes_of(stage.value)
        if not (lanes.x and lanes.r):
            text = f"tl.broadcast_to({text}, [X_BLOCK, R_BLOCK])"
        if masked:
            start = literal(identity(accumulate.kind, dtype), dtype)
            text = f"tl.where(r_mask, {text}, {start})"
        if text == name:
            return name
        prepared = self.fresh("part")
        self.line(f"{prepared} = {text}")
        return prepared

    def _reduce_block(self, stage: Stage, name: str) -> str:
        accumulate = stage.accumulate
        assert accumulate is not None
        prepared = self._prepared(stage, name, masked=self.r_masked)
        positions = ""
        if accumulate.kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
            positions = self.fresh("position")
            # A lane beyond the row loses every tie.
            self.line(f"{positions} = tl.broadcast_to(r.to(tl.int64), [X_BLOCK, R_BLOCK])")
        result = self.fresh("sum" if accumulate.kind is ReductionKind.SUM else "reduced")
        text = block_reduction(accumulate.kind, prepared, positions)
        self.line(f"{result} = {converted(text, accumulate)}")
        return result

    def _accumulators(self, segment: InnerLoop, first: int) -> dict[int, Accumulator]:
        """By position; the second stage of a pair has none of its own."""
        of_pair = {pair.first: pair for pair in self.pairs}
        result: dict[int, Accumulator] = {}
        for position, stage in enumerate(segment.stages, first):
            if stage.accumulate is None or position in self.left_out:
                continue
            if position in of_pair:
                result[position] = self._accumulator_of(of_pair[position], stage)
            elif stage.accumulate.kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
                result[position] = Positioned(position, stage.accumulate, self.fresh("acc"), self.fresh("where"))
            else:
                result[position] = Single(position, stage.accumulate, self.fresh("acc"))
        return result

    def _accumulator_of(self, pair: Pair, stage: Stage) -> Accumulator:
        assert stage.accumulate is not None
        if pair.kind is PairKind.POWERS:
            return Powers(pair.first, pair.second, stage.accumulate, self.fresh("largest"), self.fresh("powers"))
        names = self.fresh("total"), self.fresh("squares"), self.fresh("blocks")
        return Moments(pair.first, pair.second, int(self.r.size), self.r_masked, *names)

    def _finish_accumulator(self, accumulator: Accumulator) -> None:
        self.lines.extend("    " * self.indent + text for text in accumulator.finish())
        for result in accumulator.results():
            accumulate = self.kernel.stages()[result.stage].accumulate
            assert accumulate is not None
            name = self.fresh("sum" if accumulate.kind is ReductionKind.SUM else "reduced")
            self.line(f"{name} = {result.text}")
            self.stage_names[result.stage] = name

    # Scans

    def _emit_carries(self, segment: InnerLoop, first: int) -> dict[int, str]:
        result: dict[int, str] = {}
        for position, stage in enumerate(segment.stages, first):
            if stage.scan is not None:
                start = identity(SCAN_AS_REDUCTION[stage.scan.kind], stage.scan.accumulate)
                result[position] = self.fresh("carry")
                text = literal(start, stage.scan.accumulate)
                self.line(f"{result[position]} = tl.broadcast_to({text}, [X_BLOCK, 1])")
        return result

    def _scan(self, position: int, stage: Stage, name: str, carry: str | None) -> str:
        scan = stage.scan
        assert scan is not None
        combine = SCAN_COMBINE[scan.kind]
        kind = SCAN_AS_REDUCTION[scan.kind]
        value = self.fresh("part")
        text = f"tl.broadcast_to({name}.to({TRITON_TYPES[scan.accumulate]}), [X_BLOCK, R_BLOCK])"
        if self.r_masked:
            text = f"tl.where(r_mask, {text}, {literal(identity(kind, scan.accumulate), scan.accumulate)})"
        self.line(f"{value} = {text}")
        running = self.fresh("running")
        scanned = f"tl.associative_scan({value}, 1, {combine})"
        self.line(f"{running} = {scanned if carry is None else f'{combine}({carry}, {scanned})'}")
        if carry is not None:
            self.line(f"{carry} = {combine}({carry}, {block_reduction(kind, value, '')})")
        if scan.result == scan.accumulate:
            return running
        result = self.fresh()
        self.line(f"{result} = {running}.to({TRITON_TYPES[scan.result]})")
        return result


def write_kernel(kernel: ScheduledKernel, config: LaunchConfig) -> KernelSource:
    """The Triton source of one kernel. Raises NotGenerated for what has no Triton text."""
    return finish_kernel(TritonKernelWriter(kernel, config))


def finish_kernel(writer: TritonKernelWriter) -> KernelSource:
    """The source that a writer makes. Raises NotGenerated."""
    kernel, config = writer.kernel, writer.config
    body = writer.write()
    parameters = [a.symbol.name if isinstance(a, SizeArgument) else a.name for a in kernel.arguments]
    parameters.extend(f"{name}: tl.constexpr" for name in writer.constants())
    if writer.reach.width is IndexWidth.BY_SIZES:
        parameters.append("INDEX: tl.constexpr")
    lines = body.splitlines()
    used = [f for f in _DEVICE_FUNCTIONS if _mentions(lines, f)]
    template = _HEADER if used else _HEADER_PLAIN
    digest = hashlib.sha256(repr((template, body, parameters, config)).encode()).hexdigest()[:12]
    name = f"{kernel.name}_{digest}"
    header = template.format(functions=", ".join(used), name=name, parameters=", ".join(parameters))
    launch: dict[str, object] = {
        "config": config,
        "constants": writer.constants(),
        "block_reads": writer.block_reads(),
        "programs": writer.spaces.programs,
        "checked": "device_assert" in body,
        "reach": writer.reach,
        "dividing": dividing_sizes(kernel, config),
    }
    return KernelSource(name, header + body, kernel.arguments, launch)


def _without_unused(lines: list[str], name: str) -> list[str]:
    """The lines without the assignment of a name that no other line reads."""
    read = re.compile(rf"\b{name}\b")
    uses = [n for n, line in enumerate(lines) if read.search(line) and not line.lstrip().startswith("#")]
    return [line for n, line in enumerate(lines) if uses != [n]] if len(uses) == 1 else lines


def _mentions(lines: list[str], function: str) -> bool:
    """Whether code, not a comment, names a device function: calls it, or hands it over."""
    named = re.compile(rf"(?<![\w.]){function}[(,)]")
    return any(named.search(line) for line in lines if not line.lstrip().startswith("#"))


__all__ = ["NotGenerated", "TritonKernelWriter", "finish_kernel", "write_kernel"]
