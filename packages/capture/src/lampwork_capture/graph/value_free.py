"""Operations whose result has the same properties for nearly every value of a float: probabilities, epsilons, momenta.

torch reads such a float as a C number, which would specialize it. Here the few values that matter are decided one by
one, and the operation runs on fake tensors with the number itself. Invariant: within the decided outcomes neither
shape, dtype, strides nor aliasing of the result, nor whether the float is refused, depends on it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lampwork_symshape.scalar_expr import apply
from lampwork_symshape.sym_node import TorchShapeEnv, term_of_symbol

Relation = Callable[[float, float], bool]


@dataclass(frozen=True, slots=True)
class FreeFloat:
    """One float argument: where it stands, and the comparisons whose outcome matters."""

    position: int
    keyword: str
    decided: tuple[tuple[Relation, float], ...] = ()


# Nothing is dropped, everything is, or the number is refused
_PROBABILITY = ((operator.eq, 0.0), (operator.eq, 1.0), (operator.lt, 0.0), (operator.gt, 1.0))
_POSITIVE = ((operator.gt, 0.0),)
_SIGN = ((operator.lt, 0.0), (operator.gt, 0.0))

_DROPOUT = (FreeFloat(1, "p", _PROBABILITY),)
_EPS_LAST = (FreeFloat(4, "eps", _POSITIVE),)
_RUNNING = (FreeFloat(6, "momentum"), FreeFloat(7, "eps", _POSITIVE))
_TORCH: Any = torch  # for its parts that have no stubs
_KEYWORD_ONLY = 1 << 30
_RATES = tuple(FreeFloat(_KEYWORD_ONLY, name) for name in ("lr", "weight_decay"))
_FREE: Mapping[Callable[..., Any], Sequence[FreeFloat]] = {
    _TORCH._fused_adam_: _RATES,
    _TORCH._fused_adamw_: _RATES,
    _TORCH._fused_sgd_: _RATES,
    _TORCH._fused_adagrad_: _RATES,
    F.dropout: _DROPOUT,
    F.dropout1d: _DROPOUT,
    F.dropout2d: _DROPOUT,
    F.dropout3d: _DROPOUT,
    F.alpha_dropout: _DROPOUT,
    F.feature_alpha_dropout: _DROPOUT,
    torch.dropout: _DROPOUT,
    torch.alpha_dropout: _DROPOUT,
    torch.feature_dropout: _DROPOUT,
    torch.feature_alpha_dropout: _DROPOUT,
    F.layer_norm: _EPS_LAST,
    torch.layer_norm: _EPS_LAST,
    F.group_norm: _EPS_LAST,
    torch.group_norm: _EPS_LAST,
    F.rms_norm: (FreeFloat(3, "eps", _POSITIVE),),
    torch.rms_norm: (FreeFloat(3, "eps", _POSITIVE),),
    F.batch_norm: _RUNNING,
    F.instance_norm: _RUNNING,
    F.huber_loss: (FreeFloat(3, "delta", _SIGN),),
    F.smooth_l1_loss: (FreeFloat(5, "beta", _SIGN),),
    F.scaled_dot_product_attention: (FreeFloat(4, "dropout_p", _PROBABILITY), FreeFloat(6, "scale")),
}


def without_value(
    env: TorchShapeEnv, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with a symbolic float as the plain one that it is now where that is all the same."""
    for free in _FREE.get(target, ()) if callable(target) else ():
        if len(args) > free.position:
            plain = _plain(env, args[free.position], free)
            args = (*args[: free.position], plain, *args[free.position + 1 :])
        elif free.keyword in kwargs:
            kwargs = {**kwargs, free.keyword: _plain(env, kwargs[free.keyword], free)}
    return args, kwargs


def _plain(env: TorchShapeEnv, value: Any, free: FreeFloat) -> Any:
    if not isinstance(value, torch.SymFloat):
        return value
    term = term_of_symbol(value)
    for relation, bound in free.decided:
        env.decide_scalar(apply(relation, term, bound))
    return env.scalar_hint(term)
