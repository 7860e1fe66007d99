"""Programs whose bytecode differs most between CPython versions: call layouts, cells, joined loads, tests, formats.

Each breaks the graph (`print` is not traced) in a place where the stack, a cell or a handler must be rebuilt.
"""

from __future__ import annotations

import contextlib

import torch

PROGRAMS = []
state_layout_log: list = []


def program(function):
    PROGRAMS.append(function)
    return function


def pause(value):
    """Breaks the graph and hands its argument back."""
    print("pause")
    return value


def show(*args, **kwargs):
    return [*args, *sorted(kwargs.items())]


class Thing:
    factor = 2

    def __init__(self, x=1, *, y=2):
        self.x, self.y = x, y

    def method(self, *args, **kwargs):
        return self, *args, *kwargs.items()

    @classmethod
    def made(cls, *args, **kwargs):
        return cls(*args, **kwargs)

    @staticmethod
    def plain(*args):
        return args


class Child(Thing):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = super().method(1)[1:]

    def method(self, *args, **kwargs):
        return ("child", *super().method(*args, **kwargs)[1:])

    def pausing(self, x):
        return super().method(pause(x), k=pause(2))[1:], super().factor


@program
def break_among_positional_arguments(x):
    return show(x + 1, pause(1), x + 2, pause(2)), x * 2


@program
def break_among_keyword_arguments(x):
    return show(x + 1, a=pause(1), b=x + 2, c=pause(2)), x * 2


@program
def break_among_star_arguments(x):
    return show(*[x + 1, pause(1)], *(2, 3), **{"a": pause(2)}, b=x * 2), x - 1


@program
def break_among_method_arguments(x):
    thing = Thing(x)
    return thing.method(pause(1), x * 2)[1:], thing.method(x, k=pause(3))[1:], Thing.made(pause(x), y=3).y


@program
def break_in_nested_calls(x):
    return show(show(show(x + 1, pause(1)), k=show(pause(2), x)), Thing.plain(pause(3), x * 2))


@program
def break_in_constructor_arguments(x):
    thing = Thing(pause(x), y=pause(4))
    return thing.x * 2, thing.y, Child(x, y=pause(5)).seen


@program
def super_calls(x):
    child = Child(x, y=3)
    return child.method(x * 2, k=1), child.pausing(x), child.seen, child.x + 1


@program
def break_in_a_conditional_callee(x):
    f = (torch.relu if pause(True) else torch.neg)(x - 2)
    return (show if pause(0) else Thing.plain)(f, pause(1)), f * 2


@program
def truth_of_many_kinds(x):
    results = []
    for value in (0, 1, 0.0, "", "a", (), (0,), [], {}, None, Thing(), x.shape, range(0)):
        if value:
            results.append(1)
        if not value:
            results.append(2)
        results.append(not value)
        results.append(bool(value and pause(3)))
        results.append((value or 4) if value != 1 else 5)
        while value:
            value = None
    return results, x + len(results)


class Truthy:
    def __init__(self, *answers):
        self.answers = list(answers)

    def __bool__(self):
        state_layout_log.append("asked")
        return self.answers.pop(0)


@program
def truth_asked_in_order(x):
    t = Truthy(True, False, True, True)
    a = 1 if t else 2
    b = 1 if not t else 2
    c = t and x + 1
    d = pause(t) or x + 2
    return a, b, c is t, d is t, c if c is not t else x


class Compared:
    """Its comparisons answer with objects, as those of tensors do."""

    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return [self.value, other]

    def __eq__(self, other):
        return ()

    __hash__ = None


@program
def comparisons_that_answer_objects(x):
    c = Compared(3)
    kept = c < 4
    branch = 1 if c < 4 else 2
    other = 1 if c == 4 else 2
    chain = c < 4 < 5
    inverted = not (c == 3)
    loops = 0
    while c < 4 and loops < 2:
        loops += 1
    return kept, branch, other, chain, inverted, loops, x + branch


@program
def data_dependent_tests(x):
    out = []
    if x.sum() > 3:
        out.append(1)
    if not x.sum() > 30:
        out.append(2)
    out.append(not x.max() > 1)
    if x.min() < 0 or x.max() > 2 and x.sum() == 6:
        out.append(3)
    y = x * 2 if x.mean() >= 2 else x * 3
    while y.sum() < 50:
        y = y + 5
    assert y.sum() >= 50
    return out, y, 0 < x.sum() < 7


