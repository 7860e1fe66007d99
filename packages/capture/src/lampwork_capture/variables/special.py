"""Special methods: whether a class has one, looked up as the interpreter does it.

Every kind of value asks here before it takes a protocol as missing. Invariant: nothing of the program runs: `hasattr`
would call descriptors, and would also find what stands in the metaclass. No look-up leaves a fact: `guard_specials` has
recorded one about all special methods of each class of the program that the trace has met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..guards.facts import SpecialMethodsAre
from ..guards.specials import special_methods

if TYPE_CHECKING:
    from ..source import Source
    from .base import Tracer


def guard_specials(tracer: Tracer, cls: type, source: Source) -> None:
    """Record which special methods a class has that may get and lose some; once for each class."""
    if cls not in tracer.graph.guarded_classes:
        tracer.graph.guarded_classes.add(cls)
        tracer.guard(SpecialMethodsAre(source, special_methods(cls)))


def has_special(cls: type, name: str) -> bool:
    """Whether a name stands in the namespace of a class of the MRO."""
    return any(name in owner.__dict__ for owner in cls.__mro__)


def has_plain_names(namespace: Mapping[Any, Any]) -> bool:
    """Whether a `__dict__` holds names only. A key of another kind may run the program at each look-up beside it."""
    try:
        "".join(namespace)
    except TypeError:
        return False
    return True


def special_of(cls: type, name: str) -> Any:
    """What stands under a name in the namespaces of the MRO, as the plain object it is there; None if nothing does."""
    return next((owner.__dict__[name] for owner in cls.__mro__ if name in owner.__dict__), None)
