"""ConstantValue: an object whose value is known while tracing: literals, dtypes, devices, enum members, ranges.

What is done to constants is done at once, by Python itself, and gives constants. Invariants: the object is immutable;
where it came from a source, a ConstantIs fact holds it. An error that Python raises while folding is the user's own.
"""

from __future__ import annotations

import enum
import math
import operator
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    CodeType,
    EllipsisType,
    FunctionType,
    MethodDescriptorType,
    NoneType,
    NotImplementedType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..graph_break import BreakId, GraphBreak
from ..source import AttributeSource, Source
from .base import ObservedException, Tracer, Value
from .iterator import End, StepIterator, iterator_at

if TYPE_CHECKING:
    from ..bytecode.emitter import Emitter

_HEAP_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE
LITERAL_TYPES: frozenset[type] = frozenset(
    {
        int, float, complex, bool, str, bytes, NoneType, EllipsisType, NotImplementedType, CodeType,
        torch.dtype, torch.device, torch.layout, torch.memory_format,
    }
)  # fmt: skip
# Objects that stand for constants once made inside the frame, though no guard could compare them
DERIVED_TYPES: frozenset[type] = frozenset({range, torch.finfo, torch.iinfo, re.Pattern, re.Match})


_MOST_ITEMS = 20_000
_DESCRIPTOR_TYPES = (MethodDescriptorType, WrapperDescriptorType)


def is_literal(obj: Any) -> bool:
    """Whether an object is an immutable literal that ConstantIs can guard."""
    cls = type(obj)  # whose metaclass may have a hash of its own
    return (type(cls) is type and cls in LITERAL_TYPES) or issubclass(cls, enum.Enum)


def is_nested_literal(obj: Any) -> bool:
    """Whether an object is the same wherever it is loaded: a literal, or a tuple or frozen set of such."""
    return is_literal(obj) or ((type(obj) is tuple or type(obj) is frozenset) and all(map(is_nested_literal, obj)))


def _prints_exactly(number: complex) -> bool:
    """Whether the text of a complex number, as it stands in a graph's code, is that number: not with -0.0, inf, nan."""
    parts = (number.real, number.imag)
    return all(math.isfinite(part) and (part != 0 or math.copysign(1, part) > 0) for part in parts)


