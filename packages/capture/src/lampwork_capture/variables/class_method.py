"""ClassMethodValue: a method of a class that is implemented in C, bound to the class.

It is what reading `dict.fromkeys`, `cls.mro` or `super().__call__` in a metaclass gives. Invariant: it comes back as
the very method that was read, whatever the class has under the same name.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, MethodWrapperType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .class_lookup import needs_no_guard
from .itertool import chain_of

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter
    from .class_value import ClassValue


class ClassMethodValue(Value):
    """A method like `dict.fromkeys`; or `of_type`, a method of the metaclass, like `cls.mro`.

    What the class has under that name does not hide the latter from `super()` in a metaclass."""

    kind = "a class method"
    __slots__ = ("name", "of_type", "owner")

    def __init__(self, owner: ClassValue, name: str, of_type: Any = None) -> None:
        super().__init__()
        self.owner = owner
        self.name = name
        self.of_type = of_type

    def python_type(self) -> type:
        return MethodWrapperType if isinstance(self.of_type, WrapperDescriptorType) else BuiltinFunctionType

    def _bound(self) -> Any:
        cls = self.owner.obj
        return getattr(cls, self.name) if self.of_type is None else self.of_type.__get__(cls, type(cls))

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        cls = self.owner.obj
        if self.name == "__call__":
            return self.owner.instantiate(tracer, args, kwargs)
        if self.name == "fromkeys" and issubclass(cls, dict):
            most_named = {"value"} if issubclass(cls, OrderedDict) else set[str]()
            if kwargs.keys() - most_named or not 1 <= len(args) + len(kwargs) <= 2 or not args:
                cause = f"eager refuses these arguments of `{cls.__name__}.fromkeys`"
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
            made = self.owner.call(tracer, [], {})
            value = args[1] if len(args) > 1 else kwargs.get("value", tracer.constant(None))
            for key in args[0].unpack(tracer):
                made.set_item(tracer, key, value)
            return made
        if self.name == "from_iterable" and cls is itertools.chain:
            return chain_of(args[0].realize().iterate(tracer))
        if self.name in ("mro", "__subclasses__") and not args:
            return tracer.constant(self._bound()())
        if self.name in ("__instancecheck__", "__subclasscheck__"):
            check = isinstance if self.name == "__instancecheck__" else issubclass
            return tracer.constant(check).call(tracer, [args[0], self.owner], {})
        if all(arg.is_constant() for arg in (*args, *kwargs.values())) and needs_no_guard(cls):
            plain = [arg.as_constant() for arg in args]
            named = {key: arg.as_constant() for key, arg in kwargs.items()}
            try:
                return tracer.constant(self._bound()(*plain, **named))
            except Exception as error:
                return tracer.raise_observed(type(error), *error.args)
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{cls.__name__}.{self.name}` is not modelled")

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.of_type is None:
            emitter.load_value(self.owner)
            emitter.load_attribute(self.name)
        else:
            emitter.begin_call(self.of_type.__get__)
            emitter.load_value(self.owner)
            emitter.call(1)
