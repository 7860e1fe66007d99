"""From a captured graph to a functional one: run it once on fake tensors under functionalization and the recorder.

The layers, outermost first: autograd and autocast as the call would have them, functionalization (writes become new
values, views are replayed), the recorder (`trace`), fake tensors. Afterwards the wrappers tell what was mutated and
what aliases what. Invariant: the trace leaves nothing behind: no mutated input, no mode, no autocast state.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import SymFloat, SymInt, Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode

from ..graph.runtime_assert import require
from ..graph.transforms import call_transform, tensors_in
from ..graph_backend import DATA_SIZES
from . import attention_calls, checkpointing, fused_optimizers, hidden_writes, symbolic_forms, torch_layer
from .ambient_state import AmbientState
from .analysis import Observed, WrappedInput, analyse
from .backward_lines import BackwardLines
from .c_floats import computed_float, with_stand_ins
from .decompositions import DEFAULT_DECOMPOSITIONS
from .errors import UnsupportedForAot
from .fold import fold
from .layouts import LayoutKeeper
from .metadata import FunctionalGraph, InputSpec
from .overlap import outputs, overlapping_write, resizes_what_it_shares
from .settings import Settings
from .trace import AtenRecorder, DecompositionTable
from .verify import verify_if_asked

_REPLACEMENTS = {
    **hidden_writes.REPLACEMENTS,
    **symbolic_forms.REPLACEMENTS,
    **fused_optimizers.REPLACEMENTS,
    **attention_calls.REPLACEMENTS,
}
_PLACEHOLDER_META = ("source", "user_line", "stack_trace", "tensor_meta")
_NODE_META = ("user_line", "stack_trace", "nn_module_stack", "source_fn_stack")
_PLAIN_TYPES = (Tensor, nn.Parameter, nn.Buffer, FakeTensor)
# Calls whose effect is on the process, not on tensors: they must happen at every call, so they cannot be traced away.
_FOREIGN_MODULES = ("torch._functorch", "torch._C._functorch", "torch.random", "torch.cuda", "torch.autograd.graph")
_FOREIGN_CALLS = frozenset(
    {torch.manual_seed, torch.seed, torch.set_rng_state, torch.get_rng_state, torch.autograd.grad}
    | {torch_layer.make_dual, torch_layer.unpack_dual}
)


class History(enum.Enum):
    """What autograd knows of an input."""

    NONE = "requires no gradients"
    LEAF = "requires gradients"
    COMPUTED = "was computed from what requires gradients"


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input before tracing: its description, its fake tensor (or number) and, if lifted, the tensor itself."""

    spec: InputSpec
    value: Any
    meta: dict[str, Any]
    lifted: Tensor | None = None
    history: History = History.NONE

    @staticmethod
    def of(spec: InputSpec, value: Any, meta: dict[str, Any], lifted: Tensor | None = None) -> GraphInput:
        """With the history that `value` has: a trace may change what autograd knows of it."""
        history = History.NONE
        if isinstance(value, Tensor) and value.requires_grad:
            history = History.LEAF if value.is_leaf else History.COMPUTED
        return GraphInput(spec, value, meta, lifted, history)


def trace_functional(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    decompositions: DecompositionTable = DEFAULT_DECOMPOSITIONS,
    with_autograd: bool = False,
) -> FunctionalGraph:
    """The functional ATen form of `graph`, as it behaves under the ambient autocast state.

    `example_inputs`: one real or fake tensor, SymInt or number per placeholder. `with_autograd`: let the inputs that
    require gradients do so in the trace, under the ambient grad mode, to learn whether outputs require them; otherwise
    the trace runs as under `no_grad`. Raises UnsupportedForAot, or whatever the captured graph itself raises.
    """
    return trace_prepared(prepare(graph, example_inputs), decompositions, with_autograd=with_autograd)


