"""Runtime asserts: what a graph checks of the sizes and numbers that only its run knows, before it relies on it.

An operation on tensors whose size depends on data, or `torch._check`, leaves a condition that no guard can test before
the call. It is a node of the graph, in front of the operation that relies on it. Invariant: where it does not hold,
nothing that existed before the frame was written to yet, so the frame can run again as plain Python.
"""

from __future__ import annotations


class DataSizeError(RuntimeError):
    """A size or number of the data is not what the graph was captured for."""


def require(condition: bool, text: str) -> None:
    """Raise DataSizeError(text) unless the condition holds."""
    if not condition:
        raise DataSizeError(text)
