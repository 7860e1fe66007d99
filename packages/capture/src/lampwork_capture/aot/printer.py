"""A functional graph as text for people: one operator a line, with its shape, its type and the user's line.

Part of `explain`. Invariant: the text depends on the graph alone, so it can be kept as golden text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import SymInt, Tensor, fx
from torch._ops import OpOverload

from .metadata import FunctionalGraph, OutputKind, OutputSpec

_SHORT = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "b1",
    torch.complex64: "c64",
    torch.complex128: "c128",
}


def print_functional(graph: FunctionalGraph | fx.GraphModule) -> str:
    """The graph, and with a FunctionalGraph what its inputs and outputs mean, as text."""
    module = graph.graph if isinstance(graph, FunctionalGraph) else graph
    lines: list[str] = []
    last_line: object = None
    for node in module.graph.nodes:
        line = node.meta.get("user_line")
        if line is not None and line != last_line and node.op == "call_function":
            lines.append(f"  # {line}")
            last_line = line
        lines.append("  " + _node_text(node))
    if isinstance(graph, FunctionalGraph):
        lines.extend(_signature_lines(graph))
    return "\n".join(lines) + "\n"


def _node_text(node: fx.Node) -> str:
    value = describe_value(node.meta.get("val"))
    if node.op == "placeholder":
        static = " static" if node.meta.get("static_input") else ""
        source = node.meta.get("source")
        return f"input {node.name}: {value}{static}" + (f" = {source}" if source is not None else "")
    if node.op == "get_attr":
        return f"{node.name}: {value} = constant {node.target}"
    if node.op == "output":
        return f"return {_argument(node.args[0])}"
    arguments = [_argument(a) for a in node.args] + [f"{k}={_argument(v)}" for k, v in node.kwargs.items()]
    return f"{node.name}: {value} = {_target(node.target)}({', '.join(arguments)})"


def _target(target: Any) -> str:
    if isinstance(target, OpOverload):
        return str(target).removesuffix(".default")
    return str(getattr(target, "__name__", target))


def _argument(value: Any) -> str:
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_argument, value)) + "]"
    return repr(value)


def describe_value(value: Any) -> str:
    """A tensor as type, sizes and (unless contiguous) strides; other values by their type."""
    if isinstance(value, Tensor):
        text = f"{_SHORT.get(value.dtype, str(value.dtype))}[{', '.join(map(str, value.shape))}]"
        return text if value.is_contiguous() else f"{text} strides {tuple(value.stride())}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(describe_value, value)) + ")"
    return f"int {value}" if isinstance(value, SymInt) else type(value).__name__


def _signature_lines(graph: FunctionalGraph) -> list[str]:
    signature = graph.signature
    names = [spec.name for spec in signature.inputs]
    lines: list[str] = []
    for mutation in signature.mutations:
        if mutation.result is not None:
            lines.append(f"  writes result {mutation.result} to {names[mutation.index]}")
        if mutation.metadata is not None:
            lines.append(f"  reshapes {names[mutation.index]} to {list(mutation.metadata.size)}")
    lines.extend(f"  output {i}: {_output_text(spec, names)}" for i, spec in enumerate(signature.outputs))
    return lines


def _output_text(spec: OutputSpec, names: list[str]) -> str:
    if spec.kind is OutputKind.CONSTANT:
        return f"constant {spec.constant!r}"
    if spec.kind in (OutputKind.IS_INPUT, OutputKind.ALIAS_OF_INPUT):
        whose = names[spec.index]
    else:
        whose = str(spec.index)
    view = "" if spec.view is None else f", sizes {list(spec.view.size)} strides {list(spec.view.stride)}"
    return f"{spec.kind.value} {whose}{view}" if spec.kind is not OutputKind.COMPUTED else f"result {whose}"
