"""Every operator of torch's own sample database: lowered or called, the results are eager's. Never a failure.

The unit run takes the first sample of each operator and dtype, whatever the time; `LAMPWORK_FULL_SWEEP=1` takes twenty.

Counted at the end: how many samples were lowered whole and how many called an operator.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import sys
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.lowering.graph import default_table, lower
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

if importlib.util.find_spec("expecttest") is None:
    # the sample database imports torch's test harness, and that a library for golden texts which nothing here uses
    sys.modules["expecttest"] = types.ModuleType("expecttest")
    sys.modules["expecttest"].TestCase = unittest.TestCase
database = importlib.import_module("torch.testing._internal.common_methods_invocations")

FULL = bool(os.environ.get("LAMPWORK_FULL_SWEEP"))
SAMPLES = 20 if FULL else 1
DTYPES = (torch.float32, torch.int64, torch.bool, torch.bfloat16)
TABLE = default_table()
COUNTS: Counter[str] = Counter()
# slow to sample, and nothing of ours: library calls from end to end
SKIPPED = ("linalg.", "fft.", "sparse.", "special.", "signal.", "polygamma", "mvlgamma")


def chunks() -> list[list[Any]]:
    ops = [op for op in database.op_db if FULL or not op.name.startswith(SKIPPED)]
    ops.sort(key=lambda op: (op.name, op.variant_test_name))
    return [ops[k::8] for k in range(8)]


def samples(op: Any, dtype: torch.dtype) -> Iterator[tuple[Any, list[torch.Tensor]]]:
    """Functions of tensors only, with their inputs; the last one with inputs that are not contiguous."""
    for sample in itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), SAMPLES):
        for variant in (sample, sample.noncontiguous()) if FULL or dtype == torch.float32 else (sample,):
            leaves, spec = pytree.tree_flatten((variant.input, variant.args, variant.kwargs))
            places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
            tensors = [leaves[k].detach() for k in places]

            def function(*inputs: Any, leaves=leaves, spec=spec, places=places) -> list[Any]:
                filled = list(leaves)
                for place, value in zip(places, inputs):
                    filled[place] = value
                first, arguments, keywords = pytree.tree_unflatten(filled, spec)
                return pytree.tree_leaves(op.op(first, *arguments, **keywords))

            if tensors:
                yield function, tensors


def outside(graph: torch.fx.GraphModule) -> str | None:
    """Why a trace is not ours to lower, or has no one answer."""
    for node in graph.graph.nodes:
        if node.op == "call_function":
            if getattr(node.target, "_schema", None) is not None and node.target._schema.is_mutable:
                return "mutates"
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                return "random"
            if "empty" in str(node.target):
                return "uninitialised"
    return None


def run(op: Any, dtype: torch.dtype) -> None:
    for function, tensors in samples(op, dtype):
        try:
            expected = function(*tensors)
            graph = make_fx(function, tracing_mode="fake")(*tensors)
        except Exception:  # eager itself refuses, or fake tensors do
            COUNTS["not traceable"] += 1
            continue
        reason = outside(graph)
        if reason is not None:
            COUNTS[reason] += 1
            continue
        lowered = lower(graph, TABLE, Config(verify=True))
        actual = interpret(lowered, tensors)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected):
            compare(one, other)
        COUNTS["called" if lowered.notes else "lowered"] += 1


def compare(actual: Any, expected: Any) -> None:
    if not isinstance(expected, torch.Tensor):
        assert actual == expected or (actual != actual and expected != expected)
        return
    if expected.layout is not torch.strided:
        return
    actual, expected = actual.resolve_conj().resolve_neg(), expected.resolve_conj().resolve_neg()
    half = expected.dtype in (torch.bfloat16, torch.float16)
    tolerance = 2e-2 if half else 1e-4
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=tolerance, atol=tolerance)
    if expected.numel():
        pairs = zip(actual.stride(), expected.stride(), expected.shape)
        assert all(a == b or s == 1 for a, b, s in pairs), (actual.stride(), expected.stride())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", range(8))
def test_samples(chunk: int) -> None:
    failures: list[str] = []
    for dtype, op in itertools.product(DTYPES, chunks()[chunk]):
        if dtype not in op.dtypes:
            continue
        COUNTS["operators"] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                run(op, dtype)
            except Exception as error:
                name = f"{op.name} {op.variant_test_name} {dtype}"
                failures.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    assert not failures, "\n".join(failures)


def test_counts() -> None:
    print(dict(COUNTS))
    assert COUNTS["operators"] == sum(d in op.dtypes for chunk in chunks() for d in DTYPES for op in chunk)
    assert COUNTS["lowered"] > COUNTS["called"]
    assert COUNTS["lowered"] > 100
