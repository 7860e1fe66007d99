"""CompiledGraph: what a compile returns and a program calls.

Holds the built kernels, the wrapper's text and its loaded function, the static cache, and on request the text of every
stage. The first call runs a checked variant of the wrapper that compares what operators return with what the compiler
was told; where they differ the result is put right on the spot, and from then on by the wrapper. Invariant: a call
either returns what the graph computes or raises; it imports nothing of the compiler.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .replay import GivenCall, PlannedReplay, Replayer
from .static_cache import StaticCache

_numbers = itertools.count()


class InputMismatch(TypeError):
    """An input differs from the example that the graph was compiled for."""


class ResultMismatch(RuntimeError):
    """An operator returned a tensor of other sizes or another dtype than its meta function says."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"{name}: {problem}. Hint: the operator's meta (fake) implementation disagrees with the real one."
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a graph was compiled for at one position."""

    position: int
    sizes: tuple[int | None, ...]  # None: any
    strides: tuple[int | None, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True)
class Repairs:
    """Results whose layout or ownership the wrapper must put right after their call."""

    restride: frozenset[str] = frozenset()
    clone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Form:
    """A variant of a wrapper's text."""

    checked: bool = False
    """Compare results with what the compiler was told: the first call does."""
    owned: bool = False
    """Empty the list of inputs, and let each input go after its last reader."""
    given: bool = False
    """Ask for the memory of results: `call(inputs, memory)`, see `replay.ResultMemory`."""


@dataclass(frozen=True, slots=True)
class WrapperParts:
    """All that a wrapper's text needs when it is loaded. `write(repairs, form)` gives the text; it may be saved."""

    write: Callable[[Repairs, Form], str]
    kernels: Mapping[str, Callable[..., None]]
    constants: Mapping[str, torch.Tensor]
    externs: Mapping[str, Any]


@dataclass(slots=True)
class Artifacts:
    """The text of every stage, in order of the stages, kept on request."""

    stages: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(f"=== {name} ===\n{text.rstrip()}\n" for name, text in self.stages.items())


Report = Callable[[str, bool], None]
"""Told of each result that was put right: its name, and whether into other strides (else out of shared memory)."""


def load_wrapper(
    text: str,
    kernels: Mapping[str, Any],
    constants: Mapping[str, Any],
    externs: Mapping[str, Any],
    report: Report | None = None,
) -> Callable[..., list[Any]]:
    """The `call` function of a wrapper's text. Tracebacks show the text; edit it and load it again at will."""
    name = f"<lampwork wrapper {next(_numbers)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {
        "kernels": kernels,
        "constants": constants,
        "externs": externs,
        "check_result": functools.partial(check_result, report or (lambda name, strides: None)),
        "restride": restride,
        "laid_out": laid_out,
    }
    exec(compile(text, name, "exec"), namespace)  # our own text, made from checked data
    return namespace["call"]


def check_result(
    report: Report,
    name: str,
    result: Any,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: torch.dtype,
    arguments: Sequence[Any] | None,
) -> torch.Tensor:
    """`result`, or a copy where it has other strides than expected or shares the memory of one of `arguments` (None:
    it may). Raises ResultMismatch for other sizes or another dtype."""
    if not isinstance(result, torch.Tensor):
        raise ResultMismatch(name, f"is a {type(result).__name__}, not a tensor")
    if tuple(result.shape) != sizes or result.dtype != dtype:
        raise ResultMismatch(name, f"is {result.dtype}{list(result.shape)}, expected {dtype}{list(sizes)}")
    if laid_out(result, strides) is not result:
        report(name, True)
        return restride(result, strides)
    if arguments is None or result.numel() == 0:
        return result
    address = result.untyped_storage().data_ptr()
    extent = 1 + sum((n - 1) * s for n, s in zip(sizes, strides))
    shares = result.untyped_storage().nbytes() < extent * dtype.itemsize or result.storage_offset() != 0
    shares = shares or any(
        isinstance(argument, torch.Tensor) and argument.untyped_storage().data_ptr() == address
        for argument in arguments
    )
    if not shares:
        return result
    copied = result.clone()
    as_expected = laid_out(copied, strides)
    report(name, as_expected is not copied)
    return as_expected


