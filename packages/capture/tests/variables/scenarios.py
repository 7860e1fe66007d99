"""Scenarios: small programs that call compiled functions several times and change things in between.

A scenario takes a `run` object: `run(f, *args)` calls `f` (plainly, or optimized) and notes what can be seen: result,
arguments and raised exception with its lines, as one description in which aliases show; `run.see(...)` notes anything
else. Both runs must give equal notes. Each scenario runs twice more with its names at module level: the same text, once
over closures and once over globals.
"""

from __future__ import annotations

import ast
import builtins
import collections
import enum
import inspect
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import lampwork_capture
import torch
from lampwork_capture.captured_frame import CapturedFrame
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.graph_break import BreakId
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback

Scenario = Callable[["Run"], object]

_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), torch.dtype, torch.device)
_GROUPS: tuple[type, ...] = tuple(
    getattr(builtins, name) for name in ("BaseExceptionGroup",) if hasattr(builtins, name)
)
_CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


class Scenarios:
    """The scenarios of one file: `whole` ones must be captured without a break, `split` ones need not."""

    def __init__(self) -> None:
        self.found: list[tuple[Scenario, bool]] = []

    def whole(self, scenario: Scenario) -> Scenario:
        self.found.append((scenario, True))
        return scenario

    def split(self, scenario: Scenario) -> Scenario:
        self.found.append((scenario, False))
        return scenario


class Run:
    """One run of a scenario. `optimizer` makes the compiled form of a function; identity for eager."""

    def __init__(self, optimizer: Callable[[Any], Any]) -> None:
        self.optimizer = optimizer
        self.notes: list[Any] = []
        self._compiled: dict[int, tuple[Any, Any]] = {}

    def compiled(self, function: Any) -> Any:
        """The form of a function that is called, the same each time."""
        key = id(function)
        if key not in self._compiled:
            self._compiled[key] = (function, self.optimizer(function))
        return self._compiled[key][1]

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        torch.manual_seed(0)
        called = self.compiled(function)
        result, error = None, None
        try:
            result = called(*args, **kwargs)
        except Exception as raised:
            error = raised
        frames = [] if error is None else traceback.extract_tb(error.__traceback__)
        lines = [(frame.name, frame.lineno) for frame in frames if "/tests/variables/test_" in frame.filename]
        self.notes.append((describe((result, error, args, kwargs)), lines))
        return result

    def see(self, *things: Any) -> None:
        """Note anything."""
        self.notes.append(describe(things))


