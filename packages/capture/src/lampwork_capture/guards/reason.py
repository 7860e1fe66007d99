"""Why a captured graph could not be used again: the first guard that does not hold, in words for a person.

Asked by the recompilation log and by `explain`. `weakened` makes the copy of a guard set that is kept for this, so that
keeping reasons keeps no module or tensor alive. Invariant: the words name the user's own expression and line.
"""

from __future__ import annotations

import dataclasses
import weakref
from dataclasses import dataclass
from typing import Any

import torch

from ..source import FrameScope, Source
from .check import fact_holds, sizes_match, strides_match
from .facts import (
    AllDistinct,
    AttributePresent,
    ByIdentity,
    ConstantIs,
    DictContains,
    DictKeysAre,
    DynamicSize,
    Fact,
    GlobalStateIs,
    Guard,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    IntegerWithin,
    LengthIs,
    SameObject,
    ScalarIs,
    SpecialMethodsAre,
    Stride,
    StrideBehind,
    TensorMatches,
    TypeIs,
    TypeIsAmong,
)
from .global_state import reader_of
from .namespaces import is_plain_class
from .shown import Gone, keys_of, length_of, shown, type_name
from .specials import SPECIAL_NAMES, special_methods

_GONE = Gone()


class WeakIdentity(ByIdentity):
    """A `ByIdentity` that does not keep its object alive."""

    __slots__ = ("_reference",)

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "_reference", weakref.ref(value))

    @property
    def value(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        found = self._reference()
        return _GONE if found is None else found

    def __repr__(self) -> str:
        return f"WeakIdentity({self.value!r})"


class WeakTypeIs(TypeIs):
    """A `TypeIs` that does not keep its class alive."""

    __slots__ = ("_reference",)

    def __init__(self, source: Source, expected: type) -> None:
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "_reference", weakref.ref(expected))

    def __eq__(self, other: object) -> bool:
        """Equal to its like alone: a class has one such reference, which stays the same when it is gone."""
        return type(other) is WeakTypeIs and other._reference is self._reference and other.source == self.source

    def __hash__(self) -> int:
        return hash((self.source, id(self._reference)))

    @property
    def expected(self) -> type:  # pyright: ignore[reportIncompatibleVariableOverride]
        found = self._reference()
        return Gone if found is None else found


@dataclass(frozen=True, slots=True)
class Failure:
    """The guard that did not hold, the words for it, and the value it was made for beside the one found."""

    guard: Guard
    words: str
    then: str = ""
    now: str = ""

    def __str__(self) -> str:
        line = self.guard.user_line
        if line is None:
            return self.words
        by = f" by `{self.guard.operation}`" if self.guard.operation else ""
        return f"{self.words}  [guard needed{by} at {line.filename}:{line.line}]"


def weakened(guards: GuardSet) -> GuardSet:
    """The same guards, holding by weak reference what they compare by identity."""
    return GuardSet(tuple(dataclasses.replace(guard, fact=_weak_fact(guard.fact)) for guard in guards))


def _weak_fact(fact: Fact) -> Fact:
    match fact:
        case TypeIs(source, expected):
            return WeakTypeIs(source, expected)
        case IdentityIs(source, expected):
            return IdentityIs(source, _weak(expected))
        case DictKeysAre(source, keys):
            return DictKeysAre(source, tuple(_weak(key) if isinstance(key, ByIdentity) else key for key in keys))
        case SpecialMethodsAre(source, methods):
            return SpecialMethodsAre(source, tuple(None if method is None else _weak(method) for method in methods))
        case _:
            return fact


def _weak(holder: ByIdentity) -> ByIdentity:
    try:
        return WeakIdentity(holder.value)
    except TypeError:
        return holder


def first_failure(guards: GuardSet, scope: FrameScope) -> Failure | None:
    """The first guard, in the order the tracer needed them, that does not hold in a call; None if all hold."""
    for guard in guards:
        if not fact_holds(guard.fact, scope):
            return Failure(guard, _words(guard.fact, scope), *_then_and_now(guard.fact, scope))
    return None


