"""ScalarInputs: the numbers of one trace that are symbols: Python ints and floats, sizes and strides of input tensors.

A Python number becomes one when its source was seen to vary; `tensor_sizes` says which sizes do. Ints are symbols of a
ShapeEnv, floats of its float expressions; what the trace decides about them is recorded there, and `guards` gives it as
facts about sources. Invariant: every number is an exact int of 64 bits or an exact float, and everything that the trace
assumed of its value is a fact.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
import torch.fx
from lampwork_symshape.condition import BoolExpr, eq
from lampwork_symshape.expr import IntExpr, Symbol
from lampwork_symshape.kind import Kind
from lampwork_symshape.scalar_expr import FloatSymbol, ScalarExpr, ScalarFact, ScalarTerm, applied, evaluate, select
from lampwork_symshape.shape_guard import Quantity, SizeSource, SymbolBinding, shape_guards
from lampwork_symshape.shape_symbol import ShapeSymbol, UserFrame
from lampwork_symshape.sym_node import TorchShapeEnv, choose, expr_of, term_of_symbol

from ..graph_break import BreakId, GraphBreak, ShapeOfDataBreak
from ..guards.facts import ByIdentity, ConstantIs, Guard, IntegerWithin, ScalarIs, TypeIs, UserLine
from ..guards.scalar_program import DEEPEST, EQUAL, MOST_NUMBERS, program_of
from ..source import Source, TensorSizeSource, TensorStrideSource
from ..varying import Varying
from .subgraph import EXAMPLE

SMALLEST, LARGEST = -(2**63), 2**63 - 1
NumberSymbol = Symbol | FloatSymbol
OfTensor: TypeAlias = TensorSizeSource | TensorStrideSource


@dataclass(frozen=True, slots=True)
class OfData:
    """Where the graph finds a number that depends on data: a size of what a node gives, or that itself (`dim` None).

    `path`: the indices of the tensor in nested results."""

    node: torch.fx.Node
    path: tuple[int, ...]
    dim: int | None


class NodeMaker(Protocol):
    """The graph under construction, as far as numbers are put into it."""

    @property
    def graph(self) -> torch.fx.Graph:
        """The one that is being recorded into."""
        ...

    def add_number(self, source: Source, value: int | float, symbol: Any) -> torch.fx.Node:
        """The placeholder of a Python number."""
        ...

    def add_number_of_tensor(self, source: OfTensor, symbol: Any) -> torch.fx.Node:
        """The node that reads a size or a stride of an input tensor."""
        ...

    def add_number_of_data(self, source: OfData, symbol: Any) -> torch.fx.Node:
        """The node that reads a number which depends on data."""
        ...

    def add_arithmetic(self, function: Callable[..., Any], args: tuple[Any, ...], symbol: Any) -> torch.fx.Node:
        """The node that computes a number."""
        ...


@dataclass(frozen=True, slots=True)
class _TensorNumber:
    """A size or stride that is a symbol: what it is in this call, what the trace takes it for, where it stands."""

    actual: int
    hint: int
    sources: list[OfTensor]


class ScalarInputs:
    """The symbolic numbers of one trace.

    `varying`: the sources whose numbers varied between calls. `find_line`: the user's line that is being traced.
    """

    def __init__(self, varying: Varying, find_line: Callable[[], UserLine]) -> None:
        self._varying = varying
        self._find_line = find_line
        self._symbols: dict[Source, NumberSymbol] = {}
        self._source_of: dict[NumberSymbol, Source] = {}
        self._value_of: dict[NumberSymbol, int | float] = {}
        self._of_tensors: dict[Symbol, _TensorNumber] = {}
        self._of_data: dict[Symbol, OfData] = {}
        self._nodes: dict[tuple[torch.fx.Graph, Any], torch.fx.Node] = {}
        self.operation = ""  # what is being run on fake tensors
        self._kept: list[ScalarTerm] = []  # ids stay valid

    @functools.cached_property
    def env(self) -> TorchShapeEnv:
        """What is assumed of the numbers, made when the first one is asked for."""
        return TorchShapeEnv(duck_shaping=False, symbolic_floats=True, find_frame=self._frame, undecidable=_undecidable)

    def release(self) -> None:
        """The trace is over. What is kept of its symbols, in the fakes of the graph, must not keep it alive."""
        if "env" in vars(self):
            self.env.forget_frames()

    def _frame(self) -> UserFrame:
        """The user's line that is being traced, and the operation that runs."""
        line = self._find_line()
        return UserFrame(line.filename, line.line, line.function, self.operation)

    def __bool__(self) -> bool:
        return bool(self._symbols or self._of_tensors or self._of_data)

    def takes(self, value: Any, source: Source) -> bool:
        """Whether the number at a source shall be an input."""
        if source not in self._varying:
            return False
        return type(value) is float or (type(value) is int and SMALLEST <= value <= LARGEST)

    def add(self, value: int | float, source: Source) -> NumberSymbol:
        """The symbol for the number at a source, one for each source."""
        known = self._symbols.get(source)
        if known is None:
            if isinstance(value, float):
                known = self.env.create_float(value, str(source))
            else:
                known = self.env.create_backed(value, str(source), lower=SMALLEST, upper=LARGEST)
            self._symbols[source] = known
            self._source_of[known] = source
            self._value_of[known] = value
        return known

    def add_size(
        self, source: TensorSizeSource, size: int, hint: int, lower: int, upper: int | None, shared: Symbol | None
    ) -> Symbol:
        """The symbol for a size of an input tensor, in [lower, upper]: a new one, or one that it is always equal to."""
        if shared is not None:
            self._of_tensors[shared].sources.append(source)
            return shared
        return self._add_of_tensor(source, size, hint, lower, upper)

    def add_stride(self, source: TensorStrideSource, stride: int) -> Symbol:
        """The symbol for a stride of an input tensor."""
        return self._add_of_tensor(source, stride, stride, 0, None)

    def _add_of_tensor(self, source: OfTensor, actual: int, hint: int, lower: int, upper: int | None) -> Symbol:
        made = self.env.create_backed(hint, str(source), lower=lower, upper=upper)
        self._of_tensors[made] = _TensorNumber(actual, hint, [source])
        self._source_of[made] = source
        self._value_of[made] = actual
        return made

    def add_of_data(self, number: torch.SymInt, source: OfData) -> Iterator[Symbol]:
        """Where the graph finds a number that depends on data, if it is not known yet and is one symbol: gives that."""
        expr = expr_of(number)
        if isinstance(expr, Symbol) and expr not in self._source_of and expr not in self._of_data:
            self._of_data[expr] = source
            yield expr

    def is_backed(self, number: torch.SymInt) -> bool:
        """Whether a symbolic number is known before the graph runs."""
        return self.env.hint_of(expr_of(number)) is not None

    def is_of_data(self, symbol: NumberSymbol) -> bool:
        """Whether it is a number that only the run of the graph knows."""
        return symbol not in self._source_of

    def has_all(self, term: IntExpr | BoolExpr) -> bool:
        """Whether the graph can compute a term."""
        return all(s in self._of_data or s in self._source_of for s in term.free_symbols)

    def values_of(self, symbol: Symbol) -> tuple[int, int]:
        """What a size is in this call, and what the trace takes it for."""
        number = self._of_tensors[symbol]
        return number.actual, number.hint

    def is_of_tensors(self, term: ScalarTerm) -> bool:
        """Whether a term is made of sizes and strides alone, which any graph can read that has the tensors."""
        return isinstance(term, IntExpr) and term.free_symbols <= self._of_tensors.keys()

    def first_wrong(self) -> str | None:
        """What the trace assumed that does not hold in this call, where it took sizes for others; None if all does."""
        values = {s: int(value) for s, value in self._value_of.items() if isinstance(s, Symbol)}
        for fact in self.env.facts:
            if not fact.deferred and not fact.condition.evaluate(values):
                return str(fact)
        floats = {s: float(value) for s, value in self._value_of.items() if isinstance(s, FloatSymbol)}
        for fact in self.env.scalar_facts:
            if not _still_gives(fact, values, floats):
                return str(fact.expr)
        return None

    def source_of(self, symbol: NumberSymbol) -> Source:
        """Where the number behind a symbol comes from."""
        return self._source_of[symbol]

    def symbol_of(self, term: ScalarTerm) -> Any:
        """What torch's operations take for a term while tracing: a SymInt, a SymFloat or a number."""
        if isinstance(term, IntExpr):
            return self.env.sym_int(term)
        return self.env.sym_float(term) if isinstance(term, ScalarExpr | FloatSymbol) else term

    # In the graph

    def argument(self, term: ScalarTerm, maker: NodeMaker, *, as_it_is: bool = False) -> Any:
        """What an FX node takes for a term: a placeholder, the node that computes it, or a number.

        `as_it_is`: whatever facts say of its symbols, for the checks that make them facts.
        """
        if isinstance(term, IntExpr) and not as_it_is:
            term = self.env.simplified(term)
        key = (maker.graph, term if isinstance(term, IntExpr) else id(term))
        known = self._nodes.get(key)
        if known is not None:
            return known
        if isinstance(term, Symbol) and term in self._of_tensors:
            node = maker.add_number_of_tensor(self._of_tensors[term].sources[0], self.symbol_of(term))
        elif isinstance(term, Symbol) and self.is_of_data(term):
            node = maker.add_number_of_data(self._data_source(term), self.symbol_of(term))
        elif isinstance(term, Symbol | FloatSymbol):
            node = maker.add_number(self._source_of[term], self._value_of[term], self.symbol_of(term))
        else:
            tree = applied(term)
            if not isinstance(tree, ScalarExpr):
                return tree
            operands = tuple(self.argument(operand, maker, as_it_is=as_it_is) for operand in tree.operands)
            function = _IN_GRAPH.get(tree.function, tree.function)
            node = maker.add_arithmetic(function, operands, self._symbol_of_application(term, function, operands))
        self._nodes[key] = node
        self._kept.append(term)
        return node

    def _symbol_of_application(self, term: ScalarTerm, function: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """`symbol_of` a term that is the application of a function; a part of an integer expression is an integer."""
        if isinstance(term, ScalarExpr) and function in _OF_INTEGERS:
            examples = [o.meta[EXAMPLE] if isinstance(o, torch.fx.Node) else o for o in operands]
            if all(isinstance(example, _INTEGERS) for example in examples):
                return function(*examples)
        return self.symbol_of(term)

    def _data_source(self, symbol: Symbol) -> OfData:
        found = self._of_data.get(symbol)
        if found is None:
            origin = self.env.describe(symbol).origin
            raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"{origin} is no size of a tensor that is at hand")
        return found

    # What was assumed

    def settle(self, example: Any) -> Any:
        """The number that a symbolic number is in this call, which becomes a fact; anything else is itself."""
        if isinstance(example, torch.SymInt | torch.SymFloat | torch.SymBool):
            return self.env.decide_scalar(term_of_symbol(example))
        return example

    def guards(self) -> Iterator[Guard]:
        """What the trace relies on, as facts about sources."""
        if not self:
            return
        for source, symbol in self._symbols.items():
            yield Guard(
                IntegerWithin(source, SMALLEST, LARGEST) if isinstance(symbol, Symbol) else TypeIs(source, float)
            )
        ints: dict[Symbol, list[SizeSource]] = {}
        for s, source in self._source_of.items():
            if isinstance(s, Symbol):
                found = self._of_tensors[s].sources if s in self._of_tensors else [source]
                ints[s] = [SizeSource(each, quantity=_QUANTITY.get(type(each), Quantity.VALUE)) for each in found]
        shape = shape_guards(self.env, ints)
        for binding in shape.bindings:
            if binding.symbol in self._of_tensors:
                yield from _guards_of_binding(binding, self._of_tensors[binding.symbol].sources)
        for check in shape.checks:
            yield from self._guards_of(check.condition, True, check.frame)
        for fact in self.env.scalar_facts:
            yield from self._guards_of(fact.expr, fact.value, fact.frame)

    def _guards_of(self, term: ScalarTerm | BoolExpr, expected: Any, frame: UserFrame | None) -> Iterator[Guard]:
        """That a term is what it is in this call; where that is too long to check, that its numbers are."""
        line, operation = _line(frame), "" if frame is None else frame.text
        program, symbols = program_of(term)
        alone = isinstance(term, FloatSymbol) or self._is_value(term)
        if alone or len(symbols) > MOST_NUMBERS or program.depth > DEEPEST:
            for symbol in symbols:
                yield Guard(ConstantIs(self._source_of[symbol], ByIdentity(self._value_of[symbol])), line, operation)
            return
        first, *others = (self._source_of[symbol] for symbol in symbols)
        yield Guard(ScalarIs(first, tuple(others), program, ByIdentity(expected)), line, operation)

    def _is_value(self, term: ScalarTerm | BoolExpr) -> bool:
        """Whether it says of one integer that it is the value of this call."""
        if not isinstance(term, BoolExpr) or term.kind is not Kind.EQ:
            return False
        return any(term is eq(symbol, int(self._value_of[symbol])) for symbol in term.free_symbols)


