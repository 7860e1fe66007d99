"""What a functional graph means to its caller: which inputs it changes and what each output is.

The trace produces one `GraphSignature`; `runtime_wrappers` obeys it on every call, and later stages read from it which
inputs are static. Invariant: plain immutable data with no tensor in it, so a signature can be saved and loaded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx

from . import torch_layer
from .errors import UnsupportedForAot
from .known_sizes import by_stride, known, traced

NEW_VALUES = "new_values"
"""The key in a functional graph's `meta`: the position of a result -> that of the input whose new value it is."""


class OutputKind(enum.Enum):
    """What an output of the captured graph is, in terms of what the compiled graph takes and returns."""

    COMPUTED = "computed"  # result `index` of the compiled graph, fresh memory
    ALIAS_OF_INPUT = "alias of input"  # a view of input `index`, made anew by each call
    ALIAS_OF_RESULT = "alias of result"  # a view of result `index`; several outputs may share that storage
    IS_INPUT = "is input"  # the very object passed as input `index`
    IS_OUTPUT = "is output"  # the very object returned as output `index`
    CONSTANT = "constant"  # a Python value, among them None


class Reinterpret(enum.Enum):
    """How a view's element type comes from its base's."""

    SAME = "same"
    DTYPE = "dtype"  # Tensor.view(dtype) with elements of equal size
    AS_REAL = "as real"  # torch.view_as_real
    AS_COMPLEX = "as complex"  # torch.view_as_complex


@dataclass(frozen=True, slots=True)
class ResultNumber:
    """A number that a call knows: the compiled graph returns it as result `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A view as data: sizes and strides in elements of `dtype`, `offset` in such elements past the base's first one."""

    size: tuple[int | ResultNumber, ...]
    stride: tuple[int | ResultNumber, ...]
    offset: int | ResultNumber
    dtype: torch.dtype
    reinterpret: Reinterpret = Reinterpret.SAME
    conjugate: bool = False
    negative: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether the same numbers hold for every call."""
        return not any(isinstance(n, ResultNumber) for n in (*self.size, *self.stride, self.offset))

    def at(self, results: Sequence[Any]) -> ViewSpec:
        """The view of a call in which the compiled graph returned `results`."""

        def value(number: int | ResultNumber) -> int:
            return results[number.index] if isinstance(number, ResultNumber) else number

        return replace(
            self,
            size=tuple(map(value, self.size)),
            stride=tuple(map(value, self.stride)),
            offset=value(self.offset),
        )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input of the functional graph. `lifted`: not passed by the caller, held by the captured graph itself."""

    name: str
    static_input: bool
    source: object | None
    lifted: bool = False
    is_tensor: bool = True
    storage_offset: int | None = None  # where the traced input started in its storage, if it is a tensor


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output of the captured graph; what `index` counts depends on `kind`."""

    kind: OutputKind
    index: int = -1
    view: ViewSpec | None = None
    constant: Any = None
    requires_grad: bool = False  # as the trace found it; an output that does not is detached from what it views


@dataclass(frozen=True, slots=True)
class InputMutation:
    """What happens to input `index`: new data (result `result`), new sizes and strides (`metadata`), or both."""

    index: int
    result: int | None
    metadata: ViewSpec | None
    differentiable: bool = False  # the write is part of the input's history, as one outside of `no_grad` is


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """How the functional graph's inputs and results stand to the captured graph's inputs and outputs."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    mutations: tuple[InputMutation, ...]
    result_count: int  # results of the functional graph: new values of mutated inputs, then computed outputs
    output_tree: pytree.TreeSpec | None  # None: the outputs are a flat sequence, as capture makes them
    grad_mode_after: bool | None  # the grad mode the graph leaves behind, when it changes it
    offsets_matter: bool  # the graph addresses memory (`as_strided`): it is right for inputs at the traced offsets only
    outputs_require_grad: bool  # the trace found outputs that need autograd: this graph is not for inference

    @property
    def mutated_inputs(self) -> tuple[int, ...]:
        """Indices of the inputs whose data the call changes."""
        return tuple(m.index for m in self.mutations if m.result is not None)

    @property
    def new_values(self) -> dict[int, int]:
        """The results that are new values of inputs which keep their sizes: by position, the position of the input."""
        return {m.result: m.index for m in self.mutations if m.result is not None and m.metadata is None}

    @property
    def metadata_mutated_inputs(self) -> tuple[int, ...]:
        """Indices of the inputs whose sizes or strides the call changes."""
        return tuple(m.index for m in self.mutations if m.metadata is not None)

    @property
    def static_inputs(self) -> tuple[int, ...]:
        """Indices of parameters and buffers."""
        return tuple(i for i, spec in enumerate(self.inputs) if spec.static_input)


