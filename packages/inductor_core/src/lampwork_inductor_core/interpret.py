"""The reference interpreter: a LoweredGraph run on torch tensors, slowly and plainly.

The oracle for every code generator: each scalar operation is its `ScalarOp.reference`, each load a gather by flat
offset. Invariant: an index out of bounds raises here even where generated code would read past a buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape import BoolExpr, IntExpr, Kind, Symbol
from lampwork_symshape.node import postorder

from .ir.buffer import BufferView, ComputedBuffer, ConstantBuffer, ExternBuffer, InputBuffer, LoweredGraph
from .ir.float_expr import FloatExpr
from .ir.layout import Layout, OpaqueLayout
from .ir.loop_body import (
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
)
from .ir.loops import Pointwise, Reduction, ReductionKind, Scan, ScanKind, Scatter, ScatterMode
from .ir.scalar_ops import SCALAR_OPS, DtypeRule

Bindings = Mapping[Symbol, Any]


class InterpreterError(RuntimeError):
    """The graph reads outside a buffer, or is otherwise wrong."""


def interpret(graph: LoweredGraph, inputs: Sequence[Any], symbols: Bindings | None = None) -> list[Any]:
    """Run the graph. `inputs` by position; `symbols`: the values of size symbols. Returns the outputs in order."""
    sizes: dict[Symbol, Any] = dict(symbols or {})
    values: dict[str, Any] = {}
    calls: dict[str, Any] = {}
    for buffer in graph.buffers:
        if isinstance(buffer, InputBuffer):
            values[buffer.name] = inputs[buffer.position]
        elif isinstance(buffer, ConstantBuffer):
            values[buffer.name] = buffer.value
        elif isinstance(buffer, ComputedBuffer):
            values[buffer.name] = run_loops(buffer, values, sizes)
        else:
            values[buffer.name] = _call(buffer, values, calls, sizes)
    outputs: list[Any] = []
    for output in graph.outputs:
        if output.buffer is None:
            outputs.append(output.literal)
        elif isinstance(output.layout, Layout):
            outputs.append(view_through(values[output.buffer], output.layout, sizes))
        else:
            outputs.append(values[output.buffer])
    return outputs


def view_through(tensor: torch.Tensor, layout: Layout, sizes: Bindings) -> torch.Tensor:
    """A tensor's memory through a layout (offsets count from its data pointer)."""
    return torch.as_strided(
        tensor,
        [evaluate(s, sizes) for s in layout.sizes],
        [evaluate(s, sizes) for s in layout.strides],
        tensor.storage_offset() + evaluate(layout.offset, sizes),
    )


def evaluate(expression: IntExpr, bindings: Bindings) -> Any:
    """The value of an index expression where symbols stand for ints or int64 tensors."""
    if expression.is_constant:
        return int(expression)
    results: dict[Any, Any] = {}
    for node in postorder(expression):
        children = [results[c] for c in node.children]
        if isinstance(node, Symbol):
            results[node] = bindings[node]
        elif node.kind in (Kind.MIN, Kind.MAX):
            combine = torch.minimum if node.kind is Kind.MIN else torch.maximum
            tensors = torch.broadcast_tensors(*(torch.as_tensor(c) for c in children))
            result = tensors[0]
            for other in tensors[1:]:
                result = combine(result, other)
            results[node] = result
        elif node.kind is Kind.WHERE:
            results[node] = torch.where(*(torch.as_tensor(c) for c in children))
        else:
            results[node] = node._value(children, {})
    return results[expression]


# ---------------------------------------------------------------------------------------------------------------- loops


def run_loops(buffer: ComputedBuffer, values: Mapping[str, Any], sizes: Bindings) -> torch.Tensor:
    """Compute one buffer."""
    loops, layout = buffer.loops, buffer.layout
    shape = [evaluate(s, sizes) for s in layout.sizes]
    strides = [evaluate(s, sizes) for s in layout.strides]
    result = torch.empty_strided(shape, strides, dtype=layout.dtype, device=layout.device)
    space = [evaluate(s, sizes) for s in loops.sizes]
    if isinstance(loops, Reduction):
        reduced = [evaluate(s, sizes) for s in loops.reduction_sizes]
        element = run_body(loops.body, space, reduced, values, sizes, layout.device)
        return result.copy_(_reduce(loops, element, space))
    element = run_body(loops.body, space, [], values, sizes, layout.device)
    if isinstance(loops, Pointwise):
        return result.copy_(element)
    if isinstance(loops, Scan):
        return result.copy_(_scan(loops, element))
    return _scatter(loops, element, result, space, values, sizes)


