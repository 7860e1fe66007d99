"""Classes around tensors: descriptors, special methods, metaclasses, and classes that change between calls."""

# ruff: noqa
from __future__ import annotations

import abc
import collections
import enum
import functools
import itertools
import types
import weakref

import pytest
import torch
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def exception_classes_of_the_frame(run):
    def f(x, first):
        class E(Exception):
            def __init__(self, v):
                super().__init__("m", v)
                self.v = v

        class Both(E, ValueError):
            pass

        try:
            raise (E if first else Both)(x)
        except ValueError as error:
            return "both", error.v + 1, error.args[0]
        except E as error:
            return "own", error.v + 1

    run(f, t(), True)
    run(f, t(), False)


@whole
def builtin_containers_as_bases(run):
    def f(x):
        class L(list):
            def first(self):
                return self[0]

        class D(dict):
            def __missing__(self, key):
                return key * 2

        items, table = L([x, 2]), D(a=1)
        return items.first(), table["zz"], table["a"], isinstance(items, list)

    run(f, t())


@whole
def subclass_of_a_watching_exception(run):
    class Watching(Exception):
        seen = 0

        def __init_subclass__(cls):
            Watching.seen += 1

    def f(x):
        class E(Watching):
            pass

        try:
            raise E(1)
        except Watching as error:
            return x * error.args[0], type(error).__name__, Watching.seen

    run(f, t())
    run(f, t())


@whole
def named_tuples_of_the_frame(run):
    def f(x):
        Point = collections.namedtuple("Point", "a b")
        q = Point(x + 1, b=x * 2)
        return q.a, q._fields, q.b, tuple(q), q

    run(f, t())
    run(f, t())


@whole
def class_attribute_changes(run):
    class A:
        k = 2

        def go(self, x):
            return x * self.k

    def f(x, a):
        return a.go(x)

    a = A()
    run(f, t(), a)
    A.k = 5
    run(f, t(), a)
    a.k = 7
    run(f, t(), a)
    del a.k
    run(f, t(), a)
    A.k = "no"
    run(f, t(), a)


@whole
def method_monkeypatched(run):
    class A:
        def go(self, x):
            return x + 1

    def f(x, a):
        return a.go(x)

    a = A()
    run(f, t(), a)
    A.go = lambda self, x: x * 10
    run(f, t(), a)
    a.go = lambda x: x - 1
    run(f, t(), a)
    del a.go
    A.go = staticmethod(lambda x: x * 3)
    run(f, t(), a)
    A.go = classmethod(lambda cls, x: (cls.__name__, x * 4))
    run(f, t(), a)
    A.go = property(lambda self: lambda x: x * 6)
    run(f, t(), a)


@whole
def property_replaced(run):
    class A:
        def __init__(self):
            self._v = 2

        @property
        def v(self):
            return self._v

        @v.setter
        def v(self, new):
            self._v = new * 10

    def f(x, a):
        a.v = a.v + 1
        return x * a.v, a._v

    a = A()
    run(f, t(), a)
    run(f, t(), a)
    A.v = property(lambda self: 3, lambda self, new: setattr(self, "other", new))
    run(f, t(), a)
    A.v = 9
    run(f, t(), a)
    run.see(a)


@whole
def property_without_setter(run):
    class A:
        @property
        def v(self):
            return 1

    def f(x, a):
        try:
            a.v = 2
        except AttributeError as e:
            return x + a.v, str(e)

    run(f, t(), A())
    run(f, t(), A())


@whole
def class_swapped(run):
    class A:
        def go(self, x):
            return x + 1

    class B:
        def go(self, x):
            return x - 1

    def f(x, a):
        return a.go(x)

    a = A()
    run(f, t(), a)
    a.__class__ = B
    run(f, t(), a)
    a.__class__ = A
    run(f, t(), a)


@whole
def base_changed(run):
    class A:
        def go(self, x):
            return x + 1

    class B(A):
        pass

    class C(A):
        def go(self, x):
            return x * 9

    def f(x, a):
        return a.go(x)

    b = B()
    run(f, t(), b)
    B.__bases__ = (C,)
    run(f, t(), b)
    B.go = lambda self, x: x
    run(f, t(), b)
    del B.go
    run(f, t(), b)


@whole
def attribute_type_changes(run):
    class A:
        pass

    def f(x, a):
        return x * a.v if isinstance(a.v, (int, float)) else x + len(a.v)

    a = A()
    for v in (2, 2.5, "abc", [1, 2], (1,), True, {"a": 1}):
        a.v = v
        run(f, t(), a)


