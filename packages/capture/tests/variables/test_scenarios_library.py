"""The standard library around tensors: functools, operator, copy, dataclasses, enum, re, typing, inspect, math."""

# ruff: noqa
from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import inspect
import itertools
import math
import operator
import re
import string
import sys
import typing

import pytest
import torch
from lampwork_capture import graph_break
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def warnings_of_lines(run):
    import warnings

    def inner(level):
        warnings.warn("inner", DeprecationWarning, level)
        return level

    def middle(level):
        return inner(level)

    def f(x):
        warnings.warn("twice")
        y = x + 1
        warnings.warn("twice")
        for level in (1, 2, 3, 4, 5):
            middle(level)
        warnings.warn("far", stacklevel=100)
        warnings.warn("own", RuntimeWarning, stacklevel=0)
        warnings.warn(message="named", category=None)
        return y

    def called():
        return run.compiled(f)(t())

    for mode in ("always", "default", "ignore", "once", "module"):
        for _ in range(2):
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter(mode)
                called()
            run.see(mode, [(str(w.message), w.category, w.filename.endswith("library.py"), w.lineno) for w in seen])


@whole
def dataclass_basics(run):
    @dataclasses.dataclass
    class P:
        a: int
        b: float = 2.0
        c: list = dataclasses.field(default_factory=list)
        d: int = dataclasses.field(default=7, repr=False, compare=False)
        k: typing.ClassVar[int] = 3

        def __post_init__(self):
            self.total = self.a + self.b

    def f(x, p):
        q = P(1, c=[x])
        r = dataclasses.replace(p, a=5)
        p.c.append(1)
        return (
            q, r, p, q == P(1), P(1) == P(1, d=9), repr(P(1)), [g.name for g in dataclasses.fields(P)],
            dataclasses.asdict(P(2)), dataclasses.astuple(P(3)), dataclasses.is_dataclass(p), x * q.total, P.k, q.c[0] is x,
        )  # fmt: skip

    run(f, t(), P(1))
    run(f, t(), P(2, c=[5]))


@whole
def dataclass_frozen_slots_order(run):
    @dataclasses.dataclass(frozen=True)
    class F:
        a: int
        b: tuple = ()

    @dataclasses.dataclass(slots=True)
    class Sl:
        a: int
        b: int = 2

    @dataclasses.dataclass(order=True)
    class O:
        a: int
        b: str = "x"

    @dataclasses.dataclass(kw_only=True)
    class K:
        a: int = 1

    def f(x, fr, sl):
        try:
            fr.a = 2
        except dataclasses.FrozenInstanceError as e:
            why = str(e)
        try:
            sl.zz = 3
        except AttributeError as e:
            why2 = type(e).__name__
        sl.b += 1
        d = {F(1): "one", F(2, (3,)): "two"}
        return (
            why, why2, sl, d[F(1)], F(2, (3,)) in d, hash(F(1)) == hash(F(1)), sorted([O(2), O(1, "z"), O(1)]), O(1) < O(2),
            max(O(1), O(3)), K(a=4).a, x * fr.a, dataclasses.replace(fr, a=9),
        )  # fmt: skip

    run(f, t(), F(1), Sl(1))
    run(f, t(), F(3), Sl(5, 6))


@whole
def dataclass_inheritance_and_tensors(run):
    @dataclasses.dataclass
    class Base:
        x: torch.Tensor
        n: int = 0

        def go(self):
            return self.x * self.n

    @dataclasses.dataclass
    class Child(Base):
        extra: dict = dataclasses.field(default_factory=dict)

        def go(self):
            return super().go() + 1

    def f(x, c):
        made = Child(x + 1, 2)
        made.extra["k"] = c.go()
        c.n += 1
        c.x = made.x
        return made, c, made.go(), isinstance(made, Base)

    run(f, t(), Child(t(), 1))
    c = Child(t(), 1)
    run(f, t(), c)
    run(f, t(), c)


