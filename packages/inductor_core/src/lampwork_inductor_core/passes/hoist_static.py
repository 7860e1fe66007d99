"""hoist_static: what depends only on parameters and constants leaves the graph and is computed once.

After all passes, before the lowering: folded and packed weights, rotary tables, masks. The result is a static program,
which the runtime runs eagerly, keeps, and runs again when a parameter changes, and the rest, where the program's values
are further inputs. Invariant: no random or mutating call is hoisted, nor anything whose memory a caller could get.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from .dead_code import may_raise
from .rewriting import PassContext, is_view, owners_of_results
from .static_nodes import static_nodes

aten = torch.ops.aten
_CONSTANT_LIMIT = 1 << 24  # bytes of a hoisted tensor that is made of nothing
_CREATION = frozenset(
    {
        aten.full, aten.full_like, aten.zeros, aten.zeros_like, aten.ones, aten.ones_like, aten.empty, aten.empty_like,
        aten.arange, aten.scalar_tensor, aten.eye, aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty,
        aten.empty_strided, aten.new_empty_strided, aten.empty_permuted, torch.ops.prims.iota,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StaticProgram:
    """What is computed once: called with `[inputs[k] for k in positions]`, it gives the hoisted values.

    `positions` index the original graph's inputs; `names` are the placeholders that take the values, in order, after
    the original inputs. `graph` is over these positions; the constants that it reads are attributes of `holder`.
    """

    graph: torch.fx.Graph
    holder: torch.fx.GraphModule
    positions: tuple[int, ...]
    names: tuple[str, ...]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run it, operator by operator: it runs once, so code for it would not pay. Frees what is no longer used."""
        last: dict[torch.fx.Node, torch.fx.Node] = {}
        for node in self.graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        values: dict[torch.fx.Node, Any] = {}
        remaining = iter(inputs)
        for node in self.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(remaining)
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(str(node.target))(self.holder)
            elif node.op == "output":
                return list(torch.fx.map_arg(node.args[0], values.__getitem__))
            else:
                arguments = torch.fx.map_arg(node.args, values.__getitem__)
                keywords = torch.fx.map_arg(node.kwargs, values.__getitem__)
                values[node] = node.target(*arguments, **keywords)
            for used in node.all_input_nodes:
                if last[used] is node:
                    del values[used]
        raise AssertionError("a graph without an output")


@dataclass(frozen=True, slots=True)
class Hoisted:
    """The two parts. `program` is None where nothing was worth it."""

    graph: torch.fx.GraphModule
    program: StaticProgram | None


def hoist_static(graph: torch.fx.GraphModule, context: PassContext) -> Hoisted:
    """Split a graph, which is changed. It keeps all original placeholders in place and gets one more a hoisted value
    (`meta["hoisted"]`, `meta["static_input"]`)."""
    roots = _roots(graph, context)
    if not roots:
        return Hoisted(graph, None)
    program, positions = _program(graph, roots)
    names = _replace_roots(graph, roots)
    return Hoisted(graph, StaticProgram(program, graph, positions, names))


def _roots(graph: torch.fx.GraphModule, context: PassContext) -> list[torch.fx.Node]:
    """The static nodes that the rest of the graph uses and that are worth keeping, in graph order."""
    static = static_nodes(graph)
    owners = owners_of_results(graph)
    sources = _static_bytes(graph, static)
    stays: set[torch.fx.Node] = set()
    roots: list[torch.fx.Node] = []
    for node in reversed(graph.graph.nodes):
        if node.op == "output" or node not in static:
            stays.add(node)
            continue
        if node.op in ("placeholder", "get_attr") or not any(u in stays for u in node.users):
            continue
        if node in owners or not _is_worth_it(node, sources, context):
            stays.add(node)
        else:
            roots.append(node)
    roots.reverse()
    return roots


def _static_bytes(graph: torch.fx.GraphModule, static: set[torch.fx.Node]) -> dict[torch.fx.Node, int]:
    """About how many bytes of static inputs each static node is computed from (shared ones counted again)."""
    totals: dict[torch.fx.Node, int] = {}
    for node in graph.graph.nodes:
        if node not in static:
            continue
        if node.op in ("placeholder", "get_attr"):
            totals[node] = _bytes(node.meta.get("val"))
        else:
            totals[node] = sum(totals[n] for n in node.all_input_nodes)
    return totals


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def _is_worth_it(node: torch.fx.Node, sources: dict[torch.fx.Node, int], context: PassContext) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or is_view(node) or _is_creation(node):
        return False
    if node.meta.get("opaque"):
        return True
    if any(not isinstance(s, int) for s in value.shape) or value.numel() == 0:
        return False
    source = sources[node]
    limit = _CONSTANT_LIMIT if source == 0 else max(source * context.config.hoist_max_growth, 1 << 16)
    return _bytes(value) <= limit


def _is_creation(node: torch.fx.Node) -> bool:
    return getattr(node.target, "overloadpacket", None) in _CREATION


def _program(graph: torch.fx.GraphModule, roots: list[torch.fx.Node]) -> tuple[torch.fx.Graph, tuple[int, ...]]:
    needed: set[torch.fx.Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    new = torch.fx.Graph()
    mapping: dict[torch.fx.Node, torch.fx.Node] = {}
    positions: list[int] = []
    position = -1
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            position += 1
        if node not in needed:
            continue
        if node.op == "placeholder":
            positions.append(position)
        mapping[node] = new.node_copy(node, mapping.__getitem__)
        mapping[node].meta = copy.copy(node.meta)
    new.output([mapping[r] for r in roots])
    return new, tuple(positions)


def _replace_roots(graph: torch.fx.GraphModule, roots: list[torch.fx.Node]) -> tuple[str, ...]:
    checks = {n for n in graph.graph.nodes if not n.users and may_raise(n)}
    first = next(n for n in graph.graph.nodes if n.op != "placeholder")
    names: list[str] = []
    with graph.graph.inserting_before(first):
        for root in roots:
            value = graph.graph.placeholder(f"hoisted_{root.name}")
            value.meta = {**root.meta, "hoisted": True, "static_input": True}
            root.replace_all_uses_with(value)
            names.append(value.name)
    for node in reversed(list(graph.graph.nodes)):
        if node.op in ("placeholder", "output") or node in checks:
            continue
        if not node.users and _is_removable(node):
            graph.graph.erase_node(node)
    return tuple(names)


def _is_removable(node: torch.fx.Node) -> bool:
    if node.op == "get_attr" or node.target is operator.getitem:
        return True
    tags = getattr(node.target, "tags", ())
    schema = getattr(node.target, "_schema", None)
    return torch.Tag.nondeterministic_seeded not in tags and schema is not None and not schema.is_mutable
