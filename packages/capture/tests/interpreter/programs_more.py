"""More odd programs: containers, classes, modules, modes, data-dependent control flow."""

from __future__ import annotations

import abc
import collections
import contextlib
import copy
import enum
import functools
import itertools
import math
import operator
import types
import typing
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import nn

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


state_registry: list = []


class Color(enum.Enum):
    RED = 1
    BLUE = 2

    @property
    def pretty(self):
        return self.name.title()


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@program
def enums(x):
    return x + Level.HIGH, Color.RED.name, Color(2), Color["RED"] is Color.RED, [c.value for c in Color], Level.LOW < 2


@program
def enum_property(x):
    return x, Color.BLUE.pretty


class Shape(abc.ABC):
    registry: typing.ClassVar[list] = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Shape.registry.append(cls.__name__)

    @abc.abstractmethod
    def area(self, x): ...

    def double(self, x):
        return self.area(x) * 2


class Square(Shape):
    __slots__ = ("side",)

    def __init__(self, side):
        self.side = side

    def area(self, x):
        return x * self.side**2


@program
def abstract_and_slots(x):
    s = Square(3)
    s.side += 1
    return s.double(x), s.side, isinstance(s, Shape), issubclass(Square, Shape)


class A:
    def who(self):
        return ["A"]


class B(A):
    def who(self):
        return ["B", *super().who()]


class C(A):
    def who(self):
        return ["C", *super().who()]


class D(B, C):
    def who(self):
        return ["D", *super(D, self).who()]

    @classmethod
    def build(cls, *args):
        self = cls.__new__(cls)
        self.args = args
        return self


@program
def multiple_inheritance(x):
    d = D.build(x, 1)
    return d.who(), d.args[0] + 1, type(d).__mro__[1].__name__, d.__class__ is D


class Vector:
    def __init__(self, *v):
        self.v = list(v)

    def __add__(self, o):
        return Vector(*[a + b for a, b in zip(self.v, o.v)])

    def __iadd__(self, o):
        self.v = [a + b for a, b in zip(self.v, o.v)]
        return self

    def __mul__(self, k):
        if not isinstance(k, (int, float, torch.Tensor)):
            return NotImplemented
        return Vector(*[a * k for a in self.v])

    __rmul__ = __mul__

    def __neg__(self):
        return self * -1

    def __eq__(self, o):
        return isinstance(o, Vector) and len(self.v) == len(o.v)

    def __lt__(self, o):
        return len(self.v) < len(o.v)

    def __bool__(self):
        return bool(self.v)

    def __getitem__(self, i):
        return self.v[i]

    def __setitem__(self, i, value):
        self.v[i] = value

    def __delitem__(self, i):
        del self.v[i]

    def __len__(self):
        return len(self.v)

    def __call__(self, f):
        return Vector(*map(f, self.v))

    def __enter__(self):
        self.v.append(0)
        return self.v

    def __exit__(self, *exc):
        self.v.pop()

    def __repr__(self):
        return f"Vector{tuple(self.v)!r}"

    def __hash__(self):
        return len(self.v)


@program
def operators_overloaded(x):
    a, b = Vector(1, 2), Vector(3, 4)
    same = a
    a += b
    c = 2 * a + b * 3
    d = -c
    d[0] = x
    del d[1]
    with a as inner:
        n = len(inner)
    return same is a, c.v, d.v, a == b, a < Vector(1, 2, 3), bool(Vector()), a(lambda v: v + 1).v, n, len(a), {a: 1}[b]


@program
def operator_not_implemented(x):
    try:
        return Vector(1) * "a"
    except TypeError:
        return x + 1


@program
def iteration_by_getitem(x):
    return [v for v in Vector(x, x + 1)], sum(Vector(1, 2)), list(reversed([1, 2]))


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n <= 0:
            raise StopIteration
        self.n -= 1
        return self.n


@program
def user_iterator(x):
    c = Countdown(4)
    first = next(c)
    return [x * i for i in c], first, list(Countdown(2)), max(Countdown(3)), dict(enumerate(Countdown(2)))


class Meta(type):
    def __getitem__(cls, k):
        return k * 2