@whole
def dataclass_errors(run):
    @dataclasses.dataclass
    class P:
        a: int
        b: dataclasses.InitVar[int] = 1

        def __post_init__(self, b):
            if self.a < 0:
                raise ValueError("negative")
            self.sum = self.a + b

    def f(x, which):
        try:
            if which == 0:
                P()
            elif which == 1:
                P(-1)
            elif which == 2:
                P(1, 2, 3)
            else:
                return x + P(1, 4).sum
        except (TypeError, ValueError) as e:
            return x + 1, type(e), str(e).replace("dataclass_errors.<locals>.", "")

    for which in range(4):
        run(f, t(), which)


@whole
def enums(run):
    class Color(enum.Enum):
        RED = 1
        GREEN = "g"
        ALIAS = 1

        @property
        def pretty(self):
            return self.name.title()

        def scale(self, x):
            return x * len(self.name)

        @classmethod
        def default(cls):
            return cls.RED

        @staticmethod
        def helper(x):
            return x + 1

        def __str__(self):
            return "C." + self.name

    class Level(enum.IntEnum):
        LOW = 1
        HIGH = 2

    class Kind(str, enum.Enum):
        A = "a"
        B = "b"

    def f(x, c):
        return (
            c.value, c.name, Color(1), Color["GREEN"], Color.ALIAS is Color.RED, [m.name for m in Color], len(Color),
            c.pretty, c.scale(x), Color.default(), Color.helper(x), str(c), f"{c}", c in Color, Level.HIGH > Level.LOW,
            Level.LOW + 1, x * Level.HIGH, Kind.A == "a", Kind("b"), list(Color.__members__), isinstance(c, Color),
            {Color.RED: 1}[c] if c is Color.RED else None, repr(c), c == Color.RED, c != 1, sorted(Level), Kind.B.upper(),
            type(c) is Color, hash(c) == hash(Color.RED), list(reversed(Color)),
        )  # fmt: skip

    run(f, t(), Color.RED)
    run(f, t(), Color.GREEN)


@whole
def enum_errors_and_flags(run):
    class Perm(enum.Flag):
        R = enum.auto()
        W = enum.auto()
        X = enum.auto()
        RW = R | W

    class Num(enum.IntFlag):
        A = 1
        B = 2

    class Auto(enum.Enum):
        @staticmethod
        def _generate_next_value_(name, start, count, last):
            return name.lower()

        ONE = enum.auto()

    def f(x, p):
        out = []
        try:
            Auto("zz")
        except ValueError as e:
            out.append(str(e).split(".")[-1])
        try:
            Auto["zz"]
        except KeyError as e:
            out.append(e.args)
        q = p | Perm.X
        return (
            out, q, Perm.R in q, bool(p & Perm.W), ~p, p ^ Perm.R, q.value, Num.A | Num.B, Num.A + 5, [m.name for m in Perm],
            Auto.ONE.value, Perm.RW == Perm.R | Perm.W, x * q.value, Perm(0),
        )  # fmt: skip

    run(f, t(), Perm.R)
    run(f, t(), Perm.RW)


@split
def functools_things(run):
    class A:
        def __init__(self):
            self.n = 0

        @functools.cached_property
        def slow(self):
            self.n += 1
            return self.n * 10

        def base(self, a, b):
            return (a, b, self.n)

        part = functools.partialmethod(base, 1)

    @functools.singledispatch
    def show(v):
        return "object"

    @show.register
    def _(v: int):
        return "int"

    @show.register(list)
    def _(v):
        return "list " + show(v[0])

    def f(x, a):
        return (
            a.slow, a.slow, a.n, a.part(2), show(1), show("s"), show([1]), show(True),
            functools.reduce(operator.mul, [1, 2, 3]), functools.reduce(lambda p, q: p + q, [x, x], x),
            sorted([3, 1, 2], key=functools.cmp_to_key(lambda p, q: q - p)), x + a.slow,
        )  # fmt: skip

    run(f, t(), A())
    a = A()
    a.slow
    run(f, t(), a)
    del a.slow
    run(f, t(), a)


