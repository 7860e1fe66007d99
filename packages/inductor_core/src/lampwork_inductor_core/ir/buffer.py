"""Buffers and the lowered graph: what the scheduler gets from the lowering.

A buffer is one allocation (or input, or constant) with a layout; a computed one owns loops, an extern one a call of an
ATen or library operator. Invariant: buffers stand in an order in which each reads only earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lampwork_symshape import BoolExpr, IntExpr, Symbol

from .float_expr import FloatExpr
from .layout import Layout, OpaqueLayout
from .loop_body import CheckedIndex, FloatValue, IndexValue, Load, Node, walk
from .loops import Loops, Reduction, Scatter


@dataclass(frozen=True, slots=True)
class InputBuffer:
    """A graph input. `position` is its place in the flat argument list; `static`: a parameter or module buffer.

    `integer` is what the value of an input that is a Python int equals.
    """

    name: str
    layout: Layout | OpaqueLayout
    position: int
    static: bool = False
    integer: IntExpr | None = None


@dataclass(frozen=True, slots=True)
class ConstantBuffer:
    """A tensor known at compile time."""

    name: str
    layout: Layout
    value: torch.Tensor


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a buffer comes from: the ATen nodes that it computes and the user's line, for comments and `explain`."""

    nodes: tuple[str, ...]
    user_line: str | None = None


@dataclass(frozen=True, slots=True)
class ComputedBuffer:
    """A buffer that generated code fills."""

    name: str
    layout: Layout
    loops: Loops
    origin: Origin


@dataclass(frozen=True, slots=True)
class BufferView:
    """An extern call's view of a buffer: the same memory through another layout (opaque: the value itself)."""

    buffer: str
    layout: Layout | OpaqueLayout


@dataclass(frozen=True, slots=True)
class ExternBuffer:
    """The result of calling an operator that is not generated: `target(*arguments, **keywords)`.

    Arguments are literals, `BufferView`s, and lists of these. `defines`: numbers that nobody knows before the call,
    each with the dimension of the result whose size it is (None: the result is the number). `out_variant` (optional) is
    an overload that writes into a planned allocation through `out=`. Several results: `result_index` selects from the
    call named `call`; buffers that share `call` come from one call.
    """

    name: str
    layout: Layout | OpaqueLayout
    target: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    origin: Origin
    call: str
    result_index: int | None = None
    out_variant: Any = None
    aliases: str | None = None  # the buffer whose memory the result shares, for operators that return views
    defines: tuple[tuple[IntExpr, int | None], ...] = ()


Buffer = InputBuffer | ConstantBuffer | ComputedBuffer | ExternBuffer


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """One output: a buffer seen through a layout, or a literal (None, int) that is returned as it is."""

    buffer: str | None
    layout: Layout | OpaqueLayout | None = None
    literal: Any = None


@dataclass(frozen=True, slots=True)
class LoweredGraph:
    """All buffers in order, and the outputs."""

    buffers: tuple[Buffer, ...]
    outputs: tuple[GraphOutput, ...]
    notes: tuple[str, ...] = ()  # what fell back and why, for `explain`
    by_name: Mapping[str, Buffer] = field(default_factory=dict, compare=False)


def numbers_of(buffer: InputBuffer) -> tuple[IntExpr, ...]:
    """The integers that can be read off an input: its sizes, then its strides; or its value."""
    if isinstance(buffer.layout, Layout):
        return (*buffer.layout.sizes, *buffer.layout.strides)
    return () if buffer.integer is None else (buffer.integer,)


def buffers_read(buffer: Buffer) -> set[str]:
    """The names of the buffers that a buffer is computed from."""
    names: set[str] = set()
    if isinstance(buffer, ExternBuffer):
        _collect(buffer.arguments, names)
        _collect(list(buffer.keywords.values()), names)
        if buffer.aliases is not None:
            names.add(buffer.aliases)
        return names
    loops = getattr(buffer, "loops", None)
    if loops is None:
        return names
    roots: list[Node] = [loops.body.value]
    if isinstance(loops, Scatter):
        names.add(loops.initial)
        roots.extend(n for _, n in loops.indirect)
    for root in roots:
        names.update(n.buffer for n in walk(root) if isinstance(n, Load))
    return names


def symbols_of(buffer: Buffer) -> frozenset[Symbol]:
    """The symbols that are needed to compute a buffer, and those of its own loops."""
    found: set[Symbol] = set()
    if isinstance(buffer, ExternBuffer):
        _collect_symbols((buffer.layout, buffer.arguments, buffer.keywords), found)
        for number, _ in buffer.defines:
            found -= number.free_symbols
    elif isinstance(buffer, ComputedBuffer):
        loops = buffer.loops
        roots: list[Node] = [loops.body.value]
        _collect_symbols((buffer.layout, loops.sizes), found)
        if isinstance(loops, Reduction):
            _collect_symbols(loops.reduction_sizes, found)
        if isinstance(loops, Scatter):
            found |= loops.target.free_symbols
            roots.extend(n for _, n in loops.indirect)
        for root in roots:
            for node in walk(root):
                number = _number_in(node)
                if number is not None:
                    found |= number.free_symbols
    return frozenset(found)


def _number_in(node: Node) -> IntExpr | FloatExpr | None:
    if isinstance(node, Load):
        return node.index
    if isinstance(node, IndexValue | FloatValue):
        return node.expression
    return node.size if isinstance(node, CheckedIndex) else None


def definers(buffers: Iterable[Buffer]) -> dict[Symbol, str]:
    """The symbols that calls define, each with the buffer that tells its value."""
    found: dict[Symbol, str] = {}
    for buffer in buffers:
        for number, _ in buffer.defines if isinstance(buffer, ExternBuffer) else ():
            for sym in number.free_symbols:
                found.setdefault(sym, buffer.name)
    return found


def _collect_symbols(value: Any, found: set[Symbol]) -> None:
    if isinstance(value, Layout):
        value = (*value.sizes, *value.strides, value.offset)
    if isinstance(value, BufferView):
        _collect_symbols(value.layout, found)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect_symbols(item, found)
    elif isinstance(value, dict):
        _collect_symbols(list(value.values()), found)
    elif isinstance(value, slice):
        _collect_symbols([value.start, value.stop, value.step], found)
    elif isinstance(value, IntExpr | BoolExpr | FloatExpr):
        found |= value.free_symbols


def _collect(argument: Any, names: set[str]) -> None:
    if isinstance(argument, BufferView):
        names.add(argument.buffer)
    elif isinstance(argument, (list, tuple)):
        for a in argument:
            _collect(a, names)
    elif isinstance(argument, dict):
        for a in argument.values():
            _collect(a, names)
    elif isinstance(argument, slice):
        _collect([argument.start, argument.stop, argument.step], names)