class WithMeta(metaclass=Meta):
    limit = 4


@program
def metaclass_left_alone(x):
    return x + WithMeta.limit, WithMeta[3]


@dataclass(frozen=True)
class Frozen:
    a: int
    b: torch.Tensor = None
    tags: tuple = ()


@dataclass(order=True)
class Ordered:
    n: int
    name: str = field(default="x", compare=False)
    extra: list = field(default_factory=list)

    def __post_init__(self):
        self.doubled = self.n * 2


@program
def dataclasses_more(x):
    f = Frozen(1, x)
    g = replace(f, a=2)
    o, p = Ordered(1), Ordered(2, "y")
    o.extra.append(x)
    try:
        f.a = 4
    except Exception as e:
        kind = type(e).__name__
    return g.a, g.b + 1, o < p, o.doubled, o.extra, kind


class Config(types.SimpleNamespace):
    pass


@program
def simple_namespace(x):
    c = Config(a=1, b=x)
    c.c = c.a + 1
    return c.b * c.c, vars(c)["a"]


class Lazy:
    @functools.cached_property
    def value(self):
        state_registry.append("computed")
        return 7


@program
def cached_property_used(x):
    o = Lazy()
    return x + o.value + o.value, "value" in o.__dict__


class Fallback:
    def __init__(self):
        self.data = {"k": 5}

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value if name == "data" else value * 2)


@program
def getattr_and_setattr(x):
    f = Fallback()
    f.z = 3
    return x + f.k, f.z, getattr(f, "missing", None), hasattr(f, "k")


@program
def containers_deque(x):
    d = collections.deque([1, 2, 3], maxlen=3)
    d.append(4)
    d.appendleft(0)
    d.rotate(1)
    c = collections.Counter("abca")
    return x + d[0], list(d), c["a"], c.most_common(1)


@program
def chain_map_and_ordered(x):
    o = collections.OrderedDict(a=1, b=2)
    o.move_to_end("a")
    o.popitem(last=False)
    return x + len(o), list(o.items())


class Custom(dict):
    def __missing__(self, key):
        return key * 2

    def twice(self):
        return {k: v * 2 for k, v in self.items()}


class MyList(list):
    def second(self):
        return self[1]


@program
def container_subclasses(x):
    c = Custom(a=1)
    c["b"] = 2
    m = MyList([x, x + 1])
    m.append(5)
    return c["zz"], c.twice(), m.second(), len(m), isinstance(c, dict), {**c}


@program
def dict_views(x):
    d = {"a": 1, "b": 2}
    keys = d.keys()
    d["c"] = x
    return list(keys), "c" in keys, [k for k, _ in d.items()], keys & {"a"}, len(d.values()), dict(zip("xy", [1, 2]))


@program
def dict_methods(x):
    d = dict.fromkeys(["a", "b"], 0)
    d |= {"c": x}
    e = d | {"a": 9}
    return e["a"], d.get("zz"), d.pop("zz", 5), d.setdefault("q", []), list(reversed(d)), d.popitem()[0], sorted(e)


@program
def list_methods(x):
    a = [3, 1, 2]
    a.sort(key=lambda v: -v)
    b = a.copy()
    a.reverse()
    a.insert(1, 9)
    a.extend(v for v in (7, 8))
    a *= 2
    return x + a.index(9), a.count(1), b, a.pop(), a[-2:], a == b, [1, 2] < [1, 3], a + [x.shape[0]]


@program
def list_errors(x):
    out = []
    for f in (
        lambda: [1].index(5),
        lambda: [].pop(),
        lambda: {}["k"],
        lambda: (1,)[3],
        lambda: int("q"),
        lambda: 1 / 0,
    ):
        try:
            f()
        except (ValueError, LookupError, ZeroDivisionError) as e:
            out.append(type(e).__name__)
    return x + len(out), out


@program
def nested_mutation(x):
    tree = {"a": [1, {"b": [x]}]}
    inner = tree["a"][1]["b"]
    inner.append(x + 1)
    tree["alias"] = inner
    copied = copy.copy(tree)
    copied["new"] = 1
    return tree, copied["alias"] is inner


