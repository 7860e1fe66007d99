"""The frame hook: replaced calls behave as calls, everything else behaves as without the hook."""

import ctypes
import gc
import inspect
import sys
import threading
import traceback
import tracemalloc
import types
import weakref

import pytest
import torch
from lampwork_capture import _native
from lampwork_capture.guards.facts import ByIdentity, ConstantIs, DictContains, Guard, GuardSet
from lampwork_capture.guards.tree import Stamps, build_tree
from lampwork_capture.source import AttributeSource, ItemSource, LocalSource


def code_of(source: str, name: str = "f") -> types.CodeType:
    """The code of a function in source text, to stand in as replacement."""
    namespace: dict = {}
    exec(compile(source, "<replacement>", "exec"), namespace)
    return namespace[name].__code__


def replacing(code, replacement, guards=None):
    """A callback that replaces one code object and skips all others."""

    def callback(view, entries):
        return _native.CacheEntry(guards, replacement) if view.code is code else _native.SKIP

    return callback


def run(function, callback, *args, **kwargs):
    return _native.OptimizedCallable(function, callback)(*args, **kwargs)


@pytest.fixture(autouse=True)
def hook_is_off_afterwards():
    yield
    assert not _native.is_installed()
    assert _native.get_callback() is None


def test_all_kinds_of_arguments_arrive_in_slot_order():
    def f(a, /, b=2, *args, k=3, **kw):
        return "original"

    seen = []

    def callback(view, entries):
        seen.append(dict(view.local_values))
        return _native.CacheEntry(None, code_of("def f(a, b, k, args, kw): return a, b, k, args, kw"))

    assert run(f, callback, 1, 5, 6, 7, z=3, k=9) == (1, 5, 9, (6, 7), {"z": 3})
    assert seen == [{"a": 1, "b": 5, "k": 9, "args": (6, 7), "kw": {"z": 3}}]
    assert run(f, callback, 1) == (1, 2, 3, (), {})
    assert f(1) == "original"


def test_view_shows_the_call():
    cell_value = object()

    def f(x):
        return cell_value, x

    views = []

    def callback(view, entries):
        views.append((view.code, view.function, view.cells["cell_value"].cell_contents, view.global_values, entries))
        assert view.builtin_values["len"] is len

    run(f, callback, 1)
    known = f if sys.version_info >= (3, 11) else None  # a frame of 3.10 does not know its function
    assert views == [(f.__code__, known, cell_value, globals(), ())]


def test_closure_and_globals_are_those_of_the_call():
    def make(n):
        def f(x):
            return n, x

        return f

    first, second = make(1), make(2)
    replacement = code_of("def make(n):\n def f(x): return 'new', n, x\n return f", "make").co_consts[1]
    assert isinstance(replacement, types.CodeType)
    callback = replacing(first.__code__, replacement)
    both = _native.OptimizedCallable(lambda: (first(10), second(20), first(30)), callback)
    for _ in range(3):
        assert both() == (("new", 1, 10), ("new", 2, 20), ("new", 1, 30))
    other = types.FunctionType(code_of("def f(): return who"), {"who": "other"})
    replaced = code_of("def f(): return 'new ' + who")
    here = types.FunctionType(other.__code__, {"who": "here"})
    pair = _native.OptimizedCallable(lambda: (other(), here(), other()), replacing(other.__code__, replaced))
    assert pair() == pair() == ("new other", "new here", "new other")


def test_wrong_shape_of_replacement_is_an_error():
    def f(a, *b):
        return a

    with pytest.raises(ValueError, match="2 argument slots"):
        run(f, replacing(f.__code__, code_of("def f(a): pass")), 1)
    with pytest.raises(ValueError, match="argument slots"):
        run(f, replacing(f.__code__, code_of("def f(a, *b): pass")), 1)
    with pytest.raises(TypeError, match="CacheEntry"):
        run(f, lambda view, entries: 7, 1)


def test_exceptions_of_replacements_and_callbacks():
    def f(x):
        return x

    def caller(x):
        return f(x)

    replacement = code_of("def f(x):\n    y = x\n    raise KeyError(y)")
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            run(caller, replacing(f.__code__, replacement), "k")
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert [frame.name for frame in frames][-2:] == ["caller", "f"]
        assert frames[-1].lineno == 3 and frames[-1].filename == "<replacement>"
        frame = caught.value.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        assert frame.tb_frame.f_locals == {"x": "k", "y": "k"}
        assert "__builtins__" in frame.tb_frame.f_globals or frame.tb_frame.f_globals is globals()

    def bad(view, entries):
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        run(f, bad, 1)

    def catches(x):
        try:
            return f(x)
        except KeyError as error:
            return error.args[0], sys.exc_info()[0]

    _native.reset(f.__code__)
    assert run(catches, replacing(f.__code__, replacement), 5) == (5, KeyError)
    assert sys.exc_info() == (None, None, None)


