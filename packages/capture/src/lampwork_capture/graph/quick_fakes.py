"""Quick fakes: what pointwise operators give on tensors of symbolic sizes, without torch's meta functions in Python.

Those work out broadcasting and the order of memory by dozens of questions about sizes, milliseconds an operator, and
the layers of a model ask them all again. Where all operands are row-major tensors of one floating dtype, or numbers,
and one of them has the sizes of the result, that is a row-major tensor of these sizes. Asked by the fake tensor mode of
a trace. Invariant: whatever is not exactly that is left to torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape.expr import IntExpr, integer
from lampwork_symshape.sym_node import expr_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from .fake_results import NewTensor

aten: Any = torch.ops.aten
_ONE = integer(1)

_UNARY: frozenset[Any] = frozenset(
    {
        aten.relu.default, aten.gelu.default, aten.silu.default, aten.tanh.default, aten.sigmoid.default,
        aten.exp.default, aten.neg.default, aten.sqrt.default, aten.rsqrt.default, aten.sin.default, aten.cos.default,
        aten.erf.default, aten.log.default, aten.square.default, aten.reciprocal.default,
    }
)  # fmt: skip
_BINARY: frozenset[Any] = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor})


def is_quick(func: Any) -> bool:
    """Whether an operator is one that may be answered here."""
    return func in _UNARY or func in _BINARY


def quick_fake(mode: FakeTensorMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the operator gives, a fake tensor of `mode`, or NotImplemented."""
    if kwargs and not (func in (aten.gelu.default, aten.add.Tensor, aten.sub.Tensor) and len(kwargs) == 1):
        return NotImplemented
    if len(args) != (2 if func in _BINARY else 1):
        return NotImplemented
    base = args[0]
    if func in _BINARY and _rank(args[1]) > _rank(base):
        base = args[1]
    if type(base) is not FakeTensor or not base._has_symbolic_sizes_strides or not base.is_floating_point():
        return NotImplemented
    if not all(arg is base or _fits(base, arg) for arg in args) or not is_row_major(base):
        return NotImplemented
    return NewTensor.like(base).made(mode, ())


def _rank(value: Any) -> int:
    return value.dim() if isinstance(value, FakeTensor) else -1


def _fits(base: FakeTensor, other: Any) -> bool:
    """Whether an operand is a number, or spread over the sizes of `base` without adding to them."""
    if type(other) in (int, float):
        return True
    if type(other) is not FakeTensor or other.dtype != base.dtype or other.fake_device != base.fake_device:
        return False
    sizes = _exprs(other.shape)
    within = _exprs(base.shape)[len(base.shape) - len(sizes) :]
    return all(size is whole or size is _ONE for size, whole in zip(sizes, within)) and is_row_major(other)


def _exprs(numbers: Sequence[Any]) -> list[IntExpr]:
    return [expr_of(number) for number in numbers]


def is_row_major(x: FakeTensor) -> bool:
    """Whether the strides are written as those of a row-major tensor of these sizes."""
    if x.layout is not torch.strided:
        return False
    expected = _ONE
    for size, stride in zip(reversed(_exprs(x.shape)), reversed(_exprs(x.stride()))):
        if stride is not expected:
            return False
        expected = expected * size
    return True