def _then_and_now(fact: Fact, scope: FrameScope) -> tuple[str, str]:
    if isinstance(fact, GlobalStateIs):
        changed = [(wanted, reader_of(name).read()) for name, wanted in fact.state if reader_of(name).read() != wanted]
        return (str(changed[0][0]), str(changed[0][1])) if changed else ("", "")
    try:
        value = fact.source.resolve(scope)
    except Exception as error:
        return "", f"unreadable ({type(error).__name__})"
    match fact:
        case TypeIs(_, expected):
            return type_name(expected), type_name(type(value))
        case IdentityIs(_, expected) | ConstantIs(_, expected):
            return shown(expected.value), shown(value)
        case TensorMatches() if type(value) is not fact.python_type:
            return type_name(fact.python_type), type_name(type(value))
        case TensorMatches():
            differing = [row for row in _tensor_rows(fact, value) if row[0]]
            if not differing:
                return "", ""
            _, what, found, wanted = differing[0]
            return f"{what} {wanted}", f"{what} {found}"
        case LengthIs(_, length):
            found = length_of(value)
            return str(length), "no length" if found is None else str(found)
        case ScalarIs():
            text = fact.program.text.format(*(str(source) for source in fact.sources))
            found = ", ".join(f"{source} = {shown(source.resolve(scope))}" for source in fact.sources)
            return (text if fact.expected.value is True else f"{text} is {shown(fact.expected.value)}"), found
        case _:
            return "", shown(value)


def _words(fact: Fact, scope: FrameScope) -> str:
    if isinstance(fact, GlobalStateIs):
        return _state_words(fact)
    try:
        value = fact.source.resolve(scope)
    except Exception as error:
        return f"`{fact.source}` cannot be read any more ({type(error).__name__}: {error})"
    return _value_words(fact, value, scope)


def _value_words(fact: Fact, value: Any, scope: FrameScope) -> str:
    name = f"`{fact.source}`"
    match fact:
        case TypeIs(_, expected):
            return f"{name} is a {type_name(type(value))}, the graph was made for a {type_name(expected)}"
        case TypeIsAmong():
            return f"{name} is a {type_name(type(value))}, which may tell when it ends"
        case IdentityIs(_, expected):
            return f"{name} is another object ({shown(value)}) than the graph was made for ({shown(expected.value)})"
        case ConstantIs(_, expected):
            return f"{name} is {shown(value)}, the graph was made for {shown(expected.value)}"
        case TensorMatches():
            return _tensor_words(name, fact, value)
        case LengthIs(_, length):
            found = length_of(value)
            shown_length = "no length" if found is None else f"length {found}"
            return f"{name} has {shown_length}, the graph was made for {length}"
        case DictKeysAre(_, keys):
            wanted = shown([key.value if isinstance(key, ByIdentity) else key for key in keys])
            found = keys_of(value)
            shown_keys = "other keys" if found is None else f"keys {shown(found)}"
            return f"{name} has {shown_keys}, the graph was made for {wanted}"
        case DictContains(_, key, present):
            return f"{name} has {'lost' if present else 'gained'} the key {shown(key)}"
        case AttributePresent(_, attribute, present):
            return f"{name} has {'lost' if present else 'gained'} the attribute `{attribute}`"
        case InstanceDictLacks(_, attribute):
            return f"{name} now has an attribute `{attribute}` of its own, which hides that of its class"
        case SpecialMethodsAre(_, methods):
            return f"{name} {_special_words(methods, value)}"
        case IntegerWithin(_, lower, upper):
            if type(value) is not int:
                return f"{name} is a {type_name(type(value))}, the graph was made for an int"
            return f"{name} is {shown(value)}, the graph was made for {lower} to {upper}"
        case ScalarIs():
            return _scalar_words(fact, scope)
        case SameObject(_, other):
            return f"{name} and `{other}` are two objects, the graph was made for one object in both places"
        case AllDistinct(_, others):
            return _distinct_words((fact.source, *others), scope)
        case _:
            return f"{name} does not satisfy {type(fact).__name__}"


