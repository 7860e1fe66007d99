"""`optimize`: just-in-time capture of a function or a module with a graph backend.

The result is called like the original; inside the call the frame hook converts what it meets. Invariants: nothing is
patched and no hook is on outside such calls; an optimized module shares all its state with the original.
"""

from __future__ import annotations

import copy
import importlib.metadata
import pickle
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.nn.modules.lazy import LazyModuleMixin

from . import _native
from .config import CaptureConfig, config_from_environment
from .frame_callback import FrameCallback
from .graph_backend import GraphBackend
from .guards.facts import ByIdentity
from .plain_call import GLOBALS, plain_call
from .skip_policy import SkipPolicy

_ENTRY_POINTS = "torch_dynamo_backends"

# torch's own capture steps aside while an optimized call of ours runs inside a function of its own.
_native.set_peer(torch._C._dynamo.eval_frame.set_eval_frame)  # pyright: ignore[reportAttributeAccessIssue]


class UnknownBackendError(ValueError):
    """No backend is registered under that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"unknown backend {name!r}; known are {', '.join(sorted(known))}. "
            f"Pass a callable, or install a package that registers it as an entry point of `{_ENTRY_POINTS}`."
        )


def eager_backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> Callable[..., Any]:
    """The backend "eager": runs the captured graph as it is."""
    return graph.forward


def resolve_backend(backend: str | GraphBackend) -> tuple[str, GraphBackend]:
    """A backend and its name, from either. Raises UnknownBackendError."""
    if not isinstance(backend, str):
        return getattr(backend, "__name__", type(backend).__name__), backend
    if backend == "eager":
        return backend, eager_backend
    found = {point.name: point for point in importlib.metadata.entry_points(group=_ENTRY_POINTS)}
    if backend not in found:
        raise UnknownBackendError(backend, ["eager", *found])
    return backend, found[backend].load()


def optimize(
    backend: str | GraphBackend = "eager", *, fullgraph: bool = False, dynamic: bool | None = None
) -> Callable[[Any], Any]:
    """A decorator that captures graphs of a function or `nn.Module` when it is called, for `backend` to compile.

    `fullgraph`: a graph break raises `GraphBreakError` instead of splitting the function. `dynamic`: which sizes of
    input tensors one capture is for. None: the given ones first, and all once they have varied; True: all from the
    start; False: the given ones only. `mark_dynamic` and `mark_static` win.
    """
    name, compiler = resolve_backend(backend)

    def decorate(target: Any) -> Any:
        config = config_from_environment(fullgraph=fullgraph, dynamic=dynamic)
        return with_callback(target, shared_callback(compiler, name, config))

    return decorate


def with_callback(target: Any, callback: FrameCallback) -> Any:
    """The optimized form of a function or module, whose frames `callback` converts."""
    if isinstance(target, OptimizedModule):
        target = target._orig_mod
    if isinstance(target, torch.nn.Module):
        if type(target).__call__ is not torch.nn.Module.__call__:
            return CalledModule(target, callback)
        return (LazyModule if isinstance(target, LazyModuleMixin) else OptimizedModule)(target, callback)
    if not callable(target):
        raise TypeError(f"optimize needs a function or a module, not {type(target).__name__}")
    return _native.OptimizedCallable(target, callback, callback)


class OptimizedModule(_native.ModuleCall, torch.nn.Module):
    """A module with an optimized `forward`. Its attributes, parameters, hooks and mode are the original's own.

    It is called natively: `forward` at once where the original's call would do nothing else (plain_call.py).

    A `forward` that is assigned to the module or its class later is optimized in its turn. `copy.deepcopy` optimizes a
    copy of the original; a pickle optimizes the unpickled original again, with the backend of the same name.
    """

    __slots__ = ("_optimized", "_orig_mod", "_wrapped_forward", "lampwork_callback")

    def __init__(self, module: torch.nn.Module, callback: FrameCallback) -> None:
        object.__setattr__(self, "__dict__", module.__dict__)  # one state, two classes
        object.__setattr__(self, "_orig_mod", module)
        object.__setattr__(self, "lampwork_callback", callback)
        # Hooks run as the original runs them, and are given the original
        whole = _whole_call(module, callback)
        plain, scope = plain_call(module, callback.config.verify)
        self._set_calls(whole, self._optimize_forward(module.forward), plain, scope, GLOBALS)

    def _optimize_forward(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        callback = self.lampwork_callback
        optimized = _native.OptimizedCallable(forward, callback, callback)
        object.__setattr__(self, "_wrapped_forward", forward)
        object.__setattr__(self, "_optimized", optimized)
        return optimized

    @property
    def forward(self) -> Callable[..., Any]:  # type: ignore[override]
        current = self._orig_mod.forward
        known = self._wrapped_forward
        if current is known or (isinstance(current, MethodType) and isinstance(known, MethodType) and current == known):
            return self._optimized
        return self._optimize_forward(current)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orig_mod, name)

    def __repr__(self) -> str:
        return f"OptimizedModule({self._orig_mod!r})"

    def __copy__(self) -> OptimizedModule:
        return type(self)(copy.copy(self._orig_mod), self.lampwork_callback)

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        return type(self)(copy.deepcopy(self._orig_mod, memo), self.lampwork_callback)

    def __reduce_ex__(self, protocol: Any) -> Any:
        callback = self.lampwork_callback
        name = callback.backend_name
        if not _is_registered(name, callback.backend):
            raise pickle.PicklingError(
                f"an optimized module is pickled by the name of its backend, and {name!r} is no registered one; "
                "pickle the original, `optimized._orig_mod`"
            )
        return _unpickle, (self._orig_mod, name, callback.config.fullgraph, callback.config.dynamic)


def _whole_call(module: torch.nn.Module, callback: FrameCallback) -> Callable[..., Any]:
    """The call of a module as its class makes it, whatever that is by then."""
    known: Any = type(module).__call__
    optimized = _native.OptimizedCallable(module.__call__, callback, callback)

    def call(*args: Any, **kwargs: Any) -> Any:
        if type(module).__call__ is known:
            return optimized(*args, **kwargs)
        return _native.OptimizedCallable(module.__call__, callback, callback)(*args, **kwargs)

    return call


def _is_registered(name: str, backend: GraphBackend) -> bool:
    """Whether a backend is the one of that name, or of the package that registers the name."""
    try:
        registered = resolve_backend(name)[1]
    except UnknownBackendError:
        return False
    packages = [getattr(found, "__module__", None) or type(found).__module__ for found in (registered, backend)]
    return registered is backend or packages[0].partition(".")[0] == packages[1].partition(".")[0]


def _unpickle(module: torch.nn.Module, backend: str, fullgraph: bool, dynamic: bool | None = None) -> Any:
    return optimize(backend, fullgraph=fullgraph, dynamic=dynamic)(module)


class CalledModule(OptimizedModule):
    """An optimized module whose class has a `__call__` of its own: that is what a call of it runs."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        callback = self.lampwork_callback
        return _native.OptimizedCallable(self._orig_mod.__call__, callback, callback)(*args, **kwargs)


class LazyModule(OptimizedModule):
    """An optimized module whose parameters are made by its first call: that one is the original's own."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = self._orig_mod
        if any(isinstance(part, LazyModuleMixin) and hasattr(part, "_initialize_hook") for part in module.modules()):
            return module(*args, **kwargs)  # a hook makes the parameters and changes the class of the original
        return super().__call__(*args, **kwargs)


_callbacks: WeakValueDictionary[tuple[ByIdentity, str, CaptureConfig], FrameCallback] = WeakValueDictionary()
_making = threading.Lock()


def shared_callback(backend: GraphBackend, name: str, config: CaptureConfig) -> FrameCallback:
    """The callback of all that is optimized for one backend with the same settings, while any of it lives.

    It owns the cache entries: so many modules of one class, each optimized by itself, share what was captured."""
    key = (ByIdentity(backend), name, config)
    with _making:
        callback = _callbacks.get(key)
        if callback is None:
            callback = _callbacks[key] = FrameCallback(backend, name, config, shared_policy(), keep_records=False)
        return callback


_policy: list[SkipPolicy] = []


def shared_policy() -> SkipPolicy:
    """The default policy, made at first use: its answers depend on code only."""
    if not _policy:
        _policy.append(SkipPolicy())
    return _policy[0]
