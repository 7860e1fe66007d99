"""The reference check: each fact evaluated in plain Python against one call of one frame.

What the native tree must agree with (property tests), and what `guards.reason` asks to find the fact that failed.
Invariant: a fact whose source cannot be read does not hold. Slow and simple; unlike the tree it may run user code.
"""

from __future__ import annotations

from types import MappingProxyType, WrapperDescriptorType
from typing import Any, cast

import torch

from ..source import FrameScope
from .exact import same_constant
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
from .shown import keys_of
from .specials import special_methods
from .tensor_access import raw_dispatch_keys


def fact_holds(fact: Fact, scope: FrameScope) -> bool:
    """Whether a fact holds in a call."""
    if isinstance(fact, GlobalStateIs):
        return all(same_constant(reader_of(name).read(), value) for name, value in fact.state)
    try:
        value = fact.source.resolve(scope)
    except Exception:
        return False
    return value_satisfies(fact, value, scope)


def value_satisfies(fact: Fact, value: Any, scope: FrameScope) -> bool:
    """Whether a fact holds for the value that its source has."""
    match fact:
        case TypeIs(_, expected):
            return type(value) is expected
        case TypeIsAmong(_, expected):
            return any(type(value) is cls for cls in expected)
        case IdentityIs(_, expected):
            return value is expected.value
        case ConstantIs(_, expected):
            return same_constant(value, expected.value)
        case TensorMatches():
            return _tensor_matches(fact, value)
        case LengthIs(_, length):
            return _length(value) == length
        case DictKeysAre(_, keys):
            if isinstance(value, (set, frozenset)):
                return _keys_are(list(value), keys)
            found = list(value) if isinstance(value, MappingProxyType) else keys_of(value)
            return found is not None and _keys_are(found, keys)
        case DictContains(_, key, present):
            key = key.value if isinstance(key, ByIdentity) else key
            if isinstance(value, (set, frozenset)):
                return (key in value) == present
            if isinstance(value, MappingProxyType):
                return (key in value) == present
            return isinstance(value, dict) and dict.__contains__(value, key) == present
        case AttributePresent(_, name, present):
            return hasattr(value, name) == present
        case InstanceDictLacks(_, name):
            return name not in getattr(value, "__dict__", {})
        case SpecialMethodsAre(_, methods):
            return issubclass(type(value), type) and is_plain_class(value) and special_methods(value) == methods
        case IntegerWithin(_, lower, upper):
            return type(value) is int and lower <= value <= upper
        case ScalarIs():
            return _scalar_is(fact, scope)
        case SameObject(_, other):
            return _resolve(other, scope) is value
        case AllDistinct(_, others):
            objects = [value, *(_resolve(other, scope) for other in others)]
            return all(item is not _UNREADABLE for item in objects) and len({id(item) for item in objects}) == len(
                objects
            )
        case _:
            raise TypeError(f"unknown fact {type(fact).__name__}")


def _scalar_is(fact: ScalarIs, scope: FrameScope) -> bool:
    numbers = [_resolve(source, scope) for source in fact.sources]
    if any(type(number) not in (int, float) for number in numbers):
        return False
    try:
        return same_constant(fact.program.evaluate(numbers), fact.expected.value)
    except Exception:
        return False


_UNREADABLE = object()
_CONTAINERS = (list, tuple, dict, set, frozenset)


def _length(value: Any) -> int | None:
    """The length as the container itself counts it; None where only Python code of a class could tell."""
    for container in _CONTAINERS:
        if isinstance(value, container):
            return container.__len__(cast(Any, value))
    method = getattr(type(value), "__len__", None)
    return len(value) if isinstance(method, WrapperDescriptorType) else None


def _resolve(source: Any, scope: FrameScope) -> Any:
    try:
        return source.resolve(scope)
    except Exception:
        return _UNREADABLE


def _keys_are(found: list[Any], wanted: tuple[Any, ...]) -> bool:
    if len(found) != len(wanted):
        return False
    for key, expected in zip(found, wanted, strict=True):
        if isinstance(expected, ByIdentity):
            if key is not expected.value:
                return False
        elif not same_constant(key, expected):
            return False
    return True


def sizes_match(sizes: tuple[int, ...], wanted: tuple[int | DynamicSize, ...]) -> bool:
    """Whether sizes are the wanted ones, entry by entry."""
    return len(sizes) == len(wanted) and all(
        isinstance(expected, DynamicSize) or size == expected for size, expected in zip(sizes, wanted, strict=True)
    )


def strides_match(tensor: torch.Tensor, wanted: tuple[Stride, ...]) -> bool:
    """Whether strides are the wanted ones, entry by entry."""
    strides = tensor.stride()
    return len(strides) == len(wanted) and all(
        isinstance(expected, DynamicSize) or stride == _in_elements(tensor, expected)
        for stride, expected in zip(strides, wanted, strict=True)
    )


def _in_elements(tensor: torch.Tensor, wanted: int | StrideBehind) -> int:
    return tensor.size(wanted.dim) * tensor.stride(wanted.dim) if isinstance(wanted, StrideBehind) else wanted


def _tensor_matches(fact: TensorMatches, value: Any) -> bool:
    return (
        type(value) is fact.python_type
        and isinstance(value, torch.Tensor)
        and raw_dispatch_keys(value) == fact.dispatch_keys
        and value.dtype == fact.dtype
        and value.device == fact.device
        and value.layout == fact.layout
        and value.requires_grad == fact.requires_grad
        and sizes_match(tuple(value.shape), fact.sizes)
        and (fact.strides is None or strides_match(value, fact.strides))
    )
