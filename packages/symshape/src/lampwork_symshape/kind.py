"""The kinds of expression node.

A closed set that `expr` (the nodes), `rules` (the simplifier) and `printer` (text) share, so that the latter two
dispatch on a node without importing its class. Invariant: each concrete node class has exactly one kind.
"""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """What a node is; the value names the printer method, `print_<value>`."""

    INTEGER = "integer"
    SYMBOL = "symbol"
    ADD = "add"
    MUL = "mul"
    FLOOR_DIV = "floor_div"
    MOD = "mod"
    MIN = "min"
    MAX = "max"
    WHERE = "where"
    BOOLEAN = "boolean"
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    AND = "and"
    OR = "or"
