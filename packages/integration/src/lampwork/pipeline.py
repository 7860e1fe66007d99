"""The whole stack on one page: which stage hands what to which.

    bytecode --capture--> FX graph --aot--> functional ATen graph --inductor_core + device backend--> CompiledGraph

Each arrow is a function of its own package; this module only joins them. Invariant: nothing is decided here but the
wiring, so any stage can be replaced by a user's own with the same calling convention.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import torch
import torch.fx
from lampwork_capture import GraphBackend, with_number_variants
from lampwork_capture.aot import TRAINING, aot_backend
from lampwork_inductor_core import CompiledGraph, Config, compile_graph
from lampwork_inductor_core.backend import BackendNotFound, CompilerNotFound

from .options import StackOptions, TrainingOptions, stack_options
from .training import partition_policy

_TRAINS_ON = frozenset({"cpu", "cuda"})
_backends: WeakValueDictionary[tuple[Config, TrainingOptions, bool], GraphBackend] = WeakValueDictionary()
_making = threading.Lock()


Compiled: TypeAlias = Callable[[torch.fx.GraphModule, CompiledGraph], None]


class EagerFallbackWarning(UserWarning):
    """A captured graph runs through eager operators because no kernels could be made for it."""


def graph_backend(mode: str | None = None, options: Mapping[str, Any] | None = None) -> GraphBackend:
    """The lowering half of the stack, with the calling convention of any `torch.compile` backend.

    `mode` and `options` are those of `lampwork.compile`. Raises OptionError on an unknown mode or option. The returned
    backend takes an FX graph and example inputs and returns a callable of the same inputs; a machine without a compiler
    or a device without a backend gets one warning that names the fix, and the graph runs eagerly.
    """
    strict = os.environ.get("LAMPWORK_STRICT", "") not in ("", "0")
    chosen = stack_options(mode, options)
    key = (chosen.core.config, chosen.training, strict)
    with _making:  # one backend for the same options: capture shares what was compiled between models of one class
        backend = _backends.get(key)
        if backend is None:
            backend = _backends[key] = backend_of(chosen, lambda graph, result: None, strict=strict)
        return backend


def backend_of(options: StackOptions, compiled: Compiled, *, strict: bool) -> GraphBackend:
    """The same for options that are known to be good; `compiled` is shown every graph that was compiled, with its ATen
    form.

    `strict`: a missing compiler or backend raises (CompilerNotFound, BackendNotFound) instead of warning.
    """
    warned: set[str] = set()

    def lampwork(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Sequence[Any]]:
        try:
            chosen = replace(options.core, weights_change=True) if graph.meta.get(TRAINING) else options.core
            result = compile_graph(graph, example_inputs, options=chosen)
        except (CompilerNotFound, BackendNotFound) as error:
            if strict:
                raise
            if str(error) not in warned:
                warned.add(str(error))
                warnings.warn(f"lampwork: graphs run eagerly: {error}", EagerFallbackWarning, stacklevel=2)
            return graph.forward
        compiled(graph, result)
        return result

    # numbers are symbols to the lowering; in graphs that it refuses they are constants of variants
    training = options.training
    functional = aot_backend(
        lampwork,
        partition=partition_policy(options.core, training.memory_budget),
        backward_at_once=training.backward_at_once,
        trains_on=_TRAINS_ON,
        refuse_numbers=True,
    )
    return _named(with_number_variants(functional, symbolic_numbers=True))


def _named(backend: GraphBackend) -> GraphBackend:
    """Messages call a backend by its name."""
    backend.__name__ = "lampwork"  # pyright: ignore[reportFunctionMemberAccess]
    return backend
