"""Opcodes that build, fill and unpack containers, strings and slices.

Invariant: a new container is a new value each time the opcode runs; filling one goes through its own methods, so that
mutation is recorded in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from ...bytecode.version import PY313
from ...graph_break import BreakId, GraphBreak
from ...variables.base import ObservedException, Tracer, Value
from ...variables.class_lookup import is_iterable, shown_name
from ...variables.dict import dict_contents, is_read_as_dict
from ...variables.exception import is_exception_of
from ...variables.iterator import step
from ...variables.operators import format_value as format_value_of
from ...variables.operators import get_item
from ...variables.sequence import SequenceValue
from ...variables.stand_in import refuse
from ..dispatch import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("BUILD_TUPLE")
def build_tuple(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.make_tuple(frame.pop_many(instruction.arg)))


@opcode("BUILD_LIST")
def build_list(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.make_list(frame.pop_many(instruction.arg)))


@opcode("BUILD_SET")
def build_set(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.make_set(frame.pop_many(instruction.arg)))


@opcode("BUILD_MAP")
def build_map(frame: SymbolicFrame, instruction: Instruction) -> None:
    flat = frame.pop_many(2 * instruction.arg)
    frame.push(frame.tracer.make_dict(list(zip(flat[::2], flat[1::2]))))


@opcode("BUILD_CONST_KEY_MAP")
def build_const_key_map(frame: SymbolicFrame, instruction: Instruction) -> None:
    keys = frame.pop().as_constant()
    values = frame.pop_many(instruction.arg)
    tracer = frame.tracer
    frame.push(tracer.make_dict([(tracer.literal(key), value) for key, value in zip(keys, values)]))


@opcode("BUILD_SLICE")
def build_slice(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.make_slice(frame.pop_many(instruction.arg)))


@opcode("BUILD_STRING")
def build_string(frame: SymbolicFrame, instruction: Instruction) -> None:
    parts = frame.pop_many(instruction.arg)
    frame.push(frame.tracer.constant("".join(part.as_constant() for part in parts)))


_CONVERSIONS = (None, str, repr, ascii)


@opcode("FORMAT_VALUE", until=(3, 12))
def format_value(frame: SymbolicFrame, instruction: Instruction) -> None:
    spec = frame.pop().as_constant() if instruction.arg & 4 else ""
    value = frame.pop()
    frame.push(format_value_of(frame.tracer, value, _CONVERSIONS[instruction.arg & 3], spec))


@opcode("CONVERT_VALUE", since=(3, 13))
def convert_value(frame: SymbolicFrame, instruction: Instruction) -> None:
    conversion = _CONVERSIONS[instruction.arg]
    frame.stack[-1] = format_value_of(frame.tracer, frame.stack[-1], conversion, "")


@opcode("FORMAT_SIMPLE", since=(3, 13))
def format_simple(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack[-1] = format_value_of(frame.tracer, frame.stack[-1], None, "")


@opcode("FORMAT_WITH_SPEC", since=(3, 13))
def format_with_spec(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, spec = frame.stack[-2:]
    result = format_value_of(frame.tracer, value, None, spec.as_constant())
    frame.stack.pop()
    frame.stack[-1] = result


@opcode("LIST_APPEND")
def list_append(frame: SymbolicFrame, instruction: Instruction) -> None:
    item = frame.pop()
    frame.stack[-instruction.arg].call_method(frame.tracer, "append", [item], {})


@opcode("SET_ADD")
def set_add(frame: SymbolicFrame, instruction: Instruction) -> None:
    item = frame.pop()
    frame.stack[-instruction.arg].call_method(frame.tracer, "add", [item], {})


@opcode("MAP_ADD")
def map_add(frame: SymbolicFrame, instruction: Instruction) -> None:
    key, value = frame.pop_many(2)
    frame.stack[-instruction.arg].set_item(frame.tracer, key, value)


@opcode("LIST_EXTEND")
def list_extend(frame: SymbolicFrame, instruction: Instruction) -> None:
    items = frame.pop().realize()
    kind = items.python_type()
    if not is_iterable(kind):
        frame.tracer.raise_observed(TypeError, f"Value after * must be an iterable, not {shown_name(kind)}")
    frame.stack[-instruction.arg].call_method(frame.tracer, "extend", [items], {})


@opcode("SET_UPDATE")
def set_update(frame: SymbolicFrame, instruction: Instruction) -> None:
    items = frame.pop()
    frame.stack[-instruction.arg].call_method(frame.tracer, "update", [items], {})


@opcode("DICT_UPDATE")
def dict_update(frame: SymbolicFrame, instruction: Instruction) -> None:
    items = frame.pop()
    if not _merge(frame.tracer, frame.stack[-instruction.arg], items, None):
        refuse(frame.tracer, lambda mapping: {**mapping}, items)


def _merge(tracer: Tracer, target: Value, items: Value, on_known: Callable[[Value], NoReturn] | None) -> bool:
    """Put the entries of a mapping into a dict; False for what is no mapping, which an AttributeError says.

    `on_known` is told of the first key that is there already."""
    items = items.realize()
    contents = dict_contents(items) if is_read_as_dict(items) else None
    try:
        keys = items.call_method(tracer, "keys", [], {}).unpack(tracer) if contents is None else contents.keys(tracer)
        for key in keys:
            if on_known is not None and target.contains(tracer, key):
                on_known(key)
            if contents is None:
                target.set_item(tracer, key, get_item(tracer, items, key))
    except ObservedException as error:
        if contents is not None or not is_exception_of(error.value, AttributeError):
            raise
        return False
    if contents is not None:
        target.call_method(tracer, "update", [items], {})
    return True


def name_of_callable(tracer: Tracer, callee: Value) -> str:
    """How Python names a callable in errors about its arguments: `module.qualname()`."""
    try:
        name, module = (callee.get_attribute(tracer, n).as_constant() for n in ("__qualname__", "__module__"))
    except (GraphBreak, ObservedException):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the arguments of {callee.describe()} do not fit") from None
    return f"{name}()" if module in (None, "builtins") else f"{module}.{name}()"


@opcode("DICT_MERGE")
def dict_merge(frame: SymbolicFrame, instruction: Instruction) -> None:
    """`f(**a, **b)`: like update, but a key that is already there is the user's error."""
    tracer = frame.tracer
    items = frame.pop()
    target = frame.stack[-instruction.arg]
    below = 2 + PY313 + instruction.arg  # from 3.13 the NULL of a call is above what is called
    callee = frame.stack[-below] if len(frame.stack) >= below else target

    def refuse_words(words: str) -> NoReturn:
        tracer.raise_observed(TypeError, f"{name_of_callable(tracer, callee)} {words}")

    def refuse_key(key: Value) -> NoReturn:
        refuse_words(f"got multiple values for keyword argument '{key.as_constant()}'")

    if not _merge(tracer, target, items, refuse_key):
        refuse_words(f"argument after ** must be a mapping, not {items.python_type().__name__}")