def trace_prepared(prepared: Prepared, decompositions: DecompositionTable, *, with_autograd: bool) -> FunctionalGraph:
    """The same for a graph that is prepared."""
    with traced(prepared, decompositions, with_autograd=with_autograd) as trace:
        functional_graph, result_count = fold(trace.recorder.graph, trace.observed.results)
    functional = finish(prepared, trace, functional_graph, result_count)
    verify_if_asked(functional.graph)
    return functional


@dataclass(frozen=True, slots=True)
class Prepared:
    """A captured graph with the fake inputs that it is traced with, any number of times."""

    graph: fx.GraphModule
    fake_mode: FakeTensorMode
    inputs: tuple[GraphInput, ...]
    state: AmbientState

    @property
    def lifted(self) -> tuple[Tensor, ...]:
        """The tensors that the captured graph holds itself, which follow the caller's inputs."""
        return tuple(item.lifted for item in self.inputs if item.lifted is not None)


@dataclass(frozen=True, slots=True)
class Trace:
    """One run of the captured graph: what was recorded and what it did. Alive only inside of `traced`."""

    recorder: AtenRecorder
    wrapped: tuple[Any, ...]  # the inputs as the graph saw them
    edges: tuple[GradientEdge | None, ...]  # for inputs that require gradients: where these arrive
    wrap: Callable[[Tensor], Tensor]  # a fake tensor made into one that the trace can use
    observed: Observed
    grad_mode_after: bool | None
    lines: BackwardLines
    saved: tuple[fx.Node, ...]  # what autograd saved: what eager would keep


def prepare(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Prepared:
    """Fake inputs for `graph`: one real or fake tensor, SymInt or number per placeholder is given."""
    fake_mode = find_fake_mode(graph, example_inputs)
    with torch.inference_mode(False):
        inputs = tuple(collect_inputs(graph, example_inputs, fake_mode))
    devices = {item.value.device.type for item in inputs if isinstance(item.value, Tensor)}
    return Prepared(graph, fake_mode, inputs, AmbientState.read(devices))


@contextlib.contextmanager
def traced(
    prepared: Prepared, decompositions: DecompositionTable, *, with_autograd: bool
) -> Generator[Trace, None, None]:
    """Runs the graph on its fake inputs; while the context is open, more operators can be recorded behind it."""
    graph, inputs = prepared.graph, prepared.inputs
    verify = Settings.from_environment().verify
    recorder = AtenRecorder(prepared.fake_mode, decompositions, verify=verify, merges=not with_autograd)
    recorder.writes = any(
        node.op.startswith("call") and node.meta.get("lampwork_mutates", True) for node in graph.graph.nodes
    )
    for item in inputs:
        recorder.placeholder(item.spec.name, item.value, item.meta)
    symbolic = any(isinstance(item.value, SymInt) or _is_symbolic(item.value) for item in inputs)
    symbolic |= graph.meta.get(DATA_SIZES, False)
    grad_before = torch.is_grad_enabled()
    saved: dict[fx.Node, None] = {}

    def note(tensor: Tensor) -> Tensor:
        if torch_layer.is_functional(tensor):
            node = recorder.find_node(torch_layer.from_functional(tensor))
            if node is not None:
                saved[node] = None
        return tensor

    is_tracked = grad_before and with_autograd
    with prepared.state.entered(), _tracing(prepared.fake_mode, recorder, symbolic, is_tracked, note) as wrap:
        histories = [item.history if with_autograd else History.NONE for item in inputs]
        wrapped = [
            wrap(item.value, history) if isinstance(item.value, Tensor) else item.value
            for item, history in zip(inputs, histories)
        ]
        edges = [
            get_gradient_edge(w) if history is not History.NONE else None for w, history in zip(wrapped, histories)
        ]
        arrivals = [_arrival(item.value, w) for item, w in zip(inputs, wrapped)]
        lines = BackwardLines()
        runner = _GraphRunner(graph, recorder, wrapped, inputs, lines)
        observed = analyse(inputs=arrivals, outputs=runner.run(), recorder=recorder)
        grad_after = runner.grad_mode if runner.grad_mode != grad_before else None
        yield Trace(recorder, tuple(wrapped), tuple(edges), wrap, observed, grad_after, lines, tuple(saved))


def _arrival(fake: Any, wrapper: Any) -> WrappedInput:
    if not isinstance(wrapper, Tensor):
        return WrappedInput(fake, wrapper, None)
    return WrappedInput(fake, wrapper, torch_layer.storage_address(wrapper), wrapper.grad_fn)


def finish(prepared: Prepared, trace: Trace, graph: fx.Graph, result_count: int) -> FunctionalGraph:
    """The functional graph that `graph`, made of what the trace recorded, is."""
    attention_calls.in_torchs_words(graph)
    module = fx.GraphModule(_holder(trace.recorder.constants), graph, class_name="FunctionalGraph")
    signature = trace.observed.signature(
        inputs=tuple(item.spec for item in prepared.inputs),
        result_count=result_count,
        grad_mode_after=trace.grad_mode_after,
    )
    return FunctionalGraph(module, signature, prepared.lifted)


def _holder(constants: dict[str, Tensor]) -> nn.Module:
    module = nn.Module()
    for name, tensor in constants.items():
        module.register_buffer(name, tensor, persistent=False)
    return module


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, Tensor) and any(isinstance(s, SymInt) for s in value.shape)


