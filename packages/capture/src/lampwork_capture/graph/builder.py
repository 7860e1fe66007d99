"""GraphBuilder: the FX graph under construction while a frame is traced.

Tensors that existed before the frame become placeholders with their source; every recorded operation is run at once on
fake tensors, so that shapes, dtypes, strides and aliasing are known to what is traced next. `freeze` ends it with a
graph module, its example inputs and their sources. Invariants: a node is in the graph only if its fake run succeeded; a
node that mutates, draws random numbers, changes torch's state or may raise when run is never removed as dead.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.fx
from lampwork_symshape.dim_policy import LEAST_SIZE
from lampwork_symshape.scalar_expr import ScalarTerm
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    UnsupportedOperatorException,
)
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves, tree_map_only

from ..graph_break import BreakId, GraphBreak, ShapeOfDataBreak
from ..guards.facts import ByIdentity, UserLine
from ..source import Source, TensorSizeSource
from .data_numbers import DataNumbers
from .fake_inputs import check_tensor_kind, fake_input, has_plain_layout, name_of_input, symbolic_fake_input
from .fake_results import FakeResults, Ran
from .input_writes import InputWrites
from .kernels import have_kernels
from .late_reads import LateRead
from .operator_effects import is_random, is_users, may_mutate, target_is_users, target_may_raise
from .printable import printable
from .python_dtypes import with_torch_dtypes
from .recording_mode import RecordingFakeMode
from .resized_outputs import check_resized, sizes_of_outputs
from .runtime_assert import require
from .scalar_inputs import OfData, OfTensor, ScalarInputs
from .shared_at_one import SharedAtOne
from .subgraph import EXAMPLE, FinishedSubgraph, OpenGraph
from .symbolic_runs import SYMBOLIC_RUNS
from .tensor_sizes import LAYOUT, RIGHT_FOR_ONE, TensorSizes, arriving
from .traced_graph import GraphInput, TracedGraph
from .unheard_warnings import unheard_warnings
from .value_free import without_value

IMPURE = "lampwork_impure"
MAY_RAISE = "lampwork_may_raise"
HAS_KERNELS = "lampwork_has_kernels"  # of one that may raise: it surely is implemented for its tensors
_C: Any = torch._C
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)
_FAKE_LOGGER = logging.getLogger("torch._subclasses.fake_tensor")


class EagerWouldRaise(Exception):
    """The operation raised on fake tensors as it would on real ones: the user's own error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class GraphBuilder:
    """The graph of one frame while it is traced. `freeze` ends it."""

    def __init__(self, scalars: ScalarInputs, sizes: TensorSizes) -> None:
        self._opened = [OpenGraph()]  # the root graph and all subgraphs so far
        self._open = self._opened[:]  # the root graph and the subgraphs that are being traced, innermost last
        self._results = FakeResults()
        self._tensor_of_number: dict[Hashable, torch.fx.Node] = {}
        self.scalars = scalars
        self.sizes = sizes
        self.data = DataNumbers(scalars, sizes.takes_data)
        self._shared_at_one = SharedAtOne()
        self._node_of_source: dict[Source, torch.fx.Node] = {}  # of input tensors, by the one each came in by
        # by id of the real tensor, which is kept alive, or by the source of a number
        self._inputs: dict[Hashable, tuple[torch.fx.Node, GraphInput]] = {}
        self._node_of_fake: dict[int, torch.fx.Node] = {}
        self._names: set[str] = set()
        self._operations = 0
        self._inputs_of: dict[int, list[GraphInput]] = {}  # by storage of the fake
        self.input_writes = InputWrites()  # to memory that existed before the frame
        self.calls_user_code = False  # whether running it calls code of the user's, which may do anything
        self.ran_user_code = False  # whether tracing it did, on fake tensors: what that changes is not undone
        self.calls_hooks = False  # whether hooks on saved tensors run with it
        self.runs_later = False  # whether what is being traced runs at another time: the backward of a function
        self.late_reads: dict[tuple[str, str], LateRead] = {}  # what a `backward` in it reads, by module and name
        self.arrays = 0  # how many inputs are arrays of NumPy, which may share memory unseen
        self.is_rerun = False  # whether the frame runs again, as plain Python, when the graph raises
        self.is_handled = False  # whether it does for a handler of the program's, which then is no rare case
        self.values_of_objects: dict[int, tuple[Any, Any]] = {}  # id -> (object, kept alive; its value)
        self.values_of_fakes: dict[int, Any] = {}  # id of a fake tensor -> its TensorValue
        self.guarded_classes: set[ByIdentity] = set()  # of the program, whose special methods are guarded
        self.has_tensors_as_keys = False  # of dicts and sets
        self.asked_state: set[str] = set()  # pieces of global state that are guarded on demand, and are

    @functools.cached_property
    def fake_mode(self) -> RecordingFakeMode:
        """What operations run under. Making it reads the source of every running frame, for torch's messages."""
        return RecordingFakeMode()

    @property
    def graph(self) -> torch.fx.Graph:
        """The graph that is being recorded into."""
        return self._open[-1].graph

    # Subgraphs

    @property
    def is_in_subgraph(self) -> bool:
        return len(self._open) > 1

    def begin_subgraph(self) -> None:
        """Record into a new graph above the present one, until `end_subgraph` or `abandon_subgraph`."""
        self._open.append(OpenGraph())
        self._opened.append(self._open[-1])

    def add_argument(self, example: torch.Tensor) -> torch.fx.Node:
        """A placeholder of the subgraph for an argument of its function."""
        count = len(self.graph.find_nodes(op="placeholder"))
        return self._open[-1].placeholder(f"argument_{count}", example)

    def end_subgraph(self, outputs: Sequence[torch.fx.Node]) -> FinishedSubgraph:
        """The subgraph with its outputs in order; the graph below is recorded into again."""
        opened = self._open[-1]
        self.graph.output(tuple(self._local(node) for node in outputs))
        self._open.pop()
        _remove_dead(opened.graph)
        return FinishedSubgraph(opened.finish(), opened.captured)

    def abandon_subgraph(self) -> None:
        """The function of the subgraph raised: what was recorded of it is forgotten."""
        self._open.pop()

    def add_module(self, name: str, module: torch.fx.GraphModule) -> torch.fx.Node:
        """The node of a subgraph, as argument of the operation that runs it."""
        return self._open[-1].add_module(name, module)

    def _local(self, node: torch.fx.Node) -> torch.fx.Node:
        """The node itself, or what stands for it in the present subgraph. Raises GraphBreak for what got out of one."""
        graphs = [opened.graph for opened in self._open]
        if node.graph not in graphs:
            raise GraphBreak(
                BreakId.NOT_A_GRAPH_ARGUMENT, "a tensor of a function that torch transforms is used outside of it"
            )
        for opened in self._open[graphs.index(node.graph) + 1 :]:
            node = opened.capture(node)
        return node

    # Inputs

    def add_input(self, tensor: torch.Tensor, source: Source) -> torch.fx.Node:
        """The placeholder of a tensor, made once per tensor. Raises GraphBreak(TENSOR_KIND)."""
        known = self._inputs.get(id(tensor))
        if known is not None:
            return known[0]
        check_tensor_kind(tensor, source)
        layout = self.sizes.layout_of(tensor, source) if has_plain_layout(tensor) else None
        if layout is not None:
            self._take_symbols()
        with torch.inference_mode(tensor.is_inference()), _C._DisableFuncTorch():
            if layout is None:
                fake = fake_input(self.fake_mode, tensor)
            else:
                sizes, strides = ([self.scalars.symbol_of(n) for n in ns] for ns in (layout.sizes, layout.strides))
                fake = symbolic_fake_input(self.fake_mode, tensor, sizes, strides)
        node = self._add_placeholder(id(tensor), source, tensor, fake)
        node.meta[LAYOUT] = layout
        self._node_of_source[source] = node
        self._node_of_fake[id(fake)] = node
        self._inputs_of.setdefault(fake.untyped_storage()._cdata, []).append(self._inputs[id(tensor)][1])
        return node

    def _add_placeholder(self, key: Hashable, source: Source, example: Any, fake: Any) -> torch.fx.Node:
        node = self._open[0].placeholder(name_of_input(source, self._names), fake)
        node.meta["lampwork_source"] = source
        self._inputs[key] = (node, GraphInput(node.name, source, example, fake))
        return node

    def number_argument(self, term: ScalarTerm) -> Any:
        """What an FX node takes for a symbolic number: a placeholder, the node that computes it, or a number."""
        if self.is_in_subgraph and not self.scalars.is_of_tensors(term):
            return self.scalars.env.decide_scalar(term)  # a subgraph takes tensors only
        self._take_symbols()
        return self.scalars.argument(term, self)

    def _take_symbols(self) -> None:
        if self.fake_mode.shape_env is None:
            self.fake_mode.take_symbols(self.scalars.env)

    def add_number(self, source: Source, value: int | float, symbol: Any) -> torch.fx.Node:
        """The placeholder of a Python number (see `NodeMaker`)."""
        return self._add_placeholder(source, source, value, symbol)

    def add_number_of_tensor(self, source: OfTensor, symbol: Any) -> torch.fx.Node:
        """The node that reads a size or stride of an input tensor, as it arrives: the graph may change it."""
        tensor = self._local(self._node_of_source[source.base])
        method = "size" if isinstance(source, TensorSizeSource) else "stride"
        if self.is_in_subgraph and str(getattr(_example_of(tensor), method)(source.dim)) != str(symbol):
            raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"`{source}` is read after an operation that changed it")
        with self._open[-1].at_start():
            node = self.graph.call_method(method, (tensor, source.dim))
        return self._number(node, symbol)

    def add_number_of_data(self, source: OfData, symbol: Any) -> torch.fx.Node:
        """The node that reads a size that depends on data, or what `item()` gave."""
        node = self._local(source.node)
        for index in source.path:
            node = self.graph.call_function(operator.getitem, (node, index))
            node.meta[EXAMPLE], node.meta[IMPURE] = None, False
        if source.dim is None:
            return node
        return self._number(self.graph.call_method("size", (node, source.dim)), symbol)

    def number_as_tensor(self, term: ScalarTerm) -> torch.fx.Node:
        """The node of a tensor without dimensions that holds an integer of the data: how it leaves the graph."""
        known = self._tensor_of_number.get(term)
        if known is not None:
            return known
        options: dict[str, Any] = {"dtype": torch.int64}
        node = self.graph.call_function(torch.scalar_tensor, (self.number_argument(term),), options)
        node.meta.update({EXAMPLE: torch.empty((), dtype=torch.int64, device="meta"), IMPURE: False})
        node.meta.update(lampwork_mutates=False, lampwork_operators=1)
        self._tensor_of_number[term] = node
        return node

    def check_data(self, *, readable_only: bool = False) -> None:
        """Put the checks of what was assumed about data since into the graph (see `DataNumbers.pending`).

        Where one fails, eager may do without error what the graph cannot, so the frame runs again. Raises GraphBreak if
        it cannot.
        """
        for check in self.data.pending(readable_only=readable_only):
            condition = self.scalars.argument(check.condition, self, as_it_is=True)
            node = self._number(self.graph.call_function(require, (condition, check.text)), None)
            node.meta[IMPURE] = node.meta[MAY_RAISE] = True
            self.is_rerun = True
            if self.cannot_repeat:
                raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, f"a check of data behind {self.cannot_repeat}")

    def add_arithmetic(self, function: Callable[..., Any], args: tuple[Any, ...], symbol: Any) -> torch.fx.Node:
        """The node that computes a number."""
        return self._number(self.graph.call_function(printable(function, args), args), symbol)

    def _number(self, node: torch.fx.Node, symbol: Any) -> torch.fx.Node:
        node.meta[EXAMPLE] = symbol
        node.meta["lampwork_mutates"] = False
        node.meta["lampwork_operators"] = 0
        node.meta[IMPURE] = False
        return node

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """All inputs made so far, used or not, in order."""
        return tuple(entry for _, entry in self._inputs.values())

    @property
    def mutates_inputs(self) -> bool:
        """Whether an operation recorded so far may write to memory that existed before the frame."""
        return any(node.meta.get("lampwork_mutates", False) for opened in self._open for node in opened.nodes)

    def tell_apart(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """The program relies on two fakes of the trace being those of two tensors."""
        self._shared_at_one.compared(a, b, lambda: self.scalars.env)

    # Operations

    def add_node(
        self,
        op: str,
        target: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        user_line: UserLine | None = None,
        run: Callable[..., Any] | None = None,
    ) -> tuple[torch.fx.Node, Any]:
        """Record one operation and run it on fake tensors, or run `run` in its place; its node and fake result.

        Raises EagerWouldRaise where the operation itself is in error, GraphBreak where it cannot run on fake tensors.
        """
        args, kwargs = with_torch_dtypes(op, target, args, kwargs)
        if len(self._open) > 1:
            args = map_arg(tuple(args), self._local)
            kwargs = map_arg(dict(kwargs), self._local)
        fake_args = map_arg(tuple(args), _example_of)
        fake_kwargs = map_arg(dict(kwargs), _example_of)
        outputs = sizes_of_outputs(fake_kwargs) if "out" in fake_kwargs else ()
        result, operators = self._run_with_numbers(op, target if run is None else run, fake_args, fake_kwargs)
        check_resized(outputs, fake_args, fake_kwargs)
        self.check_data(readable_only=True)
        node = self.graph.create_node(op, printable(target, args), tuple(args), dict(kwargs))
        self._operations += 1
        node.meta[EXAMPLE] = result
        for symbol in self.data.note(node, result):
            self.scalars.argument(symbol, self, as_it_is=True)
        self.check_data()
        mutates = bool(self.fake_mode.written) or any(may_mutate(operator) for operator in operators)
        node.meta["lampwork_mutates"] = mutates
        if self.sizes or self.data:
            self._shared_at_one.written(self.fake_mode.written, lambda: self.scalars.env)
            self._shared_at_one.note(target, fake_args, result)
        written = self.fake_mode.written & self._inputs_of.keys()
        if written:
            entries = [entry for storage in written for entry in self._inputs_of[storage]]
            self.input_writes.note(written, operators, entries)
        node.meta["lampwork_operators"] = len(operators)
        self.calls_user_code |= target_is_users(op, target) or any(map(is_users, operators))
        raises = target_may_raise(op, target) or self.fake_mode.may_raise
        node.meta[MAY_RAISE] = raises
        node.meta[HAS_KERNELS] = raises and have_kernels(operators, tree_leaves((fake_args, fake_kwargs)))
        in_place = op == "call_method" and str(target).endswith("_") and not str(target).endswith("__")
        node.meta[IMPURE] = (
            raises
            or not self.fake_mode.is_total
            or mutates
            or in_place
            or any(is_random(operator) for operator in operators)
            or not _holds_tensor(result)
        )
        if user_line is not None:
            node.meta["lampwork_user_line"] = user_line
            node.stack_trace = f"  {user_line}"
        if isinstance(result, torch.Tensor):
            self._node_of_fake.setdefault(id(result), node)
        return node, result

    def add_state_change(
        self, target: Callable[..., Any], args: Sequence[Any], user_line: UserLine | None
    ) -> torch.fx.Node:
        """Record a call that changes torch's state and that the caller makes itself, outside the fake mode."""
        self._forget_results()
        node = self.graph.call_function(target, tuple(args))
        self._operations += 1
        node.meta[EXAMPLE] = None
        node.meta["lampwork_mutates"] = False
        node.meta["lampwork_operators"] = 0
        node.meta[IMPURE] = True
        if user_line is not None:
            node.meta["lampwork_user_line"] = user_line
            node.stack_trace = f"  {user_line}"
        return node

    def add_item(self, node: torch.fx.Node, index: int, item: Any) -> torch.fx.Node:
        """`node[index]` for an operation that gives several results; `item` is its fake."""
        part = self.graph.call_function(operator.getitem, (self._local(node), index))
        part.meta[EXAMPLE] = item
        part.meta[IMPURE] = False
        if isinstance(item, torch.Tensor):
            self._node_of_fake.setdefault(id(item), part)
        return part

    def _run_with_numbers(self, op: str, target: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        """Run an operation that may take symbolic numbers: what cannot be done with one is done with its value."""
        if not self.scalars or not any(map(_is_symbolic, tree_leaves((args, kwargs)))):
            return self._run_or_recall(op, target, args, kwargs)
        args, kwargs = without_value(self.scalars.env, target, args, kwargs)
        try:
            with enable_python_dispatcher():  # decompositions that take symbolic integers
                result, operators = self._run_or_recall(op, SYMBOLIC_RUNS.get(target, target), args, kwargs)
        except (EagerWouldRaise, GraphBreak):
            args, kwargs = tree_map_only(_NUMBERS, self.scalars.settle, (args, kwargs))
            result, operators = self._run_fake(op, target, args, kwargs)
        self._decide_sizes(result)
        return result, operators

    def _decide_sizes(self, result: Any) -> None:
        """A symbolic size is at least the least size of a symbol, or it is specialized."""
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                for size in leaf.shape:
                    if isinstance(size, torch.SymInt) and self.scalars.is_backed(size) and not size >= LEAST_SIZE:
                        self.scalars.settle(size)

    def _run_or_recall(self, op: str, target: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        """Run an operation, or take what an equal one gave before."""
        mode = self.fake_mode
        call = None if self.is_in_subgraph else self._results.call_of(mode, target, args, kwargs)
        if call is None:
            return self._run_fake(op, target, args, kwargs)
        known = self._results.recall(mode, call)
        if known is not None:
            mode.written = set()
            mode.may_raise, mode.is_total = known.may_raise, known.is_total
            return known.result, list(known.operators)
        drew, mode.draws_random = mode.draws_random, False
        try:
            result, operators = self._run_fake(op, target, args, kwargs)
            if not (mode.draws_random or mode.written or any(may_mutate(operator) for operator in operators)):
                self._results.remember(mode, call, Ran(result, tuple(operators), mode.may_raise, mode.is_total))
        finally:
            mode.draws_random |= drew
        return result, operators

    def _run_fake(self, op: str, target: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
        self.fake_mode.operators = operators = []
        self.fake_mode.data = None if self.is_in_subgraph else self.data.sizes()  # a subgraph takes tensors only
        self.fake_mode.written = set()
        self.fake_mode.may_raise, self.fake_mode.is_total = False, True
        self.ran_user_code |= target_is_users(op, target)
        self.scalars.operation = _target_name(target)
        _FAKE_LOGGER.disabled = True  # it logs what it raises; we report that ourselves
        try:
            many = self.scalars.env.unknown_as_many() if self.data else nullcontext()
            with self.fake_mode, unheard_warnings(), self._as_larger_sizes(target), many:
                if op == "call_function":
                    result = target(*args, **kwargs)
                else:
                    result = getattr(args[0], target)(*args[1:], **kwargs)
        except DataDependentOutputException as error:
            raise GraphBreak(
                BreakId.DATA_DEPENDENT_VALUE, f"`{_target_name(target)}` needs the data of a tensor ({error.func})"
            ) from error
        except DynamicOutputShapeException as error:
            cause = f"the shape of `{_target_name(target)}` depends on data ({error.func})"
            raise ShapeOfDataBreak(cause) from error
        except GraphBreak:
            raise  # the environment's, about what only the run knows
        except (UnsupportedOperatorException, NotImplementedError) as error:
            raise GraphBreak(
                BreakId.FAKE_TENSOR_FAILED, f"`{_target_name(target)}` has no fake implementation: {error}"
            ) from error
        except Exception as error:
            raise EagerWouldRaise(error) from error
        finally:
            self.scalars.operation = ""
            _FAKE_LOGGER.disabled = False
            self.ran_user_code |= any(map(is_users, operators))
        if any(_quantizes(operator) for operator in operators):
            raise GraphBreak(BreakId.TENSOR_KIND, f"`{_target_name(target)}` makes a quantized tensor")
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and not _is_fake(leaf):
                raise GraphBreak(
                    BreakId.FAKE_TENSOR_FAILED, f"`{_target_name(target)}` returned a real tensor from fake ones"
                )
        return result, operators

    def _as_larger_sizes(self, target: Any) -> AbstractContextManager[None]:
        """What to run an operation in that computes the same whichever way it takes for sizes of 1."""
        return self.scalars.env.as_larger_sizes() if self.sizes and target in RIGHT_FOR_ONE else nullcontext()

    def _forget_results(self) -> None:
        """What ran before is no answer any more, here and below (see `FakeResults`)."""
        self._results.forget()
        if "fake_mode" in vars(self):  # or nothing ran under it
            self.fake_mode.forget_results()

    def discard(self, node: torch.fx.Node) -> None:
        """Take back the operation recorded last: its result is known without running it."""
        node.graph.erase_node(node)
        self._operations -= 1

    def node_of_fake(self, fake: torch.Tensor) -> torch.fx.Node | None:
        """The node whose fake result is this very tensor object."""
        return self._node_of_fake.get(id(fake))

    @property
    def cannot_repeat(self) -> str:
        """What the graph does that keeps the frame from being run again when the graph raises; empty if nothing does.

        Operators and functions of the user's do where the program handles the error and goes on, call after call;
        where it gets out of the frame, their second run is told of (`interpreter.output.run_eagerly`)."""
        if self.calls_hooks or (self.calls_user_code and self.is_handled):
            return "a call of code of the user's"
        return "a write to a tensor" if self.input_writes.for_good else ""

    @property
    def can_rerun(self) -> bool:
        """Whether the frame can run again, as plain Python, when the graph raises: any operation may, for arguments
        that its fake implementation takes. Known ones (`is_rerun`) keep a graph from what cannot be repeated."""
        return self.is_rerun or not (
            self.cannot_repeat or self.input_writes or self.calls_user_code or self.fake_mode.draws_random
        )

    def check_outputs(self, outputs: Sequence[torch.fx.Node]) -> None:
        """Raise GraphBreak if one of them is of a subgraph: a tensor that got out of a function that torch runs."""
        if any(node.graph is not self.graph for node in outputs):
            cause = "a tensor that leaves a function that torch transforms in another way than by being returned"
            raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, cause)

    @property
    def operations(self) -> int:
        """How many operations were recorded so far."""
        return self._operations

    @property
    def has_operations(self) -> bool:
        """Whether anything but inputs was recorded."""
        return self._operations > 0

    @property
    def node_count(self) -> int:
        """How many nodes there are in the graph that is being recorded into, inputs included."""
        return self._open[-1].node_count

    # The end

    def release(self) -> None:
        """The trace is over: let go of what is not part of a finished graph."""
        self.values_of_objects.clear()
        self.values_of_fakes.clear()
        self.scalars.release()
        self._forget_results()
        is_kept = self._opened[0].is_finished
        for opened in self._opened:
            if not (is_kept and opened.is_finished):
                opened.release()

    def freeze(self, outputs: Sequence[torch.fx.Node]) -> TracedGraph:
        """End the graph: outputs in order (a node may stand twice), dead code removed, unused inputs dropped."""
        if self.sizes or self.data:
            storages = {fake.untyped_storage()._cdata for fake in map(_example_of, outputs) if _is_tensor(fake)}
            self._shared_at_one.left(storages, self._inputs_of, lambda: self.scalars.env)
        self.check_data()
        self.graph.output(tuple(outputs))
        _remove_dead(self.graph)
        inputs: list[GraphInput] = []
        for node, entry in self._inputs.values():
            if node.users:
                inputs.append(self._as_it_arrives(node, entry))
            else:
                self.graph.erase_node(node)
        position = {node.name: index for index, node in enumerate(self.graph.find_nodes(op="placeholder"))}
        inputs.sort(key=lambda entry: position[entry.name])
        fakes = tuple(_example_of(node) for node in outputs)
        return TracedGraph(self._open[0].finish(), tuple(inputs), fakes, bool(self.data))

    def _as_it_arrives(self, node: torch.fx.Node, entry: GraphInput) -> GraphInput:
        """An input, its fake with the layout that it has in front of the graph, where an operation changed that."""
        changed = None if entry.is_number else arriving(entry.fake, entry.example, node.meta.get(LAYOUT), self.scalars)
        if changed is None:
            return entry
        with self.fake_mode:
            node.meta[EXAMPLE] = torch.empty_strided(**changed)
        return dataclasses.replace(entry, fake=node.meta[EXAMPLE])


def _remove_dead(graph: torch.fx.Graph) -> None:
    for node in reversed(graph.nodes):
        if node.op in ("call_function", "call_method") and not node.users and not node.meta.get(IMPURE, True):
            graph.erase_node(node)


def _is_fake(tensor: torch.Tensor) -> bool:
    """Whether a tensor is fake, below the wrappers of the transforms that are running."""
    while _C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _C._functorch.get_unwrapped(tensor)
    return isinstance(tensor, FakeTensor)


def _example_of(node: torch.fx.Node) -> Any:
    return node.meta[EXAMPLE]


def _target_name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _quantizes(operator: Any) -> bool:
    """Whether an operator makes a tensor that fake ones cannot stand for: they know no scale, nor even the dtype."""
    name = getattr(getattr(operator, "overloadpacket", operator), "__name__", "")
    return name.startswith(("quantize_per_", "_empty_affine_quantized", "_empty_per_channel", "_make_per_"))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def _is_symbolic(value: Any) -> bool:
    """Whether it is a symbolic number, or a tensor with symbolic sizes."""
    return isinstance(value, _NUMBERS) or (isinstance(value, FakeTensor) and bool(value._has_symbolic_sizes_strides))


def _holds_tensor(result: Any) -> bool:
    if isinstance(result, torch.Tensor):
        return True
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result))
