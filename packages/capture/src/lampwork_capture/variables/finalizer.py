"""Finalizers: objects of which somebody is told when they end, by `__del__` or the callback of a weak reference.

What a frame drops ends at once in eager, but at the replay of side effects in a captured one. So whoever drops a value
asks here first. Invariant: nothing of the program runs.
"""

from __future__ import annotations

import weakref
from types import FunctionType
from typing import Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from .base import Value
from .class_lookup import has_plain_names, has_special


def has_finalizer(value: Value) -> bool:
    """Whether the real object behind a value has `__del__`."""
    obj = real_object(value)
    return obj is not None and has_special(type(obj), "__del__")


def tells_its_end(value: Value) -> bool:
    """Whether the end of the real object may run something: a finalizer, or a callback."""
    obj = real_object(value)
    if obj is None:
        return False
    return type(obj) is FunctionType or has_special(type(obj), "__del__") or weakref.getweakrefcount(obj) > 0


def runs_code_at_its_end(value: Value) -> bool:
    """Whether the end of the real object runs something that the program asked for: no bookkeeping of caches."""
    obj = real_object(value)
    if obj is None:
        return False
    callbacks = (reference.__callback__ for reference in weakref.getweakrefs(obj))
    return has_special(type(obj), "__del__") or any(isinstance(callback, weakref.finalize) for callback in callbacks)


def real_object(value: Value) -> Any:
    """The object that existed before the frame; None for one that it made, or of a kind that cannot tell."""
    return None if value.source is None else getattr(value, "obj", None)


def check_attribute_dropped(value: Value, name: str) -> None:
    """Raise GraphBreak if what an attribute of an object holds, which is overwritten or deleted, would end too late."""
    obj = real_object(value)
    namespace = None if obj is None else _native.instance_dict(obj)
    if namespace and has_plain_names(namespace) and has_special(type(namespace.get(name)), "__del__"):
        cause = f"`{name}` of {value.describe()} is replaced, and what it held has a finalizer"
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)


def check_dropped(value: Value, container: Value) -> None:
    """Raise GraphBreak if a container's item, which is overwritten or deleted, would end too late."""
    if has_finalizer(value):
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, f"an item of {container.describe()} goes, and has a finalizer")
