"""Around a compiled functional graph, on every call: give the caller what the captured graph would have given.

Writes back what the graph mutates, rebuilds outputs that are or view inputs, and hands calls that the compiled graph
does not cover (gradients needed, inputs that overlap a written one) to the captured graph. Invariant: everything that
can be decided when compiling is decided then; a graph without mutations and aliases pays one test of the grad mode.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.autograd import forward_ad

from . import torch_layer
from .metadata import FunctionalGraph, InputMutation, OutputKind, OutputSpec, apply_view

GraphCallable: TypeAlias = Callable[..., Any]


def wrap_for_calls(
    compiled: GraphCallable,
    functional: FunctionalGraph,
    eager: GraphCallable,
    *,
    is_for_others: Callable[[Sequence[Any]], bool],
    may_see_grad: bool,
    under_autocast: bool,
) -> GraphCallable:
    """The callable that replaces the captured graph.

    `compiled` takes the functional graph's inputs and returns its results. `eager` is the captured graph.
    `is_for_others(args)` says that a call must not take the compiled path. `may_see_grad`: compiled calls can happen
    with grad mode on and inputs that require gradients, so they run with it off. `under_autocast`: the casts are in the
    graph already, so autocast must be off while it runs.
    """
    run = _without_grad(compiled) if may_see_grad else compiled
    signature = functional.signature
    if functional.lifted:
        run = _with_lifted(run, functional.lifted)
    if signature.mutations or not _is_plain(signature.outputs):
        run = _with_effects(run, functional)
        if signature.mutated_inputs:
            run = _unless_overlapping(run, eager, functional)
    if signature.offsets_matter:
        run = _unless_moved(run, eager, functional)
    if signature.output_tree is not None:
        run = _with_structure(run, signature.output_tree)
    if under_autocast:
        run = _without_autocast(run)
    if signature.grad_mode_after is not None:
        run = _leaving_grad_mode(run, signature.grad_mode_after)
    return _unless_for_others(run, eager, is_for_others)


def _is_plain(outputs: Sequence[OutputSpec]) -> bool:
    """The outputs are the results, in order."""
    return all(spec.kind is OutputKind.COMPUTED and spec.index == i for i, spec in enumerate(outputs))


def _unless_for_others(
    run: GraphCallable, eager: GraphCallable, is_for_others: Callable[[Sequence[Any]], bool]
) -> GraphCallable:
    def call(*args: Any) -> Any:
        if forward_ad._current_level >= 0 or is_for_others(args):  # a forward gradient may be among the inputs
            return eager(*args)
        return run(*args)

    return call


def _with_lifted(run: GraphCallable, lifted: tuple[Tensor, ...]) -> GraphCallable:
    def call(*args: Any) -> Any:
        return run(*args, *lifted)

    return call


def _with_structure(run: GraphCallable, tree: pytree.TreeSpec) -> GraphCallable:
    def call(*args: Any) -> Any:
        return pytree.tree_unflatten(list(run(*args)), tree)

    return call


def _without_autocast(run: GraphCallable) -> GraphCallable:
    def call(*args: Any) -> Any:
        with torch_layer.disable_autocast():
            return run(*args)

    return call


def _without_grad(run: GraphCallable) -> GraphCallable:
    def call(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return run(*args)
        torch_layer.set_grad_enabled(False)
        try:
            return run(*args)
        finally:
            torch_layer.set_grad_enabled(True)

    return call


def _leaving_grad_mode(run: GraphCallable, enabled: bool) -> GraphCallable:
    def call(*args: Any) -> Any:
        result = run(*args)
        torch_layer.set_grad_enabled(enabled)
        return result

    return call


# -- mutations and aliases


def _with_effects(run: GraphCallable, functional: FunctionalGraph) -> GraphCallable:
    signature, lifted = functional.signature, functional.lifted
    mutations = signature.mutations
    builders = [_builder(spec) for spec in signature.outputs]
    may_be_written = tuple(signature.new_values.values())

    def call(*args: Any) -> Any:
        inputs = (*args, *lifted) if lifted else args
        try:
            results = run(*args)
        except BaseException:
            torch_layer.count_writes([inputs[index] for index in may_be_written])  # some of it may have happened
            raise
        written: list[Tensor] = []
        for mutation in mutations:
            target = inputs[mutation.index]
            if mutation.result is not None and results[mutation.result] is target:
                written.append(target)
            else:
                _apply(mutation, target, results)
        if written:
            torch_layer.count_writes(written)
        outputs: list[Any] = []
        for build in builders:
            outputs.append(build(inputs, results, outputs))
        return outputs

    return call


def _apply(mutation: InputMutation, target: Tensor, results: Sequence[Any]) -> None:
    shape = mutation.metadata
    if shape is not None:
        numbers: Any = shape.at(results)
        _make_room(target, numbers)
        target.as_strided_(numbers.size, numbers.stride, target.storage_offset() + numbers.offset)
    if mutation.result is None:
        return
    if mutation.differentiable or not torch.is_grad_enabled():
        target.copy_(results[mutation.result])
    else:
        with torch.no_grad():
            target.copy_(results[mutation.result])


def _make_room(target: Tensor, numbers: Any) -> None:
    """Let the memory of a tensor hold other sizes, as eager's `resize_` and `out=` do."""
    if 0 in numbers.size:
        return
    last = sum((size - 1) * stride for size, stride in zip(numbers.size, numbers.stride))
    needed = (target.storage_offset() + numbers.offset + last + 1) * target.itemsize
    storage = target.untyped_storage()
    if storage.nbytes() < needed:
        storage.resize_(needed)