def run_body(
    body: LoopBody,
    sizes: Sequence[int],
    reduction_sizes: Sequence[int],
    values: Mapping[str, Any],
    symbols: Bindings,
    device: torch.device,
) -> torch.Tensor:
    """The body's value at every point: a tensor of `sizes + reduction_sizes`."""
    shape = [*sizes, *reduction_sizes]
    bindings = _grid((*body.variables, *body.reduction_variables), shape, symbols, device)
    if 0 in shape:
        return torch.empty(shape, dtype=body.value.dtype, device=device)
    result = _Evaluator(bindings, values, device).run(body.value)
    assert result.dtype == body.value.dtype, f"a node of {body.value.dtype} gave {result.dtype}"
    return result.expand(shape)


def _grid(variables: Sequence[Symbol], shape: Sequence[int], symbols: Bindings, device: torch.device) -> Bindings:
    bindings = dict(symbols)
    for position, (variable, size) in enumerate(zip(variables, shape)):
        view = [1] * len(shape)
        view[position] = size
        bindings[variable] = torch.arange(size, device=device).view(view)
    return bindings


class _Evaluator:
    """Evaluates nodes bottom-up. A node under a mask is evaluated apart: its loads may be out of bounds."""

    def __init__(self, bindings: Bindings, values: Mapping[str, Any], device: torch.device) -> None:
        self.bindings = bindings
        self.values = values
        self.device = device
        self.done: dict[tuple[Node, bool], torch.Tensor] = {}

    def run(self, root: Node, masked: bool = False) -> torch.Tensor:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if (node, masked) in self.done:
                continue
            if ready:
                self.done[node, masked] = self._evaluate(node, masked)
                continue
            stack.append((node, True))
            children = (node.condition,) if isinstance(node, Masked) else operands(node)
            stack.extend((n, False) for n in children)
        return self.done[root, masked]

    def _evaluate(self, node: Node, masked: bool) -> torch.Tensor:
        if isinstance(node, Constant):
            return torch.tensor(node.value, dtype=node.dtype, device=self.device)
        if isinstance(node, IndexValue):
            value = evaluate(node.expression, self.bindings)
            return torch.as_tensor(value, dtype=node.dtype, device=self.device)
        if isinstance(node, FloatValue):
            value = node.expression.evaluate(lambda number: int(evaluate(number, self.bindings)), self.values)
            return torch.tensor(value, dtype=node.dtype, device=self.device)
        if isinstance(node, Load):
            return self._load(node, masked)
        if isinstance(node, CheckedIndex):
            return self._checked(node, masked)
        if isinstance(node, Masked):
            condition = self.done[node.condition, masked]
            value = self.run(node.value, True)
            return torch.where(condition, value, torch.tensor(node.otherwise, dtype=node.dtype, device=self.device))
        assert isinstance(node, Compute), node
        arguments = [self.done[a, masked] for a in node.arguments]
        row = SCALAR_OPS[node.op]
        if row.rule is DtypeRule.EXPLICIT:
            return row.reference(*arguments, node.dtype)
        return row.reference(*arguments)

    def _load(self, node: Load, masked: bool) -> torch.Tensor:
        tensor = self.values[node.buffer]
        bindings = {**self.bindings, **{s: self.done[n, masked] for s, n in node.indirect}}
        index = torch.as_tensor(evaluate(node.index, bindings), device=tensor.device)
        storage = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
        if masked:
            if storage == 0:
                return torch.zeros(index.shape, dtype=tensor.dtype, device=self.device)
            index = index.clamp(0, storage - 1)
        elif index.numel() and not (int(index.min()) >= 0 and int(index.max()) < storage):
            raise InterpreterError(f"{node.buffer}[{node.index}] reads outside its {storage} elements")
        return torch.as_strided(tensor, (storage,), (1,), tensor.storage_offset())[index]

    def _checked(self, node: CheckedIndex, masked: bool) -> torch.Tensor:
        value, size = self.done[node.value, masked], evaluate(node.size, self.bindings)
        wrapped = torch.where(value < 0, value + size, value)
        if masked:
            return wrapped.clamp(0, max(size - 1, 0))
        if wrapped.numel() and not (int(wrapped.min()) >= 0 and int(wrapped.max()) < size):
            raise IndexError(f"index out of range for a dimension of size {size}")
        return wrapped


