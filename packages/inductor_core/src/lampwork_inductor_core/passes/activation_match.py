"""Activations, recognised by what they compute and not by how they are spelled.

Devices' passes ask here what can be fused into a library call. The elementwise region that grows from a value is run on
sample points and compared with the activations that libraries know: gelu in a model's own words is found as well as the
decomposed one. Invariants: a match uses the value nowhere else, and agrees within float32 rounding on every sample;
the operators of a region are smooth (no bounds of the user's), so samples of all magnitudes decide.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.fx
import torch.nn.functional as F
import torch.utils._python_dispatch

from .rewriting import same_numbers

aten = torch.ops.aten

_LONGEST = 12  # nodes of a region

_POINTWISE = frozenset(
    {
        aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor,
        aten.neg.default, aten.pow.Tensor_Scalar, aten.tanh.default, aten.erf.default, aten.sigmoid.default,
        aten.exp.default, aten.reciprocal.default, aten.gelu.default, aten.silu.default,
        aten.rsub.Scalar, aten.square.default, aten._to_copy.default,
    }
)  # fmt: skip


class ActivationKind(enum.Enum):
    """What libraries compute behind a product. Not relu: oneDNN's makes 0 of a nan."""

    GELU = "gelu"
    GELU_TANH = "gelu by tanh"
    SILU = "silu"
    SIGMOID = "sigmoid"
    TANH = "tanh"


_FUNCTIONS: Mapping[ActivationKind, Callable[[torch.Tensor], torch.Tensor]] = {
    ActivationKind.GELU: F.gelu,
    ActivationKind.GELU_TANH: lambda x: F.gelu(x, approximate="tanh"),
    ActivationKind.SILU: F.silu,
    ActivationKind.SIGMOID: torch.sigmoid,
    ActivationKind.TANH: torch.tanh,
}
_TOLERANCE = 1e-6  # gelu's two forms differ by 5e-4


@dataclass(frozen=True, slots=True)
class Activation:
    """`result` is an activation of `value`."""

    value: torch.fx.Node
    result: torch.fx.Node
    kind: ActivationKind


def match_activation(value: torch.fx.Node) -> Activation | None:
    """The longest activation that consumes a value entirely, or None."""
    region: dict[torch.fx.Node, None] = {value: None}
    found: Activation | None = None
    pending = list(value.users)
    while pending and len(region) <= _LONGEST:
        ready = [n for n in pending if n not in region and _reads_only(n, region)]
        if not ready:
            break
        for node in ready:
            region[node] = None
            if not _is_of_type(node, value) or not _closed(node, region):
                continue
            found = _identify(value, node, region) or found
        pending = [u for n in region for u in n.users if u not in region]
    return found


def _is_of_type(node: torch.fx.Node, value: torch.fx.Node) -> bool:
    found, wanted = node.meta["val"], value.meta["val"]
    return found.dtype == wanted.dtype and same_numbers(found.shape, wanted.shape)


def _reads_only(node: torch.fx.Node, region: dict[torch.fx.Node, None]) -> bool:
    if node.target is aten._to_copy.default and not _is_widening(node, next(iter(region))):
        return False
    return node.target in _POINTWISE and all(n in region for n in node.all_input_nodes)


def _is_widening(node: torch.fx.Node, value: torch.fx.Node) -> bool:
    """Whether a copy only takes a half to float32, for a function to be computed in, or back."""
    source = node.args[0]
    assert isinstance(source, torch.fx.Node)
    types = {source.meta["val"].dtype, node.meta["val"].dtype}
    return node.kwargs.keys() == {"dtype"} and types == {value.meta["val"].dtype, torch.float32}


def _closed(result: torch.fx.Node, region: dict[torch.fx.Node, None]) -> bool:
    """Whether nothing but `result` leaves the region, of which it is the last node."""
    return all(u in region for n in region if n is not result for u in n.users)


@functools.lru_cache(maxsize=1)
def _samples() -> torch.Tensor:
    """Dense where activations bend, then every magnitude of a float32 and the special values."""
    with torch.utils._python_dispatch._disable_current_modes():
        near = torch.linspace(-9.0, 9.0, 181, dtype=torch.float64)
        far = torch.logspace(0, 38, 200, dtype=torch.float64)
        special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan], dtype=torch.float64)
        return torch.cat([near, far, -far, special])


def _identify(value: torch.fx.Node, result: torch.fx.Node, region: dict[torch.fx.Node, None]) -> Activation | None:
    x = _samples()
    got = _run(value, result, region, x)
    if got is None:
        return None
    for kind, function in _FUNCTIONS.items():
        want = function(x)
        if got.dtype == want.dtype and torch.allclose(got, want, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            return Activation(value, result, kind)
    return None


def _run(
    value: torch.fx.Node, result: torch.fx.Node, region: dict[torch.fx.Node, None], x: torch.Tensor
) -> torch.Tensor | None:
    values: dict[torch.fx.Node, torch.Tensor] = {value: x}
    for node in region:
        if node is value:
            continue
        if node.target is aten._to_copy.default:  # what it rounds is no part of the function
            values[node] = values[node.all_input_nodes[0]]
            continue
        assert callable(node.target)
        arguments = torch.fx.map_arg(node.args, values.__getitem__)
        keywords = torch.fx.map_arg(node.kwargs, values.__getitem__)
        values[node] = node.target(*arguments, **keywords)
    return values.get(result)
