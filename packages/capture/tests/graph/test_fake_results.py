"""Remembered fake results are those that running the operation again gives, and state decides what is remembered."""

from __future__ import annotations

import contextlib
import itertools

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.graph.builder import MAY_RAISE, EagerWouldRaise, GraphBuilder
from lampwork_capture.graph.fake_results import FakeResults
from lampwork_capture.graph.scalar_inputs import ScalarInputs
from lampwork_capture.graph.subgraph import EXAMPLE
from lampwork_capture.graph.symbolic_runs import SYMBOLIC_RUNS
from lampwork_capture.graph.tensor_sizes import SymbolicSizes, TensorSizes
from lampwork_capture.graph_break import GraphBreak
from lampwork_capture.guards.facts import UserLine
from lampwork_capture.source import LocalSource
from lampwork_capture.varying import NOTHING_VARIES
from lampwork_symshape.sym_node import expr_of
from torch._dispatch.python import enable_python_dispatcher
from torch.utils._pytree import tree_leaves, tree_map

from ..aot.operator_samples import op_db


def _builder(wanted: SymbolicSizes = SymbolicSizes.NONE) -> GraphBuilder:
    scalars = _no_numbers()
    return GraphBuilder(scalars, TensorSizes(scalars, NOTHING_VARIES, wanted, as_given=False))


def _no_numbers():
    return ScalarInputs(NOTHING_VARIES, lambda: UserLine(__file__, 1, "f"))


def _as_written(number):
    """The expression of a size, which equals itself alone."""
    return expr_of(number) if isinstance(number, torch.SymInt) else number


def _describe(result, tensors):
    """Everything about a result, and which of the operation's tensors share its memory."""
    return [
        (
            *map(_as_written, (*leaf.shape, *leaf.stride(), leaf.storage_offset(), leaf.untyped_storage().nbytes())),
            leaf.dtype,
            leaf.device,
            leaf.requires_grad,
            [leaf.untyped_storage()._cdata == tensor.untyped_storage()._cdata for tensor in tensors],
            torch._C._dispatch_keys(leaf).raw_repr(),
        )
        if isinstance(leaf, torch.Tensor)
        else leaf
        for leaf in tree_leaves(result)
    ]


def _sample_nodes(builder, sample):
    def node_of(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return builder.add_input(leaf, LocalSource(f"x{len(builder.inputs)}"))

    return tree_map(node_of, ((sample.input, *sample.args), sample.kwargs))


def _run_twice(op, dtype, wanted):
    """For each sample that two nodes were made of: the builder, the fake arguments, and both results."""
    builder = _builder(wanted)
    for sample in itertools.islice(op.sample_inputs("cpu", dtype), 2):
        try:
            args, kwargs = _sample_nodes(builder, sample)
            results = [builder.add_node("call_function", op.op, args, kwargs)[1] for _ in range(2)]
        except (GraphBreak, EagerWouldRaise):
            continue
        yield builder, *_fakes(args, kwargs), results


def _facts(builder):
    env = builder.scalars.env
    return {str(fact) for fact in (*env.facts, *env.scalar_facts)}


def _check_recalled(builder, op, args, kwargs, results):
    """Each recalled result is that of a fresh run, which finds no fact about sizes that is not known."""
    facts = _facts(builder)
    builder.fake_mode._results.forget()
    with enable_python_dispatcher() if builder.sizes else contextlib.nullcontext():
        fresh = builder._run_fake("call_function", SYMBOLIC_RUNS.get(op.op, op.op), args, kwargs)[0]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    first, second, third = (_describe(result, tensors) for result in (*results, fresh))
    assert first == second == third, op.name
    assert any(results[1] is tensor for tensor in tensors) == any(fresh is tensor for tensor in tensors), op.name
    assert _facts(builder) == facts, op.name


def _is_node(leaf):
    return isinstance(leaf, torch.fx.Node)


def _fakes(args, kwargs):
    return tree_map(lambda leaf: leaf.meta[EXAMPLE] if _is_node(leaf) else leaf, (tuple(args), kwargs))


@pytest.fixture
def recalls(monkeypatch):
    """The targets of the operations that were recalled, as they are."""
    found = []
    recall = FakeResults.recall

    def noting(self, mode, call):
        known = recall(self, mode, call)
        if known is not None:
            found.append(call.key[0])
        return known

    monkeypatch.setattr(FakeResults, "recall", noting)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("sizes", "least"), [(SymbolicSizes.NONE, 150), (SymbolicSizes.ALL, 250)])
