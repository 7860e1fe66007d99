"""Runs one module of CPython's test suite in this process, with or without the hook, and tells what each test did.

With the hook every function whose code stands in a test module is converted at its call, tensor work or not. Results
are written as they come, one JSON object a line, so that a crash loses nothing.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import sys
import time
import traceback
import types
import unittest
import unittest.util
import warnings
from collections.abc import Iterable
from typing import IO, Any

import test.support
from lampwork_capture import _native
from lampwork_capture.captured_frame import CapturedFrame
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.idle_breaks import IdleBreaks
from lampwork_capture.optimize import eager_backend
from lampwork_capture.skip_policy import CallPolicy, SkipPolicy

SUITE = os.path.dirname(test.support.__file__).removesuffix("support")
UNITTEST = (unittest.case.__file__, unittest.util.__file__)
RECOMPILE_LIMIT = 32


class TestModulesPolicy(SkipPolicy):
    """Converts what stands in the test suite, its support library excepted; traces through unittest's assertions."""

    def converts_frame(self, code: types.CodeType) -> bool:
        name = code.co_filename
        if name.startswith("<doctest test."):
            return True
        return name.startswith(SUITE) and not name.startswith((SUITE + "support", SUITE + "libregrtest"))

    def of_code(self, code: types.CodeType) -> CallPolicy:
        if code.co_filename in UNITTEST:
            return CallPolicy.INLINE
        return super().of_code(code)


class BreaksOutsideUnittest(IdleBreaks):
    """Traces through unittest's assertions however often they break: what a test asserts shall be converted too."""

    def note(self, codes: Iterable[types.CodeType]) -> None:
        super().note(code for code in codes if code.co_filename not in UNITTEST)


class CountingCallback(FrameCallback):
    """Counts conversions instead of keeping them: a kept record would keep the tests' objects alive."""

    def __init__(self, config: CaptureConfig) -> None:
        super().__init__(eager_backend, "eager", config, TestModulesPolicy())
        self.idle_breaks = BreaksOutsideUnittest()
        self.counts: collections.Counter[str] = collections.Counter()
        self.ids: collections.Counter[str] = collections.Counter()
        self.causes: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self.slowest: list[tuple[float, str]] = []

    def _convert(self, view: Any, entries: tuple[Any, ...]) -> Any:
        start = time.process_time()  # what it takes on a machine with nothing else to do
        try:
            return super()._convert(view, entries)
        finally:
            spent = time.process_time() - start
            self.seconds += spent
            if spent > 0.5:
                self.slowest.append((round(spent, 2), f"{view.code.co_qualname}:{view.code.co_firstlineno}"))

    def _keep(self, record: CapturedFrame) -> None:
        found = record.graph_break
        self.counts["skipped" if record.is_skipped else "whole" if found is None else "broken"] += 1
        if found is not None:
            self.ids[f"{found.break_id.code} {found.break_id.title}"] += 1
            self.causes[f"{found.break_id.code} {found.cause}"[:160]] += 1

    def summary(self) -> dict[str, Any]:
        return {
            "counts": dict(self.counts),
            "ids": dict(self.ids),
            "causes": dict(self.causes.most_common(60)),
            "seconds": round(self.seconds, 1),
            "slowest": sorted(self.slowest, reverse=True)[:8],
        }


class StreamingResult(unittest.TestResult):
    """Writes the outcome of each test, and why it failed."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self.out = stream
        self.began = 0.0

    def tell(self, test_id: str, outcome: str, detail: str = "") -> None:
        seconds = round(time.perf_counter() - self.began, 2)
        line = {"test": test_id, "outcome": outcome, "detail": detail[-3000:], "seconds": seconds}
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.began = time.perf_counter()
        self.out.write(json.dumps({"starts": test.id()}) + "\n")
        self.out.flush()

    def addSuccess(self, test):
        self.tell(test.id(), "ok")

    def addFailure(self, test, err):
        self.tell(test.id(), "fail", "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        self.tell(test.id(), "error", "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.tell(test.id(), "skip", reason)

    def addExpectedFailure(self, test, err):
        self.tell(test.id(), "expected failure")

    def addUnexpectedSuccess(self, test):
        self.tell(test.id(), "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self.tell(subtest.id(), kind, "".join(traceback.format_exception(*err)))


def run_tests(name: str, result: unittest.TestResult, patterns: list[str]) -> None:
    """Import a test module and run its tests."""
    module = importlib.import_module(f"test.{name}")
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*" for pattern in patterns] or None
    loader.loadTestsFromModule(module).run(result)


def run_module(name: str, hooked: bool, out: IO[str], patterns: list[str], config: CaptureConfig) -> None:
    """Run the tests of one module; `out` gets a line for each, and last a summary."""
    result = StreamingResult(out)
    test.support.use_resources = ()
    if not hooked:
        run_tests(name, result, patterns)
        return
    callback = CountingCallback(config)
    warnings.simplefilter("default")
    try:
        _native.OptimizedCallable(run_tests, callback, callback)(name, result, patterns)
    finally:
        out.write(json.dumps({"summary": callback.summary()}) + "\n")
        out.flush()


def main() -> None:
    """`run_module.py NAME [--plain] [PATTERN ...]`: one module in this very process, failures on the terminal."""
    hooked = "--plain" not in sys.argv
    name, *patterns = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    config = CaptureConfig(
        strict="--strict" in sys.argv, recompile_limit=RECOMPILE_LIMIT, convert_without_tensor_work=True
    )
    sys.argv[1:] = []
    run_module(name, hooked, sys.stdout, patterns, config)


if __name__ == "__main__":
    main()
