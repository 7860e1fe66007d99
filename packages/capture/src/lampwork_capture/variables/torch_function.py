"""TorchFunctionValue: a function of torch that becomes a node of the graph, and the torch functions answered at once.

Which functions go into the graph is a closed set, made once: torch's generated functions, those of
`torch.nn.functional` and their kin, registered operators. What only asks for properties or for guarded global state is
a constant. Invariant: a function that is in neither set breaks the graph or is traced as the Python code that it is.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.backends.mha
import torch.fft
import torch.functional
import torch.nn.functional
import torch.special
from lampwork_symshape import ContradictionError

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import GLOBAL_STATE, GlobalStateIs
from ..guards.global_state import reader_of
from ..source import AttributeSource, ModuleSource, Source
from .array import ArrayValue, tensor_from_array
from .base import Tracer, Value, graph_arguments
from .constant import fold, snapshot
from .function_override import overridden
from .operators import binary
from .registry import handles
from .sequence import SequenceValue
from .sym_scalar import SymScalarValue, is_symbolic
from .sym_truth import SymTruthValue, causal_for_one
from .tensor import TensorValue
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_TORCH: Any = torch  # for its parts that have no stubs
_C: Any = torch._C
# Functions of the generated namespaces that do not belong into a graph: they change state, or make tensors of what a
# graph cannot hold
_NOT_IN_GRAPH = frozenset(
    {"from_numpy", "frombuffer", "from_file", "from_dlpack", "set_printoptions", "save", "load", "compile", "vmap",
     "cond", "while_loop", "get_device", "is_vulkan_available", "parse_ir", "_sync", "_unsafe_view",
     "fork", "wait", "import_ir_module", "sparse_coo_tensor", "sparse_compressed_tensor", "sparse_csr_tensor"}
)  # fmt: skip
_ERRORS_OF_CHECKS = ("index", "value", "type", "not_implemented")
_PYTHON_FUNCTIONAL_EXCLUDED = frozenset({"boolean_dispatch", "handle_torch_function", "has_torch_function"})


def _graph_functions() -> frozenset[int]:
    """The ids of the functions that become nodes; torch keeps them alive."""
    found: list[Any] = []
    generated: Any = _C._VariableFunctions
    found += [getattr(generated, name) for name in dir(generated) if not name.startswith("__")]
    for namespace in (_C._nn, _C._linalg, _C._fft, _C._special):
        found += [value for name, value in vars(namespace).items() if not name.startswith("__")]
    for name, value in vars(torch.nn.functional).items():
        if name.startswith("_") or name in _PYTHON_FUNCTIONAL_EXCLUDED or not isinstance(value, types.FunctionType):
            continue
        if value.__module__ in ("torch.nn.functional", "torch._jit_internal"):
            found.append(value)
    found += [getattr(torch.functional, name) for name in torch.functional.__all__]
    for namespace in (torch.fft, torch.special, torch.linalg):
        found += [value for name, value in vars(namespace).items() if not name.startswith("_") and callable(value)]
    return frozenset(id(f) for f in found if callable(f) and getattr(f, "__name__", "") not in _NOT_IN_GRAPH)


_GRAPH_FUNCTIONS = _graph_functions()
# By id of a method of tensors: its name, which its `__name__` need not be
_TENSOR_METHODS = {
    id(value): name
    for base in (torch._C.TensorBase, torch.Tensor)
    for name, value in vars(base).items()
    if callable(value)
}
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)


def is_graph_function(function: Any) -> bool:
    """Whether calls of a function become nodes of the graph."""
    if issubclass(type(function), _OPERATORS):
        return True
    return id(function) in _GRAPH_FUNCTIONS or id(function) in _TENSOR_METHODS


class TorchFunctionValue(Value):
    """A function of torch, or a tensor method reached through its class (`torch.Tensor.add`)."""

    kind = "a torch function"
    __slots__ = ("obj",)

    def __init__(self, function: Any, source: Source | None = None) -> None:
        super().__init__(source)
        self.obj = function

    def describe(self) -> str:
        return f"`{getattr(self.obj, '__name__', self.obj)}`"

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> Any:
        return self.obj

    def as_graph_argument(self) -> Any:
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} is passed to a torch operation")

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        args = [arg.realize() for arg in args]
        taken = overridden(tracer, self.obj, args, kwargs)
        if taken is not None:
            return taken
        if id(self.obj) in _TENSOR_METHODS and args and isinstance(args[0], TensorValue):
            name = _TENSOR_METHODS[id(self.obj)]
            if getattr(torch.Tensor, name, None) is self.obj:
                return args[0].call_method(tracer, name, args[1:], kwargs)
        elif id(self.obj) in _TENSOR_METHODS:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the tensor method {self.describe()} without a tensor")
        if self.obj in (torch.tensor, torch.as_tensor) and args and isinstance(args[0], ArrayValue):
            return tensor_from_array(tracer, self.obj, args, kwargs)
        if self.obj is torch.nn.functional.scaled_dot_product_attention:
            for name in ATTENTION_FLAGS:  # they choose its kernel
                guarded_state(tracer, name)
            kwargs = causal_for_one(tracer, args, kwargs)
        node_args, node_kwargs = graph_arguments(args, kwargs)
        result = tracer.add_node("call_function", self.obj, node_args, node_kwargs)
        out = kwargs.get("out")
        if out is not None and isinstance(out.realize(), TensorValue) and isinstance(result, TensorValue):
            return out.realize()
        return result

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op in (operator.eq, operator.ne) and other.is_constant():
            return tracer.constant(op(self.obj, other.as_constant()))
        return None

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        found = fold(tracer, getattr, self.obj, name)
        return tracer.constant(found)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)


# Answered at once

# What they answer is covered by the global-state guard, or cannot change in a process
_STATE_READERS: tuple[Callable[..., Any], ...] = (
    torch.is_grad_enabled,
    torch.is_inference_mode_enabled,
    torch.is_autocast_enabled,
    torch.is_autocast_cpu_enabled,
    torch.is_autocast_cache_enabled,
    torch.get_autocast_dtype,
    torch.get_autocast_gpu_dtype,
    torch.get_autocast_cpu_dtype,
    torch.get_default_dtype,
    torch.get_default_device,
    torch.are_deterministic_algorithms_enabled,
    torch.get_num_threads,
    torch.get_deterministic_debug_mode,
    torch.is_deterministic_algorithms_warn_only_enabled,
    torch._C._is_any_autocast_enabled,
    torch.cuda.is_available,
    torch.backends.mps.is_available,
    torch.backends.mkldnn.is_available,
    torch.amp.is_autocast_available,
    torch.distributed.is_available,
    torch.typename,
    torch.promote_types,
    torch.result_type,
    torch.can_cast,
    _TORCH._utils._get_device_index,
)


def _fold_handler(function: Callable[..., Any]) -> None:
    @handles(function)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if function is torch.is_grad_enabled and tracer.graph.runs_later:
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, "a `backward` that asks for the grad mode: known when it runs")
        plain = [_metadata_argument(arg) for arg in args]
        named = {name: _metadata_argument(arg) for name, arg in kwargs.items()}
        return tracer.constant(fold(tracer, function, *plain, **named))


def _metadata_argument(value: Value) -> Any:
    value = value.realize()
    return value.fake if isinstance(value, TensorValue) else snapshot(value)


@handles(torch.broadcast_shapes)
def broadcast_shapes(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Sizes that are symbols stay so."""
    shapes = [_shape_argument(tracer, arg.realize()) for arg in args]
    return tracer.constant(fold(tracer, torch.broadcast_shapes, *shapes))


