"""The native tree agrees with the reference check, fact by fact and in random combinations."""

import collections
import enum
import functools
import gc
import itertools
import sys
import time
import types
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lampwork_capture import _native
from lampwork_capture.guards import tensor_access
from lampwork_capture.guards.check import fact_holds
from lampwork_capture.guards.exact import same_constant
from lampwork_capture.guards.facts import (
    GLOBAL_STATE,
    AllDistinct,
    AttributePresent,
    ByIdentity,
    ConstantIs,
    DictContains,
    DictKeysAre,
    DynamicSize,
    GlobalStateIs,
    Guard,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    LengthIs,
    SameObject,
    SpecialMethodsAre,
    TensorMatches,
    TypeIs,
)
from lampwork_capture.guards.global_state import STATE, Call, native_item, read_global_state
from lampwork_capture.guards.reason import first_failure, weakened
from lampwork_capture.guards.specials import special_methods
from lampwork_capture.guards.tree import Handed, Stamps, UnsupportedGuardError, build_tree
from lampwork_capture.source import (
    AttributeSource,
    BuiltinSource,
    CellObjectSource,
    CellSource,
    ClassAttributeSource,
    ClosureSource,
    DefaultSource,
    DictKeySource,
    DictValueSource,
    FrameScope,
    FunctionGlobalSource,
    GlobalSource,
    ItemSource,
    LocalSource,
    MethodFunctionSource,
    ModuleSource,
    Source,
    TypeSource,
)

X, Y = LocalSource("x"), LocalSource("y")
BUILTINS = vars(__import__("builtins"))
A_GLOBAL = object()


def framed(free):
    def frame(x, y=None):
        return free, x, y

    return frame


def native(facts, x, y=None, free=None, names=None):
    """The answer of a plain tree; one that goes by stamps from its second check on must give it too."""
    function = framed(free)
    guards = GuardSet(tuple(Guard(fact) for fact in facts))
    scope = (x, y), function.__closure__, globals() if names is None else names, BUILTINS
    plain = build_tree(guards, function.__code__, stamps=Stamps.NEVER).check(*scope)
    stamped = build_tree(guards, function.__code__, stamps=Stamps.VERIFIED)
    assert [stamped.check(*scope) for _ in range(3)] == [plain] * 3
    assert not plain or stamped.counts["sweeps"] == 2, stamped.counts
    return plain


def reference(facts, x, y=None, free=None, names=None):
    cells = {"free": types.CellType(free)}
    scope = FrameScope({"x": x, "y": y}, cells, globals() if names is None else names, BUILTINS)
    return all(fact_holds(fact, scope) for fact in facts)


def both(facts, *args, **kwargs):
    """The answer of both checks, which must be one."""
    facts = facts if isinstance(facts, list) else [facts]
    fast, slow = native(facts, *args, **kwargs), reference(facts, *args, **kwargs)
    assert fast == slow, f"native {fast}, reference {slow}: {facts} for {args}"
    return fast


def tensor_fact(source, tensor, **changes):
    fields = {
        "python_type": type(tensor),
        "dtype": tensor.dtype,
        "device": tensor.device,
        "layout": tensor.layout,
        "requires_grad": tensor.requires_grad,
        "sizes": tuple(tensor.shape),
        "strides": tensor.stride() if tensor.layout is torch.strided else None,
        "dispatch_keys": tensor_access.raw_dispatch_keys(tensor),
    }
    return TensorMatches(source, **{**fields, **changes})


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Point(collections.namedtuple("Point", "a b")):
    pass


CONSTANTS = [
    None,
    True,
    False,
    0,
    1,
    -1,
    10**30,
    10**30 + 1,
    0.0,
    -0.0,
    1.0,
    float("nan"),
    float("inf"),
    1j,
    -0j,
    complex(1, -0.0),
    "",
    "a",
    "ab",
    b"",
    b"a",
    ...,
    (),
    (1,),
    (True,),
    (1.0,),
    (1, (2, "a")),
    (1, (2, b"a")),
    Point(1, 2),
    (1, 2),
    frozenset(),
    frozenset({1}),
    frozenset({True}),
    frozenset({1, "a"}),
    torch.float32,
    torch.float64,
    torch.device("cpu"),
    torch.device("meta"),
    torch.device("cuda", 0),
    torch.device("cuda", 1),
    torch.strided,
    torch.Size([1, 2]),
    Color.RED,
    Color.BLUE,
    int,
    float,
    slice(1, 2),
    slice(True, 2),
    slice(None, 2, 1),
    range(3),
    range(0, 3, 1),
    range(4),
]


