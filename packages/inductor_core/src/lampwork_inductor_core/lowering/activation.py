"""Activations that arrive whole: gelu, elu, softplus and others with parameters.

Usually decomposed before us; here so that a graph from anywhere lowers. Invariant: as in `pointwise`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch

from ..ir.float_expr import FloatExpr, FloatOf
from ..ir.loop_body import Node, ops
from .context import LoweringContext
from .elementwise import at_least, at_most, elementwise, like
from .promotion import result_dtype
from .table import Lowering, Unsupported, lowers
from .values import TensorValue

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}


def _require_floating(*values: Any) -> None:
    if not result_dtype(values).is_floating_point:
        raise Unsupported("integers")


@lowers(TABLE, aten.gelu.default)
def gelu(context: LoweringContext, value: TensorValue, *, approximate: str = "none") -> TensorValue:
    """The Gaussian error linear unit, exact or by tanh."""
    _require_floating(value)

    def exact(x: Node) -> Node:
        half = ops.mul(x, like(0.5, x))
        return ops.mul(half, ops.add(like(1, x), ops.erf(ops.mul(x, like(math.sqrt(0.5), x)))))

    def by_tanh(x: Node) -> Node:
        cube = ops.mul(ops.mul(x, x), x)
        inner = ops.mul(like(math.sqrt(2 / math.pi), x), ops.add(x, ops.mul(like(0.044715, x), cube)))
        return ops.mul(ops.mul(like(0.5, x), x), ops.add(like(1, x), ops.tanh(inner)))

    return elementwise(context, (value,), by_tanh if approximate == "tanh" else exact)


@lowers(TABLE, aten.hardtanh.default)
def hardtanh(context: LoweringContext, value: TensorValue, low: Any = -1, high: Any = 1) -> TensorValue:
    """Between two numbers."""
    _require_floating(value)
    return elementwise(context, (value,), lambda x: at_most(at_least(x, like(low, x)), like(high, x)))


@lowers(TABLE, aten.leaky_relu.default)
def leaky_relu(context: LoweringContext, value: TensorValue, slope: Any = 0.01) -> TensorValue:
    """Linear with a smaller slope below zero."""
    _require_floating(value)
    return elementwise(context, (value,), lambda x: ops.where(ops.gt(x, like(0, x)), x, ops.mul(x, like(slope, x))))


@lowers(TABLE, aten.elu.default)
def elu(
    context: LoweringContext, value: TensorValue, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1
) -> TensorValue:
    """The exponential linear unit."""
    _require_floating(value)

    def build(x: Node) -> Node:
        below = ops.mul(ops.expm1(ops.mul(x, like(input_scale, x))), like(_product(alpha, scale), x))
        return ops.where(ops.lt(x, like(0, x)), below, ops.mul(x, like(scale, x)))

    return elementwise(context, (value,), build)


def _product(a: Any, b: Any) -> Any:
    if isinstance(a, FloatExpr) or isinstance(b, FloatExpr):
        return FloatOf(operator.mul, (a, b))
    return float(a) * float(b)


@lowers(TABLE, aten.celu.default)
def celu(context: LoweringContext, value: TensorValue, alpha: Any = 1.0) -> TensorValue:
    """The continuously differentiable exponential linear unit."""
    if alpha == 0:
        raise Unsupported("alpha zero raises")
    return elu(context, value, alpha, 1.0, 1.0 / alpha)


@lowers(TABLE, aten.softplus.default)
def softplus(context: LoweringContext, value: TensorValue, beta: Any = 1, threshold: Any = 20) -> TensorValue:
    """A smooth relu; the identity above the threshold."""
    _require_floating(value)

    def build(x: Node) -> Node:
        scaled = ops.mul(x, like(beta, x))
        return ops.where(ops.gt(scaled, like(threshold, x)), x, ops.truediv(ops.log1p(ops.exp(scaled)), like(beta, x)))

    return elementwise(context, (value,), build)


@lowers(TABLE, aten.threshold.default)
def threshold(context: LoweringContext, value: TensorValue, threshold: Any, other: Any) -> TensorValue:
    """`other` where the value is at most the threshold."""
    _require_floating(value)
    return elementwise(context, (value,), lambda x: ops.where(ops.le(x, like(threshold, x)), like(other, x), x))


@lowers(TABLE, aten._prelu_kernel.default)
def prelu(context: LoweringContext, value: TensorValue, weight: TensorValue) -> TensorValue:
    """A relu whose slope below zero is a tensor."""
    return elementwise(context, (value, weight), lambda x, w: ops.where(ops.gt(x, like(0, x)), x, ops.mul(w, x)))


@lowers(TABLE, aten.logit.default, aten.special_logit.default)
def logit(context: LoweringContext, value: TensorValue, eps: float | None = None) -> TensorValue:
    """The inverse of the sigmoid."""
    _require_floating(value)

    def build(x: Node) -> Node:
        if eps is not None:
            low, high = like(eps, x), like(1 - eps, x)
            x = ops.where(ops.lt(x, low), low, ops.where(ops.gt(x, high), high, x))
        return ops.log(ops.truediv(x, ops.sub(like(1, x), x)))

    return elementwise(context, (value,), build)


@lowers(TABLE, aten.threshold_backward.default)
def threshold_backward(context: LoweringContext, grad: TensorValue, value: TensorValue, threshold: Any) -> TensorValue:
    """The gradient of relu and threshold."""
    _require_floating(grad, value)
    return elementwise(context, (grad, value), lambda g, x: ops.where(ops.le(x, like(threshold, x)), like(0, g), g))


@lowers(TABLE, aten.sigmoid_backward.default)
def sigmoid_backward(context: LoweringContext, grad: TensorValue, output: TensorValue) -> TensorValue:
    """The gradient of sigmoid from its output."""
    return elementwise(context, (grad, output), lambda g, y: ops.mul(g, ops.mul(ops.sub(like(1, y), y), y)))


@lowers(TABLE, aten.tanh_backward.default)
def tanh_backward(context: LoweringContext, grad: TensorValue, output: TensorValue) -> TensorValue:
    """The gradient of tanh from its output."""
    return elementwise(context, (grad, output), lambda g, y: ops.mul(g, ops.sub(like(1, y), ops.mul(y, y))))


@lowers(TABLE, aten.silu_backward.default)
def silu_backward(context: LoweringContext, grad: TensorValue, value: TensorValue) -> TensorValue:
    """The gradient of silu."""
    _require_floating(grad, value)

    def build(g: Node, x: Node) -> Node:
        s = ops.sigmoid(x)
        return ops.mul(ops.mul(g, s), ops.add(like(1, x), ops.mul(x, ops.sub(like(1, x), s))))

    return elementwise(context, (grad, value), build)


@lowers(TABLE, aten.gelu_backward.default)
def gelu_backward(
    context: LoweringContext, grad: TensorValue, value: TensorValue, *, approximate: str = "none"
) -> TensorValue:
    """The gradient of gelu."""
    _require_floating(grad, value)

    def exact(g: Node, x: Node) -> Node:
        cdf = ops.mul(like(0.5, x), ops.add(like(1, x), ops.erf(ops.mul(x, like(math.sqrt(0.5), x)))))
        density = ops.mul(ops.exp(ops.mul(ops.mul(x, x), like(-0.5, x))), like(1 / math.sqrt(2 * math.pi), x))
        return ops.mul(g, ops.add(cdf, ops.mul(x, density)))

    def by_tanh(g: Node, x: Node) -> Node:
        beta, kappa = math.sqrt(2 / math.pi), 0.044715
        square = ops.mul(x, x)
        t = ops.tanh(ops.mul(like(beta, x), ops.add(x, ops.mul(like(kappa, x), ops.mul(square, x)))))
        left = ops.mul(like(0.5, x), ops.add(like(1, x), t))
        slope = ops.mul(like(beta, x), ops.add(like(1, x), ops.mul(like(3 * kappa, x), square)))
        right = ops.mul(ops.mul(ops.mul(like(0.5, x), x), ops.sub(like(1, x), ops.mul(t, t))), slope)
        return ops.mul(g, ops.add(left, right))

    return elementwise(context, (grad, value), by_tanh if approximate == "tanh" else exact)
