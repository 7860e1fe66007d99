"""Activations, recognised by what they compute and not by how they are spelled.

Used by `onednn` to find what can be fused into a library call. The elementwise region that grows from a value is run on
sample points and compared with the activations that oneDNN knows: gelu in a model's own words is found as well as the
decomposed one. Invariants: a match uses the value nowhere else, and agrees within float32 rounding on every sample;
the operators of a region are smooth (no bounds of the user's), so samples of all magnitudes decide.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.fx
import torch.nn.functional as F
import torch.utils._python_dispatch
from lampwork_inductor_core.passes.rewriting import same_numbers

aten = torch.ops.aten

_LONGEST = 12  # nodes of a region

_POINTWISE = frozenset(
    {
        aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor,
        aten.neg.default, aten.pow.Tensor_Scalar, aten.tanh.default, aten.erf.default, aten.sigmoid.default,
        aten.exp.default, aten.reciprocal.default, aten.gelu.default, aten.silu.default,
        aten.rsub.Scalar, aten.square.default,
    }
)  # fmt: skip

_KNOWN: tuple[tuple[str, str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
    # not relu: oneDNN's makes 0 of a nan; in a kernel of ours it costs ResNet-50 about 1 %
    ("gelu", "none", F.gelu),
    ("gelu", "tanh", lambda x: F.gelu(x, approximate="tanh")),
    ("swish", "", F.silu),
    ("sigmoid", "", torch.sigmoid),
    ("tanh", "", torch.tanh),
)
_TOLERANCE = 1e-6  # gelu's two forms differ by 5e-4


@dataclass(frozen=True, slots=True)
class Activation:
    """`result` is `attribute` (in oneDNN's words) of `value`."""

    value: torch.fx.Node
    result: torch.fx.Node
    attribute: str
    algorithm: str


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
            if not same_numbers(node.meta["val"].shape, value.meta["val"].shape) or not _closed(node, region):
                continue
            found = _identify(value, node, region) or found
        pending = [u for n in region for u in n.users if u not in region]
    return found


def _reads_only(node: torch.fx.Node, region: dict[torch.fx.Node, None]) -> bool:
    return node.target in _POINTWISE and all(n in region for n in node.all_input_nodes)


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
    for attribute, algorithm, function in _KNOWN:
        want = function(x)
        if got.dtype == want.dtype and torch.allclose(got, want, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            return Activation(value, result, attribute, algorithm)
    return None


def _run(
    value: torch.fx.Node, result: torch.fx.Node, region: dict[torch.fx.Node, None], x: torch.Tensor
) -> torch.Tensor | None:
    values: dict[torch.fx.Node, torch.Tensor] = {value: x}
    for node in region:
        if node is value:
            continue
        assert callable(node.target)
        arguments = torch.fx.map_arg(node.args, values.__getitem__)
        keywords = torch.fx.map_arg(node.kwargs, values.__getitem__)
        values[node] = node.target(*arguments, **keywords)
    return values.get(result)
