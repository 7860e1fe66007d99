"""Ordinary Python around tensors: special methods, generators, formatting, matching, exceptions, collections."""

# ruff: noqa
from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import numbers
import operator
import os
import re
import string
import types
import typing
import warnings

import pytest
import torch
from kinds import Programs, check

P = Programs()
whole, any_graphs = P.whole, P.any_graphs


class A:
    cnt = 0

    def __init__(self):
        self.v = 1

    def __eq__(self, o):
        return isinstance(o, A) and self.v == o.v

    def __hash__(self):
        return hash(self.v)

    def __lt__(self, o):
        return self.v < o.v

    def __repr__(self):
        return f"A({self.v})"

    def __format__(self, s):
        return "fmt" + s

    def __int__(self):
        return 7

    def __index__(self):
        return 1


class Weird:
    def __len__(self):
        return 3

    def __getitem__(self, i):
        if i >= 3:
            raise IndexError(i)
        return i * 10


class CM:
    def __enter__(self):
        return self

    def __exit__(self, *a):
        return True


class Base(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


class Impl(Base):
    def f(self):
        return 4


class Multi1:
    def who(self):
        return "1"


class Multi2:
    def who(self):
        return "2"


class Multi(Multi1, Multi2):
    def who(self):
        return super().who() + super(Multi1, self).who()


class WithInit:
    def __init_subclass__(cls, **k):
        cls.tag = k.get("tag")


class Sub(WithInit, tag=3):
    pass


class New:
    def __new__(cls, x):
        o = super().__new__(cls)
        o.made = True
        return o

    def __init__(self, x):
        self.x = x


class Single:
    inst = None

    def __new__(cls):
        if cls.inst is None:
            cls.inst = super().__new__(cls)
        return cls.inst


state_a = A()
state_counter = {"n": 0}


@any_graphs
def hash_eq(x, unused):
    return {A(): 1}[A()], A() in [A()], [A()].index(A()), x + 1, sorted([A(), A()])[0]


@any_graphs
def formats(x, unused):
    a = A()
    return f"{a} {a!r} {a:>3}", str(a), int(a), [1, 2, 3][a], "%s" % a, x + 1


@any_graphs
def seq_protocol(x, unused):
    w = Weird()
    return [i for i in w], list(w), len(w), 20 in w, x + len(w), list(reversed(w))


@any_graphs
def suppress(x, unused):
    with CM():
        raise ValueError("a")
    with contextlib.suppress(KeyError):
        {}["a"]
    return x + 1


@any_graphs
def abstract(x, unused):
    try:
        Base()
    except TypeError as e:
        n = type(e).__name__
    return x + Impl().f(), isinstance(Impl(), Base), n


@any_graphs
def multi(x, unused):
    return Multi().who(), x + 1, Multi.__mro__[1].__name__, Sub.tag


@any_graphs
def newed(x, unused):
    n = New(x)
    return n.made, n.x + 1, n


@any_graphs
def closures(x, unused):
    n = 0

    def inc():
        nonlocal n
        n += 1
        return n

    inc()
    inc()
    fs = [lambda i=i: i * n for i in range(3)]
    return x + n, [f() for f in fs]


@any_graphs
def gens(x, unused):
    def g():
        y = yield 1
        yield y * 2
        return 3

    it = g()
    a = next(it)
    b = it.send(x)

    def d():
        r = yield from g2()
        yield r

    def g2():
        yield 5
        return 6

    return a, b, list(d()), sum(i for i in range(4)), x + 1


@any_graphs
def numbers_(x, unused):
    return (
        isinstance(3, numbers.Number),
        divmod(-7, 2),
        round(2.5),
        7 // -2,
        -7 % 3,
        1e400 == math.inf,
        math.isnan(math.nan),
        int("12", 8),
        float("1e3"),
        x * 2,
        bool(0.0),
        10**20,
        (3).bit_length(),
        0.1 + 0.2,
    )


@any_graphs
def strings(x, unused):
    return (
        "{:>5}|{:<5}".format(1, "a"),
        "a b".title(),
        "x".join(map(str, [1, 2])),
        "abc".translate(str.maketrans("a", "b")),
        "a,b".partition(","),
        "é".encode(),
        b"ab".decode(),
        "%(k)s" % {"k": 1},
        f"{3!r:>4}",
        x + 1,
        string.ascii_lowercase[:3],
    )


@any_graphs
def matchstmt(x, unused):
    out = []
    for v in [1, "a", [1, 2], {"k": 3}, (1, 2, 3), None, A()]:
        match v:
            case 1:
                out.append("one")
            case str():
                out.append("str")
            case [a, b]:
                out.append(a + b)
            case {"k": k}:
                out.append(k)
            case [a, *r]:
                out.append(len(r))
            case None:
                out.append("none")
            case A(v=q):
                out.append(q)
    return out, x + 1


@any_graphs
def walrus(x, unused):
    if (n := x.shape[0]) > 2:
        return x * n
    return x


@any_graphs
def tryfinally(x, unused):
    log = []
    for i in range(3):
        try:
            if i == 1:
                continue
            log.append(i)
        finally:
            log.append("f")
    try:
        try:
            raise ValueError("x")
        except ValueError as e:
            raise KeyError("y") from e
    except KeyError as e:
        c = type(e.__cause__).__name__
    else:
        c = None
    return log, c, x + 1


@any_graphs
def regex(x, unused):
    return re.sub("a", "b", "abc"), x + 1


@any_graphs
def warned(x, unused):
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter("always")
        warnings.warn("hi")
    return x + 1, len(w)


@any_graphs
def deq(x, unused):
    d = collections.deque([1, 2, 3], maxlen=3)
    d.append(4)
    d.appendleft(0)
    d.rotate(1)
    return list(d), d.popleft(), x + len(d)


@any_graphs
def counter(x, unused):
    c = collections.Counter("aabbc")
    return c.most_common(1), c["z"], x + c["a"]


@any_graphs
def chainmap(x, unused):
    m = collections.ChainMap({"a": 1}, {"b": 2})
    return m["b"], x + m["a"]


@any_graphs
def partials(x, unused):
    f = functools.partial(torch.add, x)
    return f(1), functools.partial(lambda a, b=2: a * b, 3)(), f.func is torch.add


@any_graphs
def singledisp(x, unused):
    @functools.singledispatch
    def f(a):
        return "obj"

    @f.register
    def _(a: int):
        return "int"

    return f(3), f("a"), x + 1


@any_graphs
def cache_(x, unused):
    @functools.lru_cache
    def f(n):
        return n * 2

    return x + f(2) + f(2), f(3)


@any_graphs
def dc(x, unused):
    @dataclasses.dataclass
    class D:
        a: int = 1

    return D(3).a, x + 1


@any_graphs
def classbody(x, unused):
    class L:
        k = 3

        def m(self):
            return self.k

    return x + L().m()


@any_graphs
def typ(x, unused):
    T = type("T", (), {"z": 4})
    return x + T.z


@any_graphs
def simplens(x, unused):
    n = types.SimpleNamespace(a=1, b=x)
    n.c = 2
    return n.a + n.c, n.b + 1


@any_graphs
def env(x, unused):
    return os.environ.get("NOPE_X", "d"), "HOME" in os.environ, x + 1


@any_graphs
def iters(x, unused):
    a = iter([1, 2, 3])
    b = zip(a, a)
    return (
        list(b),
        list(itertools.zip_longest([1], [2, 3])),
        list(itertools.groupby([1, 1, 2]))[0][0],
        list(itertools.takewhile(lambda v: v < 2, [1, 2, 1])),
        x + 1,
    )


@any_graphs
def star(x, unused):
    def f(*a, k, **kw):
        return a, k, kw

    return f(1, *[2, 3], k=4, **{"z": 5}), x + 1, [*range(3), *"ab"], {**{"a": 1}, "b": 2}


@any_graphs
def boolops(x, unused):
    return (x > 1) & (x < 3), not [], 1 if x.shape[0] else 2, x is x, x.eq(2).any() | False, 0 or "a", None and 3


@any_graphs
def cmpchain(x, unused):
    return 1 < x.shape[0] < 5, 1 < 3 > 2, x + 1


@any_graphs
def deln(x, unused):
    a = 1
    del a
    try:
        a
    except UnboundLocalError as e:
        return str(e), x + 1


@any_graphs
def attrdel(x, unused):
    s = A()
    s.q = 1
    del s.q
    return hasattr(s, "q"), x + 1


@any_graphs
def modstate(x, unused):
    global state_counter
    state_counter = {"n": state_counter.get("n", 0) + 1}
    return x + state_counter["n"]


@any_graphs
def setorder(x, unused):
    return sorted({3, 1, 2}), {x for x in range(3)}, frozenset("ab") == {"a", "b"}, x + 1


@any_graphs
def tupcmp(x, unused):
    return max((1, 2), (1, 3)), sorted([(2, "a"), (1, "b")], key=operator.itemgetter(1)), x + 1


@any_graphs
def typingthings(x, unused):
    return typing.cast(int, 3), typing.Optional[int] is not None, x + 1, isinstance([], typing.List) if False else 0


@any_graphs
def tensorsindict(x, unused):
    d = {x: 1}
    return d[x], x in d, [t is x for t in d], x in [x], x + 1


@any_graphs
def nested_fn_attr(x, unused):
    def f():
        pass

    f.z = 3
    return f.z + x, f.__name__


@any_graphs
def excattr(x, unused):
    class E(Exception):
        def __init__(self, c):
            super().__init__("m")
            self.c = c

    try:
        raise E(4)
    except E as e:
        return e.c + x, e.args, str(e)


@any_graphs
def shapes(x, unused):
    (b,) = x.shape
    return x.view(b, 1).expand(-1, 2).shape, x.new_full((b,), 2), x.unsqueeze(0).size(), torch.zeros(*x.shape, 2).shape


@pytest.mark.parametrize("function,is_whole", P.found, ids=lambda value: getattr(value, "__name__", ""))
def test_python(function, is_whole):
    state_counter["n"] = 0
    check(function, is_whole)
