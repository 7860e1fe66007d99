"""`RemovableHandle`: what registering a hook on a module gives; its number is the key of the hook.

Torch takes the number from a counter, so it differs from call to call. Hooks that traced code registers are called by
the modules it traces afterwards. Invariant: the handle is made where its hook is put into the real dict, by torch's own
class; the number is never known while tracing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.hooks import RemovableHandle

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .identity import UnknownNumberValue
from .method import BuiltinObject
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


_REFERENCES = frozenset({"hooks_dict_ref", "extra_dict_ref", "__dict__"})


class HandleValue(BuiltinObject):
    """A handle made in the frame: of a hook in the first of `dicts`; its number may be a key of the others too."""

    kind = "a handle of a hook"
    __slots__ = ("dicts", "number")

    def __init__(self, dicts: Sequence[Value]) -> None:
        super().__init__()
        self.dicts = tuple(dicts)
        self.number = UnknownNumberValue(_number_of, [self])

    def python_type(self) -> type:
        return RemovableHandle

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in _REFERENCES:
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")
        return self.number if name == "id" else super().get_attribute(tracer, name)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")

    def m_remove(self, tracer: Tracer) -> Value:
        for hooks in self.dicts:
            if hooks.contains(tracer, self.number):
                hooks.delete_item(tracer, self.number)
        return tracer.constant(None)

    def m___enter__(self, tracer: Tracer) -> Value:
        return self

    def m___exit__(self, tracer: Tracer, *error: Value) -> Value:
        return self.m_remove(tracer)

    def children(self) -> Sequence[Value]:
        return self.dicts

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(_made_handle)
        for hooks in self.dicts:
            emitter.load_value(hooks)
        emitter.call(len(self.dicts))


@handles(RemovableHandle, like=lambda hooks_dict, *, extra_dict=None: None)
def make_handle(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    extra = kwargs["extra_dict"].realize() if "extra_dict" in kwargs else None
    dicts = [args[0].realize()]
    if extra is not None and issubclass(extra.python_type(), list):
        dicts += [part.realize() for part in extra.unpack(tracer)]
    elif extra is not None and not (extra.is_constant() and extra.as_constant() is None):
        dicts.append(extra)
    if any(part.python_type() is not OrderedDict for part in dicts):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a handle of a hook in another object than an OrderedDict")
    return HandleValue(dicts)


def _made_handle(hooks: Any, *extra: Any) -> RemovableHandle:
    """Run time: a new handle."""
    return RemovableHandle(hooks, extra_dict=list(extra))


def _number_of(handle: RemovableHandle) -> int:
    """Run time: the number of a handle."""
    return handle.id
