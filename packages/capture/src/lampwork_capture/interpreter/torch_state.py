"""torch's thread state while a frame is traced: what the traced program changes is what it would see, and is undone.

Invariant: after a trace, however it ended, torch's state is that before it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

_AUTOGRAD: Any = vars(torch._C)["_autograd"]


class TorchState:
    """torch's thread state that a trace may change while it follows the program: saved, and restored at the end."""

    def __init__(self) -> None:
        self.grad_enabled = torch.is_grad_enabled()
        # The user's hooks on saved tensors must not see the fake ones
        self._hides_hooks = _AUTOGRAD._top_saved_tensors_default_hooks(True) is not None
        if self._hides_hooks:
            _AUTOGRAD._push_saved_tensors_default_hooks(_unchanged, _unchanged)

    def restore(self) -> None:
        if self._hides_hooks:
            _AUTOGRAD._pop_saved_tensors_default_hooks()
            self._hides_hooks = False
        if torch.is_grad_enabled() != self.grad_enabled:
            torch._C._set_grad_enabled(self.grad_enabled)


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def drop_needless_grad_modes(graph: torch.fx.Graph, enabled: bool) -> None:
    """Remove changes of the grad mode that nothing happens under."""
    settings = [node for node in graph.nodes if node.target is torch._C._set_grad_enabled]
    for node in settings:
        if node.next.target is torch._C._set_grad_enabled or node.args[0] == enabled:
            graph.erase_node(node)
        else:
            enabled = bool(node.args[0])
