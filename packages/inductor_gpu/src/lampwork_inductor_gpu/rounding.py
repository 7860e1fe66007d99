"""Divisions whose quotient is rounded to a half at once: they need not be exact to the last bit of float32.

Beside the kernel's text: a correctly rounded division takes some twenty instructions, one that is off by up to two
units in the last place of float32 takes a few. Invariant: no such quotient is read by anything but that rounding.
"""

from __future__ import annotations

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import ScheduledKernel
from lampwork_inductor_core.ir.loop_body import Compute, Node, operands, walk

_HALVES = (torch.float16, torch.bfloat16)


def rounded_divisions(kernel: ScheduledKernel) -> frozenset[Node]:
    """The divisions in float32 that are only read by conversions to halves."""
    divisions: dict[Node, bool] = {}
    for stage in kernel.stages():
        for root in stage.roots:
            divisions[root] = False
            for node in walk(root):
                to_half = isinstance(node, Compute) and node.op == "to_dtype" and node.dtype in _HALVES
                for source in operands(node):
                    divisions[source] = divisions.get(source, True) and to_half
    return frozenset(
        node
        for node, only_rounded in divisions.items()
        if only_rounded and isinstance(node, Compute) and node.op == "truediv" and node.dtype == torch.float32
    )
