"""FailedChecks: how often the data did not meet what a graph takes for granted of them, and telling so.

A call that fails a runtime assert of its graph runs as plain Python (`rerun`): right, and without a graph. Where eager
does without error what the check forbids, that counts. Invariants: a graph without such checks is not wrapped and costs
nothing; what is raised is raised as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.fx

from .runtime_assert import require

FEW_CALLS = 3  # that may fail before anybody is told
_MOST_OFTEN = 8  # one call of so many may fail: the graph is worth more in the others than a break in all


class FailedChecks:
    """Stands around what a backend made of a graph. `ran_eagerly` is to be called behind each failed call that plain
    Python did without error. Counts of other threads may be lost, which only delays what is told.

    `tell` gets the text of a check that failed, once, if more than a few calls, and not rarely, fail one.
    """

    def __init__(self, texts: tuple[str, ...], compiled: Callable[..., Any], tell: Callable[[str], None]) -> None:
        self._texts = texts
        self._compiled = compiled
        self._tell: Callable[[str], None] | None = tell
        self._calls = self._failed = 0
        self._last: str | None = None

    @classmethod
    def around(
        cls, graph: torch.fx.GraphModule, compiled: Callable[..., Any], tell: Callable[[str], None]
    ) -> FailedChecks | None:
        """For `compiled`, which was made of `graph`; None if that checks nothing."""
        texts = tuple(str(node.args[1]) for node in graph.graph.find_nodes(op="call_function", target=require))
        return cls(texts, compiled, tell) if texts else None

    def __call__(self, *inputs: Any) -> Any:
        self._calls += 1
        self._last = None
        try:
            return self._compiled(*inputs)
        except RuntimeError as error:
            message = str(error)  # a backend has its own way of raising the text of a check
            self._last = next((text for text in self._texts if text in message), None)
            raise

    def ran_eagerly(self) -> None:
        """The call whose check failed is no error in plain Python."""
        text, self._last = self._last, None
        if text is None:
            return
        self._failed += 1
        if self._failed < FEW_CALLS or self._failed * _MOST_OFTEN < self._calls:
            return
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(text)
