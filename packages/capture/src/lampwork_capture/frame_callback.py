"""FrameCallback: what the native hook calls for a frame that no cache entry fits, and what happens when we fail.

It owns the settings and the records of one `optimize` call, and is the owner of its cache entries. Invariants: one
trace at a time in a process (`conversion_lock`); whatever goes wrong, the user's frame runs, unless strictness or
fullgraph was asked for; every failure warns once for each place.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

import torch

from . import _native, own_builtins
from .bytecode.code_map import CodeMap
from .bytecode.version import qualified_name
from .captured_frame import CapturedFrame
from .code_cache import CodeCache, GuardsDoNotHoldError, fits_another, scope_of
from .config import CaptureConfig
from .conversion_lock import CONVERSIONS, Flight
from .convert_frame import Attempt, convert
from .errors import REPORT, BackendError, CaptureError, CaptureWarning, GraphBreakError, SpecializedDimensionError
from .graph.failed_checks import FEW_CALLS, FailedChecks
from .graph.subgraph import EXAMPLE
from .graph.tensor_sizes import SymbolicSizes
from .graph.traced_graph import TracedGraph
from .graph_backend import DATA_SIZES, GraphBackend
from .graph_break import BreakId, BreakRecord, SkipFrame
from .graph_state import restoring_state
from .guards.facts import GLOBAL_STATE, GlobalStateIs, Guard, GuardSet, UserLine
from .guards.global_state import modes_now, observed_by_modes
from .idle_breaks import IdleBreaks
from .interpreter.output import Compiled, CompileGraph
from .number_variants import TAKES_NUMBERS, with_number_variants
from .recompilation import Recompilation
from .size_memory import SizeMemory
from .skip_policy import SkipPolicy, called_function, counts_objects, is_disabled, runs_natively
from .source import is_module_state
from .varying import VaryingNumbers

_LOST_RACES = 8  # conversions of one code object in a row that other threads may spoil before it counts as a failure


class SymbolsRefused(Exception):
    """The backend raised for a graph with symbolic sizes. It may know numbers only."""


class DataSizesRefused(Exception):
    """The backend does not take this graph with sizes that depend on data: the frame breaks where they are made."""


class FrameCallback:
    """Converts frames for one backend; the owner of its cache entries.

    `cache.recompilations` tells why frames were captured again. `records` grows with each conversion if
    `keep_records`, for `capture` and `explain`; a plain `optimize` keeps none, so that it keeps no code alive.
    """

    def __init__(
        self,
        backend: GraphBackend,
        name: str,
        config: CaptureConfig,
        policy: SkipPolicy,
        *,
        keep_records: bool = True,
    ) -> None:
        self.backend = backend
        self.backend_name = name
        self.config = config
        self.policy = policy
        memory = None if config.memory is None else SizeMemory(config.memory)
        self.cache = CodeCache(limit=config.recompile_limit, verify=config.verify, varying=VaryingNumbers(memory))
        self.records: list[CapturedFrame] = []
        self._keep_records = keep_records
        self.idle_breaks = IdleBreaks()
        # what breaks where sizes depend on data, by the backend's will or the data's
        self._refused_data: CodeMap[bool] = CodeMap()
        self._refused_symbols = False  # whether the backend failed with a graph of symbolic sizes
        self._told_of_data = False
        self._warned: set[tuple[str, int, str]] = set()
        self._races: CodeMap[int] = CodeMap()

    def __call__(self, view: Any, entries: tuple[Any, ...]) -> Any:
        """A CacheEntry for the frame, or a marker of what to do instead."""
        if own_builtins.are_replaced():
            return None
        code: CodeType = view.code
        function = view.function or called_function(code, view.local_values, view.global_values)
        if function is not None and is_disabled(function):
            return _native.SKIP_RECURSIVE
        if counts_objects(code) and self.policy.converts_frame(code):
            self._refuse(code, f"`{qualified_name(code)}` reads the interpreter's memory")
            return _native.SKIP_RECURSIVE
        if runs_natively(code) or not self.policy.converts_frame(code):
            return _native.SKIP
        if observed_by_modes():
            return self._skip_under_modes(view, entries)
        while True:
            if not CONVERSIONS.acquire():
                return None
            try:
                if fits_another(view, entries, self):
                    return _native.RETRY
                flight = CONVERSIONS.flight_of(view, self)
                if flight is None:
                    return self._convert(view, entries)
            finally:
                CONVERSIONS.land(self, code)
                CONVERSIONS.release()
            if not CONVERSIONS.await_landing(flight):
                return None

    def _convert(self, view: Any, entries: tuple[Any, ...]) -> Any:
        code: CodeType = view.code
        missed = self.cache.note_miss(view, entries)
        if self.cache.is_over_limit(entries, missed):
            self._give_up(code, entries, missed)
            return _native.SKIP
        attempt = Attempt()
        line = _first_line(code)
        try:
            compile_graph = partial(self.compile_graph, view, attempt)
            captured = self._captured(view, compile_graph, attempt)
            if fits_another(view, entries, self):
                return _native.RETRY
            entry = self.cache.make_entry(view, captured.guards, captured.replacement, handed=captured.handed)
        except SkipFrame as skip:
            record = BreakRecord(skip.break_id, skip.cause, skip.break_id.hint, line)
            if self.config.fullgraph and skip.break_id is not BreakId.NO_TENSOR_WORK:
                raise GraphBreakError(record) from None
        except (GraphBreakError, SpecializedDimensionError):
            raise
        except RecursionError:
            cause = "too deeply nested to follow: little stack is left, or the data nest as deeply"
            record = BreakRecord(BreakId.FRAME_NOT_MODELLED, cause, BreakId.FRAME_NOT_MODELLED.hint, line)
            if self.config.fullgraph:
                raise GraphBreakError(record) from None
        except BackendError as error:
            if self._is_strict():
                raise
            record = BreakRecord(BreakId.INTERNAL_ERROR, str(error), error.hint, error.user_line or line)
            self._warn_once(code, str(error))
        except Exception as error:
            if isinstance(error, GuardsDoNotHoldError) and self._may_have_lost_race(code):
                return None  # this call runs natively; the next one tries again
            problem = CaptureError(f"Lampwork failed: {type(error).__name__}: {error}", line, REPORT)
            if self._is_strict():
                raise problem from error
            record = BreakRecord(BreakId.INTERNAL_ERROR, str(error), BreakId.INTERNAL_ERROR.hint, line)
            self._warn_once(code, str(problem))
        else:
            self._races.discard(code)
            self._keep(
                dataclasses.replace(captured, guards=entry.payload.guards, graph=_without_examples(captured.graph))
            )
            return entry
        self._keep(CapturedFrame(qualified_name(code), code, None, None, GuardSet(()), record))
        return self._skip_calls_like(view, attempt)

    def _captured(
        self, view: Any, compile_graph: CompileGraph, attempt: Attempt, data_sizes: bool = True
    ) -> CapturedFrame:
        """The converted frame, with sizes that vary, or depend on data, as symbols unless the backend cannot take such
        a graph."""
        code: CodeType = view.code
        wanted = SymbolicSizes.NONE if self._refused_symbols else SymbolicSizes.of(self.config.dynamic)
        varying = self.cache.varying.of(code)
        try:
            return convert(
                code,
                scope_of(view),
                self.config,
                self.policy,
                compile_graph,
                attempt,
                varying,
                self.idle_breaks,
                wanted,
                data_sizes and code not in self._refused_data,
            )
        except DataSizesRefused as refused:
            self._refused_data[code] = True
            self._warn_of_data(refused)
            try:
                return self._captured(view, compile_graph, attempt, data_sizes=False)
            except GraphBreakError as error:
                raise error from refused
        except SymbolsRefused as refused:
            self._refused_symbols = True
            self._warn_of_symbols(refused)
            return self._captured(view, compile_graph, attempt, data_sizes)

    def _warn_of_symbols(self, refused: SymbolsRefused) -> None:
        warnings.warn(
            f"the backend `{self.backend_name}` cannot compile a graph for all sizes ({refused}): each size is a "
            "capture of its own. Pass `dynamic=False` to say so, or pad sizes.",
            CaptureWarning,
            stacklevel=2,
        )

    def _break_at_data(self, reference: weakref.ref[CodeType], problem: str) -> None:
        """The data of many calls do not meet what a graph of this code takes for granted, and ran as plain Python."""
        code = reference()
        if code is None:
            return
        follows = "such calls run as plain Python, as a break is an error under `fullgraph=True`"
        if not self.config.fullgraph:
            follows = "it is captured anew, with a graph break where that depends on data"
            self._refused_data[code] = True
            _native.reset(code)
        name = qualified_name(code)
        warnings.warn(
            f"{FEW_CALLS} or more calls of `{name}` ({code.co_filename}:{code.co_firstlineno}) ran as plain Python, as "
            f"{problem}. {follows[0].upper()}{follows[1:]}. To keep one graph, do not rely on it: pad the data, or "
            "choose between the cases outside the compiled function.",
            CaptureWarning,
            stacklevel=2,
        )

    def _warn_of_data(self, refused: DataSizesRefused) -> None:
        """Once: a backend that refuses one such graph is likely to refuse others."""
        if not self._told_of_data:
            self._told_of_data = True
            warnings.warn(
                f"the backend `{self.backend_name}` cannot compile a graph with sizes that depend on data ({refused}): "
                "such graphs are broken there.",
                CaptureWarning,
                stacklevel=2,
            )

    def _may_have_lost_race(self, code: CodeType) -> bool:
        """Whether guards that do not hold where they were made may be the work of another thread; each time counts."""
        lost = self._races.get(code, 0) + 1
        if len(sys._current_frames()) == 1 or lost > _LOST_RACES:
            return False
        self._races[code] = lost
        return True

    def _skip_under_modes(self, view: Any, entries: tuple[Any, ...]) -> Any:
        """Run natively under a mode of the user's own, which shall see what the program does and nothing of ours."""
        if self.cache.is_over_limit(entries):
            return _native.SKIP
        guards = GuardSet((Guard(GlobalStateIs(GLOBAL_STATE, modes_now())),))
        return self.cache.make_entry(view, guards, None)

    def _is_strict(self) -> bool:
        return self.config.strict or self.config.fullgraph

    def _skip_calls_like(self, view: Any, attempt: Attempt) -> Any:
        """Run natively whatever calls meet the guards that the failed attempt had recorded; all, if it had none."""
        if attempt.guards is None:
            return _native.SKIP
        try:
            return self.cache.make_entry(view, attempt.guards.freeze(), None)
        except GuardsDoNotHoldError:
            return None if self._may_have_lost_race(view.code) else _native.SKIP
        except Exception:  # the guards of a failure may themselves be what failed; plain Python is always right
            return _native.SKIP

    # Compiling graphs

    def compile_graph(self, view: Any, attempt: Attempt, traced: TracedGraph) -> Compiled:
        """Give a finished graph to the backend, outside the lock; capture is off inside what it returns."""
        annotate(traced)
        # What is symbolic is shown as torch.compile shows it: as such, with the value of this call as hint
        symbolic = [type(entry.example) is int or entry.has_symbols for entry in traced.inputs]
        examples = [entry.fake if is_so else entry.example for entry, is_so in zip(traced.inputs, symbolic)]
        try:
            with CONVERSIONS.outside(self._flight(view, attempt)):
                compiled = self._compiled(traced, examples)
        except Exception as error:
            if traced.has_data_sizes and not self.config.strict:
                raise DataSizesRefused(f"{type(error).__name__}: {error}") from error
            if any(entry.has_symbols for entry in traced.inputs) and not self.config.strict:
                raise SymbolsRefused(f"{type(error).__name__}: {error}") from error
            line = next((n.meta["user_line"] for n in traced.module.graph.nodes if "user_line" in n.meta), None)
            raise BackendError(self.backend_name, error, line) from error
        checks = FailedChecks.around(traced.module, compiled, partial(self._break_at_data, weakref.ref(view.code)))
        call = _native.OptimizedCallable(restoring_state(traced.module, checks or compiled))
        return Compiled(call, checks)

    def _flight(self, view: Any, attempt: Attempt) -> Flight | None:
        """What other threads see of this conversion while its graph is compiled."""
        return None if attempt.guards is None else Flight(self, view.code, attempt.guards.freeze())

    def _compiled(self, traced: TracedGraph, examples: list[Any]) -> Callable[..., Any]:
        try:
            return self.backend(traced.module, examples)
        except Exception:
            if getattr(self.backend, TAKES_NUMBERS, False) or not any(entry.is_number for entry in traced.inputs):
                raise
            try:  # it may know tensors only
                return with_number_variants(self.backend)(traced.module, examples)
            except Exception:
                pass
            raise

    # Records and warnings

    def _keep(self, record: CapturedFrame) -> None:
        if self._keep_records:
            self.records.append(dataclasses.replace(record, caller=self._running()))

    def _running(self) -> CodeType | None:
        """The code of the innermost running frame that there is a record of."""
        known = {id(code) for record in self.records for code in (record.code, record.replacement)}
        frame = sys._getframe(1)
        while frame is not None and id(frame.f_code) not in known:
            frame = frame.f_back
        return None if frame is None else frame.f_code

    def _refuse(self, code: CodeType, cause: str) -> None:
        """A frame that runs as plain Python, with all that it calls. Raises GraphBreakError under fullgraph."""
        line = _first_line(code)
        record = BreakRecord(BreakId.FRAME_NOT_MODELLED, cause, BreakId.FRAME_NOT_MODELLED.hint, line)
        if self.config.fullgraph:
            raise GraphBreakError(record)
        self._keep(CapturedFrame(qualified_name(code), code, None, None, GuardSet(()), record))

    def _give_up(self, code: CodeType, entries: tuple[Any, ...], missed: Recompilation | None) -> None:
        """The limit is reached: the code object runs as plain Python from now on, and the user learns why."""
        line = _first_line(code)
        guard, count = (None, 0) if missed is None else missed.commonest
        cause = f"`{qualified_name(code)}` was captured {len(entries)} times"
        hint = BreakId.RECOMPILE_LIMIT.hint
        if guard is not None:
            hint = guard.hint
            cause += f", for {count} other values of `{guard.source}`; now {guard.words}"
        self._keep(
            CapturedFrame(
                qualified_name(code),
                code,
                None,
                None,
                GuardSet(()),
                BreakRecord(BreakId.RECOMPILE_LIMIT, cause, hint, line),
            )
        )
        if not all(entry.is_skip for entry in entries):
            self._warn_once(code, f"{BreakId.RECOMPILE_LIMIT.code}: {cause}. {hint}")

    def _warn_once(self, code: CodeType, message: str) -> None:
        key = (code.co_filename, code.co_firstlineno, message)
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f"{message}\n  `{qualified_name(code)}` runs eagerly.", CaptureWarning, stacklevel=2)


def _first_line(code: CodeType) -> UserLine:
    return UserLine(code.co_filename, code.co_firstlineno, qualified_name(code))


def _without_examples(traced: TracedGraph | None) -> TracedGraph | None:
    """The graph as it is kept: records do not keep the user's tensors alive."""
    if traced is None:
        return None
    inputs = tuple(dataclasses.replace(entry, example=entry.fake) for entry in traced.inputs)
    return dataclasses.replace(traced, inputs=inputs)


def annotate(traced: TracedGraph) -> None:
    """Put on the nodes what backends read: `val`, and on inputs `source` and `static_input`; the user's lines. And on
    the graph, whether sizes depend on data."""
    traced.module.meta[DATA_SIZES] = traced.has_data_sizes
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
            of_module = isinstance(entry.example, torch.nn.Parameter) or is_module_state(entry.source)
            node.meta["static_input"] = of_module and not entry.has_symbols