@dataclass(frozen=True, slots=True)
class FunctionalGraph:
    """A graph of ATen operators without side effects, and how it stands to the graph it came from.

    `graph` takes the captured graph's inputs followed by `lifted`, the tensors that the captured graph holds itself.
    """

    graph: fx.GraphModule
    signature: GraphSignature
    lifted: tuple[Tensor, ...] = ()


def view_between(base: Tensor, view: Tensor, number: Callable[[Any], int | ResultNumber]) -> ViewSpec:
    """The view of `base` that `view` is; both are fake tensors. Raises UnsupportedForAot where no ViewSpec says it.

    `number` says how a call finds a size.
    """
    size, stride, start = tuple(view.shape), tuple(view.stride()), view.storage_offset()
    base_start: Any = base.storage_offset()
    reinterpret = Reinterpret.SAME
    if base.dtype != view.dtype:
        if base.is_complex() and base.dtype.to_real() == view.dtype:
            reinterpret, base_start = Reinterpret.AS_REAL, base_start * 2
        elif view.is_complex() and view.dtype.to_real() == base.dtype:
            reinterpret, base_start = Reinterpret.AS_COMPLEX, base_start // 2
        elif base.itemsize == view.itemsize:
            reinterpret = Reinterpret.DTYPE
        else:
            raise UnsupportedForAot(
                f"an output views {base.dtype} memory as {view.dtype}, whose elements differ in size",
                hint="Return a copy (`.clone()`) of the view.",
            )
    return ViewSpec(
        tuple(map(number, size)),
        tuple(map(number, stride)),
        number(start - base_start),
        view.dtype,
        reinterpret,
        view.is_conj(),
        view.is_neg(),
    )


def apply_view(base: Tensor, view: ViewSpec) -> Tensor:
    """The view of `base` that `view`, with constant numbers, describes, sharing its memory."""
    spec: Any = view
    if spec.reinterpret is Reinterpret.AS_REAL:
        base = torch.view_as_real(base)
    elif spec.reinterpret is Reinterpret.AS_COMPLEX:
        start = base.storage_offset() + 2 * spec.offset
        pairs = base.as_strided((*spec.size, 2), (*(2 * stride for stride in spec.stride), 1), start)
        return _flagged(torch.view_as_complex(pairs), spec)
    elif spec.reinterpret is Reinterpret.DTYPE:
        base = base.view(spec.dtype)
    return _flagged(base.as_strided(spec.size, spec.stride, base.storage_offset() + spec.offset), spec)


def _flagged(view: Tensor, spec: ViewSpec) -> Tensor:
    if spec.conjugate:
        view = torch_layer.conjugate_view(view)
    if spec.negative:
        view = torch_layer.negative_view(view)
    return view


def is_dense(t: Tensor) -> bool:
    """Whether `t` fills a block of memory without gaps or overlaps; may become a fact about its sizes."""
    if is_known_dense(t):
        return True
    sizes, strides = t.shape, t.stride()
    order = by_stride(sizes, strides)
    if not _was_dense(t, order):
        return False
    if t.numel() == 0:
        return True
    expected: Any = 1
    for dim in order:
        if not known(strides[dim] == expected):
            if known(sizes[dim] == 1) or (traced(sizes[dim]) == 1 and bool(sizes[dim] == 1)):
                continue
            if strides[dim] != expected:
                return False
        expected = expected * sizes[dim]
    return True


def is_known_dense(t: Tensor) -> bool:
    """Whether `t` certainly does so, whatever its sizes are."""
    sizes, strides = t.shape, t.stride()
    if any(type(size) is int and size == 0 for size in sizes):
        return True
    expected: Any = 1
    plain: Any = 1
    for dim in by_stride(sizes, strides):
        if not (known(sizes[dim] == 1) or known(strides[dim] == expected) or known(strides[dim] == plain)):
            return False
        # torch counts an empty dimension as one element, or as none: then there are none in all
        expected = expected * (sizes[dim] if known(sizes[dim] >= 1) else torch.sym_max(sizes[dim], 1))
        plain = plain * sizes[dim]
    return True


def _was_dense(t: Tensor, order: Sequence[int]) -> bool:
    """Whether a tensor was dense in the traced call."""
    expected = 1
    for size, stride in ((traced(t.shape[d]), traced(t.stride()[d])) for d in order):
        if size == 0:
            return True
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def overlaps_itself(t: Tensor) -> bool:
    """Whether two elements of `t` may share memory (as in an expanded tensor)."""
    if t.numel() == 0:
        return False
    sizes, strides = t.shape, t.stride()
    reach: Any = 0
    for dim in by_stride(sizes, strides):
        if known(sizes[dim] == 1):
            continue
        if not known(strides[dim] > reach):
            if sizes[dim] == 1:
                continue
            if strides[dim] <= reach:
                return True
        reach = reach + strides[dim] * (sizes[dim] - 1)
    return False
