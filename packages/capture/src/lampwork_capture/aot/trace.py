"""The recorder: a dispatch mode that writes down every ATen operator that runs under it, as a functional graph.

It stands below functionalization (so no operator it sees mutates anything) and above the fake tensors (which say what
each operator returns). Operators with an entry in the decomposition table are written as what they decompose into.
Invariants: every recorded node has `meta["val"]` and the user's line; equal pure calls are recorded once, but for
traces under autograd; random operators are recorded in the order they ran, each time they ran.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from lampwork_symshape import ShapeEnv
from lampwork_symshape.sym_node import with_traced_numbers
from torch import SymBool, SymFloat, SymInt, Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from ..graph.printable import printable
from . import torch_layer
from .backward_lines import BackwardLines
from .c_floats import StandIns
from .errors import Misdescribed, UnsupportedForAot
from .fitting_fills import may_not_fit
from .known_sizes import equal_strides, is_contiguous, known_equal, traced
from .metadata import is_dense
from .operator_traits import ASKS_GRAD_MODE, FLOATING_ONLY, OperatorTraits, is_quantising, is_right_for_one, traits_of
from .symbols import SymbolTable

Decomposition: TypeAlias = Callable[..., Any]
DecompositionTable: TypeAlias = Mapping[OpOverload, Decomposition]

aten = torch.ops.aten
prim = torch.ops.prim

_CANNOT_FAKE = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
_DEVICE = prim.device.default
# Questions about a tensor, asked through the dispatcher when sizes are symbolic. They are not work.
_QUERIES = frozenset(
    {
        aten.is_contiguous.default,
        aten.is_contiguous.memory_format,
        aten.is_strides_like_format.default,
        aten.is_non_overlapping_and_dense.default,
        aten.size.default,
        aten.sym_size.default,
        aten.stride.default,
        aten.sym_stride.default,
        aten.storage_offset.default,
        aten.sym_storage_offset.default,
        aten.numel.default,
        aten.sym_numel.default,
        aten.dim.default,
    }
)
# Operators that choose a library by sizes.
_CHOOSING = frozenset({aten.convolution, aten._convolution, aten.cudnn_convolution, aten.mkldnn_convolution})
# Pooling, to which sizes of 1 are sizes like others.
_POOLING = frozenset({F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d})
# Operators the size of whose result follows from numbers.
_SIZED_BY_NUMBERS = frozenset(
    {aten.arange.default, aten.arange.start, aten.arange.start_step, aten.range.default, aten.range.step}
)
_UNWRITTEN = frozenset(
    {aten.empty_like.default, aten.empty.memory_format, aten.empty_strided.default, aten.new_empty.default}
)
_ADDRESSING = frozenset({aten.as_strided.default, aten.as_strided_scatter.default})
# Values that say nothing when passed explicitly; leaving them out makes equal calls equal.
_DEFAULT_KWARGS: dict[str, Sequence[Any]] = {
    "pin_memory": (None, False),
    "layout": (None, torch.strided),
    "device": (None,),
    "dtype": (None,),
    "memory_format": (None,),
    "generator": (None,),
}


class _WritesInside(UnsupportedForAot):
    """A recorded operator writes: fatal, unless a composite operator that was taken apart holds it."""


class AtenRecorder(TorchDispatchMode):
    """Records into `graph` what runs under it. `fake_mode` must be the mode of every tensor that takes part.

    `merges`: equal calls are recorded once. Not under autograd: the tensors that stand for equal values share a version
    there, so that a write to one would count as a write to what autograd saved of the other.
    """

    def __init__(
        self, fake_mode: FakeTensorMode, decompositions: DecompositionTable, *, verify: bool, merges: bool = True
    ) -> None:
        super().__init__()
        self.graph: fx.Graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self.origin: dict[str, Any] = {}  # metadata of the captured node that is running
        self.fake_mode: FakeTensorMode = fake_mode
        self._decompositions = decompositions
        self._verify = verify
        self._merges = merges
        self._nodes: dict[int, fx.Node] = {}  # id of a fake tensor -> its node; `meta["val"]` keeps the tensor alive
        self._recorded: dict[object, Any] = {}
        self._constant_of: dict[int, tuple[Tensor, Any]] = {}
        self.addresses_memory = False  # an `as_strided` was recorded
        self.draws = 0  # how many random operators were recorded
        self.symbols: SymbolTable = SymbolTable(self._create)
        self.stand_ins: StandIns | None = None  # of the call that is being run
        self.writes: bool = False  # the captured graph writes to what existed before
        self._lines: BackwardLines | None = None  # set for the backward pass
        self._takes_data: bool = getattr(fake_mode, "takes_data", False)
        if self._takes_data:
            cast("Any", fake_mode).forget_data()
        self._asserted = len(self._deferred_facts())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: otherwise every dispatch goes through a wrapper that imports torch's own capture."""
        return False

    # -- what the tracer around it calls

    def placeholder(self, name: str, value: Any, meta: Mapping[str, Any]) -> fx.Node:
        """Add an input. `value` is a fake tensor, a SymInt or a plain number."""
        node = self.graph.placeholder(name)
        node.meta.update(meta)
        node.meta["val"] = value
        if isinstance(value, Tensor):
            self._nodes[id(value)] = node
            self.symbols.add_tensor(node, value)
        elif isinstance(value, (SymInt, SymFloat)):
            self.symbols.add_scalar(node, value)
        return node

    def node_of(self, value: Tensor) -> fx.Node:
        """The node that computes `value`, a tensor seen by this recorder."""
        try:
            return self._nodes[id(value)]
        except KeyError:
            raise self.unsupported("a tensor took part in the graph that no operator of it made") from None

    def find_node(self, value: Tensor) -> fx.Node | None:
        """The node that computes `value`, or None for a tensor that this recorder has not seen."""
        return self._nodes.get(id(value))

    def unsupported(self, reason: str, op: object | None = None, hint: str | None = None) -> UnsupportedForAot:
        return UnsupportedForAot(
            reason,
            operator=None if op is None else str(op),
            user_line=self.origin.get("user_line"),
            hint=hint,
        )

    def describe_as(self, value: Tensor, description: Tensor) -> Tensor:
        """Record `value` once more under the strides of `description`, a fake tensor of its own; returns that one."""
        node = self._create(aten.alias.default, (self.node_of(value),), {}, description)
        self._nodes[id(description)] = node
        return description

    def require(self, condition: Any, text: str) -> None:
        """Record a check of data: `condition` on numbers that the graph computes holds, or the call raises."""
        if not isinstance(condition, SymBool):
            if not condition:
                raise self.unsupported(f"a check that never holds: {text}")
            return
        env: Any = self.fake_mode.shape_env
        self._assert(condition.node.expr, text)
        env.require(condition.node.expr)
        self._asserted = len(self._deferred_facts())

    def _deferred_facts(self) -> Sequence[Any]:
        return getattr(self.fake_mode.shape_env, "deferred_facts", ())

    def _assert(self, condition: Any, text: str) -> None:
        if not self.symbols.has(condition.free_symbols):
            raise self.unsupported(f"a check of a number that no operator gives: {text}")
        node = self.symbols.resolve_condition(condition, cast("Any", self.fake_mode.shape_env))
        self._create(aten._assert_scalar.default, (node, text), {}, None)

    def _assert_facts(self) -> None:
        """Record the checks of what fake kernels took for granted about data since."""
        facts = self._deferred_facts()
        while self._asserted < len(facts):
            fact = facts[self._asserted]
            self._asserted += 1
            self._assert(fact.condition, f"the data does not meet {fact}, which the graph was compiled for")

    def forget(self, values: Iterable[Tensor]) -> None:
        """Removes the nodes of wrapped `values`, which nothing reads."""
        for value in values:
            node = self.node_of(torch_layer.from_functional(value))
            self.graph.erase_node(node)

    def begin_backward(self, lines: BackwardLines) -> None:
        """From now on gradients are recorded, each under the line of `lines`."""
        self._lines = lines

    # -- the dispatcher calls this

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else args[0].device
        kwargs = {} if kwargs is None else kwargs
        if func in _QUERIES:
            return func(*args, **kwargs)
        if self._lines is not None:
            self.origin = self._lines.current()
        traits = traits_of(func)
        if traits.is_lift:
            return self._lift(func, args[0])
        if func is aten.bernoulli.p and self._is_new(args[0]) and not is_contiguous(args[0]) and is_dense(args[0]):
            return self._drawn_in_place(args[0], args[1])
        decomposition = self._decompositions.get(func)
        if func in FLOATING_ONLY and not (args[0].is_floating_point() or args[0].is_complex()):
            decomposition = None
        if self.stand_ins is not None and (decomposition is not None or not traits.composite):
            args, kwargs = self.stand_ins.put_back(func, args, kwargs)
        if decomposition is not None or traits.composite:
            with self:
                if decomposition is not None:
                    with self._questions(func):
                        out = decomposition(*args, **kwargs)
                else:
                    out = self._decomposed(func, traits, args, kwargs)
            if out is not NotImplemented:
                self._label(func, out)
                return self._with_eager_layout(func, args, kwargs, out)
        return self._record(func, traits, args, kwargs)

    def _is_new(self, value: Any) -> bool:
        """Whether `value` is memory that nothing was written to yet."""
        node = self._nodes.get(id(value))
        return node is not None and node.target in _UNWRITTEN

    def _drawn_in_place(self, value: Tensor, probability: float) -> Tensor:
        """`bernoulli_` on new memory, as dropout calls it: it fills in the order of the memory, `bernoulli` in that of
        the elements."""
        order = sorted(range(value.dim()), key=lambda d: (-traced(value.stride(d)), -traced(value.shape[d])))
        with self:
            drawn = aten.bernoulli.p(aten.permute.default(value, order), probability)
            return aten.permute.default(drawn, [order.index(d) for d in range(value.dim())])

    def _decomposed(self, op: OpOverload, traits: OperatorTraits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A composite operator by its parts. Some write to what they have just made: these are made functional."""
        if not traits.writes_inside:
            try:
                return op.decompose(*args, **kwargs)
            except _WritesInside:
                traits.writes_inside = True  # what was recorded of it is dead code
        try:
            return torch_layer.functionally(op.decompose, args, kwargs)
        except torch_layer.WroteToArgument:
            raise self.unsupported("an operator writes to its arguments and has no functional form", op) from None

    def _label(self, op: OpOverload, out: Any) -> None:
        for value in out if isinstance(out, (tuple, list)) else (out,):
            node = self._nodes.get(id(value))
            if node is not None:
                node.meta.setdefault("original_aten", op)

    def _record(self, op: OpOverload, traits: OperatorTraits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if traits.mutable:
            reason = "an operator writes to its arguments and has no functional form"
            raise _WritesInside(reason, operator=str(op), user_line=self.origin.get("user_line"))
        if traits.data_dependent_size and not self._takes_data and _is_sized_by_data(op, args):
            raise self.unsupported(
                "the size of an operator's result depends on the values of its input",
                op,
                "Keep it outside the compiled function, or use a form of fixed size (`torch.where(cond, a, b)`).",
            )
        if op in ASKS_GRAD_MODE and not self._merges:
            raise self.unsupported("an operator computes what its gradient needs only in grad mode", op)
        if traits.hidden_write and args[5] and args[3] is not None:
            raise self.unsupported("an operator updates running statistics behind its schema", op)
        args, kwargs = self._without_real_tensors(args, kwargs)
        graph_args = cast("tuple[Any, ...]", self._to_graph(args))
        graph_kwargs = (
            {
                name: self._to_graph(value)
                for name, value in kwargs.items()
                if value not in _DEFAULT_KWARGS.get(name, ())
            }
            if kwargs
            else {}
        )
        key = None
        if traits.random:
            self.draws += 1
        elif self._merges:
            key = (op, _key(graph_args), _key(tuple(sorted(graph_kwargs.items()))) if graph_kwargs else None)
            known = self._recorded.get(key)
            if known is not None:
                return known
        if is_quantising(op):
            raise Misdescribed(
                "quantized tensors are not modelled", operator=str(op), user_line=self.origin.get("user_line")
            )
        try:
            with self._questions(op):
                out = self._described(op, args, kwargs)
        except _CANNOT_FAKE as error:
            raise self.unsupported(
                "an operator's result cannot be described without its values",
                op,
                "Call it outside the compiled function.",
            ) from error
        if self.writes and may_not_fit(op, args, kwargs, out):
            raise self.unsupported(
                "a number may not fit into a tensor: torch raises, behind the graph's writes to its inputs",
                op,
                "Write to the inputs behind it, or in another function.",
            )
        if out is None and not op._schema.returns:
            self._create(op, graph_args, graph_kwargs, None)  # called for the error it may raise
            return None
        self._assert_facts()
        if not isinstance(out, (Tensor, tuple, list)):
            if isinstance(out, SymInt) and self._takes_data:
                self.symbols.add_scalar(self._create(op, graph_args, graph_kwargs, out), out)
                return out
            if isinstance(out, (SymInt, SymFloat, SymBool)):
                raise self.unsupported("an operator returns a number that depends on data", op)
            return out  # an answer that fake tensors know, such as the value of a constant
        if op in _ADDRESSING:
            self.addresses_memory = True
        if any(isinstance(o, Tensor) and _is_exotic(o) for o in (out if isinstance(out, (tuple, list)) else (out,))):
            raise self.unsupported("a tensor that is not plain and strided (sparse, quantized, nested, packed)", op)
        out = self._fresh(out, args)
        node = self._create(op, graph_args, graph_kwargs, out)
        if isinstance(out, Tensor):
            self._nodes[id(out)] = node
            if traits.data_dependent_size:
                self.symbols.add_tensor(node, out)
        else:
            for i, element in enumerate(out):
                if isinstance(element, Tensor):
                    part = self._create(operator.getitem, (node, i), {}, element)
                    self._nodes[id(element)] = part
                    if traits.data_dependent_size:
                        self.symbols.add_tensor(part, element)
        if key is not None:
            self._recorded[key] = out
        return out

    @staticmethod
    def _described(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the fake kernel of an operator says of its result."""
        if op not in _SIZED_BY_NUMBERS:
            args, kwargs = with_traced_numbers(op, args, kwargs)
        return op(*args, **kwargs)

    def _questions(self, op: OpOverload) -> AbstractContextManager[None]:
        """Which of the questions about sizes that a fake kernel asks become facts.

        Not that no size is 1, for operators whose results have the same sizes then, found by shorter ways. Nor how
        large a batch is, by which convolutions choose among libraries.
        """
        env = self.fake_mode.shape_env
        if not isinstance(env, ShapeEnv):
            return nullcontext()
        if op.overloadpacket in _CHOOSING:
            return env.only_equalities()
        return env.as_larger_sizes(is_right_for_one(op))

    def questions_of(self, function: Any) -> AbstractContextManager[None]:
        """The same for a function of torch that asks before it runs operators, as pooling does."""
        env = self.fake_mode.shape_env
        asks = isinstance(env, ShapeEnv) and function in _POOLING
        return cast(ShapeEnv, env).as_larger_sizes() if asks else nullcontext()

    def _create(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> fx.Node:
        node = self.graph.create_node("call_function", printable(target, args), args, kwargs)
        node.meta.update(self.origin)
        node.meta["val"] = value
        return node

    def _fresh(self, out: Any, args: tuple[Any, ...]) -> Any:
        """`out` with tensors that already have a node replaced: some fake kernels return their argument."""
        if isinstance(out, Tensor):
            return out.detach() if id(out) in self._nodes else out
        if any(isinstance(o, Tensor) and id(o) in self._nodes for o in out):
            return type(out)(o.detach() if isinstance(o, Tensor) and id(o) in self._nodes else o for o in out)
        return out

    def _to_graph(self, value: Any) -> Any:
        kind = type(value)
        if kind is FakeTensor:
            node = self._nodes.get(id(value))
            return node if node is not None else self.node_of(value)
        if kind is int or kind is float or kind is bool or value is None:
            return value
        if kind is list or kind is tuple or isinstance(value, (list, tuple)):
            return tuple(map(self._to_graph, value)) if kind is tuple else [self._to_graph(v) for v in value]
        if isinstance(value, Tensor):
            return self.node_of(value)
        if kind is SymInt:
            return self.symbols.resolve(value)
        if kind is SymFloat:
            return self.symbols.resolve_float(value)
        if isinstance(value, SymBool):
            raise self.unsupported("a condition on sizes is used as an argument")
        if isinstance(value, torch.Generator):
            raise self.unsupported("a random generator is passed explicitly")
        return value

    # -- constants

    def _lift(self, op: OpOverload, value: Tensor) -> Tensor:
        if isinstance(value, FakeTensor):
            return (
                value
                if op is not aten.lift_fresh_copy.default
                else self.__torch_dispatch__(aten.clone.default, (), (value,))
            )
        return self._constant(value)

    def _constant(self, value: Tensor) -> Tensor:
        """The fake tensor that stands for `value`, a real tensor made while tracing, from now on part of the graph."""
        known = self._constant_of.get(id(value))
        if known is not None:
            return known[1]
        fake = cast("Tensor", aten.lift_fresh.default(value)) if not value.is_sparse else None
        if fake is None or value.layout is not torch.strided:
            raise self.unsupported("a constant is not a plain strided tensor")
        if value.numel() == 1 and not value.is_complex():
            with torch_layer.disable_dispatch():  # a read of a real tensor, not an operator of the graph
                item = value.item()
            node = self._create(
                aten.full.default, (list(value.shape), item), {"dtype": value.dtype, "device": value.device}, fake
            )
        else:
            name = f"_constant{len(self.constants)}"
            self.constants[name] = value
            node = self.graph.create_node("get_attr", name)
            node.meta.update(self.origin)
            node.meta["val"] = fake
        self._nodes[id(fake)] = node
        self._constant_of[id(value)] = (value, fake)
        return fake

    def _without_real_tensors(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with real tensors (constants that a decomposition made) replaced by recorded ones."""

        def real(value: Any) -> bool:
            if isinstance(value, Tensor):
                return type(value) is not FakeTensor and not isinstance(value, FakeTensor)
            return isinstance(value, (list, tuple)) and any(map(real, value))

        def replace(value: Any) -> Any:
            if isinstance(value, Tensor):
                return self._constant(value) if real(value) else value
            if isinstance(value, (list, tuple)):
                return type(value)(replace(v) for v in value)
            return value

        if any(map(real, args)) or any(map(real, kwargs.values())):
            return tuple(map(replace, args)), {name: replace(value) for name, value in kwargs.items()}
        return args, kwargs

    # -- layouts

    def _with_eager_layout(self, op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """`out` of a decomposition, with the strides that `op` itself gives.

        With contiguous arguments both are contiguous; otherwise the operator's own fake kernel is asked.
        """
        if not self._verify and all(_contiguous(a) for a in args) and all(_contiguous(a) for a in kwargs.values()):
            return out
        try:
            with self._questions(op):
                expected = self._described(op, self._without_real_tensors(args, kwargs)[0], kwargs)
        except _CANNOT_FAKE:
            return out
        if isinstance(out, Tensor):
            return self._restride(op, out, expected)
        if isinstance(out, (tuple, list)):
            return type(out)(self._restride(op, o, e) if isinstance(o, Tensor) else o for o, e in zip(out, expected))
        return out

    def _restride(self, op: OpOverload, out: Tensor, expected: Tensor) -> Tensor:
        if out.shape != expected.shape or out.dtype != expected.dtype:
            if self._verify and expected.numel() != 0:
                raise AssertionError(
                    f"decomposition of {op} gives {out.dtype}{list(out.shape)}, "
                    f"the operator {expected.dtype}{list(expected.shape)}"
                )
            return out
        if same_strides(out, expected) or not is_dense(expected):
            return out
        with self:
            laid = restride(out, expected.stride())
        if not same_strides(laid, expected):  # by facts, if the order of the strides is one
            raise self.unsupported("the memory order of a result depends on sizes", op)
        return laid


def same_strides(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape step through memory alike; steps along sizes of 0 and 1 do not count."""
    if known_equal(a.stride(), b.stride()) or a.numel() == 0:
        return True
    return equal_strides(a.shape, a.stride(), b.stride())


def restride(t: Tensor, strides: Sequence[int]) -> Tensor:
    """A copy of `t` whose memory order is that of `strides` (dense), written as permute, contiguous clone, permute."""
    order = sorted(range(t.dim()), key=lambda d: (-traced(strides[d]), -traced(t.shape[d])))
    inverse = [order.index(d) for d in range(t.dim())]
    ordered = aten.permute.default(t, order)
    copied = aten.clone.default(ordered, memory_format=torch.contiguous_format)
    return aten.permute.default(copied, inverse)


def _is_exotic(value: Tensor) -> bool:
    return value.layout is not torch.strided or value.is_quantized or value.is_mkldnn or value.is_nested


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _is_sized_by_data(op: OpOverload, args: tuple[Any, ...]) -> bool:
    return op is not aten.index.Tensor or any(map(_is_mask, args[1]))


def _contiguous(value: Any) -> bool:
    if isinstance(value, Tensor):
        return is_contiguous(value)
    if isinstance(value, (list, tuple)):
        return all(map(_contiguous, value))
    return True


def _key(value: Any) -> object:
    """A hashable stand-in for a graph argument that tells 1, 1.0 and True, and 0.0 and -0.0, apart."""
    kind = type(value)
    if kind is fx.Node or kind is str or value is None:
        return value
    if kind is int:
        return (0, value)
    if kind is list or kind is tuple:
        return tuple(map(_key, value))
    if kind is float or kind is complex:
        return (kind, repr(value))
    if isinstance(value, slice):
        return (slice, _key(value.start), _key(value.stop), _key(value.step))
    return (kind, value)
