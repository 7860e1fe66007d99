"""Branches on tensor data of which one arm only raises: `if not ok.all(): raise ...`, `assert ok`.

The trace takes the other arm, and the graph asserts that the data agrees. If it does not, the frame runs again as
plain Python and raises there (`graph.rerun`). Invariant: an arm that raises does so without a further branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..variables.base import Value
from ..variables.sym_truth import SymTruthValue
from ..variables.tensor import TensorValue
from .short_circuit import is_irrelevant

if TYPE_CHECKING:
    from .frame import SymbolicFrame
    from .instructions import DecodedCode, Instruction

_LONGEST = 120  # instructions of an arm: a call and a message
_LEAVES = ("RETURN", "YIELD", "SEND", "FOR_ITER", "RERAISE", "WITH", "BEFORE_WITH", "SETUP", "GET_ITER")


def truth_at_jump(frame: SymbolicFrame, jump: Instruction, value: Value) -> bool:
    """`bool(value)`, tested by a conditional jump; a branch on data is decided if one arm only raises."""
    value = value.realize()
    if isinstance(value, SymTruthValue) and is_irrelevant(frame, jump.index):
        return False
    if isinstance(value, TensorValue) and value.fake.numel() == 1:
        decoded = frame.decoded
        raises = {
            "TRUE" in jump.name: _only_raises(decoded, jump.target),
            "TRUE" not in jump.name: _only_raises(decoded, jump.index + 1),
        }
        expected = raises[False]
        if raises[True] != raises[False] and _assume(frame, value, expected):
            return expected
    return value.truth(frame.tracer)


def _assume(frame: SymbolicFrame, value: TensorValue, expected: bool) -> bool:
    """Assert in the graph that the tensor is true, or not. False if that cannot be done here."""
    tracer = frame.tracer
    graph = tracer.graph
    if graph.cannot_repeat or graph.is_in_subgraph or value.fake.device.type != "cpu":
        return False  # a failed assertion on an accelerator ends the process's use of it
    if graph.calls_user_code and tracer.is_handled():
        return False
    graph.is_rerun = True
    if not expected:
        value = tracer.add_node("call_function", torch.logical_not, (value.node,), {})  # type: ignore[assignment]
    tracer.add_node("call_function", torch.ops.aten._assert_async.msg, (value.node, str(tracer.user_line)), {})
    return True


def _only_raises(decoded: DecodedCode, index: int) -> bool:
    """Whether control that gets to an instruction surely raises, with nothing but expressions before."""
    for _ in range(_LONGEST):
        instruction = decoded.instructions[index]
        name = instruction.name
        if name == "RAISE_VARARGS":
            return True
        if name == "JUMP_FORWARD":
            index = instruction.target
            continue
        if instruction.target >= 0 or name.startswith(_LEAVES):
            return False
        index += 1
    return False
