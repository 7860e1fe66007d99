"""The text of a lowered graph, for people: one block a buffer.

Used by `explain` and by golden tests. Invariant: deterministic, and every node of a body that is used twice is printed
once and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .buffer import BufferView, ComputedBuffer, ConstantBuffer, ExternBuffer, InputBuffer, LoweredGraph
from .layout import Layout, OpaqueLayout
from .loop_body import (
    CheckedIndex,
    Compute,
    Constant,
    FloatValue,
    IndexValue,
    Load,
    LoopBody,
    Masked,
    Node,
    operands,
    walk,
)
from .loops import Loops, Reduction, Scan, Scatter


def print_graph(graph: LoweredGraph) -> str:
    """The whole graph."""
    lines: list[str] = []
    for buffer in graph.buffers:
        if isinstance(buffer, InputBuffer):
            kind = "static input" if buffer.static else "input"
            lines.append(f"{buffer.name} = {kind} {buffer.position}: {print_layout(buffer.layout)}")
        elif isinstance(buffer, ConstantBuffer):
            lines.append(f"{buffer.name} = constant: {print_layout(buffer.layout)}")
        elif isinstance(buffer, ComputedBuffer):
            lines.extend(_print_computed(buffer))
        else:
            lines.append(_print_extern(buffer))
    outputs = [str(o.literal) if o.buffer is None else f"{o.buffer}: {print_layout(o.layout)}" for o in graph.outputs]
    lines.append("return " + ", ".join(outputs))
    lines.extend(f"# {note}" for note in graph.notes)
    return "\n".join(lines) + "\n"


def print_layout(layout: Layout | OpaqueLayout | None) -> str:
    """A layout: dtype, sizes, strides and offset."""
    if layout is None:
        return "?"
    dtype = str(layout.dtype).removeprefix("torch.")
    if isinstance(layout, OpaqueLayout):
        return f"opaque {dtype} on {layout.device}"
    offset = "" if layout.offset == 0 else f" offset {layout.offset}"
    return f"{dtype}{_list(layout.sizes)} strides {_list(layout.strides)}{offset} on {layout.device}"


def print_loops(loops: Loops) -> str:
    """The head of a loop nest."""
    if isinstance(loops, Reduction):
        accumulate = str(loops.accumulate).removeprefix("torch.")
        return f"reduce {loops.kind.value} over {_list(loops.sizes)} x {_list(loops.reduction_sizes)} in {accumulate}"
    if isinstance(loops, Scan):
        return f"scan {loops.kind.value} over {_list(loops.sizes)}"
    if isinstance(loops, Scatter):
        return f"scatter {loops.mode.value} over {_list(loops.sizes)} into a copy of {loops.initial} at {loops.target}"
    return f"pointwise over {_list(loops.sizes)}"


def print_body(body: LoopBody) -> list[str]:
    """A body as assignments, operands first."""
    uses: dict[Node, int] = {}
    for node in walk(body.value):
        for operand in operands(node):
            uses[operand] = uses.get(operand, 0) + 1
    text: dict[Node, str] = {}
    lines: list[str] = []
    for node in walk(body.value):
        line = _node_text(node, text)
        named = node is not body.value and (isinstance(node, Load) or uses.get(node, 0) > 1 or len(line) > 60)
        if named and not isinstance(node, (Constant, IndexValue, FloatValue)):
            name = f"v{len(lines)}"
            lines.append(f"{name} = {line}")
            text[node] = name
        else:
            text[node] = line
    lines.append(f"-> {text[body.value]}")
    return lines


def _node_text(node: Node, text: dict[Node, str]) -> str:
    if isinstance(node, Constant):
        return f"{node.value!r}"
    if isinstance(node, IndexValue):
        return f"index({node.expression})"
    if isinstance(node, FloatValue):
        return f"float({node.expression})"
    if isinstance(node, Load):
        bound = "".join(f", {s.name} = {text[n]}" for s, n in node.indirect)
        return f"{node.buffer}[{node.index}{bound}]"
    if isinstance(node, Masked):
        return f"masked({text[node.condition]}, {text[node.value]}, {node.otherwise!r})"
    if isinstance(node, CheckedIndex):
        return f"checked({text[node.value]}, {node.size})"
    if isinstance(node, Compute):
        inside = ", ".join(text[a] for a in node.arguments)
        if node.op in ("to_dtype", "bitcast"):
            inside += f", {str(node.dtype).removeprefix('torch.')}"
        return f"{node.op}({inside})"
    return type(node).__name__


def _print_computed(buffer: ComputedBuffer) -> list[str]:
    where = f"  # {', '.join(buffer.origin.nodes)}"
    if buffer.origin.user_line:
        where += f" | {buffer.origin.user_line}"
    head = f"{buffer.name} = {print_loops(buffer.loops)}: {print_layout(buffer.layout)}{where}"
    return [head, *(f"    {line}" for line in print_body(buffer.loops.body))]


def _print_extern(buffer: ExternBuffer) -> str:
    arguments = [_argument(a) for a in buffer.arguments]
    arguments += [f"{k}={_argument(v)}" for k, v in buffer.keywords.items()]
    index = "" if buffer.result_index is None else f"[{buffer.result_index}] of {buffer.call}"
    alias = "" if buffer.aliases is None else f" aliasing {buffer.aliases}"
    name = (
        str(buffer.target)
        if isinstance(buffer.target, torch._ops.OpOverload)
        else getattr(buffer.target, "__name__", "?")
    )
    where = f"  # {buffer.origin.user_line}" if buffer.origin.user_line else ""
    known = ", ".join(f"{n} = {'it' if dim is None else f'size {dim}'}" for n, dim in buffer.defines)
    alias += f" telling {known}" if known else ""
    return f"{buffer.name} = {name}({', '.join(arguments)}){index}{alias}: {print_layout(buffer.layout)}{where}"


def _argument(argument: Any) -> str:
    if isinstance(argument, BufferView):
        layout = argument.layout
        if isinstance(layout, OpaqueLayout):
            return argument.buffer
        offset = "" if layout.offset == 0 else f"+{layout.offset}"
        return f"{argument.buffer}{offset}{_list(layout.sizes)}"
    if isinstance(argument, (list, tuple)):
        return "[" + ", ".join(_argument(a) for a in argument) + "]"
    return str(argument)


def _list(values: Sequence[Any]) -> str:
    return "[" + ", ".join(str(v) for v in values) + "]"
