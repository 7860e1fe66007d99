"""LoweringContext: the graph under construction, and when a value gets a buffer of its own.

Every lowering gets it as its first argument. It builds expressions out of values, realises them into computed buffers
and appends extern calls. Invariant: buffers are appended in an order in which each reads only earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.fx
from lampwork_symshape import IntExpr, Symbol

from ..config import Config
from ..ir.buffer import Buffer, BufferView, ComputedBuffer, ConstantBuffer, ExternBuffer, InputBuffer, Origin
from ..ir.layout import Layout, OpaqueLayout, contiguous_strides
from ..ir.loop_body import CheckedIndex, Compute, Load, LoopBody, Node, operands, reduction_variable
from ..ir.loops import Loops, Pointwise, Reduction, ReductionKind
from ..ir.scalar_ops import SCALAR_OPS
from ..ir.views import (
    ONE,
    ZERO,
    Indices,
    affine_layout,
    canonical_indices,
    canonical_variables,
    element_count,
    is_dense,
    stride_exprs,
    to_exprs,
)
from ..runtime.compiled_graph import restride
from .promotion import accumulate_dtype, is_supported
from .table import Unsupported
from .values import BufferValue, Cost, ExpressionValue, OpaqueValue, TensorValue, ViewValue

_FREE = frozenset({"to_dtype", "bitcast"})


class LoweringContext:
    """The builder of a LoweredGraph. `node_name` and `user_line` are those of the ATen node being lowered."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.buffers: list[Buffer] = []
        self.layouts: dict[str, Layout | OpaqueLayout] = {}
        self.notes: list[str] = []
        self.node_name = ""
        self.user_line: str | None = None
        self.fx_node: torch.fx.Node | None = None
        self.meta: Any = None
        self._counter = 0
        self._of_data: set[Symbol] = set()  # the symbols that calls define

    # ------------------------------------------------------------------------------------------------------- buffers

    def fresh_name(self, prefix: str = "buf") -> str:
        """A new buffer name."""
        self._counter += 1
        return f"{prefix}{self._counter - 1}"

    def add_input(
        self,
        name: str,
        layout: Layout | OpaqueLayout,
        position: int,
        static: bool,
        integer: IntExpr | None = None,
    ) -> None:
        """Append a graph input."""
        self.layouts[name] = layout
        self.buffers.append(InputBuffer(name, layout, position, static, integer))

    def add_constant(self, value: torch.Tensor, layout: Layout) -> BufferValue:
        """Append a tensor known at compile time."""
        name = self.fresh_name("const")
        self.layouts[name] = layout
        self.buffers.append(ConstantBuffer(name, layout, value))
        return BufferValue(name, layout)

    def add_computed(self, layout: Layout, loops: Loops, origin: Origin) -> BufferValue:
        """Append a buffer that generated code fills."""
        name = self.fresh_name()
        self.layouts[name] = layout
        self.buffers.append(ComputedBuffer(name, layout, loops, origin))
        return BufferValue(name, layout)

    def add_extern(
        self,
        layout: Layout | OpaqueLayout,
        target: Any,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        *,
        call: str | None = None,
        result_index: int | None = None,
        out_variant: Any = None,
        aliases: str | None = None,
    ) -> BufferValue | OpaqueValue:
        """Append the result of an operator call."""
        name = self.fresh_name()
        origin = self.origin()
        self.layouts[name] = layout
        self.buffers.append(
            ExternBuffer(
                name, layout, target, arguments, keywords, origin, call or name, result_index, out_variant, aliases
            )
        )
        return OpaqueValue(name, layout) if isinstance(layout, OpaqueLayout) else BufferValue(name, layout)

    def define(self, name: str, numbers: Sequence[tuple[IntExpr, int | None]]) -> None:
        """Numbers that are known once the call that gave a result has run (see `ExternBuffer`)."""
        position = next(k for k in reversed(range(len(self.buffers))) if self.buffers[k].name == name)
        buffer = self.buffers[position]
        assert isinstance(buffer, ExternBuffer)
        self.buffers[position] = replace(buffer, defines=tuple(numbers))
        self._of_data.update(*(number.free_symbols for number, _ in numbers))

    def may_be_zero(self, size: IntExpr) -> bool:
        """Whether a size is 0, or depends on data and may be: where there is nothing to choose from, eager raises."""
        if size.is_constant:
            return int(size) == 0
        return not self._of_data.isdisjoint(size.free_symbols) and (size.lower is None or size.lower < 1)

    def origin(self) -> Origin:
        """The node being lowered."""
        return Origin((self.node_name,), self.user_line)

    @property
    def target(self) -> Any:
        """The operator being lowered."""
        assert self.fx_node is not None
        return self.fx_node.target

    def argument_meta(self, position: int) -> Any:
        """The fake value of a positional argument of the node being lowered."""
        assert self.fx_node is not None
        argument = self.fx_node.args[position] if position < len(self.fx_node.args) else None
        return argument.meta.get("val") if isinstance(argument, torch.fx.Node) else argument

    def result_strides(self, position: int | None = None) -> Indices | None:
        """The strides of the node's result in eager (`position`: of one of several)."""
        meta = self.meta if position is None or not isinstance(self.meta, (tuple, list)) else self.meta[position]
        return stride_exprs(meta.stride()) if isinstance(meta, torch.Tensor) else None

    # --------------------------------------------------------------------------------------------------- expressions

    def pointwise(
        self,
        inputs: Sequence[TensorValue],
        sizes: Indices,
        function: Callable[..., Node],
        *,
        device: torch.device | None = None,
    ) -> ExpressionValue:
        """The expression `function(*elements)` over `sizes`, each input broadcast to `sizes`."""
        indices = canonical_indices(sizes)
        for value in inputs:
            self.prepare_repeat(value, sizes)
        elements = [value.load(broadcast_indices(value.sizes, sizes, indices)) for value in inputs]
        return self.expression(inputs, elements, sizes, function(*elements), device=device)

    def expression(
        self,
        inputs: Sequence[TensorValue],
        elements: Sequence[Node],
        sizes: Indices,
        body: Node,
        *,
        device: torch.device | None = None,
    ) -> ExpressionValue:
        """An expression with a finished body; `elements` are the nodes in it that stand for the inputs' elements."""
        if not is_supported(body.dtype):
            raise Unsupported(f"dtype {body.dtype}")
        if device is None:
            device = common_device(inputs)
        sources: dict[ExpressionValue, None] = {}
        for value in inputs:
            root = root_of(value)
            if isinstance(root, ExpressionValue) and root.buffer is None:
                sources[root] = None
        cost = self._cost(inputs, elements, tuple(sources), sizes, body)
        result = ExpressionValue(sizes, device, body, cost, tuple(sources), self.node_name, self.user_line)
        if len(cost.reads) > self.config.max_reads or cost.operations > self.config.max_operations:
            result.strides = self._meta_strides(sizes)
            self.realise(result)
        return result

    def _meta_strides(self, sizes: Indices) -> Indices | None:
        meta = self.meta
        if isinstance(meta, torch.Tensor) and to_exprs(meta.shape) == sizes:
            return tuple(layout_of(meta).strides)
        return None

    def _cost(
        self,
        inputs: Sequence[TensorValue],
        elements: Sequence[Node],
        sources: tuple[ExpressionValue, ...],
        sizes: Indices,
        body: Node,
    ) -> Cost:
        reads: set[str] = set()
        heavy: set[str] = set()
        operations = expensive = 0
        for source in sources:
            reads |= source.cost.reads
            if _is_heavy(source.sizes, sizes):  # what a row's statistics are made of weighs little in its elements
                heavy |= source.cost.heavy_reads
            operations += source.cost.operations
            expensive += source.cost.expensive
        for value in inputs:
            root = root_of(value)
            if root.buffer is not None:
                reads.add(root.buffer.name)
                if _is_heavy(root.sizes, sizes):
                    heavy.add(root.buffer.name)
        seen: set[Node] = set(elements)
        stack = [body] if body not in seen else []
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if isinstance(node, Compute):
                operations += node.op not in _FREE
                expensive += not SCALAR_OPS[node.op].cheap
            elif isinstance(node, Load):
                reads.add(node.buffer)
                heavy.add(node.buffer)
                expensive += bool(node.indirect)
            elif isinstance(node, CheckedIndex):
                operations += 2
            stack.extend(operands(node))
        return Cost(frozenset(reads), frozenset(heavy), operations, expensive)

    def is_cheap(self, value: ExpressionValue) -> bool:
        """Whether each of several users may recompute the value."""
        cost = value.cost
        return (
            not cost.expensive
            and cost.operations <= self.config.inline_operations
            and len(cost.heavy_reads) <= self.config.inline_reads
        )

    def prepare_users(self, value: TensorValue) -> None:
        """Called for a value with more than one user: store it unless recomputing it is cheap."""
        root = root_of(value)
        if isinstance(root, ExpressionValue) and root.buffer is None and not self.is_cheap(root):
            self.realise(root)

    def prepare_repeat(self, value: TensorValue, sizes: Indices) -> None:
        """Called before a value is broadcast to `sizes`: store what would be recomputed many times.

        Also stores a body too large to be rebuilt through an index map.
        """
        if value.sizes == sizes and not isinstance(value, ViewValue):
            return
        root = root_of(value)
        if not isinstance(root, ExpressionValue) or root.buffer is not None:
            return
        if root.cost.operations > self.config.max_substituted_operations:
            self.realise(root)
            return
        offset = len(sizes) - value.rank
        # repeated along the last dimension, one operation is done once a row instead; along others a few do not pay
        along_rows = value.rank > 0 and value.sizes[-1] == 1 and sizes[-1] != 1
        limit = 0 if along_rows else self.config.repeat_operations
        if root.cost.expensive or root.cost.operations > limit:
            repeats = any(s != 1 for s in sizes[:offset]) or any(
                a == 1 and b != 1 for a, b in zip(value.sizes, sizes[offset:])
            )
            if repeats or (isinstance(value, ViewValue) and _repeats(value)):
                self.realise(root)

    def prepare_substitution(self, value: TensorValue) -> None:
        """Called before a value is read at other than its own indices: store a body too large to be rebuilt."""
        root = root_of(value)
        if not isinstance(root, ExpressionValue) or root.buffer is not None:
            return
        if root.cost.operations > self.config.max_substituted_operations:
            self.realise(root)

    def prepare_many_reads(self, value: TensorValue) -> None:
        """Called before each element is read many times (an index that selects rows): store what is not trivial."""
        root = root_of(value)
        if not isinstance(root, ExpressionValue) or root.buffer is not None:
            return
        if root.cost.expensive or root.cost.operations > self.config.repeat_operations:
            self.realise(root)

    # ------------------------------------------------------------------------------------------------------- realise

    def realise(self, value: TensorValue) -> BufferValue:
        """The value in a buffer: itself, or a new computed buffer (once)."""
        if value.buffer is not None:
            return value.buffer
        if isinstance(value, ViewValue):
            base = self.realise(value.base)
            layout = affine_layout(base.layout, value.map)
            if layout is not None:
                value.buffer = BufferValue(base.name, layout)
            else:
                body = base.load(value.map.indices)
                value.buffer = self._store(value.sizes, None, value.device, body, self.origin())
            return value.buffer
        assert isinstance(value, ExpressionValue)
        origin = Origin(_origin_nodes(value), value.user_line)
        value.buffer = self._store(value.sizes, value.strides, value.device, value.body, origin)
        return value.buffer

    def materialise(self, value: TensorValue, strides: Indices) -> BufferValue:
        """The value in a buffer with exactly these strides (of dimensions of size one too), copied if needed."""
        if isinstance(value, ExpressionValue) and value.buffer is None:
            value.strides = strides
        stored = self.realise(value)
        layout = stored.layout
        if same_strides(layout.sizes, layout.strides, strides):
            return BufferValue(stored.name, Layout(layout.device, layout.dtype, layout.sizes, strides, layout.offset))
        if not is_dense(value.sizes, strides) and any(not e.is_constant for e in (*value.sizes, *strides)):
            return self._copied_into(stored, strides)  # not by loops: nothing proves that they would fill the memory
        body = value.load(canonical_indices(value.sizes))
        return self._store(value.sizes, strides, value.device, body, self.origin())

    def _copied_into(self, stored: BufferValue, strides: Indices) -> BufferValue:
        """A copy made by the library."""
        layout = Layout(stored.device, stored.dtype, stored.sizes, strides)
        copied = self.add_extern(layout, restride, (BufferView(stored.name, stored.layout), strides), {})
        assert isinstance(copied, BufferValue)
        return copied

    def whole(self, value: TensorValue, layout: Layout) -> str:
        """A buffer that holds the value and nothing else, in exactly this layout."""
        stored = self.materialise(value, layout.strides)
        if self.layouts[stored.name] == layout:
            return stored.name
        return self.fresh(value, layout.strides).name

    def fresh(self, value: TensorValue, strides: Indices) -> BufferValue:
        """A copy of the value in a buffer of its own."""
        return self._store(
            value.sizes, strides, value.device, value.load(canonical_indices(value.sizes)), self.origin()
        )

    def _store(
        self, sizes: Indices, strides: Indices | None, device: torch.device, body: Node, origin: Origin
    ) -> BufferValue:
        if strides is None or not is_dense(sizes, strides):
            strides = contiguous_strides(sizes)
        layout = Layout(device, body.dtype, sizes, strides)
        loops = Pointwise(sizes, LoopBody(canonical_variables(sizes), (), body))
        return self.add_computed(layout, loops, origin)

    # ---------------------------------------------------------------------------------------------------- reductions

    def reduce(
        self,
        value: TensorValue,
        dims: Sequence[int],
        kind: ReductionKind,
        dtype: torch.dtype,
        function: Callable[[Node], Node] | None = None,
        strides: Indices | None = None,
    ) -> BufferValue:
        """Reduce `dims` (non-negative, distinct) away: a realised value of the kept dimensions.

        `function` is applied to each element first; its result is converted to the accumulation dtype. `dtype` is the
        result's.
        """
        self.prepare_repeat(value, value.sizes)
        root = root_of(value)
        if isinstance(root, ExpressionValue) and root.buffer is None:
            small = root.cost.operations <= self.config.max_substituted_operations
            if not small:
                self.realise(root)
        reduced = set(dims)
        kept = [k for k in range(value.rank) if k not in reduced]
        sizes = tuple(value.sizes[k] for k in kept)
        reduction_sizes = tuple(value.sizes[k] for k in dims) or (ONE,)  # of one element, where no dimension goes
        variables = canonical_variables(sizes)
        reduction_variables = tuple(reduction_variable(k, s) for k, s in enumerate(reduction_sizes))
        indices: list[IntExpr] = [ZERO] * value.rank
        for k, variable in zip(kept, canonical_indices(sizes)):
            indices[k] = variable
        for k, variable, size in zip(dims, reduction_variables, reduction_sizes):
            indices[k] = ZERO if size == 1 else variable
        element = value.load(indices)
        if function is not None:
            element = function(element)
        if not is_supported(element.dtype) or not is_supported(dtype):
            raise Unsupported(f"reduction of {element.dtype} to {dtype}")
        accumulate = accumulate_dtype(element.dtype, kind)
        body = LoopBody(variables, reduction_variables, element)
        loops = Reduction(sizes, reduction_sizes, kind, body, dtype, accumulate)
        nodes = _origin_nodes(root) if isinstance(root, ExpressionValue) and root.buffer is None else ()
        if self.node_name not in nodes:
            nodes = (*nodes, self.node_name)
        if strides is None or not is_dense(sizes, strides):
            strides = contiguous_strides(sizes)
        layout = Layout(value.device, dtype, sizes, strides)
        return self.add_computed(layout, loops, Origin(nodes, self.user_line))

    def contract(
        self, device: torch.device, sizes: Indices, contracted: Indices, body: Callable[..., Node], dtype: torch.dtype
    ) -> BufferValue:
        """A contraction: `body(variables, contracted variables)` is the product that is summed, in float32; realised in
        row-major order as `dtype`. What the body reads is realised already."""
        variables = canonical_variables(sizes)
        reduction_variables = tuple(reduction_variable(k, size) for k, size in enumerate(contracted))
        value = body(canonical_indices(sizes), reduction_variables)
        loops = Reduction(
            sizes, contracted, ReductionKind.SUM, LoopBody(variables, reduction_variables, value), dtype,
            torch.float32, contraction=True,
        )  # fmt: skip
        return self.add_computed(Layout(device, dtype, sizes, contiguous_strides(sizes)), loops, self.origin())

    def slide(
        self,
        device: torch.device,
        sizes: Indices,
        window: Indices,
        kind: ReductionKind,
        body: Callable[..., Node],
        dtype: torch.dtype,
    ) -> BufferValue:
        """A reduction over a window (see `Reduction`) of `body(variables, window variables)`, in the body's dtype;
        realised in row-major order as `dtype`. What the body reads is realised already."""
        variables = canonical_variables(sizes)
        reduction_variables = tuple(reduction_variable(k, size) for k, size in enumerate(window))
        value = body(canonical_indices(sizes), reduction_variables)
        loops = Reduction(
            sizes, window, kind, LoopBody(variables, reduction_variables, value), dtype, value.dtype, window=True
        )
        return self.add_computed(Layout(device, dtype, sizes, contiguous_strides(sizes)), loops, self.origin())


