"""The object behind `torch.SymInt` and `torch.SymBool`, and the environment that torch's fake tensors expect.

With `layout_questions` all that imports torch, which calls a node's methods by name, from C++ and from Python, to
compute with sizes and to decide conditions about them; each is a few operations on our own expressions.
Invariant: an answer is proven or recorded as a fact of the environment, with the user's line.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import _BypassDispatchCache

from .condition import Boolean, BoolExpr, and_, as_condition, boolean, eq, ge, gt, le, lt, ne, not_, or_, where
from .contiguity import (
    CHANNELS_LAST_2D,
    CHANNELS_LAST_3D,
    dense_in_order,
    has_channels_last_strides,
    is_dense_by_stride,
    is_row_major,
)
from .expr import IntExpr, Symbol, as_expr, integer, maximum, minimum, product, sum_
from .float_node import FloatNode, compute, number_node, term_of
from .layout_questions import asks_for_the_last, is_answer_seen, is_layout_question
from .node import Expr
from .scalar_expr import ScalarTerm
from .shape_env import ShapeEnv


class SymbolicFloatError(RuntimeError):
    """A float was asked of a size that has no known value."""

    def __init__(self, operation: str) -> None:
        self.hint = "use integer arithmetic on sizes (`//` for `/`)."
        super().__init__(f"floats are not symbolic, so {operation} needs a known value. Hint: {self.hint}")


class TorchShapeEnv(ShapeEnv):
    """A ShapeEnv with the names that `FakeTensorMode(shape_env=...)` and torch's meta kernels use.

    `symbolic_floats`: a float that is computed from symbolic integers is an expression; else it specializes them.
    """

    allow_scalar_outputs = False
    allow_dynamic_output_shape_ops = False

    def __init__(self, **options: Any) -> None:
        self.symbolic_floats: bool = options.pop("symbolic_floats", False)
        super().__init__(**options)
        self.fake_tensor_cache: dict[Any, Any] = {}
        self.pending_fresh_unbacked_symbols: list[Symbol] = []
        self.settings: tuple[object, ...] = (type(self).__name__,)

    def evaluate_sym_node(
        self, node: SymNode, size_oblivious: bool = False, fallback_value: bool | None = None
    ) -> bool:
        """Decide a condition. `fallback_value` is the answer after which torch's code is right whatever holds.

        So a condition that only the run time knows gets it, and one that has this value now is not a fact. Where the
        answer shows in the result nevertheless, what only the run time knows is taken for many, which is checked.
        """
        condition = cast(BoolExpr, node.expr)
        if fallback_value is None:
            return self.evaluate(condition)
        if is_answer_seen():
            with self.unknown_as_many():
                return self.evaluate(condition)
        wanted = not_(condition) if fallback_value else condition
        known = self.known(wanted)
        if known is None:
            known = self.hint_of(wanted) is True and (
                is_layout_question() or (not asks_for_the_last() and self.evaluate(wanted))
            )
        return known is not fallback_value

    def _maybe_evaluate_static(self, expr: object, **_: object) -> bool | None:
        return self.known(expr) if isinstance(expr, BoolExpr) else None

    def suppress_guards(self) -> AbstractContextManager[None]:
        """`suppress_facts`, under torch's name."""
        return self.suppress_facts()

    def ignore_fresh_unbacked_symbols(self) -> AbstractContextManager[None]:
        """Nothing to ignore: unbacked symbols are not tracked as pending."""
        return nullcontext()

    def create_unbacked_symint(self) -> torch.SymInt:
        """A size that only the run time knows."""
        frame = self._find_frame()
        return sym_int(
            self.create_unbacked(f"a value computed at {frame}" if frame else "a computed value", lower=0), self
        )

    def node_of(self, expr: IntExpr | BoolExpr) -> SymNode:
        """The node of an expression of this environment."""
        return SymNode(expr, self)

    def sym_float(self, term: ScalarTerm) -> torch.SymFloat:
        """What to give torch for a float."""
        return torch.SymFloat(FloatNode(term, self))

    def sym_int(self, expr: IntExpr | int) -> torch.SymInt | int:
        """What to give torch for an expression: an int for a literal, else a SymInt."""
        return expr if isinstance(expr, int) else int(expr) if expr.is_constant else sym_int(expr, self)


