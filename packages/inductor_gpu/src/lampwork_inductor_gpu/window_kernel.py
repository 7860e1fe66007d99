"""A reduction over a window as Triton source text: strips of results, with what follows them in the same kernel.

From `ScheduledKernel` to `KernelSource`, beside the kernel writer, whose text for values it uses. A program has one row
of the image, whose number bounds the loop down the window; each of its lanes computes a strip of results in registers
of their own. Invariant: what several results of a strip need is read and widened once; masks stand at edges only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import ArgumentRole, BufferArgument, KernelSource, ScheduledKernel
from lampwork_inductor_core.ir.loop_body import Compute, Load, Masked, Node, operands
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_symshape import IntExpr, Symbol, integer, symbol

from .heuristics import WindowConfig
from .indexing import FlatSpace, flatten
from .kernel import TritonKernelWriter, finish_kernel
from .ops import TRITON_TYPES
from .reduction import COMBINE, identity
from .scope import Lanes, Scope
from .window import Comparison, Window, conditions


def write_window(kernel: ScheduledKernel, window: Window, config: WindowConfig) -> KernelSource:
    """The Triton source of a reduction over a window."""
    return finish_kernel(WindowWriter(kernel, window, config))


class WindowWriter(TritonKernelWriter):
    """Writes one reduction over a window. Use `write_window`."""

    def __init__(self, kernel: ScheduledKernel, window: Window, config: WindowConfig) -> None:
        super().__init__(kernel, config)
        assert self.spaces.inner is not None
        self.window = window
        self.row_space: FlatSpace = self.spaces.inner
        self.r = flatten("r", ())  # nothing varies over a second space
        self.strip_length = config.strip
        self.strips = window.strips(config.strip)
        lane = symbol("lane", 0, max(int(window.lanes.size) - 1, 0))
        self.rolled = symbol("down", 0, max(int(window.rolled.size) - 1, 0))
        self.rows = {s: self._row_name(k) for k, s in enumerate(self.row_space.loops)}
        is_one_strip = int(self.strips.size) == 1
        self.first_place: IntExpr = integer(0) if is_one_strip else self.strips.symbol * self.strip_length
        self.symbols = {**self.rows, window.lanes.symbol: lane, window.rolled.symbol: self.rolled}
        self.edge = ""  # the mask of the result at hand, in a strip that reaches beyond the end
        self.inside_window = False

    @property
    def two_spaces(self) -> bool:
        return False

    def _row_name(self, position: int) -> Symbol:
        name = "row" if len(self.row_space.loops) == 1 else f"row{position}"
        upper = self.row_space.sizes[self.row_space.loops[position]].value_range.upper
        return symbol(name, 0, None if upper is None else max(upper - 1, 0))

    def write(self) -> str:
        """The body's text, without the header."""
        self._emit_place()
        outer = Scope()
        if self.window.stage.comment:
            self.comments.add(self.window.stage.comment)
            self.line(f"# {self.window.stage.comment}")
        totals = self._emit_window(outer)
        scopes = [Scope(parent=outer) for _ in totals]
        edges = [self._emit_edge(place) for place in range(len(totals))]
        self._emit_shared(outer)
        for place in range(len(totals)):
            self._move_to(place, edges)
            for load in self._loads(written=ArgumentRole.READ_WRITE):
                self._value(load, scopes[place])
        for place, total in enumerate(totals):
            self._move_to(place, edges)
            self._emit_result(total, scopes[place])
        return "\n".join(self.lines) + "\n"

    def _emit_place(self) -> None:
        """Which row, and which strips of it."""
        blocks = self._factor(-(-int(self.x.size) // self.config.x_block))
        program = "program" if blocks != "1" else "row"
        self.line(f"{program} = tl.program_id(0){self.cast}")
        if blocks == "1":
            self.line("x = tl.arange(0, X_BLOCK)")
        else:
            self.line(f"row = program // {blocks}")
            self.line(f"x = program % {blocks} * X_BLOCK + tl.arange(0, X_BLOCK)")
        if self.x_masked:
            self.line(f"x_mask = x < {self.printer(self.x.size)}")
        if len(self.rows) > 1:
            for loop, name in self.rows.items():
                self.line(f"{name.name} = {self.printer(self.row_space.dimensions[loop])}")
        lanes = self.printer(self.window.lanes.size)
        if int(self.strips.size) == 1:
            self.line("lane = x")
        else:
            self.line(f"strip = x // {lanes}")
            self.line(f"lane = x % {lanes}")

    def _factor(self, expression: IntExpr | int) -> str:
        return str(expression) if isinstance(expression, int) else super()._factor(expression)

    # The window

    def _emit_window(self, outer: Scope) -> list[str]:
        """The loop down the window; the names of the totals of a strip."""
        window, accumulate = self.window, self.window.stage.accumulate
        assert accumulate is not None
        typed = TRITON_TYPES[accumulate.accumulate]
        start = identity(accumulate.kind, accumulate.accumulate)
        text = repr(float(start)) if abs(start) != float("inf") else f'float("{start}")'
        totals = [f"total{place}" for place in range(min(self.strip_length, int(window.strip.size)))]
        for total in totals:
            self.line(f"{total} = tl.full([X_BLOCK], {text}, {typed})")
        first, end = (self.printer(e.substitute(self.rows)) for e in (window.first, window.end))
        self.line(f"for down in range({first}, {end}):")
        self.indent += 1
        self.inside_window = True
        scope = Scope(parent=outer)
        before = len(self.lines)
        for step in range(int(window.unrolled.size)):
            for place, total in enumerate(totals):
                value = window.at(self.first_place + place, step)
                if value is not None:
                    self._combine(accumulate.kind, total, value, scope)
        if len(self.lines) == before:
            self.line("pass")
        self.inside_window = False
        self.indent -= 1
        if accumulate.result != accumulate.accumulate:
            for total in totals:
                self.line(f"{total} = {total}.to({TRITON_TYPES[accumulate.result]})")
        return totals

    def _combine(self, kind: ReductionKind, total: str, value: Node, scope: Scope) -> None:
        if kind is not ReductionKind.SUM:
            self.line(f"{total} = {COMBINE[kind]}({total}, {self._value(value, scope)})")
        elif isinstance(value, Compute) and value.op == "mul":
            left, right = (self._value(v, scope) for v in value.arguments)
            self.line(f"{total} += {left} * {right}")
        else:
            self.line(f"{total} += {self._value(value, scope)}")

    def _emit_node(self, node: Node, scope: Scope, guard: str) -> str:
        if self.inside_window and not guard:
            if isinstance(node, Masked) and isinstance(node.value, Load):
                return self._emit_read(node.value, scope, self._condition(node.condition, scope), node.otherwise)
            if isinstance(node, Load):
                return self._emit_read(node, scope, "", 0)
            if isinstance(node, Compute) and self._is_widening(node):
                name = self.fresh()
                self.line(f"{name} = widened({self._need(node.arguments[0], scope, guard)})")
                return name
        return super()._emit_node(node, scope, guard)

    def _is_widening(self, node: Compute) -> bool:
        """Whether a block of bfloat16 becomes float32, which is most of the work beside the sum."""
        to_wide = node.op == "to_dtype" and node.dtype == torch.float32
        return to_wide and node.arguments[0].dtype == torch.bfloat16 and self._lanes_of(node).x

    def _condition(self, root: Node, scope: Scope) -> str:
        """A mask's text, each comparison of places by a name that others share."""
        names: list[str] = []
        for condition in conditions(root):
            comparison = Comparison.of(condition)
            name = scope.find((condition, ""))
            if name is None and comparison is not None:
                name = self.fresh("inside")
                index, limit = (self.printer(e.substitute(self.symbols)) for e in (comparison.index, comparison.limit))
                self.line(f"{name} = {index} {'>=' if comparison.is_least else '<'} {limit}")
                scope.values[condition, ""] = name
            names.append(name or self._value(condition, scope))
        return " & ".join(names)

    def _emit_read(self, node: Load, scope: Scope, guard: str, otherwise: float) -> str:
        """A load at a fixed distance from a pointer that others share: the distance is part of the instruction."""
        index = node.index.substitute(self.symbols)
        distance = index.substitute(dict.fromkeys(index.free_symbols, integer(0)))
        start = index - distance
        pointer = scope.find((node.buffer, start))
        if pointer is None:
            pointer = self.fresh(f"{node.buffer}_at")
            self.line(f"{pointer} = {node.buffer} + ({self.printer(start)})")
            scope.values[node.buffer, start] = pointer
        steps = int(distance)
        text = pointer if steps == 0 else f"{pointer} {'-' if steps < 0 else '+'} {abs(steps)}"
        mask = self._mask(Lanes(True, False), *([guard] if guard else []))
        other = str(otherwise) if abs(otherwise) != float("inf") else f'float("{otherwise}")'
        name = self.fresh()
        self.line(f"{name} = tl.load({text}{f', {mask}, {other}' if mask else ''})")
        self.loaded.add(node.buffer)
        return name

    # What follows

    def _emit_edge(self, place: int) -> str:
        """The mask of one result of each strip; none where all of them are there."""
        size = int(self.window.strip.size)
        length, strips = self.strip_length, int(self.strips.size)
        if (strips - 1) * length + place < size:
            return ""
        name = f"there{place}"
        self.line(f"{name} = {self.printer(self.first_place + place)} < {size}")
        return name

    def _move_to(self, place: int, edges: list[str]) -> None:
        """What is written from here on is of one result of each strip."""
        self.symbols[self.window.strip.symbol] = self.first_place + place
        self.edge = edges[place]
        self.stored.clear()
        self.held.clear()

    def _mask(self, lanes: Lanes, *extra: str) -> str:
        return super()._mask(lanes, *extra, *([self.edge] if self.edge else []))

    def _emit_shared(self, outer: Scope) -> None:
        """What all results of a strip read."""
        for load in self._loads(written=ArgumentRole.READ):
            if self.window.strip.symbol not in load.index.free_symbols:
                self._value(load, outer)

    def _loads(self, *, written: ArgumentRole) -> Iterator[Load]:
        """What the stages behind the window read in any case, of arguments that are not written, or also of those that
        are updated in place: read ahead of all stores, the reads wait together."""
        roles = {ArgumentRole.READ, written}
        names = {a.name for a in self.kernel.arguments if isinstance(a, BufferArgument) and a.role in roles}
        pending = [root for stage in self.kernel.stages()[1:] for root in stage.roots]
        seen = set[Node]()
        while pending:
            node = pending.pop(0)
            if node in seen:
                continue
            seen.add(node)
            if isinstance(node, Load):
                if node.buffer in names and not node.indirect:
                    yield node
            elif isinstance(node, Masked):
                pending.append(node.condition)
            else:
                pending.extend(operands(node))

    def _emit_result(self, total: str, scope: Scope) -> None:
        self.stage_names = {0: total}
        self._store(self.window.stage, total, scope, reduced=False)
        for segment, first in self._numbered():
            if first:
                self._emit_stages(segment, first, scope)