@whole
def special_method_added_later(run):
    class A:
        def __init__(self, v):
            self.v = v

    def f(x, a):
        try:
            return x + len(a), bool(a), a == A(1)
        except TypeError as e:
            return x, str(e)

    a = A(1)
    run(f, t(), a)
    A.__len__ = lambda self: self.v
    run(f, t(), a)
    A.__bool__ = lambda self: False
    run(f, t(), a)
    A.__eq__ = lambda self, other: self.v == other.v
    run(f, t(), a)
    del A.__len__
    run(f, t(), a)


@whole
def getattr_hooks(run):
    class A:
        def __init__(self):
            self.real = 1

        def __getattr__(self, name):
            if name.startswith("no"):
                raise AttributeError(name)
            return len(name)

    def f(x, a):
        return x + a.abc, a.real, getattr(a, "none", 5), hasattr(a, "nope"), hasattr(a, "yes")

    a = A()
    run(f, t(), a)
    a.abc = 100
    run(f, t(), a)
    a.none = 6
    run(f, t(), a)
    del A.__getattr__
    run(f, t(), a)


@whole
def getattribute_hook(run):
    class A:
        k = 3

        def __init__(self):
            self.v = 1

        def __getattribute__(self, name):
            if name == "v":
                return object.__getattribute__(self, "v") + 10
            return super().__getattribute__(name)

        def __getattr__(self, name):
            return "missing " + name

    def f(x, a):
        return x + a.v, a.k, a.zz, vars(a)

    a = A()
    run(f, t(), a)
    a.v = 5
    run(f, t(), a)


@whole
def setattr_and_delattr_hooks(run):
    class A:
        def __init__(self):
            object.__setattr__(self, "log", [])
            self.a = 1

        def __setattr__(self, name, value):
            self.log.append(("set", name))
            super().__setattr__(name, value)

        def __delattr__(self, name):
            self.log.append(("del", name))
            object.__delattr__(self, name)

    def f(x, a):
        a.b = x
        b = A()
        del a.a
        setattr(a, "c", 2)
        return b, a.log, x + len(a.log), hasattr(a, "a")

    run(f, t(), A())
    a = A()
    run(f, t(), a)
    run(f, t(), a)


@whole
def slots(run):
    class A:
        __slots__ = ("x", "y", "__dict__")

        def __init__(self, x):
            self.x = x

    class B:
        __slots__ = "only"
        shared = 1

    def f(x, a):
        a.y = x + a.x
        a.extra = 1
        b = B()
        try:
            b.other = 1
        except AttributeError as e:
            why = str(e)
        try:
            b.only
        except AttributeError as e:
            why2 = str(e)
        try:
            b.shared = 2
        except AttributeError as e:
            why3 = str(e)
        b.only = a
        return a.y, b, why, why2, why3, hasattr(b, "only"), a

    run(f, t(), A(1))
    run(f, t(), A(2))


@whole
def empty_slots(run):
    class A:
        __slots__ = ("own", "__hidden")
        shared = 1

        def hidden(self):
            return self.__hidden

    class B(A):
        __slots__ = "__dict__"

    A.alias = A.own

    def words_of(action):
        try:
            action()
        except AttributeError as error:
            return str(error)

    def f(x, a):
        def drop():
            del a.own

        def drop_other():
            del a.other

        def drop_shared():
            del a.shared

        reads = words_of(lambda: a.own), words_of(lambda: a.alias), words_of(a.hidden)
        raw = words_of(lambda: object.__getattribute__(a, "own"))
        return x + 1, reads, raw, words_of(drop), words_of(drop_other), words_of(drop_shared)

    run(f, t(), A())
    run(f, t(), B())


@whole
def descriptors(run):
    class Typed:
        def __set_name__(self, owner, name):
            self.name = "_" + name

        def __get__(self, obj, owner=None):
            if obj is None:
                return self
            return getattr(obj, self.name, "unset")

        def __set__(self, obj, value):
            if not isinstance(value, int):
                raise TypeError(f"{self.name} must be int")
            setattr(obj, self.name, value)

        def __delete__(self, obj):
            delattr(obj, self.name)

    class A:
        a = Typed()
        b = Typed()

    def f(x, o):
        before = o.a
        o.a = 3
        try:
            o.b = "s"
        except TypeError as e:
            why = str(e)
        o.b = 4
        del o.b
        return x * o.a, before, o.b, why, A.a.name, o

    run(f, t(), A())
    o = A()
    o.a = 9
    run(f, t(), o)


