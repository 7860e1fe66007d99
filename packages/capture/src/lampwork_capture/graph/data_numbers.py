"""DataNumbers: the sizes and numbers of one trace that only the run of the graph knows.

They come about while an operation runs on fake tensors (`data_sizes`); here is kept which node of the graph gives each
of them, and which conditions on them the graph has to check. Invariant: an operation that relies on a condition stands
behind its check, or the trace breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from lampwork_symshape.expr import Symbol
from lampwork_symshape.scalar_expr import ScalarTerm, applied
from lampwork_symshape.shape_env import Fact

from ..data_sizes import DataSizes
from ..graph_break import BreakId, GraphBreak
from .scalar_inputs import OfData, ScalarInputs


@dataclass(frozen=True, slots=True)
class DataCheck:
    """A condition that the graph checks, as applications of Python's functions, and what it says where it fails."""

    condition: ScalarTerm
    text: str


class DataNumbers:
    """The numbers of data of one trace; none are made unless `wanted`."""

    def __init__(self, scalars: ScalarInputs, wanted: bool) -> None:
        self._scalars = scalars
        self._wanted = wanted
        self._sizes: DataSizes | None = None
        self._checked = 0  # of the environment's deferred facts, how many the graph checks

    def sizes(self) -> DataSizes | None:
        """What makes the symbols; None if sizes that depend on data are not to be symbols."""
        if self._sizes is None and self._wanted:
            self._sizes = DataSizes(self._scalars.env)
        return self._sizes

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._sizes is not None and bool(self._sizes.made)

    def note(self, node: torch.fx.Node, result: Any) -> Iterator[Symbol]:
        """An operation gave this: the numbers in it that are symbols can be read there, now: it may change its sizes.

        Gives those that were not known.
        """
        for path, leaf in _leaves(result) if self else ():
            if isinstance(leaf, torch.SymInt):
                yield from self._scalars.add_of_data(leaf, OfData(node, path, None))
            elif isinstance(leaf, torch.Tensor):
                for dim, size in enumerate(leaf.shape):
                    if isinstance(size, torch.SymInt):
                        yield from self._scalars.add_of_data(size, OfData(node, path, dim))

    def pending(self, *, readable_only: bool) -> Iterator[DataCheck]:
        """What was assumed and is not checked yet; each counts as checked once it was given.

        `readable_only`: not what waits for numbers of a node to come. Raises GraphBreak for what cannot be read.
        """
        facts = self._scalars.env.deferred_facts if self else ()
        while self._checked < len(facts):
            fact = facts[self._checked]
            if not self._scalars.has_all(fact.condition):
                if readable_only:
                    return
                raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"{fact.condition} cannot be checked in the graph")
            self._checked += 1
            yield DataCheck(applied(fact.condition), self._text(fact))

    def _text(self, fact: Fact) -> str:
        env = self._scalars.env
        symbols = sorted(fact.condition.free_symbols, key=lambda s: s.order)
        names = ", ".join(f"{s.name} is {env.describe(s).origin}" for s in symbols)
        place = f", captured for {fact.frame}" if fact.frame else ""
        return f"the data does not meet {fact.condition} ({names}){place}"


def _leaves(result: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    if isinstance(result, (tuple, list)):
        for index, item in enumerate(result):
            yield from _leaves(item, (*path, index))
    else:
        yield path, result
