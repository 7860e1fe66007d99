"""Remembered fake results are those that running the operation again gives, and state decides what is remembered."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.graph.builder import MAY_RAISE, EagerWouldRaise, GraphBuilder
from lampwork_capture.graph.fake_results import FakeResults, Ran
from lampwork_capture.graph.scalar_inputs import ScalarInputs
from lampwork_capture.graph.subgraph import EXAMPLE
from lampwork_capture.graph.symbolic_runs import SYMBOLIC_RUNS
from lampwork_capture.graph.tensor_sizes import SymbolicSizes, TensorSizes
from lampwork_capture.graph_break import GraphBreak
from lampwork_capture.guards.facts import UserLine
from lampwork_capture.source import LocalSource
from lampwork_capture.varying import NOTHING_VARIES
from lampwork_symshape import eq
from lampwork_symshape.sym_node import expr_of
from torch._dispatch.python import enable_python_dispatcher
from torch.utils._pytree import tree_leaves, tree_map

from ..aot.operator_samples import op_db


def _builder(wanted: SymbolicSizes = SymbolicSizes.NONE) -> GraphBuilder:
    scalars = _no_numbers()
    return GraphBuilder(scalars, TensorSizes(scalars, NOTHING_VARIES, wanted, as_given=False))


def _no_numbers():
    return ScalarInputs(NOTHING_VARIES, lambda: UserLine(__file__, 1, "f"))


def _numbers(result):
    """The expressions of sizes, strides, place and memory of all tensors."""
    tensors = [(*t.shape, *t.stride(), t.storage_offset(), t.untyped_storage().nbytes()) for t in _tensors(result)]
    return [expr_of(number) for numbers in tensors for number in numbers]


def _describe(result, tensors):
    """Everything else about a result, and which of the operation's tensors share its memory."""
    return [
        (
            leaf.dim(),
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


def _check_same_numbers(env, result, other):
    """A run that comes later writes sizes in the way that facts of earlier ones allow."""
    assert all(a is b or env.known(eq(a, b)) for a, b in zip(_numbers(result), _numbers(other), strict=True))


def _sample_nodes(builder, sample):
    def node_of(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return builder.add_input(leaf, LocalSource(f"x{len(builder.inputs)}"))

    return tree_map(node_of, ((sample.input, *sample.args), sample.kwargs))


def _cloned(builder, args, kwargs):
    """The same arguments with other tensors of equal kind."""
    return tree_map(
        lambda leaf: builder.add_node("call_method", "clone", (leaf,), {})[0] if _is_node(leaf) else leaf,
        (tuple(args), kwargs),
    )


@dataclass
class Runs:
    """Three runs of one operation: twice on the same tensors, and on others of equal kind."""

    builder: GraphBuilder
    given: list
    results: list


def _run_thrice(op, sample, wanted):
    """None where the operation cannot be in a graph."""
    builder = _builder(wanted)
    try:
        args, kwargs = _sample_nodes(builder, sample)
        given = [(args, kwargs), (args, kwargs), _cloned(builder, args, kwargs)]
        results = [builder.add_node("call_function", op.op, *arguments)[1] for arguments in given]
    except (GraphBreak, EagerWouldRaise):
        return None
    return Runs(builder, [_fakes(*arguments) for arguments in given], results)


def _check_same_facts(builder, other):
    """What the one relies on the other knows, and the other way round."""
    for env, facts in ((builder.scalars.env, other.scalars.env), (other.scalars.env, builder.scalars.env)):
        assert all(env.known(fact.condition) for fact in facts.facts), (env.facts, facts.facts)
        assert {str(fact) for fact in env.scalar_facts} == {str(fact) for fact in facts.scalar_facts}


def _tensors(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _check_recalled(op, runs, plain):
    """What was recalled is what a fresh run gives and what `plain`, runs without recalling, gave; so are the facts."""
    builder, every = runs.builder, [_tensors(given) for given in runs.given]
    for position, (args, kwargs) in enumerate(runs.given[1:], 1):
        with enable_python_dispatcher() if builder.sizes else contextlib.nullcontext():
            fresh = builder._run_fake("call_function", SYMBOLIC_RUNS.get(op.op, op.op), args, kwargs)[0]
        result = runs.results[position]
        env = builder.scalars.env
        assert _describe(result, sum(every, [])) == _describe(fresh, sum(every, [])), op.name
        _check_same_numbers(env, result, fresh)
        assert [_argument(leaf, every[position]) for leaf in tree_leaves(result)] == [
            _argument(leaf, every[position]) for leaf in tree_leaves(fresh)
        ], op.name
        assert list(map(_version, _tensors(result))) == list(map(_version, _tensors(fresh))), op.name
        before = plain.results[position]
        others = _tensors(plain.given[position])
        assert _describe(result, every[position]) == _describe(before, others), op.name
        _check_same_numbers(env, result, before)
    _check_same_facts(builder, plain.builder)


def _version(tensor):
    return None if tensor.is_inference() else tensor._version


def _argument(leaf, tensors):
    """Which of the arguments a result is."""
    return next((i for i, tensor in enumerate(tensors) if leaf is tensor), None)


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


@contextlib.contextmanager
def _nothing_recalled():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeResults, "call_of", lambda self, mode, target, args, kwargs: None)
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("sizes", "inference", "part", "least"),
    [(SymbolicSizes.NONE, False, 3, 50), (SymbolicSizes.ALL, False, 1, 250), (SymbolicSizes.ALL, True, 4, 60)],
    ids=["numbers", "symbols", "inference_mode"],
)
def test_recalled_results_are_those_of_a_fresh_run(recalls, sizes, inference, part, least):
    recalled, views = set(), set()
    for op in op_db[::part]:
        if torch.float32 not in op.dtypes or op.name.endswith("_"):  # what it writes to is another tensor afterwards
            continue
        for sample in itertools.islice(op.sample_inputs("cpu", torch.float32), 1):
            with torch.no_grad(), torch.inference_mode(inference):
                recalls.clear()
                runs = _run_thrice(op, sample, sizes)
                if runs is None or not recalls:
                    continue
                with _nothing_recalled():
                    _check_recalled(op, runs, _run_thrice(op, sample, sizes))
            recalled.add(op.name)
            if any(_is_view(leaf, _tensors(runs.given[2])) for leaf in _tensors(runs.results[2])):
                views.add(op.name)
    assert len(recalled) > least and (sizes is SymbolicSizes.NONE or len(views) > 30 // part)


def _is_view(result, tensors):
    return any(
        result is not leaf and result.untyped_storage()._cdata == leaf.untyped_storage()._cdata for leaf in tensors
    )


@pytest.fixture
def symbolic():
    """A mode, and a fake tensor of it whose sizes are symbols."""
    builder = _builder(SymbolicSizes.ALL)
    x = builder.add_input(torch.ones(6, 8, 4), LocalSource("x")).meta[EXAMPLE]
    with torch.no_grad():
        yield builder.fake_mode, x


def test_what_relies_on_unrecorded_answers_is_recalled_where_these_are_given(symbolic):
    mode, x = symbolic
    results, env = FakeResults(views=True), mode.shape_env
    call = results.call_of(mode, torch.ops.aten.neg.default, (x,), {})
    with env.only_equalities():
        results.remember(mode, call, Ran(x.neg(), (), False, True))
        assert results.recall(mode, call) is not None
    assert results.recall(mode, call) is None
    with env.as_larger_sizes():
        assert results.recall(mode, call) is None
    results.remember(mode, call, Ran(x.neg(), (), False, True))
    with env.as_larger_sizes():
        assert results.recall(mode, call) is not None


def test_the_default_dtype_is_part_of_what_is_remembered(symbolic):
    mode, x = symbolic
    whole = x.to(torch.int64)
    with mode:
        found = [whole.add(0.5).dtype]
        torch.set_default_dtype(torch.float64)
        try:
            found.append(whole.add(0.5).dtype)
        finally:
            torch.set_default_dtype(torch.float32)
    assert found == [torch.float32, torch.float64]


def test_sizes_that_only_the_run_knows_keep_an_operation_from_being_remembered(symbolic):
    mode, x = symbolic
    unknown = mode.shape_env.create_unbacked_symint()
    results = FakeResults(views=True)
    assert results.call_of(mode, torch.ops.aten.neg.default, (x,), {}) is not None
    assert results.call_of(mode, torch.ops.aten.neg.default, (x.new_empty(unknown, 3),), {}) is None
    assert results.call_of(mode, torch.ops.aten.narrow.default, (x, 0, 0, unknown), {}) is None


def test_what_decides_a_float_is_asked_again(symbolic, recalls):
    mode, x = symbolic
    decided = len(mode.shape_env.scalar_facts)
    with mode, enable_python_dispatcher():
        x.mean((0, 1))
        assert len(mode.shape_env.scalar_facts) > decided
        x.neg()
        recalls.clear()
        x.mean((0, 1))
        x.neg()
    assert torch.ops.aten.neg.default in recalls and torch.ops.aten.mean.dim not in recalls


def test_what_operators_gave_is_forgotten_with_the_trace(symbolic, recalls):
    mode, x = symbolic
    with mode:
        x.neg()
        mode.forget_results()
        x.neg()
        assert not recalls
        x.neg()
    assert recalls


def test_repeated_views_of_parameters_are_one_graph_in_inference_mode():
    graphs = []

    def counting(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    def f(x, w):
        with torch.inference_mode():
            a, b = x.view(-1), x.view(-1)
            c = [F.linear(x, w.t()), F.linear(x, w.t())]
        return a + b, c[0] + c[1]

    x, w = torch.randn(6, 8), torch.nn.Parameter(torch.randn(8, 5))
    found = capture.optimize(counting, dynamic=True)(f)(x, w)
    assert len(graphs) == 1
    assert all(torch.allclose(a, b) for a, b in zip(found, f(x, w)))


def test_gradients_keep_an_operation_from_being_remembered():
    builder = _builder()
    results = FakeResults()
    mode = builder.fake_mode
    fake = builder.add_input(torch.ones(2, 2, requires_grad=True), LocalSource("x")).meta[EXAMPLE]
    assert results.call_of(mode, torch.neg, (fake,), {}) is None
    with torch.no_grad():
        assert results.call_of(mode, torch.neg, (fake,), {}) is not None


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
