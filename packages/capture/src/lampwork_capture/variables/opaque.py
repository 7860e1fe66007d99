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
from ..skip_policy import is_installed
from ..source import AttributeSource, Source
from .base import ObservedException, Tracer, Value
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
        reason.forget_frames()
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
    """A cached function. A body without tensor work is traced, to know that it does nothing but compute, and the cache
    is asked; what does more runs when the frame runs. Installed packages are taken to cache what only computes."""

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
        is_given = all(is_known(arg) for arg in (*args, *kwargs.values()))
        code = getattr(self.obj.__wrapped__, "__code__", None)
        if is_given and (code is None or is_installed(code)):
            answer = self._answer(tracer, args, kwargs)
            if is_literal(answer):
                return tracer.constant(answer)
        effects = tracer.side_effects
        elsewhere, objects = effects.changes_elsewhere, len(effects.changed_values)
        nodes = tracer.graph.node_count
        try:
            result = self.wrapped(tracer).call(tracer, args, kwargs)
        except (GraphBreak, ObservedException) as error:  # the cache keeps no error, and an answer keeps the body away
            why = error.cause if isinstance(error, GraphBreak) else f"it raises {error.value.describe()}"
            cause = f"the body of the cached function `{self.obj.__name__}` runs only if the cache has no answer: {why}"
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, cause) from None
        if tracer.graph.node_count != nodes or issubclass(result.realize().python_type(), torch.Tensor):
            # The cache may hold another tensor, written to since; and it must hold the one that is given back.
            raise GraphBreak(
                BreakId.CALL_NOT_MODELLED,
                f"the cached function `{self.obj.__name__}` works with tensors",
                hint="Call it outside the compiled function and pass the tensor in.",
            )
        is_closed = code is not None and not code.co_freevars  # else an object of the frame may come in by a cell
        changed = effects.changed_values[objects:]
        if (
            effects.changes_elsewhere != elsewhere
            or (changed and not is_closed)
            or not all(map(effects.is_new, changed))
        ):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the cached function `{self.obj.__name__}` has side effects")
        if is_given:
            answer = self._answer(tracer, args, kwargs)
            if is_literal(answer):
                return tracer.constant(answer)
        return result

    def _answer(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Any:
        """What the cache answers, or the body, which also eager would run once and keep the answer of."""
        named = {name: snapshot(arg) for name, arg in kwargs.items()}
        return fold(tracer, self.obj, *(snapshot(arg) for arg in args), **named)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in functools.WRAPPER_ASSIGNMENTS:
            return tracer.constant(getattr(self.obj, name))
        if name == "__wrapped__":
            return self.wrapped(tracer)
        return super().get_attribute(tracer, name)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)
