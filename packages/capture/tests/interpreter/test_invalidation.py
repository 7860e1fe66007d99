"""What a captured frame must notice: the program, its objects or torch's state changed between two calls."""

from __future__ import annotations

import builtins
import contextlib
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import lampwork_capture
import pytest
import torch
from differential import assert_same
from lampwork_capture.graph_state import restoring_state

X = torch.tensor([1.0, 2.0, 3.0])
LOG: list[str] = []


def _observed(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return f(*args)
    except Exception as error:
        return (type(error).__name__, str(error).splitlines()[:1])


def _attributes(args):
    return [list(vars(arg).items()) for arg in args if isinstance(arg, Box)]


def check_invalidation(make: Callable[[], tuple[Any, Any, Callable[[], object] | None, Any]]) -> None:
    """Capture and call, mutate, call again; the same eagerly. `make` gives (f, first_args, mutate, second_args)."""

    def run(is_captured: bool) -> list[Any]:
        LOG.clear()
        f, first, mutate, second = make()
        called = lampwork_capture.optimize("eager")(f) if is_captured else f
        seen: list[Any] = []
        try:
            seen.append((_observed(called, first), list(LOG), _attributes(first)))
            if mutate is not None:
                mutate()
            seen.append((_observed(called, second), list(LOG), _attributes(second)))
        finally:
            for undo in UNDO:
                undo()
            UNDO.clear()
        return seen

    state = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled())
    expected = run(False)
    lampwork_capture.reset()
    actual = run(True)
    assert_same(expected, actual)
    assert float(torch.zeros(1) + 1) == 1.0
    assert state == (
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
    )


UNDO: list[Callable[[], object]] = []
CASES: list[Callable[[], Any]] = []


def case(make: Callable[[], Any]) -> Callable[[], Any]:
    CASES.append(make)
    return make


class Box:
    pass


@case
def raising_index_is_caught():
    def f(x, i):
        try:
            return x[i] * 2
        except IndexError:
            return x * 0

    return f, (X, torch.tensor([0])), None, (X, torch.tensor([7]))


def whole_of(value):
    def f(x, k):
        try:
            return x * int(k)
        except (ValueError, OverflowError) as error:
            return x, str(error)

    return f, (X, 1.5), None, (X, value)


@case
def int_of_nan():
    return whole_of(float("nan"))


@case
def int_of_infinity():
    return whole_of(float("inf"))


@case
def finally_runs():
    def f(x, i):
        try:
            return torch.gather(x, 0, i) * 2
        finally:
            LOG.append("finally")

    return f, (X, torch.tensor([0])), None, (X, torch.tensor([7]))


@case
def unused_operation_raises():
    def f(x, i):
        x[i]
        return x + 1

    return f, (X, torch.tensor([0])), None, (X, torch.tensor([7]))


@case
def caught_in_the_caller():
    def inner(x, i):
        return torch.index_select(x, 0, i)

    def f(x, i):
        with contextlib.suppress(IndexError, RuntimeError):
            return inner(x, i)
        return x - 1

    return f, (X, torch.tensor([0])), None, (X, torch.tensor([7]))


@case
def attribute_set_and_deleted():
    def f(o, x):
        o.tmp = x + 1
        y = o.tmp * 2
        del o.tmp
        return y

    o = Box()
    return f, (o, X), lambda: setattr(o, "tmp", 3), (o, X)


@case
def attribute_deleted_and_set_keeps_order():
    def f(o, x):
        del o.a
        o.a = x + 1
        return x * 2

    o = Box()
    o.a, o.b = 1, 2
    return f, (o, X), None, (o, X)


@case
def dict_set_and_popped():
    def f(o, x):
        o.__dict__["a"] = x + 1
        return o.__dict__.pop("a") * 2

    return f, (Box(), X), None, (Box(), X)


@case
def global_set_and_deleted():
    def f(x):
        global PASSING
        PASSING = x + 1
        y = PASSING * 2
        del PASSING
        return y, "PASSING" in globals()

    return f, (X,), None, (X,)


@case
def storage_offset_changes():
    def f(x):
        return x + x.storage_offset()

    base = torch.ones(8)
    return f, (base[:3],), None, (base[2:5],)


@case
def is_view_changes():
    def f(x):
        return x + (1 if x._is_view() else 2)

    return f, (torch.ones(3),), None, (torch.ones(8)[:3],)


@case
def written_sets_become_one():
    def f(a, b, x):
        a.add(7)
        return x + len(b)

    both = {1}
    return f, ({1}, {1}, X), None, (both, both, X)