def _reduce(loops: Reduction, element: torch.Tensor, space: Sequence[int]) -> torch.Tensor:
    count = 1
    for size in element.shape[len(space) :]:
        count *= size
    flat = element.to(loops.accumulate).reshape(*space, count)
    kind = loops.kind
    if kind is ReductionKind.SUM:
        result = flat.sum(-1, dtype=loops.accumulate)
    elif kind is ReductionKind.PROD:
        result = flat.prod(-1, dtype=loops.accumulate)
    elif kind is ReductionKind.ANY:
        result = flat.any(-1)
    elif kind is ReductionKind.ALL:
        result = flat.all(-1)
    elif kind is ReductionKind.XOR_SUM:
        result = torch.zeros(space, dtype=flat.dtype, device=flat.device)
        for k in range(count):
            result = result ^ flat[..., k]
    elif count == 0:
        result = torch.full(space, _identity(kind, loops.accumulate), dtype=loops.accumulate, device=flat.device)
    elif kind in (ReductionKind.MAX, ReductionKind.MIN):
        result = flat.amax(-1) if kind is ReductionKind.MAX else flat.amin(-1)
    else:
        best = flat.amax(-1, keepdim=True) if kind is ReductionKind.ARGMAX else flat.amin(-1, keepdim=True)
        hit = (flat == best) | ((flat != flat) & (best != best))
        positions = torch.arange(count, device=flat.device)
        result = torch.where(hit, positions, count).amin(-1)
    return result.to(loops.dtype)


def _identity(kind: ReductionKind, dtype: torch.dtype) -> float | int | bool:
    low = kind in (ReductionKind.MAX, ReductionKind.ARGMAX)
    if kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
        return 0
    if dtype == torch.bool:
        return not low
    if dtype.is_floating_point:
        return float("-inf") if low else float("inf")
    limits = torch.iinfo(dtype)
    return limits.min if low else limits.max


def _scan(loops: Scan, element: torch.Tensor) -> torch.Tensor:
    wide = element.to(loops.accumulate)
    if loops.kind is ScanKind.SUM:
        return wide.cumsum(-1, dtype=loops.accumulate)
    if loops.kind is ScanKind.PROD:
        return wide.cumprod(-1, dtype=loops.accumulate)
    return (wide.cummax(-1) if loops.kind is ScanKind.MAX else wide.cummin(-1)).values


def _scatter(
    loops: Scatter,
    element: torch.Tensor,
    result: torch.Tensor,
    space: Sequence[int],
    values: Mapping[str, Any],
    sizes: Bindings,
) -> torch.Tensor:
    result.copy_(values[loops.initial])
    if 0 in space:
        return result
    bindings = dict(_grid(loops.body.variables, space, sizes, result.device))
    evaluator = _Evaluator(bindings, values, result.device)
    for name, node in loops.indirect:
        bindings[name] = evaluator.run(node)
    target = torch.as_tensor(evaluate(loops.target, bindings), device=result.device).expand(space).reshape(-1)
    storage = result.untyped_storage().nbytes() // result.element_size()
    if not (int(target.min()) >= 0 and int(target.max()) < storage):
        raise InterpreterError(f"scatters to {loops.target}, outside {storage} elements")
    flat = torch.as_strided(result, (storage,), (1,))
    flat.index_put_((target,), element.reshape(-1).contiguous(), accumulate=loops.mode is ScatterMode.ADD)
    return result


# ---------------------------------------------------------------------------------------------------------------- calls


def _call(buffer: ExternBuffer, values: Mapping[str, Any], calls: dict[str, Any], sizes: dict[Symbol, Any]) -> Any:
    if buffer.call not in calls:
        arguments = [_argument(a, values, sizes) for a in buffer.arguments]
        keywords = {k: _argument(a, values, sizes) for k, a in buffer.keywords.items()}
        calls[buffer.call] = buffer.target(*arguments, **keywords)
    result = calls[buffer.call]
    if buffer.result_index is not None:
        result = result[buffer.result_index]
    for number, dim in buffer.defines:
        (sym,) = number.free_symbols
        value = result if dim is None else result.shape[dim]
        rest = number.substitute({sym: 0})
        sizes[sym] = (value - int(rest)) // int(number.substitute({sym: 1}) - rest)
    layout = buffer.layout
    if isinstance(layout, Layout) and isinstance(result, torch.Tensor):
        strides = [evaluate(s, sizes) for s in layout.strides]
        if result.numel() and any(a != b and s > 1 for a, b, s in zip(result.stride(), strides, result.shape)):
            result = torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device).copy_(result)
    return result


def _argument(argument: Any, values: Mapping[str, Any], sizes: Bindings) -> Any:
    if isinstance(argument, BufferView):
        value = values[argument.buffer]
        return value if isinstance(argument.layout, OpaqueLayout) else view_through(value, argument.layout, sizes)
    if isinstance(argument, (list, tuple)):
        return [_argument(a, values, sizes) for a in argument]
    if isinstance(argument, dict):
        return {k: _argument(a, values, sizes) for k, a in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_argument(a, values, sizes) for a in (argument.start, argument.stop, argument.step)))
    if isinstance(argument, IntExpr):
        return evaluate(argument, sizes)
    if isinstance(argument, BoolExpr):
        return argument.evaluate(sizes)
    if isinstance(argument, FloatExpr):
        return argument.evaluate(lambda number: int(evaluate(number, sizes)), values)
    return argument
