"""How the native tree reads a tensor: torch's stable C shim, and two offsets that are probed and verified here.

The extension does not link torch. A Python tensor holds an `at::Tensor`, whose place is found by looking for the
address that `tensor._cdata` names; the key set is found by looking for the value that torch itself reports. Invariant:
an offset is used only if it gives torch's own answer on every one of a set of very different tensors; otherwise the
tree reads tensors through torch's Python getters, slower and as correct.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import cast

import torch

from .. import _native

_SHIM = (
    "aoti_torch_get_dim",
    "aoti_torch_get_sizes",
    "aoti_torch_get_strides",
    "aoti_torch_get_dtype",
    "aoti_torch_get_device_type",
    "aoti_torch_get_device_index",
)
_COMMON_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)
_IMPL_WORDS = 22  # less than the smallest TensorImpl of the supported versions
_AUTOGRAD_WORDS = 17  # less than the smallest AutogradMeta
_BLOCK = 8 * 15  # bytes: rank, 5 sizes, 5 strides, offset, number of elements, dtype and device, key set
_INLINE_RANK = 5  # up to this rank a TensorImpl holds sizes and strides itself


def raw_dispatch_keys(tensor: torch.Tensor) -> int:
    """The tensor's key set, as `TensorMatches.dispatch_keys` holds it."""
    return int(torch._C._dispatch_keys(tensor).raw_repr())


@cache
def dtype_code(dtype: torch.dtype) -> int:
    """The number that torch's C functions have for a dtype; -1 where the fast way is not available."""
    if not is_fast():
        return -1
    facts = _native.tensor_facts(torch.empty(0, dtype=dtype))
    return -1 if facts is None else facts[2]


def device_index(device: torch.device) -> int:
    """The index as torch's C functions give it: -1 where a device has none."""
    index = cast("int | None", device.index)
    return -1 if index is None else index


def is_fast() -> bool:
    """Whether tensors are read through the C shim."""
    return _native.tensor_facts(torch.empty(0)) is not None


def _probes() -> list[torch.Tensor]:
    """Tensors that differ in whatever could be mistaken for a key set."""
    with torch.inference_mode():
        inference = torch.ones(3)
    real = torch.arange(24.0).reshape(2, 3, 4)
    values = [
        real,
        real.transpose(0, 2),
        real.clone().requires_grad_(),
        torch.nn.Parameter(torch.ones(7)),
        torch.ones(5, dtype=torch.int64),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(2, dtype=torch.complex64).conj().imag,
        torch.empty(0, dtype=torch.bool),
        torch.empty(4, 5, device="meta"),
        torch.eye(3).to_sparse(),
        torch.tensor(1.5, dtype=torch.float64),
        inference,
    ]
    return values


def _tensor_offset(probes: list[torch.Tensor]) -> int | None:
    words = torch.Tensor.__basicsize__ // 8
    offsets = set(range(2, words))
    for tensor in probes:
        found = _native.words(id(tensor), words)
        offsets &= {index for index in offsets if found[index] == tensor._cdata}
    return 8 * offsets.pop() if len(offsets) == 1 else None


def _keys_offset(probes: list[torch.Tensor]) -> int | None:
    offsets = set(range(_IMPL_WORDS))
    for tensor in probes:
        found = _native.words(tensor._cdata, _IMPL_WORDS)
        wanted = raw_dispatch_keys(tensor)
        offsets &= {index for index in offsets if found[index] == wanted}
    return 8 * offsets.pop() if len(offsets) == 1 else None


def _rank_offset(probes: list[torch.Tensor]) -> int | None:
    """Where rank, sizes and strides stand, one behind the other."""
    offsets = set(range(_IMPL_WORDS - 2 * _INLINE_RANK))
    for tensor in probes:
        found = _native.words(tensor._cdata, _IMPL_WORDS)
        wanted = (tensor.dim(), *tensor.shape), tensor.stride()
        offsets &= {
            index
            for index in offsets
            if (found[index : index + 1 + tensor.dim()], found[index + 1 + _INLINE_RANK :][: tensor.dim()]) == wanted
        }
    return 8 * offsets.pop() if len(offsets) == 1 else None


def _dtype_offset(probes: list[torch.Tensor]) -> int | None:
    """The word that starts with the dtype (16 bits), the kind of device and its index (8 bits each)."""
    offsets = set(range(_IMPL_WORDS))
    for tensor in probes:
        found = _native.words(tensor._cdata, _IMPL_WORDS)
        facts = _native.tensor_facts(tensor)
        if facts is None:
            return None
        wanted = facts[2] | facts[3] << 16 | (facts[4] & 0xFF) << 24
        offsets &= {index for index in offsets if found[index] & 0xFFFFFFFF == wanted}
    return 8 * offsets.pop() if len(offsets) == 1 else None


