"""Operators: what Python's operators, subscripts, membership tests, truth and formatting do to traced values.

The interpreter's opcodes and the builtins both come through here, so that an operator means the same everywhere.
Invariant: the order in which operands are asked (reflected forms, subclass priority, identity shortcuts) is Python's.
"""

from __future__ import annotations

import collections
import enum
import operator
import sys
from collections.abc import Callable, Hashable, Sequence
from types import FunctionType
from typing import Any, cast

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.exact import exact_key
from ..guards.facts import AllDistinct
from .base import Tracer, Value
from .class_lookup import has_special, is_in_mro, is_iterable
from .constant import ConstantValue, fold, is_known, snapshot
from .iterator import each
from .stand_in import refuse

BINARY_METHODS: dict[Callable[..., Any], tuple[str, str]] = {
    operator.add: ("__add__", "__radd__"),
    operator.sub: ("__sub__", "__rsub__"),
    operator.mul: ("__mul__", "__rmul__"),
    operator.truediv: ("__truediv__", "__rtruediv__"),
    operator.floordiv: ("__floordiv__", "__rfloordiv__"),
    operator.mod: ("__mod__", "__rmod__"),
    operator.pow: ("__pow__", "__rpow__"),
    operator.matmul: ("__matmul__", "__rmatmul__"),
    operator.and_: ("__and__", "__rand__"),
    operator.or_: ("__or__", "__ror__"),
    operator.xor: ("__xor__", "__rxor__"),
    operator.lshift: ("__lshift__", "__rlshift__"),
    operator.rshift: ("__rshift__", "__rrshift__"),
    divmod: ("__divmod__", "__rdivmod__"),
    operator.eq: ("__eq__", "__eq__"),
    operator.ne: ("__ne__", "__ne__"),
    operator.lt: ("__lt__", "__gt__"),
    operator.le: ("__le__", "__ge__"),
    operator.gt: ("__gt__", "__lt__"),
    operator.ge: ("__ge__", "__le__"),
}
INPLACE_METHODS: dict[Callable[..., Any], tuple[str, Callable[..., Any]]] = {
    operator.iadd: ("__iadd__", operator.add),
    operator.isub: ("__isub__", operator.sub),
    operator.imul: ("__imul__", operator.mul),
    operator.itruediv: ("__itruediv__", operator.truediv),
    operator.ifloordiv: ("__ifloordiv__", operator.floordiv),
    operator.imod: ("__imod__", operator.mod),
    operator.ipow: ("__ipow__", operator.pow),
    operator.imatmul: ("__imatmul__", operator.matmul),
    operator.iand: ("__iand__", operator.and_),
    operator.ior: ("__ior__", operator.or_),
    operator.ixor: ("__ixor__", operator.xor),
    operator.ilshift: ("__ilshift__", operator.lshift),
    operator.irshift: ("__irshift__", operator.rshift),
}
UNARY_METHODS: dict[Callable[..., Any], str] = {
    operator.neg: "__neg__",
    operator.pos: "__pos__",
    operator.invert: "__invert__",
    operator.abs: "__abs__",
}
_NUMBER, _TRUTH, _TENSOR = "a symbolic number", "a symbolic truth value", "a tensor"
_NUMBER_OF_TENSOR = "a number of a tensor"
_DEEP = "the text of containers nested deeply: eager may raise"
_REPEATED = (str, bytes, bytearray, list, tuple, collections.deque)  # by `*`
_DEEPEST = 60  # containers in containers that are looked through
COMPARISONS = frozenset({operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge})