def test_constants_are_compared_by_type_and_value():
    for (i, a), (j, b) in itertools.product(enumerate(CONSTANTS), repeat=2):
        answer = both(ConstantIs(X, ByIdentity(a)), b)
        if i == j:
            assert answer
        elif answer:
            assert {type(a)} == {type(b)} == {range} and a == b


def test_equal_constants_of_other_identity():
    for made in (
        lambda: int("123456789"),
        lambda: float("1.5"),
        lambda: float("nan"),
        lambda: "".join(["a", "bc"]),
        lambda: (float("2.5"), "".join("xy")),
        lambda: frozenset([float("2.5")]),
        lambda: bytes([1, 2]),
    ):
        a, b = made(), made()
        assert a is not b and same_constant(a, b)
        assert both(ConstantIs(X, ByIdentity(a)), b)


class Plain:
    in_class = 5

    def __init__(self, **values):
        self.__dict__.update(values)

    def method(self):
        return self

    @property
    def computed(self):
        raise AssertionError("guards run no user code")

    @staticmethod
    def static():
        return None

    @classmethod
    def of_class(cls):
        return cls


class Slotted:
    __slots__ = ("filled", "empty")

    def __init__(self):
        self.filled = 5


class Dynamic:
    def __getattr__(self, name):
        raise AssertionError("guards run no user code")


class Overriding:
    def __getattribute__(self, name):
        raise AssertionError("guards run no user code")


class BadList(list):
    def __getitem__(self, index):
        raise AssertionError("guards run no user code")

    def __len__(self):
        raise AssertionError("guards run no user code")


class BadEquality:
    def __eq__(self, other):
        raise AssertionError("guards run no user code")

    __hash__ = object.__hash__


def sample(positional=3, *, keyword=4):
    return positional, keyword, A_GLOBAL


VALUE = object()
SOURCES = [
    (X, VALUE, {}),
    (CellSource("free"), None, {"free": VALUE}),
    (GlobalSource("A_GLOBAL"), None, {}),
    (BuiltinSource("len"), None, {}),
    (ModuleSource("collections"), None, {}),
    (AttributeSource(X, "value"), Plain(value=VALUE), {}),
    (AttributeSource(X, "in_class"), Plain(), {}),
    (AttributeSource(X, "in_class"), Plain(in_class=6), {}),
    (AttributeSource(X, "static"), Plain(), {}),
    (AttributeSource(X, "filled"), Slotted(), {}),
    (AttributeSource(X, "OrderedDict"), collections, {}),
    (AttributeSource(X, "__dict__"), collections, {}),
    (AttributeSource(X, "in_class"), Plain, {}),
    (AttributeSource(X, "method"), Plain, {}),
    (AttributeSource(X, "__name__"), Plain, {}),
    (AttributeSource(X, "static"), Plain, {}),
    (AttributeSource(X, "__class__"), Plain(), {}),
    (AttributeSource(X, "__dict__"), Plain(a=1), {}),
    (AttributeSource(X, "__code__"), sample, {}),
    (AttributeSource(X, "weight"), torch.nn.Linear(2, 2), {}),
    (AttributeSource(X, "bias"), torch.nn.Linear(2, 2, bias=False), {}),
    (AttributeSource(AttributeSource(X, "0"), "weight"), torch.nn.Sequential(torch.nn.Linear(2, 2)), {}),
    (AttributeSource(X, "running_mean"), torch.nn.BatchNorm1d(2), {}),
    (AttributeSource(X, "_parameters"), torch.nn.Linear(2, 2), {}),
    (ItemSource(X, 1), [1, VALUE], {}),
    (ItemSource(X, -1), (1, VALUE), {}),
    (ItemSource(X, 0), Point(VALUE, 2), {}),
    (ItemSource(X, 1), torch.Size([3, 4]), {}),
    (ItemSource(X, 1), collections.deque([1, VALUE]), {}),
    (ItemSource(X, "k"), {"k": VALUE}, {}),
    (ItemSource(X, 1.0), {1: VALUE}, {}),
    (ItemSource(X, ("a", 1)), collections.OrderedDict({("a", 1): VALUE}), {}),
    (ItemSource(X, int), {int: VALUE}, {}),
    (DictKeySource(X, 1), {1: 2, VALUE: 3}, {}),
    (DictValueSource(X, 1), {1: 2, VALUE: VALUE}, {}),
    (DefaultSource(X, 0), sample, {}),
    (DefaultSource(X, "keyword"), sample, {}),
    (ClosureSource(X, 0), framed(VALUE), {}),
    (FunctionGlobalSource(X, "A_GLOBAL"), sample, {}),
    (TypeSource(X), Plain(), {}),
    (MethodFunctionSource(X), Plain().method, {}),
    (ClassAttributeSource(TypeSource(X), "method"), Plain(), {}),
    (ClassAttributeSource(X, "of_class"), Plain, {}),
    (ClassAttributeSource(X, "a"), Plain(a=VALUE), {}),
]


