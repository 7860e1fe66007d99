"""Functions: closures, cells, defaults, decorators, star-calls, late binding, recursion, globals, patched builtins."""

# ruff: noqa
from __future__ import annotations

import builtins
import functools
import sys
import types

import pytest
import torch
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split
state_counter = 0
state_table: dict = {}


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def closure_variable_changes(run):
    def make():
        k = 1

        def f(x):
            return x * k

        def bump(new):
            nonlocal k
            k = new

        return f, bump

    f, bump = make()
    run(f, t())
    bump(5)
    run(f, t())
    bump(2.5)
    run(f, t())
    bump(t(7))
    run(f, t())
    bump("a")
    run(f, t())


@whole
def nonlocal_written(run):
    def make():
        n = 0
        seen = None

        def f(x):
            nonlocal n, seen
            n += 1
            seen = x * n
            return seen + 1

        return f, lambda: (n, seen)

    f, peek = make()
    run(f, t())
    run.see(peek())
    run(f, t())
    run.see(peek())


@whole
def closure_escapes_and_is_called_later(run):
    def f(x):
        n = 0
        log = []

        def inc(by=1):
            nonlocal n
            n += by
            log.append(n)
            return x * n

        inc()
        return inc, log, lambda: n

    def use():
        inc, log, peek = run.compiled(f)(t())
        run.see(inc(5), log, peek(), inc())
        run.see(log, inc.__defaults__, inc.__name__)

    use()
    use()


@whole
def late_binding_in_loops(run):
    def f(x):
        late = [lambda: i for i in range(3)]
        early = [lambda i=i: i for i in range(3)]
        made = []
        for j in range(2):

            def g(y):
                return y + j

            made.append(g)
        j = 10
        return [h() for h in late], [h() for h in early], [g(x) for g in made]

    run(f, t())
    run(f, t())


@whole
def mutable_default(run):
    def f(x, seen=[]):
        seen.append(len(seen))
        return x + len(seen), list(seen)

    run(f, t())
    run(f, t())
    run(f, t(), [7])
    run(f, t())


@whole
def mutable_default_of_inner(run):
    def g(v, memo={}):
        if v not in memo:
            memo[v] = len(memo)
        return memo[v]

    def f(x, k):
        return x + g(k), g(k), g("z")

    run(f, t(), "a")
    run(f, t(), "b")
    run(f, t(), "a")


@whole
def defaults_replaced(run):
    def g(x, k=2, *, s=1):
        return x * k + s

    def f(x):
        return g(x)

    run(f, t())
    g.__defaults__ = (5,)
    run(f, t())
    g.__kwdefaults__ = {"s": 100}
    run(f, t())
    g.__defaults__ = None
    run(f, t())


@whole
def code_replaced(run):
    def g(x):
        return x + 1

    def h(x):
        return x * 50

    def f(x):
        return g(x)

    run(f, t())
    g.__code__ = h.__code__
    run(f, t())


@split
def function_attributes(run):
    def g(x):
        g.calls = getattr(g, "calls", 0) + 1
        return x * g.calls

    def f(x):
        g.note = "n"
        return g(x), g.calls, g.__dict__["note"], hasattr(g, "zz"), g.__name__, g.__doc__

    run(f, t())
    run(f, t())
    g.calls = 10
    run(f, t())
    run.see(g.calls)


@whole
def function_replaced_between_calls(run):
    def one(x):
        return x + 1

    def two(x):
        return x * 2

    table = {"op": one}

    def f(x):
        return table["op"](x)

    run(f, t())
    table["op"] = two
    run(f, t())
    table["op"] = torch.neg
    run(f, t())
    table["op"] = functools.partial(torch.add, 5)
    run(f, t())
    table["op"] = lambda v: v - 1
    run(f, t())


@whole
def functions_as_arguments(run):
    def f(x, *fs, **named):
        for g in fs:
            x = g(x)
        return x, {k: g(x) for k, g in named.items()}

    run(f, t(), torch.sin, lambda v: v + 1, a=torch.cos)
    run(f, t(), lambda v: v + 2, b=lambda v: v)
    k = 3
    run(f, t(), lambda v: v * k, "abc".count if False else len)


