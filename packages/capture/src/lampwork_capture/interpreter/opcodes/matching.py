"""Opcodes of structural pattern matching.

Invariant: a pattern is decided by the subject's type as Python decides it; unknown code is never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...bytecode.version import PY311
from ...graph_break import BreakId, GraphBreak
from ...guards.namespaces import flags_of
from ...variables.base import ObservedException, Value
from ...variables.exception import is_exception_of
from ...variables.operators import hash_key
from ..dispatch import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

_SEQUENCE_FLAG, _MAPPING_FLAG = 1 << 5, 1 << 6
_MAPPING_METHODS = ("get", "__getitem__", "__contains__")
_SELF_MATCHING = (bool, bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple)


@opcode("MATCH_MAPPING")
def match_mapping(frame: SymbolicFrame, instruction: Instruction) -> None:
    flags = flags_of(frame.stack[-1].python_type())
    frame.push(frame.tracer.constant(bool(flags & _MAPPING_FLAG)))


@opcode("MATCH_SEQUENCE")
def match_sequence(frame: SymbolicFrame, instruction: Instruction) -> None:
    flags = flags_of(frame.stack[-1].python_type())
    frame.push(frame.tracer.constant(bool(flags & _SEQUENCE_FLAG)))


@opcode("MATCH_KEYS")
def match_keys(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    subject, keys = frame.stack[-2], frame.stack[-1].unpack(tracer)
    kind: Any = subject.python_type()
    if not issubclass(kind, dict) or any(getattr(kind, name) is not getattr(dict, name) for name in _MAPPING_METHODS):
        raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, f"a mapping pattern on {subject.describe()}")
    values: list[Value] = []
    if len({hash_key(tracer, key) for key in keys}) < len(keys):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "a mapping pattern with a key twice")
    for key in keys:
        if not subject.contains(tracer, key):
            frame.push(tracer.constant(None))
            _push_verdict(frame, False)
            return
        values.append(subject.get_item(tracer, key))
    frame.push(tracer.make_tuple(values))
    _push_verdict(frame, True)


def _push_verdict(frame: SymbolicFrame, matched: bool) -> None:
    """Before 3.11 a pattern also says whether it matched; later code tests for None."""
    if not PY311:
        frame.push(frame.tracer.constant(matched))


def _fail_class(frame: SymbolicFrame, subject: Value) -> None:
    frame.push(frame.tracer.constant(None) if PY311 else subject)
    _push_verdict(frame, False)


@opcode("COPY_DICT_WITHOUT_KEYS", until=(3, 10))
def copy_dict_without_keys(frame: SymbolicFrame, instruction: Instruction) -> None:
    """The rest of a mapping pattern."""
    tracer = frame.tracer
    subject, keys = frame.stack[-2], frame.stack[-1].unpack(tracer)
    rest = tracer.make_dict([])
    rest.call_method(tracer, "update", [subject], {})
    for key in keys:
        rest.delete_item(tracer, key)
    frame.stack[-1] = rest


@opcode("MATCH_CLASS")
def match_class(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    subject, cls_value, names_value = frame.pop_many(3)
    cls = cls_value.as_constant()
    if not isinstance(cls, type):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{cls_value.describe()} as a class pattern")
    names = [name.as_constant() for name in names_value.unpack(tracer)]
    if not tracer.constant(isinstance).call(tracer, [subject, cls_value], {}).truth(tracer):
        _fail_class(frame, subject)
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
    if len(set(names)) < len(names):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"a class pattern of {cls.__name__} with a name twice")
    for name in names:
        try:
            attributes.append(subject.get_attribute(tracer, name))
        except ObservedException as error:
            if not is_exception_of(error.value, AttributeError):
                raise
            _fail_class(frame, subject)
            return
    frame.push(tracer.make_tuple(attributes))
    _push_verdict(frame, True)