def test_recalled_results_are_those_of_a_fresh_run(recalls, sizes, least):
    recalled, views = set(), set()
    for op in op_db:
        if torch.float32 not in op.dtypes or op.name.endswith("_"):  # what it writes to is another tensor afterwards
            continue
        with torch.no_grad():
            for builder, args, kwargs, results in _run_twice(op, torch.float32, sizes):
                if recalls:
                    recalled.add(op.name)
                    _check_recalled(builder, op, args, kwargs, results)
                    views |= {op.name for result in tree_leaves(results) if _is_view(result, args)}
                recalls.clear()
    assert len(recalled) > least and (sizes is SymbolicSizes.NONE or len(views) > 30), (len(recalled), len(views))


def _is_view(result, args):
    return isinstance(result, torch.Tensor) and any(
        result is not leaf and result.untyped_storage()._cdata == leaf.untyped_storage()._cdata
        for leaf in tree_leaves(args)
        if isinstance(leaf, torch.Tensor)
    )


def test_gradients_keep_an_operation_from_being_remembered():
    builder = _builder()
    results = FakeResults()
    fake = builder.add_input(torch.ones(2, 2, requires_grad=True), LocalSource("x")).meta[EXAMPLE]
    assert results.call_of(torch.neg, (fake,), {}) is None
    with torch.no_grad():
        assert results.call_of(torch.neg, (fake,), {}) is not None


def test_state_that_changes_in_the_frame_is_seen():
    def f(x, w):
        first = F.linear(x, w)
        with torch.autocast("cpu", torch.bfloat16):
            inside = F.linear(x, w)
            again = F.linear(x, w)
        after = F.linear(x, w)
        with torch.inference_mode():
            inference = F.linear(x, w)
        kinds = [t.dtype for t in (first, inside, again, after)], inference.is_inference(), after.is_inference()
        return kinds, first.float() + inside.float() + again.float() + after

    x, w = torch.randn(3, 4), torch.randn(5, 4)
    expected, found = f(x, w), capture.optimize("eager")(f)(x, w)
    assert found[0] == expected[0] and torch.equal(found[1], expected[1])


def test_gradient_mode_that_changes_in_the_frame_is_seen():
    def f(x, w):
        with torch.no_grad():
            first = F.linear(x, w)
        second = F.linear(x, w)
        with torch.no_grad():
            third = F.linear(x, w)
        return [t.requires_grad for t in (first, second, third)], first + second + third

    x, w = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    found = capture.optimize("eager")(f)(x, w)
    assert found[0] == [False, True, False] and found[1].requires_grad
    assert torch.equal(found[1], f(x, w)[1])


def test_writes_to_a_recalled_result_stay_its_own():
    def f(x):
        first, second = x.relu(), x.relu()
        first.add_(1)
        same = F.dropout(x, 0.5, training=False), F.dropout(x, 0.5, training=False)
        return first, second, same[0] is x, same[1] is x

    x = torch.randn(4)
    expected, found = f(x.clone()), capture.optimize("eager")(f)(x.clone())
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2])) and found[2:] == expected[2:]


def test_an_operation_that_may_raise_is_known_to_when_recalled():
    builder = _builder()
    x, i = (builder.add_input(t, LocalSource(n)) for n, t in (("x", torch.ones(4, 2)), ("i", torch.tensor([1, 2]))))
    first, second = (builder.add_node("call_function", torch.index_select, (x, 0, i), {})[0] for _ in range(2))
    assert first.meta[MAY_RAISE] and second.meta[MAY_RAISE]

    def f(x, i):
        kept = [0]
        try:
            first = torch.gather(x, 0, i).sum()
            second = torch.gather(x, 0, i + 100).sum()
            kept.append(1)
        except RuntimeError:
            kept.append(2)
            second = x.sum()
        return first, second, kept

    x, i = torch.arange(4.0), torch.tensor([0, 2])
    expected, found = f(x, i), capture.optimize("eager")(f)(x, i)
    assert found[2] == expected[2] and torch.equal(found[1], expected[1])
