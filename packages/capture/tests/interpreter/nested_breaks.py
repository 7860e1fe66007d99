"""Programs that break inside inlined calls. GRAPHS says how many graphs the first call makes."""

from __future__ import annotations

import contextlib
import functools

import torch

GRAPHS = {}


def graphs(number):
    def register(function):
        GRAPHS[function] = number
        return function

    return register


state_total = 0
WEIGHT = torch.ones(3, requires_grad=True)


def shout(x):
    y = x * 2
    print("shout", tuple(y.shape))
    return y + 1


def through(x):
    z = shout(x - 1)
    return z * 3


def deeper(x):
    return through(x + 0.5) - 2


@graphs(2)
def one_deep(x):
    a = x + 1
    return shout(a) * a


@graphs(2)
def two_deep(x):
    a = x + 1
    b = through(a) + a
    return b * 2


@graphs(2)
def three_deep(x):
    a = x.sin()
    b = deeper(a) + a
    return b, a


@graphs(2)
def four_deep(x):
    def last(v):
        w = deeper(v) / 2
        return w.cos()

    return last(x * 2) + x


@graphs(3)
def twice(x):
    return shout(x) + shout(x + 1)


@graphs(2)
def result_dropped(x):
    y = x * 3
    shout(y)
    return y + 1


@graphs(2)
def caller_without_work(x):
    return shout(x)


@graphs(2)
def arguments_of_every_kind(x):
    def callee(a, b=2, *rest, c, d=4, **named):
        y = a * b + c
        print(rest, d, sorted(named))
        return y + d + sum(rest)

    return callee(x, 3, 5, 6, c=x + 1, e=7) + callee(x, c=1) * 0 if False else callee(x, 3, 5, 6, c=x + 1, e=7)


@graphs(2)
def star_call(x):
    def callee(a, b, *, c):
        y = a + b * c
        print("in")
        return y * 2

    return callee(*(x, x + 1), **{"c": 3}) + 1


@graphs(2)
def through_partial(x):
    return functools.partial(through, x + 1)() + 1


@graphs(2)
def through_lambda(x):
    f = lambda v: through(v) + 1  # noqa: E731
    return f(x) * 2


class Scaler:
    def __init__(self, factor):
        self.factor = factor
        self.calls = 0

    def scale(self, x):
        self.calls += 1
        y = x * self.factor
        print("scale", self.calls)
        self.calls += 10
        return y + self.calls

    def __call__(self, x):
        return self.scale(x) + 1

    @property
    def loud(self):
        print("loud")
        return self.factor

    def __add__(self, other):
        print("add")
        return other + self.factor

    @classmethod
    def made(cls, x):
        print("made")
        return x * 2

    @staticmethod
    def static(x):
        print("static")
        return x * 4


@graphs(2)
def method(x):
    s = Scaler(3)
    y = s.scale(x + 1)
    return y * s.calls, s


@graphs(2)
def callable_object(x):
    s = Scaler(2)
    return s(x + 1) - 1, s.calls


@graphs(3)
def class_and_static_methods(x):
    return Scaler.made(x + 1) + Scaler(1).static(x)


def property_and_operator(x):
    s = Scaler(2)
    y = x * 2
    y = y + s.loud
    return (s + y) * 3


class Base:
    def work(self, x):
        y = x + 1
        print("base")
        return y * 2


class Derived(Base):
    def work(self, x):
        y = super().work(x * 3)
        print("derived", super().__class__.__name__)
        return super().work(y) - self.bias

    bias = 2


@graphs(4)
def through_super(x):
    return Derived().work(x + 1) + 1


class Block(torch.nn.Module):
    def __init__(self, loud):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.loud = loud

    def forward(self, x):
        y = self.linear(x)
        if self.loud:
            print("block")
        return y.relu()


NET = torch.nn.Sequential(Block(False), torch.nn.Sequential(Block(True), Block(False)), Block(False))


@graphs(2)
def module_inside(x):
    return Block_loud(x + 1) * 2


Block_loud = Block(True)


def sequential(x):
    return NET(x) + 1


@graphs(2)
def outer_cell(x):
    total = x * 1

    def add(v):
        nonlocal total
        total = total + v
        print("add")
        total = total * 2
        return total - v

    a = add(x + 1)
    return a, total


@graphs(2)
def cell_dies_inside(x):
    def callee(v):
        kept = v * 2

        def inner():
            return kept + 1

        y = inner()
        print("callee")
        kept = kept - 1
        return inner() + y

    return callee(x + 1) * 2


@graphs(2)
def cell_escapes(x):
    def make(v):
        count = 0

        def bump():
            nonlocal count
            count += 1
            return v * count

        first = bump()
        print("made", count)
        second = bump()
        return bump, first + second

    bump, both = make(x + 1)
    return bump(), both, bump


@graphs(2)
def argument_in_cell(x):
    def callee(v, n):
        def f():
            return v * n

        y = f()
        n += 1
        print("n", n)
        v = v + 1
        return f() + y

    return callee(x, 2) - 1


@graphs(2)
def cell_shared_by_two(x):
    log = []

    def put(v):
        log.append(v)
        return v

    def callee(v):
        put(v * 2)
        print(len(log))
        put(v * 3)
        return log[0] + log[1]

    return callee(x) + 1, log


@graphs(3)
def recursion(x):
    def down(v, n):
        if n == 0:
            print("bottom")
            return v * 2
        w = down(v + n, n - 1)
        if n == 2:
            print("up", n)
        return w + n

    return down(x, 3) * 3


