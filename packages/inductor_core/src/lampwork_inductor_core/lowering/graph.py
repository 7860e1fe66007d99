"""lower(): a functional ATen graph becomes a LoweredGraph, node by node in one walk.

Between `passes` and `schedule`. Each node's lowering is looked up in the table; what has none, or refuses, is called as
an operator (`fallback`) and noted. Invariant: every result agrees with the node's fake tensor in sizes, dtype and
device, and graph outputs have exactly eager's strides.
"""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
import torch.fx
from lampwork_symshape import IntExpr, Symbol, SymbolicValueError

from ..config import Config
from ..ir.buffer import (
    Buffer,
    ExternBuffer,
    GraphOutput,
    InputBuffer,
    LoweredGraph,
    buffers_read,
    definers,
    numbers_of,
    symbols_of,
)
from ..ir.float_expr import FloatExpr, FloatInput, FloatOf, NumberOfTheCall
from ..ir.layout import OpaqueLayout
from ..ir.verify import verify
from ..ir.views import UnknownSize, is_dense, raw_expr, stride_exprs, to_expr, to_exprs
from ..passes.dead_code import may_raise
from . import activation, concat, creation, indexing, normalisation, pointwise, reduction, scatter, view
from .context import LoweringContext, layout_of
from .fallback import call_operator, is_plain, take_item
from .library_calls import is_library_call
from .table import LeftToLibrary, Lowering, LoweringTable, Unsupported
from .values import BufferValue, ExpressionValue, OpaqueValue, TensorValue

_READ = torch.ops.aten._local_scalar_dense.default  # happens, whatever checks then say that the number is
_FAMILIES = (pointwise, activation, view, creation, reduction, normalisation, concat, indexing, scatter)


class LoweringError(RuntimeError):
    """The graph itself is wrong (a node without a fake value, an unknown kind of node)."""


def default_table() -> dict[Any, Lowering]:
    """Every lowering of the core, by overload. A device's own go on top."""
    table: dict[Any, Lowering] = {}
    for family in _FAMILIES:
        for overload, lowering in family.TABLE.items():
            assert overload not in table, f"{overload} has two lowerings"
            table[overload] = lowering
    return table


def lower(
    graph: torch.fx.GraphModule, table: LoweringTable | None = None, config: Config | None = None
) -> LoweredGraph:
    """Lower a functional ATen graph.

    `graph`: placeholders and nodes carry `meta["val"]` (fake tensors or numbers); `meta["static_input"]` on a
    placeholder says parameter or module buffer; `meta["user_line"]` is kept for comments. `table`: the lowerings
    (default: `default_table()`). Raises LoweringError or MutationInGraph for a graph that is not what it should be.
    """
    config = config or Config.from_environment()
    run = _Lowering(graph, default_table() if table is None else table, config)
    lowered = run.run()
    if config.verify:
        verify(lowered)
    return lowered


