"""OpaqueValue: an object that is only carried around; LruCacheValue: a function behind functools.lru_cache.

An object that is not modelled may be loaded, stored, passed on and compared by identity; anything else breaks the graph
with the reason. Invariant: nothing is assumed of it but its exact class.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs
from ..source import AttributeSource, Source
from .base import Tracer, Value
from .class_lookup import has_special
from .constant import fold, is_known, is_literal, snapshot
from .registry import handler_of

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class OpaqueValue(Value):
    """An object with a source that is not modelled; `reason` is raised when it is used."""

    kind = "an object"
    __slots__ = ("obj", "reason")

    def __init__(self, obj: Any, source: Source, reason: GraphBreak) -> None:
        super().__init__(source)
        self.obj = obj
        self.reason = reason

    def describe(self) -> str:
        return f"an object of class {type(self.obj).__name__} `{self.source}`"

    def python_type(self) -> type:
        return type(self.obj)

    def as_graph_argument(self) -> Any:
        raise self._because()

    def hash_key(self, tracer: Tracer) -> Hashable:
        if type(self.obj).__hash__ is object.__hash__:
            if self.source is not None:
                tracer.guard(IdentityIs(self.source, ByIdentity(self.obj)))
            return self.obj
        raise self._because()

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "__class__":
            return tracer.constant(type(self.obj))
        raise self._because()

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        raise self._because()

    def truth(self, tracer: Tracer) -> bool:
        if not has_special(type(self.obj), "__bool__") and not has_special(type(self.obj), "__len__"):
            return True
        raise self._because()

    def unpack(self, tracer: Tracer) -> list[Value]:
        raise self._because()

    def iterate(self, tracer: Tracer) -> Value:
        raise self._because()

    def _because(self) -> GraphBreak:
        return GraphBreak(self.reason.break_id, self.reason.cause, hint=self.reason.hint)


class LruCacheValue(Value):
    """A cached function. A body without tensor work is traced anew, as the cache would answer; else it breaks."""

    kind = "a cached function"
    __slots__ = ("obj",)

    def __init__(self, obj: Any, source: Source) -> None:
        super().__init__(source)
        self.obj = obj

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> Any:
        return self.obj

    def truth(self, tracer: Tracer) -> bool:
        return True

    def wrapped(self, tracer: Tracer) -> Value:
        """The function behind the cache."""
        assert self.source is not None
        return tracer.wrap(self.obj.__wrapped__, AttributeSource(self.source, "__wrapped__"))

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        handler = handler_of(self.obj)
        if handler is not None:
            return handler(tracer, args, kwargs)
        if all(is_known(arg) for arg in (*args, *kwargs.values())):
            plain = [snapshot(arg) for arg in args]
            named = {name: snapshot(arg) for name, arg in kwargs.items()}
            answer = fold(tracer, self.obj, *plain, **named)  # also eager runs it once and keeps the answer
            if is_literal(answer):
                return tracer.constant(answer)
        before = tracer.side_effects.count
        nodes = len(tracer.graph.graph.nodes)
        result = self.wrapped(tracer).call(tracer, args, kwargs)
        if len(tracer.graph.graph.nodes) != nodes or issubclass(result.realize().python_type(), torch.Tensor):
            # The cache may hold another tensor, written to since; and it must hold the one that is given back.
            raise GraphBreak(
                BreakId.CALL_NOT_MODELLED,
                f"the cached function `{self.obj.__name__}` works with tensors",
                hint="Call it outside the compiled function and pass the tensor in.",
            )
        if tracer.side_effects.count != before:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the cached function `{self.obj.__name__}` has side effects")
        return result

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in functools.WRAPPER_ASSIGNMENTS:
            return tracer.constant(getattr(self.obj, name))
        if name == "__wrapped__":
            return self.wrapped(tracer)
        return super().get_attribute(tracer, name)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)
