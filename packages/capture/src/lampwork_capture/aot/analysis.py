"""What the trace observed: mutations of inputs, and what each output is, read off the functional wrappers.

Runs while functionalization is still on, right after the captured graph ran. Two wrappers alias exactly when they share
a functional storage. Invariant: every result of the functional graph is fresh memory of its own, or (a base that
several outputs view) fresh memory shared only as eager shares it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import SymBool, SymFloat, SymInt, Tensor, fx
from torch._ops import OpOverload

from . import torch_layer
from .errors import UnsupportedForAot
from .known_sizes import known
from .layouts import laid_out, synchronise
from .metadata import (
    GraphSignature,
    InputMutation,
    InputSpec,
    OutputKind,
    OutputSpec,
    ResultNumber,
    is_dense,
    is_known_dense,
    overlaps_itself,
    view_between,
)
from .trace import AtenRecorder, same_strides

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Observed:
    """The outcome of the analysis; `results` are the nodes the functional graph must return, in order.

    `values`: for each result the tensor of the trace that autograd knows, or None: a number, or a tensor that the
    captured graph never held.
    """

    results: tuple[fx.Node, ...]
    values: tuple[Tensor | None, ...]
    mutations: tuple[InputMutation, ...]
    outputs: tuple[OutputSpec, ...]
    output_tree: pytree.TreeSpec | None
    outputs_require_grad: bool
    offsets_matter: bool

    def signature(
        self, *, inputs: tuple[InputSpec, ...], result_count: int, grad_mode_after: bool | None
    ) -> GraphSignature:
        return GraphSignature(
            inputs=inputs,
            outputs=self.outputs,
            mutations=self.mutations,
            offsets_matter=self.offsets_matter,
            result_count=result_count,
            output_tree=self.output_tree,
            grad_mode_after=grad_mode_after,
            outputs_require_grad=self.outputs_require_grad,
        )


@dataclass(frozen=True, slots=True)
class WrappedInput:
    """An input of the trace: its fake tensor (or number), its functional wrapper; of that one the storage and the
    gradient function at first."""

    fake: Any
    wrapper: Any
    address: int | None
    history: Any = None


def analyse(*, inputs: Sequence[WrappedInput], outputs: Any, recorder: AtenRecorder) -> Observed:
    """What a run of the captured graph on `inputs`, which returned `outputs`, did."""
    flat, tree = flatten_outputs(outputs)
    return _Analysis(inputs, flat, tree, recorder).run()


def flatten_outputs(outputs: Any) -> tuple[list[Any], pytree.TreeSpec | None]:
    """Outputs as a flat list, and the structure to restore when they are not simply a sequence."""
    if isinstance(outputs, (tuple, list)) and not any(isinstance(o, (tuple, list, dict)) for o in outputs):
        return list(outputs), None
    return pytree.tree_flatten(outputs)


def value_root(node: fx.Node) -> fx.Node:
    """The node that made the memory that `node`'s value lies in: views are followed to what they view."""
    while node.op == "call_function" and isinstance(node.target, OpOverload) and is_view_op(node.target):
        node = node.all_input_nodes[0]
    return node


def is_view_op(op: OpOverload) -> bool:
    """Whether `op` returns a view of its first argument, by its schema."""
    returns = op._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not op._schema.is_mutable


