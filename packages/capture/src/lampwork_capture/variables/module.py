"""ModuleValue: an `nn.Module`: its parameters, buffers and submodules, and what a call of it does.

A call without hooks is its forward, traced; hooks are run as `Module.__call__` runs them. Members are read from the
module's own dicts, so guards on them are plain dict look-ups. Invariants: parameters and buffers are graph inputs
read through the module in every call, never constants; a module's exact class and each flag read are guarded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.modules.module as torch_module

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs, LengthIs, TypeIs
from ..interpreter.side_effects import DELETED
from ..source import AttributeSource, ModuleSource, Source
from . import operators
from .base import Tracer, Value
from .class_lookup import MISSING, find_in_class, find_past, has_special, is_overridden
from .constant import ConstantValue, snapshot
from .construction import VALUE_CLASSES, wrap_object
from .dict import DictValue, dict_contents
from .dict_view import DictIteratorValue
from .iterator import FixedIteratorValue, make_tuple
from .method import missing_attribute
from .registry import handles, wraps_base
from .tensor import TensorValue
from .user_object import ObjectValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_STORES = ("_parameters", "_buffers", "_modules")
_INSTANCE_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_GLOBAL_HOOKS = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
)
_BASE: Any = torch.nn.Module


class ModuleValue(ObjectValue):
    """An `nn.Module` instance."""

    kind = "a module"
    __slots__ = ()

    # Members

    def missing(self, tracer: Tracer, name: str) -> Value:
        if find_in_class(self.cls, "__getattr__")[0] is not _BASE.__getattr__:
            return super().missing(tracer, name)
        member = self.member(tracer, name)
        if member is None:
            self.class_value.guard_missing(tracer, name)
        return member if member is not None else missing_attribute(tracer, self, name)

    def find_attribute(self, tracer: Tracer, name: str) -> Value | None:
        if self.obj is not None and find_in_class(self.cls, name)[0] is MISSING and not self._is_written(tracer, name):
            namespace: dict[str, Any] = object.__getattribute__(self.obj, "__dict__")
            if name not in namespace and any(name in namespace.get(store, ()) for store in _STORES):
                self.class_value.guard_missing(tracer, name)
                if self.source is not None:
                    self.guard_lacks(tracer, name)
                return None if is_overridden_getattr(self.cls) else self.member(tracer, name)
        return super().find_attribute(tracer, name)

    def _is_written(self, tracer: Tracer, name: str) -> bool:
        return tracer.side_effects.pending_attribute(self, name) is not None

    def guard_lacks(self, tracer: Tracer, name: str) -> None:
        if name in _STORES:
            return
        super().guard_lacks(tracer, name)

    def instance_source(self, name: str) -> Source:
        assert self.source is not None
        return AttributeSource(self.source, name)

    def member(self, tracer: Tracer, name: str) -> Value | None:
        """The parameter, buffer or submodule of that name, or None."""
        given = tracer.given_members.get((id(self.obj), name))
        if given is not None:
            return given
        pending = tracer.side_effects.pending_attribute(self, name)
        if pending is DELETED:
            return None
        if isinstance(pending, Value):
            return pending
        for store in _STORES:
            contents = self.store(tracer, store)
            if contents is None:
                continue
            if self.obj is not None and not self._store_written(tracer, store):
                real = object.__getattribute__(self.obj, "__dict__")[store]
                if name not in real:
                    continue
            found = contents.lookup(tracer, tracer.constant(name))
            if found is not None:
                return found
        if self.obj is not None and self.source is not None:
            for store in _STORES:  # absent: guard that it stays so
                contents = self.store(tracer, store)
                if contents is not None:
                    contents.contains(tracer, tracer.constant(name))
        return None

    def _store_written(self, tracer: Tracer, store: str) -> bool:
        pending = tracer.side_effects.pending_attribute(self, store)
        contents = self.store(tracer, store)
        return pending is not None or (contents is not None and tracer.side_effects.is_mutated(contents))

    def store(self, tracer: Tracer, name: str) -> DictValue | None:
        """`_parameters`, `_buffers` or `_modules`."""
        if self.obj is not None and self.source is not None and not self._is_written(tracer, name):
            real = object.__getattribute__(self.obj, "__dict__").get(name)
            if type(real) is dict:  # made by Module.__init__: its class needs no guard of its own
                known = tracer.graph.values_of_objects.get(id(real))
                if known is None:
                    value = DictValue(None, dict, AttributeSource(self.source, name), real)
                    known = tracer.graph.values_of_objects[id(real)] = (real, value)
                return known[1]
        found = self.instance_attribute(tracer, name, in_class=False)
        return None if found is None else dict_contents(found)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        if find_in_class(self.cls, "__setattr__")[0] is _BASE.__setattr__:
            self.class_value.guard_method(tracer, "__setattr__")
            self.set_member(tracer, name, value.realize())
        else:
            super().set_attribute(tracer, name, value)

    def set_member(self, tracer: Tracer, name: str, value: Value) -> None:
        """`nn.Module.__setattr__`: a buffer may be replaced; parameters and submodules may not, while tracing."""
        kind = value.python_type()
        if (id(self.obj), name) in tracer.given_members and isinstance(value, TensorValue):
            tracer.given_members[id(self.obj), name] = value
            return
        if self.obj is None and isinstance(value, (ModuleValue, TensorValue)) and self._register(tracer, name, value):
            return
        if issubclass(kind, (torch.nn.Parameter, torch.nn.Module)):
            if self._member(tracer, name) is value:
                return  # what is there already: `self.head = self.head.to(dtype)`
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"replacing `{name}` of {self.describe()} is not modelled")
        known = None
        if find_in_class(self.cls, name)[0] is MISSING:
            self.class_value.guard_missing(tracer, name)
            for store in ("_parameters", "_modules", "_buffers"):
                contents = self.store(tracer, store)
                if contents is not None and contents.contains(tracer, tracer.constant(name)):
                    known = store
                    break
        if known in ("_parameters", "_modules"):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"replacing `{name}` of {self.describe()} is not modelled")
        if known == "_buffers":
            if not (issubclass(kind, torch.Tensor) or kind is type(None)):
                raise GraphBreak(
                    BreakId.EXCEPTION_NOT_MODELLED, f"`{name}` of {self.describe()} is a buffer: eager raises"
                )
            self._check_registration(tracer, "buffer")
            buffers = self.store(tracer, "_buffers")
            assert buffers is not None
            buffers.set_item(tracer, tracer.constant(name), value)  # where listings and `_buffers` see it too
            return
        raw, _ = find_in_class(self.cls, name)
        self.guard_place(tracer, name)
        if find_past(self.cls, _BASE, "__setattr__") is not object.__setattr__:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"a base of {self.describe()} has a `__setattr__` too")
        if issubclass(type(raw), property) or (raw is not MISSING and has_special(type(raw), "__set__")):
            self.store_attribute(tracer, name, value)
            return
        # `object.__setattr__` is what torch ends with: a `__setattr__` of the class has run already, in the trace
        tracer.side_effects.store_attribute(self, name, value, raw=True)

    def _check_registration(self, tracer: Tracer, kind: str) -> None:
        """Raise GraphBreak if registering a `kind` of member is more than putting it into its dict."""
        method = f"register_{kind}"
        self.class_value.guard_method(tracer, method)
        own = {} if self.obj is None else object.__getattribute__(self.obj, "__dict__")
        if find_in_class(self.cls, method)[0] is not getattr(_BASE, method) or method in own:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"{self.describe()} has its own `{method}`")
        check_no_global_hooks(tracer, (f"_global_{kind}_registration_hooks",))

    def _member(self, tracer: Tracer, name: str) -> Value | None:
        """The parameter or submodule of that name."""
        for store in ("_parameters", "_modules"):
            contents = self.store(tracer, store)
            if contents is not None and contents.contains(tracer, tracer.constant(name)):
                return contents.get_item(tracer, tracer.constant(name)).realize()
        return None

    def _register(self, tracer: Tracer, name: str, value: Value) -> bool:
        """Assignment of a submodule or an existing parameter to a module that the frame made."""
        if isinstance(value, TensorValue) and not issubclass(value.python_type(), torch.nn.Parameter):
            return False
        contents = self.store(tracer, "_modules" if isinstance(value, ModuleValue) else "_parameters")
        if contents is None:
            tracer.raise_observed(AttributeError, "cannot assign module before Module.__init__() call")
        if isinstance(value, ModuleValue):
            check_no_global_hooks(tracer, ("_global_module_registration_hooks",))
        else:
            self._check_registration(tracer, "parameter")
        contents.set_item(tracer, tracer.constant(name), value)
        return True

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        if find_in_class(self.cls, "__delattr__")[0] is not _BASE.__delattr__:
            super().delete_attribute(tracer, name)
            return
        pending = tracer.side_effects.pending_attribute(self, name)
        namespace = {} if self.obj is None else object.__getattribute__(self.obj, "__dict__")
        if name not in namespace and not (isinstance(pending, Value) and not isinstance(pending, TensorValue)):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"deleting `{name}` of {self.describe()} is not modelled")
        self.get_attribute(tracer, name)
        self.class_value.guard_method(tracer, "__delattr__")
        self.guard_place(tracer, name)
        tracer.side_effects.delete_attribute(self, name)

    # Calls

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if find_in_class(self.cls, "__call__")[0] is not _BASE.__dict__["__call__"]:
            return super().call(tracer, args, kwargs)
        self.class_value.guard_method(tracer, "__call__")
        return self.call_forward(tracer, args, kwargs)

    def call_forward(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """`Module.__call__`: the hooks and forward."""
        if isinstance(self.obj, torch.jit.ScriptModule):
            raise GraphBreak(BreakId.GENERIC_OBJECT, f"{self.describe()} is a TorchScript module")
        if getattr(self.obj, "_compiled_call_impl", None) is not None:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{self.describe()} is compiled on its own")
        check_no_global_hooks(tracer, _GLOBAL_HOOKS)
        hooks = {name: self._hooks(tracer, name) for name in _INSTANCE_HOOKS}
        if hooks["_backward_hooks"] or hooks["_backward_pre_hooks"]:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{self.describe()} has backward hooks")
        forward = self.get_attribute(tracer, "forward")
        if not hooks["_forward_pre_hooks"] and not hooks["_forward_hooks"]:
            return tracer.tail_call(self, forward, args, kwargs)
        return self._call_with_hooks(tracer, forward, hooks, list(args), dict(kwargs))

    def _hooks(self, tracer: Tracer, name: str) -> list[tuple[Value, Value]]:
        """The hooks of one kind, with their ids."""
        if self.obj is not None and self.source is not None and not self._is_written(tracer, name):
            hooks = object.__getattribute__(self.obj, "__dict__").get(name)
            known = tracer.graph.values_of_objects.get(id(hooks))
            is_written = known is not None and tracer.side_effects.is_mutated(known[1])
            if hooks is not None and len(hooks) == 0 and not is_written:
                tracer.guard(LengthIs(AttributeSource(self.source, name), 0))
                return []
        contents = self.store(tracer, name)
        return [] if contents is None else list(zip(contents.keys(tracer), contents.values(tracer)))

    def _call_with_hooks(
        self,
        tracer: Tracer,
        forward: Value,
        hooks: Mapping[str, list[tuple[Value, Value]]],
        args: list[Value],
        kwargs: dict[str, Value],
    ) -> Value:
        for key, hook in hooks["_forward_pre_hooks"]:
            if self._takes_kwargs(tracer, "_forward_pre_hooks_with_kwargs", key):
                named = _dict_of(tracer, kwargs)
                result = tracer.call(hook, [self, make_tuple(tracer, args), named])
                if not _is_none(result):
                    both = result.unpack(tracer)
                    args = both[0].unpack(tracer)
                    contents = dict_contents(both[1])
                    assert contents is not None
                    kwargs = {k.as_constant(): v for k, v in zip(contents.keys(tracer), contents.values(tracer))}
                continue
            result = tracer.call(hook, [self, make_tuple(tracer, args)])
            if not _is_none(result):
                args = result.unpack(tracer) if issubclass(result.python_type(), tuple) else [result]
        output = forward.call(tracer, args, kwargs)
        for key, hook in hooks["_forward_hooks"]:
            inputs = [self, make_tuple(tracer, args)]
            if self._takes_kwargs(tracer, "_forward_hooks_with_kwargs", key):
                inputs.append(_dict_of(tracer, kwargs))
            result = tracer.call(hook, [*inputs, output])
            if not _is_none(result):
                output = result
        return output

    def _takes_kwargs(self, tracer: Tracer, name: str, key: Value) -> bool:
        contents = self.store(tracer, name)
        return contents is not None and bool(contents.contains(tracer, key))

    # Containers and listings of members

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        shortcut = _LISTINGS.get(name)
        if shortcut is not None and find_in_class(self.cls, name)[0] is _BASE.__dict__[name] and self.obj is not None:
            self.class_value.guard_method(tracer, "__getattribute__")
            self.class_value.guard_method(tracer, name)
            return shortcut(self, tracer, *args, **kwargs)
        return super().call_method(tracer, name, args, kwargs)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        if key.python_type() is slice and self.cls in (torch.nn.ModuleList, torch.nn.Sequential):
            contents = self.store(tracer, "_modules")
            if contents is not None and key.is_constant():
                names = [name.as_constant() for name in contents.keys(tracer)][snapshot(key)]
                return ModuleSliceValue(self, tracer, names, contents.values(tracer)[snapshot(key)])
        return super().get_item(tracer, key)

    def iterate(self, tracer: Tracer) -> Value:
        if self.cls in _PLAIN_CONTAINERS:
            contents = self.store(tracer, "_modules")
            if contents is not None:
                # An iterator of the dict itself, which sees when modules come or go meanwhile
                return DictIteratorValue(tracer, contents, "keys" if self.cls is torch.nn.ModuleDict else "values")
        return super().iterate(tracer)

    def length(self, tracer: Tracer) -> int | None:
        if self.cls in _PLAIN_CONTAINERS:
            contents = self.store(tracer, "_modules")
            return None if contents is None else contents.length(tracer)
        return super().length(tracer)

    def hash_key(self, tracer: Tracer) -> Any:
        if self.obj is None:
            return super().hash_key(tracer)
        if self.source is not None:
            tracer.guard(IdentityIs(self.source, ByIdentity(self.obj)))
        return self.obj

    # named_children() and its kin, over real modules

    def submodules(self, tracer: Tracer) -> list[tuple[str, Value]]:
        """(name, module) of the direct submodules that are not None."""
        contents = self.store(tracer, "_modules")
        if contents is None:
            return []
        pairs = zip(contents.keys(tracer), contents.values(tracer))
        return [(key.as_constant(), value) for key, value in pairs if not _is_none(value)]

    def walk(self, tracer: Tracer, prefix: str, seen: set[int]) -> list[tuple[str, ModuleValue]]:
        """(dotted name, module) of this module and all below it, each once, in torch's order."""
        if id(self) in seen:
            return []
        seen.add(id(self))
        found: list[tuple[str, ModuleValue]] = [(prefix, self)]
        for name, child in self.submodules(tracer):
            if not isinstance(child, ModuleValue):
                raise GraphBreak(BreakId.GENERIC_OBJECT, f"the submodule {name} of {self.describe()} is not modelled")
            found += child.walk(tracer, f"{prefix}.{name}" if prefix else name, seen)
        return found

    def members_below(self, tracer: Tracer, store: str, recurse: bool) -> list[tuple[str, Value]]:
        """(dotted name, tensor) of all parameters or buffers, each tensor once."""
        modules = self.walk(tracer, "", set()) if recurse else [("", self)]
        found: list[tuple[str, Value]] = []
        seen: set[int] = set()
        for prefix, module in modules:
            contents = module.store(tracer, store)
            if contents is None:
                continue
            for key, value in zip(contents.keys(tracer), contents.values(tracer)):
                if _is_none(value) or id(value) in seen:
                    continue
                seen.add(id(value))
                name = key.as_constant()
                found.append((f"{prefix}.{name}" if prefix else name, value))
        return found