@pytest.mark.parametrize(("source", "x", "more"), SOURCES, ids=lambda item: str(item)[:30])
def test_sources_read_what_they_resolve_to(source, x, more):
    scope = FrameScope({"x": x}, {"free": types.CellType(more.get("free"))}, globals(), BUILTINS)
    value = source.resolve(scope)
    assert both(TypeIs(source, type(value)), x, **more)
    assert both(IdentityIs(source, ByIdentity(value)), x, **more)
    assert not both(IdentityIs(source, ByIdentity(object())), x, **more)
    assert not native([IdentityIs(source, ByIdentity(value))], object(), free=object(), names={}) or source in (
        BuiltinSource("len"),
        ModuleSource("collections"),
    )


@pytest.mark.parametrize(
    ("source", "x"),
    [
        (AttributeSource(X, "computed"), Plain()),
        (AttributeSource(X, "anything"), Dynamic()),
        (AttributeSource(X, "anything"), Overriding()),
        (ItemSource(X, 0), BadList([1])),
        (AttributeSource(X, "missing"), Plain()),
        (AttributeSource(X, "empty"), Slotted()),
        (ItemSource(X, 5), [1]),
        (ItemSource(X, "k"), {}),
        (ItemSource(X, "k"), [1]),
        (DictKeySource(X, 3), {1: 2}),
        (DefaultSource(X, 7), sample),
        (DefaultSource(X, "none"), sample),
        (ClosureSource(X, 0), sample),
        (MethodFunctionSource(X), 3),
        (ClassAttributeSource(X, "missing"), Plain),
        (ModuleSource("no.such.module"), None),
    ],
    ids=lambda item: type(item).__name__,
)
def test_what_cannot_be_read_without_user_code_fails(source, x):
    assert not native([InstanceDictLacks(source, "nothing")], x)
    assert sys.exc_info() == (None, None, None)


def test_cell_object_and_empty_cell():
    function = framed(1)
    cell = function.__closure__[0]
    guards = GuardSet((Guard(IdentityIs(CellObjectSource("free"), ByIdentity(cell))),))
    tree = build_tree(guards, function.__code__)
    assert tree.check((1, 2), (cell,), {}, {})
    assert not tree.check((1, 2), (types.CellType(1),), {}, {})
    contents = build_tree(GuardSet((Guard(TypeIs(CellSource("free"), int)),)), function.__code__)
    assert contents.check((1, 2), (cell,), {}, {})
    assert not contents.check((1, 2), (types.CellType(),), {}, {})
    assert not contents.check((1, 2), None, {}, {})


def test_lengths_keys_and_membership():
    assert both(LengthIs(X, 2), [1, 2]) and both(LengthIs(X, 2), {1: 1, 2: 2}) and both(LengthIs(X, 3), range(3))
    assert both(LengthIs(X, 1), "a") and both(LengthIs(X, 1), collections.deque([1])) and not both(LengthIs(X, 2), {1})
    assert not native([LengthIs(X, 1)], 5)
    assert native([LengthIs(X, 1)], BadList([1]))  # the length of the list itself
    odd = BadEquality()
    assert both(DictKeysAre(X, ("a", ByIdentity(odd), 1)), {"a": 1, odd: 2, 1: 3})
    assert not both(DictKeysAre(X, ("a", 1)), {1: 1, "a": 1})
    assert not both(DictKeysAre(X, (1,)), {True: 1}) and not both(DictKeysAre(X, (1, 2)), {1: 1})
    ordered = collections.OrderedDict(a=1, b=2)
    assert both(DictKeysAre(X, ("a", "b")), ordered)
    ordered.move_to_end("a")
    assert both(DictKeysAre(X, ("b", "a")), ordered) and not both(DictKeysAre(X, ("a", "b")), ordered)
    assert both(DictKeysAre(X, ()), {}) and not both(DictKeysAre(X, ()), [])
    assert both(DictContains(X, "a", True), {"a": 1}) and both(DictContains(X, "b", False), {"a": 1})
    assert not both(DictContains(X, "a", False), {"a": 1}) and not both(DictContains(X, "b", True), {"a": 1})


