"""`call_transform`: the graph operation that runs a torch.func transform over a subgraph, and its argument structures.

The transform itself is torch's own public function, applied when the graph runs; the subgraph is the traced body of
the function that the user gave it. Invariant: a structure is tuples, lists and dicts of tensors; everything else was
known while tracing and is part of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.func
import torch.fx

TRANSFORMS: Mapping[str, Callable[..., Any]] = {
    "vmap": torch.vmap,
    "grad": torch.func.grad,
    "grad_and_value": torch.func.grad_and_value,
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "hessian": torch.func.hessian,
}


def call_transform(
    name: str,
    options: Mapping[str, Any],
    body: Callable[..., Sequence[torch.Tensor]],
    result: Any,
    captured: Sequence[torch.Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[torch.Tensor, ...]:
    """`TRANSFORMS[name](function, **options)(*args, **kwargs)`, flat; `function` runs `body`.

    `body(*tensors of its arguments, *captured)` returns a flat tuple; `result` is the structure that the function
    gives the transform, with positions in that tuple for tensors.
    """

    run_body = plain_call(body)

    def function(*inner_args: Any, **inner_kwargs: Any) -> Any:
        flat = run_body(*tensors_in((inner_args, inner_kwargs)), *captured)
        return map_structure(result, lambda position: None if position is None else flat[position])

    return tuple(tensors_in(TRANSFORMS[name](function, **options)(*args, **kwargs)))


def plain_call(body: Callable[..., Any]) -> Callable[..., Any]:
    """What runs a subgraph without printing what it raises, as the call of a graph module does."""
    return body.forward if isinstance(body, torch.fx.GraphModule) else body


def tensors_in(structure: Any) -> Iterator[torch.Tensor]:
    """The tensors of a structure, in order."""
    if isinstance(structure, torch.Tensor):
        yield structure
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from tensors_in(item)
    elif isinstance(structure, (tuple, list)):
        for item in structure:
            yield from tensors_in(item)


def map_structure(structure: Any, leaf: Callable[[Any], Any]) -> Any:
    """The structure with `leaf` applied to what is no container."""
    if isinstance(structure, dict):
        return {key: map_structure(item, leaf) for key, item in structure.items()}
    if isinstance(structure, (tuple, list)):
        return type(structure)(map_structure(item, leaf) for item in structure)
    return leaf(structure)