def _shape_argument(tracer: Tracer, value: Value) -> Any:
    if isinstance(value, SymScalarValue):
        return tracer.graph.scalars.symbol_of(value.term)
    if isinstance(value, SequenceValue):
        return tuple(_shape_argument(tracer, item) for item in value.unpack(tracer))
    return _metadata_argument(value)


for _function in (*_STATE_READERS, torch.finfo, torch.iinfo, torch.device):
    _fold_handler(_function)


# What they answer is guarded by itself where a program asks
ATTENTION_FLAGS = ("flash attention allowed", "memory-efficient attention allowed", "plain attention allowed")
_ASKED_STATE: dict[str, tuple[Callable[..., Any], ...]] = {
    "flash attention allowed": (torch.backends.cuda.flash_sdp_enabled, torch._C._get_flash_sdp_enabled),
    "memory-efficient attention allowed": (
        torch.backends.cuda.mem_efficient_sdp_enabled,
        torch._C._get_mem_efficient_sdp_enabled,
    ),
    "plain attention allowed": (torch.backends.cuda.math_sdp_enabled, torch._C._get_math_sdp_enabled),
    "cudnn attention allowed": (torch.backends.cuda.cudnn_sdp_enabled, torch._C._get_cudnn_sdp_enabled),
    "attention priority": (torch._C._get_sdp_priority_order,),
    "cudnn allowed": (torch._C._get_cudnn_enabled,),
    "cudnn benchmark": (torch._C._get_cudnn_benchmark,),
    "cudnn deterministic": (torch._C._get_cudnn_deterministic,),
    "cudnn tf32": (torch._C._get_cudnn_allow_tf32,),
    "cublas tf32": (torch._C._get_cublas_allow_tf32,),
    "mkldnn allowed": (torch._C._get_mkldnn_enabled,),
    "matmul precision": (torch.get_float32_matmul_precision, torch._C._get_float32_matmul_precision),
    "anomaly detection": (torch.is_anomaly_enabled,),
    "distributed initialized": (torch.distributed.is_initialized,) if torch.distributed.is_available() else (),
    "deterministic fill": (torch._C._get_deterministic_fill_uninitialized_memory,),
    "warn always": (torch.is_warn_always_enabled,),
    "cuda initialized": (torch.cuda.is_initialized,),
    "cuda stream capturing": (torch.cuda.is_current_stream_capturing,),
}