def test_presence_of_attributes():
    linear = torch.nn.Linear(2, 2)
    for x, name in [
        (Plain(a=1), "a"),
        (Plain(), "in_class"),
        (Plain(), "method"),
        (Slotted(), "filled"),
        (linear, "weight"),
        (linear, "training"),
        (collections, "deque"),
        (Plain, "in_class"),
        (torch.ones(2), "shape"),
    ]:
        assert both(AttributePresent(X, name, True), x) and not both(AttributePresent(X, name, False), x)
    for x, name in [
        (Plain(), "a"),
        (Slotted(), "empty"),
        (linear, "nothing"),
        (collections, "nothing"),
        (Plain, "nothing"),
        (torch.ones(2), "nothing"),
    ]:
        assert both(AttributePresent(X, name, False), x) and not both(AttributePresent(X, name, True), x)
    for x in (Dynamic(), Overriding()):
        assert not native([AttributePresent(X, "a", True)], x) and not native([AttributePresent(X, "a", False)], x)
    assert both(InstanceDictLacks(X, "forward"), linear)
    linear.forward = None
    assert not both(InstanceDictLacks(X, "forward"), linear)
    assert both(InstanceDictLacks(X, "forward"), 3)


def test_shadowed_module_members_are_seen():
    linear = torch.nn.Linear(2, 2)
    facts = [IdentityIs(AttributeSource(X, "weight"), ByIdentity(linear.weight))]
    assert both(facts, linear)
    linear.__dict__["weight"] = torch.ones(2)
    assert not both(facts, linear)


def test_relations():
    a, b = object(), object()
    assert both(SameObject(X, Y), a, a) and not both(SameObject(X, Y), a, b)
    assert both(AllDistinct(X, (Y,)), a, b) and not both(AllDistinct(X, (Y,)), a, a)
    many = [object() for _ in range(300)]
    sources = tuple(ItemSource(X, i) for i in range(300))
    assert both(AllDistinct(sources[0], sources[1:]), many)
    assert not both(AllDistinct(sources[0], sources[1:]), [*many[:-1], many[7]])
    assert not both(AllDistinct(sources[0], sources[1:]), many[:-1])


def test_keys_that_compare_equal_are_different_sources():
    one, true = object(), object()
    facts = [
        TypeIs(ItemSource(ItemSource(X, 0), 1), object),
        ConstantIs(ItemSource(ItemSource(X, 1), 1), ByIdentity(1)),
        ConstantIs(ItemSource(ItemSource(X, 1), 0.0), ByIdentity("zero")),
    ]
    assert both(facts, [[true, one], {1: 1, 0: "zero"}])
    assert not both(facts, [[true, one], {1: True, 0: "zero"}])


TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(3, 2).t(),
    "gradient": torch.ones(2, 3, requires_grad=True),
    "result": torch.ones(2, 3, requires_grad=True) * 2,
    "parameter": torch.nn.Parameter(torch.ones(2, 3)),
    "double": torch.ones(2, 3, dtype=torch.float64),
    "integer": torch.ones(2, 3, dtype=torch.int64),
    "scalar": torch.tensor(1.0),
    "empty": torch.empty(0, 3),
    "meta": torch.empty(2, 3, device="meta"),
    "complex": torch.ones(2, 3, dtype=torch.complex64),
    "conjugate": torch.ones(2, 3, dtype=torch.complex64).conj(),
    "negative": torch.ones(2, 3, dtype=torch.complex64).conj().imag,
    "sparse": torch.eye(3).to_sparse(),
    "csr": torch.eye(3).to_sparse_csr(),
    "csc": torch.eye(3).to_sparse_csc(),
    "bfloat16": torch.ones(2, 3, dtype=torch.bfloat16),
    "expanded": torch.ones(1, 3).expand(2, 3),
    "bool": torch.ones(2, 3, dtype=torch.bool),
}
with torch.inference_mode():
    TENSORS["inference"] = torch.ones(2, 3)