@whole
def descriptor_replaced(run):
    class D:
        def __init__(self, v):
            self.v = v

        def __get__(self, obj, owner=None):
            return self.v

    class A:
        d = D(2)

    def f(x, a):
        return x * a.d

    a = A()
    run(f, t(), a)
    A.__dict__["d"].v = 3
    run(f, t(), a)
    A.d = D(4)
    run(f, t(), a)
    a.d = 5
    run(f, t(), a)
    D.__set__ = lambda self, obj, v: None
    run(f, t(), a)


@whole
def init_subclass_and_class_getitem(run):
    class Base:
        def __init_subclass__(cls, *, scale=1, **kw):
            super().__init_subclass__(**kw)
            cls.scale = scale

        def __class_getitem__(cls, item):
            return (cls.__name__, item)

    class A(Base, scale=3):
        pass

    def f(x):
        return x * A.scale, Base[int], A["k"], Base.__name__

    run(f, t())
    A.scale = 4
    run(f, t())


@split
def operators_and_reflected(run):
    class V:
        def __init__(self, v):
            self.v = v

        def __add__(self, o):
            return V(self.v + (o.v if isinstance(o, V) else o))

        def __radd__(self, o):
            return V(o * 100 + self.v)

        def __mul__(self, o):
            return NotImplemented

        def __rmul__(self, o):
            return ("rmul", o)

        def __matmul__(self, o):
            return "mm"

        def __pow__(self, o, m=None):
            return ("pow", o, m)

        def __divmod__(self, o):
            return "dm"

        def __neg__(self):
            return V(-self.v)

        def __invert__(self):
            return "inv"

        def __lt__(self, o):
            return self.v < o.v

        def __iadd__(self, o):
            self.v += o
            return self

    class W(V):
        def __radd__(self, o):
            return ("W first", o.v if isinstance(o, V) else o)

    def f(x):
        a, b = V(1), V(2)
        c = a
        c += 5
        return (
            (a + b).v,
            (a + 3).v,
            (3 + a).v,
            3 * a,
            a @ 1,
            pow(a, 2, 3),
            a**2,
            divmod(a, 1),
            (-a).v,
            ~a,
            a < b,
            a > b,
            a + W(3),
            c is a,
            sorted([b, a])[0].v,
            sum([a, b]).v,
        )

    run(f, t())
    run(f, t())


@split
def unsupported_operators(run):
    class V:
        def __add__(self, o):
            return NotImplemented

    def f(x):
        out = []
        for op in (
            lambda: V() + 1,
            lambda: V() < V(),
            lambda: -V(),
            lambda: V()[0],
            lambda: len(V()),
            lambda: V()(),
            lambda: 1 in V(),
            lambda: iter(V()),
            lambda: next(V()),
            lambda: [1, 2][V()],
            lambda: 1 - V(),
            lambda: "a" * V(),
            lambda: int(V()),
            lambda: V().nope,
        ):
            try:
                op()
            except Exception as e:
                out.append((type(e).__name__, str(e)))
        return out, x + 1

    run(f, t())
    run(f, t())


@whole
def operators_with_tensors(run):
    class Scale:
        def __init__(self, k):
            self.k = k

        def __mul__(self, x):
            return x * self.k

        def __rmul__(self, x):
            return ("r", x)

        def __radd__(self, x):
            return x + self.k

        def __matmul__(self, x):
            return x @ x * self.k

    def f(x, s):
        return s * x, x + s, s @ x, 2 * s

    run(f, t(), Scale(2))
    run(f, t(), Scale(3))


@whole
def comparisons(run):
    @functools.total_ordering
    class P:
        def __init__(self, v):
            self.v = v

        def __eq__(self, o):
            return isinstance(o, P) and self.v == o.v

        def __lt__(self, o):
            return self.v < o.v

    def f(x, a):
        b = P(2)
        return a < b, a <= b, a > b, a >= b, a == b, a != b, 1 < 2 < 3, P(1) < b <= P(2), max([a, b]).v, x + a.v

    run(f, t(), P(1))
    run(f, t(), P(2))
    run(f, t(), P(3))


@split
def conversions(run):
    class C:
        def __int__(self):
            return 3

        def __float__(self):
            return 2.5

        def __index__(self):
            return 1

        def __complex__(self):
            return 1j

        def __bytes__(self):
            return b"by"

        def __str__(self):
            return "str!"

        def __repr__(self):
            return "repr!"

        def __format__(self, spec):
            return f"<{spec}>"

        def __round__(self, n=None):
            return ("round", n)

        def __trunc__(self):
            return 8

        def __floor__(self):
            return 9

        def __abs__(self):
            return "abs"

        def __hash__(self):
            return 11

        def __bool__(self):
            return False

        def __len__(self):
            return 4

    def f(x):
        import math

        c = C()
        return (
            int(c), float(c), complex(c), bytes(c), str(c), repr(c), f"{c:>3}{c!r}{c!s}", format(c, "q"), round(c),
            round(c, 2), math.floor(c), math.trunc(c), abs(c), hash(c), bool(c), len(c), [10, 20, 30][c], not c,
            hex(c), range(c), "%s %r" % (c, c), "{:z}".format(c), x[c], x + int(c), list(range(5))[c:], math.sqrt(c),
        )  # fmt: skip

    run(f, t())
    run(f, t(4, 5))


