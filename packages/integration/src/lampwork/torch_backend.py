"""The backend names that `torch.compile` finds: `lampwork` and `lampwork_inductor`.

torch loads this module when a user first names one of them, through the entry-point group `torch_dynamo_backends`, and
only then calls `torch._dynamo.optimize` by attribute. A thin switch put there on import takes the calls whose backend
is `lampwork` to Lampwork's own capture and passes every other call on untouched. Invariant: with Lampwork installed but
unused, this module is never imported, and nothing is patched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lampwork_capture
import torch._dynamo
import torch.fx

from .compile import compile as lampwork_compile
from .pipeline import graph_backend


def lampwork(graph: torch.fx.GraphModule, example_inputs: Sequence[Any], **kwargs: Any) -> Callable[..., Any]:
    """`torch.compile(model, backend="lampwork")`: the whole stack.

    The switch below recognises this function and hands the model to Lampwork's capture. When torch's own capture calls
    it with a graph after all (a caller that bypasses `torch.compile`), it lowers that graph.
    """
    return lampwork_inductor(graph, example_inputs, **kwargs)


def lampwork_inductor(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """`torch.compile(model, backend="lampwork_inductor")`: torch's capture, Lampwork's lowering."""
    return graph_backend(mode, options)(graph, list(example_inputs))


def _is_ours(backend: Any) -> bool:
    # torch.compile wraps the looked-up function in an object with `compiler_fn` and `kwargs`.
    return getattr(backend, "compiler_fn", backend) is lampwork or backend == "lampwork"


def _install_switch() -> None:
    torch_optimize = torch._dynamo.optimize
    torch_reset = torch._dynamo.reset
    if getattr(torch_optimize, "_lampwork_switch", False):
        return

    @functools.wraps(torch_optimize)
    def optimize(backend: Any = "inductor", *args: Any, **kwargs: Any) -> Any:
        if not _is_ours(backend):
            return torch_optimize(backend, *args, **kwargs)
        if kwargs.get("disable", False):
            return _unchanged
        chosen: Mapping[str, Any] = getattr(backend, "kwargs", {})
        return lampwork_compile(
            fullgraph=bool(kwargs.get("nopython", False)),
            dynamic=kwargs.get("dynamic"),
            mode=chosen.get("mode"),
            options=chosen.get("options"),
        )

    @functools.wraps(torch_reset)
    def reset() -> None:
        torch_reset()
        lampwork_capture.reset()

    optimize._lampwork_switch = True  # pyright: ignore[reportAttributeAccessIssue]
    torch._dynamo.optimize = optimize
    torch._dynamo.reset = reset


def _unchanged(model: Any) -> Any:
    return model


_install_switch()