def binary(
    tracer: Tracer,
    op: Callable[..., Any],
    left: Value,
    right: Value,
    refused_as: Callable[..., Any] | None = None,
) -> Value:
    """`left op right` for a function of the `operator` module (or divmod), which may be a part of `refused_as`."""
    left, right = left.realize(), right.realize()
    if type(left) is ConstantValue and type(right) is ConstantValue:
        return tracer.constant(fold(tracer, op, left.obj, right.obj))
    left_type, right_type = left.python_type(), right.python_type()
    if op is operator.mod and left_type is str and left.is_constant() and not is_known(right):
        parts = right.unpack(tracer) if right_type is tuple else [right]
        shown = tuple(snapshot(part) if is_known(part) else _Shown(tracer, part) for part in parts)
        try:
            return tracer.constant(left.as_constant() % shown)
        except (TypeError, ValueError) as error:  # of the stand-in: the value itself may do otherwise
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"formatting with {left.as_constant()!r}: {error}") from error
    reflected_name = BINARY_METHODS[op][1]
    right_first = (
        right_type is not left_type
        and is_in_mro(left_type, right_type)
        and (
            op in COMPARISONS
            or getattr(right_type, reflected_name, None) is not getattr(left_type, reflected_name, None)
        )
    )
    attempts = [(left, right, False), (right, left, True)]
    if right_first:
        attempts.reverse()
    elif left_type is right_type and op not in COMPARISONS and right.kind not in (_NUMBER, _NUMBER_OF_TENSOR):
        del attempts[1]  # the same method of the same class is not asked again
    for value, other, reflected in attempts:
        result = value.binary(tracer, op, other, reflected)
        if result is not None:
            return result
    for value, _, reflected in attempts:
        _check_is_modelled(value, BINARY_METHODS[op][reflected])
    if op is operator.eq:
        return tracer.constant(is_same(tracer, left, right))
    if op is operator.ne:
        return tracer.constant(not is_same(tracer, left, right))
    if op is operator.mul and "a tensor" in (left.kind, right.kind):
        count, repeated = (left, right) if left.kind == "a tensor" else (right, left)
        if issubclass(repeated.python_type(), _REPEATED):
            _check_no_count(tracer, count)
    op = refused_as or op
    if is_known(left) and is_known(right) and op not in COMPARISONS:
        return tracer.constant(fold(tracer, op, snapshot(left), snapshot(right)))
    return refuse(tracer, op, left, right)


def _check_no_count(tracer: Tracer, value: Any) -> None:
    """Raise what torch says of a tensor that a sequence is to be repeated by; GraphBreak if it is an integer."""
    is_integer = not (value.fake.is_floating_point() or value.fake.is_complex())
    if is_integer and value.fake.numel() == 1:
        cause = f"a sequence repeated as often as {value.describe()} says"
        raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, cause)
    fold(tracer, operator.index, torch.ones(2))


