"""The attributes of an OrderedDict: unlike a dict it has a `__dict__`, where `Module.state_dict` keeps its versions.

Invariant: only an exact OrderedDict comes here; an instance of a subclass has its attributes as any object has.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import DictKeysAre, InstanceDictLacks
from ..interpreter.side_effects import Deleted, emit_attribute_write
from ..source import AttributeSource
from .base import Tracer, Value

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter
    from .dict import DictValue


def has_attributes(value: DictValue) -> bool:
    """Whether a dict is one that may have attributes of its own."""
    return value.cls is OrderedDict and value.owner is None


def read_attribute(tracer: Tracer, value: DictValue, name: str) -> Value | None:
    """The attribute that the OrderedDict itself holds, or None, which is guarded."""
    pending = tracer.side_effects.pending_attribute(value, name)
    if isinstance(pending, Value):
        return pending
    if pending is not None or value.source is None:
        return None
    if name in (_native.instance_dict(value.obj) or ()):
        return tracer.wrap(vars(value.obj)[name], AttributeSource(value.source, name)).realize()
    tracer.guard(InstanceDictLacks(value.source, name))
    return None


def write_attribute(tracer: Tracer, value: DictValue, name: str, new: Value) -> None:
    """`value.name = new`."""
    if hasattr(OrderedDict, name):
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {value.describe()} is not modelled")
    tracer.side_effects.store_attribute(value, name, new)


def check_no_attributes(tracer: Tracer, value: DictValue, what: str) -> None:
    """Raise GraphBreak if an OrderedDict has attributes, which `what` takes along."""
    if not has_attributes(value):
        return
    if tracer.side_effects.attribute_writes(value) or (value.obj is not None and _native.instance_dict(value.obj)):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{what} of {value.describe()}, which has attributes")
    if value.source is not None:
        tracer.guard(DictKeysAre(AttributeSource(value.source, "__dict__"), ()))


def emit_attributes(emitter: ValueEmitter, value: DictValue) -> None:
    """Emit the attributes of an OrderedDict that the frame made and the emitter remembers; stack-neutral."""
    for name, write in emitter.side_effects.attribute_writes(value).items():
        if not isinstance(write.value, Deleted):
            emit_attribute_write(emitter, value, name, write)