@whole
def iteration_protocols(run):
    class Up:
        def __init__(self, n):
            self.n = n

        def __iter__(self):
            self.i = 0
            return self

        def __next__(self):
            self.i += 1
            if self.i > self.n:
                raise StopIteration("done")
            return self.i

    class Old:
        def __getitem__(self, i):
            if i > 2:
                raise IndexError
            return i * i

        def __len__(self):
            return 3

    class Gen:
        def __iter__(self):
            yield 1
            yield from [2, 3]

        def __contains__(self, v):
            return v == 99

        def __reversed__(self):
            return iter("rev")

        def __length_hint__(self):
            return 50

    def f(x, u):
        a, *b = u
        return (
            list(u),
            a,
            b,
            sum(Old()),
            4 in Old(),
            list(reversed(Old())),
            list(Gen()),
            99 in Gen(),
            list(reversed(Gen())),
            dict(zip(Gen(), Old())),
            max(u),
            tuple(enumerate(Old(), 5)),
            x + sum(u),
        )

    run(f, t(), Up(2))
    u = Up(3)
    run(f, t(), u)
    run.see(u)


@whole
def callable_objects(run):
    class A:
        def __init__(self, k):
            self.k = k

        def __call__(self, x, *, add=0):
            return x * self.k + add

    def f(x, a):
        a.calls = getattr(a, "calls", 0) + 1
        return a(x, add=1), list(map(a, [1, 2])), callable(a), callable(A), callable(3)

    a = A(2)
    run(f, t(), a)
    a.k = 4
    run(f, t(), a)
    A.__call__ = lambda self, x, add=0: x
    run(f, t(), a)


@whole
def inheritance_and_super(run):
    class A:
        def __init__(self, **kw):
            self.order = ["A"]
            super().__init__(**kw)

        def go(self, x):
            return x + 1

        @classmethod
        def make(cls, **kw):
            return cls(**kw)

        @property
        def p(self):
            return 1

    class B(A):
        def __init__(self, b=0, **kw):
            super().__init__(**kw)
            self.order.append(("B", b))

        def go(self, x):
            return super().go(x) * 2

        @property
        def p(self):
            return super().p + 1

    class C(A):
        def __init__(self, c=0, **kw):
            super().__init__(**kw)
            self.order.append(("C", c))

        def go(self, x):
            return super().go(x) * 3

    class D(B, C):
        def go(self, x):
            return super(D, self).go(x) - 1, super(B, self).go(x)

        @classmethod
        def make(cls, **kw):
            made = super().make(**kw)
            made.order.append("D")
            return made

    def f(x):
        d = D.make(b=1, c=2)
        return d.go(x), d.order, d.p, [k.__name__ for k in D.__mro__], D.mro()[1] is B, isinstance(d, C), super(D, d).p

    run(f, t())
    run(f, t(7))


@whole
def static_and_class_methods(run):
    class A:
        n = 0

        @staticmethod
        def s(x):
            return x + 1

        @classmethod
        def c(cls, x):
            cls.n += 1
            return x * cls.n

    class B(A):
        pass

    def f(x):
        return A.s(x), B.c(x), B().c(x), A().s(x), A.n, B.n

    run(f, t())
    run(f, t())
    run.see(A.n, B.n)


@whole
def class_attribute_mutable_shared(run):
    class A:
        items = []

        def add(self, v):
            self.items.append(v)

    def f(x):
        a, b = A(), A()
        a.add(x)
        b.add(1)
        b.items = b.items + [2]
        return len(A.items), a.items is A.items, b.items, x + len(a.items)

    run(f, t())
    run(f, t())
    run.see(A.items)


@whole
def class_attribute_written(run):
    class A:
        count = 0

        def __init__(self):
            A.count += 1
            type(self).last = self

    def f(x):
        a = A()
        b = A()
        return x + A.count, A.last is b, a.last is b

    run(f, t())
    run(f, t())
    run.see(A.count)