class ConstantValue(Value):
    """A known, immutable object."""

    kind = "a constant"
    __slots__ = ("obj",)
    of_pattern: ClassVar[Callable[..., Value | None] | None] = None  # `regex.call_pattern`, put there by that file
    of_format: ClassVar[Callable[..., Value] | None] = None  # `text_format.format_text`, put there by that file

    def __init__(self, obj: Any, source: Source | None = None) -> None:
        super().__init__(source)
        self.obj = obj

    def __repr__(self) -> str:
        return f"ConstantValue({self._shown()})"

    def _shown(self) -> str:
        """Its text, but for a member of an enumeration, whose class may have its own way, and be in the making."""
        return f"of {type(self.obj).__name__}" if issubclass(type(self.obj), enum.Enum) else repr(self.obj)

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> Any:
        return self.obj

    def as_graph_argument(self) -> Any:
        if type(self.obj) in (torch.finfo, torch.iinfo, CodeType, NotImplementedType, re.Pattern, re.Match):
            raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} cannot be passed to a torch operation")
        if type(self.obj) is complex and not _prints_exactly(self.obj):
            raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, "a complex number that its text does not give back")
        return self.obj

    def describe(self) -> str:
        return f"the constant {self._shown()}"[:120]

    def truth(self, tracer: Tracer) -> bool:
        return bool(fold(tracer, bool, self.obj))

    def length(self, tracer: Tracer) -> int | None:
        return fold(tracer, len, self.obj)

    def hash_key(self, tracer: Tracer) -> Hashable:
        fold(tracer, hash, self.obj)
        return self.obj

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "__class__":
            return tracer.constant(type(self.obj))
        if name in ("__enter__", "__exit__") and type(self.obj) is torch.device:
            return DeviceMethodValue(self, name)
        if isinstance(self.obj, enum.Enum):
            written = self._written_in_python(tracer, name)
            if written is not None:
                return written
        result = fold(tracer, getattr, self.obj, name)
        if callable(result) and not isinstance(result, type) and not self._is_of_another(result):
            return ConstantMethodValue(self, name)
        return tracer.constant(result)

    def _is_of_another(self, attribute: Any) -> bool:
        """Whether an attribute is that of the class which a generic alias stands for."""
        return (not is_literal(self.obj) and getattr(attribute, "__self__", None) is not self.obj) or (
            isinstance(attribute, _DESCRIPTOR_TYPES)
        )

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if name in ("__enter__", "__exit__", "__call__") and type(self.obj) is torch.device:
            return DeviceMethodValue(self, name).call(tracer, args, kwargs)
        if isinstance(self.obj, enum.Enum):
            written = self._written_in_python(tracer, name)
            if written is not None:
                return written.call(tracer, args, kwargs)
        method = fold(tracer, getattr, self.obj, name)
        if self._is_of_another(method):
            return tracer.constant(method).call(tracer, args, kwargs)
        if isinstance(self.obj, re.Pattern) and self.of_pattern is not None:
            answer = self.of_pattern(tracer, self.obj, name, args, kwargs)
            if answer is not None:
                return answer
        if name in ("format", "format_map") and type(self.obj) is str and self.of_format is not None:
            return self.of_format(tracer, method, args, kwargs)
        if name == "join" and len(args) == 1 and not is_known(args[0]):
            parts = [snapshot(part) for part in args[0].realize().unpack(tracer)]
            return tracer.constant(fold(tracer, method, parts))
        return fold_call(tracer, method, args, kwargs)

    def _written_in_python(self, tracer: Tracer, name: str) -> Value | None:
        """A method, property or attribute that the class of an enum member has from its author; else None."""
        cls = type(self.obj)
        if name in vars(self.obj) or name in cls.__members__:
            return None
        owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
        if owner is None or owner.__module__ == "enum" or not owner.__flags__ & _HEAP_FLAG:
            return None
        raw = owner.__dict__[name]
        class_value: Any = tracer.constant(cls)
        if issubclass(type(raw), property):
            source = class_value.attribute_source(name, owner)
            class_value.guard_found(tracer, name, raw, owner)
            getter = (
                tracer.constant(raw.fget) if source is None else tracer.wrap(raw.fget, AttributeSource(source, "fget"))
            )
            return getter.call(tracer, [self], {})
        if issubclass(type(raw), classmethod):
            return tracer.bind_method(class_value.class_attribute(tracer, name, raw, owner), class_value)
        if issubclass(type(raw), FunctionType) and not raw.__module__.startswith("enum"):
            return tracer.bind_method(class_value.class_attribute(tracer, name, raw, owner), self)
        if issubclass(type(raw), staticmethod) and isinstance(raw.__func__, FunctionType):
            return class_value.class_attribute(tracer, name, raw, owner)
        return None

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str` or `repr` of an enum member whose class defines it."""
        method = self._written_in_python(tracer, "__str__" if convert is str else "__repr__")
        return fold(tracer, convert, self.obj) if method is None else method.call(tracer, [], {}).as_constant()

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{self.describe()} takes no attributes: eager raises")

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        key_object = snapshot(key)
        return tracer.constant(fold(tracer, lambda: self.obj[key_object]))

    def unpack(self, tracer: Tracer) -> list[Value]:
        if isinstance(self.obj, range) and len(self.obj) > _MOST_ITEMS:
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"a range of more than {_MOST_ITEMS} numbers at once")
        return [tracer.constant(item) for item in fold(tracer, list, self.obj)]

    def iterate(self, tracer: Tracer) -> Value:
        fold(tracer, iter, self.obj)
        if not isinstance(self.obj, (str, bytes, range)):
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"iterating {self.describe()} is not modelled")
        return ConstantIteratorValue(self.obj)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return fold(tracer, operator.contains, self.obj, snapshot(item)) if is_known(item) else None

    def reconstruct(self, emitter: Emitter) -> None:
        emitter.load_literal(self.obj)


class DeviceMethodValue(Value):
    """`device.__enter__` or `device.__exit__`: a device as the context in which it is the default."""

    kind = "a method of a device"
    __slots__ = ("name", "owner")

    def __init__(self, owner: ConstantValue, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        (make,) = DEVICE_CONTEXTS
        context = make(self.owner.obj)
        if self.name == "__enter__":
            context.enter(tracer)
            return self.owner
        open_context = tracer.innermost()
        if self.name != "__exit__" or open_context is None or open_context.constructor != context.constructor:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"`{self.name}` of {self.owner.describe()} is not modelled")
        open_context.leave(tracer)
        return tracer.constant(None)

    def children(self) -> Sequence[Value]:
        return (self.owner,)

    def reconstruct(self, emitter: Emitter) -> None:
        emitter.load_constant(self.owner.obj)
        emitter.load_attribute(self.name)


DEVICE_CONTEXTS: list[Any] = []  # the one function that makes the context of a device, set by its file


class ConstantMethodValue(Value):
    """A method read off a constant, like `"a".join`."""

    kind = "a method of a constant"
    __slots__ = ("name", "owner")

    def __init__(self, owner: ConstantValue, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def python_type(self) -> type:
        return type(getattr(self.owner.obj, self.name))

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.owner.call_method(tracer, self.name, args, kwargs)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        return tracer.constant(fold(tracer, getattr, getattr(self.owner.obj, self.name), name))

    def reconstruct(self, emitter: Emitter) -> None:
        self.owner.reconstruct(emitter)
        emitter.load_attribute(self.name)


def fold(tracer: Tracer, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run Python on known objects now; what it raises is raised in the traced program."""
    try:
        return function(*args, **kwargs)
    except (GraphBreak, ObservedException):
        raise
    except Exception as error:
        tracer.raise_observed(type(error), *error.args)


def snapshot(value: Value) -> Any:
    """The Python object that a value is now, plain containers of constants included (as fresh copies).

    Raises GraphBreak(NOT_A_CONSTANT) for anything that holds what is not known."""
    copy = getattr(value.realize(), "snapshot", None)
    return value.as_constant() if copy is None else copy()


def is_known(value: Value) -> bool:
    """Whether `snapshot` succeeds."""
    try:
        snapshot(value)
    except GraphBreak:
        return False
    return True


def fold_call(
    tracer: Tracer, function: Callable[..., Any], args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    """Call a pure function on known arguments now. Raises GraphBreak(NOT_A_CONSTANT) if one is not known."""
    plain = [snapshot(arg) for arg in args]
    named = {name: snapshot(arg) for name, arg in kwargs.items()}
    return tracer.constant(fold(tracer, function, *plain, **named))


class ConstantIteratorValue(StepIterator):
    """An iterator over a range, a string or bytes: a position."""

    __slots__ = ("index", "obj")

    def __init__(self, obj: Any) -> None:
        super().__init__()
        self.obj = obj
        self.index = 0

    def python_type(self) -> type:
        return type(iter(self.obj))

    def advance(self, tracer: Tracer) -> Value:
        if self.index >= len(self.obj):
            raise End
        self.index += 1
        return tracer.constant(self.obj[self.index - 1])

    def reconstruct(self, emitter: Any) -> None:
        emitter.begin_call(iterator_at)
        emitter.load_constant(self.obj)
        emitter.load_constant(self.index)
        emitter.call(2)
