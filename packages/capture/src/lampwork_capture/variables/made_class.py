"""MadeClassValue: a class that the traced program makes, by a `class` statement or by `type(name, bases, namespace)`.

While tracing, a stand-in class with the same bases and MRO takes its place; what stands in its namespace is known by
memo, so that attributes, methods and `super()` are looked up as on any class. Invariants: the stand-in is never seen by
the program and is taken out of its bases when the trace ends; one that outlives the frame is made anew by each call.
"""

from __future__ import annotations

import builtins
import collections
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..interpreter.side_effects import Deleted
from ..source import Source
from .base import Tracer, Value
from .builtin import BuiltinValue, class_of
from .cell import CellValue
from .class_lookup import MISSING, find_in_class, has_special
from .class_value import ClassValue
from .constant import is_literal, snapshot
from .descriptor import DescriptorValue
from .dict import DictValue
from .function import FunctionValue, MadeFunctionValue, MethodValue
from .registry import handles
from .tuple import TupleValue
from .user_object import ObjectValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_NAMED_TUPLE: Any = collections.namedtuple
_READ_AT_MAKING = frozenset({"__qualname__", "__slots__", "__module__", "__doc__"})  # by `type` itself
_HEAP_TYPE = 1 << 9  # a flag of classes that are made at run time


@functools.cache
def _unattached(builtin_base: type) -> type:
    """The base of stand-ins that are not, or no longer, attached to the bases of the program; of the same layout."""
    return type("_Unattached", (builtin_base,), {})


def _builtin_base(cls: type) -> type:
    """The class of the interpreter's own whose layout a class extends."""
    while cls.__flags__ & _HEAP_TYPE:
        assert cls.__base__ is not None
        cls = cls.__base__
    return cls


def _stand_in(name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """A class with these bases, of which no base of the program was told."""
    if all(base is _builtin_base(base) for base in bases):
        return type(name, bases, namespace)
    builtin_base = next((found for base in bases if (found := _builtin_base(base)) is not object), object)
    made = type(name, (_unattached(builtin_base),), namespace)
    made.__bases__ = bases
    return made


class MadeClassValue(ClassValue):
    """A class made in the frame. `contents`: its namespace, as it is now; `later`: what was put there since it is made,
    by name: whether it stands in the place of something else."""

    kind = "a class made in the frame"
    __slots__ = ("bases", "contents", "derived", "has_hooks", "later")

    def __init__(self, stand_in: type, bases: Sequence[ClassValue], contents: dict[str, Value]) -> None:
        super().__init__(stand_in)
        self.bases = tuple(bases)
        self.contents = contents
        self.later: dict[str, bool] = {}
        self.derived: list[MadeClassValue] = []  # their base knows them, wherever else they are held
        for base in bases:
            if isinstance(base, MadeClassValue):
                base.derived.append(self)
        self.has_hooks = False  # `__init_subclass__` or `__set_name__` ran: making it again would run them again

    def known_source(self) -> Source | None:
        return None

    def _base_of(self, owner: type) -> ClassValue | None:
        """The base through which the namespace of a class in the MRO is reached."""
        return next((base for base in self.bases if owner in base.obj.__mro__), None)

    def class_attribute(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value:
        base = self._base_of(owner)
        if base is not None and owner is not self.obj:
            return base.class_attribute(tracer, name, raw, owner)
        found = self.contents.get(name)
        if isinstance(found, DescriptorValue) and issubclass(type(raw), (staticmethod, classmethod)):
            found = found.parts[0]
        return super().class_attribute(tracer, name, raw, owner) if found is None else found

    def snapshot(self) -> Any:
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"what is made of {self.describe()}")

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        if isinstance(getattr(find_in_class(self.obj, "__class_getitem__")[0], "__func__", None), FunctionType):
            return super().get_item(tracer, key)
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`[...]` of {self.describe()}")

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op is operator.or_:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`|` of {self.describe()}")
        return super().binary(tracer, op, other, reflected)

    def own_attribute(self, tracer: Tracer, name: str) -> Value | None:
        if name == "__abstractmethods__" and name not in self.contents:
            tracer.raise_observed(AttributeError, name)
        return self.contents.get(name)

    def guard_found(self, tracer: Tracer, name: str, raw: Any, owner: type) -> None:
        if owner is self.obj:
            return  # the frame made it
        base = self._base_of(owner)
        for other in self.bases:
            if other is base:
                break
            other.guard_missing(tracer, name)
        if base is not None:
            base.guard_found(tracer, name, raw, owner)

    def guard_missing(self, tracer: Tracer, name: str) -> None:
        for base in self.bases:
            base.guard_missing(tracer, name)

    def attribute_source(self, name: str, owner: type) -> Source | None:
        base = self._base_of(owner)
        return None if base is None or owner is self.obj else base.attribute_source(name, owner)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        value = value.realize()
        self._refuse_own(name)
        if name not in _READ_AT_MAKING:
            self.later.setdefault(name, name in self.contents)
        self.contents[name] = value
        type.__setattr__(self.obj, name, placeholder(tracer, name, value))

    def _refuse_own(self, name: str) -> None:
        """Raise GraphBreak for what the class itself keeps about classes: its bases, its name, its annotations ..."""
        if hasattr(type.__dict__.get(name), "__set__"):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"`{name}` of {self.describe()} is written to")

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        self._refuse_own(name)
        if name not in self.contents:
            tracer.raise_observed(AttributeError, name)
        del self.contents[name]
        self.later.pop(name, None)
        type.__delattr__(self.obj, name)

    def children(self) -> Sequence[Value]:
        return (*self.bases, *self.contents.values(), *self.derived)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.has_hooks:
            cause = f"{self.describe()}, whose bases or descriptors watch it being made"
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, cause)
        emitter.begin_call(type)
        emitter.load_constant(self.obj.__name__)
        for base in self.bases:
            emitter.load_value(base)
        emitter.build_tuple(len(self.bases))
        there = {name: value for name, value in self.contents.items() if self.later.get(name, True)}
        for name, value in there.items():
            emitter.load_constant(name)
            emitter.load_constant(None) if name in self.later else emitter.load_value(value)
        emitter.build_dict(len(there))
        emitter.call(3)
        emitter.remember(self)
        for name in self.later:
            emitter.load_value(self.contents[name])
            emitter.load_value(self)
            emitter.store_attribute(name)
        for made in self.derived:
            emitter.later(partial(_make_known, made))

    def release(self) -> None:
        """The trace is over: the bases of the program forget the stand-in."""
        bases = self.obj.__bases__
        if any(base is not _builtin_base(base) for base in bases):
            self.obj.__bases__ = (_unattached(_builtin_base(self.obj)),)


