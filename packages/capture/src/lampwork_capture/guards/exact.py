"""Exact comparison of constants: by type and value, bit by bit, without asking a user's `__eq__`.

The Python counterpart of csrc/guard_value.c; also gives dictionary keys under which 1, 1.0 and True are three things.
Invariant: `exact_key(a) == exact_key(b)` exactly when the native tree calls them the same constant.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import Any, cast

import torch

_ATOMS = (int, str, bytes, range)
_SAME_BY_VALUE = (torch.device,)


def exact_key(value: Any) -> Hashable:
    """A hashable that is equal for the same constants only. Objects that are no constants count by identity."""
    kind = type(value)
    if kind in _ATOMS or kind in _SAME_BY_VALUE:
        return (kind, value)
    if kind is float:
        return (kind, struct.pack("=d", value))
    if kind is complex:
        return (kind, struct.pack("=dd", value.real, value.imag))
    if isinstance(value, tuple):
        return (kind, *(exact_key(item) for item in cast("tuple[Any, ...]", value)))
    if kind is frozenset:
        return (kind, frozenset(exact_key(item) for item in cast("frozenset[Any]", value)))
    if kind is slice:
        return (kind, exact_key(value.start), exact_key(value.stop), exact_key(value.step))
    return (kind, id(value))


def same_constant(value: Any, expected: Any) -> bool:
    """Whether both have one type and one value."""
    return value is expected or exact_key(value) == exact_key(expected)
