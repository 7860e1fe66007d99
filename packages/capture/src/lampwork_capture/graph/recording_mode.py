"""The fake tensor mode of a trace: runs operations on fake tensors and remembers what each graph node dispatched.

Entered by the graph builder around one operation at a time. Invariant: what it says of a node (operators, writes,
whether it may raise) covers every operator that the node dispatched, nested ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lampwork_symshape.sym_node import TorchShapeEnv
from torch._subclasses.fake_tensor import FakeTensorMode

from ..data_sizes import DataSizes, depends_on_data
from .fake_results import FakeResults, Ran, env_of
from .list_fakes import list_fake
from .memory_bounds import check_bounds
from .operator_effects import draws_random, is_composite, may_raise, written_tensors
from .quick_fakes import is_quick, quick_fake
from .refused_writes import may_be_refused
from .total_operators import is_total

_LISTS = (list, tuple)
_ATEN: Any = torch.ops.aten
_C: Any = torch._C
_BY_STRIDES = frozenset({_ATEN.as_strided, _ATEN.as_strided_copy})


def _has_kernel(func: Any) -> bool:
    """Whether it is an operator of torch's on tensors that does not run others in its place.

    Not so a question that only Python's dispatcher knows, as `aten::size`.
    """
    return func.namespace in ("aten", "prims") and _C._dispatch_has_kernel(func.name()) and not is_composite(func)


class RecordingFakeMode(FakeTensorMode):  # pyright: ignore[reportUntypedBaseClass]
    """Fake tensor mode that remembers which operators one graph node dispatched.

    It outlives the trace with the graph's fake tensors, so it knows nothing of who traces.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=False)
        self.data: DataSizes | None = None  # makes symbols of sizes that depend on data, where they are taken
        self.operators: list[Any] = []
        self.written: set[int] = set()  # the storages that the node wrote to
        self.may_raise = False  # whether an operator of the node may raise although it runs on fake tensors
        self.is_total = True  # whether all that it dispatched raises for no data (`total_operators`)
        self._running: list[Any] = []  # operators that are being run, the outermost first
        self._results = FakeResults(views=True)  # of operators, once sizes are symbols
        self.draws_random = False  # whether any operator so far draws random numbers

    @property
    def takes_data(self) -> bool:
        """Whether operators whose results have sizes that depend on data run under it."""
        return self.data is not None

    def forget_data(self) -> None:
        """Another run over the same fake tensors begins: what is known of data from this one is no fact there."""
        if self.data is not None:
            self.data.forget()

    def forget_results(self) -> None:
        """torch's state changed, or nothing is asked for again: what operators gave is not taken from memory."""
        self._results.forget()

    def take_symbols(self, env: Any) -> None:
        """Symbolic numbers of this environment are among the arguments from now on."""
        self.shape_env = env
        self.static_shapes = False
        self.cache_enabled = False  # torch's: its key asks about layouts, and it keeps no result of symbolic sizes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.operators.append(func)
        draws = draws_random(func, args, kwargs or {})
        self.draws_random = self.draws_random or draws
        written = written_tensors(func, args, kwargs or {})
        for tensor in written:
            storage = tensor.untyped_storage()._cdata
            self.written.add(storage)
            if self.data is not None:
                self.data.note_write(storage)
        refused = bool(written) and may_be_refused(func, written, args, kwargs or {})
        self._running.append(func)
        try:
            if self.shape_env is None or draws or written or not _has_kernel(func):
                result = self._run(func, types, args, kwargs or {})
            else:
                result = self._run_or_recall(func, types, args, kwargs or {})
        finally:
            self._running.pop()
        if not self.may_raise and (refused or may_raise(func, args, result)):
            # One with a kernel of its own does not run what stands for it on fake tensors
            self.may_raise = all(map(is_composite, self._running))
        if self.is_total and not (is_total(func, args, kwargs or {}, result) or is_composite(func)):
            self.is_total = not all(map(is_composite, self._running))
        return result

    def _run_or_recall(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operator with a kernel of its own, or take what an equal call gave before.

        Of the operators that stand for it on fake tensors only the names count for the node, so these are remembered.
        """
        env = cast(TorchShapeEnv, self.shape_env)
        call = None if depends_on_data(func) else self._results.call_of(self, func, args, kwargs)
        known = None if call is None else self._results.recall(self, call)
        if known is not None:
            self.operators += known.operators
            return known.result
        asked, decided = len(self.operators), len(env.scalar_facts)
        result = self._run(func, types, args, kwargs)
        # A fact about floats may be taken back (`aot.c_floats`), so what relies on a new one is asked again
        if call is not None and len(env.scalar_facts) == decided:
            nested = tuple(self.operators[asked:])
            self._results.remember(self, call, Ran(result, nested, may_raise=False, is_total=True))
        return result

    def _run(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """By our own rules, or torch's."""
        if func.overloadpacket in _BY_STRIDES and len(self._running) == 1:
            check_bounds(env_of(self), *args, **kwargs)
        result = NotImplemented
        if depends_on_data(func):
            result = self._sized_by_data(func, args, kwargs)
        elif self.shape_env is not None and is_quick(func):
            result = quick_fake(self, func, args, kwargs)
        if result is NotImplemented and args and (type(args[0]) in _LISTS or type(args[-1]) in _LISTS):
            result = list_fake(self, func, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs) if result is NotImplemented else result

    def _sized_by_data(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self.data is None:
            return NotImplemented
        if self.shape_env is None:
            self.take_symbols(self.data.env)
        return self.data.describe(func, args, kwargs)