@pytest.mark.parametrize("fast", [True, False])
def test_tensors(fast):
    assert tensor_access.configure(fast=fast) == fast
    try:
        for (a, first), (b, second) in itertools.product(TENSORS.items(), repeat=2):
            assert both(tensor_fact(X, first), second) == (a == b or {a, b} == {"gradient", "result"}), (a, b)
        assert not both(tensor_fact(X, TENSORS["plain"]), 3) and not both(tensor_fact(X, TENSORS["plain"]), None)
        dynamic = tensor_fact(X, TENSORS["plain"], sizes=(DynamicSize.ANY, 3), strides=(DynamicSize.ANY, 1))
        assert (
            both(dynamic, torch.ones(7, 3)) and both(dynamic, TENSORS["plain"]) and not both(dynamic, torch.ones(7, 4))
        )
    finally:
        tensor_access.configure()


def test_tensor_subclasses_and_fakes_are_other_tensors():
    class Subclass(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *args, **kwargs):
            raise AssertionError("guards run no user code")

    plain = TENSORS["plain"]
    wrapped = torch.Tensor._make_subclass(Subclass, torch.ones(2, 3))
    assert not native([tensor_fact(X, plain)], wrapped)
    with torch._subclasses.FakeTensorMode() as mode:
        assert not native([tensor_fact(X, plain)], mode.from_tensor(plain))
    batched = []
    torch.vmap(lambda row: batched.append(native([tensor_fact(X, torch.ones(3))], row)) or row)(torch.ones(2, 3))
    assert batched == [False]


def test_every_dtype_has_its_own_code():
    dtypes = [getattr(torch, name) for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)]
    assert tensor_access.is_fast()
    codes = {}
    for dtype in set(dtypes):
        try:
            codes[dtype] = tensor_access.dtype_code(dtype)
        except (RuntimeError, NotImplementedError):
            continue  # no tensor of it can be made
    assert len(set(codes.values())) == len(codes) > 10


def state_fact():
    return GlobalStateIs(GLOBAL_STATE, read_global_state())


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
        functools.partial(torch.autocast, "cpu", dtype=torch.float16),
        functools.partial(torch.device, "meta"),
        torch._C.DisableTorchFunctionSubclass,
        torch._C.DisableTorchFunction,
        torch._subclasses.FakeTensorMode,
    ],
    ids=str,
)
def test_global_state_contexts(context):
    outside = state_fact()
    assert both(outside, 1)
    with context():
        assert not both(outside, 1)
        inside = state_fact()
        assert both(inside, 1)
    assert both(outside, 1) and not both(inside, 1)


def test_global_state_settings():
    outside = state_fact()
    changes = [
        (torch.set_default_dtype, torch.float64, torch.float32),
        (torch.use_deterministic_algorithms, True, False),
        (torch.set_num_threads, 1, torch.get_num_threads()),
    ]
    for change, value, back in changes:
        if value == back:
            continue
        change(value)
        try:
            assert not both(outside, 1) and both(state_fact(), 1)
        finally:
            change(back)
        assert both(outside, 1)


def test_global_state_is_read_natively():
    items = {name: native_item(name, value) for name, value in read_global_state()}
    assert [name for name, item in items.items() if item[0] == Call.PYTHON] == []
    assert len(items) == len(STATE)


def test_dead_objects_fail_for_good_and_drop_their_entry():
    thing = Plain()
    tree = build_tree(GuardSet((Guard(IdentityIs(X, ByIdentity(thing))),)), framed(1).__code__)
    assert tree.check((thing, 1), None, {}, {})

    def f(x, y):
        return x

    code = compile("def f(x, y): return 'new'", "<t>", "exec").co_consts[0]
    payload = Plain()
    entry = _native.CacheEntry(tree, code, payload)
    _native.insert(f.__code__, entry, Plain)
    gone = weakref.ref(thing), weakref.ref(payload)
    del entry, payload
    assert len(_native.entries(f.__code__)) == 1
    del thing
    assert [reference() for reference in gone] == [None, None]
    assert _native.entries(f.__code__) == ()
    assert tree.is_dead
    for _ in range(50):
        assert not tree.check((Plain(), 1), None, {}, {})


def test_cyclic_garbage_is_collected_through_guards():
    def once():
        thing = Plain()
        thing.itself = thing
        thing.tree = build_tree(
            GuardSet((Guard(IdentityIs(X, ByIdentity(thing))), Guard(TypeIs(X, Plain)))), framed(1).__code__
        )
        return weakref.ref(thing)

    reference = once()
    gc.collect()
    assert reference() is None


def test_what_the_tree_cannot_check_is_an_error():
    with pytest.raises(UnsupportedGuardError):
        native([TypeIs(LocalSource("no_argument"), int)], 1)
    with pytest.raises(UnsupportedGuardError):
        native([TypeIs(Source(), int)], 1)