@case
def written_tensors_become_one():
    def f(a, b):
        a.tag = 5
        return a + b + getattr(b, "tag", 0)

    both = torch.ones(3)
    return f, (torch.ones(3), torch.ones(3)), None, (both, both)


@case
def function_renamed():
    def g():
        return 1

    def f(x, g):
        return x + len(g.__name__)

    return f, (X, g), lambda: setattr(g, "__name__", "longer_name"), (X, g)


def _made(amount):
    def g(x, a=1, *rest):
        return x + a

    g.__defaults__ = (1,) * amount
    return g


@case
def defaults_added():
    def f(x, g):
        return g(x)

    def g(a, b=3):
        return a + b

    def change():
        g.__defaults__ = (X, 5)

    return f, (X, g), change, (X, g)


def _replaceable(x):
    return x + 1


def _replacement(x):
    return x + 2


@case
def code_replaced():
    def f(x):
        return _replaceable(x)

    code = _replaceable.__code__
    UNDO.append(lambda: setattr(_replaceable, "__code__", code))
    return f, (X,), lambda: setattr(_replaceable, "__code__", _replacement.__code__), (X,)


SCALE = 2


def _reads_global(x):
    return x * SCALE


@case
def other_globals_of_one_code():
    def f(x, g):
        return g(x)

    other = types.FunctionType(_reads_global.__code__, {"SCALE": 5, "__name__": "elsewhere"})
    return f, (X, _reads_global), None, (X, other)


@case
def builtin_shadowed_in_exec():
    space: dict[str, Any] = {"torch": torch}
    exec("def f(x, items):\n    return x + len(items)", space)
    return space["f"], (X, [1, 2]), lambda: space.update(len=lambda items: 50), (X, [1, 2])


@case
def builtin_shadowed_in_module():
    def f(x, items):
        return x + len(items)

    def change():
        globals()["len"] = lambda items: 50

    UNDO.append(lambda: globals().pop("len", None))
    return f, (X, [1, 2]), change, (X, [1, 2])


@case
def builtin_replaced():
    def f(x, items):
        return x + pow(*items)

    original = builtins.pow
    UNDO.append(lambda: setattr(builtins, "pow", original))
    return f, (X, [1, 2]), lambda: setattr(builtins, "pow", lambda *items: 50), (X, [1, 2])


def _pair(shared):
    a = b = 0

    def store(v):
        nonlocal a
        a = v

    def read():
        return b

    def read_shared():
        return a

    del shared
    return store, types.FunctionType(read.__code__, globals(), closure=(types.CellType(0),)), read_shared


@case
def cells_become_one():
    def f(x, store, read):
        store(5)
        return x + read()

    store, read, _ = _pair(False)
    same = types.FunctionType(read.__code__, globals(), closure=store.__closure__)
    return f, (X, store, read), None, (X, store, same)


@case
def cells_become_two():
    def f(x, store, read):
        store(5)
        return x + read()

    store, read, _ = _pair(False)
    same = types.FunctionType(read.__code__, globals(), closure=store.__closure__)
    return f, (X, store, same), None, (X, store, read)


@case
def instance_dict_by_two_ways():
    def f(o, d, x):
        o.a = 5
        return x + d["a"]

    o, p = Box(), Box()
    o.a = p.a = 1
    return f, (o, o.__dict__, X), None, (p, {"a": 1}, X)


@case
def instance_dict_becomes_one():
    def f(o, d, x):
        o.a = 5
        return x + d["a"]

    o, p = Box(), Box()
    o.a = p.a = 1
    return f, (p, {"a": 1}, X), None, (o, o.__dict__, X)


MODULE = types.ModuleType("lampwork_test_module")
exec("G = 1\ndef read():\n    return G\ndef write(v):\n    global G\n    G = v", MODULE.__dict__)


@case
def global_through_module():
    import sys

    sys.modules["lampwork_test_module"] = MODULE
    UNDO.append(lambda: MODULE.__dict__.update(G=1))

    def f(x):
        MODULE.G = 3
        y = x + MODULE.read()
        MODULE.write(4)
        return y, MODULE.G

    return f, (X,), None, (X,)