class _Lowering:
    def __init__(self, graph: torch.fx.GraphModule, table: LoweringTable, config: Config) -> None:
        self.graph = graph
        self.table = table
        self.context = LoweringContext(config)
        self.values: dict[torch.fx.Node, Any] = {}
        self.outputs: tuple[GraphOutput, ...] = ()
        self.symbols: frozenset[Symbol] | None = None
        self.checks: set[str] = set()  # results of calls that must happen because they may raise

    def run(self) -> LoweredGraph:
        position = 0
        for node in self.graph.graph.nodes:
            context = self.context
            context.fx_node, context.node_name = node, node.name
            context.meta, context.user_line = node.meta.get("val"), node.meta.get("user_line")
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node, position)
                position += 1
            elif node.op == "get_attr":
                self.values[node] = self._attribute(node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self.outputs = self._outputs(node)
            else:
                raise LoweringError(f"node {node.name}: an ATen graph holds no {node.op}; hint: trace it to ATen first")
        return self._freeze()

    # --------------------------------------------------------------------------------------------------------- inputs

    def _placeholder(self, node: torch.fx.Node, position: int) -> Any:
        meta = node.meta.get("val")
        static = bool(node.meta.get("static_input") or node.meta.get("hoisted"))
        if isinstance(meta, torch.Tensor):
            if node.meta.get("opaque") or not is_plain(meta):
                opaque = OpaqueLayout(meta.device, meta.dtype)
                self.context.add_input(node.name, opaque, position, static)
                return OpaqueValue(node.name, opaque)
            layout = layout_of(meta)
            self.context.add_input(node.name, layout, position, static)
            return BufferValue(node.name, layout)
        opaque = OpaqueLayout(torch.device("cpu"), None)
        if isinstance(meta, torch.SymInt):
            value = to_expr(meta)
            self.context.add_input(node.name, opaque, position, static, value)
            return value if value.free_symbols else int(value)
        self.context.add_input(node.name, opaque, position, static)
        if isinstance(meta, torch.SymFloat):
            return FloatInput(node.name)
        if meta is not None and not isinstance(meta, torch.SymBool):
            return meta
        return OpaqueValue(node.name, opaque)

    def _attribute(self, node: torch.fx.Node) -> Any:
        value: Any = self.graph
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, torch.Tensor) and is_plain(value):
            return self.context.add_constant(value.detach(), layout_of(value))
        return value

    # ---------------------------------------------------------------------------------------------------------- calls

    def _call(self, node: torch.fx.Node) -> Any:
        if node.target is operator.getitem:
            source, index = self._map(node.args[0]), self._map(node.args[1])
            return take_item(self.context, source, index, node) if isinstance(source, OpaqueValue) else source[index]
        meta = node.meta.get("val")
        if isinstance(meta, (bool, int, float)) and not isinstance(node.target, torch._ops.OpOverload):
            return meta
        if isinstance(meta, torch.SymBool) and not isinstance(node.target, torch._ops.OpOverload):
            return cast("Any", meta.node).expr  # as the trace has it: a check must not be replaced by what it states
        if isinstance(meta, torch.SymInt) and node.target is not _READ:
            number = self._size(meta)
            if number is not None:
                return number
        if isinstance(meta, torch.SymFloat) and not isinstance(node.target, torch._ops.OpOverload):
            if node.kwargs:
                raise LoweringError(f"node {node.name}: a float is computed with keywords; hint: pass by position")
            operands: list[Any] = [self.values[a] if isinstance(a, torch.fx.Node) else a for a in node.args]
            if callable(node.target) and all(isinstance(o, FloatExpr | IntExpr | int | float) for o in operands):
                return FloatOf(node.target, tuple(operands))
        if not node.users and may_raise(node):  # called for its checks alone: nothing would evaluate an expression
            result = self._called(node)
            self.checks.update(v.name for v in _flat(result) if isinstance(v, BufferValue | OpaqueValue))
            return self._finish(node, result, meta)
        lowering = self.table.get(node.target)
        if lowering is not None:
            try:
                result = self._lowered(node, lowering)
                self._check(node, result, meta)
                return self._finish(node, result, meta)
            except LeftToLibrary:
                pass
            except Unsupported as reason:
                self.context.notes.append(f"{node.name}: {node.target} is called as it is: {reason}")
        elif node.target is not _READ and not is_library_call(node.target):
            self.context.notes.append(f"{node.name}: {node.target} is called as it is: no lowering")
        return self._finish(node, self._called(node), meta)

    def _called(self, node: torch.fx.Node) -> Any:
        """The result of the operator itself; what it tells of sizes that depend on data is known from then on."""
        result, meta = call_operator(self.context, node, self.values.__getitem__), node.meta.get("val")
        several = isinstance(result, (list, tuple)) and isinstance(meta, (list, tuple))
        pairs = zip(result, cast("Any", meta)) if several else ((result, meta),)
        for one, of_one in pairs:
            if isinstance(one, BufferValue | OpaqueValue):
                self._define(one.name, of_one)
        if isinstance(meta, torch.SymInt):
            number = self._size(meta)
            return result if number is None else number
        return result

    def _define(self, name: str, meta: Any) -> None:
        numbers: list[tuple[IntExpr, int | None]] = []
        if isinstance(meta, torch.SymInt):
            numbers = [(number, None) for number in self._unbound(meta)]
        elif isinstance(meta, torch.Tensor):
            sized = ((size, dim) for dim, size in enumerate(meta.shape) if isinstance(size, torch.SymInt))
            numbers = [(number, dim) for size, dim in sized for number in self._unbound(size)]
        if numbers:
            self.context.define(name, numbers)
            self.symbols = self._bound_symbols().union(*(number.free_symbols for number, _ in numbers))

    def _unbound(self, number: torch.SymInt) -> list[IntExpr]:
        """A number, as the trace and as facts have it, where that is made of one symbol that is not known yet."""
        try:
            forms = dict.fromkeys((raw_expr(number), to_expr(number)))
        except UnknownSize:
            return []
        return [f for f in forms if len(f.free_symbols) == 1 and not f.free_symbols <= self._bound_symbols()]

    def _lowered(self, node: torch.fx.Node, lowering: Lowering) -> Any:
        arguments = [self._map(a) for a in node.args]
        keywords = {k: self._map(a) for k, a in node.kwargs.items()}
        try:
            return lowering(self.context, *arguments, **keywords)
        except (SymbolicValueError, TypeError) as error:
            symbolic = any(isinstance(a, IntExpr | FloatExpr) for a in _flat([*arguments, *keywords.values()]))
            if not symbolic and not isinstance(error, SymbolicValueError | NumberOfTheCall):
                raise
            raise Unsupported(f"a number that only a call knows: {error}") from error

    def _size(self, meta: torch.SymInt) -> Any:
        """A number computed from sizes, as an expression of what the inputs bind; None for one that is not."""
        try:
            value = to_expr(meta)
        except UnknownSize:
            return None
        if not value.free_symbols:
            return int(value)
        return value if value.free_symbols <= self._bound_symbols() else None

    def _bound_symbols(self) -> frozenset[Symbol]:
        """The symbols that the inputs' sizes, strides and numbers are made of."""
        if self.symbols is None:
            inputs = [b for b in self.context.buffers if isinstance(b, InputBuffer)]
            self.symbols = frozenset(s for b in inputs for e in numbers_of(b) for s in e.free_symbols)
        return self.symbols

    def _is_bound(self, value: TensorValue) -> bool:
        return all(size.free_symbols <= self._bound_symbols() for size in value.sizes)

    def _map(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            value = self.values[argument]
            if isinstance(value, OpaqueValue):
                if self.context.fx_node is not None and self.context.fx_node.target is operator.getitem:
                    return value
                raise Unsupported("an operand that only operators understand")
            return value
        if isinstance(argument, (list, tuple)):
            return [self._map(a) for a in argument]
        return argument

    def _check(self, node: torch.fx.Node, result: Any, meta: Any) -> None:
        """Hold a lowering's result against the fake tensor. A disagreement is a bug of ours: never a silent one."""
        if isinstance(result, TensorValue) and not self._is_bound(result):
            raise Unsupported("the size of the result depends on data")
        own = isinstance(result, ExpressionValue) and result.node == node.name and result.strides is None
        if own and isinstance(meta, torch.Tensor) and not is_dense(result.sizes, stride_exprs(meta.stride())):
            raise Unsupported("eager leaves gaps in the result's memory")
        if isinstance(result, (list, tuple)):
            if not isinstance(meta, (list, tuple)) or len(meta) != len(result):
                raise Unsupported("the lowering gives another number of results (please report)")
            for one, expected in zip(result, meta):
                self._check(node, one, expected)
        if isinstance(result, TensorValue) and isinstance(meta, torch.Tensor):  # noqa: SIM102
            if result.dtype != meta.dtype or result.device != meta.device or result.sizes != to_exprs(meta.shape):
                problem = (
                    f"the lowering gives {result.dtype}{list(result.sizes)} on {result.device} where eager gives "
                    f"{meta.dtype}{list(meta.shape)} on {meta.device}"
                )
                if self.context.config.verify and not _may_agree(result, meta):
                    raise LoweringError(f"{node.target}: {problem}")
                raise Unsupported(f"{problem} (please report)")

    def _finish(self, node: torch.fx.Node, result: Any, meta: Any) -> Any:
        if isinstance(result, (list, tuple)):
            metas = meta if isinstance(meta, (list, tuple)) else [None] * len(result)
            return [self._finish(node, one, m) for one, m in zip(result, metas)]
        own = isinstance(result, ExpressionValue) and result.node == node.name and result.strides is None
        if own and isinstance(meta, torch.Tensor):
            result.strides = stride_exprs(meta.stride())
        if isinstance(result, TensorValue) and len(node.users) > 1:
            self.context.prepare_users(result)
        return result

    # -------------------------------------------------------------------------------------------------------- outputs

    def _outputs(self, node: torch.fx.Node) -> tuple[GraphOutput, ...]:
        results = node.args[0]
        if not isinstance(results, (list, tuple)):
            results = (results,)
        return tuple(self._output(result) for result in results)

    def _output(self, result: Any) -> GraphOutput:
        if not isinstance(result, torch.fx.Node):
            return GraphOutput(None, None, result)
        value, meta = self.values[result], result.meta.get("val")
        self.context.node_name, self.context.user_line = result.name, result.meta.get("user_line")
        if isinstance(value, OpaqueValue):
            return GraphOutput(value.name, value.layout)
        if not isinstance(value, TensorValue):
            return GraphOutput(None, None, value)
        if not isinstance(meta, torch.Tensor):
            stored = self.context.realise(value)
        else:
            stored = self.context.materialise(value, stride_exprs(meta.stride()))
        return GraphOutput(stored.name, stored.layout)

    def _freeze(self) -> LoweredGraph:
        """Drop what no output needs; keep the inputs."""
        live = {o.buffer for o in self.outputs if o.buffer is not None}
        called: set[str] = set()  # calls of which a result is kept: further results may go
        kept: list[Buffer] = []
        definer = definers(self.context.buffers)
        live.update(definer[s] for o in self.outputs for s in _symbols_of_output(o) if s in definer)
        for buffer in reversed(self.context.buffers):
            if isinstance(buffer, InputBuffer):
                kept.append(buffer)
            elif buffer.name in live or (
                (has_effect(buffer) or buffer.name in self.checks) and _stands_for(buffer, called)
            ):
                kept.append(buffer)
                live.update(buffers_read(buffer))
                if definer:
                    live.update(definer[s] for s in symbols_of(buffer) if s in definer)
                if isinstance(buffer, ExternBuffer):
                    called.add(buffer.call)
        kept.reverse()
        return LoweredGraph(tuple(kept), self.outputs, tuple(self.context.notes), {b.name: b for b in kept})


def _may_agree(result: TensorValue, meta: torch.Tensor) -> bool:
    """Whether sizes differ only in how they are written: the facts say that they are equal, but not by substitution."""
    sizes = to_exprs(meta.shape)
    if result.dtype != meta.dtype or result.device != meta.device or len(sizes) != result.rank:
        return False
    return all(a == b or a.free_symbols or b.free_symbols for a, b in zip(result.sizes, sizes))


def _symbols_of_output(output: GraphOutput) -> frozenset[Symbol]:
    return output.literal.free_symbols if isinstance(output.literal, IntExpr) else frozenset()


def _flat(result: Any) -> list[Any]:
    return [v for one in result for v in _flat(one)] if isinstance(result, (list, tuple)) else [result]


def _stands_for(buffer: Buffer, called: set[str]) -> bool:
    """Whether an unused result must be kept for its call to happen: the first one, where no other is kept."""
    return isinstance(buffer, ExternBuffer) and not buffer.result_index and buffer.call not in called


def has_effect(buffer: Buffer) -> bool:
    """Whether a call must happen even if nobody reads its result: it advances a random generator, or has no result."""
    if not isinstance(buffer, ExternBuffer):
        return False
    schema = getattr(buffer.target, "_schema", None)
    if schema is not None and not schema.returns:
        return True
    tags = getattr(buffer.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


__all__ = ["LoweringError", "default_table", "has_effect", "lower"]