def test_checks_do_not_leak():
    linear = torch.nn.Linear(2, 2)
    facts = [
        tensor_fact(AttributeSource(X, "weight"), linear.weight),
        TypeIs(AttributeSource(X, "forward"), types.MethodType),
        AllDistinct(AttributeSource(X, "weight"), (AttributeSource(X, "bias"),)),
        state_fact(),
    ]
    guards = GuardSet(tuple(Guard(fact) for fact in facts))
    tree = build_tree(guards, framed(1).__code__, Handed((AttributeSource(X, "weight"),), (X,)), Stamps.ALWAYS)
    counts = sys.getrefcount(linear), sys.getrefcount(linear.weight), sys.getrefcount(type(linear))
    for _ in range(200):
        assert tree.check((linear, 1), None, {}, {})
        assert tree.read_handed((linear, 1), None, {}, {}) == ((linear.weight,), linear)
        assert not tree.check((torch.nn.ReLU(), 1), None, {}, {})
    assert counts == (sys.getrefcount(linear), sys.getrefcount(linear.weight), sys.getrefcount(type(linear)))


# Random values, random facts about parts of them, checked against the same and against other values.

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, float("nan")]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([TENSORS["plain"], TENSORS["transposed"], TENSORS["gradient"], TENSORS["scalar"]]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", 1, True, 2]), inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2).map(lambda values: Plain(**values)),
    ),
    max_leaves=8,
)


def facts_about(source, value, draw):
    """Facts that hold for a value and its parts."""
    facts = [TypeIs(source, type(value))]
    if isinstance(value, torch.Tensor):
        return [tensor_fact(source, value)]
    if isinstance(value, (list, tuple)):
        facts.append(LengthIs(source, len(value)))
        for index, item in enumerate(value):
            facts += facts_about(ItemSource(source, index), item, draw)
    elif isinstance(value, dict):
        facts.append(DictKeysAre(source, tuple(value)))
        for index, (key, item) in enumerate(value.items()):
            by_index = DictValueSource(source, index)
            facts += facts_about(ItemSource(source, key) if draw(st.booleans()) else by_index, item, draw)
    elif isinstance(value, Plain):
        facts.append(AttributePresent(source, "b", "b" in value.__dict__))
        for name, item in value.__dict__.items():
            facts += facts_about(AttributeSource(source, name), item, draw)
    else:
        facts.append(ConstantIs(source, ByIdentity(value)))
    return facts


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tree_agrees_with_the_reference(data):
    value = data.draw(VALUES)
    other = data.draw(VALUES)
    facts = facts_about(X, value, data.draw)
    assert both(facts, value)
    both(facts, other)
    some = data.draw(st.lists(st.sampled_from(facts), max_size=4))
    both(some, other)


def test_changes_are_seen_after_a_check_has_remembered_attributes():
    """The tree remembers attributes while type and dictionaries are unchanged; every way to change them is seen."""

    class Net(torch.nn.Module):
        flag = 1

        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.register_buffer("table", torch.ones(2))
            self.value = 3

    def facts_of(net):
        inner = AttributeSource(X, "inner")
        return [
            IdentityIs(inner, ByIdentity(net.inner)),
            tensor_fact(AttributeSource(inner, "weight"), net.inner.weight),
            IdentityIs(AttributeSource(inner, "weight"), ByIdentity(net.inner.weight)),
            tensor_fact(AttributeSource(X, "table"), net.table),
            ConstantIs(AttributeSource(X, "value"), ByIdentity(3)),
            ConstantIs(AttributeSource(X, "flag"), ByIdentity(1)),
            ConstantIs(AttributeSource(inner, "training"), ByIdentity(True)),
        ]

    def shadow_in_type(net):
        type(net).inner = None

    changes = [
        lambda net: setattr(net, "value", 4),
        lambda net: net.eval(),
        lambda net: setattr(net, "inner", torch.nn.Linear(2, 2)),
        lambda net: setattr(net.inner, "weight", torch.nn.Parameter(torch.ones(2, 2))),
        lambda net: net.inner._parameters.update(weight=torch.nn.Parameter(torch.ones(2, 2))),
        lambda net: net.inner.weight.requires_grad_(False),
        lambda net: net.double(),
        lambda net: setattr(net, "table", torch.ones(3)),
        lambda net: net._buffers.clear(),
        lambda net: net.__dict__.update(inner=torch.nn.Linear(2, 2)),
        lambda net: setattr(net, "__dict__", dict(net.__dict__, value=5)),
        lambda net: setattr(net, "__dict__", dict(net.__dict__, _modules={"inner": torch.nn.Linear(2, 2)})),
        lambda net: net._parameters.__setitem__("inner", torch.nn.Parameter(torch.ones(2, 2))),
        lambda net: setattr(net, "flag", 2),
        lambda net: setattr(type(net), "flag", 2),
        lambda net: delattr(net, "value"),
        lambda net: setattr(net, "__class__", type("Other", (Net,), {"flag": 7})),
        shadow_in_type,
    ]
    for index, change in enumerate(changes):
        net = Net()
        facts = facts_of(net)
        guards = GuardSet(tuple(Guard(fact) for fact in facts))
        tree = build_tree(guards, framed(1).__code__, stamps=Stamps.VERIFIED)
        other = Net()
        for _ in range(3):
            assert not tree.check((other, 1), None, {}, {})
            assert tree.check((net, 1), None, {}, {})  # what is remembered at the change is of this one
        change(net)
        holds = reference(facts, net)
        assert [tree.check((net, 1), None, {}, {}) for _ in range(3)] == [holds] * 3 == [False] * 3, index
        Net.flag = 1
        if "inner" in vars(Net):
            del Net.inner