class ModuleSliceValue(ModuleValue):
    """A slice of a ModuleList or Sequential: a new container of the same modules."""

    kind = "a slice of modules"
    __slots__ = ("modules", "names")

    def __init__(self, whole: ModuleValue, tracer: Tracer, names: Sequence[str], modules: Sequence[Value]) -> None:
        super().__init__(whole.class_value)
        self.modules = list(modules)
        # A Sequential keeps the names, a ModuleList numbers anew
        self.names = [str(i) for i in range(len(modules))] if self.cls is torch.nn.ModuleList else list(names)
        numbered = {name: (tracer.constant(name), item) for name, item in zip(self.names, modules)}
        effects = tracer.side_effects
        effects.store_attribute(self, "_modules", DictValue(numbered))
        effects.store_attribute(self, "training", tracer.constant(True))
        for name in ("_parameters", "_buffers", *_INSTANCE_HOOKS):
            effects.store_attribute(self, name, DictValue({}))

    def children(self) -> Sequence[Value]:
        return (self.class_value, *self.modules)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call()
        emitter.load_value(self.class_value)
        emitter.callable_ready()
        if self.cls is torch.nn.ModuleList:
            for item in self.modules:
                emitter.load_value(item)
            emitter.build_list(len(self.modules))
            emitter.call(1)
            return
        emitter.begin_call(OrderedDict)
        for name, item in zip(self.names, self.modules):
            emitter.load_constant(name)
            emitter.load_value(item)
        emitter.build_dict(len(self.modules))
        emitter.call(1)
        emitter.call(1)


