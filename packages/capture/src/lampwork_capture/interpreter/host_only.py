"""Host-only frames: frames that can reach no tensor, such as code that computes a mask with numpy.

Breaking inside such a frame gains nothing: what follows in it would only break again. So a break there is placed at the
call that entered it, and a root frame of that kind runs natively. A frame is host-only if neither what it holds nor the
globals that its code names lead to torch or to objects of the user's classes. Invariant: the answer decides where a
break lies, never what a program computes, so it may err.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ..variables.base import Value
from ..variables.cell import CellValue
from ..variables.constant import is_literal
from ..variables.dict import DictValue
from ..variables.function import FunctionValue, MadeFunctionValue, MethodValue, SourcedFunctionValue
from ..variables.lazy import LazyValue
from ..variables.opaque import OpaqueValue
from ..variables.sym_scalar import SymScalarValue
from .frame import FramePlace, LastInstruction, Null, SavedException, SavedPart, SymbolicFrame, Unread
from .instructions import decode

_LIBRARIES = sys.stdlib_module_names | {"numpy"}
_PLAIN_CLASSES = frozenset({"numpy", "re", "random", "logging", "decimal", "datetime", "fractions", "time"})
_CONTAINERS: tuple[type, ...] = (list, tuple, dict, set, frozenset)
_OPEN_ENDED = frozenset({"eval", "exec", "globals", "locals", "__import__", "getattr", "vars"})
_LARGEST = 64  # items of a real container that are looked at
_DEEPEST = 8


def outermost_host_only(frames: Sequence[FramePlace]) -> int | None:
    """The number of the outermost of the open frames that is host-only; None if none is."""
    for number, place in enumerate(frames):
        if (number == 0 or place.frame.is_plain) and _is_host_only(place.frame):
            return number
    return None


def _is_host_only(frame: SymbolicFrame) -> bool:
    if frame.parent is None and frame.namespace is not None:
        return False
    reach = _Reach()
    held = (value for value in (*frame.slots, *frame.stack) if value is not None)
    return all(reach.value(value) for value in held) and reach.code(frame.code, frame.scope.variables)


class _Reach:
    """What was looked at on the way; each question answers whether no tensor is reached."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._depth = 0

    def value(self, value: Value) -> bool:
        """A traced value."""
        if id(value) in self._seen or isinstance(value, (Null, LastInstruction, SavedPart, SymScalarValue)):
            return True
        self._seen.add(id(value))
        if isinstance(value, SavedException):
            return value.previous is None or self.value(value.previous)
        if isinstance(value, (Unread, LazyValue, OpaqueValue)):
            return self.object(value.obj)
        if type(value).python_type is Value.python_type:
            return False  # something between two instructions: no object
        if isinstance(value, SourcedFunctionValue):
            return self.object(value.function)
        if isinstance(value, MethodValue):
            return self.value(value.owner)  # whose class has the function
        if isinstance(value, FunctionValue):
            return isinstance(value, MadeFunctionValue) and self._made_function(value)
        children = value.children()
        if isinstance(value, CellValue):
            unread = value.cell if not children else None
            return self._values(children) if unread is None else self._cell(unread)
        if children:
            return value.python_type().__module__ == "builtins" and self._values(children)
        if value.is_constant():
            return self.object(value.as_constant())
        real = value.obj if isinstance(value, DictValue) else None
        return value.python_type() in _CONTAINERS and (real is None or self.object(real))

    def _values(self, values: Iterable[Value]) -> bool:
        return all(self.value(value) for value in values)

    def _made_function(self, function: MadeFunctionValue) -> bool:
        return self._values(function.children()) and self.code(function.code, function.variables)

    def object(self, obj: Any) -> bool:
        """An object of the program."""
        if is_literal(obj) or id(obj) in self._seen:
            return True
        self._seen.add(id(obj))
        cls = type(obj)
        if cls in _CONTAINERS:
            return self._container(obj)
        if issubclass(cls, ModuleType):
            reads_plainly = cls.__getattribute__ is ModuleType.__getattribute__  # else it runs the program
            return reads_plainly and _is_of(obj.__name__, _LIBRARIES)
        if issubclass(cls, FunctionType):
            return _is_of(obj.__module__, _LIBRARIES) or self._function(obj)
        if issubclass(cls, type):
            return cls.__getattribute__ is type.__getattribute__ and _is_of(obj.__module__, _LIBRARIES)
        if issubclass(cls, (BuiltinFunctionType, MethodType)):
            return self.object(obj.__self__) if obj.__self__ is not None else _is_of(obj.__module__, _LIBRARIES)
        return cls in (range, slice) or _is_of(cls.__module__, _PLAIN_CLASSES)

    def _container(self, obj: Any) -> bool:
        if len(obj) > _LARGEST:
            return False
        parts = [*dict.keys(obj), *dict.values(obj)] if type(obj) is dict else [*obj]
        return all(self.object(part) for part in parts)

    def _cell(self, cell: CellType) -> bool:
        try:
            return self.object(cell.cell_contents)
        except ValueError:
            return True  # empty

    def _function(self, function: FunctionType) -> bool:
        if not all(map(self._cell, function.__closure__ or ())):
            return False
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        return all(map(self.object, defaults)) and self.code(function.__code__, function.__globals__)

    def code(self, code: CodeType, variables: Mapping[str, Any]) -> bool:
        """The globals and imports that code names, and those of the functions inside it."""
        if self._depth > _DEEPEST:
            return False
        self._depth += 1
        try:
            for instruction in decode(code).instructions:
                if instruction.name in ("LOAD_GLOBAL", "LOAD_NAME") and not self._global(instruction.value, variables):
                    return False
                if instruction.name == "IMPORT_NAME" and not _is_of(instruction.value, _LIBRARIES):
                    return False
            return all(self.code(part, variables) for part in code.co_consts if isinstance(part, CodeType))
        finally:
            self._depth -= 1

    def _global(self, name: str, variables: Mapping[str, Any]) -> bool:
        if name in variables:
            return self.object(variables[name])
        return name not in _OPEN_ENDED and hasattr(builtins, name)


def _is_of(module: str | None, names: frozenset[str]) -> bool:
    """Whether a module, by its dotted name, belongs to one of these packages."""
    return module is not None and module.partition(".")[0] in names