@split
def lru_caches(run):
    calls = []

    @functools.lru_cache(maxsize=None)
    def slow(n):
        calls.append(n)
        return n * 2

    @functools.cache
    def table(n):
        return tuple(range(n))

    def f(x, n):
        return x + slow(n) + slow(n), table(3), slow.__wrapped__(1) if False else 0

    run(f, t(), 3)
    run(f, t(), 3)
    run(f, t(), 4)
    run.see(calls)


@split
def singledispatchmethod_and_wraps(run):
    class A:
        @functools.singledispatchmethod
        def go(self, v):
            return "any"

        @go.register
        def _(self, v: int):
            return "int"

    def deco(fn):
        @functools.wraps(fn)
        def inner(*a):
            return fn(*a) + 1

        return inner

    def f(x):
        @deco
        def g(v):
            """Doc."""
            return v * 2

        return A().go(1), A().go("a"), g(x), g.__name__, g.__doc__, g.__wrapped__(x)

    run(f, t())
    run(f, t())


@whole
def operator_module(run):
    class A:
        def __init__(self):
            self.b = type("B", (), {"c": 5})() if False else None
            self.v = 2

        def go(self, x, k=1):
            return x * k

    def f(x, a):
        d = {"k": [1, 2, 3]}
        get = operator.itemgetter("k")
        two = operator.itemgetter(0, 2)
        return (
            get(d), two(d["k"]), operator.attrgetter("v")(a), operator.methodcaller("go", x, k=3)(a), operator.add(x, 1),
            operator.concat([1], [2]), operator.contains([1], 1), operator.countOf([1, 1], 1), operator.indexOf([4, 5], 5),
            operator.is_(a, a), operator.not_(0), operator.truth([]), operator.mul(3, 4), operator.neg(2), operator.lt(1, 2),
            operator.getitem(d, "k"), operator.setitem(d, "z", 1), operator.delitem(d, "k"), operator.iadd([1], [2]),
            sorted([{"n": 2}, {"n": 1}], key=operator.itemgetter("n")), operator.length_hint([1, 2]), operator.index(3),
            operator.attrgetter("v", "go")(a)[0], d, operator.matmul(x, x), operator.call(len, [1]) if hasattr(operator, "call") else 1,
        )  # fmt: skip

    run(f, t(), A())
    run(f, t(4, 5), A())


@whole
def copies_by_methods_and_slots(run):
    class Slotted:
        __slots__ = ("a", "empty", "items")

        def __init__(self, a):
            self.a = a
            self.items = [a]

    class Child(Slotted):
        def __init__(self, a):
            super().__init__(a)
            self.extra = {"k": self.items}

    class Own:
        def __init__(self, v):
            self.v = v
            self.parts = [v]
            self.me = self

        def __copy__(self):
            made = type(self)(self.v + 1)
            made.parts = self.parts
            return made

        def __deepcopy__(self, memo):
            made = type(self).__new__(type(self))
            memo[id(self)] = made
            for name, value in self.__dict__.items():
                setattr(made, name, copy.deepcopy(value, memo))
            return made

    def f(x, s, c, o):
        s2, c2, o2 = copy.copy(s), copy.copy(c), copy.copy(o)
        s3, c3, o3 = copy.deepcopy(s), copy.deepcopy(c), copy.deepcopy([o, o])
        s2.a = 9
        return (
            x + o2.v, s2, c2, o2, s3, c3, o3, s2.items is s.items, hasattr(s2, "empty"), c3.extra["k"] is c3.items,
            o3[0] is o3[1], o3[0].me is o3[0], s.a,
        )  # fmt: skip

    run(f, t(), Slotted(1), Child(2), Own(3))
    filled = Slotted(4)
    filled.empty = 5
    run(f, t(), filled, Child(2), Own(3))
    run(f, t(), filled, Child(2), Own(6))