def sym_int(expr: IntExpr, env: TorchShapeEnv) -> torch.SymInt:
    """A `torch.SymInt` that stands for `expr`."""
    return torch.SymInt(SymNode(expr, env))


def expr_of(value: int | torch.SymInt) -> IntExpr:
    """The expression behind a SymInt of ours, or a literal. Raises TypeError for another's SymInt."""
    if isinstance(value, int):
        return integer(value)
    node = value.node
    if not isinstance(node, SymNode):
        raise TypeError(f"this SymInt does not come from lampwork_symshape: {type(node).__name__}")
    return as_expr(cast(IntExpr, node.expr))


def choose(condition: bool | torch.SymBool, if_true: int | torch.SymInt, if_false: int | torch.SymInt) -> Any:
    """`if_true if condition else if_false`, undecided where the condition is symbolic."""
    if isinstance(condition, bool):
        return if_true if condition else if_false
    node: SymNode = condition.node
    return node.shape_env.sym_int(where(node._bool, expr_of(if_true), expr_of(if_false)))


def traced_number(value: Any) -> Any:
    """What a symbolic number was in the traced call, where it takes part as a value; anything else is itself.

    An integer that only the run time knows stays as it is; such a float is 1.0: no result looks different for it.
    """
    node: Any = getattr(value, "node", None)
    if isinstance(value, torch.SymFloat):
        return node.hint if node.has_hint() else 1.0
    hint = getattr(node, "hint", None) if isinstance(value, torch.SymInt) else None  # a node need not have one
    return value if hint is None else hint


def is_c_float(wanted: Any) -> bool:
    """Whether a parameter of this type takes a C number: `float` or `float?`, which a symbol does not survive."""
    if isinstance(wanted, torch.OptionalType):
        wanted = wanted.getElementType()
    return isinstance(wanted, torch.FloatType)