def _still_gives(fact: ScalarFact, ints: Mapping[Symbol, int], floats: Mapping[FloatSymbol, float]) -> bool:
    """Whether a number is what it was taken for, with these values of the symbols."""
    try:
        found = evaluate(fact.expr, ints, floats)
    except (ArithmeticError, ValueError):
        return False
    return type(found) is type(fact.value) and repr(found) == repr(fact.value)  # 0.0 is not -0.0


def _guards_of_binding(binding: SymbolBinding, sources: list[OfTensor]) -> Iterator[Guard]:
    """That a size is within its bounds, and that sizes which share a symbol are equal."""
    first, *others = sources
    if binding.lower is not None or binding.upper is not None:
        lower = 0 if binding.lower is None else binding.lower
        yield Guard(IntegerWithin(first, lower, LARGEST if binding.upper is None else binding.upper))
    for other in others:
        yield Guard(ScalarIs(first, (other,), EQUAL, ByIdentity(True)))


def _undecidable(what: str, unknown: Sequence[ShapeSymbol], frame: UserFrame | None) -> Exception:
    """The break where Python needs what depends on data."""
    names = ", ".join(f"{found.symbol} is {found.origin}" for found in unknown)
    cause = f"{what} is known when the graph runs: {names}"
    if what.startswith("whether"):
        return ShapeOfDataBreak(cause, BreakId.DATA_DEPENDENT_BRANCH, hint=_STATE)
    return ShapeOfDataBreak(cause)


def _line(frame: UserFrame | None) -> UserLine | None:
    return None if frame is None else UserLine(frame.filename, frame.line, frame.function)


_STATE = (
    "State what always holds with `torch._check(...)`, use `torch.where` or `torch.cond`, or keep the branch outside."
)
_QUANTITY: Mapping[type, Quantity] = {TensorSizeSource: Quantity.SIZE, TensorStrideSource: Quantity.STRIDE}

# In a graph that is traced again these also take symbolic numbers
_IN_GRAPH: Mapping[Callable[..., Any], Callable[..., Any]] = {
    min: torch.sym_min,
    max: torch.sym_max,
    float: torch.sym_float,
    select: choose,
}
_INTEGERS = (int, torch.SymInt, torch.SymBool)  # bool is an int
_OF_INTEGERS = frozenset({operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    torch.sym_min, torch.sym_max, choose, operator.eq, operator.ne, operator.lt, operator.le, operator.and_,
    operator.or_})  # fmt: skip

__all__ = ["LARGEST", "SMALLEST", "ScalarInputs"]
