"""The MRO of a class, its flags and the namespaces in it, past whatever its metaclass shows under these names.

Read by guards and by the values that look names up. Invariant: nothing of the program runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import _native

mro_of: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
namespace_of: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
flags_of: Callable[[type], int] = vars(type)["__flags__"].__get__
is_plain_class: Callable[[type], bool] = _native.is_plain_class  # no key of a namespace in its MRO runs code when met


def is_plain_namespace(namespace: Mapping[Any, Any]) -> bool:
    """Whether the same is true of a single namespace: its keys are plain strings, none of a class of its own."""
    keys = dict.__iter__(namespace) if isinstance(namespace, dict) else iter(namespace)  # no subclass of dict is asked
    return all(type(key) is str for key in keys)