def with_traced_numbers(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments of an operator with symbolic numbers that take part as values replaced by those of the traced call.

    What its result looks like does not depend on them, but fake kernels would ask for their values, which pins the
    numbers that they are made of.
    """
    if not any(isinstance(a, torch.SymInt | torch.SymFloat) for a in (*args, *kwargs.values())):
        return args, kwargs
    parameters = op._schema.arguments
    types = {parameter.name: parameter.type for parameter in parameters}
    values: tuple[Any, ...] = (torch.TensorType, torch.NumberType)

    def plain(value: Any, wanted: Any) -> Any:
        return traced_number(value) if isinstance(wanted, values) or is_c_float(wanted) else value

    return (
        tuple(plain(value, parameter.type) for value, parameter in zip(args, parameters)),
        {name: plain(value, types.get(name)) for name, value in kwargs.items()},
    )


def term_of_symbol(value: torch.SymInt | torch.SymFloat | torch.SymBool) -> ScalarTerm:
    """The expression behind a symbolic number of ours; a condition is decided. Raises TypeError for another's."""
    node: object = value.node
    if not isinstance(node, SymNode | FloatNode):
        raise TypeError(f"this symbolic number does not come from lampwork_symshape: {type(node).__name__}")
    return term_of(node)


class SymNode:
    """One symbolic integer or boolean of one environment. Every method below is called by torch, by that name."""

    __slots__ = ("expr", "shape_env")

    constant = None
    fx_node = None

    def __init__(self, expr: IntExpr | BoolExpr, shape_env: TorchShapeEnv) -> None:
        self.expr = expr
        self.shape_env = shape_env

    # ------------------------------------------------------------------------------------------- what it is

    @property
    def pytype(self) -> type:
        """`int` or `bool`."""
        return int if isinstance(self.expr, IntExpr) else bool

    @property
    def hint(self) -> int | bool | None:
        """The value during capture, or None."""
        return self.shape_env.hint_of(self.expr)

    @property
    def _hint(self) -> int | bool | None:
        return self.hint

    @property
    def _expr(self) -> Expr:
        return self.expr

    def has_hint(self) -> bool:
        """No: torch asks before it lets hints decide what an answer for all values would decide as well."""
        return False

    def require_hint(self, fallback: int | None = None) -> int | bool:
        """The value during capture, or `fallback`."""
        value = self.hint
        if value is None:
            if fallback is None:
                raise self.shape_env.undecidable(f"the value of {self.expr}", self.expr)
            return fallback
        return value

    def is_int(self) -> bool:
        """An integer."""
        return isinstance(self.expr, IntExpr)

    def is_bool(self) -> bool:
        """A condition."""
        return isinstance(self.expr, BoolExpr)

    def is_float(self) -> bool:
        """Never: floats are not symbolic."""
        return False

    def is_constant(self) -> bool:
        """A literal."""
        return self.expr.is_constant

    def is_symbolic(self) -> bool:
        """No: torch asks this before it reads `expr` as an expression of sympy's, which ours is not."""
        return False

    def is_nested_int(self) -> bool:
        """Never: jagged sizes are not modelled."""
        return False

    def nested_int(self) -> None:
        """None: jagged sizes are not modelled."""

    def nested_int_coeff(self) -> None:
        """None: jagged sizes are not modelled."""

    def maybe_as_int(self) -> int | None:
        """The value if bounds and facts leave only one."""
        if not isinstance(self.expr, IntExpr):
            return None
        known = self.shape_env.simplified(self.expr)
        return known.constant_value if known.is_constant else None

    def constant_int(self) -> int | None:
        """The value of a literal integer."""
        return self.maybe_as_int()

    def constant_bool(self) -> bool | None:
        """The value of a literal condition."""
        return self.expr.value if isinstance(self.expr, Boolean) else None

    def clone(self) -> SymNode:
        """Itself: nodes are immutable."""
        return self

    def str(self) -> str:
        """The expression as Python."""
        return str(self.expr)

    def _graph_repr(self) -> str:
        return str(self.expr)

    def __str__(self) -> str:
        return str(self.expr)

    def __repr__(self) -> str:
        return f"SymNode({self.expr})"

    def _value_eq(self, other: object) -> bool:
        return isinstance(other, SymNode) and self.expr is other.expr

    def _value_hash(self) -> int:
        # Asked only for the key of the fake tensor cache. A cached result would come back on a node of torch's own
        # class, which cannot hold our expressions, so operations on symbolic sizes are computed each time.
        raise _BypassDispatchCache("lampwork symbolic size")

    def with_shape_env(self, shape_env: TorchShapeEnv) -> SymNode:
        """The same expression in another environment."""
        return SymNode(self.expr, shape_env)

    # -------------------------------------------------------------------------------------------- deciding

    def guard_int(self, file: str = "", line: int = 0) -> int:
        """The value; specializes unless it is known."""
        return self.shape_env.evaluate_int(self._int)

    def guard_bool(self, file: str = "", line: int = 0) -> bool:
        """The truth; a fact unless it is known."""
        return self.shape_env.evaluate(self._bool)

    def guard_float(self, file: str = "", line: int = 0) -> float:
        """The value as a float; specializes."""
        return float(self.shape_env.evaluate_int(self._int))

    def guard_or_false(self, file: str = "", line: int = 0) -> bool:
        """The truth, or false when only the run time knows."""
        return self.shape_env.evaluate_sym_node(self, fallback_value=False)

    def guard_or_true(self, file: str = "", line: int = 0) -> bool:
        """The truth, or true when only the run time knows."""
        return self.shape_env.evaluate_sym_node(self, fallback_value=True)

    def guard_size_oblivious(self, file: str = "", line: int = 0) -> bool:
        """The truth; a question that sizes of 0 and 1 would answer alone is answered as for larger sizes."""
        return self.shape_env.evaluate_sym_node(self, fallback_value=False)

    def statically_known_true(self, file: str = "", line: int = 0) -> bool:
        """Whether bounds and facts prove it; never a new fact."""
        return self.shape_env.known(self._bool) is True

    def expect_true(self, file: str = "", line: int = 0) -> bool:
        """The user says that it holds: a guard, or an assertion at run time; false if it certainly does not."""
        condition = self._bool
        if self.shape_env.hint_of(condition) is not None:
            return self.shape_env.evaluate(condition)
        if self.shape_env.known(condition) is False:
            return False
        self.shape_env.require(condition)
        return True

    def expect_size(self, file: str = "", line: int = 0) -> bool:
        """That it can be a size, as `expect_true`."""
        return self._new(ge(self._int, 0)).expect_true(file, line)

    def int_(self) -> int:
        """The value, for `int(x)`."""
        return self.guard_int()

    def bool_(self) -> bool:
        """The truth, for `bool(x)`."""
        return self.guard_bool() if isinstance(self.expr, BoolExpr) else self.shape_env.evaluate(ne(self._int, 0))

    # ------------------------------------------------------------------------------------------ arithmetic

    @property
    def _int(self) -> IntExpr:
        expr = self.expr
        return expr if isinstance(expr, IntExpr) else where(expr, 1, 0)

    @property
    def _bool(self) -> BoolExpr:
        expr = self.expr
        return expr if isinstance(expr, BoolExpr) else ne(expr, 0)

    def _new(self, expr: IntExpr | BoolExpr) -> SymNode:
        return SymNode(expr, self.shape_env)

    def wrap_int(self, value: int) -> SymNode:
        """A literal integer of this environment."""
        return self._new(integer(value))

    def wrap_bool(self, value: bool) -> SymNode:
        """A literal condition of this environment."""
        return self._new(boolean(value))

    def wrap_float(self, value: float) -> FloatNode:
        """A float of this environment."""
        return FloatNode(value, self.shape_env)

    def _with(self, operation: Callable[[IntExpr, IntExpr], IntExpr | BoolExpr], other: object) -> SymNode:
        return self._new(operation(self._int, _int_of(other)))

    def add(self, other: SymNode) -> SymNode:
        """self + other"""
        return self._with(operator.add, other)

    def sub(self, other: SymNode) -> SymNode:
        """self - other"""
        return self._with(operator.sub, other)

    def mul(self, other: SymNode) -> SymNode:
        """self * other"""
        return self._with(operator.mul, other)

    def mod(self, other: SymNode) -> SymNode:
        """self % other"""
        return self._with(operator.mod, other)

    def floordiv(self, other: SymNode) -> SymNode:
        """self // other"""
        return self._with(operator.floordiv, other)

    int_floordiv = floordiv

    def sym_min(self, other: SymNode) -> SymNode:
        """min(self, other)"""
        return self._with(minimum, other)

    def sym_max(self, other: SymNode) -> SymNode:
        """max(self, other)"""
        return self._with(maximum, other)

    def sym_sum(self, values: Sequence[SymNode]) -> SymNode:
        """The sum of many."""
        return self._new(sum_([_int_of(v) for v in values]))

    def neg(self) -> SymNode:
        """-self"""
        return self._new(-self._int)

    def pos(self) -> SymNode:
        """+self"""
        return self

    def abs(self) -> SymNode:
        """abs(self)"""
        return self._new(maximum(self._int, -self._int))

    def ceil(self) -> SymNode:
        """An integer is its own ceiling."""
        return self

    def floor(self) -> SymNode:
        """An integer is its own floor."""
        return self

    trunc = round = sym_int = floor

    def pow_by_natural(self, other: SymNode) -> SymNode:
        """self ** other; the exponent is specialized."""
        return self._new(product([self._int] * self.shape_env.evaluate_int(_int_of(other))))

    pow = pow_by_natural

    def lshift(self, other: SymNode) -> SymNode:
        """self << other; the shift is specialized."""
        return self._new(self._int * (1 << self.shape_env.evaluate_int(_int_of(other))))

    def rshift(self, other: SymNode) -> SymNode:
        """self >> other; the shift is specialized."""
        return self._new(self._int // (1 << self.shape_env.evaluate_int(_int_of(other))))

    def sym_float(self) -> FloatNode:
        """float(self)"""
        return cast(FloatNode, number_node(self.shape_env, compute(self.shape_env, float, [self._int])))

    def int_truediv(self, other: SymNode) -> FloatNode:
        """self / other"""
        terms: list[ScalarTerm] = [self._int, _int_of(other)]
        return cast(FloatNode, number_node(self.shape_env, compute(self.shape_env, operator.truediv, terms)))

    truediv = int_truediv

    # ------------------------------------------------------------------------------------------ conditions

    def eq(self, other: SymNode) -> SymNode:
        """self == other"""
        return self._with(eq, other)

    def ne(self, other: SymNode) -> SymNode:
        """self != other"""
        return self._with(ne, other)

    def lt(self, other: SymNode) -> SymNode:
        """self < other"""
        return self._with(lt, other)

    def le(self, other: SymNode) -> SymNode:
        """self <= other"""
        return self._with(le, other)

    def gt(self, other: SymNode) -> SymNode:
        """self > other"""
        return self._with(gt, other)

    def ge(self, other: SymNode) -> SymNode:
        """self >= other"""
        return self._with(ge, other)

    def sym_and(self, other: SymNode) -> SymNode:
        """self and other"""
        return self._new(and_(self._bool, _bool_of(other)))

    def sym_or(self, other: SymNode) -> SymNode:
        """self or other"""
        return self._new(or_(self._bool, _bool_of(other)))

    and_, or_ = sym_and, sym_or

    def sym_not(self) -> SymNode:
        """not self"""
        return self._new(not_(self._bool))

    def sym_ite(self, if_true: SymNode, if_false: SymNode) -> SymNode:
        """if_true if self else if_false"""
        if isinstance(if_true.expr, BoolExpr):
            condition, a, b = self._bool, if_true._bool, if_false._bool
            return self._new(or_(and_(condition, a), and_(not_(condition), b)))
        return self._new(where(self._bool, if_true._int, if_false._int))

    # -------------------------------------------------------------------------------------------- layouts

    def is_contiguous(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether a tensor of these sizes and strides (in elements) is row-major."""
        return self._new(is_row_major(_ints(sizes), _ints(strides)))

    def is_channels_last_contiguous_2d(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether it is a dense NHWC tensor."""
        return self._dense(sizes, strides, CHANNELS_LAST_2D)

    def is_channels_last_contiguous_3d(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether it is a dense NDHWC tensor."""
        return self._dense(sizes, strides, CHANNELS_LAST_3D)

    def is_channels_last_strides_2d(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether its strides are ordered as NHWC's."""
        return self._new(has_channels_last_strides(_ints(sizes), _ints(strides), CHANNELS_LAST_2D))

    def is_channels_last_strides_3d(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether its strides are ordered as NDHWC's."""
        return self._new(has_channels_last_strides(_ints(sizes), _ints(strides), CHANNELS_LAST_3D))

    def is_non_overlapping_and_dense(self, sizes: Sequence[object], strides: Sequence[object]) -> SymNode:
        """Whether some order of its dimensions makes it row-major. The order of strides is decided, not symbolic."""
        lengths, steps = _ints(sizes), _ints(strides)
        row_major = is_row_major(lengths, steps)
        if self.shape_env.known(row_major):
            return self._new(boolean(True))
        return self._new(or_(row_major, is_dense_by_stride(lengths, steps, self._by_stride(steps))))

    def is_non_overlapping_and_dense_indicator(self, *sizes_and_strides: object) -> SymNode:
        """The same as an integer, 1 or 0."""
        half = len(sizes_and_strides) // 2
        found = self.is_non_overlapping_and_dense(sizes_and_strides[:half], sizes_and_strides[half:])
        return self._new(found._int)

    def _dense(self, sizes: Sequence[object], strides: Sequence[object], order: Sequence[int]) -> SymNode:
        if len(sizes) != len(order):
            return self._new(boolean(False))
        return self._new(dense_in_order(_ints(sizes), _ints(strides), order))

    def _by_stride(self, strides: Sequence[IntExpr]) -> list[int]:
        """The dimensions by ascending stride: insertion sort, so that only neighbours are compared."""
        order: list[int] = []
        for dim in reversed(range(len(strides))):
            position = len(order)
            while position and not self.shape_env.evaluate(le(strides[order[position - 1]], strides[dim])):
                position -= 1
            order.insert(position, dim)
        return order


def _expr(value: object) -> Any:
    if isinstance(value, SymNode):
        return value.expr
    if isinstance(value, FloatNode):
        raise SymbolicFloatError("mixing sizes and floats")
    if isinstance(value, bool | int):
        return value
    return cast(Any, value).maybe_as_int()  # torch's own node of a literal


def _int_of(value: object) -> IntExpr:
    found = _expr(value)
    return where(found, 1, 0) if isinstance(found, BoolExpr) else as_expr(found)


def _bool_of(value: object) -> BoolExpr:
    found = _expr(value)
    return (
        ne(found, 0) if isinstance(found, IntExpr) else as_condition(bool(found) if isinstance(found, int) else found)
    )


def _ints(values: Sequence[object]) -> list[IntExpr]:
    return [_int_of(v) for v in values]