@program
def argument_list_mutated_in_callee(x):
    def push(items, v):
        items += [v]
        items = [*items, 5]
        return items

    a = [x]
    b = push(a, 2)
    return a, b


@program
def tuple_things(x):
    t = (1, x, "a")
    a, *b = t
    return (
        t[1:] + (2,),
        t.index("a"),
        1 in t[:1],
        a,
        b,
        t * 2 == t + t if False else len(t * 2),
        hash((1, 2)) == hash((1, 2)),
    )


@program
def strings_more(x):
    s = "hello"
    t = f"{s!r:>10}|{s:^9}|{3.14159:.2f}|{x.dim()}|{1_000:,}"
    return x, t, s[::-1], s.partition("l"), "l" in s, s.find("z"), " a ".strip(), "ab" * 2, s.encode(), "%05.1f" % 2.25


@program
def numbers(x):
    n = 7
    return (
        x * math.sqrt(16) + math.pi,
        n // 2,
        -n // 2,
        n % -3,
        2**-1,
        n & 3 | 8 ^ 1,
        ~n,
        1 << 4,
        int(3.9),
        float("1e3"),
        complex(1, 2).imag,
        bool(0),
        (5).bit_length(),
        round(3.14159, 2),
        math.floor(-1.5),
        divmod(-7, 3),
        math.isclose(0.1 + 0.2, 0.3),
        True + 1,
    )


@program
def itertools_more(x):
    groups = [(k, list(g)) for k, g in itertools.groupby([1, 1, 2])]
    return (
        x,
        groups,
        list(itertools.takewhile(lambda v: v < 3, [1, 2, 3, 1])),
        list(itertools.combinations([1, 2, 3], 2)),
        list(itertools.starmap(operator.add, [(1, 2)])),
        list(itertools.repeat(1, 2)),
        list(itertools.chain.from_iterable([[1], [2]])),
        list(itertools.islice(itertools.count(3), 2)),
        list(itertools.pairwise([1, 2, 3])),
    )


@program
def functional_tools(x):
    add = functools.partial(operator.add, 1)
    get = operator.itemgetter(1)
    name = operator.attrgetter("shape")
    return (
        add(x),
        get([1, x]),
        name(x)[0],
        list(map(operator.mul, [1, 2], [3, 4])),
        functools.reduce(lambda a, b: a * b, [1, 2, 3]),
    )


@functools.lru_cache(maxsize=None)
def cached(n):
    return n * 2


@functools.singledispatch
def dispatched(v):
    return "object"


@dispatched.register
def _(v: int):
    return "int"


@program
def lru_cached(x):
    return x * cached(3)


@program
def single_dispatch(x):
    return x + 1, dispatched(3), dispatched("s")


@program
def generator_pipeline(x):
    def numbers():
        for i in range(10):
            yield i

    def even(it):
        return (i for i in it if i % 2 == 0)

    def squares(it):
        for i in it:
            yield i * i

    return x + sum(squares(even(numbers()))), list(zip(numbers(), even(numbers())))


@program
def generator_return_in_try(x):
    def g():
        try:
            yield 1
            return 5
        finally:
            state_registry.append("closed")

    out = []

    def outer():
        out.append((yield from g()))

    return list(outer()), out, x + 1


@program
def generator_close(x):
    log = []

    def g():
        try:
            yield 1
        except GeneratorExit:
            log.append("exit")
            raise

    it = g()
    next(it)
    it.close()
    return x + 1, log, list(it)


class Stack(contextlib.ExitStack):
    pass


@program
def exit_stack(x):
    log = []
    with contextlib.ExitStack() as stack:
        stack.callback(log.append, "one")
        stack.callback(log.append, "two")
        x = x + 1
    return x, log


@program
def closing_and_redirect(x):
    class Thing:
        def close(self):
            state_registry.append("closed")

    with contextlib.closing(Thing()):
        x = x * 2
    return x


@program
def with_multiple_and_exception(x):
    log = []

    @contextlib.contextmanager
    def swallow(kind):
        try:
            yield
        except kind as e:
            log.append(str(e))

    with swallow(KeyError), swallow(ValueError):
        x = x + 1
        raise ValueError("v")
    return x, log


