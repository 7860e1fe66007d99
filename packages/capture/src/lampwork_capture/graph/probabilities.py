"""Operations whose result has the same properties for nearly every value of a float: dropout probabilities.

torch reads such a float as a C number, which would specialize it. Here the few values that matter are decided one by
one, and the operation runs on fake tensors with the number itself. Invariant: within the decided outcomes neither
shape, dtype, strides nor aliasing of the result depends on the float.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from lampwork_symshape.scalar_expr import apply
from lampwork_symshape.sym_node import TorchShapeEnv, term_of_symbol

# function -> (position, keyword) of its probability
_PROBABILITY: Mapping[Callable[..., Any], tuple[int, str]] = {
    F.dropout: (1, "p"),
    F.dropout1d: (1, "p"),
    F.dropout2d: (1, "p"),
    F.dropout3d: (1, "p"),
    F.alpha_dropout: (1, "p"),
    F.feature_alpha_dropout: (1, "p"),
    torch.dropout: (1, "p"),
    torch.alpha_dropout: (1, "p"),
    torch.feature_dropout: (1, "p"),
    torch.feature_alpha_dropout: (1, "p"),
    F.scaled_dot_product_attention: (4, "dropout_p"),
}


def without_value(
    env: TorchShapeEnv, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with a symbolic probability as the plain float that it is now, if that is all the same."""
    place = _PROBABILITY.get(target) if callable(target) else None
    if place is None:
        return args, kwargs
    position, keyword = place
    if len(args) > position:
        args = (*args[:position], _plain(env, args[position]), *args[position + 1 :])
    elif keyword in kwargs:
        kwargs = {**kwargs, keyword: _plain(env, kwargs[keyword])}
    return args, kwargs


def _plain(env: TorchShapeEnv, value: Any) -> Any:
    if not isinstance(value, torch.SymFloat):
        return value
    term = term_of_symbol(value)
    # Nothing is dropped, everything is, or the number is refused
    for relation, bound in ((operator.eq, 0.0), (operator.eq, 1.0), (operator.lt, 0.0), (operator.gt, 1.0)):
        env.decide_scalar(apply(relation, term, bound))
    return env.scalar_hint(term)
