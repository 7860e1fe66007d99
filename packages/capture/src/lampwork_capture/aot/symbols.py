"""Symbolic sizes in a functional graph: the node that computes a SymInt from the graph's inputs.

An integer argument that is symbolic must become a graph value: an integer input, a size of an input tensor, or
arithmetic on those. Invariant: it knows symbolic integers only through their printed expression, so it serves every
owner of symbols (ours and torch's); an expression that it cannot read raises UnsupportedForAot.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from lampwork_symshape import BoolExpr, IntExpr, Symbol
from lampwork_symshape.float_node import FloatNode
from lampwork_symshape.scalar_expr import FloatSymbol, ScalarExpr, applied, structure_of
from lampwork_symshape.sym_node import TorchShapeEnv, choose
from torch import SymBool, SymFloat, SymInt, Tensor, fx

from .errors import UnsupportedForAot

CreateNode: TypeAlias = Callable[[Any, "tuple[Any, ...]", "dict[str, Any]", Any], fx.Node]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "Max": torch.sym_max,
    "Min": torch.sym_min,
    "max": torch.sym_max,
    "min": torch.sym_min,
}


class SymbolTable:
    """Maps printed expressions to nodes; `create` adds a node to the graph under construction."""

    def __init__(self, create: CreateNode) -> None:
        self._create = create
        self._scalars: dict[str, tuple[fx.Node, SymInt]] = {}
        self._dimensions: dict[str, tuple[fx.Node, Any, int, SymInt]] = {}
        self._floats: dict[str, fx.Node] = {}
        self._terms: list[object] = []

    def add_scalar(self, node: fx.Node, value: SymInt | SymFloat) -> None:
        """An input that is a number."""
        if isinstance(value, SymFloat):
            self._floats.setdefault(str(value.node), node)
            return
        self._scalars.setdefault(str(value), (node, value))

    def add_tensor(self, node: fx.Node, value: Tensor) -> None:
        """An input tensor: its symbolic sizes and strides can be read from it."""
        for op, numbers in (
            (torch.ops.aten.sym_size.int, value.shape),
            (torch.ops.aten.sym_stride.int, value.stride()),
        ):
            for dim, number in enumerate(numbers):
                if isinstance(number, SymInt):
                    self._dimensions.setdefault(str(number), (node, op, dim, number))

    def resolve(self, value: SymInt) -> fx.Node | int:
        """The node (or plain integer) that is `value`."""
        text = str(value)
        if text.lstrip("-").isdigit():
            return int(text)
        found = self._lookup(text)
        if found is not None:
            return found[0]
        try:
            tree = ast.parse(text, mode="eval").body
        except SyntaxError:
            raise UnsupportedForAot(f"the symbolic size {text} cannot be written as a graph value") from None
        result = self._build(tree, text)
        return result if isinstance(result, int) else result[0]

    def resolve_float(self, value: SymFloat) -> fx.Node | float:
        """The node (or plain float) that is `value`. Raises UnsupportedForAot for a float that is not ours."""
        node: Any = value.node
        if not isinstance(node, FloatNode):
            constant = node.maybe_as_float()
            if constant is None:
                raise UnsupportedForAot("a symbolic float of another environment is used as an argument")
            return constant
        return self._scalar(applied(node.term), node.shape_env)

    def resolve_condition(self, condition: BoolExpr, env: TorchShapeEnv) -> fx.Node | bool:
        """The node (or plain bool) of a condition on integers."""
        tree = applied(condition)
        if not isinstance(tree, ScalarExpr):
            return bool(tree)
        operands = tuple(self._scalar(operand, env) for operand in tree.operands)
        return self._create(tree.function, operands, {}, SymBool(env.node_of(condition)))

    def has(self, symbols: Iterable[Symbol]) -> bool:
        """Whether the graph has values for all of these symbols."""
        return all(s.name in self._scalars or s.name in self._dimensions for s in symbols)

    def _scalar(self, term: Any, env: TorchShapeEnv) -> Any:
        """The node or number of a term of Python functions over symbols and literals."""
        if isinstance(term, ScalarExpr):
            key = repr(structure_of(term))
            known = self._floats.get(key)
            if known is None:
                operands = tuple(self._scalar(operand, env) for operand in term.operands)
                known = self._floats[key] = self._create(term.function, operands, {}, env.sym_float(term))
                self._terms.append(term)  # the key names it by its address
            return known
        if isinstance(term, IntExpr):
            number = env.sym_int(term)
            return number if isinstance(number, int) else self.resolve(number)
        if isinstance(term, FloatSymbol):
            found = self._floats.get(term.name)
            if found is None:
                raise UnsupportedForAot(f"no input gives the float {term.name}")
            return found
        return term

    def _lookup(self, text: str) -> tuple[fx.Node, SymInt] | None:
        known = self._scalars.get(text)
        if known is not None:
            return known
        place = self._dimensions.get(text)
        if place is None:
            return None
        tensor, op, dim, number = place
        entry = (self._create(op, (tensor, dim), {}, number), number)
        self._scalars[text] = entry
        return entry

    def _build(self, tree: ast.expr, whole: str) -> int | tuple[fx.Node, Any]:
        if isinstance(tree, ast.Constant) and type(tree.value) is int:
            return tree.value
        if isinstance(tree, ast.Name):
            found = self._lookup(tree.id)
            if found is not None:
                return found
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return self._apply(operator.mul, -1, self._build(tree.operand, whole))
        if isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
            return self._apply(_BINARY[type(tree.op)], self._build(tree.left, whole), self._build(tree.right, whole))
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in _CALLS and tree.args:
            result = self._build(tree.args[0], whole)
            for operand in tree.args[1:]:
                result = self._apply(_CALLS[tree.func.id], result, self._build(operand, whole))
            return result
        if isinstance(tree, ast.IfExp):
            test = self._condition(tree.test, whole)
            branches = [self._build(branch, whole) for branch in (tree.body, tree.orelse)]
            return branches[not test] if isinstance(test, int) else self._apply(choose, test, *branches)
        raise UnsupportedForAot(f"the symbolic size {whole} cannot be written as a graph value")

    def _condition(self, tree: ast.expr, whole: str) -> int | tuple[fx.Node, Any]:
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
            compare = _COMPARISONS[type(tree.ops[0])]
            return self._apply(compare, *(self._build(side, whole) for side in (tree.left, tree.comparators[0])))
        if isinstance(tree, ast.BoolOp):
            join = operator.and_ if isinstance(tree.op, ast.And) else operator.or_
            first, *others = (self._condition(part, whole) for part in tree.values)
            for other in others:
                first = self._apply(join, first, other)
            return first
        raise UnsupportedForAot(f"the symbolic size {whole} cannot be written as a graph value")

    def _apply(self, function: Callable[..., Any], *operands: int | tuple[fx.Node, Any]) -> int | tuple[fx.Node, Any]:
        if all(isinstance(operand, int) for operand in operands):
            return math.trunc(function(*operands))
        arguments = tuple(operand if isinstance(operand, int) else operand[0] for operand in operands)
        value = function(*(operand if isinstance(operand, int) else operand[1] for operand in operands))
        text = str(value)
        known = self._scalars.get(text)
        if known is not None:
            return known
        entry = (self._create(function, arguments, {}, value), value)
        self._scalars[text] = entry
        return entry
