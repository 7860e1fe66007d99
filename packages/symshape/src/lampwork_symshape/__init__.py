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
from .value_range import ValueRange

__version__ = "0.1.0"