@program
def formats(x):
    n, s, f = 3, "ab", 1.5
    width = 6
    a = f"{n}{s!r}{f:.2f}{s!s:>5}{n:0{width}d}{s!a}{n=}{f!r:>{width}}"
    print(f"{x.shape} {n:>4}")
    return a, f"{pause(n)}-{pause(s)!r:^7}-{n:{pause(5)}}", x + len(a)


class Formatted:
    def __format__(self, spec):
        return f"<{spec}>"

    def __str__(self):
        return "str"

    def __repr__(self):
        return "repr"


@program
def formats_of_objects(x):
    o = Formatted()
    return f"{o}{o:x}{o!s}{o!r:>6}{o!a}", x + 1


@program
def made_functions(x):
    c = 2

    def everything(a, b=x + 1, /, d=c, *rest, k=x * 2, m: int = 3, **more) -> int:
        return a, b, c, d, rest, k, m, more

    y = everything(1, m=pause(5), z=6)
    every = (lambda a=pause(1), *, b=pause(2): (a, b, c, x))()
    return y, every, everything.__defaults__[1], sorted(everything.__kwdefaults__), sorted(everything.__annotations__)


@program
def made_functions_returned(x):
    c = x + 1

    def inner(a, b=3, *, k=4):
        return a, b, k, c

    pause(0)

    def later(a, *, k=c):
        return a, k

    return inner(1), later(2), [inner(i, k=later)[1:2] for i in range(2)]


def _closing_over(c, z):
    def inner(x):
        first = [x * c for c in range(2)]
        pause(0)
        second = [z for z in range(c)]
        third = {c: [z + c for z in range(2)] for c in range(2)}
        return first, second, third, c, z, x * c

    return inner


@program
def comprehension_variables_that_hide_free_ones(x):
    return _closing_over(3, 4)(x), _closing_over(2, x)(x + 1)


@program
def comprehension_variables_in_cells(x):
    makers = [lambda: (i, x) for i in range(3)]
    values = [f()[0] for f in makers]
    pause(1)
    nested = [[(lambda: (i, j, x))()[:2] for j in range(i)] for i in range(3)]
    i = 7
    again = [(lambda k=i: (i, k))() for i in range(2)]
    return values, nested, again, i, makers[0]()[1] + 1


@program
def arguments_in_cells(x):
    def reader():
        return x + count

    count = 1
    a = reader()
    pause(1)
    x = x * 2
    count += 1
    b = reader()

    def writer():
        nonlocal x, count
        x, count = x + 1, count + 1
        pause(count)
        return x

    return a, b, writer(), writer(), x, count


def _with_star_cells(a, *args, k=1, **kwargs):
    def inner():
        return a, args, k, kwargs

    pause(2)
    a, k = a * 2, k + 1
    return inner()


@program
def star_arguments_in_cells(x):
    return _with_star_cells(x), _with_star_cells(x, 1, 2, k=3, z=4)


@program
def break_inside_comprehensions(x):
    c = 3
    a = [pause(i) + c for i in range(3)]
    b = {i: pause(x * i) for i in range(2)}
    d = {pause(i) for i in range(2) if pause(i) or c}
    e = [[pause(i * j) for j in range(2)] for i in range(2)]
    f = list(pause(i) * x for i in range(2))
    return a, b, d, e, f


@program
def unbound_again_after_comprehension(x):
    out = []
    for n in range(2):
        try:
            out.append(i)
        except NameError as error:
            out.append(type(error).__name__)
        i = [i for i in range(3)][-1]
        pause(n)
        [i for i in range(n)]
        out.append(i)
        del i
    return out, x + 1


@program
def many_locals(x):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = b0 = b1 = b2 = b3 = b4 = b5 = x
    b6, b7 = a0 + 1, b5 * 2
    b8, b9 = b7, b6
    b6, b8 = b8, b6
    pause(0)
    c0, c1, c2 = b9, b8, b6
    a1 += c0
    return [a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4], c0 + c1, c2


def _numbers(x, n):
    try:
        for i in range(n):
            got = yield x * i
            if got:
                state_layout_log.append(got)
        return "done"
    finally:
        state_layout_log.append("closed")


def _delegating(x):
    first = yield from _numbers(x, 2)
    yield first
    second = yield from _numbers(x, 1)
    return first, second


@program
def generators(x):
    values = list(_delegating(x))
    g = _numbers(x, 3)
    sent = [next(g), g.send("a"), g.send(None)]
    g.close()
    pause(0)
    h = _delegating(x)
    out = []
    try:
        while True:
            out.append(next(h))
    except StopIteration as stop:
        out.append(stop.value)
    return values, sent, out