@whole
def new_and_singletons(run):
    class One:
        it = None

        def __new__(cls, *args):
            if cls.it is None:
                cls.it = super().__new__(cls)
                cls.it.made = 0
            return cls.it

        def __init__(self, v):
            self.made += 1
            self.v = v

    class Other:
        def __new__(cls, v):
            return v

        def __init__(self, v):
            raise AssertionError

    def f(x):
        a, b = One(1), One(2)
        return a is b, a.made, x + a.v, Other(5), Other(x) is x

    run(f, t())
    run(f, t())


@whole
def metaclass_call(run):
    class Meta(type):
        def __call__(cls, *args, **kw):
            made = super().__call__(*args, **kw)
            made.tagged = cls.__name__
            return made

        def __len__(cls):
            return 7

        def __iter__(cls):
            return iter(["a", "b"])

        def __contains__(cls, v):
            return v == 1

        def __getitem__(cls, k):
            return k * 2

        @property
        def meta_prop(cls):
            return cls.__name__ + "!"

        def meta_method(cls, x):
            return x + len(cls)

        def __bool__(cls):
            return False

    class A(metaclass=Meta):
        def __init__(self, v):
            self.v = v

    def f(x):
        a = A(3)
        return a.tagged, len(A), list(A), 1 in A, A[4], A.meta_prop, A.meta_method(x), bool(A), x + a.v, type(A) is Meta

    run(f, t())
    run(f, t())


@whole
def metaclass_registry_and_getattr(run):
    class Meta(type):
        registry = {}

        def __new__(mcls, name, bases, ns):
            cls = super().__new__(mcls, name, bases, ns)
            mcls.registry[name] = cls
            return cls

        def __getattr__(cls, name):
            if name == "magic":
                return 42
            raise AttributeError(f"no {name} in {cls.__name__}")

        def __instancecheck__(cls, obj):
            return hasattr(obj, "quack")

        def __subclasscheck__(cls, sub):
            return sub is int

    class A(metaclass=Meta):
        pass

    class Duck:
        quack = 1

    def f(x):
        return (
            x + A.magic,
            isinstance(Duck(), A),
            isinstance(3, A),
            issubclass(int, A),
            sorted(Meta.registry),
            getattr(A, "nope", "default"),
            hasattr(A, "magic"),
        )

    run(f, t())
    run(f, t())


@whole
def abstract_classes(run):
    class Base(abc.ABC):
        @abc.abstractmethod
        def go(self, x): ...

        @property
        @abc.abstractmethod
        def p(self): ...

        def both(self, x):
            return self.go(x) + self.p

    class Impl(Base):
        def go(self, x):
            return x * 2

        @property
        def p(self):
            return 1

    def f(x):
        try:
            Base()
        except TypeError as e:
            why = type(e).__name__
        return Impl().both(x), why, isinstance(Impl(), Base)

    run(f, t())
    run(f, t())


@whole
def virtual_subclasses(run):
    class Drawable(abc.ABC):
        @classmethod
        def __subclasshook__(cls, sub):
            return True if any("draw" in k.__dict__ for k in sub.__mro__) else NotImplemented

    class A:
        def draw(self):
            return 1

    class B:
        pass

    class Reg(abc.ABC):
        pass

    def f(x, o):
        return x + 1, isinstance(o, Drawable), issubclass(type(o), Drawable), isinstance(o, Reg)

    run(f, t(), A())
    run(f, t(), B())
    Reg.register(B)
    run(f, t(), B())


@whole
def collections_abcs(run):
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized

    class It:
        def __iter__(self):
            return iter(())

    def f(x, values):
        kinds = (Iterable, Iterator, Mapping, Sequence, Hashable, Sized, Callable)
        return [[isinstance(v, k) for k in kinds] for v in values], x + 1

    run(f, t(), [1, "a", [], {}, (), It(), len, iter([]), range(2), {1}, t(), None])
    run(f, t(), [It()])


@whole
def protocols(run):
    import typing

    @typing.runtime_checkable
    class HasGo(typing.Protocol):
        def go(self): ...

    class A:
        def go(self):
            return 2

    class B:
        pass

    def f(x, o):
        if isinstance(o, HasGo):
            return x * o.go()
        return x

    run(f, t(), A())
    run(f, t(), B())


@whole
def id_and_identity(run):
    def f(x, a, b):
        seen = {}
        for v in (a, b, a):
            seen[id(v)] = seen.get(id(v), 0) + 1
        return x + len(seen), id(a) == id(b), id(a) == id(a), a is b, sorted(seen.values()), id(a) in seen

    one = []
    run(f, t(), one, one)
    run(f, t(), [], [])
    run(f, t(), one, [])


