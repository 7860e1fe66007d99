"""Finalizers: objects of which somebody is told when they end, by `__del__` or the callback of a weak reference.

What a frame lets go ends at once in eager. Asked where a local is overwritten or deleted, and of what changes take out
of containers (interpreter/dropped_objects.py). Invariant: nothing of the program runs.
"""

from __future__ import annotations

import weakref
from types import FunctionType
from typing import Any

from .base import Value
from .class_lookup import has_special


def tells_its_end(value: Value) -> bool:
    """Whether it can be seen that the real object behind a value has ended: by a finalizer, or a weak reference."""
    obj = None if value.source is None else getattr(value, "obj", None)
    if obj is None:
        return False
    return type(obj) is FunctionType or has_special(type(obj), "__del__") or weakref.getweakrefcount(obj) > 0


def runs_code_at_its_end(obj: Any) -> bool:
    """Whether the end of a real object runs something of the program. Guards and torch are told as well, and are not
    that."""
    if has_special(type(obj), "__del__"):
        return True
    if not weakref.getweakrefcount(obj):
        return False
    callbacks = [reference.__callback__ for reference in weakref.getweakrefs(obj)]
    return any(callback is not None and not _is_ours(callback) for callback in callbacks)


def _is_ours(callback: Any) -> bool:
    module: Any = getattr(callback, "__module__", None) or type(callback).__module__
    return isinstance(module, str) and module.partition(".")[0] in ("torch", "lampwork_capture")
