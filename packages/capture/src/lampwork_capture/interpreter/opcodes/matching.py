"""Opcodes of structural pattern matching.

Invariant: a pattern is decided by the subject's type as Python decides it; unknown code is never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph_break import BreakId, GraphBreak
from ...variables.base import ObservedException, Value
from ...variables.exception import is_exception_of
from ..dispatch import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

_SEQUENCE_FLAG, _MAPPING_FLAG = 1 << 5, 1 << 6
_SELF_MATCHING = (bool, bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple)


@opcode("MATCH_MAPPING")
def match_mapping(frame: SymbolicFrame, instruction: Instruction) -> None:
    flags = frame.stack[-1].python_type().__flags__
    frame.push(frame.tracer.constant(bool(flags & _MAPPING_FLAG)))


@opcode("MATCH_SEQUENCE")
def match_sequence(frame: SymbolicFrame, instruction: Instruction) -> None:
    flags = frame.stack[-1].python_type().__flags__
    frame.push(frame.tracer.constant(bool(flags & _SEQUENCE_FLAG)))


@opcode("MATCH_KEYS")
def match_keys(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    subject, keys = frame.stack[-2], frame.stack[-1].unpack(tracer)
    if not issubclass(subject.python_type(), dict):
        raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, f"a mapping pattern on {subject.describe()}")
    values: list[Value] = []
    for key in keys:
        if not subject.contains(tracer, key):
            frame.push(tracer.constant(None))
            return
        values.append(subject.get_item(tracer, key))
    frame.push(tracer.make_tuple(values))


@opcode("MATCH_CLASS")
def match_class(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    subject, cls_value, names_value = frame.pop_many(3)
    cls = cls_value.as_constant()
    names = [name.as_constant() for name in names_value.unpack(tracer)]
    if not tracer.constant(isinstance).call(tracer, [subject, cls_value], {}).truth(tracer):
        frame.push(tracer.constant(None))
        return
    count = instruction.arg
    attributes: list[Value] = []
    if count:
        arguments = getattr(cls, "__match_args__", None)
        if arguments is None and cls in _SELF_MATCHING and count == 1:
            attributes.append(subject)
        elif not isinstance(arguments, tuple) or len(arguments) < count:
            cause = f"a class pattern of {cls.__name__} with {count} positions"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
        else:
            names = [*arguments[:count], *names]
    for name in names:
        try:
            attributes.append(subject.get_attribute(tracer, name))
        except ObservedException as error:
            if not is_exception_of(error.value, AttributeError):
                raise
            frame.push(tracer.constant(None))
            return
    frame.push(tracer.make_tuple(attributes))