Builder: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Any]


def _builder(spec: OutputSpec) -> Builder:
    """How one output comes from the call's inputs, the compiled graph's results and the outputs before it."""
    index, view, constant = spec.index, spec.view, spec.constant
    if spec.kind is OutputKind.COMPUTED:
        return lambda inputs, results, outputs: results[index]
    if spec.kind is OutputKind.IS_INPUT:
        return lambda inputs, results, outputs: inputs[index]
    if spec.kind is OutputKind.IS_OUTPUT:
        return lambda inputs, results, outputs: outputs[index]
    if spec.kind is OutputKind.CONSTANT:
        return lambda inputs, results, outputs: constant
    if view is None:
        raise ValueError(f"an output of kind {spec.kind} has no view")
    of_input = spec.kind is OutputKind.ALIAS_OF_INPUT
    is_constant, attached = view.is_constant, spec.requires_grad

    def build(inputs: Sequence[Any], results: Sequence[Any], outputs: Sequence[Any]) -> Tensor:
        base = (inputs if of_input else results)[index]
        if not attached and base.requires_grad:
            base = base.detach()
        return apply_view(base, view if is_constant else view.at(results))

    return build


# -- overlapping inputs


def _unless_overlapping(run: GraphCallable, eager: GraphCallable, functional: FunctionalGraph) -> GraphCallable:
    """Calls in which a written input shares memory with another input run the captured graph."""
    signature, lifted = functional.signature, functional.lifted
    tensors = tuple(i for i, spec in enumerate(signature.inputs) if spec.is_tensor)
    written = frozenset(signature.mutated_inputs)
    resized = written.intersection(signature.metadata_mutated_inputs)  # may come to reach further

    def call(*args: Any) -> Any:
        inputs = (*args, *lifted) if lifted else args
        addresses = [torch_layer.storage_address(inputs[i]) for i in tensors]
        if len(set(addresses)) != len(addresses) and _written_overlap(inputs, tensors, addresses, written, resized):
            return pytree.tree_flatten(eager(*args))[0]
        return run(*args)

    return call


def _unless_moved(run: GraphCallable, eager: GraphCallable, functional: FunctionalGraph) -> GraphCallable:
    """A graph that addresses memory by absolute offsets serves inputs that start where the traced ones did."""
    expected = tuple(
        (i, spec.storage_offset)
        for i, spec in enumerate(functional.signature.inputs)
        if spec.is_tensor and not spec.lifted
    )

    def call(*args: Any) -> Any:
        for index, offset in expected:
            if args[index].storage_offset() != offset:
                return pytree.tree_flatten(eager(*args))[0]
        return run(*args)

    return call


def _written_overlap(
    inputs: Sequence[Tensor],
    tensors: Sequence[int],
    addresses: Sequence[int],
    written: frozenset[int],
    resized: frozenset[int],
) -> bool:
    groups: dict[int, list[int]] = {}
    for index, address in zip(tensors, addresses):
        groups.setdefault(address, []).append(index)
    for group in groups.values():
        for a, b in itertools.combinations(group, 2):
            if a in resized or b in resized:
                return True
            if (a in written or b in written) and _overlap(inputs[a], inputs[b]):
                return True
    return False


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether the stretches of memory that two tensors of one storage reach over meet (they may still interleave)."""
    (a_start, a_end), (b_start, b_end) = _reach(a), _reach(b)
    return a_start < b_end and b_start < a_end


def _reach(t: Tensor) -> tuple[int, int]:
    start = int(t.storage_offset()) * t.itemsize
    if t.numel() == 0:
        return start, start
    last = sum((int(size) - 1) * int(stride) for size, stride in zip(t.shape, t.stride()))
    return start, start + (last + 1) * t.itemsize