_PLAIN_CONTAINERS: frozenset[type] = frozenset({torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict})
VALUE_CLASSES.append((torch.nn.Module, ModuleValue))


def is_overridden_getattr(cls: type) -> bool:
    """Whether a module class has its own `__getattr__` or `__getattribute__`."""
    return find_in_class(cls, "__getattr__")[0] is not _BASE.__getattr__ or is_overridden(cls, "__getattribute__")


def check_no_global_hooks(tracer: Tracer, names: Sequence[str]) -> None:
    """Raise GraphBreak if one of these dicts of torch's hooks on all modules is not empty; that it is, is guarded."""
    source = ModuleSource(torch_module.__name__)
    for name in names:
        hooks = getattr(torch_module, name)
        tracer.guard(LengthIs(AttributeSource(source, name), len(hooks)))
        if hooks:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"a global module hook is registered ({name})")


def _is_none(value: Value) -> bool:
    value = value.realize()
    return isinstance(value, ConstantValue) and value.obj is None


def _dict_of(tracer: Tracer, named: Mapping[str, Value]) -> Value:
    return DictValue({name: (tracer.constant(name), value) for name, value in named.items()})


def _pairs(tracer: Tracer, found: Sequence[tuple[str, Value]]) -> Value:
    rows = [make_tuple(tracer, [tracer.constant(name), value]) for name, value in found]
    return FixedIteratorValue(rows, type(_ for _ in ()))


