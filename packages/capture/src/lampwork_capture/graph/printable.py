"""Printable: calls that `torch.fx` writes wrongly as Python, recorded so that it writes them rightly.

Asked wherever a node of a graph is made. Invariant: the function that is recorded computes what the one asked for does.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any


def printable(target: Any, args: Sequence[Any]) -> Any:
    """What to record for a call of `target`: `operator.pow(-2.0, p)` would be written as `-2.0 ** p`, which Python
    reads as `-(2.0 ** p)`; the builtin is written as a call."""
    return pow if target is operator.pow and _has_sign(args[0]) else target


def _has_sign(number: Any) -> bool:
    """Whether Python's text of it begins with a minus."""
    return (type(number) is int and number < 0) or (type(number) is float and math.copysign(1.0, number) < 0)
