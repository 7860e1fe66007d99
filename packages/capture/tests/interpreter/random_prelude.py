"""What every mixed random program may use: classes, managers, exceptions, module state.

Each program runs over a fresh copy of it.
"""

import binascii
import collections
import contextlib

import lampwork_capture
import torch


class Box:
    def __init__(self, w, count=0):
        self.w = w
        self.count = count
        self.items = []
        self.table = {}
        self.name = "box"


class Thing:
    scale = 2

    def __init__(self, w, count=0, *rest, **named):
        self.w = w
        self.count = count
        self.rest = rest
        self.named = named

    def step(self, t):
        self.count += 1
        return t * self.scale + self.count

    @property
    def total(self):
        return self.w + self.count

    @total.setter
    def total(self, value):
        self.count = value

    @classmethod
    def make(cls, w):
        return cls(w, cls.scale)

    @staticmethod
    def twice(v):
        return v * 2

    def __getattr__(self, name):
        if name.startswith("dyn"):
            return len(name)
        raise AttributeError(name)

    def __add__(self, other):
        if isinstance(other, Thing):
            return type(self)(self.w + other.w, self.count + other.count)
        if isinstance(other, (int, float, torch.Tensor)):
            return type(self)(self.w + other, self.count)
        return NotImplemented

    def __radd__(self, other):
        return type(self)(other + self.w, self.count + 1)

    def __iadd__(self, other):
        self.w = self.w + other
        return self

    def __eq__(self, other):
        return isinstance(other, Thing) and self.count == other.count

    def __hash__(self):
        return hash(self.count)

    def __lt__(self, other):
        return self.count < other.count

    def __len__(self):
        return abs(self.count) % 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError(index)
        return self.w[index]

    def __contains__(self, item):
        print("contains", item)
        return item == self.count

    def __call__(self, t, k=1):
        return self.step(t) - k


class Child(Thing):
    scale = 3

    def __init__(self, w, count=0, *rest, **named):
        super().__init__(w, count, *rest, **named)
        self.extra = [count]

    def step(self, t):
        self.extra.append(self.count)
        return super().step(t) - 1

    @property
    def total(self):
        return super().total * 2

    def __bool__(self):
        return self.count > 1


class Custom(Exception):
    def __init__(self, code, extra=None):
        super().__init__(code)
        self.extra = extra


class Late(Custom):
    pass


class Manager:
    def __init__(self, log, swallow=False):
        self.log = log
        self.swallow = swallow

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, value, traceback):
        self.log.append("exit" if kind is None else kind.__name__)
        return self.swallow


@contextlib.contextmanager
def scoped(log, value=1):
    log.append("+")
    try:
        yield value
    except KeyError as error:
        log.append(error.args)
    finally:
        log.append("-")


def say(value):
    print("said", value)


def opaque(value):
    return binascii.crc32(bytes([value % 7])) % 5


def fails(value, kind=ValueError):
    if value > 1:
        raise kind(value)
    return value + 1


def chained(value):
    try:
        return fails(value, KeyError)
    except KeyError as error:
        raise Custom(value, "why") from error


def counter(start, stop):
    got = yield start
    while start < stop:
        start += 1
        got = yield (start if got is None else got)
    return start


def relay(stop):
    last = yield from counter(0, stop)
    yield last


deque, OrderedDict, defaultdict = collections.deque, collections.OrderedDict, collections.defaultdict
torch_break = lampwork_capture.graph_break
log = []
state = Box(None)
level = 1