def guarded_state(tracer: Tracer, name: str) -> Any:
    """A piece of global state that is guarded on demand: as it was when first asked for, since the traced program may
    change it afterwards."""
    try:
        found = reader_of(name).read()
    except RuntimeError as error:  # of a device that this torch was not built for
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"asking for {name}: {error}") from None
    if name not in tracer.graph.asked_state:
        tracer.graph.asked_state.add(name)
        tracer.guard(GlobalStateIs(GLOBAL_STATE, ((name, found),)))
    return found


def _asked_handler(name: str, function: Callable[..., Any]) -> None:
    @handles(function)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return tracer.constant(guarded_state(tracer, name))


for _name, _functions in _ASKED_STATE.items():
    for _function in _functions:
        _asked_handler(_name, _function)


def _answer(function: Any, answer: Any) -> None:
    @handles(function)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return tracer.constant(answer)


for _function in (torch.compiler.is_compiling, torch.compiler.is_dynamo_compiling):
    _answer(_function, True)
for _function in (
    torch.compiler.is_exporting,
    _TORCH.jit.is_scripting,
    _TORCH.jit.is_tracing,
    torch._C._get_tracing_state,
    torch.onnx.is_in_onnx_export,
):
    _answer(_function, None if _function is torch._C._get_tracing_state else False)
_answer(torch._C._log_api_usage_once, None)


@handles(torch.is_tensor)
def is_tensor(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(issubclass(args[0].realize().python_type(), torch.Tensor))


@handles(torch.overrides.is_tensor_like)
def is_tensor_like(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(hasattr(args[0].realize().python_type(), "__torch_function__"))


@handles(torch.Size, like=lambda iterable=(), /: None)
def make_size(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    items = args[0].realize().unpack(tracer) if args else []
    if any(map(is_symbolic, items)) and all(item.python_type() is int for item in items):
        return TupleValue(items, torch.Size)
    return tracer.constant(fold(tracer, torch.Size, [snapshot(item) for item in items]))


@handles(torch.manual_seed, torch.seed, torch.set_default_dtype, torch.set_default_device, torch.set_rng_state,
         torch.use_deterministic_algorithms, torch.get_rng_state, torch.initial_seed)  # fmt: skip
def changes_state(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a function that reads or changes torch's global state")


@handles(torch.nn.Parameter, torch.nn.Buffer)
def make_parameter(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "making a parameter or buffer inside the compiled function")


@handles(torch.Tensor)
def make_legacy_tensor(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`torch.Tensor(...)`", hint="Use `torch.tensor` or `torch.empty`.")


@handles(torch._assert)
def assert_condition(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`torch._assert(condition, message)`: the condition becomes a fact; one that fails, or is a tensor, breaks."""
    return _state(tracer, args[0].realize())


@handles(torch._check, *(getattr(_TORCH, f"_check_{what}") for what in _ERRORS_OF_CHECKS))
def check_condition(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`torch._check(condition)` and those that raise other errors: the same, of a bool alone."""
    condition = args[0].realize()
    if not isinstance(condition, TensorValue) and condition.python_type() is not bool:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "a check of something that is no bool: eager raises")
    return _state(tracer, condition)


def _state(tracer: Tracer, condition: Value) -> Value:
    """Rely on a condition that the program states. What it raises where that does not hold, eager raises."""
    if isinstance(condition, TensorValue):
        raise GraphBreak(BreakId.DATA_DEPENDENT_BRANCH, "an assertion on tensor data")
    if isinstance(condition, SymTruthValue):
        try:
            condition.require()
        except ContradictionError as error:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"an assertion that fails: {error}") from error
        return tracer.constant(None)
    if condition.truth(tracer):
        return tracer.constant(None)
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "an assertion that fails: eager raises")


def _check_is_size(i: int, message: Any = None, *, max: int | None = None) -> None: ...


@handles(*filter(None, [getattr(_TORCH, "_check_is_size", None)]), like=_check_is_size)
def check_is_size(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`torch._check_is_size(i, max=None)`: two facts, that the number is not negative, and at most `max`."""
    most = kwargs.get("max")
    _state(tracer, binary(tracer, operator.ge, args[0], tracer.constant(0)))
    if most is not None and not tracer.is_none(most):
        _state(tracer, binary(tracer, operator.le, args[0], most))
    return tracer.constant(None)


@handles(torch.backends.mha.get_fastpath_enabled)
def attention_fastpath(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    name = "_is_fastpath_enabled"
    return tracer.wrap(
        getattr(torch.backends.mha, name), AttributeSource(ModuleSource(torch.backends.mha.__name__), name)
    )