def exception_of_the_broken_call(x):
    def fail(v):
        raise ValueError(print("failing", v.shape))

    def middle(v):
        z = fail(v + 1)
        return z

    try:
        y = middle(x + 1)
    except ValueError as error:
        y = x * 5
        kind = type(error).__name__
    return y, kind


def boom(v):
    y = v + 1
    int("boom")
    return y


@graphs(3)
def exception_two_frames_up(x):
    a = x * 2
    try:
        b = middle_of_boom(a)
    except ValueError as error:
        b = a - 1
        print(error)
    finally:
        a = a + 1
    return a + b


def middle_of_boom(v):
    w = v * 3
    try:
        return boom(w)
    except KeyError:
        return w
    finally:
        print("finally")


def exception_uncaught(x):
    return through(x) + middle_of_boom(x)


@graphs(2)
def no_grad_outside(x):
    with torch.no_grad():
        y = shout(x * WEIGHT) * 2
    z = y + 1
    return z, torch.is_grad_enabled(), y.requires_grad


def check_no_grad(x):
    with torch.no_grad():
        y = x + 1
        print(torch.is_grad_enabled())
        y = y * 2
    return y, torch.is_grad_enabled()


@graphs(2)
def no_grad_in_callee(x):
    y, mode = check_no_grad(x * 2)
    return y + 1, mode, torch.is_grad_enabled()


@graphs(3)
def autocast_in_callee(x):
    def cast(v):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            w = v.unsqueeze(0) @ v.unsqueeze(1)
            print(torch.is_autocast_enabled("cpu"))
            w = w @ w
        return w, torch.is_autocast_enabled("cpu")

    w, mode = cast(x + 1)
    return w + 1, mode


def context_closed_on_exception(x):
    def fail(v):
        with torch.no_grad():
            w = v + 1
            print(torch.is_grad_enabled())
            int("x")
        return w

    try:
        y = fail(x * 2)
    except ValueError:
        y = x * 3
        print(torch.is_grad_enabled())
    return y, torch.is_grad_enabled()


class Recorder:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.log.append(("exit", kind and kind.__name__))
        return kind is ValueError


@graphs(2)
def user_context_in_callee(x):
    log = []

    def callee(v):
        with Recorder(log) as r:
            w = v + 1
            print(len(r.log))
            w = w * 2
        return w

    return callee(x) * 2, log


def user_context_swallows(x):
    log = []

    def callee(v):
        w = v
        with Recorder(log):
            w = v + 1
            print("before")
            int("x")
        return w * 2

    with Recorder(log):
        y = callee(x + 1)
    return y, log


def break_in_enter(x):
    class Loud:
        def __enter__(self):
            print("enter")
            return x + 1

        def __exit__(self, *args):
            print("exit")
            return False

    with Loud() as y:
        z = y * 2
    return z + 1


@graphs(2)
def both_arms(x):
    def pick(v, flag):
        if flag:
            w = v + 1
            print("yes")
        else:
            w = v - 1
            print("no")
        return w * 2

    return pick(x * 2, True) + 1


@graphs(3)
def data_dependent_in_callee(x):
    def pick(v):
        if v.sum() > 0:
            return v + 1
        return v - 1

    return pick(x * 2) + pick(-x)


@graphs(2)
def item_in_callee(x):
    def scale(v):
        n = v.sum().item()
        return v * 2, n

    y, n = scale(x + 1)
    return y + 1, n


def key_function(x):
    def key(v):
        print("key")
        return -v

    y = x + 1
    order = sorted([3, 1, 2], key=key)
    return y * order[0]


def in_generator(x):
    def produce(v):
        for i in range(3):
            print("item", i)
            yield v + i

    y = x * 2
    total = y
    for item in produce(y):
        total = total + item
    return total


def mapped(x):
    def f(v):
        w = v * 2
        print("f")
        return w + 1

    return list(map(f, [x, x + 1]))


def in_comprehension(x):
    return [shout(v) for v in (x, x + 1, x + 2)]


def in_dict_comprehension(x):
    return {i: shout(x + i) for i in range(3)}


@graphs(2)
def mutations_before_and_after(x):
    items = [1]

    def callee(seq, v):
        seq.append(v * 2)
        print(len(seq))
        seq.append(seq[-1] + 1)
        return seq

    result = callee(items, x)
    result.append(3)
    return items, result is items


@graphs(2)
def global_write_around(x):
    def callee(v):
        global state_total
        state_total = state_total + 1
        w = v * 2
        print(state_total)
        state_total += 10
        return w + state_total

    return callee(x) + state_total


@contextlib.contextmanager
def managed(log):
    log.append("in")
    try:
        yield 3
    finally:
        log.append("out")


def generator_context_around(x):
    log = []

    def callee(v):
        with managed(log) as n:
            w = v * n
            print("inside")
            w = w + 1
        return w

    return callee(x) * 2, log


@graphs(2)
def nested_call_in_expression(x):
    return (x + 1) * through(x) + [x, 2][1] * shout_quiet(x)


def shout_quiet(x):
    return x * 7


@graphs(2)
def default_arguments_made_inside(x):
    def callee(v, scale=x * 2, *, shift=3):
        w = v * scale
        print("d")
        return w + shift

    return callee(x)


@graphs(2)
def disabled_call_in_callee(x):
    def callee(v):
        w = v + 1
        torch.manual_seed(0) if False else print("z")
        return w * 2

    def again(v):
        return callee(v) + 1

    return again(x) - again.__code__.co_argcount


_CALLEES = {shout, through, deeper, check_no_grad, shout_quiet}
PROGRAMS = [
    value
    for value in list(globals().values())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and getattr(value, "__code__", None) is not None
    and value.__code__.co_varnames[:1] == ("x",)
    and value not in _CALLEES
]
