"""Device functions: what generated Triton kernels call by name.

At the end of the path: this module and triton are all that a kernel's text imports. Combine functions follow torch
where Triton's own differ (nan wins in a maximum, division rounds down, ties take the first index). Invariant: imports
nothing of the compiler, and torch under the interpreter only, since the processes that compile kernels import it;
every function means the reference of the scalar operation of its name.
"""

# Triton functions take whatever Triton passes: annotations would be read as its own.
# pyright: basic, reportMissingParameterType=false, reportUntypedFunctionDecorator=false, reportRedeclaration=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from .interpreter import INTERPRETED

if INTERPRETED:
    from .interpreted_functions import interpreted_function as _libdevice
else:

    def _libdevice(name):
        return getattr(libdevice, name)


expm1 = _libdevice("expm1")
log10 = _libdevice("log10")
log1p = _libdevice("log1p")
tan = _libdevice("tan")
asin = _libdevice("asin")
acos = _libdevice("acos")
atan = _libdevice("atan")
sinh = _libdevice("sinh")
cosh = _libdevice("cosh")
tanh = _libdevice("tanh")
asinh = _libdevice("asinh")
acosh = _libdevice("acosh")
atanh = _libdevice("atanh")
erfc = _libdevice("erfc")
erfinv = _libdevice("erfinv")
lgamma = _libdevice("lgamma")
trunc = _libdevice("trunc")
round_half_even = _libdevice("nearbyint")
pow = _libdevice("pow")
atan2 = _libdevice("atan2")
hypot = _libdevice("hypot")
copysign = _libdevice("copysign")
nextafter = _libdevice("nextafter")
fmod = _libdevice("fmod")

if INTERPRETED:

    @triton.jit
    def widened(x):
        return x.to(tl.float32)

    @triton.jit
    def rough_exp2(x):
        return tl.exp2(x)

    @triton.jit
    def rough_reciprocal(x):
        return 1.0 / x
else:

    @triton.jit
    def rough_exp2(x):
        """A power of two in one instruction, within two units in the last place; 0 below 2**-126."""
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def rough_reciprocal(x):
        """A reciprocal in one instruction, within one unit in the last place; 0 above 2**126."""
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def widened(x):
        """A bfloat16 as float32 in one instruction each; Triton's conversion takes every second one out first."""
        return tl.inline_asm_elementwise(
            "{ .reg .b32 low, high; shl.b32 low, $2, 16; and.b32 high, $2, 0xffff0000;"
            " mov.b32 $0, low; mov.b32 $1, high; }",
            "=f,=f,r",
            [x],
            dtype=tl.float32,
            is_pure=True,
            pack=2,
        )


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def add(a, b):
    return a + b


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def floor_div(a, b):
    """Integer division that rounds down; Triton's own truncates."""
    quotient = a // b
    return tl.where((a % b != 0) & ((a < 0) != (b < 0)), quotient - 1, quotient)


@triton.jit
def floor_mod(a, b):
    """Integer remainder with the divisor's sign."""
    rest = a % b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


@triton.jit
def integer_pow(base, exponent):
    """Integer power by squaring; a negative exponent gives 0, or the sign for a base of 1 or -1, as torch does."""
    result = tl.full(base.shape, 1, base.dtype)
    factor = base
    left = tl.maximum(exponent, 0)
    for _ in tl.static_range(base.dtype.primitive_bitwidth):  # pyright: ignore[reportGeneralTypeIssues]
        result = tl.where((left & 1) != 0, result * factor, result)
        factor = factor * factor
        left = left >> 1
    odd = (exponent & 1) != 0
    inverse = tl.where(base == 1, 1, tl.where(base == -1, tl.where(odd, -1, 1), 0)).to(base.dtype)
    return tl.where(exponent < 0, inverse, result)


@triton.jit
def float_remainder(a, b):
    """Floating remainder with the divisor's sign; nan for a zero divisor."""
    rest = fmod(a, b)
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


@triton.jit
def float_floor_div(a, b):
    """Floating division rounded down, by torch's steps: exact where `floor(a / b)` would round up."""
    rest = fmod(a, b)
    quotient = (a - rest) / b
    quotient = tl.where((rest != 0) & ((b < 0) != (rest < 0)), quotient - 1, quotient)
    floor = tl.floor(quotient)
    floor = tl.where(quotient - floor > 0.5, floor + 1, floor)
    nearest = tl.where(quotient == 0, copysign(quotient, a / b), floor)
    return tl.where(b == 0, a / b, nearest)


@triton.jit
def join_moments(total, squares, count, other_total, other_squares, other_count):
    """Combine of sums, sums of squared deviations from the mean, and counts."""
    both = count + other_count
    distance = other_total / tl.maximum(other_count, 1.0) - total / tl.maximum(count, 1.0)
    weight = count * other_count / tl.maximum(both, 1.0)  # none where one side saw nothing
    return total + other_total, squares + other_squares + distance * (distance * weight), both


@triton.jit
def add_power(largest, total, value):
    """The sum of exp(value - largest) with one value more, by one exponential; `largest` is from before."""
    distance = value - largest
    power = tl.where(value == float("-inf"), 0.0, tl.exp(-tl.abs(distance)))
    return tl.where(distance > 0, total * power + 1, total + power)


@triton.jit
def rough_sigmoid(x):
    """The sigmoid within a few units in the last place of float32."""
    return rough_reciprocal(1.0 + rough_exp2(-1.4426950408889634 * x))


@triton.jit
def rough_erf(x):
    """The error function within 4e-6, by the sigmoid of an odd polynomial: of log((1 + erf) / (1 - erf)), fitted, in
    powers of two."""
    y = tl.clamp(x, -4.04, 4.04, propagate_nan=tl.PropagateNan.ALL)
    z = y * y
    p = -4.2599738260218333e-10 * z + 3.524160228503995e-08
    p = p * z - 1.248228822249507e-06
    p = p * z + 2.4593180545519676e-05
    p = p * z - 0.0002885849357080309
    p = p * z + 0.0018436101818275555
    p = p * z + 0.000583004013352606
    p = p * z - 0.29664889737445743
    p = p * z - 3.2557695109189595
    return 2.0 * rough_reciprocal(1.0 + rough_exp2(p * y)) - 1.0


@triton.jit
def join_powers(largest, total, other, other_total):
    """Combine of greatest values and of the sums of exponentials of differences to them."""
    best = tl.maximum(largest, other, propagate_nan=tl.PropagateNan.ALL)
    shift = tl.where(best == float("-inf"), 0.0, best)
    return best, total * tl.exp(largest - shift) + other_total * tl.exp(other - shift)


@triton.jit
def greater_or_first(value, index, other, other_index):
    """Combine of an argmax: the greater value, nan above all, the first index on ties."""
    nan, other_nan = value != value, other != other
    wins = (value > other) | (nan & (other_nan == 0))
    ties = (value == other) | (nan & other_nan)
    keep = wins | (ties & (index < other_index))
    return tl.where(keep, value, other), tl.where(keep, index, other_index)


@triton.jit
def less_or_first(value, index, other, other_index):
    """Combine of an argmin: the smaller value, nan below all, the first index on ties."""
    nan, other_nan = value != value, other != other
    wins = (value < other) | (nan & (other_nan == 0))
    ties = (value == other) | (nan & other_nan)
    keep = wins | (ties & (index < other_index))
    return tl.where(keep, value, other), tl.where(keep, index, other_index)