def test_frames_seen_from_inside():
    def f():
        return len("original")

    def caller():
        return f()

    replacement = code_of(
        "def f():\n import sys\n frame = sys._getframe()\n return frame.f_code.co_name, frame.f_back.f_code.co_name"
    )
    assert run(caller, replacing(f.__code__, replacement)) == ("f", "caller")


def test_frame_without_room_for_a_result():
    def f():
        return None  # from 3.12 neither locals nor a stack

    optimized = _native.OptimizedCallable(f, replacing(f.__code__, code_of("def f(): return str('new')")))
    assert [optimized() for _ in range(3)] == ["new"] * 3


def test_recursion_replaced_and_not():
    source = "def fib(n):\n return n{} if n < 2 else fib(n - 1) + fib(n - 2)"
    namespace: dict = {}
    exec(source.format(""), namespace)
    fib = namespace["fib"]
    expected = fib(12)
    assert run(fib, lambda view, entries: _native.SKIP, 12) == expected
    _native.reset(fib.__code__)
    replacement = code_of(source.format(" + 100"), "fib")
    assert run(fib, replacing(fib.__code__, replacement), 12) == expected + 100 * 233  # fib(12) ends in 233 leaves


def code_extras(code) -> list:
    """What stands in the extra slots of a code object; who has asked for one hears of each code with any that dies."""
    read = ctypes.pythonapi["PyUnstable_Code_GetExtra" if sys.version_info >= (3, 12) else "_PyCode_GetExtra"]
    found = []
    for index in range(8):
        value = ctypes.c_void_p()
        assert read(ctypes.py_object(code), ctypes.c_ssize_t(index), ctypes.byref(value)) == 0
        found.append(value.value)
    return found


def test_a_replacement_is_known_without_an_extra_of_its_code():
    def f(x):
        return "original"

    replacement = code_of("def f(x): return 'replaced'")
    assert run(f, replacing(f.__code__, replacement), 1) == "replaced"
    assert any(code_extras(f.__code__))
    assert not any(code_extras(replacement))


def test_deep_recursion_ends_as_without_the_hook():
    def depth(n):
        return 0 if n == 0 else 1 + depth(n - 1)

    assert run(depth, lambda view, entries: _native.SKIP, 700) == 700
    with pytest.raises(RecursionError):
        run(depth, lambda view, entries: _native.SKIP, 10**6)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(60_000)
    try:
        deep = 20_000 if sys.version_info >= (3, 11) else 5_000  # every Python call of 3.10 takes C stack anyway
        assert run(depth, lambda view, entries: None, deep) == deep
    finally:
        sys.setrecursionlimit(limit)
    namespace: dict = {}
    exec("def down(n):\n return 0 if n == 0 else 1 + down(n - 1)", namespace)
    down = namespace["down"]
    replacement = code_of("def down(n):\n return 0 if n == 0 else 1 + down(n - 1)", "down")
    assert run(down, replacing(down.__code__, replacement), 700) == 700
    with pytest.raises(RecursionError):
        run(down, replacing(down.__code__, replacement), 10**6)


def test_generators_coroutines_and_class_bodies_run_natively():
    log = []

    def callback(view, entries):
        log.append(view.code.co_name)

    def numbers(n):
        for i in range(n):
            got = yield i
            if got:
                yield got

    async def answer():
        return 42

    def program():
        class Local:
            x = 3

        generator = numbers(3)
        first = next(generator)
        sent = generator.send("sent")
        rest = list(generator)
        try:
            answer().send(None)
        except StopIteration as stop:
            value = stop.value
        thrower = numbers(2)
        next(thrower)
        try:
            thrower.throw(ValueError("thrown"))
        except ValueError as error:
            text = str(error)
        return first, sent, rest, value, Local.x, text, [i for i in numbers(2)], list(x for x in (1, 2))

    expected = program()
    assert run(program, callback) == expected
    assert "numbers" not in log and "answer" not in log and "Local" not in log and "program" in log