@whole
def decorators_with_state(run):
    def counted(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            wrapper.n += 1
            return fn(*args, **kwargs)

        wrapper.n = 0
        return wrapper

    def scaled(k):
        def deco(fn):
            return lambda *a: fn(*a) * k

        return deco

    @counted
    @scaled(3)
    def g(x, y):
        return x + y

    def f(x):
        return g(x, 1), g.n

    run(f, t())
    run(f, t())
    run.see(g.n, g.__name__)


@whole
def class_decorator_and_callable_instance(run):
    class Memo:
        def __init__(self, fn):
            self.fn = fn
            self.cache = {}
            functools.update_wrapper(self, fn)

        def __call__(self, n):
            if n not in self.cache:
                self.cache[n] = self.fn(n)
            return self.cache[n]

        def __get__(self, obj, owner=None):
            return self if obj is None else functools.partial(self.fn, obj)

    @Memo
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    class A:
        @Memo
        def m(self, n):
            return n * 2

    def f(x, n):
        return x + fib(n), len(fib.cache), A().m(4), fib.__name__

    run(f, t(), 6)
    run(f, t(), 8)
    run(f, t(), 6)


@whole
def star_arguments(run):
    def g(a, b=2, /, c=3, *args, d, e=5, **kw):
        return a, b, c, args, d, e, kw

    def f(x, seq, kw):
        return (
            g(1, d=4),
            g(1, 2, 3, 4, 5, d=6, z=7),
            g(*seq, d=0),
            g(*seq, *"ab", **kw),
            g(1, d=2, **{"a": 3, "b": 4}),
            g(x, d=x + 1, e=x)[0] + 1,
            [*seq, *range(2)],
            (lambda *a, **k: (a, k))(*seq, **kw),
            max(*seq),
            print.__name__,
        )

    run(f, t(), [1, 2], {"d": 9})
    run(f, t(), (5, 6, 7, 8), {"d": 9, "q": 1})


@split
def bad_calls(run):
    def g(a, /, b, *, c=1):
        return a

    def f(x, which):
        try:
            if which == 0:
                g()
            elif which == 1:
                g(1, 2, 3)
            elif which == 2:
                g(1, 2, d=3)
            elif which == 3:
                g(a=1, b=2)
            elif which == 4:
                g(1, b=2, **{"b": 3})
            elif which == 5:
                g(*5)
            elif which == 6:
                g(**5)
            elif which == 7:
                g(1, 2, **{1: 2})
            elif which == 8:
                g(1)
            elif which == 9:
                (5)()
            elif which == 10:
                len()
            elif which == 11:
                len(1, 2)
            elif which == 12:
                [].append()
        except TypeError as e:
            return x + 1, str(e)

    for which in range(13):
        run(f, t(), which)


@whole
def recursion(run):
    def fact(n, x):
        return x if n <= 1 else fact(n - 1, x * n)

    def even(n):
        return True if n == 0 else odd(n - 1)

    def odd(n):
        return False if n == 0 else even(n - 1)

    def walk(tree):
        return sum(walk(v) for v in tree) if isinstance(tree, list) else tree

    def f(x, n, tree):
        return fact(n, x), even(n), x * walk(tree)

    run(f, t(), 4, [1, [2, [3]]])
    run(f, t(), 5, [[[]]])


@whole
def global_written(run):
    def f(x):
        global state_counter
        state_counter += 1
        return x * state_counter

    globals()["state_counter"] = 0
    run(f, t())
    run(f, t())
    globals()["state_counter"] = 0


@split
def globals_function(run):
    def f(x):
        return x + len([k for k in globals() if k == "state_counter"]), "nope" in globals()

    run(f, t())
    run(f, t())


@whole
def shadowed_builtins(run):
    def f(x):
        len = lambda v: 100
        list = tuple
        return x + len([1]), list([1, 2])

    def g(x, sum, max=min):
        return x + sum([1, 2]), max(3, 4)

    run(f, t())
    run(g, t(), lambda v: -1)
    run(g, t(), sum, max)


@whole
def patched_builtin(run):
    def f(x):
        return x + len(oct(8))

    run(f, t())
    saved = builtins.oct
    builtins.oct = lambda v: "12345"
    try:
        run(f, t())
    finally:
        builtins.oct = saved
    run(f, t())


@whole
def global_shadows_builtin_later(run):
    module = types.ModuleType("made")
    exec("def f(x):\n    return x + abs(-3)\n", vars(module))
    sys.modules["made"] = module
    f = module.f
    run(f, t())
    module.abs = lambda v: 100
    run(f, t())
    del module.abs
    run(f, t())
    del sys.modules["made"]


@whole
def module_attributes_change(run):
    module = types.ModuleType("made2")
    module.k = 2
    module.fn = lambda x: x + 1
    sys.modules["made2"] = module

    def f(x):
        return module.fn(x) * module.k, hasattr(module, "later")

    run(f, t())
    module.k = 3
    run(f, t())
    module.fn = lambda x: x - 1
    run(f, t())
    module.later = 1
    run(f, t())
    del sys.modules["made2"]


@whole
def module_attribute_written(run):
    module = types.ModuleType("made3")
    module.n = 0
    sys.modules["made3"] = module

    def f(x):
        module.n += 1
        module.last = x
        return x + module.n

    run(f, t())
    run(f, t())
    run.see(module.n, module.last)
    del sys.modules["made3"]


@whole
def import_inside(run):
    def f(x):
        import math
        import collections.abc as cabc
        from math import floor as fl, pi
        from os.path import join

        return x * math.ceil(1.2) + fl(2.7), isinstance([], cabc.Sequence), pi > 3, join("a", "b")

    run(f, t())
    run(f, t())


@whole
def lambdas_and_partials(run):
    def f(x, k):
        add = lambda a, b=k: a + b
        p = functools.partial(add, x)
        q = functools.partial(p, b=3)
        return add(x), p(), q(), q.args[0] is x, q.keywords, p.func is add, functools.partial(max, key=len)("a", "bb")

    run(f, t(), 2)
    run(f, t(), 5)


@whole
def partial_passed_in_and_changed(run):
    def g(a, b, c=0):
        return a * b + c

    def f(x, p):
        return p(x), p.keywords

    p = functools.partial(g, 2, c=1)
    run(f, t(), p)
    run(f, t(), functools.partial(g, 3, c=1))
    p.keywords["c"] = 9
    run(f, t(), p)
    run(f, t(), functools.partial(g, t(5)))


@whole
def returns_of_all_kinds(run):
    def f(x):
        def g():
            return x

        return {
            "t": (x, [x]),
            "f": g,
            "l": lambda: 1,
            "m": [].append,
            "b": len,
            "c": int,
            "s": slice(1, 2),
            "r": range(3),
            "e": ...,
            "n": NotImplemented,
            "z": 1 + 2j,
            "mod": functools,
            "mth": x.add,
            "by": b"a",
            "fs": frozenset([1]),
            "st": {1},
            "dt": x.dtype,
            "sz": x.shape,
        }

    def use():
        got = run.compiled(f)(t())
        run.see({k: type(v).__name__ for k, v in got.items()}, got["f"](), got["mth"](1), got["t"][1][0] is got["t"][0])

    use()
    use()


@whole
def aliases_among_arguments(run):
    def f(x, y, d):
        x.add_(1)
        d["x"].mul_(2)
        return x + y, d["x"] is x

    a = t()
    run(f, a, a, {"x": a})
    run(f, t(), t(), {"x": t()})
    b = t()
    run(f, b, t(), {"x": b})
    run.see(a, b)


@whole
def result_aliases_argument(run):
    def f(x, a):
        a["y"] = x
        return x, a, a["y"], x.view(-1), [x, x]

    run(f, t(), {})
    run(f, t(), {"y": 1})


@whole
def default_arguments_evaluated_once(run):
    log = []

    def f(x):
        def note():
            log.append("evaluated")
            return 1

        def g(a=note()):
            return a

        return x + g() + g()

    run(f, t())
    run.see(log)
    run(f, t())
    run.see(log)


@whole
def annotations_and_docs(run):
    def f(x):
        def g(a: int, b: "str" = "q") -> None:
            """Docs."""
            return a

        return g, g.__doc__, g.__annotations__, x + g(1)

    run(f, t())
    run(f, t())


@whole
def currying_and_composition(run):
    def compose(*fs):
        return functools.reduce(lambda a, b: lambda v: b(a(v)), fs)

    def curry(fn, n, *got):
        return fn(*got) if len(got) >= n else lambda v: curry(fn, n, *got, v)

    def f(x):
        return compose(lambda v: v + 1, torch.neg, lambda v: v * 2)(x), curry(lambda a, b, c: a + b * c, 3)(1)(2)(x)

    run(f, t())
    run(f, t())


@whole
def closures_share_a_cell(run):
    def make():
        total = []
        count = 0

        def add(x):
            nonlocal count
            count += 1
            total.append(x)
            return x + count

        def get():
            return count, len(total)

        return add, get

    add, get = make()

    def f(x):
        a = add(x)
        return a, get(), add(a)

    run(f, t())
    run.see(get())
    add(t())
    run(f, t())
    run.see(get())


@whole
def cell_deleted_and_empty(run):
    def f(x, k):
        if k:
            v = 1

        def g():
            try:
                return v
            except NameError as e:
                return str(e)

        a = g()
        v = 2
        b = g()
        del v
        return a, b, g(), x + 1

    run(f, t(), True)
    run(f, t(), False)


@whole
def class_instances_in_closure(run):
    class Acc:
        def __init__(self):
            self.total = 0

        def __call__(self, v):
            self.total = self.total + v
            return self.total

    acc = Acc()

    def f(x):
        return acc(x) + acc(1)

    run(f, t())
    run(f, t())
    run.see(acc)


@whole
def keyword_only_tensors(run):
    def f(*, a, b=None, **rest):
        y = a if b is None else a + b
        for k in sorted(rest):
            y = y * rest[k]
        return y, list(rest)

    run(f, a=t())
    run(f, a=t(), b=t(1), z=2, y=t(3))
    run(f, b=1, a=t(), y=t(3), z=2)


@whole
def method_types(run):
    class A:
        def m(self, x):
            return x + self.k

    def f(x, a):
        a.k = 3
        bound = types.MethodType(lambda self, v: v * self.k, a)
        a.extra = bound
        return bound(x), a.extra(x), A.m(a, x), a.m.__func__(a, x)

    run(f, t(), A())
    run(f, t(), A())


@whole
def many_returns_and_guards_on_types(run):
    def f(x, v):
        if v is None:
            return x
        if isinstance(v, bool):
            return x + 1
        if isinstance(v, int):
            return x + v
        if isinstance(v, str):
            return x * len(v)
        if isinstance(v, (list, tuple)):
            return x * sum(v)
        if callable(v):
            return v(x)
        if isinstance(v, torch.Tensor):
            return x + v
        return x - 1

    for v in (None, True, 1, "abc", [1, 2], (3,), torch.sin, t(), {"a": 1}, 2.5, False, 1.0, 0):
        run(f, t(), v)


@whole
def counters_as_attributes_of_function_argument(run):
    class Cfg:
        def __init__(self, **kw):
            self.__dict__.update(kw)

    def f(x, cfg):
        for name in cfg.layers:
            x = getattr(torch, name)(x) * cfg.scale
        cfg.calls = cfg.calls + 1
        return x

    c = Cfg(layers=["sin", "cos"], scale=2, calls=0)
    run(f, t(), c)
    c.layers.append("tanh")
    run(f, t(), c)
    c.layers = ("exp",)
    c.scale = 0.5
    run(f, t(), c)
    run.see(c)


@whole
def tensors_in_globals_replaced(run):
    weights = {"w": t()}

    def f(x):
        return x * weights["w"]

    run(f, t())
    weights["w"] = t(9, 9, 9)
    run(f, t())
    weights["w"].add_(1)
    run(f, t())
    weights["w"] = 3
    run(f, t())


@split
def exec_and_eval(run):
    def f(x):
        return x + eval("1 + 2")

    run(f, t())
    run(f, t())


@split
def locals_that_nothing_reads_live_until_the_frame_ends(run):
    import lampwork_capture
    import weakref

    class Thing:
        pass

    def held(x):
        thing = Thing()
        reference = weakref.ref(thing)
        y = x + 1
        lampwork_capture.graph_break()
        return y, reference() is None

    def held_over_a_loop(x):
        thing = Thing()
        reference = weakref.ref(thing)
        for i in range(2):
            lampwork_capture.graph_break()
            x = x + i
        return x, reference() is None

    def held_in_a_callee(x):
        def inner(y):
            thing = Thing()
            reference = weakref.ref(thing)
            y = y * 2
            lampwork_capture.graph_break()
            return y, reference() is None, reference

        y, inside, reference = inner(x)
        return y + 1, inside, reference() is None

    def replaced(x, things):
        thing = things.pop()
        reference = weakref.ref(thing)
        lampwork_capture.graph_break()
        thing = x
        y = x + 1
        lampwork_capture.graph_break()
        return y, reference() is None

    for function in (held, held_over_a_loop, held_in_a_callee):
        run(function, t())
        run(function, t())
    run(replaced, t(), [Thing()])
    run(replaced, t(), [Thing()])


@split
def what_a_name_holds_ends_with_it(run):
    import lampwork_capture

    ended, made = [], []

    class Thing:
        def __del__(self):
            ended.append("thing")

    class Slotted:
        __slots__ = ("held",)

        def __init__(self):
            self.held = Thing()

    @lampwork_capture.disable
    def make():
        return made[-1]()

    def deleted(x):
        held = make()
        y = x + 1
        del held
        return y + len(ended)

    def overwritten(x):
        held = make()
        y = x + 1
        held = None
        return y + len(ended)

    for function in (deleted, overwritten):
        for way in (int, list, object, Thing, lambda: [Thing()], lambda: {"a": (Thing(),)}, Slotted):
            ended.clear()
            made.append(way)
            run(function, t())


@split
def what_ends_with_its_last_name(run):
    import weakref

    import lampwork_capture

    ended = []

    class Thing:
        def __del__(self):
            ended.append("thing")

    class Watched:
        pass

    @lampwork_capture.disable
    def make(cls):
        return cls()

    @lampwork_capture.disable
    def watch(obj):
        return weakref.finalize(obj, ended.append, "watched")

    def f(x):
        thing = make(Thing)
        y = x + 1
        del thing
        return y, list(ended)

    def g(x):
        watched = make(Watched)
        watch(watched)
        y = x + 1
        del watched
        return y, list(ended)

    for function in (f, g):
        run(function, t())
        run(function, t())


@split
def code_of_a_function_that_is_dropped(run):
    import weakref

    import lampwork_capture

    @lampwork_capture.disable
    def make():
        return eval("lambda: 42")

    @lampwork_capture.disable
    def look(code):
        return weakref.ref(code)

    def f(x):
        made = make()
        seen = look(made.__code__)
        del made
        return x + 1, seen() is None

    run(f, t())


@whole
def partial_holds_its_arguments(run):
    def f(x, p):
        q = functools.partial(p.func, *p.args, **p.keywords)
        q.keywords["end"] = x
        p.keywords["added"] = 2
        return p.args is p.args, p.keywords is p.keywords, q.keywords, q.args is q.args, q

    run(f, t(), functools.partial(max, 1, key=len))
    run(f, t(), functools.partial(max, 1, 2))


@split
def partial_with_attributes_is_not_flattened(run):
    def f(x, p):
        return functools.partial(p, 3).func is p, x + 1

    p = functools.partial(max, 1)
    run(f, t(), p)
    q = functools.partial(max, 1)
    q.note = "own"
    run(f, t(), q)


@whole
def wraps_hands_annotations_on(run):
    def wrapped(a: int) -> str:
        """words"""

    def f(x):
        @functools.wraps(wrapped)
        def wrapper(*args):
            return args

        return wrapper.__annotations__ is wrapped.__annotations__, wrapper.__annotations__["a"], wrapper.__doc__, x + 1

    run(f, t())
    wrapped.__annotations__["a"] = 5
    run(f, t())


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_functions(scenario, is_whole):
    check_scenario(scenario, is_whole)
