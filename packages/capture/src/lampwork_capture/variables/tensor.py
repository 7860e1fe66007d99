"""TensorValue: a tensor of the graph: an FX node with the fake tensor that tells its properties.

Every operation on it becomes a node; what depends on shape, dtype, device or strides alone is answered at once as a
constant, or as a symbolic number. Invariants: one tensor object is one value, in-place operations return the same
value; what needs the data breaks the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import FunctionType, GetSetDescriptorType
from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from lampwork_symshape.contiguity import is_row_major
from lampwork_symshape.sym_node import expr_of

from ..data_sizes import WHOLE_DTYPES
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import AttributePresent, ByIdentity, IdentityIs
from ..interpreter.side_effects import emit_attribute_write
from ..polyfills import scaled_updates
from ..source import AttributeSource, ModuleSource, Source
from .base import Tracer, Value, graph_arguments
from .constant import snapshot
from .function_override import method_caller, overridden, overrides
from .method import BoundMethodValue, missing_attribute
from .operators import BINARY_METHODS, INPLACE_METHODS, binary
from .tensor_index import select_computed
from .tensor_number import TensorNumberValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_METADATA = frozenset(
    {"dtype", "device", "layout", "ndim", "requires_grad", "itemsize", "nbytes", "is_cuda", "is_cpu", "is_sparse",
     "is_sparse_csr", "is_quantized", "is_meta", "is_mkldnn", "is_nested", "is_xpu", "is_mps", "is_vulkan", "is_ipu",
     "is_xla", "is_mtia", "is_maia"}
)  # fmt: skip
_METADATA_METHODS = frozenset(
    {"dim", "ndimension", "stride", "numel", "nelement", "element_size", "is_contiguous", "is_floating_point",
     "is_complex", "is_signed", "get_device", "is_inference", "is_conj", "is_neg", "is_coalesced",
     "dim_order", "is_same_size"}
)  # fmt: skip
# Of a gradient only shape, dtype and device are known before backward runs
_UNKNOWN_LATER = frozenset(
    {"stride", "is_contiguous", "dim_order", "requires_grad", "is_leaf", "grad_fn", "storage_offset"}
)
_OF_ALL_SIZES = frozenset({"numel", "nelement", "is_contiguous", "dim_order", "is_same_size"})
_TENSOR_PROPERTIES = frozenset({"T", "mT", "H", "mH", "real", "imag", "data"})
_DATA_METHODS = frozenset({"item", "tolist", "__int__", "__float__", "__complex__", "__index__", "numpy", "__array__"})
_WHOLE_NUMBER = frozenset({"item", "__int__", "__index__"})
_MOST_NUMBERS = 64  # in one tensor that is read as a list
_BROKEN_METHODS = frozenset(
    {"backward", "register_hook", "register_post_accumulate_grad_hook", "retain_grad", "data_ptr", "storage",
     "untyped_storage", "pin_memory", "is_pinned", "set_", "resize_", "resize_as_", "requires_grad_", "share_memory_",
     "rename_", "__dlpack__", "__reduce_ex__", "__deepcopy__", "is_shared", "module_load", "record_stream", "apply_",
     "map_", "map2_", "__setstate__", "unflatten_", "to_sparse", "to_mkldnn", "as_subclass", "new", "is_set_to",
     "storage_offset", "_is_view", "_is_zerotensor"}
)  # fmt: skip
# They change what a tensor is, not its data: in the graph for tensors that it made itself
_RESHAPING_METHODS = frozenset(
    {"t_", "transpose_", "swapaxes_", "swapdims_", "squeeze_", "unsqueeze_", "as_strided_", "detach_"}
)

# Given a tensor in place of a number: by its name, and what is traced then
_SCALED: Mapping[str, tuple[str, Any]] = {
    "addcdiv_": ("value", scaled_updates.addcdiv_),
    "addcmul_": ("value", scaled_updates.addcmul_),
    "add_": ("alpha", scaled_updates.add_),
}


class TensorIdentity:
    """A tensor as key of a dict or set: tensors hash and compare by identity there."""

    __slots__ = ("value",)

    def __init__(self, value: TensorValue) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorIdentity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class TensorValue(Value):
    """A tensor while tracing. `obj` is the real tensor if it existed before the frame."""

    kind = "a tensor"
    __slots__ = ("fake", "node", "obj")

    def __init__(
        self,
        node: torch.fx.Node,
        fake: torch.Tensor,
        source: Source | None = None,
        obj: torch.Tensor | None = None,
    ) -> None:
        super().__init__(source)
        self.node = node
        self.fake = fake
        self.obj = obj

    def __repr__(self) -> str:
        return f"TensorValue({self.node}, {tuple(self.fake.shape)})"

    def python_type(self) -> type:
        if self.obj is not None:
            return type(self.obj)
        return torch.nn.Parameter if getattr(self.fake, "_is_param", False) else torch.Tensor

    def as_graph_argument(self) -> torch.fx.Node:
        return self.node

    def truth(self, tracer: Tracer) -> bool:
        raise GraphBreak(BreakId.DATA_DEPENDENT_BRANCH, f"the truth of {self.describe()} depends on its data")

    def hash_key(self, tracer: Tracer) -> Hashable:
        if self.source is not None:  # other tensors from outside are other keys as long as they are other objects
            tracer.graph.has_tensors_as_keys = True
        return TensorIdentity(self)

    def length(self, tracer: Tracer) -> int:
        return self.rows(tracer).as_constant()

    def rows(self, tracer: Tracer) -> Value:
        """The size of the first dimension, `len(tensor)`."""
        _refuse_modes(tracer)
        if self.fake.dim() == 0:
            tracer.raise_observed(TypeError, "len() of a 0-d tensor")
        return tracer.constant(self.fake.shape[0])

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        raise GraphBreak(BreakId.DATA_DEPENDENT_BRANCH, f"`in` on {self.describe()} depends on its data")

    # Attributes

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if tracer.function_modes and isinstance(getattr(torch.Tensor, name, None), (GetSetDescriptorType, property)):
            taken = overridden(tracer, operator.attrgetter(name), [self], {})
            if taken is not None:
                return taken
        if name in ("shape", "_shape"):
            return tracer.constant(self.fake.shape)
        if name in _UNKNOWN_LATER and tracer.graph.runs_later:
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, f"a `backward` that asks for `{name}`: known when it runs")
        if name == "nbytes" and self.has_symbols:
            return binary(tracer, operator.mul, self.count(tracer), tracer.constant(self.fake.element_size()))
        if name in _METADATA:
            return tracer.constant(getattr(self.fake, name))
        if name in _TENSOR_PROPERTIES:
            return tracer.add_node("call_function", getattr, (self.node, name), {})
        if name == "__class__":
            return tracer.constant(self.python_type())
        if name in ("is_leaf", "grad_fn", "grad"):
            return self._of_autograd(tracer, name)
        instance = self._instance_attribute(tracer, name)
        if instance is not None:
            return instance
        raw = getattr(self.python_type(), name, _MISSING)
        if raw is _MISSING:
            tracer.guard(AttributePresent(_TENSOR_SOURCE, name, False))
            missing_attribute(tracer, self, name)
        if is_users(raw):
            return self._users_method(tracer, name, raw)
        if callable(raw):
            return BoundMethodValue(self, name)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def _of_autograd(self, tracer: Tracer, name: str) -> Value:
        """`is_leaf`, `grad_fn` or `grad`. What a tensor that existed before the frame says of it is guarded."""
        if name == "is_leaf":
            if self.fake.requires_grad and self.source is not None and self.obj is not None:
                return tracer.wrap(self.obj.is_leaf, AttributeSource(self.source, name))
            return tracer.constant(self.fake.is_leaf)
        if name == "grad_fn":
            if not self.fake.requires_grad or self._of_autograd(tracer, "is_leaf").truth(tracer):
                return tracer.constant(None)
            return GradFunctionValue(self)
        pending = tracer.side_effects.pending_attribute(self, name)
        if isinstance(pending, Value):
            return pending
        if self.fake.requires_grad and not self._of_autograd(tracer, "is_leaf").truth(tracer):
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`grad` of {self.describe()}, which is no leaf: it warns")
        if self.source is None or self.obj is None:
            return tracer.constant(None)
        return tracer.wrap(self.obj.grad, AttributeSource(self.source, name))

    def _users_method(self, tracer: Tracer, name: str, raw: Any) -> Value:
        """A function that the program put into the class of tensors: traced like any other."""
        source = AttributeSource(_TENSOR_SOURCE, name)
        if getattr(torch.Tensor, name, None) is not raw:
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")
        return tracer.bind_method(tracer.wrap(raw, source), self)

    def guard_method(self, tracer: Tracer, name: str) -> None:
        """Record that the class of tensors still holds the method that the graph will call by this name."""
        raw = getattr(torch.Tensor, name, None)
        if raw is not None:
            tracer.guard(IdentityIs(AttributeSource(_TENSOR_SOURCE, name), ByIdentity(raw)))

    def _instance_attribute(self, tracer: Tracer, name: str) -> Value | None:
        pending = tracer.side_effects.pending_attribute(self, name)
        if isinstance(pending, Value):
            return pending
        if self.obj is None or self.source is None:
            return None
        attributes = getattr(self.obj, "__dict__", None)
        if attributes and name in attributes:
            return tracer.wrap(attributes[name], AttributeSource(self.source, name))
        if not hasattr(type(self.obj), name):
            tracer.guard(AttributePresent(self.source, name, False))
        return None

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        if name == "grad":
            self._check_gradient(tracer, value)
        elif hasattr(torch.Tensor, name):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")
        tracer.side_effects.store_attribute(self, name, value)

    def _check_gradient(self, tracer: Tracer, value: Value) -> None:
        """Only what eager accepts as a gradient is replayed."""
        value = value.realize()
        if value.is_constant() and value.as_constant() is None:
            return
        if not (
            isinstance(value, TensorValue)
            and value is not self
            and value.fake.shape == self.fake.shape
            and value.fake.dtype == self.fake.dtype
            and value.fake.device == self.fake.device
            and self._of_autograd(tracer, "is_leaf").truth(tracer)
        ):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `grad` on {self.describe()} so is not modelled")

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        if hasattr(torch.Tensor, name) or self._instance_attribute(tracer, name) is None:
            super().delete_attribute(tracer, name)
        tracer.side_effects.delete_attribute(self, name)

    # Operations

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        taken = overridden(tracer, method_caller(name), [self, *args], kwargs)
        if taken is not None:
            return taken
        if name == "size":
            return self._size(tracer, args, kwargs)
        if name in _UNKNOWN_LATER and tracer.graph.runs_later:
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, f"a `backward` that asks for `{name}`: known when it runs")
        if name in _METADATA_METHODS:
            return self._metadata(tracer, name, args, kwargs)
        if name in _WHOLE_NUMBER and not args and self._has_numbers_of_data(tracer, 1) and self.fake.numel() == 1:
            return self._numbers(tracer, self.node, ())
        if name == "tolist" and not args and self._has_numbers_of_data(tracer):
            return self._numbers(tracer, self.node, self.fake.shape)
        if name in _DATA_METHODS:
            raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"`{name}` needs the data of {self.describe()}")
        if name == "__bool__":
            return tracer.constant(self.truth(tracer))
        if name == "__len__":
            return self.rows(tracer)
        if name == "__iter__":
            return self.iterate(tracer)
        if name == "__contains__":
            self.contains(tracer, args[0])
        if is_users(getattr(torch.Tensor, name, None)):
            return self.get_attribute(tracer, name).call(tracer, args, kwargs)
        if name == "type" and not args and not kwargs:
            return tracer.constant(self.fake.type())
        if name in _BROKEN_METHODS or (name in _RESHAPING_METHODS and self.source is not None):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"method `{name}` of {self.describe()} is not modelled")
        if name == "squeeze_" and self.has_symbols and (self.fake.is_conj() or self.fake.is_neg()):
            cause = f"`squeeze_` of {self.describe()}, a conjugated or negated view of symbolic sizes"
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, cause)  # torch 2.13 ends the process
        scale, scaled = _SCALED.get(name, ("", None))
        number = kwargs[scale].realize() if scale in kwargs else None
        if isinstance(number, TensorValue | TensorNumberValue):
            number = number if isinstance(number, TensorValue) else number.beside(self)
            return tracer.constant(scaled).call(tracer, (self, *args, number), {})
        if name == "__format__" or name in ("__repr__", "__str__"):
            raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"the text of {self.describe()} needs its data")
        if name == "__getitem__":
            return self.get_item(tracer, args[0])
        if name == "__setitem__":
            self.set_item(tracer, args[0], args[1])
            return tracer.constant(None)
        if name == "__hash__" or not callable(getattr(torch.Tensor, name, None)):
            if hasattr(torch.Tensor, name):
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"method `{name}` of {self.describe()} is not modelled")
            return self.get_attribute(tracer, name).call(tracer, args, kwargs)
        node_args, node_kwargs = graph_arguments(args, kwargs)
        self.guard_method(tracer, name)
        return tracer.add_node("call_method", name, (self.node, *node_args), node_kwargs)

    def _has_numbers_of_data(self, tracer: Tracer, most: int = _MOST_NUMBERS) -> bool:
        """Whether the integers that it holds, at most so many, can be symbols."""
        graph = tracer.graph
        if (
            self.fake.dtype not in WHOLE_DTYPES
            or not all(type(size) is int for size in self.fake.shape)
            or self.fake.numel() > most
        ):
            return False
        return graph.sizes.takes_data and not graph.is_in_subgraph and not tracer.function_modes

    def _numbers(self, tracer: Tracer, node: torch.fx.Node, shape: Sequence[int]) -> Value:
        """`tolist()` of a part of it, with symbols for the numbers."""
        if not shape:
            self.guard_method(tracer, "item")
            return tracer.add_node("call_method", "item", (node,), {})
        self.guard_method(tracer, "select")
        rows = (tracer.add_node("call_method", "select", (node, 0, row), {}) for row in range(shape[0]))
        return tracer.make_list([self._numbers(tracer, row.as_graph_argument(), shape[1:]) for row in rows])

    def _size(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if not args and not kwargs:
            return tracer.constant(self.fake.shape)
        return self._metadata(tracer, "size", args, kwargs)

    def _metadata(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if name in _OF_ALL_SIZES and self.has_symbols:
            return self._of_all_sizes(tracer, name, args, kwargs)
        plain = [arg.fake if isinstance(arg, TensorValue) else snapshot(arg) for arg in args]
        named = {key: snapshot(arg) for key, arg in kwargs.items()}
        try:
            return tracer.constant(getattr(self.fake, name)(*plain, **named))
        except GraphBreak:
            raise
        except Exception as error:
            return tracer.raise_observed(type(error), *error.args)

    @property
    def has_symbols(self) -> bool:
        """Whether some of its sizes or strides are symbolic."""
        return bool(getattr(self.fake, "_has_symbolic_sizes_strides", False))

    def count(self, tracer: Tracer) -> Value:
        """How many elements it has."""
        total: Value = tracer.constant(1)
        for size in self.fake.shape:
            total = binary(tracer, operator.mul, total, tracer.constant(size))
        return total

    def _of_all_sizes(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """What torch tells of numbers only: for symbolic sizes it is computed here, or they become numbers."""
        if name in ("numel", "nelement") and not args and not kwargs:
            return self.count(tracer)
        env = tracer.graph.scalars.env
        if name == "is_contiguous" and not args and not kwargs:
            numbers = ([expr_of(number) for number in numbers] for numbers in (self.fake.shape, self.fake.stride()))
            return tracer.constant(env.evaluate(is_row_major(*numbers)))
        settle = tracer.graph.scalars.settle
        plain = [_with_numbers(arg.fake, settle) if isinstance(arg, TensorValue) else snapshot(arg) for arg in args]
        named = {key: snapshot(arg) for key, arg in kwargs.items()}
        try:
            return tracer.constant(getattr(_with_numbers(self.fake, settle), name)(*plain, **named))
        except GraphBreak:
            raise
        except Exception as error:
            return tracer.raise_observed(type(error), *error.args)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if isinstance(other, TensorNumberValue):
            other = other.beside(self)
        elif not isinstance(other, TensorValue):
            if other.is_constant() and other.python_type() in (type(None), str) and op in (operator.eq, operator.ne):
                return tracer.constant(op is operator.ne)
            if not _is_operand(other) and not overrides(other):
                return None
        left, right = (other, self) if reflected else (self, other)
        taken = overridden(tracer, op, [left, right], {})
        if taken is not None:
            return taken
        if op in INPLACE_METHODS or op in BINARY_METHODS:
            mine, theirs = self.node, other.as_graph_argument()
            name = BINARY_METHODS[op][reflected] if op in BINARY_METHODS else INPLACE_METHODS[op][0]
            if is_users(getattr(torch.Tensor, name, None)):
                return self.call_method(tracer, name, [other], {})
            self.guard_method(tracer, name)
            args = (theirs, mine) if reflected else (mine, theirs)
            return tracer.add_node("call_function", op, args, {})
        return None

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        taken = overridden(tracer, operator.getitem, [self, key], {})
        if taken is not None:
            return taken
        index = key.as_graph_argument()
        selected = select_computed(tracer, self.node, index, self.fake.dim())
        if selected is not None:
            return selected
        return tracer.add_node("call_function", operator.getitem, (self.node, index), {})

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        if overridden(tracer, operator.setitem, [self, key, item], {}) is not None:
            return
        args = (self.node, key.as_graph_argument(), item.as_graph_argument())
        tracer.add_node("call_function", operator.setitem, args, {})

    def delete_item(self, tracer: Tracer, key: Value) -> None:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "tensors do not support deleting items: eager raises")

    def unpack(self, tracer: Tracer) -> list[Value]:
        _refuse_modes(tracer)
        if self.fake.dim() == 0:
            tracer.raise_observed(TypeError, "iteration over a 0-d tensor")
        return tracer.add_node("call_method", "unbind", (self.node, 0), {}).unpack(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return tracer.constant(tuple).call(tracer, [self], {}).iterate(tracer)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_graph_output(self.node)
        writes = emitter.side_effects.attribute_writes(self)
        if writes:
            emitter.remember(self)
            for name, write in writes.items():
                emit_attribute_write(emitter, self, name, write)


class GradFunctionValue(Value):
    """`tensor.grad_fn` of a tensor that has one: only that it is there is known."""

    kind = "a gradient function"
    __slots__ = ("tensor",)

    def __init__(self, tensor: TensorValue) -> None:
        super().__init__()
        self.tensor = tensor

    def python_type(self) -> type:
        raise GraphBreak(
            BreakId.ATTRIBUTE_NOT_MODELLED, f"the class of the gradient function of {self.tensor.describe()}"
        )

    def truth(self, tracer: Tracer) -> bool:
        return True

    def children(self) -> Sequence[Value]:
        return (self.tensor,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.tensor)
        emitter.load_attribute("grad_fn")


def _refuse_modes(tracer: Tracer) -> None:
    if tracer.function_modes:
        raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, "the length of a tensor, or its rows, under a function mode")


def is_users(raw: Any) -> bool:
    """Whether something found in the class of tensors was put there by the program, not by torch."""
    return isinstance(raw, FunctionType) and raw.__module__.partition(".")[0] != "torch"


def _with_numbers(fake: torch.Tensor, settle: Callable[[Any], Any]) -> torch.Tensor:
    """A tensor without data of the sizes and strides that one has in this call, which become facts."""
    sizes, strides = ([settle(number) for number in numbers] for numbers in (fake.shape, fake.stride()))
    return torch.empty_strided(sizes, strides, dtype=fake.dtype, device="meta")


_MISSING: Any = object()
_TENSOR_SOURCE = AttributeSource(ModuleSource("torch"), "Tensor")


def _is_operand(value: Value) -> bool:
    """Whether torch's operators take it beside a tensor; anything else may know a reflected form."""
    if not value.is_constant():
        return value.kind in ("a list", "a tuple", "a symbolic number")
    return isinstance(value.as_constant(), (int, float, complex, tuple))
