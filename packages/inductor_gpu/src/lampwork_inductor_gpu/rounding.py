"""Operations whose result is rounded to a half at once: they need not be exact to the last bit of float32.

Beside the kernel's text: a correctly rounded division takes some twenty instructions and an error function as many;
one that is off by a few units in the last place of float32, or by 4e-6, takes a few. Invariant: no such result is read
by anything but that rounding, for a sigmoid by way of products, for the error function of `1 + erf(x)` and products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import ScheduledKernel
from lampwork_inductor_core.ir.loop_body import Compute, Constant, Node, operands, walk

_HALVES = (torch.float16, torch.bfloat16)


def rough_operations(kernel: ScheduledKernel) -> Mapping[Node, str]:
    """The names of the rough operations that may stand for a kernel's divisions and error functions in float32."""
    readers: dict[Node, set[Node | None]] = {}  # None: a stage
    for stage in kernel.stages():
        for root in stage.roots:
            readers.setdefault(root, set()).add(None)
            for node in walk(root):
                for source in operands(node):
                    readers.setdefault(source, set()).add(node)
    found: dict[Node, str] = {}
    for node in readers:
        if not isinstance(node, Compute) or node.dtype != torch.float32:
            continue
        if node.op == "truediv" and _all(readers[node], _rounds):
            found[node] = "roughdiv"
        elif node.op == "sigmoid" and _all(readers[node], lambda user: _is_rounded_product(user, readers)):
            found[node] = "roughsigmoid"
        elif node.op == "erf" and _all(readers[node], lambda user: _is_rounded_factor(user, readers)):
            found[node] = "rougherf"
    return found


def _all(users: set[Node | None], holds: Callable[[Node], bool]) -> bool:
    return all(user is not None and holds(user) for user in users)


def _rounds(user: Node) -> bool:
    return isinstance(user, Compute) and user.op == "to_dtype" and user.dtype in _HALVES


def _is_rounded_factor(user: Node, readers: Mapping[Node, set[Node | None]]) -> bool:
    """Whether a reader adds 1, and the sum goes into products alone that are rounded to halves."""
    if not isinstance(user, Compute) or user.op != "add":
        return False
    if not any(isinstance(a, Constant) and a.value == 1 for a in user.arguments):
        return False
    return _all(readers[user], lambda product: _is_rounded_product(product, readers))


def _is_rounded_product(user: Node, readers: Mapping[Node, set[Node | None]]) -> bool:
    return isinstance(user, Compute) and user.op == "mul" and _all(readers[user], _rounds)