@whole
def copy_methods_that_come_later(run):
    class A:
        def __init__(self):
            self.v = [1]

    def f(x, a):
        b, c = copy.copy(a), copy.deepcopy(a)
        return x + len(b.v), b.v is a.v, c.v is a.v

    run(f, t(), A())
    A.__copy__ = lambda self: A()
    run(f, t(), A())
    A.__deepcopy__ = lambda self, memo: self
    run(f, t(), A())
    del A.__copy__, A.__deepcopy__
    run(f, t(), A())


@split
def shallow_copies(run):
    class A:
        def __init__(self, v):
            self.v = v
            self.items = [v]

    class C:
        def __init__(self):
            self.n = 0

        def __copy__(self):
            made = C()
            made.n = self.n + 1
            return made

    class Sl:
        __slots__ = ("a",)

    def f(x, a, c):
        b = copy.copy(a)
        b.v = 5
        s = Sl()
        s.a = x
        e = [1, [2]]
        g = copy.copy(e)
        g.append(3)
        return (
            b, a.v, b.items is a.items, copy.copy(c).n, copy.copy(s).a is x, e, g, g[1] is e[1], copy.copy({"a": e})["a"] is e,
            copy.copy({1, 2}), copy.copy((1, e))[1] is e, copy.copy(x) is x, x + 1,
        )  # fmt: skip

    run(f, t(), A(1), C())
    run(f, t(), A(2), C())


@whole
def deep_copies(run):
    class Node:
        def __init__(self, v):
            self.v = v
            self.next = None
            self.items = []

        def __eq__(self, o):
            return isinstance(o, Node) and self.v == o.v

        __hash__ = None

    class D:
        def __init__(self):
            self.log = []

        def __deepcopy__(self, memo):
            made = D()
            made.log.append("copied")
            return made

    def f(x, n, d):
        n.next = n
        n.items.append(n.items)
        m = copy.deepcopy(n)
        shared = [1]
        c = copy.deepcopy({"a": shared, "b": shared, "t": (shared, 2), "f": len})
        return (
            m.next is m, m.items[0] is m.items, m is n, m == n, c["a"] is c["b"], c["t"][0] is c["a"], c["a"] is shared,
            copy.deepcopy(d).log, copy.deepcopy([1, (2, 3), "a"]), x + m.v,
        )  # fmt: skip

    run(f, t(), Node(1), D())
    run(f, t(), Node(2), D())


@split
def deep_copy_of_tensors(run):
    def f(x, d):
        c = copy.deepcopy(d)
        c["a"].add_(1)
        return c["a"] + x, d["a"], c["a"] is c["b"]

    a = t()
    run(f, t(), {"a": a, "b": a})
    run(f, t(), {"a": t(), "b": t()})


@whole
def math_functions(run):
    def f(x, n):
        return (
            math.sqrt(n), math.floor(2.7), math.ceil(2.1), math.gcd(12, 18), math.factorial(5), math.prod([1, 2, 3]),
            math.isclose(0.1 + 0.2, 0.3), math.log2(8), math.pi, math.inf > 1, math.isnan(math.nan), math.hypot(3, 4),
            math.comb(5, 2), math.copysign(1, -0.0), math.fsum([0.1] * 10), math.trunc(-2.5), math.modf(2.5), math.frexp(8),
            x * math.exp(0), math.isqrt(17), math.dist([0, 0], [3, 4]), math.atan2(1, 1), math.radians(180),
        )  # fmt: skip

    run(f, t(), 4)
    run(f, t(), 2.25)


@whole
def math_errors(run):
    def f(x, which):
        try:
            if which == 0:
                math.sqrt(-1)
            elif which == 1:
                math.log(0)
            elif which == 2:
                math.factorial(-1)
            elif which == 3:
                math.floor("a")
            elif which == 4:
                math.exp(1000)
            elif which == 5:
                10**400 * 1.0
            elif which == 6:
                int("1" * 3, 1)
            elif which == 7:
                float("nope")
            elif which == 8:
                1 << -1
            elif which == 9:
                divmod(1, 0)
        except Exception as e:
            return x + 1, type(e), str(e)

    for which in range(10):
        run(f, t(), which)