class Describer:
    """Turns objects into nested lists that compare equal if nothing observable tells them apart."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []

    def __call__(self, obj: Any) -> Any:
        if isinstance(obj, (*_PLAIN, range)) and not isinstance(obj, enum.Enum):
            return (type(obj).__qualname__, repr(obj))
        if isinstance(obj, (type, types.ModuleType)):
            return ("name", getattr(obj, "__qualname__", obj.__name__))
        known = self.numbers.get(id(obj))
        if known is not None and type(obj) is not tuple:
            return ("seen", known)
        self.numbers[id(obj)] = len(self.numbers)
        self.kept.append(obj)
        return [type(obj).__qualname__, *self.parts(obj)]

    def parts(self, obj: Any) -> Iterator[Any]:
        if isinstance(obj, torch.Tensor):
            yield str(obj.dtype), tuple(obj.shape), obj.requires_grad, repr(obj.detach().tolist())
            return
        if isinstance(obj, enum.Enum):
            yield obj.name
            return
        if isinstance(obj, BaseException):
            yield from self.exception(obj)
        elif isinstance(obj, types.FunctionType):
            yield from (obj.__name__, obj.__qualname__, obj.__doc__, obj.__code__.co_name)
            yield self(obj.__defaults__), self(obj.__kwdefaults__)
        elif isinstance(obj, types.MethodType):
            yield self(obj.__func__), self(obj.__self__)
        elif isinstance(obj, (collections.OrderedDict, dict, types.MappingProxyType)):
            yield [(self(key), self(value)) for key, value in obj.items()]
            yield self(getattr(obj, "default_factory", None))
        elif isinstance(obj, (list, tuple, set, frozenset, collections.deque)):
            yield [self(item) for item in obj]
            yield getattr(obj, "maxlen", None)
        elif isinstance(obj, slice):
            yield self((obj.start, obj.stop, obj.step))
        if isinstance(obj, _CALLABLES) or isinstance(obj, BaseException):
            names = getattr(obj, "__dict__", {}) if isinstance(obj, types.FunctionType) else {}
            yield [(name, self(value)) for name, value in names.items()]
            return
        names = getattr(obj, "__dict__", None)
        if isinstance(names, dict) and not isinstance(obj, torch.nn.Module):
            yield [(name, self(value)) for name, value in names.items()]
        for cls in type(obj).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__"):
                    yield name, self(getattr(obj, name, "<empty>"))

    def exception(self, error: BaseException) -> Iterator[Any]:
        yield self(error.args), str(error)
        yield self(vars(error))
        yield self(error.__cause__), self(error.__context__), error.__suppress_context__
        if isinstance(error, _GROUPS):
            yield [self(part) for part in error.exceptions]


def describe(obj: Any) -> Any:
    """A description of an object, its parts and who is the same as whom."""
    return Describer()(obj)


def at_module_level(scenario: Scenario) -> Scenario | None:
    """The same scenario with its names as globals of a fresh module; None if its text needs a function around it."""
    text = textwrap.dedent(inspect.getsource(scenario))
    tree = ast.parse(text)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    ast.increment_lineno(tree, scenario.__code__.co_firstlineno - 1)
    body = ast.Module(definition.body, [])
    try:
        code = compile(body, scenario.__code__.co_filename, "exec")
    except SyntaxError:
        return None

    def around(run: Run) -> object:
        module = types.ModuleType(f"scenario_{scenario.__name__}")
        sys.modules[module.__name__] = module
        given = {name: value for name, value in scenario.__globals__.items() if not name.startswith("__")}
        vars(module).update(given, run=run)
        try:
            exec(code, vars(module))
        finally:
            del sys.modules[module.__name__]
        return None

    return around


def run_scenario(scenario: Scenario) -> tuple[list[Any], list[Any], list[CapturedFrame]]:
    """The notes of the eager and of the optimized run, and what was captured."""
    lampwork_capture.reset()
    callback = FrameCallback(eager_backend, "eager", CaptureConfig(strict=True, recompile_limit=64), shared_policy())
    mode = torch.is_grad_enabled()
    notes: list[list[Any]] = []
    for optimizer in (lambda function: function, lambda function: with_callback(function, callback)):
        run = Run(optimizer)
        try:
            scenario(run)
        finally:
            torch.set_grad_enabled(mode)
        notes.append(run.notes)
    return notes[0], notes[1], callback.records


def breaks_of(scenario: Scenario, records: list[CapturedFrame]) -> list[str]:
    """Why the frames of a scenario's file were not captured whole.

    An exception that nobody catches is no reason, nor is a frame without tensor work."""
    reasons: list[str] = []
    for record in records:
        found = record.graph_break
        if found is not None and record.code.co_filename == scenario.__code__.co_filename:
            is_users = found.cause.endswith("is not caught in the frame") or " raises: " in found.cause
            if found.break_id is not BreakId.NO_TENSOR_WORK and not is_users:
                reasons.append(f"{record.code.co_name}: {found.break_id.code} {found.cause}")
    return reasons


def check_scenario(scenario: Scenario, is_whole: bool) -> None:
    """Eager and optimized agree, over closures and over globals; without a break if `is_whole`."""
    for form in (scenario, at_module_level(scenario)):
        if form is None:
            continue
        expected, actual, records = run_scenario(form)
        assert expected == actual
        assert records, "no frame was looked at"
        if is_whole:
            reasons = breaks_of(scenario, records)
            assert not reasons, reasons
