"""Late reads: numbers and strings of a module that a user's `backward` reads when it runs, not when it is traced.

The graph has the value that they had in the call. `checking_late_reads` has autograd look again when the graph's part
of a backward pass begins. Invariant: a gradient is never computed from a value that was replaced meanwhile; such a
backward pass raises, as one does whose saved tensors were written to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ChangedBeforeBackwardError
from ..guards.exact import same_constant
from ..guards.facts import UserLine

_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class LateRead:
    """A global by module and name, and where the user's `backward` reads it."""

    module: str
    name: str
    line: UserLine

    def value(self) -> Any:
        """What the global is now."""
        module = sys.modules.get(self.module)
        return _MISSING if module is None else vars(module).get(self.name, _MISSING)


def checking_late_reads(compiled: Callable[..., Any], reads: Sequence[LateRead]) -> Callable[..., Any]:
    """`compiled`, a graph, such that the backward pass of its outputs raises if what was read is not what it was."""

    def call(*inputs: Any) -> Any:
        outputs = compiled(*inputs)
        values = tuple(read.value() for read in reads)

        def check(gradients: Any) -> None:
            for read, value in zip(reads, values):
                found = read.value()
                if not same_constant(found, value):
                    raise ChangedBeforeBackwardError(f"{read.module}.{read.name}", read.line)

        nodes = {id(t.grad_fn): t.grad_fn for t in outputs if isinstance(t, torch.Tensor) and t.grad_fn is not None}
        for node in nodes.values():
            node.register_prehook(check)
        return outputs

    return call