@whole
def regular_expressions(run):
    pattern = re.compile(r"(?P<name>\w+)_(\d+)")

    def f(x, text):
        m = pattern.match(text)
        if m is None:
            return x, re.split("[,;]", text), re.findall(r"\d", text)
        return (
            x * int(m.group(2)), m["name"], m.groups(), m.groupdict(), m.span(), m.start(2), re.sub("_", "-", text),
            re.fullmatch("a", text) is None, bool(re.search("l", text)), [n.group() for n in re.finditer("[a-z]", text)],
            pattern.pattern, re.sub(r"\d", lambda d: str(int(d.group()) + 1), text), re.escape("a.b"), re.I | re.M,
        )  # fmt: skip

    run(f, t(), "layer_3")
    run(f, t(), "a,b;1")
    run(f, t(), "head_12")


@whole
def inspect_signatures(run):
    def g(a, b=2, *args, c, d=None, **kw):
        return a

    class A:
        def m(self, x, y=1):
            return x

    def f(x):
        sig = inspect.signature(g)
        names = list(sig.parameters)
        kinds = [p.kind.name for p in sig.parameters.values()]
        wanted = {k: v for k, v in {"a": 1, "zz": 2}.items() if k in sig.parameters}
        return (
            names, kinds, sig.parameters["b"].default, sig.parameters["a"].default is inspect.Parameter.empty, wanted,
            list(inspect.signature(A().m).parameters), inspect.isfunction(g), inspect.isclass(A), inspect.ismethod(A().m), x + 1,
        )  # fmt: skip

    run(f, t())
    run(f, t())


@split
def typing_things(run):
    T = typing.TypeVar("T")

    class NT(typing.NamedTuple):
        a: int
        b: str = "q"

        def both(self):
            return self.b * self.a

    class TD(typing.TypedDict):
        k: int

    class G(typing.Generic[T]):
        def __init__(self, v: T):
            self.v = v

    def g(a: int, b: "str") -> None: ...

    def f(x):
        n = NT(2)
        d: TD = {"k": 1}
        made = TD(k=3)
        gen = G[int](5)
        y: typing.Optional[int] = typing.cast(int, 4)
        return (
            n.both(), n, n._replace(a=3), d, made, gen.v, y, typing.TYPE_CHECKING, NT.__annotations__.keys(), isinstance(n, tuple),
            typing.get_origin(list[int]) is list, typing.get_args(dict[str, int]), x + n.a, typing.get_type_hints(g)["a"],
        )  # fmt: skip

    run(f, t())
    run(f, t())


@whole
def string_module(run):
    def f(x, name):
        return (
            string.ascii_letters[:3], string.digits, string.Template("$a-$b").substitute(a=1, b=name),
            string.capwords("a b"), x + len(string.punctuation),
        )  # fmt: skip

    run(f, t(), "n")
    run(f, t(), "m")


@split
def json_and_time(run):
    import json
    import time

    def f(x, d):
        s = json.dumps(d)
        start = time.time()
        return x + len(json.loads(s)), s, time.time() >= start

    run(f, t(), {"a": [1, 2]})
    run(f, t(), {"b": 1})


@split
def random_module(run):
    import random

    def f(x):
        random.seed(3)
        return x * random.random(), random.randint(0, 10), random.choice([1, 2, 3])

    run(f, t())
    run(f, t())


@split
def pathlib_and_os(run):
    import os
    import pathlib

    def f(x, p):
        return x + 1, os.path.join("a", p), pathlib.PurePath("a") / p, os.environ.get("NOPE_NOT_THERE")

    run(f, t(), "b")
    run(f, t(), "c")


