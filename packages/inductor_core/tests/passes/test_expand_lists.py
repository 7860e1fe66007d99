"""expand_lists: each operator on lists, item by item what it computes on lists."""

from __future__ import annotations

import operator

import pytest
import torch
from lampwork_inductor_core.passes.expand_lists import expand_lists

A = (torch.linspace(0.1, 0.9, 6), torch.linspace(0.2, 0.8, 8).view(2, 4), torch.tensor(0.5))
B = tuple(t * 2 + 0.25 for t in A)
_UNARY = "sqrt neg reciprocal abs sign exp log sigmoid rsqrt floor"


@pytest.mark.parametrize(
    "function",
    [
        *(pytest.param(lambda a, b, name=name: getattr(torch, f"_foreach_{name}")(a), id=name)
          for name in _UNARY.split()),
        lambda a, b: torch._foreach_add(a, 2.5),
        lambda a, b: torch._foreach_add(a, b, alpha=0.5),
        lambda a, b: torch._foreach_add(a, [1.0, 2.0, 3.0]),
        lambda a, b: torch._foreach_add(a, torch.tensor(2.0), alpha=3.0),
        lambda a, b: torch._foreach_sub(a, b),
        lambda a, b: torch._foreach_mul(a, b),
        lambda a, b: torch._foreach_mul(a, torch.tensor(2.0)),
        lambda a, b: torch._foreach_div(a, [t.sum() for t in b]),
        lambda a, b: torch._foreach_addcmul(a, b, b, 0.5),
        lambda a, b: torch._foreach_addcdiv(a, b, b, [0.5, 1.0, 2.0]),
        lambda a, b: torch._foreach_lerp(a, b, 0.25),
        lambda a, b: torch._foreach_lerp(a, b, 0.75),
        lambda a, b: torch._foreach_lerp(a, b, list(a)),
        lambda a, b: torch._foreach_pow(a, 2.0),
        lambda a, b: torch._foreach_pow(a, b),
        lambda a, b: torch._foreach_pow(0.9, b),
        lambda a, b: torch._foreach_maximum(a, b),
        lambda a, b: torch._foreach_clamp_min(a, 0.4),
        lambda a, b: torch._foreach_norm(a, 2.0),
        lambda a, b: torch._foreach_norm(a),
    ],
)  # fmt: skip
def test_item_by_item(rewritten, targets, function):
    graph = rewritten(expand_lists, lambda *tensors: list(function(tensors[:3], tensors[3:])), *A, *B)
    found = targets(graph)
    assert operator.getitem not in found
    assert not any(str(target).startswith("aten._foreach_") for target in found)


def test_what_has_no_single_form_stays(rewritten, targets):
    graph = rewritten(expand_lists, lambda *tensors: [t * 2 for t in torch._foreach_max(tensors[:3])], *A, *B)
    assert any(str(target).startswith("aten._foreach_max") for target in targets(graph))
