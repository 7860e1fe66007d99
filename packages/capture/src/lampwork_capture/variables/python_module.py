"""PythonModuleValue: an imported module as a value.

Attributes are the module's globals: those of a user's module are guarded where they are read; constants and classes
of torch and of builtin modules are taken as they are, functions by identity. Invariant: the module object itself is
guarded by identity.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Hashable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch.backends import ContextProp, PropModule

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, DictContains, IdentityIs
from ..interpreter.side_effects import DELETED
from ..source import AttributeSource, ModuleSource, Source
from .base import Tracer, Value
from .class_lookup import has_special, is_overridden
from .constant import LITERAL_TYPES

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_MISSING: Any = object()
_SPECIAL_NAMES = frozenset({"__class__", "__dict__", "__annotations__"})
# Modules whose classes and constants are not guarded, and whose functions are by identity only
_STABLE = ("torch", "math", "operator", "functools", "itertools", "collections", "typing", "builtins", "inspect",
           "dataclasses", "contextlib", "copy", "enum", "abc", "types", "string", "re", "os")  # fmt: skip


class PythonModuleValue(Value):
    """A module. `obj` is the module object."""

    kind = "a module"
    __slots__ = ("obj",)

    def __init__(self, module: ModuleType, source: Source) -> None:
        super().__init__(source)
        self.obj = module

    def describe(self) -> str:
        return f"the module {self.obj.__name__}"

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> ModuleType:
        return self.obj

    def truth(self, tracer: Tracer) -> bool:
        return True

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.obj

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        pending: Any = tracer.side_effects.pending_attribute(self, name)
        if pending is None:
            pending = tracer.side_effects.pending_global(vars(self.obj), name)
        if pending is DELETED:
            self._missing(tracer, name)
        if isinstance(pending, Value):
            return pending
        if isinstance(self.obj, PropModule):
            prop = vars(type(self.obj)).get(name)
            if isinstance(prop, ContextProp):  # a setting that C++ holds
                getter: Any = prop.getter
                return tracer.constant(getter).call(tracer, [], {})
        self._check_lookup(tracer, name)
        obj = getattr(self.obj, name, _MISSING)
        if obj is _MISSING:
            self._missing(tracer, name)
        if self._is_stable(obj):
            if isinstance(obj, (FunctionType, BuiltinFunctionType)):
                self._guard_function(tracer, name, obj)
            return tracer.constant(obj)
        assert self.source is not None
        return tracer.wrap(obj, AttributeSource(self.source, name))

    def _check_lookup(self, tracer: Tracer, name: str) -> None:
        """Raise GraphBreak where reading the attribute runs code of the user's."""
        if name in vars(self.obj) and type(self.obj).__getattribute__ is ModuleType.__getattribute__:
            return
        if name == "__annotations__" or is_overridden(type(self.obj), "__getattribute__"):
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is made when it is read")
        if "__getattr__" in vars(self.obj) and self.obj.__name__.partition(".")[0] not in _STABLE:
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`__getattr__` of {self.describe()} is not modelled")

    def snapshot(self) -> Any:
        """A module is known, its contents (which its text shows) are not."""
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"what {self.describe()} contains is not known while tracing")

    def _guard_function(self, tracer: Tracer, name: str, obj: Any) -> None:
        """Record that a library's function was not replaced. Read by the module's own name: one fact for a function."""
        if name in vars(self.obj) and sys.modules.get(self.obj.__name__) is self.obj:
            tracer.guard(IdentityIs(AttributeSource(ModuleSource(self.obj.__name__), name), ByIdentity(obj)))

    def _is_stable(self, obj: Any) -> bool:
        if self.obj.__name__.partition(".")[0] not in _STABLE or isinstance(obj, torch.Tensor):
            return False
        if isinstance(obj, (type, BuiltinFunctionType, FunctionType, ModuleType, enum.Enum)):
            return True
        if isinstance(obj, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            return True
        return type(obj) in LITERAL_TYPES and (name_is_constant(self.obj, obj))

    def _missing(self, tracer: Tracer, name: str) -> None:
        if self.source is not None and name not in vars(self.obj):
            tracer.guard(DictContains(AttributeSource(self.source, "__dict__"), name, False))
        tracer.raise_observed(AttributeError, f"module '{self.obj.__name__}' has no attribute '{name}'")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        namespace: Any = vars(type(self.obj))
        if has_special(type(namespace.get(name)), "__set__") or name in _SPECIAL_NAMES:
            super().set_attribute(tracer, name, value)
        if self._is_namespace():
            tracer.side_effects.store_global(tracer.scope_of(vars(self.obj), None), name, value)
        else:
            tracer.side_effects.store_attribute(self, name, value)

    def _is_namespace(self) -> bool:
        """Whether its attributes are the globals of its functions, reached by the import name: one set of writes."""
        return type(self.obj) is ModuleType and sys.modules.get(self.obj.__name__) is self.obj

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        self.get_attribute(tracer, name)
        if self._is_namespace():
            tracer.side_effects.store_global(tracer.scope_of(vars(self.obj), None), name, DELETED)
        else:
            tracer.side_effects.delete_attribute(self, name)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)


def name_is_constant(module: ModuleType, obj: Any) -> bool:
    """Whether a literal in a library module is a constant by its nature (dtypes, math.pi), not a setting."""
    return isinstance(obj, (torch.dtype, torch.layout, torch.memory_format, float))
