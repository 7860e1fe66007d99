"""`torch.func.functional_call`: a module called with given tensors in the place of its parameters and buffers.

The given tensors stand in `Tracer.given_members` while the call is traced, where modules look for their members first;
the real module is neither written to nor restored. Invariants: members that are one tensor in the module stay one, and
which are is guarded; a buffer that forward assigns anew is handed back in the dict, as in eager.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils import stateless

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import AllDistinct
from .base import Tracer, Value
from .module import ModuleValue
from .registry import handles
from .tensor import TensorValue

_IMPLEMENTATION: Any = vars(stateless)["_functional_call"]
_STORES = ("_parameters", "_buffers")


@handles(_IMPLEMENTATION)
def call_with_members(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`_functional_call(module, parameters_and_buffers, args, kwargs, tie_weights=, strict=)`."""
    given = {**dict(zip(("module", "members", "args", "kwargs"), args)), **kwargs}
    module = given["module"].realize()
    table = given["members"].realize()
    if not isinstance(module, ModuleValue) or module.obj is None:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`functional_call` of {module.describe()} is not modelled")
    members = {str(name): value.realize() for name, value in tracer.items_of_mapping(table)}
    known = _named_members(tracer, module)
    if not set(members) <= set(known) or ("strict" in given and given["strict"].truth(tracer)):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`functional_call` with names that the module lacks, or strict")
    replaced = (
        _with_ties(members, known) if "tie_weights" not in given or given["tie_weights"].truth(tracer) else members
    )
    before = dict(tracer.given_members)
    for name, value in replaced.items():
        tracer.given_members[_place(known[name][0], name)] = value
    try:
        result = _call(tracer, module, given.get("args"), given.get("kwargs"))
        for name, value in members.items():
            after = tracer.given_members[_place(known[name][0], name)]
            if after is not value:
                table.set_item(tracer, tracer.constant(name), after)
    finally:
        tracer.given_members = before
    return result


def _call(tracer: Tracer, module: ModuleValue, args: Value | None, kwargs: Value | None) -> Value:
    named: dict[str, Value] = {}
    if kwargs is not None and not _is_none(kwargs):
        named = {str(name): value for name, value in tracer.items_of_mapping(kwargs.realize())}
    if args is None or _is_none(args):
        return module.call(tracer, [], named)
    args = args.realize()
    return module.call(tracer, args.unpack(tracer) if issubclass(args.python_type(), tuple) else [args], named)


def _is_none(value: Value) -> bool:
    value = value.realize()
    return value.is_constant() and value.as_constant() is None


def _place(owner: ModuleValue, name: str) -> tuple[int, str]:
    return id(owner.obj), name.rpartition(".")[2]


def _named_members(tracer: Tracer, module: ModuleValue) -> dict[str, tuple[ModuleValue, Value]]:
    """(module that holds it, tensor) of all parameters and buffers by dotted name, tied ones under each of theirs."""
    found: dict[str, tuple[ModuleValue, Value]] = {}
    for prefix, owner in module.walk(tracer, "", set()):
        for store in _STORES:
            contents = owner.store(tracer, store)
            if contents is None or owner.obj is None or isinstance(owner.obj, torch.nn.RNNBase):
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`functional_call` over {owner.describe()}")
            for key, value in zip(contents.keys(tracer), contents.values(tracer)):
                if not _is_none(value):
                    name = key.as_constant()
                    found[f"{prefix}.{name}" if prefix else name] = (owner, value.realize())
    sources = list({id(value): value.source for _, value in found.values() if value.source is not None}.values())
    if len(sources) > 1:
        tracer.guard(AllDistinct(sources[0], tuple(sources[1:])))
    return found


def _with_ties(members: dict[str, Value], known: dict[str, tuple[ModuleValue, Value]]) -> dict[str, Value]:
    """The given members, also under the other names of the tensors that they replace."""
    names: dict[int, list[str]] = {}
    for name, (_, value) in known.items():
        names.setdefault(id(value), []).append(name)
    replaced = dict(members)
    for name, value in members.items():
        for other in names[id(known[name][1])]:
            if members.get(other, value) is not value or not isinstance(value, TensorValue):
                raise GraphBreak(
                    BreakId.EXCEPTION_NOT_MODELLED, f"several tensors for {name}, which is tied to {other}"
                )
            replaced[other] = value
    return replaced