def _check_is_modelled(value: Value, name: str) -> None:
    """Raise GraphBreak if the real type has an operator of its own that this kind of value does not model."""
    if isinstance(value, ConstantValue) and isinstance(value.obj, enum.Enum):
        method = getattr(type(value.obj), name, None)
        if method in (None, getattr(object, name, None), getattr(enum.Enum, name, None)):
            return
    elif type(value).binary is not Value.binary or type(value) is ConstantValue:
        return
    method = getattr(value.python_type(), name, None)
    if method is not None and method is not getattr(object, name, None):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}` of {value.describe()} is not modelled")


class _Shown:
    """Stands for a value inside `%` formatting: gives its text when asked for it."""

    __slots__ = ("tracer", "value")

    def __init__(self, tracer: Tracer, value: Value) -> None:
        self.tracer = tracer
        self.value = value

    def __str__(self) -> str:
        return text_of(self.tracer, self.value, str)

    def __repr__(self) -> str:
        return text_of(self.tracer, self.value, repr)


def inplace(tracer: Tracer, op: Callable[..., Any], left: Value, right: Value) -> Value:
    """`left op= right` for `operator.iadd` and its kin; the value that the target is bound to."""
    left, right = left.realize(), right.realize()
    if right.kind == _NUMBER and left.kind not in (_NUMBER, "a tensor", "a constant"):
        right = tracer.constant(right.as_constant())
    result = left.binary(tracer, op, right, False)
    return result if result is not None else binary(tracer, INPLACE_METHODS[op][1], left, right, op)


def unary(tracer: Tracer, op: Callable[..., Any], operand: Value) -> Value:
    """`-x`, `+x`, `~x`, `abs(x)`, `not x`."""
    operand = operand.realize()
    if op is operator.not_:
        return tracer.constant(not operand.truth(tracer))
    if type(operand) is ConstantValue:
        return tracer.constant(fold(tracer, op, operand.obj))
    name = UNARY_METHODS[op]
    if not has_special(operand.python_type(), name):
        refuse(tracer, op, operand)
    return operand.call_method(tracer, name, [], {})


def method_name(op: Callable[..., Any], reflected: bool) -> str:
    """The special method behind an operator of `BINARY_METHODS` or `INPLACE_METHODS`."""
    return BINARY_METHODS[op][reflected] if op in BINARY_METHODS else INPLACE_METHODS[op][0]


def is_same(tracer: Tracer, left: Value, right: Value) -> bool:
    """`left is right`, guarded where both existed before the frame."""
    left, right = left.realize(), right.realize()
    if left is right:
        return True
    if _NUMBER in (left.kind, right.kind):
        if left.python_type() is not right.python_type():
            return False
        left, right = (tracer.constant(v.as_constant()) if v.kind == _NUMBER else v for v in (left, right))
    if _TRUTH in (left.kind, right.kind):
        if left.python_type() is not right.python_type():
            return False
        left, right = (tracer.constant(v.as_constant()) if v.kind == _TRUTH else v for v in (left, right))
    if left.is_constant() and right.is_constant():
        mine, other = left.as_constant(), right.as_constant()
        if type(left) is ConstantValue and type(right) is ConstantValue:
            return _is_same_constant(left, right, mine, other)
        is_compound = mine is not other and isinstance(mine, (tuple, frozenset))
        if (
            is_compound
            and type(mine) is type(other)
            and (left.source is None or right.source is None)
            and mine == other
        ):
            raise GraphBreak(BreakId.NOT_A_CONSTANT, "`is` of equal constants, which may be one object or two")
        if is_compound and left.source is not None and right.source is not None and left.source != right.source:
            tracer.guard(AllDistinct(left.source, (right.source,)))
        return mine is other
    identity = identity_of(left)
    if identity is not None and identity is identity_of(right):
        return True
    if left.source is not None and right.source is not None and left.source != right.source:
        tracer.guard(AllDistinct(left.source, (right.source,)))
    if left.kind == right.kind == _TENSOR:
        tracer.graph.tell_apart(cast(Any, left).fake, cast(Any, right).fake)
    return False


def _is_same_constant(left: Value, right: Value, mine: Any, other: Any) -> bool:
    """Whether two constants are the same object in every call whose guards hold."""
    if type(mine) is not type(other) or isinstance(mine, type(None)):
        return mine is other
    if isinstance(mine, (int, str, float, complex, bytes)) and not isinstance(mine, (bool, enum.Enum)):
        if exact_key(mine) != exact_key(other):
            return False
        # Small ints and single characters are the same object whenever they are equal
        shared = (isinstance(mine, int) and -5 <= mine <= 256) or (isinstance(mine, str) and len(mine) == 1)
        if shared or mine in ("", b"") or (left.source is not None and left.source == right.source):
            return True
        # What is computed while tracing is one object afterwards, which may be two in the program
        cause = "`is` of equal numbers or strings, which may be one object or two"
        raise GraphBreak(BreakId.NOT_A_CONSTANT, cause, breaks_in_root=True)
    return mine is other


def identity_of(value: Value) -> Any:
    """The real object that a value certainly is, where it existed before the frame; else None."""
    return getattr(value, "obj", None)


def equal(tracer: Tracer, left: Value, right: Value) -> bool:
    """`left is right or left == right`, as containers compare their items."""
    left, right = left.realize(), right.realize()
    if left is right:
        return True
    return binary(tracer, operator.eq, left, right).truth(tracer)


def contains(tracer: Tracer, container: Value, item: Value) -> bool:
    """`item in container`."""
    container = container.realize()
    answer = container.contains(tracer, item)
    if answer is not None:
        return answer
    cls = container.python_type()
    if has_special(cls, "__contains__"):
        return container.call_method(tracer, "__contains__", [item], {}).truth(tracer)
    if not is_iterable(cls):
        refuse(tracer, operator.contains, container, item)
    # Not one item further: an iterator stands behind the item afterwards
    return any(equal(tracer, element, item) for element in each(tracer, container.iterate(tracer)))


def length(tracer: Tracer, value: Value) -> int:
    """`len(value)`."""
    value = value.realize()
    answer = value.length(tracer)
    if answer is not None:
        return answer
    if not has_special(value.python_type(), "__len__"):
        refuse(tracer, len, value)
    return length_of(tracer, value.call_method(tracer, "__len__", [], {}))


def length_value(tracer: Tracer, value: Value) -> Value:
    """The value of `len(value)`: a symbolic number where the size of a tensor is one."""
    value = value.realize()
    rows = getattr(value, "rows", None)
    return tracer.constant(length(tracer, value)) if rows is None else rows(tracer)


def length_of(tracer: Tracer, answer: Value) -> int:
    """The length that a `__len__` of the program gave. Raises the program's error where it is none."""
    number = index_of(tracer, answer)
    if number < 0:
        tracer.raise_observed(ValueError, "__len__() should return >= 0")
    if number > sys.maxsize:
        tracer.raise_observed(OverflowError, "cannot fit 'int' into an index-sized integer")
    return number


def index_of(tracer: Tracer, value: Value) -> int:
    """`operator.index(value)`."""
    value = value.realize()
    if value.is_constant():
        return fold(tracer, operator.index, value.as_constant())
    if not has_special(value.python_type(), "__index__"):
        refuse(tracer, operator.index, value)
    made = value.call_method(tracer, "__index__", [], {})
    if made.python_type() is not int:
        raise GraphBreak(
            BreakId.EXCEPTION_NOT_MODELLED, f"`__index__` returned {made.describe()}: eager warns or raises"
        )
    return index_of(tracer, made)


def get_item(tracer: Tracer, container: Value, key: Value) -> Value:
    """`container[key]`."""
    return container.realize().get_item(tracer, key.realize())


def set_item(tracer: Tracer, container: Value, key: Value, item: Value) -> None:
    """`container[key] = item`."""
    container.realize().set_item(tracer, key.realize(), item)


def delete_item(tracer: Tracer, container: Value, key: Value) -> None:
    """`del container[key]`."""
    container.realize().delete_item(tracer, key.realize())


def hash_key(tracer: Tracer, value: Value) -> Hashable:
    """What stands for `value` as a key; equal for keys that are equal. Raises an observed TypeError if unhashable."""
    value = value.realize()
    if value.python_type().__hash__ is None:
        tracer.raise_observed(TypeError, f"unhashable type: '{value.python_type().__name__}'")
    return value.hash_key(tracer)


def text_of(tracer: Tracer, value: Value, convert: Callable[[Any], str]) -> str:
    """`str(value)`, `repr(value)` or `ascii(value)` where it is known while tracing."""
    value = value.realize()
    is_member = isinstance(value, ConstantValue) and isinstance(value.obj, enum.Enum)
    if is_known(value) and not is_member:
        known = snapshot(value)
        if _is_deep(known):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, _DEEP)
        return fold(tracer, convert, known)
    method = getattr(value, "text", None)
    if method is not None:
        tracer.nesting += 1
        try:
            if tracer.nesting > _DEEPEST:
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, _DEEP)
            return method(tracer, convert)
        finally:
            tracer.nesting -= 1
    if value.kind == "a tensor":
        raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"the text of {value.describe()} needs its data")
    raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the text of {value.describe()} is not known while tracing")


def _is_deep(obj: Any) -> bool:
    """Whether containers stand in each other so deep that Python may refuse to look through them."""
    level: list[Any] = [obj]
    for _ in range(_DEEPEST):
        level = [part for part in level if type(part) in (list, tuple, dict)]
        if not level:
            return False
        level = [inner for part in level for inner in (part.values() if type(part) is dict else part)]
    return True


def format_value(tracer: Tracer, value: Value, conversion: Callable[[Any], str] | None, spec: str) -> Value:
    """One field of an f-string: `format(conversion(value), spec)`."""
    value = value.realize()
    if conversion is not None:
        return tracer.constant(fold(tracer, format, text_of(tracer, value, conversion), spec))
    if is_known(value):
        return tracer.constant(fold(tracer, format, snapshot(value), spec))
    if isinstance(getattr(value.python_type(), "__format__", None), FunctionType):
        made = value.call_method(tracer, "__format__", [tracer.constant(spec)], {})
        if made.python_type() is not str:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"`__format__` returned {made.describe()}")
        return made
    if spec:
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"formatting {value.describe()} is not modelled")
    return tracer.constant(text_of(tracer, value, str))


def compare_sequences(tracer: Tracer, op: Callable[..., Any], left: Sequence[Value], right: Sequence[Value]) -> bool:
    """Lexicographic comparison of two sequences of the same type."""
    if op in (operator.eq, operator.ne) and len(left) != len(right):
        return op is operator.ne
    for mine, other in zip(left, right):
        if not equal(tracer, mine, other):
            if op is operator.eq:
                return False
            if op is operator.ne:
                return True
            return binary(tracer, op, mine, other).truth(tracer)
    return bool(op(len(left), len(right)))
