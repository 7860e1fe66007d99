"""The builtins that capture itself is written with: a program may put something else in their place.

Asked before each conversion. Invariant: while one of them is replaced nothing is converted, since our own code would
run on the replacement; builtins that only programs use are traced with whatever stands there.
"""

from __future__ import annotations

import builtins

_FUNCTIONS = (
    *("isinstance", "issubclass", "len", "getattr", "hasattr", "setattr", "callable", "id", "hash", "repr"),
    *("iter", "next", "any", "all", "min", "max", "sum", "sorted"),
)
_NOW = vars(builtins)
_OWN = tuple((name, value) for name, value in _NOW.items() if isinstance(value, type) or name in _FUNCTIONS)


def are_replaced() -> bool:
    """Whether the program has replaced or removed a builtin type, or a builtin function that we use."""
    return any(name not in _NOW or _NOW[name] is not value for name, value in _OWN)