@program
def break_inside_generators(x):
    def numbers():
        for i in range(3):
            yield pause(x * i)

    def outer():
        total = yield from numbers()
        yield total

    return list(numbers()), sum(numbers()), list(outer()), [n + 1 for n in numbers()]


@contextlib.contextmanager
def managed(name, swallow=False):
    state_layout_log.append(f"enter {name}")
    try:
        yield name
    except ValueError:
        state_layout_log.append(f"error {name}")
        if not swallow:
            raise
    finally:
        state_layout_log.append(f"exit {name}")


@program
def contexts(x):
    with managed("a") as a, managed("b", swallow=True):
        y = x + 1
        pause(1)
        if len(a) == 1:
            raise ValueError(a)
    with torch.no_grad(), managed("c"):
        z = pause(y) * 2
        for i in range(2):
            with managed(f"d{i}"):
                if i:
                    pause(2)
                    continue
            z = z + i
    return y, z


@program
def handlers(x):
    out = []
    for i in range(4):
        try:
            try:
                if i == 0:
                    raise ValueError(pause(i))
                if i == 1:
                    raise KeyError("k") from TypeError("t")
                if i == 2:
                    continue
                out.append(x * i)
            except ValueError as error:
                out.append((str(error), pause(1)))
                raise RuntimeError("again") from error
            else:
                out.append("else")
            finally:
                out.append(pause(f"finally {i}"))
        except (RuntimeError, KeyError) as error:
            out.append((type(error).__name__, type(error.__cause__).__name__, type(error.__context__).__name__))
    return out


@program
def matches(x):
    out = []
    for subject in (1, "a", [1, 2, 3], (x, 2), {"k": 1, "z": x}, Thing(3), None, {"deep": [1, {"q": 2}]}, 2.5):
        match subject:
            case 1 | 2:
                out.append("small")
            case str() as text if text == pause("a"):
                out.append(text)
            case [first, *rest] if len(rest) > 1:
                out.append((first, rest))
            case (_, second):
                out.append(second)
            case {"k": k, **others}:
                out.append((k, sorted(others)))
            case Thing(x=value, y=2):
                out.append(pause(value))
            case {"deep": [_, {"q": q}]}:
                out.append(q)
            case None:
                out.append("none")
            case _:
                out.append("other")
    return out, x + 1


@program
def class_bodies(x):
    scale = 3

    class Local:
        values = [scale * i for i in range(2)]
        table = {k: scale for k in "ab"}

        def __init__(self, x):
            self.x = x
            self.name = __class__.__name__

        def scaled(self):
            return self.x * scale

    local = Local(x)
    return local.scaled(), local.values, local.table, local.name, Local.__qualname__


@program
def slices_and_items(x):
    items = list(range(6))
    items[1:3] = [pause(9)]
    items[pause(0)] += 5
    del items[pause(-1) :]
    a = items[1:][: pause(2)]
    y = x.clone()
    y[1:] = x[:2] * pause(2)
    y[pause(0)] += 1
    table = {"a": {"b": [1]}}
    table["a"]["b"][0] += pause(3)
    first, *middle, last = items
    return items, a, y, table, first, middle, last


@program
def deletions(x):
    a, b = x + 1, x + 2
    del a
    pause(1)
    try:
        a
    except UnboundLocalError:
        a = b
    c = 1

    def inner():
        nonlocal c
        del c
        pause(2)
        c = 5
        return c

    return a, inner(), c


@program
def chained_and_walrus(x):
    if (n := pause(3)) > 2 and (m := n + 1):
        y = x * m
    a = b = [pause(n)]
    a.append(m)
    return 1 < n < 5 != m, b, y, [k for i in range(3) if (k := i * 2)], k


def own_names(x, y=2):
    a = x + 1
    pause(y)
    b = a * y
    return sorted(locals()), b


@program
def names_of_an_inlined_frame(x):
    """What shows the locals of a frame sees those of the program and no others."""
    names, y = own_names(x)
    pause(1)
    return names, y, [k for k in sorted(locals()) if k != "k"]


@program
def locals_are_a_snapshot_in_a_function(x):
    y, z = x + 1, 3
    shown = locals()
    shown["z"] = 5
    pause(1)
    return z, sorted(shown), y


@program
def throwing_into_generators_that_delegate(x):
    def inner():
        try:
            while True:
                state_layout_log.append((yield x))
        except ValueError as error:
            yield x * 2, str(error)
        finally:
            state_layout_log.append("inner")

    def outer():
        try:
            yield from inner()
        finally:
            state_layout_log.append("outer")

    g = outer()
    a, b = next(g), g.send(3)
    pause(1)
    c = g.throw(ValueError("v"))
    return a, b, c, next(g, "end")
