"""Symbolic forms: what a graph calls in place of functions of torch that read sizes, or numbers, as C numbers.

Called by the graph runner. torch itself would compute `torch.tensor` of symbolic numbers from those of the trace, and
ask for the sizes that pooling and padding have in it; `one_hot` reads its argument. Invariant: same results as the
original, for the sizes and numbers of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import SymInt, Tensor
from torch.utils._pytree import tree_leaves

from ..graph.symbolic_runs import EXACT_FORMS, PLAIN, is_linspace_of_floats, with_plain_numbers
from . import torch_layer
from .aligned_resize import interpolate


def tensor(data: Any, **options: Any) -> Tensor:
    """`torch.tensor(data, **options)`; nested lists may hold symbolic numbers."""
    if not any(type(leaf) in PLAIN for leaf in tree_leaves(data)):
        return torch.tensor(data, **options)
    alike = torch.tensor(with_plain_numbers(data), **options)

    def build(part: Any) -> Tensor:
        if isinstance(part, (list, tuple)):
            return torch.stack([build(item) for item in part])
        if isinstance(part, Tensor):
            return part.to(device=alike.device, dtype=alike.dtype)
        return torch.full((), part, dtype=alike.dtype, device=alike.device)

    made = build(data)
    return made.requires_grad_() if options.get("requires_grad") else made


def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Tensor:
    """`torch.linspace`, which counts its second half from the end."""
    if not is_linspace_of_floats(start, end, steps, options):
        return torch.linspace(start, end, steps, **options)
    places = torch.arange(steps, device=options.get("device"))
    step = (end - start) / torch.sym_max(steps - 1, 1)
    behind = places >= torch.sym_max(steps // 2, 1)
    numbers = places.to(options.get("dtype") or torch.get_default_dtype())
    made = torch.where(behind, end - step * ((steps - 1) - numbers), start + step * numbers)
    return made.requires_grad_() if options.get("requires_grad") else made


def one_hot(classes: Tensor, num_classes: int = -1) -> Tensor:
    """`F.one_hot`, which on a CPU reads the classes in order to check them: here the graph checks them."""
    if num_classes < 0 or classes.dtype is not torch.int64:
        return F.one_hot(classes, num_classes)
    check = torch.ops.aten._assert_async.msg
    check((classes >= 0).all(), "Class values must be non-negative.")
    check((classes < num_classes).all(), "Class values must be smaller than num_classes.")
    if (num_classes > 0) is not True:  # fake tensors would not tell that torch refuses this
        some = torch.full((), num_classes, dtype=torch.int64, device=classes.device) > 0
        check(some, "Can not infer total number of classes from empty tensor.")
    return (classes.unsqueeze(-1) == torch.arange(num_classes, device=classes.device)).to(torch.int64)


def _for_symbolic_sizes(function: Callable[..., Any], form: Callable[..., Any]) -> Callable[..., Any]:
    """`form` where a size among the arguments, or of a tensor there, is symbolic, else `function`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = tree_leaves((args, kwargs))
        numbers = [number for leaf in leaves for number in (leaf.shape if isinstance(leaf, Tensor) else (leaf,))]
        symbolic = any(isinstance(number, SymInt) for number in numbers)
        return (form if symbolic else function)(*args, **kwargs)

    return call


def _with_its_dropout(function: Callable[..., Any]) -> Callable[..., Any]:
    """A recurrent network by its kernel if it drops out: what torch runs in its place for symbolic sizes does not."""

    def call(*args: Any, **kwargs: Any) -> Any:
        weights = next((i for i, arg in enumerate(args) if isinstance(arg, (list, tuple)) and len(arg) > 2), None)
        if weights is not None and len(args) > weights + 4:  # behind them: has_biases, num_layers, dropout, train
            rate, trains = args[weights + 3], args[weights + 4]
            if not (rate and trains):
                return function(*args, **kwargs)
        with torch_layer.disable_python_dispatcher():
            return function(*args, **kwargs)

    return call


_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)

REPLACEMENTS: Mapping[Any, Callable[..., Any]] = {
    torch.tensor: tensor,
    torch.linspace: linspace,
    F.one_hot: one_hot,
    **{function: _with_its_dropout(function) for function in _RECURRENT},
    F.interpolate: _for_symbolic_sizes(F.interpolate, interpolate),
    **{function: _for_symbolic_sizes(function, form) for function, form in EXACT_FORMS.items()},
}
