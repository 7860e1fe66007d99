"""Which line of the user's program an operator of the backward pass belongs to.

Autograd numbers its nodes in the order in which they are made, so the number that it had reached when a captured node
began says whose nodes came after. Invariant: nothing is attached to autograd's nodes, and nothing runs for them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from . import torch_layer


class BackwardLines:
    """Remembers what each captured node hands to the nodes recorded for it; gives the same for their gradients."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._origins: list[dict[str, Any]] = []

    def entering(self, origin: dict[str, Any]) -> None:
        """Autograd nodes made from now on belong to `origin`."""
        self._starts.append(torch_layer.next_sequence_number())
        self._origins.append(origin)

    def current(self) -> dict[str, Any]:
        """The origin of the autograd node whose gradient is being computed; nothing outside of a backward pass."""
        node = torch_layer.current_autograd_node()
        if node is None:
            return {}
        place = bisect_right(self._starts, node._sequence_nr()) - 1
        origin = self._origins[place] if place >= 0 else {}
        if self._origins and self._origins[-1] is not origin:
            self.entering(origin)  # nodes that make this gradient differentiable again
        return origin