def test_stores_to_attributes_are_seen_whatever_shares_the_dictionary():
    """A `__dict__` that was looked at may share the values that the object keeps inline."""

    class Thing:
        def __init__(self):
            self.a = 0
            self.b = 1

    changes = [
        lambda thing: setattr(thing, "a", 4),
        lambda thing: object.__setattr__(thing, "a", 4),
        lambda thing: delattr(thing, "a"),
        lambda thing: thing.__dict__.update(a=4),
        lambda thing: vars(thing).pop("a"),
        lambda thing: vars(thing).clear(),
        lambda thing: setattr(thing, "__dict__", {"a": 4}),
        lambda thing: setattr(thing, "in_class", 6),
    ]
    facts = [
        ConstantIs(AttributeSource(X, "a"), ByIdentity(0)),
        ConstantIs(AttributeSource(X, "in_class"), ByIdentity(5)),
    ]
    for index, change in enumerate(changes):
        thing = Thing()
        Thing.in_class = 5
        tree = build_tree(GuardSet(tuple(Guard(fact) for fact in facts)), framed(1).__code__)
        assert [tree.check((thing, 1), None, {}, {}) for _ in range(3)] == [True] * 3
        change(thing)
        assert not tree.check((thing, 1), None, {}, {}), index
        thing.__dict__ = {"a": 0}
        Thing.in_class = 6
        assert not tree.check((thing, 1), None, {}, {})
        Thing.in_class = 5
        assert [tree.check((thing, 1), None, {}, {}) for _ in range(3)] == [True] * 3
        change(thing)
        assert not tree.check((thing, 1), None, {}, {}), index


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 2)), max_size=12))
def test_remembered_attributes_agree_with_the_reference_under_mutation(steps):
    """Random attribute changes on three objects of one class, with the same tree checked on all of them in between."""
    things = [Plain(a=0, b=1) for _ in range(3)]
    facts = [
        ConstantIs(AttributeSource(X, "a"), ByIdentity(0)),
        ConstantIs(AttributeSource(X, "b"), ByIdentity(1)),
        ConstantIs(AttributeSource(X, "in_class"), ByIdentity(5)),
    ]
    tree = build_tree(GuardSet(tuple(Guard(fact) for fact in facts)), framed(1).__code__, stamps=Stamps.VERIFIED)
    for which, action, value in steps:
        thing = things[which]
        if action == 0:
            thing.a = value
        elif action == 1:
            thing.b = value
        elif action == 2:
            thing.in_class = 5 + value
        elif action == 3:
            thing.__dict__ = {"a": 0, "b": value}
        else:
            thing.__dict__.pop("in_class", None)
        for each in things if value else [thing]:
            assert tree.check((each, 1), None, {}, {}) == reference(facts, each)