class _Analysis:
    def __init__(
        self,
        inputs: Sequence[WrappedInput],
        outputs: list[Any],
        tree: pytree.TreeSpec | None,
        recorder: AtenRecorder,
    ) -> None:
        self.inputs = [item.fake for item in inputs]
        self.wrapped = [item.wrapper for item in inputs]
        self.addresses = [item.address for item in inputs]
        self.histories = [item.history for item in inputs]
        self.outputs = outputs
        self.tree = tree
        self.recorder = recorder
        self.results: list[fx.Node] = []
        self.values: list[Tensor | None] = []
        self.mutations: list[InputMutation] = []
        self.taken_roots: set[fx.Node] = set()  # memory that already belongs to an output

    def run(self) -> Observed:
        requires_grad = any(isinstance(o, Tensor) and o.requires_grad for o in self.outputs)
        storages = self._observe_mutations()
        requires_grad = requires_grad or any(mutation.differentiable for mutation in self.mutations)
        outputs = self._describe_outputs(storages)
        return Observed(
            tuple(self.results),
            tuple(self.values),
            tuple(self.mutations),
            outputs,
            self.tree,
            requires_grad,
            self.recorder.addresses_memory,
        )

    # -- mutations

    def _observe_mutations(self) -> dict[int, int]:
        """Fills `mutations`; returns which input each functional storage belongs to."""
        storages: dict[int, int] = {}
        changed: list[int] = []
        for i, (fake, wrapper, address) in enumerate(zip(self.inputs, self.wrapped, self.addresses)):
            if not isinstance(wrapper, Tensor):
                continue
            if torch_layer.was_storage_changed(wrapper) or torch_layer.storage_address(wrapper) != address:
                raise UnsupportedForAot("an input is given other memory (`set_`, or assignment to `.data`)")
            storages.setdefault(torch_layer.storage_address(wrapper), i)
            synchronise(wrapper)
            if torch_layer.has_data_mutation(wrapper) or _differs(fake, wrapper, False):
                changed.append(i)
        for i in changed:
            self._observe_mutation(i, self.inputs[i], self.wrapped[i], set(changed))
        return storages

    def _observe_mutation(self, index: int, fake: Tensor, wrapper: Tensor, changed: set[int]) -> None:
        data = torch_layer.has_data_mutation(wrapper)
        if data and overlaps_itself(fake):
            raise UnsupportedForAot("an input whose elements share memory is written to")
        if data and not (is_dense(fake) and _starts_at_zero(fake)) and self._addresses_new_memory():
            raise UnsupportedForAot("memory is addressed (`as_strided`) and an input inside other memory is written to")
        if wrapper.untyped_storage().nbytes() > fake.untyped_storage().nbytes():
            raise UnsupportedForAot("an input is resized to more memory than it has")
        metadata = view_between(fake, wrapper, self._number) if _differs(fake, wrapper, data) else None
        if data and metadata is not None:
            if self.recorder.addresses_memory:
                raise UnsupportedForAot("an input is written to and may be moved within its memory (`as_strided_`)")
            metadata = replace(metadata, offset=0)  # the new value starts its own memory; the input stays where it was
        result = None
        if data:
            node = laid_out(self.recorder.node_of(torch_layer.from_functional(wrapper)))
            root = value_root(node)
            if root.op == "placeholder" and self._input_index(root) in changed:
                node = self._copy_of(node)  # the writes happen one after the other: read it before it is written to
            result = self._add_result(node, wrapper)
        if data or metadata is not None:
            differentiable = data and wrapper.grad_fn is not self.histories[index]
            self.mutations.append(InputMutation(index, result, metadata, differentiable))

    def _add_result(self, node: fx.Node, value: Tensor | None) -> int:
        self.results.append(node)
        self.values.append(value)
        return len(self.results) - 1

    def _addresses_new_memory(self) -> bool:
        """Whether an address (`as_strided`) is taken in a computed value: it may stand for an input with an offset."""
        if not self.recorder.addresses_memory:
            return False
        return any(
            root.op == "call_function" and root.target is not aten.as_strided_scatter.default
            for node in self.recorder.graph.nodes
            if node.target in (aten.as_strided.default, aten.as_strided_scatter.default)
            for root in (value_root(node.all_input_nodes[0]),)
        )

    def _input_index(self, node: fx.Node) -> int:
        return next(i for i, fake in enumerate(self.inputs) if fake is node.meta["val"])

    # -- outputs

    def _describe_outputs(self, storages: dict[int, int]) -> tuple[OutputSpec, ...]:
        tensors = [o for o in self.outputs if isinstance(o, Tensor)]
        sharing: dict[int, set[int]] = {}
        for output in tensors:
            if not torch_layer.is_functional(output):
                raise UnsupportedForAot("an output is a tensor that the graph did not compute")
            synchronise(output)
            sharing.setdefault(torch_layer.storage_address(output), set()).add(id(output))
        first_place: dict[int, int] = {}
        input_place = {id(w): i for i, w in enumerate(self.wrapped) if isinstance(w, Tensor)}
        bases: dict[int, tuple[int, Tensor]] = {}
        specs: list[OutputSpec] = []
        for place, output in enumerate(self.outputs):
            if not isinstance(output, Tensor):
                specs.append(self._describe_number(output))
                continue
            storage = torch_layer.storage_address(output)
            if id(output) in input_place:
                specs.append(OutputSpec(OutputKind.IS_INPUT, input_place[id(output)]))
            elif id(output) in first_place:
                specs.append(OutputSpec(OutputKind.IS_OUTPUT, first_place[id(output)]))
            elif storage in storages:
                index = storages[storage]
                # Sizes and strides are relative to the input as the call leaves it.
                specs.append(
                    OutputSpec(
                        OutputKind.ALIAS_OF_INPUT, index, view_between(self.wrapped[index], output, self._number)
                    )
                )
            else:
                specs.append(self._describe_computed(output, storage, len(sharing[storage]) > 1, bases))
            specs[-1] = replace(specs[-1], requires_grad=output.requires_grad)
            first_place.setdefault(id(output), place)
        return tuple(specs)

    def _number(self, value: Any) -> int | ResultNumber:
        """A size, stride or offset of a view: a symbolic one becomes a result of its own."""
        if not isinstance(value, SymInt):
            return int(value)
        node = self.recorder.symbols.resolve(value)
        if isinstance(node, int):
            return node
        if node not in self.results:
            self._add_result(node, None)
        return ResultNumber(self.results.index(node))

    def _describe_number(self, value: Any) -> OutputSpec:
        if isinstance(value, SymInt):
            node = self.recorder.symbols.resolve(value)
            if isinstance(node, int):
                return OutputSpec(OutputKind.CONSTANT, constant=node)
            return OutputSpec(OutputKind.COMPUTED, self._add_result(node, None))
        if isinstance(value, (SymFloat, SymBool)):
            raise UnsupportedForAot("an output is a symbolic number that is not an integer")
        return OutputSpec(OutputKind.CONSTANT, constant=value)

    def _describe_computed(
        self, output: Tensor, storage: int, shared: bool, bases: dict[int, tuple[int, Tensor]]
    ) -> OutputSpec:
        value = torch_layer.from_functional(output)
        node = self.recorder.node_of(value)
        root = value_root(node)
        base: Tensor = root.meta["val"]
        # What is all of its memory for some sizes only is a view of it for all: its sizes are no facts.
        whole = (
            known(value.storage_offset() == 0)
            and known(value.numel() == base.numel())
            and (is_dense(value) if node is root else is_known_dense(value))
            and value.dtype == base.dtype
            and not (value.is_conj() or value.is_neg())
        )
        if whole and not shared:
            return OutputSpec(OutputKind.COMPUTED, self._add_result(self._owned(node, root), output))
        owner = bases.get(storage)
        if owner is None:
            if not is_dense(base):
                raise UnsupportedForAot("outputs view memory with gaps")
            known_base = self._known_to_autograd(base, storage)
            if known_base is None and output.requires_grad and not output._is_view():
                # parts of one memory by chance, as `unsafe_split` gives them: autograd knows each by itself
                return OutputSpec(OutputKind.COMPUTED, self._add_result(self._copy_of(node), output))
            index = self._add_result(self._owned(root, root), known_base)
            owner = bases[storage] = (index, base)
        return OutputSpec(OutputKind.ALIAS_OF_RESULT, owner[0], view_between(owner[1], value, self._number))

    def _known_to_autograd(self, base: Tensor, storage: int) -> Tensor | None:
        """The tensor of the trace whose value is `base`: an output in its memory, or what such an output views."""
        for output in self.outputs:
            if isinstance(output, Tensor) and torch_layer.storage_address(output) == storage:
                for candidate in (output, output._base):
                    if candidate is not None and torch_layer.from_functional(candidate) is base:
                        return candidate
        return None

    def _owned(self, node: fx.Node, root: fx.Node) -> fx.Node:
        """`node`, or a copy of it when its memory is an input's, a constant's or another output's."""
        if root.op == "call_function" and root not in self.taken_roots:
            self.taken_roots.add(root)
            return node
        return self._copy_of(node)

    def _copy_of(self, node: fx.Node) -> fx.Node:
        """A fresh copy with the same strides. Recorded directly: an equal copy may not stand in for it."""
        copied = self.recorder.graph.call_function(aten.clone.default, (node,))
        copied.meta.update(node.meta)
        self.taken_roots.add(copied)
        return copied


def _differs(fake: Tensor, wrapper: Tensor, data: bool) -> bool:
    """Whether the program gave an input other sizes, strides or place; `data`: it wrote to it.

    Where a written input's memory starts says nothing: the value that functionalization puts in its place has memory
    of its own.
    """
    if fake.shape != wrapper.shape or not same_strides(fake, wrapper):
        return True
    return not data and fake.storage_offset() != wrapper.storage_offset()


def _starts_at_zero(fake: Tensor) -> bool:
    offset = fake.storage_offset()
    return isinstance(offset, int) and offset == 0
