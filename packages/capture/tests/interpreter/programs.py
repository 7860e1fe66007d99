"""Odd but ordinary programs: each is run eagerly and optimized. The number is how many graphs are expected at most."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field

import torch

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


state_counter = 0
state_log: list = []
state_table: dict = {}
state_tensor = torch.ones(3)
Point = namedtuple("Point", ["x", "y"])


# Closures and cells


@program
def closure_reads(x):
    y = x + 1

    def inner(z):
        return y * z

    return inner(x) + inner(y)


@program
def closure_nonlocal(x):
    count = 0

    def bump():
        nonlocal count
        count += 1
        return x * count

    a = bump()
    b = bump()
    return a + b, count


@program
def closure_escapes(x):
    total = x * 2

    def get():
        return total

    total = total + 1
    return get, get()


@program
def closure_escapes_and_shares(x):
    value = [x]

    def put(v):
        value.append(v)

    def get():
        return value

    put(x + 1)
    return put, get, len(value)


@program
def closure_break_shares_cell(x):
    n = 0

    def bump():
        nonlocal n
        n += 1

    bump()
    print("n", n)
    bump()
    return x * n, n


@program
def recursion(x):
    def down(n, v):
        return v if n == 0 else down(n - 1, v + n)

    return down(5, x)


@program
def recursive_closure_escapes(x):
    def down(n):
        return x if n == 0 else down(n - 1) + 1

    return down


@program
def argument_in_cell(x, n=2):
    def f():
        return x * n

    x = x + 1
    n += 1
    return f()


@program
def argument_in_cell_with_break(x, n=2):
    def f():
        return x * n

    x = x + 1
    print("b")
    n += 1
    return f()


@program
def late_binding(x):
    functions = [lambda v: v + i for i in range(3)]
    return [f(x) for f in functions]


@program
def default_binding(x):
    functions = [lambda v, i=i: v + i for i in range(3)]
    return [f(x) for f in functions]


# Arguments


@program
def star_arguments(x):
    def f(a, *args, k=3, **kw):
        return a + sum(args) + k + sum(kw.values())

    return f(x), f(x, 1, 2), f(x, 1, k=5), f(x, z=4, w=5), f(*[x, 1], **{"k": 2, "q": 7})


@program
def keyword_only(x):
    def f(a, /, b, *, c, d=4):
        return a + b * c - d

    return f(x, 2, c=3), f(x, b=2, c=3, d=1)


@program
def wrong_arguments_raise(x):
    def f(a):
        return a

    y = x + 1
    return f(y, 2)


@program
def wrong_arguments_caught(x):
    def f(a):
        return a

    try:
        f(x, 2, 3)
    except TypeError as error:
        return x + len(error.args)
    return x


# Decorators and functools


def doubled(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) * 2

    return wrapper


@doubled
def plus_one(x):
    """Documented."""
    return x + 1


@program
def decorated_call(x):
    return plus_one(x), plus_one.__name__


@program
def decorator_inside(x):
    @doubled
    def f(v):
        return v - 1

    return f(x), f.__name__


@program
def partials(x):
    f = functools.partial(torch.add, x)
    g = functools.partial(lambda a, b, c=1: a * b + c, c=5)
    return f(1), g(x, 2), functools.reduce(operator.add, [x, x, x])


# Exceptions


@program
def raise_and_catch(x):
    try:
        y = x + 1
        raise ValueError("boo", 3)
    except ValueError as error:
        return y * len(error.args)


@program
def raise_in_callee(x):
    def f(v):
        if v.shape[0] == 3:
            raise KeyError("k")
        return v

    try:
        return f(x)
    except (TypeError, LookupError) as e:
        return x * 2, str(e), repr(e), type(e).__name__


@program
def finally_runs(x):
    log = []
    try:
        try:
            log.append("try")
            return x + 1, log
        finally:
            log.append("finally")
    finally:
        log.append("outer")


@program
def finally_overrides(x):
    for _ in range(3):
        try:
            return x
        finally:
            x = x + 1
            if x.shape[0] == 3:
                break
    return x * 10


@program
def exception_escapes(x):
    state_log.append("before")
    y = x + 1
    raise RuntimeError(f"shape {tuple(y.shape)}")


@program
def exception_chained(x):
    try:
        try:
            raise ValueError("a")
        except ValueError as e:
            raise KeyError("b") from e
    except KeyError as k:
        return x + 1, type(k.__cause__).__name__, k.__suppress_context__


@program
def reraise(x):
    try:
        try:
            raise ValueError("a")
        except ValueError:
            x = x + 1
            raise
    except ValueError as e:
        return x * 2, e.args


@program
def try_else(x):
    try:
        y = x + 1
    except Exception:
        return None
    else:
        y = y * 2
    return y


class Custom(Exception):
    def __init__(self, code, extra=None):
        super().__init__(f"code {code}")
        self.code = code
        self.extra = extra


@program
def custom_exception(x):
    try:
        raise Custom(3, extra=x)
    except Custom as e:
        return x + e.code, str(e), e.extra


@program
def exception_with_print_in_handler(x):
    y = x + 1
    try:
        raise ValueError("v")
    except ValueError as e:
        print("caught", e)
        y = y * 2
    return y + 3


@program
def exception_from_native_code(x):
    y = x + 1
    try:
        int("no number")
    except ValueError as e:
        print(e)
        y = y - 1
    return y * 2


@program
def exception_in_loop(x):
    for i in range(4):
        try:
            if i == 2:
                raise ValueError(i)
            x = x + i
        except ValueError as e:
            x = x * e.args[0]
            continue
        finally:
            x = x + 0.5
    else:
        x = x - 1
    return x


@program
def assertion(x):
    assert x.shape[0] == 3, "three"
    try:
        assert x.dim() == 7, "seven"
    except AssertionError as e:
        return x, str(e)


@program
def shape_error_raises(x):
    y = x + 1
    return torch.mm(y, y)


@program
def shape_error_caught(x):
    y = x + 1
    try:
        return torch.mm(y, y)
    except RuntimeError:
        return y * 3


@program
def index_error_caught(x):
    items = [x]
    try:
        return items[3]
    except IndexError:
        return x + 1


@program
def stop_iteration_default(x):
    it = iter([x, x + 1])
    return next(it), next(it), next(it, None), next(it, 5)


@program
def attribute_error_caught(x):
    try:
        return x.does_not_exist
    except AttributeError:
        return x + 1


# with


class Recorder:
    def __init__(self, log, swallow=False):
        self.log = log
        self.swallow = swallow

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, value, traceback):
        self.log.append(("exit", None if kind is None else kind.__name__))
        return self.swallow


@program
def with_user_manager(x):
    log = []
    with Recorder(log) as r:
        y = x + 1
        r.log.append("in")
    return y, log


@program
def with_swallows(x):
    log = []
    with Recorder(log, True):
        x = x + 1
        raise ValueError("gone")
    return x, log


@program
def with_raises(x):
    log = state_log
    with Recorder(log):
        x = x + 1
        raise ValueError("seen")


@program
def with_break_inside(x):
    log = []
    with Recorder(log):
        y = x + 1
        print("inside")
        y = y * 2
    return y - 1, log


@program
def with_return_inside(x):
    log = []
    for i in range(3):
        with Recorder(log):
            if i == 1:
                return x + i, log


@program
def no_grad_inside(x):
    w = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        a = w * x
    b = w * x
    return a, b, a.requires_grad, b.requires_grad, torch.is_grad_enabled()


@program
def no_grad_break(x):
    w = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        a = w * x
        print(torch.is_grad_enabled())
        b = a * w
    return a, b, w * 2


@program
def enable_grad_nested(x):
    w = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        with torch.enable_grad():
            a = w * x
        b = w * x
    with torch.set_grad_enabled(False):
        c = w + x
    return a, b, c


@program
def set_grad_enabled_stays(x):
    torch.set_grad_enabled(False)
    y = x * torch.ones(3, requires_grad=True)
    torch.set_grad_enabled(True)
    return y


@program
def grad_mode_left_changed(x):
    torch.set_grad_enabled(not torch.is_grad_enabled())
    return x + 1


@torch.no_grad()
def without_grad(x, w):
    return x * w


@program
def no_grad_decorator(x):
    w = torch.ones(3, requires_grad=True)
    return without_grad(x, w), x * w


@contextlib.contextmanager
def scoped(log, name):
    log.append(f"+{name}")
    try:
        yield name
    finally:
        log.append(f"-{name}")


@program
def contextmanager_generator(x):
    log = []
    with scoped(log, "a") as n, scoped(log, "b"):
        x = x + len(n)
    return x, log


@program
def contextmanager_exception(x):
    log = []
    try:
        with scoped(log, "a"):
            raise ValueError("in")
    except ValueError:
        log.append("out")
    return x + len(log), log


@program
def nullcontext(x):
    with contextlib.nullcontext(x) as y:
        return y + 1


@program
def suppress(x):
    with contextlib.suppress(ValueError):
        x = x + 1
        raise ValueError
    return x


@program
def autocast_cpu(x):
    m = torch.ones(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = m @ m
    return a, m @ m, a.dtype


@program
def autocast_break(x):
    m = torch.ones(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = m @ m
        print("in")
        b = a @ m
    return a, b, m @ m


# Generators and comprehensions


@program
def generator_inline(x):
    def gen(n):
        for i in range(n):
            yield x * i

    return sum(gen(4)), list(gen(2))


@program
def generator_send(x):
    def gen():
        got = yield x
        got = yield x * got
        return got

    g = gen()
    a = next(g)
    b = g.send(3)
    try:
        g.send(5)
    except StopIteration as stop:
        return a, b, stop.value


@program
def yield_from(x):
    def inner():
        yield x
        yield x + 1
        return 7

    def outer():
        r = yield from inner()
        yield x * r
        yield from [x, x]

    return list(outer())


@program
def generator_interleaves(x):
    log = []

    def gen():
        for i in range(3):
            log.append(("gen", i))
            yield i

    for i in gen():
        log.append(("loop", i))
        x = x + i
    return x, log


@program
def generator_abandoned(x):
    def gen():
        i = 0
        while True:
            yield x + i
            i += 1

    return list(itertools.islice(gen(), 3))


@program
def generator_with_break_inside(x):
    def gen():
        for i in range(3):
            print("yielding", i)
            yield x * i

    return sum(gen())


@program
def generator_expression(x):
    return sum(v * i for i, v in enumerate(x for _ in range(3)) if i != 1)


@program
def generator_passed_out(x):
    return (x + i for i in range(2)).__class__.__name__, x + 1


@program
def comprehensions(x):
    a = [x * i for i in range(3) if i]
    b = {str(i): x + i for i in range(3)}
    c = {i % 2 for i in range(5)}
    d = [(i, j) for i in range(3) for j in range(i)]
    i = 5
    e = [[x + i * j for i in range(2)] for j in range(2)]
    return a, b, sorted(c), d, e, i


@program
def walrus(x):
    if (n := x.shape[0]) > 2:
        x = x + n
    out = [y for i in range(4) if (y := i * 2) > 2]
    return x, out, y


# Control flow


@program
def loop_else(x):
    for i in range(5):
        if i == 9:
            break
        x = x + i
    else:
        x = x * 2
    for i in range(5):
        if i == 3:
            break
    else:
        x = x * 100
    while i < 6:
        i += 1
        if i == 5:
            continue
        x = x + i
    return x, i


@program
def match_values(x):
    out = []
    for item in [1, "a", (1, 2), {"k": 3, "z": 1}, Point(1, 2), [1, 2, 3], None, 2.5]:
        match item:
            case 1:
                out.append("one")
            case str(s):
                out.append("str " + s)
            case Point(x=px, y=py):
                out.append(("point", px, py))
            case (a, b):
                out.append(("pair", a + b))
            case {"k": v, **rest}:
                out.append(("map", v, rest))
            case [first, *others]:
                out.append(("list", first, others))
            case None:
                out.append("none")
            case float() as f if f > 2:
                out.append(("float", f))
            case _:
                out.append("?")
    return x + len(out), out


@program
def chained_comparison(x):
    n = x.shape[0]
    return x + (1 if 1 < n <= 3 else 2), 0 < n < 2, not n


@program
def boolean_operators(x):
    a = None or x
    b = [] or {} or 0 or "last"
    c = 1 and x
    return a + c, b, (x is a), (x is not c)


@program
def conditional_on_tensor(x):
    y = x * 2
    if y.sum() > 0:
        z = y + 1
    else:
        z = y - 1
    return z * 3


@program
def conditional_on_item(x):
    y = x * 2
    n = y.sum().item()
    if n > 3:
        return y + n
    return y - n


@program
def while_on_tensor(x):
    n = 0
    while x.sum() < 20:
        x = x * 2
        n += 1
    return x, n


@program
def ternary_on_tensor(x):
    y = (x + 1) if x.sum() > 0 else (x - 1)
    return y * 2, (x.sum() > 0) and "yes"


@program
def assert_on_tensor(x):
    assert (x == x).all()
    return x + 1


# Breaks


@program
def break_print(x):
    y = x + 1
    print("shape", y.shape, y.sum())
    return y * 2


@program
def break_in_expression(x):
    return (x + 1) * (print("a") or 2) + len([x, print("b"), x * 3])


@program
def break_in_call_arguments(x):
    def f(a, b, c=0):
        return a + b + c

    return f(x, print("p") or 1, c=print("q") or 2)


@program
def break_in_loop(x):
    out = []
    for i in range(3):
        x = x + i
        print(i)
        out.append(x)
    return sum(out), i


@program
def break_in_loop_with_else(x):
    for i, v in enumerate([x, x + 1]):
        print(i)
        if i == 5:
            break
    else:
        x = x * 2
    return x + v


@program
def break_in_nested_loop(x):
    for i in range(2):
        for j in range(2):
            x = x + i * j
            if i == j == 1:
                print("now")
    y = x * 2
    return y


@program
def break_in_while(x):
    n = 0
    while n < 3:
        n += 1
        print(n)
        if n == 2:
            continue
        x = x + n
    return x * n


@program
def break_in_loop_return(x):
    for i in range(5):
        print(i)
        if i == 2:
            return x * i
    return x


@program
def break_in_comprehension(x):
    i = 10
    out = [x + (print(i) or i) for i in range(3)]
    return out, i


@program
def break_in_try(x):
    try:
        y = x + 1
        print("in try")
        y = y * 2
        raise ValueError("v")
    except ValueError as e:
        y = y + len(str(e))
    finally:
        y = y - 1
    return y


@program
def break_raises_in_try(x):
    try:
        y = x + 1
        y = y + int("x")
    except ValueError:
        y = x - 1
    return y * 2


@program
def break_in_finally(x):
    try:
        y = x + 1
    finally:
        print("f")
    return y * 2


@program
def break_in_inlined(x):
    def inner(v):
        v = v + 1
        print("inner", v.shape)
        return v * 2

    y = inner(x)
    return y + inner(y)


@program
def break_in_inlined_with_mutation(x):
    log = []

    def inner(v):
        log.append("before")
        print("inner")
        log.append("after")
        return v * 2

    return inner(x + 1), log


@program
def break_in_method(x):
    return Worker(2).work(x) + 1


class Worker:
    scale = 3

    def __init__(self, n):
        self.n = n
        self.calls = []

    def work(self, x):
        self.calls.append(1)
        print("work", self.n)
        return x * self.n * self.scale + len(self.calls)

    def quiet(self, x):
        self.calls.append(x)
        self.n += 1
        return x * self.n

    def __call__(self, x):
        return self.quiet(x) + 1


class Base:
    def run(self, x):
        return x + 1


class Derived(Base):
    def run(self, x):
        y = super().run(x) * 2
        print("derived")
        return super().run(y)


@program
def break_with_super(x):
    return Derived().run(x)


@program
def break_format(x):
    y = x + 1
    s = f"{y.sum():.1f} and {len('abc')!r:>5}"
    return y, s


@program
def break_several(x):
    print(1)
    x = x + 1
    print(2)
    print(3)
    x = x * 2
    print(4)
    return x


@program
def break_keeps_deleted(x):
    y = x + 1
    del x
    print("x is gone")
    try:
        x
    except UnboundLocalError:
        return y
    return None


@program
def break_conditional_binding(x):
    if x.shape[0] == 3:
        a = x + 1
    print("hm")
    return a * 2


@program
def break_unknown_call(x):
    y = x + 1
    n = hash("abc") and len(list(iter(lambda: next(counter), 3)))
    return y + n


counter = itertools.cycle([1, 2, 3])


@program
def break_tolist(x):
    y = x * 2
    values = y.tolist()
    return x + sum(values), values


@program
def break_in_lambda_argument(x):
    return sorted([3, 1, 2], key=lambda v: (print(v), -v)[1]), x + 1


@program
def locals_seen(x):
    y = x + 1
    return sorted(locals()), y


@program
def class_in_function(x):
    y = x + 1

    class Local:
        z = 3

        def f(self, v):
            return v * self.z

    return Local().f(y)


@program
def global_written(x):
    global state_counter
    state_counter += 1
    state_log.append(state_counter)
    state_table["n"] = state_counter
    return x + state_counter


@program
def global_written_with_break(x):
    global state_counter
    state_counter += 1
    y = x + state_counter
    print(state_counter)
    state_counter += 1
    return y + state_counter


@program
def global_tensor(x):
    global state_tensor
    state_tensor = state_tensor + x
    return state_tensor * 2


# Mutation and aliasing


@program
def list_argument_mutated(x, items=None):
    items = [] if items is None else items
    items.append(x)
    items.append(x + 1)
    return items


@program
def alias_kept(x):
    a = [x]
    b = [a, a]
    a.append(x + 1)
    return b


@program
def dict_mutated(x):
    d = {"a": x}
    d["b"] = d["a"] + 1
    d.setdefault("c", []).append(x)
    d.update(z=3)
    del d["z"]
    e = OrderedDict(d)
    e.move_to_end("a")
    f = defaultdict(list)
    f["k"].append(x)
    return d, dict(e), dict(f), d.pop("b")


@program
def object_mutated(x):
    w = Worker(1)
    a = w.quiet(x)
    b = w(x)
    return a, b, w


@program
def tensor_in_place(x):
    y = x.clone()
    y += 1
    y.mul_(2)
    y[0] = 7
    z = y
    z -= 1
    return y, z


@program
def argument_in_place(x):
    x.add_(1)
    y = x[1:]
    y.zero_()
    return x, y


@program
def set_operations(x):
    s = {1, 2}
    s.add(3)
    t = s | {5}
    t.discard(1)
    return x + len(t), sorted(t), 3 in s, frozenset(s) & t == {2, 3}


@program
def swap_and_unpack(x):
    a, b = x, x + 1
    a, b = b, a
    (c, *d), e = ([1, 2, 3], x)
    first, second, third = x
    return a, b, c, d, e, first + third


@program
def slices(x):
    items = [1, 2, 3, 4]
    items[1:3] = [9]
    s = slice(1, None)
    return items[s], x[1:], x[..., None], x[s], items[::-1]


@program
def delete_things(x):
    d = {"a": x, "b": 1}
    items = [1, 2, 3]
    del d["b"], items[0]
    w = Worker(3)
    del w.n
    return d, items, hasattr(w, "n"), x + 1


@dataclass
class Record:
    value: torch.Tensor
    tags: list = field(default_factory=list)
    n: int = 3


@program
def dataclasses_made(x):
    r = Record(x + 1)
    r.tags.append("t")
    r.n += 1
    return r, r.value * r.n


@program
def namedtuples(x):
    p = Point(x, y=x + 1)
    q = p._replace(x=p.y)
    return p.x + p[1], q, isinstance(p, tuple)


@program
def string_work(x):
    s = "a,b".split(",")
    return x + len(s), "-".join(s).upper(), f"{x.shape[0]:03d}", "%s %d" % ("q", 3), "{}{k}".format(1, k=2)


@program
def builtins_used(x):
    return (
        x + max(1, 2) + min([3, 4]),
        list(zip([1, 2], "ab")),
        list(map(lambda v: v + 1, range(3))),
        any([0, 1]),
        all([]),
        sorted([3, 1, 2], reverse=True),
        list(reversed([1, 2])),
        list(filter(None, [0, 1, 2])),
        isinstance(x, torch.Tensor),
        callable(len),
        divmod(7, 2),
        abs(-3),
        round(2.5),
        tuple(enumerate("ab", 1)),
    )


@program
def itertools_used(x):
    a = list(itertools.chain([1], [2, 3]))
    b = list(itertools.product([1, 2], "ab"))
    c = list(itertools.accumulate([1, 2, 3]))
    return x + len(a), b, c, list(itertools.zip_longest([1], [2, 3]))


class Descriptor:
    def __get__(self, instance, owner):
        return 5 if instance is None else instance.base + 1

    def __set__(self, instance, value):
        instance.base = value * 2


class WithProperties:
    d = Descriptor()

    def __init__(self):
        self.base = 1

    @property
    def p(self):
        return self.base * 10

    @p.setter
    def p(self, value):
        self.base = value

    @classmethod
    def make(cls):
        return cls()

    @staticmethod
    def plus(a, b):
        return a + b

    def __getattr__(self, name):
        if name.startswith("dyn_"):
            return len(name)
        raise AttributeError(name)

    def __getitem__(self, key):
        return self.base + key

    def __len__(self):
        return 4

    def __iter__(self):
        return iter([1, 2])

    def __contains__(self, v):
        return v == 3

    def __eq__(self, other):
        return isinstance(other, WithProperties) and self.base == other.base

    def __hash__(self):
        return 1

    def __add__(self, other):
        return self.base + other

    def __radd__(self, other):
        return other - self.base


@program
def object_protocols(x):
    o = WithProperties.make()
    o.p = 4
    o.d = 3
    return (
        x + o.p,
        o.d,
        o.dyn_abc,
        o[2],
        len(o),
        list(o),
        3 in o,
        4 in o,
        o == WithProperties(),
        o + 1,
        1 + o,
        WithProperties.plus(1, 2),
        getattr(o, "nothing", "default"),
        hasattr(o, "nothing"),
        bool(o),
    )


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(2)])
        self.sequence = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh())
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0

    def forward(self, x, noisy=False):
        self.calls += 1
        x = self.linear(x)
        for layer in self.layers:
            x = layer(x) + x
        if noisy:
            print("noisy")
        self.seen += 1
        return self.sequence(x)


MODULE = Module()


@program
def module_called(x):
    return MODULE(x).sum()


@program
def module_called_with_break(x):
    return MODULE(x, noisy=True).sum()


@program
def random_numbers(x):
    return x + torch.rand(3), torch.nn.functional.dropout(x, 0.5)


@program
def imports_inside(x):
    import math

    from torch.nn import functional as F

    return F.relu(x) * math.pi


@program
def deep_nesting(x):
    def level(n, v):
        if n == 0:
            return v
        try:
            return level(n - 1, v * 2)
        finally:
            state_log.append(n)

    return level(4, x)


@program
def generator_left_in_try(x):
    log = []

    def gen():
        try:
            yield x
            yield x + 1
        finally:
            log.append("closed")

    for v in gen():
        break
    return v * 2, log


@program
def exception_reraised_in_finally(x):
    log = []
    try:
        try:
            try:
                x = x + 1
                raise ValueError("inner")
            finally:
                log.append("f1")
        except KeyError:
            log.append("wrong")
        finally:
            log.append("f2")
    except ValueError as e:
        log.append(str(e))
    print("after", log)
    return x * 2, log


@program
def exception_in_handler_not_caught(x):
    try:
        x = x + 1
        raise ValueError("a")
    except ValueError:
        x = x * 2
        raise KeyError("b")
    finally:
        state_log.append("done")


@program
def exception_break_in_second_handler(x):
    for attempt in range(2):
        try:
            if attempt == 0:
                raise ValueError("a")
            x = x + 1
        except ValueError:
            try:
                raise KeyError("k")
            except KeyError as k:
                print(repr(k))
    return x * 2


@program
def long_python_loop(x):
    total = 0
    for i in range(7000):
        total += i
    return x + total


@program
def break_in_with_in_loop(x):
    log = []
    for i in range(2):
        with Recorder(log):
            x = x + i
            print(i)
    return x * 2, log


@program
def break_in_except_loop(x):
    out = []
    for item in ["1", "a", "2"]:
        try:
            out.append(int(item))
        except ValueError:
            print("bad", item)
            continue
        x = x + out[-1]
    return x, out


@program
def nested_functions_and_breaks(x):
    def outer(v):
        def inner(w):
            print("deep")
            return w + v

        return inner(v * 2) - 1

    with torch.no_grad():
        y = outer(x)
    return outer(y), y


@program
def break_between_pushes(x):
    d = {"a": x + 1, "b": print("one"), **{"c": x * 2}}
    return [*d.values(), print("two"), (x, print("three") or x)], f"{x.shape}{print('four')}"


@program
def aliased_across_break(x):
    a = [x]
    b = {"a": a}
    a.append(x + 1)
    print(len(b["a"]))
    b["a"].append(x + 2)
    return a, b


@program
def view_across_break(x):
    y = x.clone()
    v = y[1:]
    v.add_(1)
    print("hm")
    v.mul_(2)
    return y, v


@program
def function_with_state(x):
    def f(v):
        f.calls = getattr(f, "calls", 0) + 1
        return v * f.calls

    return f(x), f(x), f.calls


@program
def conditional_import_and_star(x):
    first, *rest = [x, x + 1, x + 2]
    *init, last = rest
    return first + last, len(init), {**{"a": 1}, "b": 2}, [*rest, *init]


@program
def try_in_generator(x):
    def gen():
        try:
            got = yield x
        except ValueError as e:
            got = yield x * len(e.args)
        yield got

    g = gen()
    a = next(g)
    b = g.throw(ValueError("q", 2))
    c = g.send(5)
    return a, b, c
