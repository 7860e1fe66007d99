"""verify(): the invariants of a lowered graph, checked.

Called after stages in tests and under `LAMPWORK_VERIFY=1`. Invariant checked: buffers are defined before they are read,
bodies mention only their own variables and agree with their layouts in sizes and dtypes, indices stay in bounds where
that can be told, and outputs name buffers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lampwork_symshape import IntExpr, Symbol

from .buffer import (
    BufferView,
    ComputedBuffer,
    ConstantBuffer,
    ExternBuffer,
    InputBuffer,
    LoweredGraph,
    buffers_read,
    definers,
    symbols_of,
)
from .layout import Layout, OpaqueLayout
from .loop_body import CheckedIndex, Compute, FloatValue, IndexValue, Load, Masked, Node, operands, walk
from .loops import Pointwise, Reduction, ReductionKind, Scan, Scatter
from .scalar_ops import SCALAR_OPS
from .views import span_of


class InvalidGraph(AssertionError):
    """A lowered graph breaks an invariant: a bug in a lowering or pass."""

    def __init__(self, buffer: str, problem: str) -> None:
        super().__init__(f"buffer {buffer}: {problem}")
        self.buffer = buffer


def verify(graph: LoweredGraph) -> None:
    """Raise InvalidGraph for the first broken invariant."""
    layouts: dict[str, Layout | OpaqueLayout] = {}
    later = set(definers(graph.buffers))
    for buffer in graph.buffers:
        unknown = symbols_of(buffer) & later if later else ()
        if unknown:
            raise InvalidGraph(buffer.name, f"mentions {min(s.name for s in unknown)}, which a later call defines")
        if isinstance(buffer, ExternBuffer):
            later.difference_update(*(number.free_symbols for number, _ in buffer.defines))
        if buffer.name in layouts:
            raise InvalidGraph(buffer.name, "is defined twice")
        for name in sorted(buffers_read(buffer)):
            if name not in layouts:
                raise InvalidGraph(buffer.name, f"reads {name}, which is not defined before it")
        if isinstance(buffer, ComputedBuffer):
            _verify_computed(buffer, layouts)
        elif isinstance(buffer, ExternBuffer):
            for argument in (*buffer.arguments, *buffer.keywords.values()):
                if isinstance(argument, BufferView):
                    _verify_view(buffer.name, argument, layouts)
        else:
            assert isinstance(buffer, (InputBuffer, ConstantBuffer))
        layouts[buffer.name] = buffer.layout
    for output in graph.outputs:
        if output.buffer is not None and output.buffer not in layouts:
            raise InvalidGraph(output.buffer, "is returned but not defined")
    if graph.by_name and set(graph.by_name) != set(layouts):
        raise InvalidGraph("(all)", "by_name does not name the buffers")


def _verify_view(name: str, view: BufferView, layouts: dict[str, Layout | OpaqueLayout]) -> None:
    base = layouts[view.buffer]
    if isinstance(base, OpaqueLayout) != isinstance(view.layout, OpaqueLayout):
        raise InvalidGraph(name, f"addresses {view.buffer}, which is opaque, or hides one that is not")


def _verify_computed(buffer: ComputedBuffer, layouts: dict[str, Layout | OpaqueLayout]) -> None:
    loops, layout = buffer.loops, buffer.layout
    body = loops.body
    if len(body.variables) != len(loops.sizes):
        raise InvalidGraph(buffer.name, f"{len(body.variables)} variables for {len(loops.sizes)} sizes")
    if not isinstance(loops, Scatter) and layout.sizes != loops.sizes:
        raise InvalidGraph(buffer.name, f"loops over {loops.sizes} fill a layout of {layout.sizes}")
    if isinstance(loops, Reduction):
        if len(body.reduction_variables) != len(loops.reduction_sizes):
            raise InvalidGraph(buffer.name, "reduction variables and sizes differ in number")
        result = loops.dtype
        if loops.kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN) and result != torch.int64:
            raise InvalidGraph(buffer.name, "a position that is not int64")
    else:
        if body.reduction_variables:
            raise InvalidGraph(buffer.name, "reduction variables outside a reduction")
        result = body.value.dtype
    if result != layout.dtype:
        raise InvalidGraph(buffer.name, f"a value of {result} in a buffer of {layout.dtype}")
    variables: tuple[Symbol, ...] = (*body.variables, *body.reduction_variables)
    sizes = (*loops.sizes, *(loops.reduction_sizes if isinstance(loops, Reduction) else ()))
    for variable, size in zip(variables, sizes):
        if size.is_constant and int(size) > 0 and (variable.lower != 0 or variable.upper != int(size) - 1):
            raise InvalidGraph(buffer.name, f"variable {variable.name} ranges over {variable.value_range}, size {size}")
    if any(s == 0 for s in sizes):
        return
    _verify_nodes(buffer.name, body.value, frozenset(variables), layouts)
    assert isinstance(loops, (Pointwise, Reduction, Scan, Scatter))


def _verify_nodes(
    name: str, root: Node, variables: frozenset[Symbol], layouts: dict[str, Layout | OpaqueLayout]
) -> None:
    masked = _under_masks(root)
    for node in walk(root):
        if isinstance(node, Load):
            layout = layouts[node.buffer]
            if not isinstance(layout, Layout):
                raise InvalidGraph(name, f"loads from {node.buffer}, which is opaque")
            if layout.dtype != node.dtype:
                raise InvalidGraph(name, f"loads {node.dtype} from {node.buffer}, which holds {layout.dtype}")
            bound = frozenset(s for s, _ in node.indirect)
            _verify_symbols(name, node.index, variables | bound)
            if node not in masked:
                _verify_bounds(name, node, layout)
        elif isinstance(node, IndexValue):
            _verify_symbols(name, node.expression, variables)
        elif isinstance(node, FloatValue):
            unknown = [n for n in sorted(node.expression.inputs) if not isinstance(layouts.get(n), OpaqueLayout)]
            if unknown or not node.dtype.is_floating_point:
                raise InvalidGraph(name, f"reads {node.expression} as {node.dtype}; no float inputs: {unknown}")
        elif isinstance(node, CheckedIndex):
            if node.value.dtype != torch.int64:
                raise InvalidGraph(name, f"an index of {node.value.dtype}")
        elif isinstance(node, Compute):
            row = SCALAR_OPS[node.op]
            if row.floating_only and not node.arguments[0].dtype.is_floating_point:
                raise InvalidGraph(name, f"{node.op} of {node.arguments[0].dtype}")


def _under_masks(root: Node) -> set[Node]:
    """The nodes that are computed under some mask."""
    found: set[Node] = set()
    stack = [n.value for n in walk(root) if isinstance(n, Masked)]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(operands(node))
    return found


def _verify_symbols(name: str, expression: IntExpr, allowed: Iterable[Symbol]) -> None:
    foreign = [s for s in expression.free_symbols if s not in allowed and s.name[:1] in "irt" and s.name[1:].isdigit()]
    if foreign:
        raise InvalidGraph(name, f"index {expression} mentions {foreign}, which its loops do not bind")


def _verify_bounds(name: str, load: Load, layout: Layout) -> None:
    low, high = load.index.lower, load.index.upper
    span = span_of(layout)
    if load.indirect or not span.is_constant or low is None or high is None:
        return
    if load.index.is_constant and not 0 <= int(load.index) < int(span):
        raise InvalidGraph(name, f"loads {load.buffer}[{load.index}], outside its {span} elements")
    if high < 0 or low >= int(span):
        raise InvalidGraph(name, f"loads {load.buffer}[{load.index}], outside its {span} elements")
