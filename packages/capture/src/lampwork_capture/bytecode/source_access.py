"""Run-time helpers that emitted bytecode calls where a source has no short spelling in bytecode.

They stand in `co_consts` of replacement code, so they never depend on a name in the user's globals.
Invariant: each does exactly what `Source.resolve` of its source does.
"""

from __future__ import annotations

import sys
from itertools import islice
from types import FunctionType
from typing import Any


def read_item(container: Any, key: Any) -> Any:
    """`container[key]`, past an overridden `__getitem__` of a dict subclass."""
    if isinstance(container, dict):
        return dict.__getitem__(container, key)
    return container[key]


def read_module(name: str) -> Any:
    """`sys.modules[name]`."""
    return sys.modules[name]


def nth_key(mapping: dict[Any, Any], index: int) -> Any:
    """The nth key in insertion order. Raises IndexError past the end."""
    for key in islice(dict.keys(mapping), index, None):
        return key
    raise IndexError(index)


def nth_value(mapping: dict[Any, Any], index: int) -> Any:
    """The nth value in insertion order. Raises IndexError past the end."""
    for value in islice(dict.values(mapping), index, None):
        return value
    raise IndexError(index)


def read_default(function: FunctionType, key: int | str) -> Any:
    """A positional default by index or a keyword-only default by name."""
    if isinstance(key, int):
        return (function.__defaults__ or ())[key]
    return (function.__kwdefaults__ or {})[key]