def test_entries_belong_to_their_owner():
    def f():
        return "original"

    class Owner:
        pass

    one, two = Owner(), Owner()
    a, b = code_of("def f(): return 'a'"), code_of("def f(): return 'b'")
    first = _native.OptimizedCallable(f, replacing(f.__code__, a), one)
    second = _native.OptimizedCallable(f, replacing(f.__code__, b), two)
    assert [first(), second(), first(), second()] == ["a", "b", "a", "b"]
    assert len(_native.entries(f.__code__)) == 2
    assert [entry.code for entry in _native.entries(f.__code__, one)] == [a]
    assert _native.entries(f.__code__, one)[0].owner is one
    gone = weakref.ref(two)
    del second, two
    gc.collect()
    assert gone() is None
    third = _native.OptimizedCallable(f, replacing(f.__code__, b), Owner())
    assert third() == "b"
    assert len(_native.entries(f.__code__)) == 2  # that of the owner that is gone was pruned


def test_skips():
    def inner():
        return sys._getframe().f_code.co_name

    def outer():
        return inner()

    asked = []

    def callback(view, entries):
        if view.code.co_filename == __file__:  # audit hooks of other packages run inside the call too
            asked.append(view.code.co_name)
        return _native.SKIP_RECURSIVE if view.code is outer.__code__ else _native.SKIP

    optimized = _native.OptimizedCallable(outer, callback)
    assert optimized() == optimized() == "inner"
    assert asked == ["outer"]
    _native.reset(outer.__code__)
    asked.clear()
    optimized()
    assert asked == ["outer"]
    _native.reset(outer.__code__)
    _native.skip(outer.__code__)
    asked.clear()
    optimized(), optimized()
    assert asked == ["inner"]
    assert outer.__code__ in _native.cached_codes()
    _native.reset(outer.__code__)
    assert outer.__code__ not in _native.cached_codes()


def test_entries_before_a_skip_are_still_used():
    def f():
        return "original"

    answers = [_native.CacheEntry(None, code_of("def f(): return 'new'")), _native.SKIP]
    owner = object.__new__(type("Owner", (), {}))
    optimized = _native.OptimizedCallable(f, lambda view, entries: answers.pop(0), owner)
    assert optimized() == "new"
    entry = _native.entries(f.__code__)[0]
    assert not entry.is_skip and entry.hits == 0
    assert optimized() == "new" and entry.hits == 1
    with pytest.raises(ValueError, match="already"):
        _native.insert(f.__code__, entry, owner)


def test_callback_runs_with_the_hook_off():
    def helper():
        return 1

    def f():
        return helper()

    asked = []

    def callback(view, entries):
        asked.append(view.code.co_name)
        assert _native.get_callback() is None
        helper()
        return None

    run(f, callback)
    assert asked == ["f", "helper"]


def test_disabled_inside():
    def f():
        return _native.get_callback()

    def callback(view, entries):
        return _native.SKIP

    disabled = _native.OptimizedCallable(f)
    assert run(lambda: (_native.call_disabled(f), disabled(), f()), callback) == (None, None, callback)
    with pytest.raises(ZeroDivisionError):
        run(lambda: _native.call_disabled(lambda x: 1 / x, 0), callback)
    assert _native.call_disabled(lambda *a, **k: (a, k), 1, b=2) == ((1,), {"b": 2})


def test_set_callback_returns_the_previous():
    def callback(view, entries):
        return None

    assert _native.set_callback(callback) is None
    assert _native.is_installed()
    assert _native.get_owner() is callback
    assert _native.set_callback(None) is callback
    assert not _native.is_installed()


def test_optimized_callable_looks_like_its_function():
    def f(x, *, k=1):
        """Doc."""
        return x, k

    f.attribute = 7
    optimized = _native.OptimizedCallable(f, lambda view, entries: _native.SKIP)
    assert (optimized.__name__, optimized.__doc__, optimized.__wrapped__) == ("f", "Doc.", f)
    assert optimized.__qualname__ == f.__qualname__ and optimized.__module__ == __name__ and optimized.attribute == 7
    assert inspect.signature(optimized) == inspect.signature(f)
    assert weakref.ref(optimized)() is optimized

    class Holder:
        method = _native.OptimizedCallable(lambda self, x: (self, x), lambda view, entries: _native.SKIP)

    holder = Holder()
    assert holder.method(3) == (holder, 3) and Holder.method(holder, x=4) == (holder, 4)
    assert isinstance(holder.method, types.MethodType)
    with pytest.raises(TypeError):
        _native.OptimizedCallable(3)


