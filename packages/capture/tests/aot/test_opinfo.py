"""torch's own operator samples through trace_functional: the functional graph, interpreted, equals eager.

Every operator of the database, float32 on the CPU, its first samples, and its in-place variant. The test prints how
many samples passed, how many were refused with UnsupportedForAot, and fails on any difference.
"""

from __future__ import annotations

import collections
import copy
import time
import warnings

import pytest
import torch
from lampwork_capture.aot import UnsupportedForAot, aot_backend
from torch import fx
from torch.utils import _pytree as pytree

from .operator_samples import op_db

SAMPLES = 3
SHARDS = 4
# Eager itself is not a function of its inputs here: uninitialised memory, or random numbers drawn in another order.
NOT_COMPARABLE = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "resize_"}
SEED = 42  # what the database's own wrappers of random operators set in each call
REFUSED: dict[str, str] = {}  # operator -> why
# Refused, and rightly so until someone changes it: results or their sizes depend on values; gaps in an output's memory;
# statistics written behind the schema, called by the operator's own name; no functional form in torch.
EXPECTED_REFUSALS = {
    "__getitem__",
    "allclose",
    "argwhere",
    "combinations",
    "corrcoef",
    "cov",
    "empty_strided",
    "equal",
    "item",
    "linalg.lstsq",
    "masked_select",
    "narrow",
    "native_batch_norm",
    "new_empty_strided",
    "nn.functional.ctc_loss",
    "nn.functional.gaussian_nll_loss",
    "nonzero",
    "polygamma",
    "tensor_split",
    "to_sparse",
    "unique",
    "unique_consecutive",
}


def as_graph(f, args, kwargs):
    """`f(*args, **kwargs)` as a graph of one call whose tensors are inputs."""
    leaves, spec = pytree.tree_flatten((list(args), dict(kwargs)))
    graph = fx.Graph()
    inputs = []
    slots = []
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            slots.append(graph.placeholder(f"x{len(inputs)}"))
            inputs.append(leaf.detach())
        else:
            slots.append(leaf)

    def call(*values):
        call_args, call_kwargs = pytree.tree_unflatten(list(values), spec)
        return f(*call_args, **call_kwargs)

    if f in (torch.nn.functional.batch_norm, torch.nn.functional.instance_norm):  # known by name to the trace
        call_args, call_kwargs = pytree.tree_unflatten(slots, spec)
        graph.output(graph.call_function(f, tuple(call_args), call_kwargs))
    else:
        graph.output(graph.call_function(call, tuple(slots)))
    return fx.GraphModule(torch.nn.Module(), graph), inputs


def run_sample(name, f, sample):
    if not isinstance(sample.input, (torch.Tensor, list, tuple)):
        return "skipped"
    graph, inputs = as_graph(f, (sample.input, *sample.args), sample.kwargs)
    if any(type(t) is not torch.Tensor or t.layout is not torch.strided for t in inputs):
        return "skipped"
    theirs, ours = (copy.deepcopy(inputs) for _ in range(2))
    torch.manual_seed(SEED)
    try:
        expected = graph(*theirs)
    except Exception:
        return "eager raises"
    try:
        compiled = aot_backend(lambda g, _: g.forward)(graph, inputs)
    except UnsupportedForAot as error:
        REFUSED.setdefault(name, error.reason)
        return "refused"
    torch.manual_seed(SEED)
    actual = pytree.tree_leaves(compiled(*ours))
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, equal_nan=True)
        assert mine.stride() == other.stride()
    for got, want in zip(actual, pytree.tree_leaves(expected), strict=True):
        if name in NOT_COMPARABLE:
            continue
        if not isinstance(want, torch.Tensor):
            assert got == want
            continue
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-4, atol=1e-5)
        if want.numel() > 1:
            strides = [(a, b) for n, a, b in zip(want.shape, got.stride(), want.stride()) if n > 1]
            assert all(a == b for a, b in strides), f"strides {got.stride()}, eager {want.stride()}"
    return "passed"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_samples(shard, capsys):
    failures = []
    counts: collections.Counter[str] = collections.Counter()
    started = time.perf_counter()
    for op in op_db[shard::SHARDS]:
        if torch.float32 not in op.supported_dtypes("cpu"):
            continue
        name = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
        try:
            samples = list(zip(range(SAMPLES), op.sample_inputs("cpu", torch.float32, requires_grad=False)))
        except Exception:
            counts["no samples"] += 1
            continue
        inplace = op.get_inplace()
        for _, sample in samples:
            variants = [(name, op.op)]
            if inplace is not None and not sample.broadcasts_input:
                variants.append((name + "_", inplace))
            for label, f in variants:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        counts[run_sample(op.name, f, sample)] += 1
                    except Exception as error:
                        failures.append(f"{label}: {type(error).__name__}: {str(error)[:300]}")
                        counts["failed"] += 1
    unexpected = {name: why for name, why in REFUSED.items() if name not in EXPECTED_REFUSALS}
    REFUSED.clear()
    with capsys.disabled():
        print(f"\nOpInfo {shard + 1}/{SHARDS}: {dict(counts)} in {time.perf_counter() - started:.0f} s")
    assert not failures, "\n".join(failures)
    assert not unexpected
    assert counts["passed"] > 450