def _special_words(methods: tuple[ByIdentity | None, ...], value: Any) -> str:
    if not issubclass(type(value), type):
        return f"is {shown(value)}, the graph was made for a class"
    if not is_plain_class(value):
        return "now has keys in its namespace that run code when they are compared"
    for name, wanted, found in zip(SPECIAL_NAMES, methods, special_methods(value)):
        if wanted != found:
            verb = "gained" if wanted is None else "lost" if found is None else "changed"
            return f"has {verb} the special method `{name}`"
    return "has other special methods"


def _tensor_words(name: str, fact: TensorMatches, value: Any) -> str:
    if type(value) is not fact.python_type:
        return f"{name} is a {type_name(type(value))}, the graph was made for a {type_name(fact.python_type)}"
    for differs, what, found, wanted in _tensor_rows(fact, value):
        if differs:
            return f"{name} has {what} {found}, the graph was made for {wanted}"
    return f"{name} is another kind of tensor (dispatch keys {torch._C._dispatch_keys(value)})"


def _tensor_rows(fact: TensorMatches, value: torch.Tensor) -> list[tuple[bool, str, Any, Any]]:
    """(differs, what, found, wanted) for each property, in the order they are told."""
    rows: list[tuple[bool, str, Any, Any]] = [
        (value.dtype != fact.dtype, "dtype", value.dtype, fact.dtype),
        (value.device != fact.device, "device", value.device, fact.device),
        (value.layout != fact.layout, "layout", value.layout, fact.layout),
        (not sizes_match(tuple(value.shape), fact.sizes), "sizes", tuple(value.shape), _sizes(fact.sizes)),
        (value.requires_grad != fact.requires_grad, "requires_grad", value.requires_grad, fact.requires_grad),
    ]
    if fact.strides is not None:
        differs = not strides_match(value, fact.strides)
        rows.append((differs, "strides", value.stride(), _sizes(fact.strides)))
    return rows


def _sizes(sizes: tuple[Stride, ...]) -> str:
    return "(" + ", ".join(map(_size, sizes)) + ")"


def _size(size: Stride) -> str:
    match size:
        case StrideBehind(dim):
            return f"size({dim})*stride({dim})"
        case DynamicSize():
            return "any"
        case _:
            return str(size)


def _distinct_words(sources: tuple[Any, ...], scope: FrameScope) -> str:
    seen: dict[int, Any] = {}
    for source in sources:
        try:
            value = source.resolve(scope)
        except Exception as error:
            return f"`{source}` cannot be read any more ({type(error).__name__}: {error})"
        if id(value) in seen:
            return f"`{seen[id(value)]}` and `{source}` are one object, the graph was made for two"
        seen[id(value)] = source
    return f"`{sources[0]}` and others are not distinct"


def _scalar_words(fact: ScalarIs, scope: FrameScope) -> str:
    text = fact.program.text.format(*(str(source) for source in fact.sources))
    numbers = [source.resolve(scope) for source in fact.sources]
    actual = ", ".join(f"{source} is {shown(number)}" for source, number in zip(fact.sources, numbers))
    wanted = fact.expected.value
    if wanted is True:
        return f"`{text}` fails ({actual})"
    if wanted is False:
        return f"`{text}` holds ({actual}), the graph was made for calls where it does not"
    try:
        found = shown(fact.program.evaluate(numbers))
    except Exception as error:
        found = f"a {type(error).__name__}"
    return f"`{text}` is {found} ({actual}), the graph was made for {shown(wanted)}"


def _state_words(fact: GlobalStateIs) -> str:
    for name, wanted in fact.state:
        found = reader_of(name).read()
        if found != wanted:
            return f"torch's {name} is {found}, the graph was made for {wanted}"
    return "torch's global state differs"