@opcode("LIST_TO_TUPLE", until=(3, 11))
def list_to_tuple(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.make_tuple(frame.pop().unpack(frame.tracer)))


def take(frame: SymbolicFrame, value: Value, count: int) -> list[Value]:
    """The first `count` items of an iterable that must have exactly that many."""
    tracer = frame.tracer
    value = value.realize()
    check_unpackable(frame, value)
    if isinstance(value, SequenceValue):
        items = value.unpack(tracer)
        return items if len(items) == count else _wrong_count(frame, count, len(items))
    iterator = value.iterate(tracer)
    items = []
    for _ in range(count + 1):
        try:
            items.append(iterator.next(tracer))
        except ObservedException as error:
            if not is_exception_of(error.value, StopIteration):
                raise
            break
    return items if len(items) == count else _wrong_count(frame, count, len(items))


def check_unpackable(frame: SymbolicFrame, value: Value) -> None:
    """Raise the program's TypeError if a value that is to be unpacked is no iterable."""
    cls = value.python_type()
    if not is_iterable(cls):
        frame.tracer.raise_observed(TypeError, f"cannot unpack non-iterable {cls.__name__} object")


def _wrong_count(frame: SymbolicFrame, wanted: int, found: int) -> NoReturn:
    if found > wanted:
        frame.tracer.raise_observed(ValueError, f"too many values to unpack (expected {wanted})")
    frame.tracer.raise_observed(ValueError, f"not enough values to unpack (expected {wanted}, got {found})")


@opcode("UNPACK_SEQUENCE")
def unpack_sequence(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.extend(reversed(take(frame, frame.pop(), instruction.arg)))


@opcode("UNPACK_EX")
def unpack_ex(frame: SymbolicFrame, instruction: Instruction) -> None:
    before, after = instruction.arg & 0xFF, instruction.arg >> 8
    value = frame.pop().realize()
    check_unpackable(frame, value)
    if isinstance(value, SequenceValue):
        items = value.unpack(frame.tracer)
    else:  # the first ones one by one, then `list(iterator)`, which asks the iterator for an iterator
        iterator = value.iterate(frame.tracer)
        items = []
        while len(items) < before and (item := step(frame.tracer, iterator)) is not None:
            items.append(item)
        if len(items) == before:
            items.extend(iterator.iterate(frame.tracer).unpack(frame.tracer))
    if len(items) < before + after:
        found = f"(expected at least {before + after}, got {len(items)})"
        frame.tracer.raise_observed(ValueError, f"not enough values to unpack {found}")
    middle = frame.tracer.make_list(items[before : len(items) - after])
    tail = items[len(items) - after :] if after else []
    frame.stack.extend(reversed([*items[:before], middle, *tail]))
