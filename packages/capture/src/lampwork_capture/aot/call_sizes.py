"""The sizes of a call, for what is compiled after its guards are fixed: derivatives, when they are first asked for.

Tracing or lowering a derivative may turn a symbolic size into a fact that no guard checks. So a derivative is worked
out for the sizes of the call that needs it, remembers the facts that it relied on, and serves calls that meet them.
Invariant: the environment of the capture is left as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from lampwork_symshape import Fact, ShapeEnv, Symbol
from torch import SymInt, Tensor

from .errors import RanEagerlyWarning
from .functionalize import Prepared

T = TypeVar("T")
Sizes = tuple[int, ...]
_MOST_VARIANTS = 8


@dataclass(frozen=True, slots=True)
class CallSizes:
    """Where a call shows the values of symbols: input and dimension, None for an input that is the number itself."""

    symbols: tuple[Symbol, ...]
    places: tuple[tuple[int, int | None], ...]

    @staticmethod
    def of(prepared: Prepared) -> CallSizes:
        """The places of every symbol that is a size, or an input, by itself."""
        found: dict[Symbol, tuple[int, int | None]] = {}
        for index, item in enumerate(prepared.inputs):
            numbers = [(None, item.value)]
            if isinstance(item.value, Tensor):
                numbers = list(enumerate(item.value.shape))
            for dim, number in numbers:
                expression = getattr(number.node, "expr", None) if isinstance(number, SymInt) else None
                if isinstance(expression, Symbol):
                    found.setdefault(expression, (index, dim))
        return CallSizes(tuple(found), tuple(found.values()))

    def numbers(self, prepared: Prepared) -> tuple[Any, ...]:
        """The symbols as symbolic integers of the trace."""
        values = [prepared.inputs[index].value for index, _ in self.places]
        return tuple(v if dim is None else v.shape[dim] for v, (_, dim) in zip(values, self.places))

    def hints(self, prepared: Prepared) -> Sizes:
        """The values in the captured call."""
        env: Any = getattr(prepared.fake_mode, "shape_env", None)
        return tuple(env.hint_of(symbol) for symbol in self.symbols)

    def read(self, inputs: Sequence[Any]) -> Sizes:
        """The values in a call."""
        return tuple(inputs[index] if dim is None else inputs[index].shape[dim] for index, dim in self.places)


class BySizes(Generic[T]):
    """One thing for every kind of sizes, made when a call needs it."""

    def __init__(self, prepared: Prepared, sizes: CallSizes) -> None:
        env = getattr(prepared.fake_mode, "shape_env", None)
        self._env = env if isinstance(env, ShapeEnv) and sizes.symbols else None
        self._forget: Callable[[], None] = getattr(prepared.fake_mode, "forget_results", lambda: None)
        self._sizes = sizes
        self._told = False
        self._made: list[tuple[tuple[Fact, ...], T]] = []

    def get(self, sizes: Sizes, make: Callable[[], T]) -> T:
        """What serves `sizes`."""
        found = self.find(sizes)
        if found is not None:
            return found
        if len(self._made) >= _MOST_VARIANTS:
            if len(self._made) == _MOST_VARIANTS and not self._told:
                self._told = True
                warnings.warn(
                    f"a derivative is compiled for each size, as it depends on {self._made[-1][0][0]}; only the last "
                    f"{_MOST_VARIANTS} are kept. Compile the function with `dynamic=False`, or give it fewer sizes.",
                    RanEagerlyWarning,
                    stacklevel=2,
                )
            del self._made[0]
        env = self._env
        if env is None:
            made, facts = make(), ()
        else:
            self._forget()  # what is remembered relied on facts of other sizes
            with env.reconsidering(dict(zip(self._sizes.symbols, sizes))) as recorded:
                made = make()
            self._forget()
            facts = tuple(recorded)
        self._made.append((facts, made))
        return made

    def find(self, sizes: Sizes) -> T | None:
        """What serves `sizes`, if it was made already."""
        values = dict(zip(self._sizes.symbols, sizes))
        for facts, made in self._made:
            if all(cast("Any", fact.condition).evaluate(values) for fact in facts):
                return made
        return None
