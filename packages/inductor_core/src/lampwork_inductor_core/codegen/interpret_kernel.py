"""The reference interpreter of scheduled kernels: runs one on torch tensors, all points at once.

The oracle for text generators, one stage after `interpret` (which runs lowered graphs): what a device's kernel writes
must agree with what this writes. Invariant: it follows the kernel's own rules (forwarding, local rows, order of
segments) and fails loudly where a kernel breaks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape import Symbol

from ..interpret import Bindings, InterpreterError, _Evaluator, _grid, _reduce, _scan, evaluate
from ..ir.loop_body import Load, LoopBody, Node
from ..ir.loops import Reduction, Scan, ScatterMode
from .scheduled_kernel import BufferArgument, Forwarded, InnerLoop, ScheduledKernel, SizeArgument, Stage, Store


def interpret_kernel(kernel: ScheduledKernel, arguments: Sequence[Any]) -> None:
    """Run the kernel. `arguments` as a device's callable takes them: tensors, then integers and floats; written ones
    are filled."""
    tensors: dict[str, Any] = {}
    bindings: dict[Symbol, Any] = {}
    for argument, value in zip(kernel.arguments, arguments, strict=True):
        if isinstance(argument, BufferArgument):
            if value.dtype != argument.dtype:
                raise InterpreterError(f"{argument.name} is {argument.dtype}, was given {value.dtype}")
            tensors[argument.name] = value
        elif isinstance(argument, SizeArgument):
            bindings[argument.symbol] = value
        else:
            tensors[argument.name] = value
    _Run(kernel, tensors, bindings).run()


class _KernelEvaluator(_Evaluator):
    """Evaluates stage values; knows the stages and local rows that are finished."""

    def __init__(
        self, bindings: Bindings, run: _Run, device: torch.device, visible: Mapping[int, torch.Tensor]
    ) -> None:
        super().__init__(bindings, run.tensors, device)
        self.rows = run.rows
        self.visible = visible

    def _evaluate(self, node: Node, masked: bool) -> torch.Tensor:
        if isinstance(node, Forwarded):
            if node.stage not in self.visible:
                raise InterpreterError(f"stage {node.stage} is read where it is not available")
            value = self.visible[node.stage]
            if value.dtype != node.dtype:
                raise InterpreterError(f"stage {node.stage} is {value.dtype}, was forwarded as {node.dtype}")
            return value
        if isinstance(node, Load) and node.buffer in self.rows:
            index, value = self.rows[node.buffer]
            if index is not node.index:
                raise InterpreterError(f"{node.buffer} was filled at {index} and is read at {node.index}")
            return value
        value = super()._evaluate(node, masked)
        # a load of one element is a view, which a later store in place would change
        return value.clone() if isinstance(node, Load) and value.dim() == 0 else value


class _Run:
    def __init__(self, kernel: ScheduledKernel, tensors: dict[str, Any], bindings: dict[Symbol, Any]) -> None:
        self.kernel, self.tensors = kernel, tensors
        self.outer = [evaluate(d.size, bindings) for d in kernel.outer]
        self.inner = [evaluate(d.size, bindings) for d in kernel.inner]
        self.device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        variables = [d.symbol for d in (*kernel.outer, *kernel.inner)]
        self.bindings = _grid(variables, [*self.outer, *self.inner], bindings, self.device)
        self.rows: dict[str, tuple[Any, torch.Tensor]] = {}
        self.locals = {b.name for b in kernel.locals}
        self.finished: dict[int, torch.Tensor] = {}  # what later segments may read

    def run(self) -> None:
        """All segments in order."""
        if 0 in self.outer:
            return
        number = 0
        for segment in self.kernel.segments:
            inner = isinstance(segment, InnerLoop)
            shape = [*self.outer, *(self.inner if inner else [1] * len(self.inner))]
            visible = dict(self.finished)
            evaluator = _KernelEvaluator(self.bindings, self, self.device, visible)
            for stage in segment.stages:
                if not (inner and 0 in self.inner):
                    visible[number] = self._stage(stage, number, evaluator, shape, inner)
                elif stage.accumulate is not None:
                    self._accumulate(stage, number, torch.empty(shape, dtype=stage.value.dtype, device=self.device))
                if not inner:
                    self.finished[number] = visible[number]
                number += 1

    def _stage(
        self, stage: Stage, number: int, evaluator: _KernelEvaluator, shape: Sequence[int], inner: bool
    ) -> torch.Tensor:
        value = evaluator.run(stage.value)
        if value.dtype != stage.value.dtype:
            raise InterpreterError(f"stage {number} gave {value.dtype}, its node says {stage.value.dtype}")
        try:
            value = value.expand(shape)
        except RuntimeError as error:
            raise InterpreterError(f"stage {number} varies over the inner loop outside of it") from error
        if stage.accumulate is not None:
            if not inner:
                raise InterpreterError(f"stage {number} accumulates outside an inner loop")
            self._accumulate(stage, number, value)
            return value
        if stage.scan is not None:
            body = LoopBody((), (), stage.value)
            value = _scan(Scan((), stage.scan.kind, body, stage.scan.accumulate), value).to(stage.scan.result)
        if stage.store is not None:
            self._store(stage.store, value, evaluator)
        return value

    def _accumulate(self, stage: Stage, number: int, value: torch.Tensor) -> None:
        how = stage.accumulate
        assert how is not None
        body = LoopBody((), (), stage.value)
        result = _reduce(Reduction((), (), how.kind, body, how.result, how.accumulate), value, self.outer)
        result = result.reshape([*self.outer, *[1] * len(self.inner)])
        self.finished[number] = result
        if stage.store is not None:
            self._store(stage.store, result, None)

    def _store(self, store: Store, value: torch.Tensor, evaluator: _KernelEvaluator | None) -> None:
        if store.argument in self.locals:
            self.rows[store.argument] = (store.index, value)
            return
        bindings = dict(self.bindings)
        for symbol, node in store.indirect:
            assert evaluator is not None
            bindings[symbol] = evaluator.run(node)
        tensor = self.tensors[store.argument]
        target = torch.as_tensor(evaluate(store.index, bindings), device=tensor.device).expand(value.shape).reshape(-1)
        extent = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
        if target.numel() and not (int(target.min()) >= 0 and int(target.max()) < extent):
            raise InterpreterError(f"writes {store.argument}[{store.index}], outside its {extent} elements")
        if value.dtype != tensor.dtype:
            raise InterpreterError(f"stores {value.dtype} into {store.argument}, which is {tensor.dtype}")
        if store.scatter is None and target.unique().numel() != target.numel():
            raise InterpreterError(f"writes some element of {store.argument}[{store.index}] twice")
        flat = torch.as_strided(tensor, (extent,), (1,), tensor.storage_offset())
        flat.index_put_((target,), value.reshape(-1).contiguous(), accumulate=store.scatter is ScatterMode.ADD)