def _values(tracer: Tracer, found: Sequence[tuple[str, Value]]) -> Value:
    return FixedIteratorValue([value for _, value in found], type(_ for _ in ()))


def _named_children(module: ModuleValue, tracer: Tracer) -> Value:
    seen: dict[int, tuple[str, Value]] = {}
    for name, value in module.submodules(tracer):
        seen.setdefault(id(value), (name, value))
    return _pairs(tracer, list(seen.values()))


def _children(module: ModuleValue, tracer: Tracer) -> Value:
    seen = {id(value): (name, value) for name, value in reversed(module.submodules(tracer))}
    return _values(tracer, list(seen.values())[::-1])


def _named_modules(module: ModuleValue, tracer: Tracer) -> Value:
    return _pairs(tracer, module.walk(tracer, "", set()))


def _modules(module: ModuleValue, tracer: Tracer) -> Value:
    return _values(tracer, module.walk(tracer, "", set()))


def _members(store: str, named: bool) -> Any:
    def listing(module: ModuleValue, tracer: Tracer, *args: Value, **kwargs: Value) -> Value:
        recurse = kwargs.pop("recurse", None) or (args[0] if args and not named else None)
        if kwargs or (args and named) or len(args) > 1:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a listing of parameters with a prefix is not modelled")
        found = module.members_below(tracer, store, recurse is None or recurse.truth(tracer))
        return _pairs(tracer, found) if named else _values(tracer, found)

    return listing


