"""LazyValue: an item of a container that existed before the frame, not looked at yet.

Containers hold their items so and realize one when it is read: nothing is guarded that no decision depended on.
Invariant: a lazy value never leaves its container; what is handed out is realized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..source import Source
from .base import Tracer, Value

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class LazyValue(Value):
    """Stands for `obj`, reachable through `source`, until `realize` wraps it."""

    kind = "an item"
    __slots__ = ("_real", "obj", "tracer")

    def __init__(self, tracer: Tracer, obj: Any, source: Source) -> None:
        super().__init__(source)
        self.tracer = tracer
        self.obj = obj
        self._real: Value | None = None

    def realize(self) -> Value:
        if self._real is None:
            self._real = self.tracer.wrap(self.obj, self.source) if self.source is not None else None
            assert self._real is not None
        return self._real

    @property
    def realized(self) -> Value | None:
        """What it was wrapped as, if it was."""
        return self._real

    def python_type(self) -> type:
        return self.realize().python_type()

    def is_constant(self) -> bool:
        return self.realize().is_constant()

    def as_constant(self) -> Any:
        return self.realize().as_constant()

    def as_graph_argument(self) -> Any:
        return self.realize().as_graph_argument()

    def children(self) -> Sequence[Value]:
        return ()

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.realize())
