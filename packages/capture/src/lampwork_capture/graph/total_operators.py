"""Total operators: those that raise for no data once their fake implementation took the arguments.

An operation of the program whose result is unused may be dropped only if eager could not have raised in its place. Fake
implementations take more than kernels do: dtypes without a kernel, numbers that do not fit, dimensions out of range.
Invariant: an operator that is not in these tables, or has a tensor of a rare dtype or layout, is taken to raise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_COMPLEX = frozenset({torch.complex64, torch.complex128})
_BOOL = frozenset({torch.bool})
_REAL = _BOOL | _INTEGERS | _FLOATS
_NUMBERS = _INTEGERS | _FLOATS
_ALL = _REAL | _COMPLEX


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Which operators have kernels for all of which dtypes
_TOTAL: tuple[tuple[frozenset[torch.dtype], frozenset[str]], ...] = (
    (
        _ALL,
        _names(
            "empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like new_zeros ones"
            " ones_like new_ones full full_like new_full scalar_tensor arange clone copy _to_copy contiguous lift_fresh"
            " lift_fresh_copy cat stack repeat flip roll constant_pad_nd tril triu where eq ne logical_and logical_or"
            " logical_xor logical_not isnan isinf isfinite add mul rsub sub any all sum masked_fill _unsafe_view"
        ),
    ),
    (_REAL, _names("lt le gt ge exp log sqrt rsqrt sin cos tanh sigmoid reciprocal erf cumsum")),
    (_NUMBERS, _names("neg abs relu maximum minimum clamp clamp_min clamp_max sign floor ceil round trunc square")),
    (_BOOL | _INTEGERS, _names("bitwise_and bitwise_or bitwise_xor bitwise_not")),
    (
        _FLOATS,
        _names("pow floor_divide remainder fmod gelu silu softplus leaky_relu elu hardtanh mean expm1 log1p log2"),
    ),
)
_TOTAL_FOR: dict[str, frozenset[torch.dtype]] = {name: dtypes for dtypes, names in _TOTAL for name in names}
_OF_ONE_DTYPE = _names("mm bmm addmm baddbmm mv dot linear native_layer_norm")  # of floats
_ALONG = _names("softmax log_softmax _softmax _log_softmax")  # a dimension, which fake tensors do not check
_PAST_THE_STORAGE = _names("as_strided")  # fake tensors do not see


def is_total(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> bool:
    """Whether a call that gave `result` on fake tensors raises for no data."""
    schema = getattr(operator, "_schema", None)
    if schema is None or operator.namespace != "aten":
        return getattr(operator, "namespace", "") == "prim"  # what a tensor is, not what is in it
    name = operator.overloadpacket.__name__
    given = [*args, *kwargs.values()]
    tensors = [leaf for leaf in _flat((*given, result)) if isinstance(leaf, torch.Tensor)]
    if any(tensor.layout is not torch.strided for tensor in tensors):
        return False
    if any(out.alias_info is not None for out in schema.returns):
        return not schema.is_mutable and name not in _PAST_THE_STORAGE
    dtypes = {tensor.dtype for tensor in tensors}
    if name in _OF_ONE_DTYPE:
        return len(dtypes) == 1 and dtypes <= _FLOATS
    if name in _ALONG:
        return dtypes <= _FLOATS and type(args[1]) is int and -args[0].dim() <= args[1] < args[0].dim()
    if name == "div":
        if not (isinstance(result, torch.Tensor) and result.dtype in _FLOATS and dtypes <= _REAL):
            return False
    elif not dtypes <= _TOTAL_FOR.get(name, frozenset()):
        return False
    return all(_fits(leaf, dtypes) for leaf in given if isinstance(leaf, (int, float)))


def _flat(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += value
        else:
            found.append(value)
    return found


def _fits(number: float, dtypes: Iterable[torch.dtype]) -> bool:
    """Whether a number can be converted to each of these dtypes: kernels refuse one that overflows."""
    for dtype in dtypes:
        if dtype in _INTEGERS:
            limits = torch.iinfo(dtype)
        elif dtype in _FLOATS:
            if not math.isfinite(number):
                continue
            limits = torch.finfo(dtype)
        else:
            continue
        if not limits.min <= number <= limits.max:
            return False
    return True
