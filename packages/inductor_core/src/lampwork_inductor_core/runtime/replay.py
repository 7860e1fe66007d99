"""Replay: the seam for devices that can run a graph's whole host program again as one recorded command.

Between the wrapper and `CompiledGraph`: the core says what it knows of a graph (`ReplayFacts`), a device that can
replay brings `Replays`, and from the second call on its `Replayer` stands in front of the wrapper. Invariant: a
replayer has the wrapper's calling convention and gives what the wrapper would give; where it cannot, it runs the
wrapper, and `notes` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

WrapperCall: TypeAlias = Callable[[Sequence[Any]], list[Any]]
"""A loaded wrapper: the inputs by position in, the list of outputs out."""


class ResultMemory(Protocol):
    """What a wrapper asks for memory that results of the graph are going to lie in."""

    def __call__(
        self, number: int, sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """A tensor of these sizes and strides that holds nothing of value; `number` names it, once a call."""
        ...


GivenCall: TypeAlias = Callable[[Sequence[Any], ResultMemory], list[Any]]
"""A wrapper that asks for the memory of results where `WrapperCall` allocates. Results of operators that bring
memory of their own lie in that still."""

LoadGiven: TypeAlias = Callable[[], GivenCall]
"""Loads that form of a wrapper: few graphs need it."""


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """What a compile knows of a graph that may be replayed. Positions are of the wrapper's inputs, kept values
    included; inputs that the wrapper does not look at are in none of the three."""

    device: torch.device
    """Where all of its tensors are."""
    input_count: int
    static: tuple[int, ...]
    """Parameters, buffers and values that a cache keeps: they mostly stay where they are from call to call."""
    passing: tuple[int, ...]
    """The other tensors."""
    numbers: tuple[int, ...]
    """Inputs that are Python numbers."""
    symbolic: bool
    """Sizes or strides of tensors among the inputs differ between calls."""
    launches: int
    """Kernels and operator calls of one run, about."""
    calls_operators: bool
    """Some of it is done by library operators, which read settings of the process when they are called."""
    given: int
    """For how many memories of results the wrapper can ask."""


class Replayer(Protocol):
    """A wrapper, replayed where that is possible."""

    @property
    def notes(self) -> Sequence[str]:
        """Why some or all calls are not replayed, as far as calls have shown it."""
        ...

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on the inputs; grad mode is off."""
        ...

    def invalidate(self) -> None:
        """Forget what was recorded."""
        ...


@dataclass(frozen=True, slots=True)
class Replays:
    """How a device replays. `noun` is what notes call a recording; `least_launches`: with fewer, replaying costs more
    than it saves; `make` puts a replayer in front of a wrapper that has run once."""

    noun: str
    least_launches: int
    make: Callable[[WrapperCall, ReplayFacts, LoadGiven], Replayer]


@dataclass(frozen=True, slots=True)
class PlannedReplay:
    """How one graph is going to be replayed."""

    replays: Replays
    facts: ReplayFacts

    def replayer(self, call: WrapperCall, load_given: LoadGiven) -> Replayer:
        """The replayer of a wrapper, which has two forms."""
        return self.replays.make(call, self.facts, load_given)