@whole
def heaps_and_bisect(run):
    import bisect
    import heapq

    def f(x, items):
        h = list(items)
        heapq.heapify(h)
        heapq.heappush(h, 0)
        low = heapq.heappop(h)
        s = sorted(items)
        bisect.insort(s, 4)
        return (
            low,
            h,
            heapq.nsmallest(2, items),
            heapq.nlargest(1, items),
            bisect.bisect_left(s, 4),
            s,
            list(heapq.merge([1, 4], [2])),
            x + low,
        )

    run(f, t(), [5, 3, 8])
    run(f, t(), [1, 9])


@whole
def heaps_of_objects(run):
    import bisect
    import heapq

    class Job:
        def __init__(self, cost, log):
            self.cost = cost
            self.log = log

        def __lt__(self, other):
            self.log.append((self.cost, other.cost))
            return self.cost < other.cost

    def f(x, costs):
        log = []
        heap = [Job(c, log) for c in costs]
        heapq.heapify(heap)
        heapq.heappush(heap, Job(4, log))
        out = [
            heapq.heappop(heap).cost,
            heapq.heapreplace(heap, Job(2, log)).cost,
            heapq.heappushpop(heap, Job(9, log)).cost,
        ]
        ordered = sorted((job.cost for job in heap), reverse=True)
        bisect.insort(ordered, -3, key=lambda v: -v)
        bisect.insort_left(ordered, 3)
        try:
            heapq.heappop([])
        except IndexError as error:
            out.append(str(error))
        try:
            bisect.bisect([], 1, -1)
        except ValueError as error:
            out.append(str(error))
        return (
            x + out[0],
            out,
            log,
            [job.cost for job in heap],
            ordered,
            bisect.bisect(ordered, 3, 1, 2),
            bisect.bisect_right([1, 2], 2, hi=1),
        )

    run(f, t(), [5, 3, 8, 1, 7, 2])
    run(f, t(), [6, 6, 1])


@whole
def heap_passed_in(run):
    import heapq

    def f(x, heap):
        heapq.heappush(heap, (x.shape[0], "made"))
        return x * heapq.heappop(heap)[0]

    heap = [(1, "a"), (7, "b")]
    run(f, t(), heap)
    run(f, t(4, 5), heap)
    run.see(heap)


@whole
def paths_as_text(run):
    import os

    def f(x, p):
        return (
            x + 1,
            os.path.join("a", p, "c.py"),
            os.path.split(p),
            os.path.splitext(p)[1],
            os.path.basename(p),
            os.path.isabs(p),
            os.path.dirname(p),
            os.path.normpath(p),
        )

    run(f, t(), "b/x.txt")
    run(f, t(), "/c/../d")


@whole
def inspect_predicates(run):
    import inspect

    class A:
        def m(self):
            return 1

    def g():
        yield 1

    def f(x, v):
        return x + 1, [
            (inspect.isfunction(o), inspect.isclass(o), inspect.ismethod(o), inspect.ismodule(o), inspect.isbuiltin(o), inspect.isgenerator(o))
            for o in (v, g, A, A.m, A().m, inspect, len, g(), 5)
        ]  # fmt: skip

    run(f, t(), A())
    run(f, t(), A)
    run(f, t(), A().m)


@whole
def fractions_and_decimals(run):
    import fractions

    def f(x):
        a = fractions.Fraction(1, 3) + fractions.Fraction(1, 6)
        return x * float(a), a.numerator, a == fractions.Fraction(1, 2), str(a)

    run(f, t())
    run(f, t())


@split
def datetimes_and_uuid(run):
    import datetime
    import decimal

    def f(x, d):
        later = d + datetime.timedelta(days=1)
        return x * later.day, str(decimal.Decimal("1.10") + 1), d.isoformat()

    run(f, t(), datetime.date(2020, 1, 30))
    run(f, t(), datetime.date(2021, 1, 1))


@whole
def numbers_abcs(run):
    import numbers

    def f(x, values):
        return [
            (isinstance(v, numbers.Number), isinstance(v, numbers.Integral), isinstance(v, numbers.Real))
            for v in values
        ], x + 1

    run(f, t(), [1, 1.5, True, 1j, "a"])
    run(f, t(), [None])