# ---------------------------------------------------------------------------------------------------------- functions


def root_of(value: TensorValue) -> BufferValue | ExpressionValue:
    """What a value is a view of."""
    if isinstance(value, ViewValue):
        return value.base
    assert isinstance(value, (BufferValue, ExpressionValue))
    return value


def broadcast_indices(sizes: Indices, target: Indices, indices: Indices) -> Indices:
    """The index of a tensor of `sizes` that broadcasts to `target`, at `indices` of the target."""
    if sizes is target:
        return indices
    offset = len(target) - len(sizes)
    return tuple([ZERO if size == 1 else index for size, index in zip(sizes, indices[offset:])])


def broadcast_sizes(shapes: Sequence[Indices]) -> Indices:
    """The common sizes of several tensors, by the broadcasting rule. Raises Unsupported where they do not broadcast."""
    first = shapes[0]
    if all(s is first or s == first for s in shapes):
        return first
    rank = max(len(s) for s in shapes)
    result: list[IntExpr] = []
    for k in range(rank):
        size: IntExpr | None = None
        for shape in shapes:
            position = k - rank + len(shape)
            if position < 0 or shape[position] == 1:
                continue
            if size is not None and size is not shape[position]:
                raise Unsupported("sizes that are not known to broadcast")
            size = shape[position]
        result.append(ONE if size is None else size)
    return tuple(result)


