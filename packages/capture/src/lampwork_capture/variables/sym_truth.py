"""SymTruthValue: a bool that stays symbolic while tracing: what a comparison of sizes gave, kept in a local.

In `is_causal = length > 1 and mask is None` a length of 1 need not be a capture of its own, if what the local is used
for computes the same either way. Anything that needs the bool itself decides it by its value in this call, which
becomes a guard; where numbers that depend on data take part only the run of the graph knows, and the trace breaks.
Invariants: it stands for an exact bool; once that was needed it is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lampwork_symshape.condition import BoolExpr, eq, ge, ne
from lampwork_symshape.scalar_expr import applied
from lampwork_symshape.sym_node import expr_of

from . import operators
from .base import Tracer, Value
from .sym_emit import emit_term
from .tensor import TensorValue
from .undecided import UndecidedValue

if TYPE_CHECKING:
    from ..graph.builder import GraphBuilder
    from ..interpreter.reconstruct import ValueEmitter


class SymTruthValue(UndecidedValue):
    """A bool that is not decided yet: its condition, and the graph whose inputs that is about."""

    kind = "a symbolic truth value"
    __slots__ = ("condition",)

    def __init__(self, graph: GraphBuilder, condition: BoolExpr) -> None:
        super().__init__(graph)
        self.condition = condition

    def __repr__(self) -> str:
        return f"SymTruthValue({self.condition})"

    @property
    def is_open(self) -> bool:
        """Whether it was not decided yet."""
        return self._known is None

    def python_type(self) -> type:
        return bool

    def decide(self) -> bool:
        return self.graph.scalars.env.evaluate(self.condition)

    def is_constant(self) -> bool:
        return not self._is_of_data and self.settled().is_constant()

    def as_graph_argument(self) -> Any:
        return self.graph.number_argument(applied(self.condition)) if self._is_of_data else self.as_constant()

    @property
    def _is_of_data(self) -> bool:
        """Whether only the run of the graph knows it."""
        env = self.graph.scalars.env
        return self._known is None and env.hint_of(self.condition) is None and env.known(self.condition) is None

    def require(self) -> None:
        """State that it holds, as `torch._check` does; what depends on data the graph checks. Raises ContradictionError
        if it cannot hold."""
        self.graph.scalars.env.require(self.condition)
        self.graph.check_data()

    def truth(self, tracer: Tracer) -> bool:
        return self.as_constant()

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        left, right = (other, self.settled()) if reflected else (self.settled(), other)
        return operators.binary(tracer, op, left, right)

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.settled().call_method(tracer, name, args, kwargs)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self._is_of_data:
            emit_term(self.graph, applied(self.condition), emitter)
        else:
            self.settled().reconstruct(emitter)


def causal_for_one(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Mapping[str, Value]:
    """The arguments of attention that is causal unless there is one query: of one query over one key it is the same."""
    flag, mask = kwargs.get("is_causal"), kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
    if not isinstance(flag, SymTruthValue) or not flag.is_open or len(args) < 2:
        return kwargs
    if mask is not None and not tracer.is_none(mask):
        return kwargs
    tensors = [arg.fake for arg in (args[0].realize(), args[1].realize()) if isinstance(arg, TensorValue)]
    if len(tensors) < 2 or not all(tensor.dim() > 1 for tensor in tensors):
        return kwargs
    queries, keys = (expr_of(tensor.shape[-2]) for tensor in tensors)
    several = flag.condition is ge(queries, 2) or flag.condition is ne(queries, 1)
    if several and tracer.graph.scalars.env.known(eq(queries, keys)):
        return {**kwargs, "is_causal": tracer.constant(True)}
    return kwargs