@whole
def textwrap_and_pprint(run):
    import textwrap

    def f(x, s):
        return textwrap.dedent(s), textwrap.indent("a", "  "), x + 1

    run(f, t(), "  a\n  b")
    run(f, t(), "z")


@split
def threads_and_locks(run):
    import threading

    lock = threading.Lock()

    def f(x):
        with lock:
            y = x + 1
        return y, lock.locked()

    run(f, t())
    run(f, t())


@split
def context_variables(run):
    import contextvars

    var = contextvars.ContextVar("v", default=2)

    def f(x):
        return x * var.get()

    run(f, t())
    token = var.set(7)
    run(f, t())
    var.reset(token)
    run(f, t())


@split
def copies_as_the_copy_module_makes_them(run):
    class Hidden:
        def __getattribute__(self, name):
            if name.startswith("__reduce"):
                raise AttributeError(name)
            return object.__getattribute__(self, name)

    def f(x):
        same = ((1, 2), 3)
        inner = []
        cyclic = (inner, x)
        inner.append(cyclic)
        made = copy.deepcopy(cyclic)
        errors = []
        for how in (copy.copy, copy.deepcopy):
            try:
                how(Hidden())
            except copy.Error as error:
                errors.append(type(error))
        return copy.deepcopy(same) is same, made[0][0] is made, made is cyclic, errors, x + 1

    run(f, t())


@split
def iterators_refused_and_rebuilt(run):
    def f(x):
        errors = []
        for call in (
            lambda: itertools.count("a"),
            lambda: itertools.groupby("abc", None, 10),
            lambda: itertools.tee([1], -1),
            lambda: itertools.accumulate(),
            lambda: itertools.dropwhile(),
        ):
            try:
                call()
            except (TypeError, ValueError) as error:
                errors.append(type(error))
        it = itertools.accumulate([None, None, None], operator.is_)
        first = next(it)
        return errors, first, it, itertools.zip_longest([1], [2, 3], fillvalue=x)

    def g(x):
        errors, first, it, pairs = f(x)
        graph_break()
        return errors, first, list(it), list(pairs)

    run(g, t())


@split
def pairwise_asked_by_its_own_iterator(run):
    class Iterator:
        count = 0

        def __iter__(self):
            return self

        def __next__(self):
            if self.count >= 4:
                raise StopIteration
            self.count += 1
            return next(pairs, None) if self.count == 1 else [self.count]

    pairs = itertools.pairwise(Iterator())

    def f(x):
        return list(pairs), x + 1

    run(f, t())


@split
def nested_in_itself(run):
    def f(x):
        first, second = [], []
        first.append(first)
        second.append(second)
        try:
            return first == second
        except RecursionError:
            return "too deep", x + 1

    run(f, t())


@whole
def total_ordering_in_the_frame(run):
    def f(x):
        @functools.total_ordering
        class A:
            def __init__(self, value):
                self.value = value

            def __lt__(self, other):
                return self.value < other.value

        return A(1) < A(2), A(1) >= A(1), A(2) > A(1), x + 1

    run(f, t())


@split
def signatures_of_bound_methods_and_of_replaced_ones(run):
    import inspect

    class Holder:
        def plain(self, a, b=1):
            pass

        def stars(*args):
            pass

        def none(*, a):
            pass

    def replaced():
        pass

    def f(x):
        holder = Holder()
        found = [str(inspect.signature(holder.plain)), str(inspect.signature(holder.stars))]
        try:
            inspect.signature(holder.none)
        except ValueError as error:
            found.append(str(error))
        replaced.__signature__ = inspect.Signature([inspect.Parameter("a", inspect.Parameter.POSITIONAL_ONLY)])
        return x + 1, found, str(inspect.signature(replaced))

    run(f, t())


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_library(scenario, is_whole):
    check_scenario(scenario, is_whole)
