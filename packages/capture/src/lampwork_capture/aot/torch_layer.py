"""The underscored functions of torch's framework layers that this stage stands on, named and typed in one place.

Functionalization, dispatcher state and views whose flags torch sets. Where torch versions differ, they differ here.
Invariant: nothing in this module knows of graphs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

_torch: Any = torch
_C: Any = torch._C

enable_functionalization: Callable[..., None] = _torch._enable_functionalization
disable_functionalization: Callable[[], None] = _torch._disable_functionalization
to_functional: Callable[[Tensor], Tensor] = _torch._to_functional_tensor
from_functional: Callable[[Tensor], Tensor] = _torch._from_functional_tensor
is_functional: Callable[[Tensor], bool] = _torch._is_functional_tensor
is_functional_base: Callable[[Tensor], bool] = _torch._is_functional_tensor_base

sync: Callable[[Tensor], None] = _torch._functionalize_sync
replace_value: Callable[[Tensor, Tensor], None] = _torch._functionalize_replace
commit_update: Callable[[Tensor], None] = _torch._functionalize_commit_update
mutation_counter: Callable[[Tensor], int] = _torch._functionalize_mutation_counter
has_data_mutation: Callable[[Tensor], bool] = _torch._functionalize_has_data_mutation
was_storage_changed: Callable[[Tensor], bool] = _torch._functionalize_was_storage_changed

count_writes: Callable[[Iterable[Tensor]], None] = _torch.autograd.graph.increment_version  # what keeps values looks
attention_choice: Callable[..., int] = _torch._fused_sdp_choice
storage_address: Callable[[Tensor], int] = _C._storage_address
disable_autocast: Callable[[], AbstractContextManager[None]] = _C._DisableAutocast
is_any_autocast_enabled: Callable[[], bool] = _C._is_any_autocast_enabled
disable_python_dispatcher: Callable[[], AbstractContextManager[None]] = _C._DisablePythonDispatcher
disable_dispatch: Callable[[], AbstractContextManager[None]] = _C._DisableTorchDispatch
disable_function_subclasses: Callable[[], AbstractContextManager[None]] = _C.DisableTorchFunctionSubclass
below_autograd: Callable[[], AbstractContextManager[None]] = _C._AutoDispatchBelowAutograd
exclude_keys: Callable[[Any], AbstractContextManager[None]] = _C._ExcludeDispatchKeyGuard
make_dual: Any = _torch._VF._make_dual  # as forward gradients are made and read in captured graphs
unpack_dual: Any = _torch._VF._unpack_dual
set_grad_enabled: Callable[[bool], None] = _C._set_grad_enabled  # the very object captured graphs call
disabled_dispatch_impl: Any = _C._disabled_torch_dispatch_impl

next_sequence_number: Callable[[], int] = _C._autograd._get_sequence_nr
current_autograd_node: Callable[[], Any] = _C._current_autograd_node
storage_use_count: Callable[[int], int] = _C._storage_Use_Count
is_batched_by_functorch: Callable[[Tensor], bool] = _C._functorch.is_batchedtensor
is_batched_by_autograd: Callable[[Tensor], bool] = _C._functorch.is_legacy_batchedtensor
will_execute: Callable[[Any], bool] = _C._will_engine_execute_node

VIEW_TRACKING: Any = _C.DispatchKeySet(_C.DispatchKey.ADInplaceOrView)
FUNCTIONALIZE: Any = _C.DispatchKeySet(_C.DispatchKey.Functionalize)

conjugate_view: Callable[[Tensor], Tensor] = _torch._conj
negative_view: Callable[[Tensor], Tensor] = _torch._neg_view


@contextlib.contextmanager
def innermost_hooks_set_aside() -> Generator[Callable[[Tensor], Any], None, None]:
    """The innermost hooks on saved tensors are not there meanwhile, those around them are; yields the packing one."""
    pack, unpack = _C._autograd._top_saved_tensors_default_hooks(True)
    _C._autograd._pop_saved_tensors_default_hooks()
    try:
        yield pack
    finally:
        _C._autograd._push_saved_tensors_default_hooks(pack, unpack)


def is_transformed() -> bool:
    """Whether one of torch's transforms is around what runs now."""
    return _C._functorch.peek_interpreter_stack() is not None


class WroteToArgument(Exception):
    """A function that should give new values only has written to what it was given."""


def functionally(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`function(*args, **kwargs)` with writes to what it makes itself turned into new values.

    Raises WroteToArgument if it writes to an argument, too.
    """
    tree_map: Any = pytree.tree_map_only
    key = _C.DispatchKey.Functionalize
    excluded = _C._dispatch_tls_is_dispatch_key_excluded(key)  # as it is below functionalization
    with below_autograd():
        wrapped = tree_map(Tensor, to_functional, (args, kwargs))
        _C._dispatch_tls_set_dispatch_key_excluded(key, False)
        try:
            out = function(*wrapped[0], **wrapped[1])
            tree_map(Tensor, sync, out)
            if any(has_data_mutation(t) for t in pytree.tree_leaves(wrapped) if isinstance(t, Tensor)):
                raise WroteToArgument
            return tree_map(Tensor, from_functional, out)
        finally:
            _C._dispatch_tls_set_dispatch_key_excluded(key, excluded)
