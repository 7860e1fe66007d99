"""The body of a kernel: nodes of the loop IR as C++ statements, one for each distinct node.

Used by `kernel` for every stage. A node whose index expressions contain the vector symbol becomes a vector, every
other one stays a scalar, and each is written into the outermost block that knows its operands. Invariant: a load
under a mask is executed only for points where the mask holds, and nothing that can fail is hoisted out of its
condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Forwarded, Store
from lampwork_inductor_core.ir.loop_body import (
    CheckedIndex,
    Compute,
    Constant,
    FloatValue,
    IndexValue,
    Load,
    Masked,
    Node,
    operands,
)
from lampwork_inductor_core.ir.loops import ScatterMode
from lampwork_symshape import IntExpr, Symbol

from .expression_printer import CppPrinter
from .ops import HALF_TYPES, UnsupportedDtype, convert, literal, register_type, spell, storage_type, vector_type
from .scope import ScopeStack, Value
from .tiling import VectorLevel, VectorPlan, lane_stride


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition that what is being written stands under: a mask over lanes, or (None) a branch."""

    name: str
    mask: str | None


@dataclass(slots=True)
class BodyWriter:
    """Writes values and stores into the blocks of one kernel."""

    blocks: ScopeStack
    vector: VectorPlan | None
    dtypes: Mapping[str, torch.dtype]  # of arguments and local rows
    local_names: frozenset[str]
    active: str = "lw::all"
    uses_status: bool = False
    forwarded: dict[int, tuple[Value, int]] = field(default_factory=dict)  # by stage: value, depth of its block
    _conditions: list[_Condition] = field(default_factory=list)
    _depths: dict[Node, int] = field(default_factory=dict)
    _guarded: dict[Node, bool] = field(default_factory=dict)

    # -- where a node belongs

    def moved(self) -> None:
        """To be called whenever a block is opened or closed: depths are known anew."""
        self._depths.clear()

    def _postorder(self, root: Node, known: Mapping[Node, object]) -> list[Node]:
        order: list[Node] = []
        seen: set[Node] = set()
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in seen and node not in known:
                seen.add(node)
                stack.append((node, True))
                stack.extend((n, False) for n in operands(node))
        return order

    def _own_depth(self, node: Node) -> int:
        depth_of = self.blocks.symbol_depth
        if isinstance(node, Load):
            bound = {s for s, _ in node.indirect}
            least = max((depth_of.get(s, 0) for s in node.index.free_symbols if s not in bound), default=0)
            return self.blocks.depth if node.buffer in self.local_names else least
        if isinstance(node, IndexValue):
            return max((depth_of.get(s, 0) for s in node.expression.free_symbols), default=0)
        if isinstance(node, Forwarded):
            return self.forwarded[node.stage][1]
        return 0

    def depth_of(self, root: Node) -> int:
        """The outermost block that knows all that a node needs."""
        for node in self._postorder(root, self._depths):
            below = max((self._depths[n] for n in operands(node)), default=0)
            self._depths[node] = max(below, self._own_depth(node))
        return self._depths[root]

    def guarded(self, root: Node) -> bool:
        """Whether a node reads memory or can fail, so that it must stay under its condition."""
        for node in self._postorder(root, self._guarded):
            own = isinstance(node, (Load, CheckedIndex)) or _can_fail(node)
            self._guarded[node] = own or any(self._guarded[n] for n in operands(node))
        return self._guarded[root]

    # -- values

    def value(self, root: Node) -> Value:
        """The value of a node, its statements written where they belong."""
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if self._find(node) is not None:
                continue
            if not ready:
                stack.append((node, True))
                below = (node.condition,) if isinstance(node, Masked) else operands(node)
                stack.extend((n, False) for n in reversed(below))
                continue
            self._write(node)
        found = self._find(root)
        assert found is not None
        return found

    def _key(self, node: Node) -> object:
        if self._conditions and self.guarded(node):
            return (node, self._conditions[-1].name)
        return node

    def _find(self, node: Node) -> Value | None:
        if isinstance(node, Constant):
            return Value(literal(node.value, node.dtype), node.dtype)
        if isinstance(node, IndexValue) and node.expression.is_constant:
            return Value(literal(int(node.expression), node.dtype), node.dtype)
        if isinstance(node, Forwarded):
            return self.forwarded[node.stage][0]
        key = self._key(node)
        for scope in reversed(self.blocks.scopes):
            found = scope.values.get(key)
            if found is not None:
                return found
        return None

    def _write(self, node: Node) -> None:
        under_condition = bool(self._conditions) and self.guarded(node)
        depth = self.blocks.depth if under_condition else self.depth_of(node)
        key = self._key(node)
        if isinstance(node, Masked):
            with self.blocks.rewound(depth):
                result = self._masked(node)
        else:
            text, vector, stem = self._expression(node)
            result = self._named(text, node.dtype, vector, stem, depth)
        self.blocks.scopes[depth].values[key] = result

    def _named(self, text: str, dtype: torch.dtype, vector: bool, stem: str, depth: int) -> Value:
        if text.isidentifier():
            return Value(text, dtype, vector)
        name = self.blocks.fresh(stem)
        cpp = "const auto" if vector else f"const {register_type(dtype)}"
        self.blocks.line(f"{cpp} {name} = {text};", depth)
        return Value(name, dtype, vector)

    def _expression(self, node: Node) -> tuple[str, bool, str]:
        """Text, whether it has lanes, stem of its name."""
        if isinstance(node, Compute):
            return self._compute(node)
        if isinstance(node, Load):
            return self._load(node)
        if isinstance(node, IndexValue):
            return self._index_value(node)
        if isinstance(node, FloatValue):
            return convert(str(node.expression), torch.float64, node.dtype), False, "number"
        assert isinstance(node, CheckedIndex), type(node)
        return self._checked(node)

    def splat(self, value: Value) -> str:
        """A value with lanes."""
        return value.text if value.vector else f"{vector_type(value.dtype)}({value.text})"

    def _compute(self, node: Compute) -> tuple[str, bool, str]:
        values = [self._value_of(a) for a in node.arguments]
        vector = any(v.vector for v in values)
        source = values[0].dtype
        if node.op == "to_dtype":
            return convert(values[0].text, source, node.dtype), vector, "as_" + _short(node.dtype)
        if node.op == "bitcast":
            if source in HALF_TYPES or node.dtype in HALF_TYPES:
                raise UnsupportedDtype(source if source in HALF_TYPES else node.dtype, "a bit cast")
            return f"lw::bitcast<{register_type(node.dtype)}>({values[0].text})", vector, "bits"
        operand = values[1].dtype if node.op == "where" else source
        row = spell(node.op, operand)
        texts = [v.text for v in values]
        if vector and not row.operator:
            keep_condition = node.op == "where" and not values[0].vector
            texts = [v.text if k == 0 and keep_condition else self.splat(v) for k, v in enumerate(values)]
        if row.checks_divisor and _can_fail(node):
            self.uses_status = True
            texts[1] = f"lw::divisor({texts[1]}, failed{f', {self._where_active()}' if vector else ''})"
        result = vector_type(node.dtype) if vector else register_type(node.dtype)
        text = row.text.replace("{T}", result)
        for position, operand_text in enumerate(texts):
            text = text.replace(f"{{{position}}}", operand_text)
        if node.dtype in HALF_TYPES and not row.exact:
            text = f"lw::round_to<{storage_type(node.dtype)}>({text})"
        return text, vector, node.op

    def _value_of(self, node: Node) -> Value:
        found = self._find(node)
        assert found is not None, node
        return found

    def _lane_mask(self) -> str | None:
        return next((c.mask for c in reversed(self._conditions) if c.mask is not None), None)

    def _where_active(self) -> str:
        return self._lane_mask() or self.active

    # -- indices

    def _symbol(self) -> Symbol | None:
        return None if self.vector is None else self.vector.symbol

    def print_index(self, index: IntExpr, names: Mapping[Symbol, str] | None = None) -> str:
        """An index expression with some symbols renamed."""
        renamed = names or {}
        return CppPrinter(lambda s: renamed.get(s, s.name))(index)

    def _offset(self, name: str, index: str) -> str:
        if index == "0":
            return name
        return f"{name} + {index}" if " ? " not in index else f"{name} + ({index})"

    def _lambda(self, index: IntExpr, indirect: Mapping[Symbol, Value]) -> str:
        """The element offset as a function of the lane."""
        names = {s: f"{v.text}[lane]" if v.vector else v.text for s, v in indirect.items()}
        symbol = self._symbol()
        if symbol is not None and symbol in index.free_symbols:
            names[symbol] = f"({symbol.name} + lane)"
        return f"[&](const int64_t lane) {{ return {self.print_index(index, names)}; }}"

    def _lane_stride(self, index: IntExpr) -> int | None:
        assert self.vector is not None
        stride = lane_stride(index, self.vector.symbol, self.vector.lanes)
        return int(stride) if stride is not None and stride.is_constant else None

    def _is_lane_local(self, name: str) -> bool:
        return name in self.local_names and self.vector is not None and self.vector.level is VectorLevel.OUTER

    def _load(self, node: Load) -> tuple[str, bool, str]:
        indirect = {s: self._value_of(n) for s, n in node.indirect}
        symbol = self._symbol()
        names = {s: v.text for s, v in indirect.items()}
        if self._is_lane_local(node.buffer):
            assert self.vector is not None
            index = node.index * self.vector.lanes
            return f"lw::load({self._offset(node.buffer, self.print_index(index))}, lw::all)", True, node.buffer
        by_lane = any(v.vector for s, v in indirect.items() if s in node.index.free_symbols)
        vector = by_lane or (symbol is not None and symbol in node.index.free_symbols)
        masked_lanes = self._lane_mask() is not None
        if vector or masked_lanes:
            active = self._where_active()
            stride = None if by_lane else self._lane_stride(node.index)
            if stride == 1:
                place = self._offset(node.buffer, self.print_index(node.index, names))
                return f"lw::load({place}, {active})", True, node.buffer
            if stride != 0 or masked_lanes:
                offsets = self._lambda(node.index, indirect)
                return f"lw::gather({node.buffer}, {active}, {offsets})", True, node.buffer
        index_text = self.print_index(node.index, names)
        if node.dtype in HALF_TYPES:
            return f"lw::load({self._offset(node.buffer, index_text)})", False, node.buffer
        return f"{node.buffer}[{index_text}]", False, node.buffer

    def _index_value(self, node: IndexValue) -> tuple[str, bool, str]:
        symbol = self._symbol()
        expression = node.expression
        if symbol is None or symbol not in expression.free_symbols:
            return convert(self.print_index(expression), torch.int64, node.dtype), False, "index"
        assert self.vector is not None
        stride = lane_stride(expression, symbol, self.vector.lanes)
        if stride is not None and stride.is_constant and int(stride) == 0:
            return convert(self.print_index(expression), torch.int64, node.dtype), False, "index"
        if stride is not None:
            text = f"lw::ramp({self.print_index(expression)}, {self.print_index(stride)})"
        else:
            text = f"lw::generate<int64_t>({self._lambda(expression, {})})"
        return convert(text, torch.int64, node.dtype), True, "index"

    def _checked(self, node: CheckedIndex) -> tuple[str, bool, str]:
        value = self._value_of(node.value)
        text = convert(value.text, value.dtype, torch.int64)
        if _in_bounds(node):
            return text, value.vector, "position"
        self.uses_status = True
        size = self.print_index(node.size)
        if value.vector:
            return f"lw::checked({text}, {size}, failed, {self._where_active()})", True, "position"
        return f"lw::checked({text}, {size}, failed)", False, "position"

    # -- conditions

    def _masked(self, node: Masked) -> Value:
        condition = self.value(node.condition)
        otherwise = literal(node.otherwise, node.dtype)
        if not self.guarded(node.value):
            value = self.value(node.value)
            return self._choose(condition, value, otherwise, node.dtype)
        if not condition.vector:
            return self._branch(condition, node, otherwise)
        outer = self._where_active()
        mask = condition.text
        if outer != "lw::all":
            mask = self._named(f"{outer} & {condition.text}", torch.bool, True, "inside", self.blocks.depth).text
        self._conditions.append(_Condition(mask, mask))
        value = self.value(node.value)
        self._conditions.pop()
        return self._choose(condition, value, otherwise, node.dtype)

    def _choose(self, condition: Value, value: Value, otherwise: str, dtype: torch.dtype) -> Value:
        if not condition.vector and not value.vector:
            text = f"{condition.text} ? {value.text} : {otherwise}"
            return self._named(text, dtype, False, "padded", self.blocks.depth)
        fallback = f"{vector_type(dtype)}({otherwise})"
        text = f"lw::where({condition.text}, {self.splat(value)}, {fallback})"
        return self._named(text, dtype, True, "padded", self.blocks.depth)

    def _branch(self, condition: Value, node: Masked, otherwise: str) -> Value:
        name = self.blocks.fresh("padded")
        parent = self.blocks.depth
        lines_before = len(self.blocks.scopes[parent].lines)
        with self.blocks.block([f"if ({condition.text})"]):
            self._conditions.append(_Condition(name, None))
            value = self.value(node.value)
            self._conditions.pop()
            self.blocks.line(f"{name} = {value.text};")
        cpp = vector_type(node.dtype) if value.vector else register_type(node.dtype)
        self.blocks.scopes[parent].lines.insert(
            _if_line(self.blocks.scopes[parent].lines, lines_before, condition.text), f"{cpp} {name} = {otherwise};"
        )
        return Value(name, node.dtype, value.vector)

    # -- stores

    def store(self, store: Store, value: Value) -> None:
        """Write a value to memory, in the innermost block."""
        dtype = self.dtypes[store.argument]
        if value.dtype != dtype:
            value = Value(convert(value.text, value.dtype, dtype), dtype, value.vector)
        indirect = {s: self.value(n) for s, n in store.indirect}
        symbol = self._symbol()
        names = {s: v.text for s, v in indirect.items()}
        if self._is_lane_local(store.argument):
            assert self.vector is not None
            place = self._offset(store.argument, self.print_index(store.index * self.vector.lanes))
            self.blocks.line(f"lw::store({place}, {self.splat(value)}, lw::all);")
            return
        by_lane = any(v.vector for v in indirect.values())
        adds = store.scatter is ScatterMode.ADD
        if by_lane or (symbol is not None and symbol in self._in_scope(store.index)):
            stride = None if by_lane else self._lane_stride(store.index)
            if stride == 1:
                place = self._offset(store.argument, self.print_index(store.index, names))
                text = f"lw::load({place}, {self.active}) + {value.text}" if adds else self.splat(value)
                self.blocks.line(f"lw::store({place}, {text}, {self.active});")
                return
            offsets = self._lambda(store.index, indirect)
            text = self.splat(value)
            if adds:
                text = f"lw::gather({store.argument}, {self.active}, {offsets}) + {text}"
            self.blocks.line(f"lw::scatter({store.argument}, {text}, {self.active}, {offsets});")
            return
        index = self.print_index(store.index, names)
        if dtype in HALF_TYPES:
            place = self._offset(store.argument, index)
            text = f"lw::load({place}) + {value.text}" if adds else value.text
            self.blocks.line(f"lw::store({place}, {text});")
        elif adds:
            self.blocks.line(f"{store.argument}[{index}] += {value.text};")
        else:
            self.blocks.line(f"{store.argument}[{index}] = {value.text};")

    def _in_scope(self, index: IntExpr) -> set[Symbol]:
        return {s for s in index.free_symbols if s in self.blocks.symbol_depth}


def _if_line(lines: list[str], start: int, condition: str) -> int:
    for position in range(start, len(lines)):
        if lines[position] == f"if ({condition}) {{":
            return position
    return start


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _in_bounds(node: CheckedIndex) -> bool:
    value = node.value
    if not isinstance(value, IndexValue):
        return False
    low, high = value.expression.lower, (value.expression - node.size).upper
    return low is not None and low >= 0 and high is not None and high < 0


def _can_fail(node: Node) -> bool:
    """Integer division by something that may be zero."""
    if not isinstance(node, Compute) or node.dtype.is_floating_point or node.dtype == torch.bool:
        return False
    if node.op not in ("floordiv", "truncdiv", "remainder", "fmod"):
        return False
    divisor = node.arguments[1]
    return not (isinstance(divisor, Constant) and divisor.value != 0)