@program
def exception_in_exit(x):
    class Bad:
        def __enter__(self):
            return self

        def __exit__(self, *a):
            raise KeyError("from exit")

    try:
        with Bad():
            x = x + 1
            raise ValueError("body")
    except KeyError as e:
        return x, e.args, type(e.__context__).__name__


@program
def exception_group_of_types(x):
    kinds = (ValueError, TypeError)
    for kind in (TypeError, ValueError, KeyError):
        try:
            raise kind(kind.__name__)
        except kinds as e:
            x = x + len(e.args[0])
        except Exception:
            x = x * 2
    return x


@program
def exception_hierarchy(x):
    class Base(Exception):
        level = 1

        def describe(self):
            return f"{type(self).__name__}:{self.args}:{self.level}"

    class Child(Base):
        level = 2

    try:
        raise Child(1, "two")
    except Base as e:
        return x + e.level, e.describe(), isinstance(e, Base)


@program
def exception_value_after_handler(x):
    try:
        raise ValueError("x")
    except ValueError as e:
        kept = e
    try:
        e
    except NameError:
        x = x + 1
    return x, kept.args


@program
def try_return_values(x):
    def f(n):
        try:
            if n == 0:
                return "return"
            if n == 1:
                raise ValueError
        except ValueError:
            return "except"
        else:
            return "else"
        finally:
            state_registry.append(n)

    return x, [f(n) for n in range(3)]


@program
def loop_control(x):
    out = []
    for i in range(10):
        if i % 2:
            continue
        if i > 6:
            break
        try:
            if i == 4:
                continue
            out.append(i)
        finally:
            out.append(-i)
    return x, out


@program
def nested_closures(x):
    def counter(start):
        n = start

        def up(by=1):
            nonlocal n
            n += by
            return n

        def down():
            nonlocal n
            n -= 1
            return n

        return up, down

    up, down = counter(5)
    up(3)
    down()
    return x * up(), up, down


@program
def lambdas_and_defaults(x):
    def f(a, b=[], *, c={}):  # noqa: B006
        b.append(a)
        c[a] = len(b)
        return len(b), len(c)

    f(1)
    return x + f(2)[0], f(3)


@program
def globals_function(x):
    return x + len([g for g in ("state_registry", "zz") if g in globals()])


# Modules


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.lin = nn.Linear(n, n)
        self.norm = nn.LayerNorm(n)
        self.act = nn.GELU()
        self.scale = nn.Parameter(torch.ones(n))

    def forward(self, x, *, residual=True):
        y = self.act(self.norm(self.lin(x))) * self.scale
        return x + y if residual else y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(3) for _ in range(3)])
        self.by_name = nn.ModuleDict({"a": nn.Identity(), "b": nn.Linear(3, 3)})
        self.params = nn.ParameterList([nn.Parameter(torch.ones(3) * i) for i in range(2)])
        self.head = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Dropout(0.5))
        self.register_buffer("steps", torch.zeros(3), persistent=False)
        self.tied = self.head[0]

    def forward(self, x):
        for i, block in enumerate(self.blocks[:2]):
            x = block(x, residual=i == 0)
        for name, module in self.by_name.items():
            x = module(x) if name == "b" else x
        for p in self.params:
            x = x + p
        for name, child in self.named_children():
            if name == "head":
                x = child(x)
        self.steps = self.steps + 1
        return self.tied(x) + sum(p.sum() for p in self.parameters()), len(self.blocks), self.training


NET = Net()


@program
def network_eval(x):
    NET.eval()
    return NET(x)


@program
def network_train(x):
    NET.train()
    return NET(x)


@program
def network_grad(x):
    NET.eval()
    out = NET(x)[0].sum()
    out.backward()
    grads = [p.grad is not None for p in NET.parameters()]
    NET.zero_grad()
    return out, grads


HOOKED = nn.Linear(3, 3)
HOOKED.register_forward_hook(lambda m, a, r: r * 2)
HOOKED.register_forward_pre_hook(lambda m, a: (a[0] + 1,))


