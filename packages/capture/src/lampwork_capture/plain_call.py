"""Plain calls: when calling a module comes to nothing but calling its `forward`.

`torch.nn.Module.__call__` looks for hooks in two Python frames; an optimized module (`optimize.py`) asks a guard tree
instead and then calls `forward` at once (csrc/module_call.c). Invariant: the facts are all that `__call__` would look
at, so what they do not prove goes the module's own way.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch
import torch.jit._trace
import torch.nn.modules.module

from . import _native
from .guards.facts import (
    ByIdentity,
    ConstantIs,
    Fact,
    Guard,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    LengthIs,
    TypeIs,
)
from .guards.tree import Stamps, UnsupportedGuardError, build_tree
from .source import AttributeSource, GlobalSource, LocalSource, Source, TypeSource

GLOBALS: dict[str, Any] = torch.nn.modules.module.__dict__
_TRACING = torch.jit._trace
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)


def _scope(module: Any, tracing: Any) -> None:
    """What the facts speak about, as the arguments of a function."""


def plain_call(module: torch.nn.Module, verify: bool) -> tuple[_native.GuardTree | None, tuple[Any, ...]]:
    """A tree that holds while `module(...)` is `module.forward(...)`, or None, and what it is checked for.

    Its globals are `GLOBALS`."""
    scope = (module, _TRACING)
    forward = getattr(type(module), "forward", None)
    if not isinstance(forward, FunctionType) or not vars(module).keys() >= set(_HOOKS):
        return None, scope  # no module as torch makes them
    try:
        guards = GuardSet(tuple(Guard(fact) for fact in _facts(module, forward)))
        tree = build_tree(guards, _scope.__code__, stamps=Stamps.VERIFIED if verify else Stamps.ALWAYS)
    except UnsupportedGuardError:
        return None, scope
    return tree, scope


def _facts(module: torch.nn.Module, forward: FunctionType) -> list[Fact]:
    of_module, cls = LocalSource("module"), TypeSource(LocalSource("module"))
    facts: list[Fact] = [TypeIs(of_module, type(module))]
    facts += [InstanceDictLacks(of_module, name) for name in ("forward", "_call_impl", "_compiled_call_impl")]
    facts += [
        IdentityIs(AttributeSource(cls, "forward"), ByIdentity(forward)),
        IdentityIs(AttributeSource(cls, "__call__"), ByIdentity(torch.nn.Module._wrapped_call_impl)),
        IdentityIs(AttributeSource(cls, "_call_impl"), ByIdentity(torch.nn.Module._call_impl)),
        ConstantIs(AttributeSource(cls, "_compiled_call_impl"), ByIdentity(None)),
        # While a call is recorded by torch.jit.trace, modules tell where it is
        ConstantIs(AttributeSource(LocalSource("tracing"), "_trace_module_map"), ByIdentity(None)),
    ]
    hooks: list[tuple[Source, Any]] = [(AttributeSource(of_module, name), vars(module)[name]) for name in _HOOKS]
    hooks += [(GlobalSource(name), GLOBALS[name]) for name in _GLOBAL_HOOKS]
    for source, table in hooks:
        facts += [TypeIs(source, type(table)), LengthIs(source, 0)]
    return facts