def test_reference_counts_and_lifetimes():
    class Thing:
        pass

    def f(a, *args, **kw):
        return a

    def raises(a):
        return a

    replacement = code_of("def f(a, args, kw): return a")
    raising = code_of("def raises(a):\n b = a\n raise ValueError", "raises")

    def callback(view, entries):
        if view.code is f.__code__:
            return _native.CacheEntry(None, replacement)
        return _native.CacheEntry(None, raising) if view.code is raises.__code__ else _native.SKIP

    optimized = _native.OptimizedCallable(f, callback)
    failing = _native.OptimizedCallable(raises, callback)
    thing = Thing()
    optimized(thing)
    before = sys.getrefcount(thing)
    for _ in range(50):
        assert optimized(thing, thing, k=thing) is thing
        try:
            failing(thing)
        except ValueError:
            pass
    gc.collect()
    assert sys.getrefcount(thing) == before
    gone = weakref.ref(thing)
    del thing
    assert gone() is None


def test_dropping_the_code_frees_its_entries():
    class Payload:
        pass

    def once():
        function = types.FunctionType(code_of("def f(x): return x"), {})
        payload = Payload()
        owner = Payload()
        replacement = code_of("def f(x): return -x")

        def callback(view, entries):
            return _native.CacheEntry(None, replacement, payload)

        optimized = _native.OptimizedCallable(function, callback, owner)
        assert optimized(3) == optimized(3) == -3
        return weakref.ref(payload), weakref.ref(owner), weakref.ref(function.__code__), weakref.ref(function)

    references = once()
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_namespace_of_replaced_function_is_collected():
    class Witness:
        pass

    namespace = {"witness": Witness()}
    exec("def f(): return witness", namespace)
    gone = weakref.ref(namespace["witness"])
    replacement = code_of("def f(): return witness")
    optimized = _native.OptimizedCallable(namespace["f"], lambda view, entries: _native.CacheEntry(None, replacement))
    assert optimized() is optimized() is gone()
    del namespace, optimized
    gc.collect()
    assert gone() is None


def test_memory_is_flat_over_many_calls():
    def f(x, y=1, *args):
        return x

    replacement = code_of("def f(x, y, args): return [x, y]")
    optimized = _native.OptimizedCallable(f, replacing(f.__code__, replacement))
    for _ in range(100):
        optimized(1, 2, 3)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5000):
            optimized(1, 2, 3)
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


def test_reset_while_the_replacement_runs():
    def f(action):
        return "original"

    replacement = code_of("def f(action):\n action()\n return 'new'")
    optimized = _native.OptimizedCallable(f, replacing(f.__code__, replacement))
    optimized(lambda: None)
    assert optimized(lambda: _native.reset(f.__code__)) == "new"
    assert _native.entries(f.__code__) == ()


class Disturbing:
    """A key whose hash does something."""

    def __init__(self):
        self.does = lambda: None

    def __hash__(self):
        self.does()
        return 7


class Holder:
    def __init__(self, key):
        self.table, self.last = {key: 1}, 2


def disturbed_guards(key):
    holder = LocalSource("holder")
    table = AttributeSource(holder, "table")
    facts = (
        DictContains(table, ByIdentity(key), True),
        ConstantIs(ItemSource(table, key), ByIdentity(1)),
        ConstantIs(AttributeSource(holder, "last"), ByIdentity(2)),
    )
    return GuardSet(tuple(Guard(fact) for fact in facts))


@pytest.mark.parametrize("stamps", [Stamps.ALWAYS, Stamps.NEVER])
def test_a_check_that_is_disturbed_by_a_key_of_the_users(stamps):
    def f(holder):
        return "original"

    key = Disturbing()
    holder = Holder(key)
    made = []

    def callback(view, entries):
        if view.code is not f.__code__:
            return _native.SKIP
        made.append(build_tree(disturbed_guards(key), f.__code__, stamps=stamps))
        return _native.CacheEntry(made.pop(), code_of("def f(holder): return 'new'"))

    optimized = _native.OptimizedCallable(f, callback)
    assert [optimized(holder) for _ in range(3)] == ["new"] * 3

    def reset():
        _native.reset(f.__code__)
        gc.collect()

    def change():
        holder.__dict__ = dict(vars(holder), more=[0] * 100)
        gc.collect()

    for does in (reset, change, lambda: (reset(), change())):
        key.does = does
        assert [optimized(holder) for _ in range(20)] == ["new"] * 20
    key.does = lambda: vars(holder).update(last=3)
    assert optimized(Holder(key)) == "new"
    assert optimized(holder) == "new"  # no entry fits, so that a new one is made; its guards are not asked