@program
def module_hooks(x):
    return HOOKED(x)


CONV = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


@program
def batch_norm_train(x):
    CONV.train()
    return CONV(x.repeat(4, 4).reshape(1, 1, 4, 12)[..., :4])


@program
def functional_ops(x):
    q = x.repeat(2, 3, 1)
    return F.scaled_dot_product_attention(q, q, q), F.softmax(x, -1), F.pad(x, (1, 1)), F.one_hot(x.long(), 5)


@program
def module_made_inside(x):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    return layer(x)


RNN = nn.GRU(3, 4, batch_first=True)


@program
def recurrent(x):
    out, h = RNN(x.reshape(1, 1, 3))
    return out, h


# torch


@program
def creation(x):
    y = torch.zeros_like(x) + torch.arange(3) + torch.full((3,), 2.0) + torch.ones(x.shape) + x.new_zeros(3)
    return y, torch.eye(2), torch.linspace(0, 1, 3), torch.tensor([1, 2]), torch.tensor(3.5) + x


@program
def indexing(x):
    y = torch.arange(12.0).reshape(3, 4)
    y[0, 1] = 5
    y[:, 2] = x
    y[y > 9] = 0
    idx = torch.tensor([0, 2])
    return y, y[idx], y[..., -1], y[1:, ::2], y[None].shape, y[idx, idx]


@program
def in_place_and_views(x):
    y = x.clone()
    z = y.view(3, 1)
    z.add_(1)
    y[1:].mul_(2)
    y.unsqueeze(0).zero_()
    out = torch.empty(3)
    torch.add(x, 1, out=out)
    return y, z, out


@program
def shapes_and_sizes(x):
    y = x.expand(2, 3)
    b, n = y.shape
    return (
        y.reshape(b * n),
        y.size(),
        y.size(-1),
        y.numel(),
        y.stride(),
        len(y),
        y.T.is_contiguous(),
        y.shape[1:] + (1,),
    )


@program
def dtype_and_device(x):
    y = x.to(torch.float64)
    return y, y.dtype is torch.float64, x.device.type, x.is_cuda, torch.finfo(x.dtype).max, y.to(x), x.long().dtype


@program
def split_and_stack(x):
    a, b = torch.split(x, [1, 2])
    parts = x.unbind()
    values, index = x.max(0)
    top = torch.topk(x, 2)
    return a, b, torch.stack(parts), values, index, top.values, torch.cat([x, x]), torch.chunk(x, 3)[0]


@program
def item_branches(x):
    if x.sum().item() > 5:
        x = x + 1
    elif bool((x == 1).any()):
        x = x - 1
    n = int(x[0])
    return x * n, float(x[1])


@program
def nonzero_and_mask(x):
    y = x[x > 1]
    idx = torch.nonzero(x > 1)
    return y * 2, idx.shape, torch.where(x > 1, x, -x), torch.unique(x)


@program
def loop_until(x):
    steps = 0
    while True:
        x = x * 1.5
        steps += 1
        if x.max() > 10:
            break
    return x, steps


@program
def tensor_attributes(x):
    y = x.clone()
    y.tag = "t"
    return y.tag, hasattr(y, "nothing"), y.requires_grad, y.is_leaf, y.grad is None


@program
def requires_grad_and_backward(x):
    w = x.clone().requires_grad_(True)
    loss = (w * w).sum()
    loss.backward()
    return w.grad, loss.detach(), w.requires_grad


@program
def autograd_grad(x):
    w = x.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad((w**3).sum(), w)
    return g