class Buffered(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("b", torch.ones(3))


@case
def replaced_buffer_is_listed():
    def f(m, x):
        m.b = x * 2
        return [*m.buffers(), *(v for _, v in m.named_buffers()), m._buffers["b"] + 0]

    return f, (Buffered(), X), None, (Buffered(), X)


@case
def set_of_floats():
    def f(s, x):
        return [x * i for i in s], [type(i).__name__ for i in s]

    return f, ({2}, X), None, ({2.0}, X)


@case
def set_in_other_order():
    def f(s, x):
        return [i for i in s], x + 1

    return f, ({0, 8}, X), None, ({8, 0}, X)


@case
def flash_setting_changes():
    def f(x):
        return x + (1 if torch.backends.cuda.flash_sdp_enabled() else 2)

    before = torch.backends.cuda.flash_sdp_enabled()
    UNDO.append(lambda: torch.backends.cuda.enable_flash_sdp(before))
    return f, (X,), lambda: torch.backends.cuda.enable_flash_sdp(not before), (X,)


@case
def warn_always_changes():
    def f(x):
        return x + (1 if torch.is_warn_always_enabled() else 2)

    UNDO.append(lambda: torch.set_warn_always(False))
    return f, (X,), lambda: torch.set_warn_always(True), (X,)


class _Meta(type):
    answer = True

    def __instancecheck__(cls, obj):
        return _Meta.answer


class Checked(metaclass=_Meta):
    pass


@case
def instance_check_in_python():
    def f(x, o):
        return x + (1 if isinstance(o, Checked) else 2)

    UNDO.append(lambda: setattr(_Meta, "answer", True))
    return f, (X, Box()), lambda: setattr(_Meta, "answer", False), (X, Box())


@case
def abstract_class_registers():
    import abc

    class Kind(abc.ABC):  # noqa: B024
        pass

    class Later:
        pass

    def f(x, o):
        return x + (1 if isinstance(o, Kind) else 2)

    return f, (X, Later()), lambda: Kind.register(Later), (X, Later())


@case
def same_large_int():
    def f(x, a, b):
        return x + (1 if a is b else 2)

    large, other = 10**6, int("1000000")
    return f, (X, large, large), None, (X, large, other)


@case
def same_float():
    def f(x, a, b):
        return x + (1 if a is b else 2)

    value, other = float("2.5"), float("2.5")
    return f, (X, value, value), None, (X, value, other)


@case
def other_method_of_a_list():
    def f(x, m):
        return x + m(3)

    items = [1, 2, 3, 3]
    return f, (X, items.count), None, (X, items.index)


@case
def slice_keeps_names():
    def f(m, x):
        part = m[1:]
        return part(x), [name for name, _ in part.named_children()]

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Sigmoid())
    return f, (net, X), None, (net, X)


class Problem(Exception):
    weight = 2


@case
def class_attribute_of_an_exception():
    def f(x):
        try:
            raise Problem("x")
        except Problem as error:
            return x + error.weight

    UNDO.append(lambda: setattr(Problem, "weight", 2))
    return f, (X,), lambda: setattr(Problem, "weight", 9), (X,)


@case
def view_of_an_ordered_dict():
    def f(d, x):
        return type(d.items()).__name__, type(d.keys()).__name__, x + 1

    return f, (OrderedDict(a=1), X), None, (OrderedDict(a=1), X)


class Annotated:
    a: int = 1
    b = 2


@case
def namespace_of_a_class():
    def f(cls, x):
        annotations = cls.__dict__.get("__annotations__", {})
        return len(annotations), "b" in cls.__dict__, x + cls.__dict__["b"]

    UNDO.append(lambda: setattr(Annotated, "b", 2))
    return f, (Annotated, X), lambda: setattr(Annotated, "b", 9), (Annotated, X)


@case
def name_made_in_a_class():
    def f(cls, x):
        return "late" in cls.__dict__, list(cls.__dict__)[-1], x + 1

    UNDO.append(lambda: delattr(Annotated, "late"))
    return f, (Annotated, X), lambda: setattr(Annotated, "late", 9), (Annotated, X)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_change_is_seen(make):
    check_invalidation(make)


@pytest.mark.parametrize("context", [torch.no_grad, lambda: torch.autocast("cpu"), torch.inference_mode])
def test_state_is_restored_when_a_graph_raises(context):
    graphs = []

    def backend(graph, examples):
        graphs.append(graph)
        return restoring_state(graph, graph.forward)

    def f(x, i):
        with context():
            return x[i] * 2

    lampwork_capture.reset()
    captured = lampwork_capture.optimize(backend)(f)
    captured(X, torch.tensor([0]))
    before = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled())
    with pytest.raises(IndexError):
        captured(X, torch.tensor([7]))
    assert graphs
    assert before == (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled())