@whole
def id_of_new_objects(run):
    def f(x):
        a, b = [], []
        memo = {id(a): "a", id(b): "b"}
        return memo[id(a)], memo[id(b)], x + 1, id(x) == id(x), id(x) == id(x + 1)

    run(f, t())
    run(f, t())


@whole
def vars_and_dict(run):
    class A:
        c = 1

        def __init__(self):
            self.a = 1
            self.b = 2

    def f(x, o):
        d = vars(o)
        d["new"] = x
        o.__dict__["a"] = 10
        o.__dict__.update(b=20)
        names = sorted(o.__dict__)
        popped = o.__dict__.pop("new")
        return names, popped, o.a + o.b, "c" in vars(o), d is o.__dict__, len(d), x + o.a

    run(f, t(), A())
    o = A()
    o.z = 1
    run(f, t(), o)


@whole
def dict_replaced(run):
    class A:
        def __init__(self):
            self.v = 1

    def f(x, a):
        return x + a.v

    a = A()
    run(f, t(), a)
    a.__dict__ = {"v": 5}
    run(f, t(), a)
    vars(a).clear()
    run(f, t(), a)


@split
def dir_of_objects(run):
    class A:
        c = 1

        def __init__(self):
            self.a = 1

        def m(self):
            pass

    def f(x, o):
        return [n for n in dir(o) if not n.startswith("_")], x + 1

    run(f, t(), A())
    o = A()
    o.z = 1
    run(f, t(), o)


@whole
def getattr_setattr_with_computed_names(run):
    class A:
        pass

    def f(x, a):
        for i, n in enumerate(["p", "q"]):
            setattr(a, f"{n}_{i}", x + i)
        total = x
        for n in ("p_0", "q_1", "none"):
            total = total + getattr(a, n, 0)
        delattr(a, "p_0")
        return total, a, hasattr(a, "p_0")

    run(f, t(), A())
    run(f, t(), A())


@whole
def type_of_object_called(run):
    class A:
        def __init__(self, v=0):
            self.v = v

        def like(self, v):
            return type(self)(v)

        def klass(self):
            return self.__class__(self.v + 1)

    class B(A):
        pass

    def f(x, o):
        return o.like(x), o.klass().v, type(o) is B, type(o).__name__, type(x)([1.0]) if False else x + o.v

    run(f, t(), A(1))
    run(f, t(), B(2))


@whole
def class_made_in_function(run):
    def f(x, k):
        class P:
            scale = k

            def __init__(self, v):
                self.v = v

            def go(self):
                return self.v * self.scale

            @property
            def twice(self):
                return self.go() * 2

        return P(x).go(), P(x).twice, P.__name__, P.scale

    run(f, t(), 2)
    run(f, t(), 3)


@whole
def class_made_in_function_with_base(run):
    class Base:
        def go(self, x):
            return x + self.off()

        def off(self):
            return 1

    def f(x):
        class P(Base):
            """Doc."""

            items: list = []

            def off(self):
                return super().off() + 10

        p = P()
        p.items.append(x)
        return p.go(x), isinstance(p, Base), P.__doc__, len(P.items), P.__mro__[1] is Base, P.__qualname__[-1]

    run(f, t())
    run(f, t())


@whole
def class_that_escapes(run):
    def f(x, k):
        class P:
            def __init__(self, v):
                self.v = v + k

        return x + 1, P, P(x)

    def use(x, k):
        _, P, p = run.compiled(f)(x, k)
        run.see(p.v, P(5).v, isinstance(p, P), P.__name__)

    use(t(), 1)
    use(t(), 2)


@whole
def class_body_runs_code(run):
    def f(x):
        log = []

        class P:
            log.append("body")
            for i in range(2):
                locals_of = i
            table = {n: n * 2 for n in range(3)}
            if len(table) == 3:
                kind = "three"
            a = b = 1
            a += 1
            del b

        return log, P.i, P.table, P.kind, P.a, hasattr(P, "b"), x + P.a

    run(f, t())
    run(f, t())


@split
def class_with_decorators_and_kwargs(run):
    class Base:
        def __init_subclass__(cls, tag=None, **kw):
            cls.tag = tag

    def mark(cls):
        cls.marked = True
        return cls

    def f(x):
        @mark
        class P(Base, tag="T"):
            @staticmethod
            def s(v):
                return v + 1

            @classmethod
            def c(cls, v):
                return cls.s(v) * 2

        return P.tag, P.marked, P.c(x), P().s(x)

    run(f, t())
    run(f, t())


