"""`lampwork.compile`: the full stack as one call, for functions, modules and as a decorator.

The user's entry to the path; it joins capture with the lowering pipeline. Invariant: it means what
`torch.compile(model, backend="lampwork", ...)` means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import lampwork_capture

from .pipeline import graph_backend

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def compile(
    model: _F,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> _F: ...


@overload
def compile(
    model: None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[[_F], _F]: ...


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Compile a function or `nn.Module` just in time: captured, lowered and built at the first call, then reused.

    Arguments are those of `torch.compile`. `fullgraph=True` raises at a graph break instead of running the rest of the
    frame as plain Python. `dynamic`: see `lampwork_capture.optimize`. Raises OptionError on an unknown mode or option.
    Without `model`, returns a decorator.
    """
    optimize = lampwork_capture.optimize(graph_backend(mode, options), fullgraph=fullgraph, dynamic=dynamic)
    return optimize if model is None else optimize(model)