_LISTINGS: dict[str, Any] = {
    "named_children": _named_children,
    "children": _children,
    "named_modules": _named_modules,
    "modules": _modules,
    "parameters": _members("_parameters", False),
    "named_parameters": _members("_parameters", True),
    "buffers": _members("_buffers", False),
    "named_buffers": _members("_buffers", True),
}


@wraps_base(torch.nn.Module)
def wrap_module(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A module that existed before the frame."""
    tracer.guard(TypeIs(source, type(obj)))
    return wrap_object(tracer, obj, source)


@handles(_BASE._call_impl, _BASE.__call__)  # which is `_wrapped_call_impl`
def call_module(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    receiver = args[0].realize()
    if not isinstance(receiver, ModuleValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`Module.__call__` of something that is no module")
    return receiver.call_forward(tracer, args[1:], kwargs)


@handles(_BASE.__getattr__)
def get_member(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    receiver, name = args[0].realize(), args[1].as_constant()
    if not isinstance(receiver, ModuleValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`Module.__getattr__` of something that is no module")
    member = receiver.member(tracer, name)
    return member if member is not None else missing_attribute(tracer, receiver, name)


@handles(_BASE.__setattr__)
def set_member(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    receiver = args[0].realize()
    if not isinstance(receiver, ModuleValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`Module.__setattr__` of something that is no module")
    receiver.set_member(tracer, args[1].as_constant(), args[2].realize())
    return tracer.constant(None)


@handles(torch.nn.RNNBase._weights_have_changed)
def weights_have_changed(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Whether the flat list of a recurrent module's weights is out of date; that it is not is guarded."""
    receiver = args[0].realize()
    if not isinstance(receiver, ModuleValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a method of recurrent modules on something else")
    names = receiver.get_attribute(tracer, "_flat_weights_names").unpack(tracer)
    flat = receiver.get_attribute(tracer, "_flat_weights").unpack(tracer)
    for name, weight in zip(names, flat):
        member = receiver.member(tracer, name.as_constant())
        if member is None or not operators.is_same(tracer, member, weight):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"the weights of {receiver.describe()} were replaced")
    return tracer.constant(False)