def _make_known(made: MadeClassValue, emitter: ValueEmitter) -> None:
    """Emit the making of a class, of which its bases tell."""
    emitter.load_value(made)
    emitter.pop()


class NamedTupleClassValue(MadeClassValue):
    """A class that `collections.namedtuple` made in the frame of constants."""

    kind = "a named tuple made in the frame"
    __slots__ = ("args", "kwargs")

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(_NAMED_TUPLE(*args, **kwargs), (), {})
        self.args = tuple(args)
        self.kwargs = dict(kwargs)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(collections.namedtuple)
        for value in (*self.args, *self.kwargs.values()):
            emitter.load_constant(value)
        emitter.call(len(self.args), tuple(self.kwargs))
        emitter.remember(self)

    def release(self) -> None:
        pass  # its one base is tuple


@handles(collections.namedtuple)
def make_named_tuple(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    given = [snapshot(arg.realize()) for arg in args]
    named = {name: snapshot(value.realize()) for name, value in kwargs.items()}
    named.setdefault("module", tracer.module_name)
    try:
        made = NamedTupleClassValue(given, named)
    except (TypeError, ValueError) as error:
        tracer.raise_observed(type(error), *error.args)
    tracer.graph.values_of_objects[id(made.obj)] = (made.obj, made)
    return made


def placeholder(tracer: Tracer, name: str, value: Value) -> Any:
    """What stands for a value in the namespace of a stand-in: of the same kind, and known by memo."""
    if value.is_constant() and (is_literal(value.as_constant()) or isinstance(value, (ClassValue, BuiltinValue))):
        return value.as_constant()
    if isinstance(value, DescriptorValue):
        parts = [None if part is None else placeholder(tracer, name, part) for part in value.parts]
        return value.cls(*parts)
    if isinstance(value, FunctionValue):
        code = placeholder.__code__
        made: Any = FunctionType(code, {}, name)
        for attribute, write in tracer.side_effects.attribute_writes(value).items():
            if not isinstance(write.value, Deleted) and write.value.is_constant():
                setattr(made, attribute, write.value.as_constant())
    elif isinstance(value, TupleValue) and value.is_constant():
        return value.as_constant()
    elif isinstance(value, ObjectValue) and has_special(value.cls, "__get__"):
        made = object.__new__(value.cls)
    else:
        made = object()
    tracer.graph.values_of_objects[id(made)] = (made, value)
    return made


def make_class(
    tracer: Tracer,
    name: str,
    bases: Sequence[Value],
    contents: dict[str, Value],
    keywords: Mapping[str, Value],
    class_cell: CellValue | None = None,
) -> Value:
    """`type(name, bases, contents, **keywords)`: the class, its descriptors named, its bases told."""
    parents = [base.realize() for base in bases]
    classes = [base for base in parents if isinstance(base, ClassValue)]
    if len(classes) != len(parents):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {name} with a base that is no class")
    if any(type(base.obj) is not type for base in classes) or "metaclass" in keywords:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {name} with a metaclass is made while running")
    if classes and "__slots__" in contents:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {name} with bases and slots is made while running")
    namespace: dict[str, Any] = {key: placeholder(tracer, key, value) for key, value in contents.items()}
    namespace.setdefault("__qualname__", name)
    set_names = [value for value in contents.values() if _has_set_name(value)]
    try:
        stand_in = _stand_in(name, tuple(base.obj for base in classes), namespace)
    except Exception as error:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {name}: {error}") from None
    made = MadeClassValue(stand_in, classes, contents)
    tracer.graph.values_of_objects[id(stand_in)] = (stand_in, made)
    tracer.when_released(made.release)
    if class_cell is not None:
        class_cell.store(tracer, made)
    for key, value in contents.items():
        if value in set_names:
            value.call_method(tracer, "__set_name__", [made, tracer.constant(key)], {})
    hook, owner = next(
        ((vars(base)["__init_subclass__"], base) for base in stand_in.__mro__[1:] if "__init_subclass__" in vars(base)),
        (MISSING, object),
    )
    made.has_hooks = bool(set_names) or owner is not object
    if owner is not object:
        function = made.class_attribute(tracer, "__init_subclass__", hook, owner)
        MethodValue(function, made).call(tracer, [], keywords)
    elif keywords:
        tracer.raise_observed(TypeError, f"{name}.__init_subclass__() takes no keyword arguments")
    return made


def _has_set_name(value: Value) -> bool:
    if isinstance(value, ClassValue) or value.is_constant():
        return False
    if find_in_class(value.python_type(), "__set_name__")[0] is MISSING:
        return False
    if isinstance(value, DescriptorValue):  # a property that takes its name for its errors
        return False
    if not isinstance(value, ObjectValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`__set_name__` of {value.describe()}")
    return True


@handles(builtins.__build_class__, like=lambda func, name, /, *bases, **keywords: None)
def build_class(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """The `class` statement: run the body over a namespace, then make the class of what it left there."""
    body, name, bases = args[0].realize(), args[1].realize().as_constant(), args[2:]
    if not isinstance(body, MadeFunctionValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`__build_class__` called by hand")
    if "metaclass" in kwargs or any(b.realize().python_type() is not type for b in bases):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {name} with a metaclass is made while running")
    namespace = DictValue({})
    result = tracer.run_class_body(body, namespace)
    contents = {key.as_constant(): value for key, value in zip(namespace.keys(tracer), namespace.values(tracer))}
    contents.pop("__classcell__", None)
    cell = result if isinstance(result, CellValue) else None
    return make_class(tracer, name, bases, contents, kwargs, cell)


@handles(type)
def type_of(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 1 and not kwargs:
        return class_of(tracer, args[0].realize())
    if len(args) != 3:
        tracer.raise_observed(TypeError, "type() takes 1 or 3 arguments")
    contents = {name: value.realize() for name, value in tracer.items_of_mapping(args[2])}
    return make_class(tracer, args[0].realize().as_constant(), args[1].realize().unpack(tracer), contents, kwargs)