class Doubler(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


@program
def autograd_function(x):
    w = x.clone().requires_grad_()
    y = Doubler.apply(w)
    y.sum().backward()
    return y, w.grad


@program
def inference_mode_inside(x):
    with torch.inference_mode():
        y = x * 2
    return y + 1, y.is_inference(), torch.is_inference_mode_enabled()


@program
def autocast_nested(x):
    m = torch.ones(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = m @ m
        with torch.autocast("cpu", enabled=False):
            b = m @ m
        print("break")
        c = m @ a
    return a, b, c


@program
def default_dtype(x):
    torch.set_default_dtype(torch.float64)
    try:
        y = torch.ones(2) * 0.1
    finally:
        torch.set_default_dtype(torch.float32)
    return y, torch.ones(1).dtype


@program
def numpy_conversion(x):
    n = x.numpy()
    return torch.from_numpy(n * 2) + x


@program
def vmap_and_grad(x):
    g = torch.func.grad(lambda v: (v**2).sum())(x)
    return g, torch.vmap(lambda v: v * 2)(x)


@program
def checkpointed(x):
    w = x.clone().requires_grad_()
    y = torch.utils.checkpoint.checkpoint(lambda v: v.sin() * v, w, use_reentrant=False)
    return y.sum()


@program
def complex_numbers(x):
    c = torch.complex(x, x)
    return c.abs(), c.conj().imag, (c * 1j).real


@program
def where_and_comparisons(x):
    return x > 1, x == x, (x < 2) & (x > 0), ~(x > 1), torch.equal(x, x), torch.allclose(x, x + 1e-9), x is x


@program
def inplace_operator_on_argument(x):
    y = x
    y += 1
    y *= 2
    x[0] -= 1
    return y


@program
def sequence_of_breaks_in_nested_calls(x):
    def a(v, depth):
        if depth == 0:
            print("bottom")
            return v + 1
        v = v * 2
        try:
            v = a(v, depth - 1)
        finally:
            print("up", depth)
        return v - depth

    return a(x, 3)


@program
def break_in_property(x):
    class P:
        @property
        def v(self):
            print("property")
            return 3

    return x * P().v + 1


@program
def break_in_operator(x):
    class P:
        def __add__(self, o):
            print("add")
            return o * 2

    return P() + x + 1


@program
def break_in_iterator(x):
    class It:
        def __init__(self):
            self.i = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.i += 1
            print("next", self.i)
            if self.i > 2:
                raise StopIteration
            return self.i

    for i in It():
        x = x + i
    return x


@program
def break_in_enter(x):
    class M:
        def __enter__(self):
            print("enter")
            return 2

        def __exit__(self, *a):
            print("exit")

    with M() as k:
        y = x * k
    return y + 1


@program
def break_in_sort_key(x):
    return sorted([2, 1], key=lambda v: print("k", v) or v), x + 1


@program
def break_in_default_and_decorator(x):
    def dec(f):
        print("decorating", f.__name__)
        return f

    @dec
    def g(v, k=print("default") or 2):  # noqa: B008
        return v * k

    return g(x)


@program
def break_in_fstring(x):
    return f"a{print('in') or 1}b{x.shape[0]}", x + 1


@program
def break_in_subscript_store(x):
    d = {}
    d[print("key") or "k"] = x + (print("value") or 1)
    d["l"] = [x]
    d["l"][print("index") or 0] += 1
    return d


@program
def break_in_augmented_attribute(x):
    class O:  # noqa: E742
        n = 1

    o = O()
    o.n += print("rhs") or 2
    return x * o.n


@program
def break_in_while_condition(x):
    n = 0
    while (print("test", n) or n) < 2:
        n += 1
    return x * n


@program
def break_in_assert_and_raise(x):
    try:
        assert x.shape[0] == (print("cmp") or 4), "msg"
    except AssertionError as e:
        raise ValueError(f"wrapped {e}") from e


@program
def break_with_kwargs_pending(x):
    def f(*args, **kwargs):
        return sum(args) + sum(kwargs.values())

    return f(x, *[1, 2], k=print("k") or 3, **{"z": x})


@program
def break_with_star_stack(x):
    return max([1, print("a") or 5, *[2, 3]]), x + 1, [*range(2), print("b")], {**{"a": 1}, "b": print("c")}


@program
def break_then_mutate_alias(x):
    a = {"l": []}
    b = a["l"]
    b.append(x)
    print(len(a["l"]))
    a["l"].append(x + 1)
    c = b
    del a
    return b, c is b


@program
def break_with_closures_made(x):
    fs = []
    k = 1
    for i in range(2):
        fs.append(lambda v, i=i: v * i + k)
    print("made")
    k = 5
    return [f(x) for f in fs]


@program
def break_with_generator_pending(x):
    g = (x * i for i in range(3))
    print("made")
    return list(g)


@program
def break_with_generator_started(x):
    g = (x * i for i in range(3))
    a = next(g)
    print("started")
    return [a, *g]


@program
def break_with_iterator_pending(x):
    it = iter([x, x + 1, x + 2])
    a = next(it)
    print("started")
    z = zip([1, 2], "ab")
    next(z)
    print("zip")
    return a, list(it), list(z)


@program
def break_with_exception_object(x):
    try:
        raise ValueError("a", 1)
    except ValueError as e:
        err = e
    print("kept", repr(err))
    return x + len(err.args)


@program
def break_with_partial_and_method(x):
    f = functools.partial(torch.add, x, alpha=2)
    items = []
    push = items.append
    push(x)
    print("hold", len(items))
    push(f(1))
    return items


@program
def break_with_range_slice_enum(x):
    r, s, e = range(1, 5), slice(1, 3), enumerate(["a", "b"], 3)
    next(e)
    print(r, s)
    return list(r)[s], list(e), x[s]


@program
def break_with_set_and_frozen(x):
    s, f = {1, 2}, frozenset([3])
    s.add(4)
    print(sorted(s))
    s |= f
    return x + len(s), s, f


@program
def break_with_named_tuple_and_dataclass(x):
    o = Ordered(1, extra=[x])
    f = Frozen(2, x + 1)
    print(o.n)
    o.extra.append(f.b)
    return o, f


@program
def break_with_tensor_views(x):
    y = x * 1
    v = y.view(1, 3)
    t = y[0]
    print("v")
    y += 1
    return v, t


@program
def deleted_in_loop(x):
    for i in range(2):
        t = x * i
        print(i)
        del t
    try:
        return t
    except NameError:
        return x


@program
def star_in_index_and_walrus(x):
    i = (1,)
    y = x.reshape(1, 3)[(0, *i)]
    return y + (n := 3), n, [k := 1, k + 1][-1]


@program
def comparison_chain_with_break(x):
    return x + 1, 1 < (print("mid") or 2) < 3, 5 > (print("no") or 7) > 1


@program
def class_with_closure(x):
    k = 3

    class Local:
        n = k

        def f(self, v):
            return v * k + self.n + (__class__ is Local)

    return Local().f(x)


@program
def type_checks(x):
    return (
        type(x) is torch.Tensor,
        isinstance(1, (int, str)),
        isinstance([], typing.Sequence) if False else isinstance([], collections.abc.Sequence),
        issubclass(bool, int),
        callable(x.add),
        type([]) == list,  # noqa: E721
        type(1).__name__,
        x.__class__.__name__,
    )


@program
def copies(x):
    a = {"k": [x, 1]}
    b = copy.copy(a)
    c = copy.deepcopy({"z": [1, 2]})
    c["z"].append(3)
    return b["k"] is a["k"], c, x.clone() + 1


@program
def setattr_loop(x):
    class O:  # noqa: E742
        pass

    o = O()
    for i, name in enumerate("abc"):
        setattr(o, name, x * i)
    delattr(o, "b")
    return o.a, sorted(vars(o)), getattr(o, "c")


NO_GRAD = torch.no_grad()
AUTOCAST = torch.autocast("cpu", dtype=torch.bfloat16)


@program
def contexts_made_outside(x):
    w = torch.ones(3, requires_grad=True)
    with NO_GRAD:
        a = w * x
        print("inside")
        b = a * w
    m = torch.ones(3, 3)
    with AUTOCAST:
        c = m @ m
    return a, b, w * b, c


@torch.inference_mode()
def inferred(x):
    return x * 2


@program
def inference_decorator(x):
    y = inferred(x)
    return y.is_inference(), y + 1


@program
def opaque_objects_are_not_compared_by_guess(x):
    import decimal

    a, b = decimal.Decimal("1.5"), decimal.Decimal("1.50")
    n = x.numpy()
    try:
        total = (n * 2).sum()
    except TypeError:
        total = None
    return x + 1, a == b, a + b, float(total)