@split
def dataclass_made_in_function(run):
    import dataclasses

    def f(x):
        @dataclasses.dataclass
        class D:
            a: int
            b: list = dataclasses.field(default_factory=list)

        d = D(1)
        d.b.append(x)
        return d.a, d.b, x + d.a, D(1, []) == D(1, [])

    run(f, t())
    run(f, t())


@whole
def type_with_three_arguments(run):
    def f(x, k):
        T = type("T", (), {"z": k, "go": lambda self, v: v * self.z})
        return T().go(x), T.z, T.__name__

    run(f, t(), 2)
    run(f, t(), 3)


@whole
def nested_classes(run):
    class Outer:
        class Inner:
            k = 2

            def go(self, x):
                return x * self.k

        def make(self):
            return self.Inner()

    def f(x):
        return Outer.Inner().go(x), Outer().make().go(x), Outer.Inner.__qualname__.split(".")[-2:]

    run(f, t())
    Outer.Inner.k = 3
    run(f, t())


@whole
def bound_methods(run):
    class A:
        def __init__(self):
            self.n = 0

        def go(self, x):
            self.n += 1
            return x + self.n

    def f(x, a, m):
        g = a.go
        return g(x), m(x), g == a.go, g is a.go, g.__self__ is a, g.__func__ is A.go, m == g, g.__name__

    a = A()
    run(f, t(), a, a.go)
    run(f, t(), a, A().go)
    run.see(a)


@whole
def methods_compared_and_hashed(run):
    class A:
        def go(self):
            pass

    def f(x, a, b):
        d = {a.go: 1, b.go: 2}
        return len(d), d[a.go], a.go in d, a.go == b.go, x + 1

    a = A()
    run(f, t(), a, A())
    run(f, t(), a, a)


@split
def weak_references(run):
    class A:
        pass

    def f(x, a):
        r = weakref.ref(a)
        return x + 1, r() is a, isinstance(r, weakref.ref)

    run(f, t(), A())
    run(f, t(), A())


@split
def weak_reference_argument(run):
    class A:
        v = 3

    def f(x, r):
        o = r()
        return x if o is None else x * o.v

    a = A()
    r = weakref.ref(a)
    run(f, t(), r)
    run(f, t(), r)
    del a
    run(f, t(), r)


@whole
def simple_namespaces(run):
    def f(x, n):
        m = types.SimpleNamespace(a=1, b=x)
        m.c = 3
        n.d = x + n.a
        del m.a
        return m, n, vars(m)["c"], hasattr(m, "a"), m == types.SimpleNamespace(b=x, c=3), sorted(vars(n))

    run(f, t(), types.SimpleNamespace(a=1))
    run(f, t(), types.SimpleNamespace(a=2, z=1))


@whole
def mapping_proxy(run):
    def f(x, d):
        p = types.MappingProxyType(d)
        d["n"] = 2
        try:
            p["q"] = 1
        except TypeError as e:
            why = str(e)
        return p["n"], len(p), why, dict(p), x + p["a"], "n" in p, list(p.items())

    run(f, t(), {"a": 1})
    run(f, t(), {"a": 2, "b": 1})


@whole
def class_namespace_read(run):
    class A:
        k = 1

        def go(self):
            pass

    def f(x):
        return A.__dict__["k"], "go" in A.__dict__, "zz" in vars(A), A.__module__ is not None, x + A.__dict__["k"]

    run(f, t())
    A.k = 2
    run(f, t())


@whole
def equality_without_hash(run):
    class E:
        def __init__(self, v):
            self.v = v

        def __eq__(self, o):
            if not isinstance(o, E):
                return NotImplemented
            return self.v == o.v

    def f(x, e):
        return e == E(1), e != E(1), e == 1, E(1) in [e], [E(2), e].index(e), [e].count(E(1)), x + 1, E.__hash__ is None

    run(f, t(), E(1))
    run(f, t(), E(3))


@whole
def equality_that_is_no_bool(run):
    class E:
        def __eq__(self, o):
            return [1]

        def __ne__(self, o):
            return x_holder[0]

        def __lt__(self, o):
            return ""

    x_holder = [t()]

    def f(x, e):
        return e == 1, e != 1, e < 1, (e == 2) + [3], x + (e != 0), [e] == [5]

    run(f, t(), E())
    run(f, t(), E())


@whole
def object_as_context_and_attribute_chain(run):
    class Node:
        def __init__(self, v, nxt=None):
            self.v = v
            self.nxt = nxt

    def f(x, n):
        total = x
        while n is not None:
            total = total * n.v
            n.v += 1
            n = n.nxt
        return total

    chain = Node(1, Node(2, Node(3)))
    run(f, t(), chain)
    run(f, t(), chain)
    chain.nxt.nxt = None
    run(f, t(), chain)
    run.see(chain)