def common_device(inputs: Sequence[TensorValue]) -> torch.device:
    """The one device of the inputs. Raises Unsupported where there are several."""
    if not inputs:
        raise Unsupported("no device")
    device = inputs[0].device
    if any(v.device != device for v in inputs):
        raise Unsupported("tensors on several devices")
    return device


def layout_of(tensor: torch.Tensor) -> Layout:
    """The layout of a (fake) tensor, relative to its own data pointer."""
    return Layout(tensor.device, tensor.dtype, to_exprs(tensor.shape), stride_exprs(tensor.stride()))


def same_strides(sizes: Indices, left: Indices, right: Indices) -> bool:
    """Whether strides agree where they matter."""
    return left == right or any(s == 0 for s in sizes) or all(a == b or s == 1 for s, a, b in zip(sizes, left, right))


def _is_heavy(read: Indices, sizes: Indices) -> bool:
    count, whole = element_count(read), element_count(sizes)
    if count.is_constant and whole.is_constant:
        return int(count) * 2 >= int(whole)
    return True


def _repeats(value: ViewValue) -> bool:
    """Whether a view reads some element of its base more than once."""
    used = set[IntExpr]()
    for index in value.map.indices:
        used |= index.free_symbols
    return any(v not in used for v, s in zip(canonical_variables(value.sizes), value.sizes) if s != 1)


def _origin_nodes(value: ExpressionValue) -> tuple[str, ...]:
    """The ATen nodes inlined into a value, in order of computation."""
    names: dict[str, None] = {}
    done: set[ExpressionValue] = set()
    stack: list[tuple[ExpressionValue, bool]] = [(value, False)]
    while stack:
        current, ready = stack.pop()
        if ready:
            names[current.node] = None
        elif current not in done:
            done.add(current)
            stack.append((current, True))
            stack.extend((s, False) for s in reversed(current.sources) if s.buffer is None)
    return tuple(names)