def restride(result: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """The same elements in new memory with these strides."""
    return torch.empty_strided(result.shape, strides, dtype=result.dtype, device=result.device).copy_(result)


def laid_out(result: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """A result with these strides: itself, or a copy where its operator chose others for these sizes."""
    found = result.stride()
    if found == strides or all(a == b or n <= 1 for a, b, n in zip(found, strides, result.shape)) or not result.numel():
        return result
    return restride(result, strides)


class CompiledGraph:
    """A callable graph: `graph(*inputs)` or `graph([inputs])` gives the list of outputs, under `no_grad`.

    Inputs must be as the examples were in sizes, strides, dtype and device. With `specs` that is verified at each call
    (about 0.4 us an input) and InputMismatch raised; callers whose guards already hold pass none. Inputs may share
    memory with each other and need no alignment beyond their dtype's; none is written, but for those that the caller
    gave new values for: these share memory with no other, and may come back as results. Other outputs are new tensors,
    but for those that the graph itself returns as inputs or views of them. `replay`: from the second call of `run` on a
    device may replay the wrapper's work instead of sending it again (see `replay`).
    """

    def __init__(
        self,
        parts: WrapperParts,
        *,
        static: StaticCache | None = None,
        specs: Sequence[InputSpec] = (),
        artifacts: Artifacts | None = None,
        notes: Sequence[str] = (),
        replay: PlannedReplay | None = None,
    ) -> None:
        self._parts = parts
        self._static = static
        self._specs = tuple(specs)
        self._repairs = Repairs()
        self._lock = threading.Lock()
        self._call: Callable[[Sequence[Any]], list[Any]] | None = None
        self._owned_call: Callable[[Sequence[Any]], list[Any]] | None = None
        self._replay = replay
        self._replayer: Replayer | None = None
        self.artifacts = artifacts
        self._notes = tuple(notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left to operators or to the plain wrapper, and why; calls may add to it."""
        return self._notes if self._replayer is None else (*self._notes, *self._replayer.notes)

    @property
    def text(self) -> str:
        """The wrapper as it runs from the second call on."""
        return self._parts.write(self._repairs, Form())

    @property
    def owned_text(self) -> str:
        """The wrapper as `run_owned` runs it from the second call on."""
        return self._parts.write(self._repairs, Form(owned=True))

    @property
    def kernels(self) -> Mapping[str, Callable[..., None]]:
        """The built kernels by name."""
        return self._parts.kernels

    @property
    def static_cache(self) -> StaticCache | None:
        """The values kept between calls, if the graph has any."""
        return self._static

    def invalidate(self) -> None:
        """Forget what was computed from static inputs; for writes that nothing shows (see `static_cache`)."""
        if self._static is not None:
            self._static.invalidate()
        if self._replayer is not None:
            self._replayer.invalidate()

    def __call__(self, *inputs: Any) -> list[Any]:
        """Run. One list argument is taken as the list of inputs."""
        if len(inputs) == 1 and isinstance(inputs[0], list):
            return self.run(inputs[0])
        return self.run(inputs)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Run on the sequence of inputs."""
        if self._specs:
            check_inputs(self._specs, inputs)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._run(inputs)
        return self._run(inputs)

    def run_owned(self, inputs: list[Any]) -> list[Any]:
        """Run on inputs that the caller hands over: the list is emptied, and an input that nobody else holds is freed
        as soon as its last reader has run, as eager frees activations in a backward."""
        if self._specs:
            check_inputs(self._specs, inputs)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._run_owned(inputs)
        return self._run_owned(inputs)

    def _run(self, inputs: Sequence[Any]) -> list[Any]:
        if self._static is not None:
            inputs = (*inputs, *self._static.get(inputs))
        call = self._call
        return self._first_call(inputs, owned=False) if call is None else call(inputs)

    def _run_owned(self, inputs: list[Any]) -> list[Any]:
        if self._static is not None:
            inputs.extend(self._static.get(inputs))
        call = self._owned_call
        return self._first_call(inputs, owned=True) if call is None else call(inputs)

    def _first_call(self, inputs: Sequence[Any], owned: bool) -> list[Any]:
        """Run checked, and load the text with the repairs that this showed to be needed."""
        with self._lock:
            parts, repairs = self._parts, self._repairs
            found: dict[str, bool] = {}
            text = parts.write(repairs, Form(checked=True, owned=owned))
            call = load_wrapper(text, parts.kernels, parts.constants, parts.externs, found.__setitem__)
            outputs = call(inputs)
            self._repairs = Repairs(
                repairs.restride | {name for name, strides in found.items() if strides},
                repairs.clone | {name for name, strides in found.items() if not strides},
            )
            text = parts.write(self._repairs, Form(owned=owned))
            call = load_wrapper(text, parts.kernels, parts.constants, parts.externs)
            if owned:
                self._owned_call = call
            elif self._replay is None:
                self._call = call
            else:  # the last one's recordings, if two threads made a first call, go with it
                load_given = functools.partial(_load_given, parts, self._repairs)
                self._replayer = self._call = self._replay.replayer(call, load_given)
            if self.artifacts is not None:
                self.artifacts.stages["wrapper"] = text
        return outputs


def _load_given(parts: WrapperParts, repairs: Repairs) -> GivenCall:
    """The form of a wrapper that asks for memory. No method, as a replayer keeps it and dies with its graph."""
    text = parts.write(repairs, Form(given=True))
    return load_wrapper(text, parts.kernels, parts.constants, parts.externs)


def check_inputs(specs: Sequence[InputSpec], inputs: Sequence[Any]) -> None:
    """Raise InputMismatch, naming the position, for the first input that is not as its spec says."""
    for spec in specs:
        if spec.position >= len(inputs):
            raise InputMismatch(f"the graph takes at least {spec.position + 1} inputs, got {len(inputs)}")
        tensor = inputs[spec.position]
        if not isinstance(tensor, torch.Tensor):
            raise InputMismatch(f"input {spec.position} is a {type(tensor).__name__}, expected a tensor")
        if tensor.shape == spec.sizes and tensor.stride() == spec.strides:
            if tensor.dtype is spec.dtype and tensor.device == spec.device:
                continue
        elif _fits(tensor, spec):
            continue
        raise InputMismatch(
            f"input {spec.position} is {tensor.dtype}{list(tensor.shape)} with strides {list(tensor.stride())} on "
            f"{tensor.device}; the graph was compiled for {spec.dtype}{list(spec.sizes)} with strides "
            f"{list(spec.strides)} on {spec.device}. Hint: compile again for inputs of this kind."
        )


def _fits(tensor: torch.Tensor, spec: InputSpec) -> bool:
    """The slow comparison: open sizes, and strides of dimensions of size one, which say nothing."""
    if tensor.dtype is not spec.dtype or tensor.device != spec.device or tensor.dim() != len(spec.sizes):
        return False
    for size, stride, wanted, wanted_stride in zip(tensor.shape, tensor.stride(), spec.sizes, spec.strides):
        if wanted is not None and size != wanted:
            return False
        if wanted_stride is not None and stride != wanted_stride and size > 1:
            return False
    return True
