"""OptimizedCallableValue: what `optimize` or `disable` made of a function of the program, called inside a frame.

Invariant: one made by `optimize` is traced through like the original; one made by `disable` breaks the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs, TypeIs
from ..source import (
    AttributeSource,
    Source,
)
from .base import Tracer, Value
from .registry import wraps_type


class OptimizedCallableValue(Value):
    """A callable made by `optimize` (traced through like the original) or by `disable` (breaks the graph)."""

    kind = "an optimized or disabled callable"
    __slots__ = ("obj",)

    def __init__(self, obj: Any, source: Source) -> None:
        super().__init__(source)
        self.obj = obj

    def python_type(self) -> type:
        return type(self.obj)

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.obj.callback is None:
            name = getattr(self.obj.function, "__qualname__", str(self.obj.function))
            raise GraphBreak(BreakId.DISABLED, f"`{name}` is disabled")
        return tracer.tail_call(self, self.get_attribute(tracer, "function"), args, kwargs)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "function" or hasattr(self.obj.function, name):
            assert self.source is not None
            return tracer.wrap(getattr(self.obj, name), AttributeSource(self.source, name))
        return super().get_attribute(tracer, name)


@wraps_type(_native.OptimizedCallable)
def wrap_optimized_callable(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, type(obj)))
    if obj.callback is None:
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
    return OptimizedCallableValue(obj, source)
