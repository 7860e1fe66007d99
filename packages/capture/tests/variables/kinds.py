"""Decorators that collect programs: `whole` must be captured as one graph without a break; `any_graphs` need not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from differential import check_program

Program = Callable[..., Any]


class Programs:
    """Programs of one test file, with how each is to be captured."""

    def __init__(self) -> None:
        self.found: list[tuple[Program, bool]] = []

    def whole(self, function: Program) -> Program:
        self.found.append((function, True))
        return function

    def any_graphs(self, function: Program) -> Program:
        self.found.append((function, False))
        return function


def check(function: Program, is_whole: bool) -> None:
    """Eager and optimized agree; no break where none is allowed."""
    callback = check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 3)))
    if is_whole:
        own = [record for record in callback.records if record.code is function.__code__]
        assert own, "never converted"
        reasons = [record.graph_break for record in own if record.graph_break is not None]
        assert not reasons, reasons
        changes_itself = any(name.startswith("state_") for name in function.__code__.co_names)
        assert len(own) == 1 or changes_itself, list(callback.cache.recompilations)
