"""Symbolic integers, value ranges and shape facts for tensor compilers.

The package's public names. `expr` and `condition` build, `prove` decides, `shape_env` records what a program relied on.
Invariant: importing this module imports neither torch nor sympy.
"""

from .condition import (
    FALSE,
    TRUE,
    BoolExpr,
    and_,
    boolean,
    eq,
    ge,
    gt,
    le,
    lt,
    ne,
    not_,
    or_,
    where,
)
from .dim_policy import LEAST_SIZE, DimDecision, DimMark, DimPolicy, decide_dims
from .expr import (
    Integer,
    IntExpr,
    Symbol,
    as_expr,
    ceil_div,
    floor_div,
    integer,
    linear_terms,
    maximum,
    minimum,
    mod,
    product,
    stride_of,
    sum_,
    symbol,
)
from .kind import Kind
from .node import Expr, SymbolicValueError
from .printer import Precedence, Printer, PythonPrinter
from .prove import Facts, Truth, prove, simplify
from .shape_env import ContradictionError, DataDependentError, Fact, ShapeEnv, Specialization
from .shape_guard import Quantity, ShapeCheck, ShapeGuards, SizeSource, SymbolBinding, shape_guards
from .shape_symbol import ShapeSymbol, SymbolKind, UserFrame
from .value_range import ValueRange

__version__ = "0.1.0"

__all__ = [
    "FALSE",
    "LEAST_SIZE",
    "TRUE",
    "BoolExpr",
    "ContradictionError",
    "DataDependentError",
    "DimDecision",
    "DimMark",
    "DimPolicy",
    "Expr",
    "Fact",
    "Facts",
    "IntExpr",
    "Integer",
    "Kind",
    "Precedence",
    "Printer",
    "PythonPrinter",
    "Quantity",
    "ShapeCheck",
    "ShapeEnv",
    "ShapeGuards",
    "ShapeSymbol",
    "SizeSource",
    "Specialization",
    "Symbol",
    "SymbolBinding",
    "SymbolKind",
    "SymbolicValueError",
    "Truth",
    "UserFrame",
    "ValueRange",
    "and_",
    "as_expr",
    "boolean",
    "ceil_div",
    "decide_dims",
    "eq",
    "floor_div",
    "ge",
    "gt",
    "integer",
    "le",
    "linear_terms",
    "lt",
    "maximum",
    "minimum",
    "mod",
    "ne",
    "not_",
    "or_",
    "product",
    "prove",
    "shape_guards",
    "simplify",
    "stride_of",
    "sum_",
    "symbol",
    "where",
]
