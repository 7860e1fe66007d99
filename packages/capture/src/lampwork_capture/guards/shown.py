"""How a value of the user's is shown in a reason: short, and without running anything of the program.

`repr`, `len` and iteration are code of the user's for any class of theirs, and a reason must not be seen by the program
that it is about. Invariant: only methods of builtin classes and of torch's are called, on objects of these very
classes.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable
from types import BuiltinFunctionType, EllipsisType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import torch


class Gone:
    """Stands for an object that was compared by identity and does not exist any more."""


_module_of: Callable[[type], str] = vars(type)["__module__"].__get__  # past what a metaclass has
_name_of: Callable[[type], str] = vars(type)["__qualname__"].__get__
_LONGEST = 80
_MOST_PARTS = 40
_MOST_BITS = 1_000  # of an int; the interpreter refuses the digits of far longer ones
_SCALARS: tuple[type, ...] = (
    *(int, float, complex, bool, str, bytes, range, NoneType, EllipsisType),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size),
)
_CONTAINERS: tuple[type, ...] = (tuple, list, dict, set, frozenset)
_SIZED: tuple[type, ...] = (*_CONTAINERS, str, bytes, bytearray, collections.deque)


def type_name(kind: type) -> str:
    """The name of a class, with its module unless it is a builtin."""
    if kind is Gone:
        return "class that is gone"
    module = _module_of(kind)
    return _name_of(kind) if module == "builtins" else f"{module}.{_name_of(kind)}"


def shown(value: Any) -> str:
    """A value in at most 80 characters: its text if that is the interpreter's own, else what kind of object it is."""
    kind = type(value)
    if _has_own_text(value, _MOST_PARTS):
        text = repr(value)
    elif kind is Gone:
        text = "an object that is gone"
    elif issubclass(kind, torch.Tensor):
        with torch._C.DisableTorchFunctionSubclass():  # its class may be the user's, and would be called
            text = f"a tensor of sizes {tuple(value.shape)}"
    elif kind is type:
        text = f"the class {type_name(value)}"
    elif kind in (FunctionType, BuiltinFunctionType):
        text = f"the function {value.__qualname__}"
    elif kind is MethodType:
        text = f"a method of {shown(value.__self__)}"
    elif kind is ModuleType:
        text = f"the module {vars(value).get('__name__')}"
    elif issubclass(type(kind), enum.EnumMeta):
        text = f"{_name_of(kind)}.{object.__getattribute__(value, '__dict__').get('_name_')}"
    else:
        text = f"a {type_name(kind)}" if kind is not int else "a very large int"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def length_of(value: Any) -> int | None:
    """The number of items that a builtin container holds, an instance of a subclass too; None for anything else."""
    base = next((base for base in _SIZED if issubclass(type(value), base)), None)
    return None if base is None else base.__len__(value)


def keys_of(value: Any) -> list[Any] | None:
    """The keys of a dict in its own order, of an instance of a subclass too; None for anything else."""
    base = next((base for base in (collections.OrderedDict, dict) if issubclass(type(value), base)), None)
    return None if base is None else list(base.keys(value))


def _has_own_text(value: Any, room: int) -> bool:
    """Whether `repr` runs nothing of the program, and a value has at most `room` parts."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return kind in _SCALARS and not (kind is int and value.bit_length() > _MOST_BITS)
    if len(value) > room:
        return False
    parts = [*dict.keys(value), *dict.values(value)] if kind is dict else [*value]
    return all(_has_own_text(part, room // 2) for part in parts)