def test_special_methods_of_a_class():
    class Base:
        pass

    class A(Base):
        def __len__(self):
            return 0

    fact = SpecialMethodsAre(X, special_methods(A))
    assert both(fact, A)
    for owner, name, value in [
        (A, "__bool__", lambda s: True),
        (Base, "__iter__", None),
        (A, "__len__", property(lambda s: None)),
        (A, "__str__", object.__repr__),
        (A, "__hash__", None),
    ]:
        old = vars(owner).get(name)
        setattr(owner, name, value)
        assert not both(fact, A), name
        delattr(owner, name) if old is None else setattr(owner, name, old)
        assert both(fact, A), name
    A.count, A.__len__ = 1, lambda s: 5  # no special method, and another function
    assert both(fact, A)
    assert not both(fact, Base)
    assert not both(fact, A())


def test_special_methods_of_a_class_that_changes_all_the_time():
    """More often than the interpreter gives versions to a class (3.12), and in each namespace of the MRO."""

    class Far:
        def __len__(self):
            return 0

        def __iter__(self):
            return iter(())

    class Near(Far):
        pass

    class Other(Far):
        pass

    class A(Near):
        count = 0

        def __len__(self):
            return 1

    fact = SpecialMethodsAre(X, special_methods(A))
    tree = build_tree(GuardSet((Guard(fact),)), framed(None).__code__)

    def holds():
        answer = tree.check((A, None), framed(None).__closure__, globals(), BUILTINS)
        assert answer == (special_methods(A) == fact.methods)
        return answer

    for count in range(1200):
        A.count = Near.count = Far.count = count
        assert holds()
    for owner in (A, Near, Far):
        for name in ("__bool__", "__getattr__", "__hash__"):
            setattr(owner, name, None)
            assert not holds()
            delattr(owner, name)
            assert holds()
    Near.__len__ = property()  # behind that of A
    assert holds()
    length = A.__len__
    del A.__len__
    assert not holds()
    A.__len__ = length
    assert holds()
    Near.__len__ = length
    del A.__len__  # another function in its place
    assert holds()
    A.__bases__ = (Other,)
    assert holds()
    Other.__contains__ = length
    assert not holds()
    A.__bases__ = (Near,)
    assert holds()
    del Far.__iter__
    assert not holds()


def test_a_changed_attribute_costs_no_look_up_of_special_methods():
    kinds = [type(f"A{i}", (torch.nn.Module,), {"count": 0}) for i in range(30)]
    facts = GuardSet(tuple(Guard(SpecialMethodsAre(ItemSource(X, i), special_methods(k))) for i, k in enumerate(kinds)))
    tree = build_tree(facts, framed(None).__code__, stamps=Stamps.NEVER)
    arguments, closure = (kinds, None), framed(None).__closure__

    def shortest(changes):
        times = []
        for count in range(100):
            for kind in kinds if changes else ():
                kind.count = count
            start = time.perf_counter()
            held = tree.check(arguments, closure, globals(), BUILTINS)
            times.append(time.perf_counter() - start)
            assert held
        return min(times)

    assert shortest(True) < 15 * shortest(False)  # 3 times; looking all names up took 80 times


def test_a_class_with_keys_that_run_code_has_no_special_methods_to_speak_of():
    compared = []

    class Key:
        def __hash__(self):
            return hash("__bool__")

        def __eq__(self, other):
            compared.append(other)
            return False

    kind = type("Kind", (), {Key(): 1, "a": 1})
    compared.clear()
    fact = SpecialMethodsAre(X, special_methods(kind))
    for value in range(3):
        assert not both(fact, kind)
        kind.zz = value
        compared.clear()  # the store has asked
    guards = weakened(GuardSet((Guard(fact),)))
    failure = first_failure(guards, FrameScope({"x": kind}, {}, {}, BUILTINS))
    assert failure is not None and "keys in its namespace" in failure.words
    assert compared == []


def test_special_methods_keep_no_class_alive():
    class Slot:
        def __get__(self, instance, owner):
            return lambda: True

    cls = type("A", (), {"__bool__": Slot()})
    facts = GuardSet((Guard(SpecialMethodsAre(X, special_methods(cls))),))
    tree = build_tree(facts, framed(None).__code__)
    scope = (cls, None), framed(None).__closure__, globals(), BUILTINS
    assert tree.check(*scope)
    gone = weakref.ref(Slot)
    del facts, cls, scope, Slot
    gc.collect()
    assert gone() is None


def test_the_reason_names_the_special_method():
    class A:
        pass

    guards = weakened(GuardSet((Guard(SpecialMethodsAre(X, special_methods(A))),)))
    A.__bool__ = lambda self: False
    failure = first_failure(guards, FrameScope({"x": A}, {}, {}, BUILTINS))
    assert failure is not None
    assert failure.words == "`x` has gained the special method `__bool__`"