# -- inputs


def find_fake_mode(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> FakeTensorMode:
    """The fake mode the graph was captured under, or a new one."""
    for node in graph.graph.nodes:
        if node.op != "placeholder":
            break
        value = _captured_value(node)
        if isinstance(value, FakeTensor):
            return value.fake_mode
    for value in example_inputs:
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return FakeTensorMode()


def _captured_value(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return node.meta.get("example_value") if value is None else value


def collect_inputs(graph: fx.GraphModule, example_inputs: Sequence[Any], fake_mode: FakeTensorMode) -> list[GraphInput]:
    """The placeholders in order, then every tensor that the graph holds itself."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != len(example_inputs):
        raise ValueError(f"the graph has {len(placeholders)} placeholders, got {len(example_inputs)} example inputs")
    inputs: list[GraphInput] = []
    for node, example in zip(placeholders, example_inputs):
        meta = {key: node.meta[key] for key in _PLACEHOLDER_META if key in node.meta}
        static = node.meta.get("static_input", isinstance(example, nn.Parameter))
        value = _fake_input(node, example, fake_mode)
        spec = InputSpec(node.name, bool(static), meta.get("source"), is_tensor=isinstance(value, Tensor))
        spec = _with_offset(spec, value)
        inputs.append(GraphInput.of(spec, value, {**meta, "static_input": bool(static)}))
    taken = {item.spec.name for item in inputs}
    for name, tensor in held_tensors(graph):
        label = "held_" + "".join(c if c.isalnum() else "_" for c in name)
        while label in taken:
            label += "_"
        taken.add(label)
        _check_plain(tensor, name)
        fake = _fake_of(tensor, fake_mode)
        spec = _with_offset(InputSpec(label, True, None, lifted=True), fake)
        inputs.append(GraphInput.of(spec, fake, {"static_input": True}, tensor))
    return inputs


def _with_offset(spec: InputSpec, value: Any) -> InputSpec:
    offset = value.storage_offset() if isinstance(value, Tensor) else None
    return replace(spec, storage_offset=offset if isinstance(offset, int) else None)


def _fake_input(node: fx.Node, example: Any, fake_mode: FakeTensorMode) -> Any:
    captured = _captured_value(node)
    if isinstance(captured, SymInt | SymFloat):
        return captured
    if not isinstance(example, Tensor):
        return example
    _check_plain(example, node.name)
    if isinstance(captured, FakeTensor) and captured.fake_mode is fake_mode:
        # A capture that ran `x.t_()` on its fake tensor has changed it: then the example says how the input arrives.
        unchanged = _is_symbolic(captured) or (
            captured.shape == example.shape
            and captured.stride() == example.stride()
            and captured.dtype == example.dtype
        )
        if unchanged:
            return _normal(captured, fake_mode)
    if isinstance(example, FakeTensor):
        return _normal(example, fake_mode)
    return _fake_of(example, fake_mode)


def _fake_of(tensor: Tensor, fake_mode: FakeTensorMode) -> Tensor:
    return _normal(fake_mode.from_tensor(tensor, static_shapes=True), fake_mode)


def _normal(fake: Tensor, fake_mode: FakeTensorMode) -> Tensor:
    """`fake`, or, if it is an inference tensor (which refuses in-place operators here), an ordinary one like it."""
    if not fake.is_inference():
        return fake
    length = fake.untyped_storage().nbytes() // fake.itemsize
    with fake_mode:
        memory = torch.empty(length, dtype=fake.dtype, device=fake.device)
        return memory.as_strided(fake.shape, fake.stride(), fake.storage_offset())


def _check_plain(tensor: Tensor, name: str) -> None:
    plain = type(tensor) in _PLAIN_TYPES or isinstance(tensor, FakeTensor)
    # A subclass of Parameter without a dispatch of its own is a parameter with attributes.
    if not plain and not (
        isinstance(tensor, nn.Parameter)
        and getattr(type(tensor), "__torch_dispatch__", None) is torch_layer.disabled_dispatch_impl
    ):
        raise UnsupportedForAot(f"input {name} is a tensor subclass, {type(tensor).__name__}")
    if tensor.layout is not torch.strided:
        raise UnsupportedForAot(f"input {name} has layout {tensor.layout}")
    if tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        raise UnsupportedForAot(f"input {name} is quantized, lazily conjugated or lazily negated")


def held_tensors(graph: fx.GraphModule) -> Iterator[tuple[str, Tensor]]:
    """Every tensor the graph reads from itself: attributes, and parameters and buffers of the modules it calls."""
    seen: set[int] = set()
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            found = _attribute(graph, node.target)
            entries = [(node.target, found)] if isinstance(found, Tensor) else []
        elif node.op == "call_module":
            module = graph.get_submodule(node.target)
            entries = [
                (f"{node.target}.{name}", tensor)
                for name, tensor in (*module.named_parameters(), *module.named_buffers())
            ]
        else:
            continue
        for name, tensor in entries:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor


def _attribute(root: Any, path: str) -> Any:
    for part in path.split("."):
        root = getattr(root, part)
    return root


# -- the state of the process while tracing


@contextlib.contextmanager
def _tracing(
    fake_mode: FakeTensorMode,
    recorder: AtenRecorder,
    symbolic: bool,
    grad: bool,
    pack: Callable[[Tensor], Tensor],
) -> Generator[Callable[..., Tensor], None, None]:
    """Everything on: yields the function that wraps a fake tensor for functionalization.

    `pack` sees what autograd saves. The caller's own hooks do not: they are for what the calls save.
    """

    def wrap(fake: Tensor, history: History = History.NONE) -> Tensor:
        wrapped = torch_layer.to_functional(fake)
        if history is History.LEAF or (history is History.COMPUTED and not grad):
            wrapped.requires_grad_()
        elif history is History.COMPUTED:
            _Computed.apply(torch.empty(0, requires_grad=True), wrapped)
        return wrapped

    cache = torch.is_autocast_cache_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(grad))
        stack.enter_context(saved_tensors_hooks(pack, _itself))
        stack.enter_context(torch_layer.disable_function_subclasses())
        torch.set_autocast_cache_enabled(False)  # its entries would outlive the trace
        stack.callback(torch.set_autocast_cache_enabled, cache)
        if symbolic:
            stack.enter_context(enable_python_dispatcher())
        stack.enter_context(fake_mode)
        stack.enter_context(recorder)
        torch_layer.enable_functionalization(reapply_views=True)
        stack.callback(torch_layer.disable_functionalization)
        yield wrap


def _lists_cross(lists: Sequence[Any]) -> bool:
    """Whether a tensor of the first list shares memory with one at another place of any of the lists."""
    place: dict[int, int] = {}
    for i, tensor in enumerate(lists[0]):
        if place.setdefault(torch_layer.storage_address(tensor), i) != i:
            return True
    return any(
        place.get(torch_layer.storage_address(tensor), i) != i
        for other in lists[1:]
        if isinstance(other, (list, tuple))
        for i, tensor in enumerate(other)
        if isinstance(tensor, Tensor)
    )


def _origin_of(meta: dict[str, Any]) -> dict[str, Any]:
    """What a recorded node inherits from the captured one; torch's captures give a stack trace in place of a line."""
    origin = {key: meta[key] for key in _NODE_META if key in meta}
    trace = origin.get("stack_trace")
    if "user_line" not in origin and isinstance(trace, str) and (start := trace.rfind('File "')) >= 0:
        origin["user_line"] = trace[start:].splitlines()[0]
    return origin


def _itself(value: Tensor) -> Tensor:
    return value


def _transformed(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """`call_transform` without the hooks that torch refuses there: whatever it reads and gives counts as saved."""
    with torch_layer.innermost_hooks_set_aside() as pack:
        results = call_transform(*args, **kwargs)
    for tensor in tensors_in((args, kwargs, results)):
        pack(tensor)
    return results


class _Computed(torch.autograd.Function):
    """Gives an input that was computed a gradient function of its own: such a tensor may be written to."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor) -> Tensor:
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gradients


class _ReplaceHiddenWrites(TorchFunctionMode):
    """While a module of the captured graph runs: functions that write behind their schema are replaced."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return hidden_writes.REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))


class _GraphRunner:
    """Runs the captured graph node by node on wrapped inputs."""

    def __init__(
        self,
        graph: fx.GraphModule,
        recorder: AtenRecorder,
        wrapped: Sequence[Any],
        inputs: Sequence[GraphInput],
        lines: BackwardLines,
    ) -> None:
        self._graph = graph
        self._recorder = recorder
        self._wrapped = wrapped
        self._lines = lines
        self._replacements = checkpointing.replacements(recorder)
        self._held = {id(i.lifted): w for i, w in zip(inputs, wrapped) if i.lifted is not None}
        self._layouts = LayoutKeeper(recorder, wrapped)
        self._autocasts: list[Any] = []
        self.grad_mode: bool | None = None  # as the graph last set it

    def run(self) -> Any:
        try:
            return self._run()
        finally:
            unbalanced = bool(self._autocasts)
            while self._autocasts:
                self._autocasts.pop().__exit__(None, None, None)
            if unbalanced and not self._failed:
                raise UnsupportedForAot("the graph enters autocast and does not leave it")

    def _run(self) -> Any:
        self._failed = True
        values: dict[fx.Node, Any] = {}
        arrivals = iter(self._wrapped)
        get = values.__getitem__
        for node in self._graph.graph.nodes:
            op = node.op
            if op == "placeholder":
                values[node] = next(arrivals)
                continue
            meta = node.meta
            self._recorder.origin = origin = _origin_of(meta)
            self._lines.entering(origin)
            if op == "output":
                self._failed = False
                return map_arg(node.args[0], get)
            if op == "get_attr":
                values[node] = self._held_value(_attribute(self._graph, node.target))
                continue
            args = map_arg(node.args, get)
            kwargs = map_arg(node.kwargs, get) if node.kwargs else {}
            seen = self._layouts.before(args, kwargs)
            before = outputs(kwargs) if "out" in kwargs else ()
            try:
                values[node] = self._run_node(node, args, kwargs)
                if resizes_what_it_shares(before, _captured_value(node), args, kwargs):
                    raise self._recorder.unsupported("`out` is given another size, and is read or part of other memory")
                self._layouts.after(seen, values[node])
            except UnsupportedForAot as error:
                raise self._located(error) from error
            except Exception as error:
                # The capture has run this node on fake tensors before: it is this stage that cannot run it. If the
                # user's program is at fault after all, the eager run raises what eager raises.
                raise self._recorder.unsupported(f"{type(error).__name__}: {error}", node.target) from error
        raise UnsupportedForAot("the captured graph has no output")

    def _run_node(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
        if name in ("set_", "as_strided_"):
            raise self._recorder.unsupported("a tensor is given other memory, or another place in it", name)
        if overlapping_write(name, args, kwargs):
            raise self._recorder.unsupported("a write reads other elements of the memory it writes to", name)
        if name.startswith("_foreach_") and name.endswith("_") and _lists_cross(args):
            raise self._recorder.unsupported("an operator on lists writes to a tensor that it also reads", name)
        if node.op == "call_function":
            number = computed_float(_captured_value(node), args)
            return self._call(node.target, args, kwargs) if number is None else number
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return self._call_module(str(node.target), args, kwargs)

    def _located(self, error: UnsupportedForAot) -> UnsupportedForAot:
        """The error with the user's line, where it was raised without knowing it."""
        line = self._recorder.origin.get("user_line")
        if error.user_line is not None or line is None:
            return error
        return type(error)(error.reason, operator=error.operator, user_line=line, hint=error.hint)

    def _held_value(self, value: Any) -> Any:
        return self._held[id(value)] if isinstance(value, Tensor) else value

    def _call(self, target: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs, stand_ins = with_stand_ins(target, args, kwargs)
        if stand_ins is None:
            return self._call_plain(target, args, kwargs)
        self._recorder.stand_ins = stand_ins
        try:
            result = self._call_plain(target, args, kwargs)
        finally:
            self._recorder.stand_ins = None
        stand_ins.check()
        return result

    def _call_plain(self, target: Any, args: Any, kwargs: Any) -> Any:
        replacement = _REPLACEMENTS.get(target) or self._replacements.get(target)
        if replacement is not None:
            return replacement(*args, **kwargs)
        if target is require:
            return self._recorder.require(*args)
        if target is torch_layer.set_grad_enabled:
            self.grad_mode = bool(args[0])
        elif isinstance(target, HigherOrderOperator):
            raise self._recorder.unsupported("a higher-order operator is not modelled", target.__name__)
        elif target in _FOREIGN_CALLS or str(getattr(target, "__module__", "")).startswith(_FOREIGN_MODULES):
            raise self._recorder.unsupported("a call acts on the process, not only on tensors", target)
        elif target is torch.amp.autocast_mode._enter_autocast:
            mode = target(*args, **kwargs)
            self._autocasts.append(mode)
            return mode
        elif target is torch.amp.autocast_mode._exit_autocast:
            if not self._autocasts or self._autocasts[-1] is not args[0]:
                raise self._recorder.unsupported("autocast contexts do not nest", target)
            self._autocasts.pop()
        with self._recorder.questions_of(target):
            return _transformed(*args, **kwargs) if target is call_transform else target(*args, **kwargs)

    def _call_module(self, name: str, args: Any, kwargs: Any) -> Any:
        module = self._graph.get_submodule(name)
        with self._swapped(module), _ReplaceHiddenWrites():
            return module(*args, **kwargs)

    @contextlib.contextmanager
    def _swapped(self, module: nn.Module) -> Generator[None, None, None]:
        """`module` with the traced values in the places of its parameters and buffers."""
        places = [
            (store, key, tensor)
            for child in module.modules()
            for store in (child._parameters, child._buffers)
            for key, tensor in store.items()
            if tensor is not None
        ]
        try:
            for store, key, tensor in places:
                cast("dict[str, Any]", store)[key] = self._held[id(tensor)]
            yield
        finally:
            for store, key, tensor in places:
                cast("dict[str, Any]", store)[key] = tensor
