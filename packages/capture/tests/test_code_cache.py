"""Making entries, saying why none fitted, and the limit of compilations."""

import gc
import types
import weakref

import pytest
import torch
from lampwork_capture import _native
from lampwork_capture.bytecode.version import qualified_name
from lampwork_capture.code_cache import CodeCache, EntryPayload, GuardsDoNotHoldError, reset_all
from lampwork_capture.guards.facts import (
    GLOBAL_STATE,
    AllDistinct,
    AttributePresent,
    ByIdentity,
    ConstantIs,
    DictContains,
    DictKeysAre,
    GlobalStateIs,
    Guard,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    LengthIs,
    SameObject,
    TensorMatches,
    TypeIs,
    UserLine,
)
from lampwork_capture.guards.global_state import read_global_state
from lampwork_capture.guards.reason import first_failure, weakened
from lampwork_capture.guards.tensor_access import raw_dispatch_keys
from lampwork_capture.source import AttributeSource, FrameScope, ItemSource, LocalSource

X, Y = LocalSource("x"), LocalSource("y")
LINE = UserLine("model.py", 12, "forward")


def converting(code, cache, facts_of, replacement):
    """A callback that compiles `code` with the facts of each call, within the limit."""

    def callback(view, entries):
        if view.code is not code:
            return _native.SKIP
        cache.note_miss(view, entries)
        if cache.is_over_limit(entries):
            return _native.SKIP
        facts = facts_of(view.local_values)
        return cache.make_entry(view, GuardSet(tuple(Guard(fact, LINE) for fact in facts)), replacement, "extra")

    return callback


def test_recompilation_reasons_and_limit():
    def f(x):
        return "eager"

    replacement = compile("def f(x): return 'compiled'", "<t>", "exec").co_consts[0]
    cache = CodeCache(limit=3)
    facts = lambda values: [ConstantIs(X, ByIdentity(values["x"]))]
    optimized = _native.OptimizedCallable(f, converting(f.__code__, cache, facts, replacement))
    assert [optimized(i) for i in (0, 0, 1, 2, 0, 3, 4, 1)] == ["compiled"] * 5 + ["eager"] * 2 + ["compiled"]
    assert (cache.compiled, cache.refused) == (3, 1)
    assert [len(found.reasons) for found in cache.recompilations] == [1, 2, 3]
    assert cache.recompilations[0].reasons == ("`x` is 1, the graph was made for 0  [guard needed at model.py:12]",)
    assert cache.recompilations[0].place.function == qualified_name(f.__code__)
    payload = _native.entries(f.__code__)[0].payload
    assert isinstance(payload, EntryPayload) and payload.extra == "extra"
    reset_all()
    assert _native.entries(f.__code__) == () and optimized(9) == "compiled"


def test_guards_that_fail_at_birth_are_an_error():
    def f(x):
        return x

    cache = CodeCache()
    replacement = compile("def f(x): return 'compiled'", "<t>", "exec").co_consts[0]
    wrong = _native.OptimizedCallable(f, converting(f.__code__, cache, lambda values: [TypeIs(X, int)], replacement))
    with pytest.raises(GuardsDoNotHoldError, match="`x` is a str"):
        wrong("text")


def test_dropped_modules_do_not_fill_the_cache():
    def f(x):
        return "eager"

    replacement = compile("def f(x): return 'compiled'", "<t>", "exec").co_consts[0]
    cache = CodeCache(limit=2)
    facts = lambda values: [
        IdentityIs(X, ByIdentity(values["x"])),
        TypeIs(AttributeSource(X, "weight"), torch.nn.Parameter),
    ]
    optimized = _native.OptimizedCallable(f, converting(f.__code__, cache, facts, replacement))
    last = None
    for _ in range(20):
        module = torch.nn.Linear(2, 2)
        assert optimized(module) == "compiled"
        last = weakref.ref(module)
        del module
    gc.collect()
    assert last() is None and cache.refused == 0
    assert _native.entries(f.__code__) == ()


def tensor_fact(tensor):
    return TensorMatches(
        X,
        type(tensor),
        tensor.dtype,
        tensor.device,
        tensor.layout,
        tensor.requires_grad,
        tuple(tensor.shape),
        tensor.stride(),
        raw_dispatch_keys(tensor),
    )