def test_threads():
    def f(x):
        return x

    replacement = code_of("def f(x): return x + 1000")
    results: dict[int, list] = {}
    errors = []

    def work(number):
        try:
            if number % 2:
                optimized = _native.OptimizedCallable(f, replacing(f.__code__, replacement), work)
                results[number] = [optimized(i) for i in range(300)]
            else:
                results[number] = [f(i) for i in range(300)]
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    for number, values in results.items():
        assert values == [i + (1000 if number % 2 else 0) for i in range(300)]


def test_what_the_interpreter_calls_in_between_runs_natively():
    looked_at, audited, profiled = [], [], []

    def audit(event, args):
        if event == "lampwork.test":
            audited.append(event)

    def profile(frame, event, arg):
        profiled.append(event)

    def f(x):
        sys.audit("lampwork.test")
        return x

    def callback(view, entries):
        looked_at.append(view.code.co_name)

    sys.addaudithook(audit)  # for good: it does nothing but for this event
    sys.setprofile(profile)
    try:
        assert run(f, callback, 1) == 1
    finally:
        sys.setprofile(None)
    assert audited and profiled and looked_at == ["f"]


@pytest.mark.parametrize("setter", [sys.settrace, sys.setprofile])
def test_tracing_sees_the_replacement_and_balanced_events(setter):
    def f(x):
        return x

    def caller(x):
        try:
            return f(x)
        except ValueError:
            return "caught"

    def events_of(raising):
        _native.reset(f.__code__)
        body = " raise ValueError" if raising else " return x"
        replacement = code_of("def f(x):\n" + body)
        optimized = _native.OptimizedCallable(caller, replacing(f.__code__, replacement))
        optimized(1)
        events = []

        def tracer(frame, event, arg):
            if frame.f_code.co_name in ("caller", "f", "<lambda>") and event in ("call", "return"):
                events.append((frame.f_code.co_name, event))
            return tracer

        setter(tracer)
        try:
            optimized(1)
        finally:
            setter(None)
        return events

    expected = [("caller", "call"), ("f", "call"), ("f", "return"), ("caller", "return")]
    assert events_of(False) == expected
    assert events_of(True) == expected


def test_torch_compile_before_inside_and_after():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    def body(x):
        return torch.sin(x) + 1

    compiled = torch.compile(body, backend=backend)
    x = torch.randn(3)
    assert torch.equal(compiled(x), body(x)) and len(graphs) == 1

    def inner(x):
        return x * 2

    replacement = code_of("def inner(x): return x * 3", "inner")
    other = torch.compile(lambda x: torch.cos(x), backend=backend)

    def program(x):
        return inner(x) + compiled(x) + other(x), inner(x)

    seen = []

    def callback(view, entries):
        seen.append(view.code.co_name)
        return _native.CacheEntry(None, replacement) if view.code is inner.__code__ else None

    total, after = run(program, callback, x)
    assert torch.allclose(total, x * 3 + body(x) + torch.cos(x)) and torch.equal(after, x * 3)
    assert len(graphs) == 2
    assert "body" not in seen  # torch's own capture is the innermost there
    assert torch.equal(compiled(x), body(x)) and len(graphs) == 2

    ours = _native.OptimizedCallable(inner, callback)

    @torch._dynamo.disable
    def outside(x):
        return ours(x)

    around = torch.compile(lambda x: torch.sin(outside(x)) + 1, backend=backend)
    assert torch.allclose(around(x), torch.sin(x * 3) + 1)
    assert torch.allclose(run(lambda x: around(x) + inner(x), callback, x), torch.sin(x * 3) + 1 + x * 3)
    assert not _native.is_installed()


def test_arguments_that_live_in_cells():
    def f(a, b):
        def g():
            return a

        return g, b

    replacement = code_of("def f(a, b):\n def g(): return a\n a = a + b\n return g(), b")
    assert run(f, replacing(f.__code__, replacement), 1, 2) == (3, 2)