def _autograd_offsets() -> tuple[int, int, int] | None:
    """Where a TensorImpl points to autograd's data, and where that has `requires_grad` and `grad_fn`."""

    def changed(tensor: torch.Tensor, before: tuple[int, ...]) -> set[int]:
        return {index for index, word in enumerate(_native.words(tensor._cdata, _IMPL_WORDS)) if word != before[index]}

    pointers, flags, functions = set(range(_IMPL_WORDS)), set(range(_AUTOGRAD_WORDS)), set(range(_AUTOGRAD_WORDS))
    with torch.inference_mode(False), torch.enable_grad():
        for leaf in (torch.ones(3), torch.ones(2, 4, dtype=torch.float64), torch.zeros(())):
            before = _native.words(leaf._cdata, _IMPL_WORDS)
            pointers &= {index for index in changed(leaf.requires_grad_(), before) if before[index] == 0}
            if len(pointers) != 1:
                return None
            place = next(iter(pointers))
            data = _native.words(_native.words(leaf._cdata, _IMPL_WORDS)[place], _AUTOGRAD_WORDS)
            results = [leaf * 2, leaf.exp(), leaf.sum(), leaf.clone().mul_(2)]
            for result in results:
                of_result = _native.words(_native.words(result._cdata, _IMPL_WORDS)[place], _AUTOGRAD_WORDS)
                node = _native.words(id(result.grad_fn), 3)[2]  # its Python object holds the same pointer
                functions &= {index for index in functions if data[index] == 0 and of_result[index] == node != 0}
            leaf.requires_grad_(False)
            off = _native.words(_native.words(leaf._cdata, _IMPL_WORDS)[place], _AUTOGRAD_WORDS)
            flags &= {index for index in flags if (data[index] ^ off[index]) & 0xFF == 1}
    if len(flags) != 1 or len(functions) != 1:
        return None
    return 8 * pointers.pop(), 8 * flags.pop(), 8 * functions.pop()


def _configure_layout(probes: list[torch.Tensor], keys: int) -> bool:
    """Find the words that decide what a tensor is, for stamps; without them tensors are checked by calls."""
    _native.set_tensor_layout(False, 0, 0, 0, 0)
    rank, dtype, autograd = _rank_offset(probes), _dtype_offset(probes), _autograd_offsets()
    if rank is None or dtype is None or autograd is None or not rank < dtype < keys == rank + _BLOCK - 8:
        return False
    _native.set_tensor_layout(True, rank, *autograd)
    return True


def _shim_addresses() -> tuple[int, ...] | None:
    folder = Path(torch.__file__).parent / "lib"
    for candidate in ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll"):
        if (folder / candidate).exists():
            library = ctypes.CDLL(str(folder / candidate))
            break
    else:
        return None
    addresses: list[int] = []
    for name in _SHIM:
        try:
            function = getattr(library, name)
        except AttributeError:
            return None
        addresses.append(ctypes.cast(function, ctypes.c_void_p).value or 0)
    return tuple(addresses)


def _verified(probes: list[torch.Tensor]) -> bool:
    codes: dict[torch.dtype, int] = {}
    for tensor in probes:
        facts = _native.tensor_facts(tensor)
        if facts is None:
            return False
        keys, sizes, dtype, _device_type, index = facts
        if keys != raw_dispatch_keys(tensor) or sizes != tuple(tensor.shape) or index != device_index(tensor.device):
            return False
        if codes.setdefault(tensor.dtype, dtype) != dtype:
            return False
    return len(set(codes.values())) == len(codes)


def configure(*, fast: bool = True) -> bool:
    """Hand the native tree its ways to read tensors; True if the fast way is on. Runs when this module is imported."""
    _native.set_tensor_getters(torch._C.TensorBase, torch._C.TensorBase.stride, torch._C._dispatch_keys)
    _native.set_module_getattr(torch.nn.Module.__getattr__)
    nothing = (0, 0, 0, 0, 0, 0)
    _native.set_tensor_access(0, 0, nothing)
    _native.set_tensor_layout(False, 0, 0, 0, 0)
    dtype_code.cache_clear()
    addresses = _shim_addresses() if fast else None
    if addresses is None:
        return False
    probes = _probes()
    tensor_offset = _tensor_offset(probes)
    keys_offset = _keys_offset(probes)
    if tensor_offset is None or keys_offset is None:
        return False
    _native.set_tensor_access(tensor_offset, keys_offset, addresses)
    for dtype in _COMMON_DTYPES:  # now, since later a mode of the user's may be active
        dtype_code(dtype)
    # Sparse tensors have no sizes in the shim's sense on every version; they are told apart by their keys.
    strided = [tensor for tensor in probes if tensor.layout is torch.strided]
    if not _verified(strided):
        _native.set_tensor_access(0, 0, nothing)
        return False
    _configure_layout(strided, keys_offset)
    return True


configure()
