"""Class look-ups: what a class has under a name, found as the interpreter finds a special method.

Every kind of value asks here before it takes a protocol as missing, or a method as the builtin one. Invariant: nothing
of the program runs: `hasattr` would call descriptors, and would also find what stands in the metaclass; where a key of
a namespace is compared by the program's code, the graph breaks.
No look-up of a special method leaves a fact: `guard_special_methods` records all of a class that the trace meets. Who
goes by another name records a fact.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, SpecialMethodsAre
from ..guards.namespaces import flags_of, is_plain_class, is_plain_namespace, mro_of, namespace_of
from ..guards.specials import SPECIAL_PLACES, special_methods

if TYPE_CHECKING:
    from ..source import Source
    from .base import Tracer

MISSING: Any = object()
_IMMUTABLE_FLAG = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_HEAP_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def find_in_class(cls: type, name: str) -> tuple[Any, type]:
    """What stands under `name` in the namespaces of the MRO, and the class it was found in; MISSING if nowhere."""
    check_plain_class(cls)
    for owner in mro_of(cls):
        namespace = namespace_of(owner)
        if name in namespace:
            return namespace[name], owner
    return MISSING, object


def place_in_mro(cls: type, owner: type) -> int:
    """Which of the MRO of `cls` a class is. By identity: a metaclass may compare its classes."""
    return next(place for place, base in enumerate(mro_of(cls)) if base is owner)


def is_in_mro(owner: type, cls: type) -> bool:
    """Whether `cls` is `owner` or really derives from it, whatever a metaclass says of that."""
    return any(base is owner for base in mro_of(cls))


def find_past(cls: type, base: type, name: str) -> Any:
    """What `super(base, instance of cls)` finds under `name` in the namespaces of the MRO; MISSING if nothing."""
    check_plain_class(cls)
    namespaces = map(namespace_of, mro_of(cls)[place_in_mro(cls, base) + 1 :])
    return next((namespace[name] for namespace in namespaces if name in namespace), MISSING)


def has_special(cls: type, name: str) -> bool:
    """Whether the name of a special method stands in the namespace of a class of the MRO."""
    assert name in SPECIAL_PLACES, name  # of no other name does a fact of its class tell
    check_plain_class(cls)
    return any(name in namespace_of(owner) for owner in mro_of(cls))


def check_plain_class(cls: type) -> None:
    """Raise GraphBreak if a look-up in a class may compare a name with a key of the program's own kind."""
    if not is_plain_class(cls):
        raise GraphBreak(BreakId.GENERIC_OBJECT, "a class with keys that are no names in its MRO")


def is_overridden(cls: type, name: str) -> bool:
    """Whether a special method is written in Python."""
    assert name in SPECIAL_PLACES, name
    return isinstance(find_in_class(cls, name)[0], FunctionType)


def is_callable(cls: type) -> bool:
    """What `callable` answers for an instance of a class."""
    return has_special(cls, "__call__")


def is_iterable(cls: type) -> bool:
    """Whether `iter` takes an instance of a class: by `__iter__`, or by the old protocol."""
    return has_special(cls, "__iter__") or has_special(cls, "__getitem__")


def looks_up_itself(cls: type) -> bool:
    """Whether reading an attribute of a class, or its namespace, runs the program: its metaclass has a
    `__getattribute__` or a `__dict__` of its own."""
    meta = type(cls)
    if meta is type:
        return False
    return (
        looks_up_itself(meta)
        or is_overridden(meta, "__getattribute__")
        or find_in_class(meta, "__dict__")[1] is not type
    )


def is_plain_dict_getter(cls: type) -> bool:
    """Whether `__dict__` of an instance is what the interpreter gives, not something that the class put there."""
    return isinstance(find_in_class(cls, "__dict__")[0], GetSetDescriptorType)


def is_slot(raw: Any) -> bool:
    """Whether what stands in a class is the descriptor of a slot."""
    return type(raw) is MemberDescriptorType


def has_plain_names(namespace: Mapping[Any, Any]) -> bool:
    """Whether a `__dict__` holds names only. A key of another kind may run the program at each look-up beside it."""
    return is_plain_namespace(namespace)


def is_immutable(cls: type) -> bool:
    """Whether Python code cannot set attributes of a class."""
    return bool(flags_of(cls) & _IMMUTABLE_FLAG) or not flags_of(cls) & _HEAP_FLAG


def shown_name(cls: type) -> str:
    """How Python names a class in its messages: one of C code with its module, `collections.deque`."""
    return _name_in_c(cls) if is_immutable(cls) else cls.__name__


@functools.cache
def _name_in_c(cls: type) -> str:
    try:
        type.__setattr__(cls, "__lampwork__", None)
    except TypeError as error:  # "cannot set ... attribute of immutable type '...'"
        return str(error).rpartition(" type ")[2].strip("'")
    raise AssertionError(cls)


def needs_no_guard(cls: type) -> bool:
    """Whether what a class holds is taken to stay: it is immutable, or one of the tensor classes of torch."""
    return is_immutable(cls) or cls is torch.Tensor or cls is torch.nn.Parameter


def guard_special_methods(tracer: Tracer, cls: type, source: Source) -> None:
    """Record which special methods a class of the program has, once: no look-up of one leaves a fact of its own.

    There is nothing to record of a class that is not plain: every look-up in it breaks the graph."""
    known = tracer.graph.guarded_classes
    if not needs_no_guard(cls) and ByIdentity(cls) not in known and is_plain_class(cls):
        known.add(ByIdentity(cls))
        tracer.guard(SpecialMethodsAre(source, special_methods(cls)))
