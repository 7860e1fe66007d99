"""Writes that torch may refuse although they run on fake tensors: for how their tensors lie in memory, their dtypes, or
the numbers among their arguments.

What refuses them is a check in the kernel, which fake tensors do not reach. `graph/builder.py` asks for each operator
that writes, so that one that may be refused never stands where the program could see it inside a graph that wrote
before. Invariant: an answer of "no" is certain for real tensors with the strides and dtypes of the fake ones and these
numbers, but for what depends on data (`operator_effects.may_raise`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

_NUMBERS = (int, float, complex, torch.SymInt, torch.SymFloat, torch.SymBool)
_HOLD_ANY_SIZE = (torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
# Others (wide unsigned ones, floats of eight bits, quantized ones) lack many kernels, which shows behind a write
_COMMON = frozenset(
    {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32,
     torch.float64, torch.complex64, torch.complex128, torch.bool}
)  # fmt: skip
# Operators by their names without underscores around, and what they can write to, from whatever it can be made of
_ANYTHING = frozenset({"copy", "fill", "zero"})
_ARITHMETIC = frozenset({"add", "sub", "mul"})
_OF_INTEGERS = frozenset({"abs", "neg", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "random", "relu"})
_OF_BITS = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"})
_OF_TRUTH = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not", "eq", "ne"})
# Parameters, of distributions mostly, that are good whatever their order; others may be, which is not known here
_IS_GOOD_PARAMETER: dict[str, Callable[[Any], bool]] = {
    "bernoulli": lambda number: 0 <= number <= 1,
    "normal": lambda number: 0 <= number < math.inf,
    "log_normal": lambda number: 0 < number < math.inf,
    "cauchy": lambda number: 0 < number < math.inf,
    "exponential": lambda number: 0 < number < math.inf,
    "geometric": lambda number: 0 < number < 1,
    "mvlgamma": lambda number: 1 <= number < 1000,
    "random": lambda number: False,
    "uniform": lambda number: False,
}
_NOT_OF_FLOATS = _OF_BITS | {"bitwise_left_shift", "bitwise_right_shift", "gcd", "lcm"}


def may_be_refused(
    operator: Any, written: Sequence[torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Whether a call of an operator, which writes to these of its arguments, may raise for what no data decides."""
    leaves: list[Any] = tree_leaves((args, kwargs))
    read: list[torch.Tensor] = []
    numbers: list[Any] = []
    targets = {id(tensor) for tensor in written}
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            if isinstance(leaf, _NUMBERS):
                numbers.append(leaf)
        elif id(leaf) in targets:
            targets.discard(id(leaf))  # where it stands once more it is read
        else:
            read.append(leaf)
    is_pointwise = torch.Tag.pointwise in operator.tags
    if any(_overlaps_itself(tensor) for tensor in written):
        return True
    if read and _some_may_meet(written, read, is_pointwise):
        return True
    name = operator.overloadpacket.__name__.strip("_").removeprefix("foreach_")
    return any(_may_refuse(name, dtype, read, numbers) for dtype in {target.dtype for target in written})


def _fits(number: Any, dtype: torch.dtype) -> bool:
    """Whether a number surely is one of a dtype, as kernels check it before they write it or compare with it."""
    if dtype is torch.bool:
        return not isinstance(number, (complex, torch.SymFloat))
    if isinstance(number, complex):
        return dtype.is_complex and _fits(number.real, dtype) and _fits(number.imag, dtype)
    if isinstance(number, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        if isinstance(number, torch.SymFloat):
            return dtype is torch.float64 or (dtype.is_floating_point and _is_within(number, torch.finfo(dtype).max))
        return dtype in _HOLD_ANY_SIZE or isinstance(number, torch.SymBool)
    if dtype.is_floating_point or dtype.is_complex:
        return not math.isfinite(number) or abs(number) <= torch.finfo(dtype).max
    limits = torch.iinfo(dtype)
    return limits.min <= number <= limits.max  # no infinity does, nor what is not a number


def _is_within(number: torch.SymFloat, largest: float) -> bool:
    """Whether a symbolic number is a finite one of a dtype: a fact that the graph then relies on, so that a number
    which is another in each call, a learning rate, is no reason to break."""
    return bool(number >= -largest) and bool(number <= largest)


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether several elements surely are one in memory; where that is hard to tell torch does not refuse."""
    return any(type(stride) is int and stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride()))


def _some_may_meet(written: Sequence[torch.Tensor], read: Sequence[torch.Tensor], is_pointwise: bool) -> bool:
    """`_may_meet` for each pair. Lists of parameters are long, and as a rule each tensor has memory of its own."""
    by_storage: dict[int, list[torch.Tensor]] = {}
    for tensor in read:
        by_storage.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    return any(
        _may_meet(target, tensor, is_pointwise)
        for target in written
        for tensor in by_storage.get(target.untyped_storage()._cdata, ())
    )


def _may_meet(written: torch.Tensor, read: torch.Tensor, is_pointwise: bool) -> bool:
    """Whether two tensors of one storage meet as far as torch sees; pointwise operators may read what they write."""
    if is_pointwise and (
        written is read
        or (written.shape, written.stride(), written.storage_offset(), written.dtype)
        == (read.shape, read.stride(), read.storage_offset(), read.dtype)
    ):
        return False
    if not (_is_dense(written) and _is_dense(read)):
        return False  # torch does not look
    (first, end), (other, other_end) = _bytes_of(written), _bytes_of(read)
    return bool(first < other_end and other < end)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill a piece of memory, in some order."""
    expected: Any = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size != 1:
            if stride != expected:
                return False
            expected = expected * size
    return True


def _bytes_of(tensor: torch.Tensor) -> tuple[Any, Any]:
    size = tensor.element_size()
    return tensor.storage_offset() * size, (tensor.storage_offset() + tensor.numel()) * size


def _may_refuse(name: str, dtype: torch.dtype, read: Sequence[torch.Tensor], numbers: Sequence[Any]) -> bool:
    others = {tensor.dtype for tensor in read}
    if not {dtype, *others} <= _COMMON:
        return True
    if name in ("sub", "subtract") and any(type(number) is bool for number in numbers):
        return True
    if not all(_fits(number, dtype) for number in numbers):
        return True
    if name in _ANYTHING:
        return False
    if name == "masked_fill":
        return torch.bool not in others or not others <= {dtype, torch.bool}
    if "index_put" in name:
        return not others <= {dtype, torch.bool, torch.int64}
    is_good = _IS_GOOD_PARAMETER.get(name)
    if is_good is not None and not all(type(number) in (int, float) and is_good(number) for number in numbers):
        return True
    if dtype.is_floating_point:
        if name in _NOT_OF_FLOATS:
            return True
        if name in _ARITHMETIC or name == "div":
            return any(other.is_complex or other is torch.bool for other in others)
        if "batch_norm" in name:
            return not all(other.is_floating_point for other in others)
        return not others <= {dtype}
    if not others <= {dtype} or any(type(number) in (float, complex, torch.SymFloat) for number in numbers):
        return True
    if dtype is torch.bool:
        return name not in _OF_BITS | _OF_TRUTH
    if dtype.is_complex:
        return name not in _ARITHMETIC | {"div"}
    return name not in _ARITHMETIC | _OF_INTEGERS | _OF_BITS | _OF_TRUTH
