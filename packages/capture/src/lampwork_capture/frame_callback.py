"""FrameCallback: what the native hook calls for a frame that no cache entry fits, and what happens when we fail.

It owns the settings and the records of one `optimize` call, and is the owner of its cache entries. Invariants: one
conversion at a time in a process; whatever goes wrong, the user's frame runs, unless strictness or fullgraph was asked
for; every failure warns once for each place.
"""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

import torch

from . import _native
from .captured_frame import CapturedFrame
from .config import CaptureConfig
from .convert_frame import convert
from .errors import BackendError, CaptureError, GraphBreakError
from .graph.builder import EXAMPLE, TracedGraph
from .graph_break import BreakId, BreakRecord, SkipFrame
from .guards.facts import GuardSet, UserLine
from .guards.reason import Failure, first_failure, weakened
from .guards.tree import build_tree
from .skip_policy import SkipPolicy, is_disabled
from .source import AttributeSource, FrameScope, Source

GraphBackend = Callable[[torch.fx.GraphModule, list[torch.Tensor]], Callable[..., Sequence[Any]]]

_conversion = threading.RLock()
_REPORT = "Please report it with this message; set LAMPWORK_STRICT=1 to see the whole error."


class CaptureWarning(UserWarning):
    """A frame runs eagerly though it was to be optimized."""


class FrameCallback:
    """Converts frames for one backend. `records` grows with each conversion; `recompilations` tells why."""

    def __init__(self, backend: GraphBackend, name: str, config: CaptureConfig, policy: SkipPolicy) -> None:
        self.backend = backend
        self.backend_name = name
        self.config = config
        self.policy = policy
        self.records: list[CapturedFrame] = []
        self.recompilations: list[tuple[CodeType, Failure | None]] = []

        self._warned: set[tuple[str, int, str]] = set()

    def __call__(self, view: Any, entries: tuple[Any, ...]) -> Any:
        """A CacheEntry for the frame, or SKIP."""
        code: CodeType = view.code
        if view.function is not None and is_disabled(view.function):
            return _native.SKIP_RECURSIVE
        if not self.policy.converts_frame(code):
            return _native.SKIP
        scope = FrameScope(view.local_values, view.cells, view.global_values, view.builtin_values)
        with _conversion:
            return self._convert(code, scope, entries)

    def _convert(self, code: CodeType, scope: FrameScope, entries: tuple[Any, ...]) -> Any:
        if entries:
            self._note_recompilation(code, scope, entries)
        if len(entries) >= self.config.recompile_limit:
            self._skip(code, BreakId.RECOMPILE_LIMIT, self._why_recompiled(code))
            return _native.SKIP
        try:
            captured = convert(code, scope, self.config, self.policy, self.compile_graph)
            tree = build_tree(captured.guards, code)
        except SkipFrame as skip:
            if self.config.fullgraph and skip.break_id is not BreakId.NO_TENSOR_WORK:
                line = UserLine(code.co_filename, code.co_firstlineno, code.co_qualname)
                raise GraphBreakError(BreakRecord(skip.break_id, skip.cause, skip.break_id.hint, line)) from None
            self._skip(code, skip.break_id, skip.cause)
            return _native.SKIP
        except GraphBreakError:
            raise
        except BackendError as error:
            if self._is_strict():
                raise
            self._warn_once(code, str(error))
            return _native.SKIP
        except Exception as error:
            line = UserLine(code.co_filename, code.co_firstlineno, code.co_qualname)
            problem = CaptureError(f"Lampwork failed: {type(error).__name__}: {error}", line, _REPORT)
            if self._is_strict():
                raise problem from error
            self._warn_once(code, str(problem))
            return _native.SKIP
        guards = weakened(captured.guards)
        self.records.append(dataclasses.replace(captured, guards=guards, graph=_without_examples(captured.graph)))
        assert captured.replacement is not None
        return _native.CacheEntry(tree, captured.replacement, guards)

    def _is_strict(self) -> bool:
        return self.config.strict or self.config.fullgraph

    # Compiling graphs

    def compile_graph(self, traced: TracedGraph) -> Callable[..., Any]:
        """Give a finished graph to the backend; capture is off inside what it returns."""
        annotate(traced)
        examples = [entry.example for entry in traced.inputs]
        try:
            compiled = self.backend(traced.module, examples)
        except Exception as error:
            line = next((n.meta["user_line"] for n in traced.module.graph.nodes if "user_line" in n.meta), None)
            raise BackendError(self.backend_name, error, line) from error
        return _native.OptimizedCallable(compiled)

    # Records and warnings

    def _skip(self, code: CodeType, break_id: BreakId, cause: str) -> None:
        line = UserLine(code.co_filename, code.co_firstlineno, code.co_qualname)
        record = BreakRecord(break_id, cause, break_id.hint, line)
        self.records.append(CapturedFrame(code.co_qualname, code, None, None, GuardSet(()), record))
        if break_id is BreakId.RECOMPILE_LIMIT:
            self._warn_once(code, f"{break_id.code}: {cause}. {break_id.hint}")

    def _note_recompilation(self, code: CodeType, scope: FrameScope, entries: tuple[Any, ...]) -> None:
        guards = entries[0].payload
        failure = first_failure(guards, scope) if isinstance(guards, GuardSet) else None
        self.recompilations.append((code, failure))

    def _why_recompiled(self, code: CodeType) -> str:
        reasons = [str(failure) for known, failure in self.recompilations if known is code and failure is not None]
        return f"`{code.co_qualname}` was captured {self.config.recompile_limit} times; last: {reasons[-1:]}"

    def _warn_once(self, code: CodeType, message: str) -> None:
        key = (code.co_filename, code.co_firstlineno, message)
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f"{message}\n  `{code.co_qualname}` runs eagerly.", CaptureWarning, stacklevel=2)


def _without_examples(traced: TracedGraph | None) -> TracedGraph | None:
    """The graph as it is kept: records do not keep the user's tensors alive."""
    if traced is None:
        return None
    inputs = tuple(dataclasses.replace(entry, example=entry.fake) for entry in traced.inputs)
    return dataclasses.replace(traced, inputs=inputs)


def annotate(traced: TracedGraph) -> None:
    """Put on the nodes what backends read: `val`, and on inputs `source` and `static_input`; the user's lines."""
    inputs = {entry.name: entry for entry in traced.inputs}
    for node in traced.module.graph.nodes:
        if EXAMPLE in node.meta:
            node.meta["val"] = node.meta[EXAMPLE]
        line = node.meta.get("lampwork_user_line")
        if line is not None:
            node.meta["user_line"] = line
        if node.op == "placeholder":
            entry = inputs[node.name]
            node.meta["source"] = entry.source
            node.meta["static_input"] = isinstance(entry.example, torch.nn.Parameter) or is_module_state(entry.source)


def is_module_state(source: Source) -> bool:
    """Whether a source reads a parameter or buffer table of a module."""
    node: Source | None = source
    while node is not None:
        if isinstance(node, AttributeSource) and node.name in ("_parameters", "_buffers"):
            return True
        node = node.parent
    return False