@whole
def cyclic_objects(run):
    class Node:
        def __init__(self, v):
            self.v = v
            self.other = None

    def f(x):
        a, b = Node(x), Node(x + 1)
        a.other, b.other = b, a
        return a, a.other.other is a, a.other.v + a.v

    run(f, t())
    run(f, t())


@whole
def instances_in_global_list(run):
    class A:
        def __init__(self, v):
            self.v = v

    pool = []

    def f(x):
        pool.append(A(x + len(pool)))
        return pool[-1].v + pool[0].v

    run(f, t())
    run(f, t())
    run(f, t())
    run.see(pool)


@whole
def private_names(run):
    class A:
        __secret = 3

        def __init__(self):
            self.__v = 2

        def go(self, x):
            return x * self.__v + self.__secret

    def f(x, a):
        return a.go(x), a._A__v

    run(f, t(), A())
    A._A__secret = 8
    run(f, t(), A())


@split
def cached_property_put_on_a_class_later(run):
    def f(x):
        class A:
            pass

        A.size = functools.cached_property(lambda self: x)
        try:
            A().size
        except TypeError as error:
            return str(error), A
        return x

    message, made = f(t())
    run(lambda x: f(x)[0], t())


@split
def attributes_put_on_a_class_made_in_the_frame(run):
    names = []

    class Named:
        def __set_name__(self, owner, name):
            names.append(name)

    def f(x):
        class A:
            first = 1
            second = 2

        A.first = Named()
        A.__eq__ = lambda self, other: True
        return A, x + 1

    def g(x):
        made, y = f(x)
        return list(vars(made))[:4], made() == 3, made.__hash__ is None, len(names), y

    run(g, t())


@whole
def what_a_class_itself_keeps(run):
    class Plain:
        a: int = 1

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def method(self): ...

    class Derived(Abstract):
        def method(self): ...

    def f(x):
        found = [hasattr(c, "__abstractmethods__") for c in (Plain, Abstract, Derived, int, dict)]
        return found, Abstract.__abstractmethods__, Plain.__basicsize__, Plain.__annotations__, x + 1

    run(f, t())


@split
def named_tuple_made_in_the_frame_is_subscripted(run):
    def f(x):
        Pair = collections.namedtuple("Pair", "a b")
        alias = Pair[int, str]
        made = alias(1, "b")
        return type(made) is Pair, alias.__origin__ is Pair, made.a, x + 1

    run(f, t())


@split
def identities_of_objects_that_are_gone(run):
    def f(x):
        return len(set(map(id, itertools.combinations("abcde", 3)))), x + 1

    run(f, t())


@split
def instance_dict_of_the_class(run):
    class A:
        @property
        def __dict__(self):
            return {"own": self.n}

        def __init__(self, n):
            object.__setattr__(self, "n", n)

    def f(x, a):
        return a.__dict__, a.n, x + 1

    run(f, t(), A(1))
    run(f, t(), A(2))


@split
def subclass_of_frozenset_made_in_the_frame(run):
    class Frozen(frozenset):
        pass

    def f(x):
        made = Frozen({7, 8})
        return made, len(made), x + 1

    run(f, t())


@split
def enumerations_in_the_making(run):
    def f(x):
        class Numbered(enum.Enum):
            first = ()
            second = ()

            def __new__(cls):
                made = object.__new__(cls)
                made._value_ = len(cls.__members__) + 1
                return made

        class Pair(tuple, enum.Enum):
            one = (1, "a")

        class Derived(Numbered.__base__):
            one = 1

            def __str__(self):
                return self.name

        return [m.value for m in Numbered], Pair.one == (1, "a"), str(Derived.one), x + 1

    run(f, t())


@split
def enumeration_with_its_own_missing(run):
    asked = []

    class Color(enum.Enum):
        RED = 1

        @classmethod
        def _missing_(cls, value):
            asked.append(value)
            return cls.RED if value == 2 else 5 if value == 3 else None

    def f(x, value):
        try:
            return Color(value).name, len(asked), x + 1
        except (ValueError, TypeError) as error:
            return type(error), str(error), len(asked)

    for value in (1, 2, 3, 4):
        run(f, t(), value)


@split
def members_of_c_classes_are_read_only(run):
    class Partial(functools.partial):
        pass

    def f(x, p):
        try:
            p.func = len
        except AttributeError as error:
            return type(error), p.func, x + 1

    run(f, t(), Partial(max, 1))


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_classes(scenario, is_whole):
    check_scenario(scenario, is_whole)
