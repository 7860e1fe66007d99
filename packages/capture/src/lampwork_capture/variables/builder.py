"""Wrapping: from a real object and its source to the value that stands for it while tracing.

`wrap` is for what existed before the frame and records what must hold of it; `constant` for what is known without
looking; `wrap_result` for what a graph node gives. Invariant: one object is one value, so aliasing is kept; reaching it
by a second source records that both are the same object.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from types import BuiltinFunctionType, CellType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any

import torch
import torch.fx
from torch._library.custom_ops import CustomOpDef
from torch.nn.attention import SDPBackend

from .. import _native
from ..graph.builder import IMPURE
from ..graph.subgraph import EXAMPLE
from ..graph.tensor_sizes import LAYOUT
from ..graph_break import BreakId, GraphBreak, SkipFrame
from ..guards.facts import AllDistinct, ByIdentity, ConstantIs, IdentityIs, SameObject, TensorMatches, TypeIs
from ..guards.namespaces import is_plain_class
from ..source import (
    ArrayTensorSource,
    AttributeSource,
    CellSource,
    GlobalSource,
    LocalSource,
    ModuleSource,
    Source,
    TypeSource,
)
from . import (
    array,
    autograd_function,
    builtin_types,
    checkpoint,
    class_checks,
    context_manager,
    control_flow,
    copying,
    deque,
    function_override,
    functional_call,
    generator,
    graph_context,
    groupby,
    identity,
    itertool,
    library,
    logger,
    made_class,
    module,
    module_conversion,
    namespace,
    optimized_callable,
    optimizer_step,
    ordering,
    partial,
    paths,
    regex,
    removable_handle,
    super_value,
    tee,
    text_format,
    transform,
)
from .base import Tracer, Value
from .builtin import BuiltinValue
from .class_lookup import (
    check_plain_class,
    guard_special_methods,
    has_plain_names,
    is_overridden,
    looks_up_itself,
    needs_no_guard,
)
from .class_value import ClassValue
from .constant import DERIVED_TYPES, ConstantValue, is_literal, is_nested_literal
from .construction import wrap_object
from .dict import DictValue
from .function import SourcedFunctionValue, behind_tags
from .keys import key_of_object
from .list import ListValue
from .method import BoundMethodValue
from .opaque import LruCacheValue, OpaqueValue
from .python_module import PythonModuleValue
from .range import SliceValue
from .registry import handler_of, wrapper_of
from .set import constant_set
from .sym_scalar import SYMBOLIC_TYPES, SymScalarValue, symbolic_number
from .tensor import TensorValue
from .torch_function import TorchFunctionValue, is_graph_function
from .tuple import TupleValue, is_struct_sequence

# Imported because they register what they model
MODELS: tuple[ModuleType, ...] = (
    regex,
    array,
    autograd_function,
    builtin_types,
    checkpoint,
    class_checks,
    context_manager,
    control_flow,
    copying,
    deque,
    function_override,
    functional_call,
    generator,
    graph_context,
    groupby,
    identity,
    itertool,
    library,
    logger,
    made_class,
    module,
    module_conversion,
    namespace,
    optimized_callable,
    optimizer_step,
    ordering,
    partial,
    paths,
    removable_handle,
    super_value,
    tee,
    text_format,
    transform,
)
_ALIAS_TYPES: tuple[Any, ...] = (
    types.GenericAlias,
    types.UnionType,
    type(typing.Union[int, str]),  # noqa: UP007
    type(typing.List),  # noqa: UP006
    type(typing.Any),
    typing.TypeVar,
    SDPBackend,
)
_METHOD_TYPES = (MethodDescriptorType, WrapperDescriptorType, types.ClassMethodDescriptorType)
_LRU_CACHE: type = type(functools.lru_cache(lambda: None))


def wrap(tracer: Tracer, obj: Any, source: Source) -> Value:
    """The value of an object that existed before the frame. One that is not modelled breaks the graph when used."""
    cls = type(obj)
    if is_literal(obj):
        if tracer.graph.scalars.takes(obj, source):
            return SymScalarValue(tracer.graph, tracer.graph.scalars.add(obj, source), source)
        if cls is types.CodeType:
            tracer.guard(IdentityIs(source, ByIdentity(obj)))  # holds no code object that the program drops
        else:
            tracer.guard(ConstantIs(source, ByIdentity(obj)))
        guard_special_methods(tracer, cls, TypeSource(source))
        return ConstantValue(obj, source)
    memo = tracer.graph.values_of_objects
    known = memo.get(id(obj))
    if known is not None:
        _guard_alias(tracer, known[1], obj, source)
        return known[1]
    try:
        value = _wrap_new(tracer, obj, cls, source)
    except GraphBreak as reason:
        tracer.guard(TypeIs(source, cls))
        value = OpaqueValue(obj, source, reason)
    memo[id(obj)] = (obj, value)
    guard_special_methods(tracer, cls, TypeSource(source))
    if issubclass(cls, type) and _MRO.__get__(obj) is not None:
        guard_special_methods(tracer, obj, source)
    return value


def _guard_alias(tracer: Tracer, value: Value, obj: Any, source: Source) -> None:
    if source == value.source:
        return
    if isinstance(value, (ClassValue, PythonModuleValue, BuiltinValue, TorchFunctionValue)):
        if not isinstance(source, TypeSource):
            tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return
    if isinstance(value, SourcedFunctionValue) and value.by_identity:
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
    elif value.source is not None:
        tracer.guard(SameObject(source, value.source))


def _wrap_new(tracer: Tracer, obj: Any, cls: type, source: Source) -> Value:
    # By type alone: `isinstance` asks an object for its `__class__`, which may be the program's code
    check_plain_class(cls)
    if issubclass(cls, torch.Tensor):
        return _wrap_tensor(tracer, obj, source)
    if looks_up_itself(obj if issubclass(cls, type) else cls):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}`, whose metaclass has its own `__getattribute__`")
    if issubclass(cls, type):
        if _MRO.__get__(obj) is None:
            raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a class that is being made")
        if not is_plain_class(obj) or not has_plain_names(obj.__dict__):
            raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}`, a class whose `__dict__` has keys that are no names")
        if not isinstance(source, TypeSource):
            tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return ClassValue(obj, source)
    if issubclass(cls, ModuleType):
        if not _has_plain_name(obj):
            raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a module without a name, or looks names up itself")
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return PythonModuleValue(obj, source)
    if callable(obj):
        function = _known_callable(tracer, obj, source)
        if function is not None:
            tracer.guard(IdentityIs(source, ByIdentity(obj)))
            return function
    if cls is _LRU_CACHE:
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return LruCacheValue(obj, source)
    if issubclass(cls, BuiltinFunctionType):
        builtin: Any = obj
        owner = wrap(tracer, builtin.__self__, AttributeSource(source, "__self__"))
        tracer.guard(TypeIs(source, cls))
        tracer.guard(ConstantIs(AttributeSource(source, "__name__"), ByIdentity(obj.__name__)))
        return BoundMethodValue(owner, obj.__name__)
    wrapper = wrapper_of(cls)
    if wrapper is not None:
        return wrapper(tracer, obj, source)
    if issubclass(cls, _ALIAS_TYPES):
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return ConstantValue(obj, source)
    tracer.guard(TypeIs(source, cls))
    if is_struct_sequence(cls):
        fields: Any = obj
        parts = [wrap(tracer, item, AttributeSource(source, name)) for name, item in zip(_names_of(cls), fields)]
        return TupleValue(parts, cls, source, fields)
    if needs_no_guard(cls) and not issubclass(cls, BaseException):
        return OpaqueValue(obj, source, GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is of class {cls.__name__}"))
    return wrap_object(tracer, obj, source)


_MRO: Any = vars(type)["__mro__"]


def _has_plain_name(module: ModuleType) -> bool:
    """Whether `module.__name__` is a string, found without running anything of the program."""
    if is_overridden(type(module), "__getattribute__"):
        return False
    getter: Any = vars(ModuleType)["__dict__"]
    namespace = getter.__get__(module)
    return namespace is not None and type(namespace.get("__name__")) is str


def _names_of(cls: Any) -> Sequence[str]:
    return cls.__match_args__


def _known_callable(tracer: Tracer, obj: Any, source: Source | None) -> Value | None:
    """The value of a callable that is modelled by itself: by a handler, as a graph operation, or folded."""
    cls = type(obj)
    if handler_of(obj) is not None:
        return BuiltinValue(obj, source)
    if is_graph_function(obj):
        return TorchFunctionValue(obj, source)
    if issubclass(cls, CustomOpDef):  # its call is that of its operator
        operator: Any = obj._opoverload
        return TorchFunctionValue(operator)
    if issubclass(cls, _METHOD_TYPES):
        return BuiltinValue(obj, source)
    if issubclass(cls, BuiltinFunctionType) and (
        obj.__self__ is None or issubclass(type(obj.__self__), (ModuleType, type))
    ):
        return BuiltinValue(obj, source)
    return None


def _wrap_tensor(tracer: Tracer, obj: torch.Tensor, source: Source) -> Value:
    try:
        node = tracer.graph.add_input(obj, source)
    except GraphBreak as reason:
        tracer.guard(TypeIs(source, type(obj)))
        return OpaqueValue(obj, source, reason)
    fake, layout = node.meta[EXAMPLE], node.meta[LAYOUT]
    tracer.guard(
        TensorMatches(
            source,
            type(obj),
            obj.dtype,
            obj.device,
            obj.layout,
            obj.requires_grad,
            tuple(obj.shape) if layout is None else layout.guarded_sizes,
            tuple(obj.stride()) if layout is None else layout.guarded_strides,
            torch._C._dispatch_keys(obj).raw_repr(),
        )
    )
    value = TensorValue(node, fake, source, obj)
    tracer.graph.values_of_fakes[id(fake)] = value
    return value


def constant(tracer: Tracer, obj: Any) -> Value:
    """The value of an object that is known without a guard: literals, classes, library functions, fresh containers."""
    cls = type(obj)
    if is_literal(obj) or cls in DERIVED_TYPES:
        return ConstantValue(obj)
    if issubclass(cls, _ALIAS_TYPES):
        _check_parts(tracer, obj)
        return ConstantValue(obj)
    if cls in SYMBOLIC_TYPES:
        return symbolic_number(tracer, obj)
    if cls in (tuple, torch.Size) or is_struct_sequence(cls):
        made = TupleValue([constant(tracer, item) for item in obj], cls)
        if cls is tuple and all(map(is_nested_literal, obj)):
            made.obj = obj
        return made
    if cls is list:
        return ListValue([constant(tracer, item) for item in obj])
    if cls is dict:
        pairs = {key_of_object(k): (constant(tracer, k), constant(tracer, v)) for k, v in obj.items()}
        return DictValue(pairs)
    if cls in (set, frozenset):
        return constant_set(tracer, obj)
    if cls is slice:
        return SliceValue(constant(tracer, obj.start), constant(tracer, obj.stop), constant(tracer, obj.step))
    known = tracer.graph.values_of_objects.get(id(obj))
    if known is not None:
        return known[1]
    return _constant_object(tracer, obj)


def _check_parts(tracer: Tracer, alias: Any) -> None:
    """Raise GraphBreak if a generic alias or union holds a stand-in for a class that the frame made."""
    for part in getattr(alias, "__args__", ()):
        known = tracer.graph.values_of_objects.get(id(part))
        if known is not None and isinstance(known[1], made_class.MadeClassValue):
            raise GraphBreak(BreakId.GENERIC_OBJECT, f"a generic alias of {known[1].describe()}")
        if isinstance(part, _ALIAS_TYPES):
            _check_parts(tracer, part)


def _constant_object(tracer: Tracer, obj: Any) -> Value:
    cls = type(obj)
    if issubclass(cls, type):
        return ClassValue(obj)
    if issubclass(cls, ModuleType) and _has_plain_name(obj):
        return PythonModuleValue(obj, ModuleSource(obj.__name__))
    if callable(obj):
        function = _known_callable(tracer, obj, None)
        if function is not None:
            return function
    if cls is FunctionType:
        obj = behind_tags(obj)
        return SourcedFunctionValue(obj, _source_by_name(obj), by_identity=True)
    source = None
    if type(obj) is _LRU_CACHE:
        source = _source_by_name(obj)
        if source is not None:
            return LruCacheValue(obj, source)
    if cls is BuiltinFunctionType:
        builtin: Any = obj
        return BoundMethodValue(constant(tracer, builtin.__self__), builtin.__name__)
    raise GraphBreak(BreakId.GENERIC_OBJECT, f"an object of class {type(obj).__name__} is not modelled")


def _source_by_name(function: Any) -> Source | None:
    """A function as its module names it, if that is what it is."""
    owner = sys.modules.get(getattr(function, "__module__", None) or "")
    source: Source | None = None if owner is None else ModuleSource(owner.__name__)
    found: Any = owner
    for name in function.__qualname__.split("."):
        if source is None or not hasattr(found, name):
            return None
        found, source = getattr(found, name), AttributeSource(source, name)
    return source if found is function else None


def wrap_result(tracer: Tracer, node: torch.fx.Node, result: Any) -> Value:
    """The value of what a graph node gives: a tensor, a constant, or a container of these."""
    if isinstance(result, torch.Tensor):
        known = tracer.graph.values_of_fakes.get(id(result))
        if known is None:
            known = TensorValue(node, result)
            tracer.graph.values_of_fakes[id(result)] = known
        return known
    if type(result) in SYMBOLIC_TYPES:
        if not node.meta.get("lampwork_operators"):
            tracer.graph.discard(node)  # an expression of what is known
        return symbolic_number(tracer, result)
    if isinstance(result, (tuple, list)) and any(isinstance(leaf, (torch.Tensor, tuple, list)) for leaf in result):
        items = [_result_item(tracer, node, index, item) for index, item in enumerate(result)]
        if isinstance(result, list):
            return ListValue(items)
        cls = type(result)
        if cls is tuple or is_struct_sequence(cls):
            return TupleValue(items, cls)
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"an operation that returns a {cls.__name__} is not modelled")
    if result is not None and not node.meta.get("lampwork_operators") and is_plain(result):
        tracer.graph.discard(node)  # metadata only: known now
        return constant(tracer, result)
    if is_plain(result):
        return constant(tracer, result)
    raise GraphBreak(
        BreakId.GENERIC_OBJECT, f"an operation that returns an object of class {type(result).__name__} is not modelled"
    )


def is_plain(result: Any) -> bool:
    """Whether a result is made of literals only."""
    if isinstance(result, (tuple, list)):
        return all(is_plain(item) for item in result)
    return is_literal(result)


def _result_item(tracer: Tracer, node: torch.fx.Node, index: int, item: Any) -> Value:
    if isinstance(item, torch.Tensor):
        known = tracer.graph.values_of_fakes.get(id(item))
        if known is not None:
            return known
    elif not isinstance(item, (tuple, list)):
        return constant(tracer, item)
    part = tracer.graph.add_item(node, index, item)
    return wrap_result(tracer, part, item)


def final_facts(tracer: Tracer, mutated: Sequence[Value]) -> None:
    """Record what replaying mutations relies on: objects that were distinct when traced stay distinct.

    `mutated`: the values that the side effects will write to. Tensors count when the graph writes to an input."""
    by_type: dict[type, list[Source]] = {}
    for _, value in tracer.graph.values_of_objects.values():
        if value.source is not None and not isinstance(value, OpaqueValue):
            by_type.setdefault(value.python_type(), []).append(value.source)
    cells = [cell.source for cell in tracer.sourced_cells() if cell.source is not None]
    by_type[CellType] = cells
    for kind in dict.fromkeys(value.python_type() for value in mutated if value.source is not None):
        # What also stands in a new class is there twice
        written = [value.source for value in mutated if value.source is not None and value.python_type() is kind]
        _tell_apart(tracer, dict.fromkeys((*written, *by_type.get(kind, ()))))
    if tracer.graph.has_tensors_as_keys:
        found = (value for _, value in tracer.graph.values_of_objects.values() if isinstance(value, TensorValue))
        _tell_apart(tracer, dict.fromkeys(value.source for value in found if value.source is not None))
    _check_namespaces(tracer, mutated)
    if tracer.graph.mutates_inputs:
        inputs = [entry.source for entry in tracer.graph.inputs if not entry.is_number]
        sources = [source.base if isinstance(source, ArrayTensorSource) else source for source in inputs]
        _tell_apart(tracer, sources)


def _tell_apart(tracer: Tracer, sources: Iterable[Source]) -> None:
    """Record that no two of the objects at these sources are one."""
    found = tuple(sources)
    if len(found) > 1:
        tracer.guard(AllDistinct(found[0], found[1:]))


def _check_namespaces(tracer: Tracer, mutated: Sequence[Value]) -> None:
    """An object and its `__dict__` taken as a dict are two values for the same names: neither may be written to.

    Raises SkipFrame; records that a dict that came with the call is not the `__dict__` of a written object."""
    known = tracer.graph.values_of_objects
    written = {id(variables) for variables in tracer.side_effects.written_namespaces()}
    changed = {id(value) for value in mutated}
    cause = "an object or module is written to, and its `__dict__` is used as a dict"
    if any(number in known for number in written):
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, cause)
    dicts = [
        value.source
        for obj, value in known.values()
        if type(obj) is dict and isinstance(value.source, (LocalSource, GlobalSource, CellSource))
    ]
    for obj, value in list(known.values()):
        if issubclass(type(obj), type):
            continue
        namespace = _native.instance_dict(obj)
        if namespace is None:
            continue
        entry = known.get(id(namespace))
        if entry is not None and (id(value) in changed or id(entry[1]) in changed):
            raise SkipFrame(BreakId.FRAME_NOT_MODELLED, cause)
        if id(value) in changed and value.source is not None:
            for source in dicts:
                tracer.guard(AllDistinct(source, (AttributeSource(value.source, "__dict__"),)))


__all__ = ["IMPURE", "constant", "final_facts", "wrap", "wrap_result"]