class Thing:
    pass


PLAIN = torch.ones(2, 4)
WORDS = [
    (tensor_fact(PLAIN), torch.ones(3, 4), "`x` has sizes (3, 4), the graph was made for (2, 4)"),
    (
        tensor_fact(PLAIN),
        torch.ones(2, 4, dtype=torch.int64),
        "`x` has dtype torch.int64, the graph was made for torch.float32",
    ),
    (tensor_fact(PLAIN), torch.ones(4, 2).t(), "`x` has strides (1, 2), the graph was made for (4, 1)"),
    (
        tensor_fact(PLAIN),
        torch.ones(2, 4, requires_grad=True),
        "`x` has requires_grad True, the graph was made for False",
    ),
    (tensor_fact(PLAIN), None, "`x` is a NoneType, the graph was made for a torch.Tensor"),
    (
        tensor_fact(torch.ones(2, dtype=torch.complex64)),
        torch.ones(2, dtype=torch.complex64).conj(),
        "another kind of tensor",
    ),
    (TypeIs(X, int), "s", "`x` is a str, the graph was made for a int"),
    (ConstantIs(X, ByIdentity(1)), True, "`x` is True, the graph was made for 1"),
    (IdentityIs(X, ByIdentity(len)), abs, "`x` is another object (the function abs)"),
    (LengthIs(X, 2), [1], "`x` has length 1, the graph was made for 2"),
    (DictKeysAre(X, ("a",)), {"b": 1}, "`x` has keys ['b'], the graph was made for ['a']"),
    (DictContains(X, "a", True), {}, "`x` has lost the key 'a'"),
    (AttributePresent(X, "a", True), Thing(), "`x` has lost the attribute `a`"),
    (
        InstanceDictLacks(X, "forward"),
        types.SimpleNamespace(forward=1),
        "`x` now has an attribute `forward` of its own",
    ),
    (SameObject(X, Y), 1, "`x` and `y` are two objects"),
    (AllDistinct(X, (ItemSource(X, 0), Y)), [5], "`x[0]` and `y` are one object"),
    (TypeIs(ItemSource(X, "k"), int), {}, "`x['k']` cannot be read any more (KeyError: 'k')"),
]


@pytest.mark.parametrize(
    ("fact", "x", "words"), WORDS, ids=[type(row[0]).__name__ + str(i) for i, row in enumerate(WORDS)]
)
def test_words_for_each_fact(fact, x, words):
    scope = FrameScope({"x": x, "y": 5}, {}, {}, {})
    guards = GuardSet((Guard(fact, LINE),))
    failure = first_failure(weakened(guards), scope)
    assert words in str(failure) and str(failure).endswith("[guard needed at model.py:12]")


def test_words_for_global_state():
    guards = GuardSet((Guard(GlobalStateIs(GLOBAL_STATE, read_global_state())),))
    scope = FrameScope({}, {}, {}, {})
    assert first_failure(guards, scope) is None
    with torch.no_grad():
        assert str(first_failure(guards, scope)) == "torch's grad mode is False, the graph was made for True"


def test_kept_guards_keep_nothing_alive():
    thing = Thing()
    kept = weakened(
        GuardSet((Guard(IdentityIs(X, ByIdentity(thing))), Guard(DictKeysAre(Y, (ByIdentity(thing), "a")))))
    )
    scope = FrameScope({"x": thing, "y": {thing: 1, "a": 2}}, {}, {}, {})
    assert first_failure(kept, scope) is None
    gone = weakref.ref(thing)
    del thing, scope
    assert gone() is None
    assert "an object that is gone" in str(first_failure(kept, FrameScope({"x": 1}, {}, {}, {})))


def test_kept_guards_keep_no_class_alive():
    class Short:
        pass

    kept = weakened(GuardSet((Guard(TypeIs(X, Short)),)))
    assert first_failure(kept, FrameScope({"x": Short()}, {}, {}, {})) is None
    gone = weakref.ref(Short)
    del Short
    gc.collect()
    assert gone() is None
    assert "a class that is gone" in str(first_failure(kept, FrameScope({"x": 1}, {}, {}, {})))
