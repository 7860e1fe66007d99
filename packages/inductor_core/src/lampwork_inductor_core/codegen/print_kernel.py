"""The text of a scheduled kernel, for people: the loops, and the stages in them.

What `explain` shows between the schedule and a device's own text, and what golden tests keep. Invariant: deterministic;
equal kernels print alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from lampwork_symshape import IntExpr, Symbol

from ..ir.loop_body import CheckedIndex, Compute, Constant, FloatValue, IndexValue, Load, Masked, Node, operands, walk
from .scheduled_kernel import BufferArgument, Dimension, FloatArgument, Forwarded, InnerLoop, ScheduledKernel, Stage

_LINE = 72  # a longer operand gets a name of its own


def print_kernel(kernel: ScheduledKernel) -> str:
    """The whole kernel."""
    lines = [f"kernel {kernel.name}("]
    for argument in kernel.arguments:
        if isinstance(argument, BufferArgument):
            dtype = _short(argument.dtype)
            lines.append(f"    {argument.name}: {argument.role.value} {dtype} x {argument.element_count},")
        else:
            lines.append(f"    {argument.name}: {'float' if isinstance(argument, FloatArgument) else 'size'},")
    lines.append("):")
    indent = "    "
    if kernel.outer:
        lines.append(f"{indent}for {_loops(kernel.outer)}:  # parallel")
        indent += "    "
    for row in kernel.locals:
        lines.append(f"{indent}{row.name}: row of {_short(row.dtype)} x {row.element_count}")
    number = 0
    for segment in kernel.segments:
        deeper = indent
        if isinstance(segment, InnerLoop):
            lines.append(f"{indent}for {_loops(kernel.inner)}:" if kernel.inner else f"{indent}once:")
            deeper += "    "
        named: dict[Node, str] = {}
        for stage in segment.stages:
            lines.extend(f"{deeper}{line}" for line in _stage(stage, number, named))
            number += 1
    return "\n".join(lines) + "\n"


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _loops(dimensions: tuple[Dimension, ...]) -> str:
    return ", ".join(f"{d.symbol.name} < {d.size}" for d in dimensions)


def _stage(stage: Stage, number: int, named: dict[Node, str]) -> list[str]:
    uses: dict[Node, int] = {}
    for root in stage.roots:
        for node in walk(root):
            for operand in operands(node):
                uses[operand] = uses.get(operand, 0) + 1
    lines: list[str] = []
    text: dict[Node, str] = dict(named)
    for root in stage.roots:
        for node in walk(root):
            if node in text:
                continue
            line = _node(node, text)
            simple = isinstance(node, Constant | IndexValue | FloatValue | Forwarded)
            if node is not root and not simple and (uses.get(node, 0) > 1 or len(line) > _LINE):
                name = f"v{number}_{len(lines)}"
                lines.append(f"{name} = {line}")
                text[node] = name
            else:
                text[node] = line
    how = ""
    if stage.accumulate is not None:
        how = f"{stage.accumulate.kind.value} in {_short(stage.accumulate.accumulate)} of "
    elif stage.scan is not None:
        how = f"running {stage.scan.kind.value} in {_short(stage.scan.accumulate)} of "
    lines.append(f"s{number}: {_short(stage.value.dtype)} = {how}{text[stage.value]}")
    if stage.store is not None:
        names = {s: text[n] for s, n in stage.store.indirect}
        where = _index(stage.store.index, names)
        verb = f" {stage.store.scatter.value}" if stage.store.scatter is not None else ""
        lines.append(f"{stage.store.argument}[{where}] ={verb} s{number}")
    return [f"# {stage.comment}", *lines] if stage.comment else lines


def _index(index: IntExpr, names: Mapping[Symbol, str]) -> str:
    if not names:
        return str(index)
    return f"{index}; {', '.join(f'{s} = {t}' for s, t in names.items())}"


def _node(node: Node, text: dict[Node, str]) -> str:
    if isinstance(node, Constant):
        return f"{node.value!r}"
    if isinstance(node, IndexValue):
        return f"index({node.expression})"
    if isinstance(node, FloatValue):
        return f"{node.expression}"
    if isinstance(node, Load):
        return f"{node.buffer}[{_index(node.index, {s: text[n] for s, n in node.indirect})}]"
    if isinstance(node, Forwarded):
        return f"s{node.stage}"
    if isinstance(node, Masked):
        return f"({text[node.value]} if {text[node.condition]} else {node.otherwise!r})"
    if isinstance(node, CheckedIndex):
        return f"checked({text[node.value]}, {node.size})"
    assert isinstance(node, Compute), node
    arguments = ", ".join(text[a] for a in node.arguments)
    if node.op in ("to_dtype", "bitcast"):
        return f"{node.op}({arguments}, {_short(node.dtype)})"
    return f"{node.op}({arguments})"
