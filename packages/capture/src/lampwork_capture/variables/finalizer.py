"""Finalizers: objects of which somebody is told when they end, by `__del__` or the callback of a weak reference.

What a frame lets go ends at once in eager. Asked where a local is overwritten or deleted, and of what changes take out
of containers (interpreter/clearance.py). Invariant: nothing of the program runs.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from .base import Value
from .class_lookup import has_special

_MOST_LOOKED_AT = 2_000
_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})
_MODULE_OF_CLASS: Any = vars(type)["__module__"]


def tells_its_end(value: Value) -> bool:
    """Whether it can be seen that the real object behind a value has ended: by a finalizer, or a weak reference."""
    obj = None if value.source is None else getattr(value, "obj", None)
    if obj is None:
        return False
    return type(obj) is FunctionType or has_special(type(obj), "__del__") or weakref.getweakrefcount(obj) > 0


def runs_code_at_its_end(obj: Any) -> bool:
    """Whether the end of a real object runs something of the program. Guards and torch are told as well, and are not
    that."""
    if issubclass(type(obj), type):
        return False  # a class holds itself: it ends when the collector finds it
    if has_special(type(obj), "__del__"):
        return True
    if not weakref.getweakrefcount(obj):
        return False
    callbacks = [reference.__callback__ for reference in weakref.getweakrefs(obj)]
    return any(callback is not None and not _is_ours(callback) for callback in callbacks)


def _is_ours(callback: Any) -> bool:
    """Whether the callback of a weak reference is a guard's, or torch's. It is not asked: it may be the program's."""
    cls = type(callback)
    if cls is MethodType:
        return _is_ours(callback.__func__)
    module = callback.__module__ if cls in (FunctionType, BuiltinFunctionType) else _MODULE_OF_CLASS.__get__(cls)
    return type(module) is str and module.partition(".")[0] in ("torch", "lampwork_capture")


def reaches_code_at_an_end(obj: Any) -> bool:
    """Whether an object, or one that it holds, runs something of the program at its end.

    Looks at so many objects at most; not into classes, imported modules and the globals of functions, which stay."""
    seen: set[int] = set()
    waiting = [obj]
    while waiting and len(seen) < _MOST_LOOKED_AT:
        found = waiting.pop()
        if type(found) in _ATOMS or id(found) in seen:
            continue
        seen.add(id(found))
        if runs_code_at_its_end(found):
            return True
        waiting += _held_by(found)
    return False


def _held_by(obj: Any) -> Iterable[Any]:
    """What an object holds, as the collector sees it, which runs nothing of the program."""
    cls = type(obj)
    if issubclass(cls, type) or (issubclass(cls, ModuleType) and any(m is obj for m in list(sys.modules.values()))):
        return ()
    held: Iterator[Any] = iter(gc.get_referents(obj))
    if cls is FunctionType:
        return (part for part in held if part is not obj.__globals__ and part is not obj.__builtins__)
    if cls is FrameType:
        around = (obj.f_globals, obj.f_builtins, obj.f_back)
        return (part for part in held if all(part is not each for each in around))
    return held
