"""The underscored functions of torch's framework layers that this stage stands on, named and typed in one place.

Functionalization, dispatcher state and views whose flags torch sets. Where torch versions differ, they differ here.
Invariant: nothing in this module does work of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

_torch: Any = torch
_C: Any = torch._C

enable_functionalization: Callable[..., None] = _torch._enable_functionalization
disable_functionalization: Callable[[], None] = _torch._disable_functionalization
to_functional: Callable[[Tensor], Tensor] = _torch._to_functional_tensor
from_functional: Callable[[Tensor], Tensor] = _torch._from_functional_tensor
is_functional: Callable[[Tensor], bool] = _torch._is_functional_tensor
is_functional_base: Callable[[Tensor], bool] = _torch._is_functional_tensor_base
mirror_autograd: Callable[[Tensor, Tensor], None] = _torch._mirror_autograd_meta_to

sync: Callable[[Tensor], None] = _torch._functionalize_sync
replace_value: Callable[[Tensor, Tensor], None] = _torch._functionalize_replace
commit_update: Callable[[Tensor], None] = _torch._functionalize_commit_update
mutation_counter: Callable[[Tensor], int] = _torch._functionalize_mutation_counter
has_data_mutation: Callable[[Tensor], bool] = _torch._functionalize_has_data_mutation
was_storage_changed: Callable[[Tensor], bool] = _torch._functionalize_was_storage_changed

count_writes: Callable[[Iterable[Tensor]], None] = _torch.autograd.graph.increment_version  # what keeps values looks
storage_address: Callable[[Tensor], int] = _C._storage_address
disable_autocast: Callable[[], AbstractContextManager[None]] = _C._DisableAutocast
is_any_autocast_enabled: Callable[[], bool] = _C._is_any_autocast_enabled
disable_dispatch: Callable[[], AbstractContextManager[None]] = _C._DisableTorchDispatch
disable_function_subclasses: Callable[[], AbstractContextManager[None]] = _C.DisableTorchFunctionSubclass
below_autograd: Callable[[], AbstractContextManager[None]] = _C._AutoDispatchBelowAutograd
exclude_keys: Callable[[Any], AbstractContextManager[None]] = _C._ExcludeDispatchKeyGuard
set_grad_enabled: Callable[[bool], None] = _C._set_grad_enabled  # the very object captured graphs call
disabled_dispatch_impl: Any = _C._disabled_torch_dispatch_impl

VIEW_TRACKING: Any = _C.DispatchKeySet(_C.DispatchKey.ADInplaceOrView)
FUNCTIONALIZE: Any = _C.DispatchKeySet(_C.DispatchKey.Functionalize)

conjugate_view: Callable[[Tensor], Tensor] = _torch._conj
negative_view: Callable[[Tensor], Tensor] = _torch._neg_view
