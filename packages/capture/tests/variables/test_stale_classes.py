"""Guards on how an attribute look-up ended: what is later added to, or taken from, a class is seen."""

from __future__ import annotations

import ast
import enum
import operator
import sys
from dataclasses import dataclass
from pathlib import Path

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.guards.specials import SPECIAL_NAMES

X = torch.zeros(1)


def both(function, *changes):
    """Results of eager and optimized code at the start and after each change (done once per side)."""
    optimized = capture.optimize("eager")(function)
    seen = [(float(optimized(X)), float(function(X)))]
    for change in changes:
        change()
        seen.append((float(optimized(X)), float(function(X))))
        assert seen[-1][0] == float(optimized(X))
    assert [a for a, _ in seen] == [b for _, b in seen]
    assert len({b for _, b in seen}) > 1


def setter(cls, name, value):
    return lambda: setattr(cls, name, value)


def test_attribute_added_to_the_class():
    class A:
        pass

    a = A()
    both(lambda x: x + getattr(a, "w", 0), setter(A, "w", 5), lambda: delattr(A, "w"), setter(a, "w", 7))
    both(lambda x: x + (1 if hasattr(a, "z") else 2), setter(A, "z", 5))
    both(lambda x: x + getattr(A, "k", 0), setter(A, "k", 5))


def test_attribute_added_to_a_base():
    class Base:
        pass

    class A(Base):
        pass

    a = A()
    both(lambda x: x + getattr(a, "w", 0), setter(Base, "w", 5), setter(A, "w", 6), lambda: delattr(A, "w"))


def test_instance_attribute_gone_class_attribute_there():
    class A:
        pass

    a = A()
    a.z = 1

    def change():
        del a.z
        A.z = 7

    both(lambda x: x + a.z, change)


def test_getattr_hook_shadowed_replaced_and_added():
    class A:
        def __getattr__(self, name):
            return 1

    class B:
        pass

    a, b = A(), B()
    both(
        lambda x: x + a.q, setter(A, "__getattr__", lambda s, n: 2), setter(A, "q", 3), setter(a, "q", 4),
        setter(A, "q", property(lambda s: 9)),
    )  # fmt: skip
    both(lambda x: x + getattr(b, "q", 0), setter(B, "__getattr__", lambda s, n: 2))


def test_property_shadows_a_property():
    class Base:
        @property
        def v(self):
            return 1

    class A(Base):
        pass

    a = A()
    both(lambda x: x + a.v, setter(A, "v", property(lambda s: 2)), setter(Base, "v", property(lambda s: 3)),
         lambda: delattr(A, "v"))  # fmt: skip


def test_static_and_class_methods_are_shadowed():
    class Base:
        @staticmethod
        def s(x):
            return x + 1

        @classmethod
        def c(cls, x):
            return x + 2

    class A(Base):
        pass

    a = A()
    both(lambda x: a.s(x), setter(A, "s", staticmethod(lambda x: x + 3)))
    both(lambda x: a.c(x), setter(A, "c", classmethod(lambda cls, x: x + 4)))


def test_modules_missing_attribute_appears():
    module = type("M", (torch.nn.Module,), {})()
    both(lambda x: x + getattr(module, "w", 0), setter(type(module), "w", 5))


def read_attribute(x, a):
    return x + a.k


def read_method(x, a):
    return x + a.method()


def read_hooked(x, a):
    return x + a.unset


def read_default(x, a):
    return x + getattr(a, "missing", 3)


def read_presence(x, a):
    return x + (1 if hasattr(a, "missing") else 2)


def read_property(x, a):
    return x + a.computed


def read_of_a_new_object(x, a):
    return x + type(a)().k


class Read:
    def __init__(self):
        self.k = 1

    def method(self):
        return 2

    @property
    def computed(self):
        return 4


def fresh(base):
    """A class of its own, so that a test may change it."""
    return type(
        base.__name__, base.__bases__, {k: v for k, v in vars(base).items() if k not in ("__dict__", "__weakref__")}
    )


def five(self, name):
    return (lambda: 5) if name == "method" else 5


@pytest.mark.parametrize(
    "function",
    [read_attribute, read_method, read_default, read_presence, read_property, read_of_a_new_object, read_hooked],
)
@pytest.mark.parametrize("is_inherited", [False, True])
def test_getattribute_is_added(function, is_inherited):
    base = fresh(Read)
    if function is read_hooked:
        base.__getattr__ = lambda self, name: 11
    cls = type("Derived", (base,), {}) if is_inherited else base
    a = cls()
    both(lambda x: function(x, a), setter(base, "__getattribute__", five))


def both_write(function, base, *changes):
    """What is in the instance and what hooks saw, eagerly and optimized, after each change of the class."""
    outcomes = []
    for wrap in (lambda f: f, capture.optimize("eager")):
        log, seen = [], []
        cls = fresh(base)
        a = cls()
        called = wrap(lambda x, a=a: function(x, a))
        for change in (lambda cls, log: None, *changes):
            change(cls, log)
            for _ in range(2):
                result = called(X)
                seen.append((float(result), plain_attributes(a), list(log)))
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != outcomes[0][-1]


def plain_attributes(a):
    return {name: value for name, value in vars(a).items() if not name.startswith("_")}


class Written:
    k = 0


class WrittenModule(torch.nn.Module):
    k = 0


def write(x, a):
    a.k = x.shape[0]
    return x


def write_new_name(x, a):
    a.other = x.shape[0]
    return x


def remove(x, a):
    a.other = 1
    del a.other
    return x + hasattr(a, "other")


def write_to_a_new_object(x, a):
    made = type(a)()
    made.k = 2
    return x + made.k


def add_setattr(cls, log):
    def logged(self, name, value):
        log.append((name, value))
        object.__setattr__(self, name, 7)

    cls.__setattr__ = logged


def add_delattr(cls, log):
    cls.__delattr__ = lambda self, name: log.append(name)


def add_property(cls, log):
    cls.k = cls.other = property(lambda self: 8, lambda self, value: log.append(value), lambda self: log.append("del"))


class Data:
    def __init__(self, log):
        self.log = log

    def __get__(self, instance, owner):
        return 6

    def __set__(self, instance, value):
        self.log.append(value)

    def __delete__(self, instance):
        self.log.append("del")


def add_descriptor(cls, log):
    cls.k = cls.other = Data(log)


@pytest.mark.parametrize(
    "base, function",
    [(Written, f) for f in (write, write_new_name, remove, write_to_a_new_object)]
    + [(WrittenModule, f) for f in (write, write_new_name)],
)
@pytest.mark.parametrize("change", [add_setattr, add_property, add_descriptor])
def test_hook_or_descriptor_is_added_where_an_attribute_is_written(base, function, change):
    both_write(function, base, change)


def test_delattr_is_added():
    both_write(remove, Written, add_delattr)


def test_attribute_read_past_a_property_that_was_added():
    def write_and_read(x, a):
        a.k = x.shape[0]
        return x + a.__dict__.get("k", 9)

    def add_reader(cls, log):
        cls.k = property(lambda self: 1, lambda self, value: log.append(value))

    both_write(write_and_read, Written, add_reader)


ASKED = {
    "__bool__": (lambda a, x: x + (1 if a else 2), lambda s: False),
    "__len__": (lambda a, x: x + (1 if a else 2), lambda s: 0),
    "__eq__": (lambda a, x: x + (1 if a == 1 else 2), lambda s, o: True),
    "__ne__": (lambda a, x: x + (1 if a != a else 2), lambda s, o: True),
    "__gt__": (lambda a, x: x + attempt(lambda: a > 1), lambda s, o: 7),
    "__iadd__": (lambda a, x: x + attempt(lambda: operator.iadd(a, 1)), lambda s, o: 7),
    "__radd__": (lambda a, x: x + attempt(lambda: 1 + a), lambda s, o: 7),
    "__neg__": (lambda a, x: x + attempt(lambda: -a), lambda s: 7),
    "__abs__": (lambda a, x: x + attempt(lambda: abs(a)), lambda s: 7),
    "__index__": (lambda a, x: x + attempt(lambda: operator.index(a)), lambda s: 7),
    "__int__": (lambda a, x: x + attempt(lambda: int(a)), lambda s: 7),
    "__round__": (lambda a, x: x + attempt(lambda: round(a)), lambda s: 7),
    "__str__": (lambda a, x: x + (1 if str(a) == "a" else 2), lambda s: "a"),
    "__format__": (lambda a, x: x + (1 if f"{a}" == "a" else 2), lambda s, f: "a"),
    "__contains__": (lambda a, x: x + attempt(lambda: 2 in a), lambda s, o: True),
    "__iter__": (lambda a, x: x + attempt(lambda: sum(a)), lambda s: iter([7])),
    "__reversed__": (lambda a, x: x + attempt(lambda: sum(reversed(a))), lambda s: iter([7])),
    "__getitem__": (lambda a, x: x + attempt(lambda: a[0]), lambda s, i: 7),
    "__call__": (lambda a, x: x + (1 if callable(a) else 2), lambda s: 7),
    "__hash__": (lambda a, x: x + (1 if {5: 1}.get(a) else 2 if len({a: 1}) else 3), None),
    "__init__": (lambda a, x: x + len(vars(type(a)())), lambda s: vars(s).update(z=1)),
    "__new__": (lambda a, x: x + (1 if type(a)() else 2), lambda c: None),
    "__class_getitem__": (lambda a, x: x + attempt(lambda: type(a)[0]), classmethod(lambda c, i: 7)),
    "__setattr__": (lambda a, x: (setattr(a, "k", 3), x + a.k)[1], lambda s, n, v: vars(s).update({n: v + 4})),
    "__enter__": (lambda a, x: x + attempt(lambda: type(a).__enter__(a)), lambda s: 7),
}


def attempt(action):
    try:
        return action()
    except Exception:
        return -1


MODULES_HAVE = ("__init__", "__call__", "__setattr__")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("plain", "base", "dataclass", "module") for name in ASKED
     if kind != "module" or name not in MODULES_HAVE],
)  # fmt: skip
def test_a_special_method_is_added_and_taken_away(kind, name):
    asks, method = ASKED[name]

    class Base:
        pass

    class Owner(Base):
        pass

    owner, changed = Owner, Base if kind == "base" else Owner
    if kind == "dataclass":
        owner = changed = dataclass(init=False, eq=False, repr=False)(Owner)
    elif kind == "module":
        owner = changed = type("Owner", (torch.nn.Module,), {})
    optimized = capture.optimize("eager")(asks)

    def one_of_each():
        seen = []
        for function in (optimized, asks):
            try:
                seen.append(float(function(owner(), X)) if name != "__new__" else float(function(known, X)))
            except TypeError as error:
                seen.append(str(error))
        return seen

    known = owner()
    before = one_of_each()
    setattr(changed, name, method)
    added = one_of_each()
    delattr(changed, name)
    taken = one_of_each()
    assert [ours == plain for ours, plain in (before, added, taken)] == [True] * 3, (before, added, taken)
    assert before != added


def test_a_special_method_is_added_to_what_is_no_plain_object():
    class Colour(enum.Enum):
        RED = 1

    class Meta(type):
        pass

    class Made(metaclass=Meta):
        pass

    class Bag(dict):
        pass

    member, bag = Colour.RED, Bag()
    both(lambda x: x + (1 if member else 2), setter(Colour, "__bool__", lambda s: False))
    both(lambda x: x + (1 if Made else 2), setter(Meta, "__bool__", lambda s: False))
    both(lambda x: x + (1 if Made == 1 else 2), setter(Meta, "__eq__", lambda s, o: True))
    both(lambda x: x + (1 if bag else 2), setter(Bag, "__bool__", lambda s: True))
    both(lambda x: x + attempt(lambda: bag["a"]), setter(Bag, "__missing__", lambda s, k: 7))


def test_the_special_methods_of_a_class_cost_one_walk():
    """A changed attribute of the class is looked at and forgotten: nothing is captured again."""

    class A:
        count = 0

    a, captured = A(), []
    optimized = capture.optimize(lambda graph, inputs: captured.append(1) or graph)(lambda x: x + (1 if a else 2))
    for count in range(5):
        A.count = count
        assert float(optimized(X)) == 1
    assert len(captured) == 1


def test_a_class_with_keys_of_the_programs_own_kind_is_only_carried():
    compared = []

    class Key:
        def __hash__(self):
            return hash("__bool__")

        def __eq__(self, other):
            compared.append(other)
            return False

    def f(x):
        return x + 1, thing is None, [thing][0] is thing

    kind = type("Kind", (), {Key(): 1, "a": 1})
    thing = kind()
    optimized = capture.optimize("eager")(f)
    for value in range(4):
        kind.zz = value
        compared.clear()  # the store has asked
        assert optimized(X)[1:] == (False, True)
        assert compared == []
    assert not capture.capture(f, X).graph_breaks


def test_truth_of_an_object_whose_class_has_such_keys():
    class Key:
        def __hash__(self):
            return hash("__bool__")

        def __eq__(self, other):
            return other == "__bool__"

    no = type("No", (), {Key(): lambda self: False})()
    optimized = capture.optimize("eager")(lambda x: x + (1 if no else 2))
    for answer in (False, True):
        Key.__eq__ = lambda self, other, answer=answer: answer
        type(no).zz = answer  # what was found before is forgotten
        assert float(optimized(X)) == float(X) + (1 if no else 2)


def test_a_metaclass_is_not_asked_while_its_class_is_traced_or_checked():
    asked = []

    class Meta(type):
        def __getattribute__(cls, name):
            asked.append(name)
            return type.__getattribute__(cls, name)

        def __hash__(cls):
            asked.append("hash")
            return 1

        def __eq__(cls, other):
            asked.append("eq")
            return cls is other

    class Thing(metaclass=Meta):
        pass

    thing = Thing()

    def f(x):
        return x + (1 if thing else 2)

    optimized = capture.optimize("eager")(f)
    asked.clear()
    assert float(optimized(X)) == float(X) + 1
    assert float(optimized(X)) == float(X) + 1
    assert asked == []
    Thing.__bool__ = lambda self: False
    assert float(optimized(X)) == float(X) + 2


def test_a_hook_of_an_enumeration_is_added():
    class Mode(enum.Enum):
        A = 1

    def function(x):
        try:
            return x + Mode(5).value
        except ValueError:
            return x - 1

    both(function, setter(Mode, "_missing_", classmethod(lambda cls, value: cls.A)), lambda: delattr(Mode, "_missing_"))


def test_a_setup_of_an_autograd_function_is_added():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(*args):
            return args[-1] * len(args) + len(args)

        @staticmethod
        def backward(ctx, grad):
            return grad

    set_up = staticmethod(lambda ctx, inputs, output: None)
    both(lambda x: Double.apply(x), setter(Double, "setup_context", set_up), lambda: delattr(Double, "setup_context"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no exception groups there")
def test_what_makes_parts_of_a_group_is_added():
    class Group(ExceptionGroup):
        pass

    def function(x):
        group = Group("", [ValueError(), TypeError()])
        return x + len(group.split(ValueError)[0].message)

    both(function, setter(Group, "derive", lambda self, members: ExceptionGroup("longer", members)))


def test_what_converts_a_module_is_added():
    class Net(torch.nn.Linear):
        pass

    net, called = Net(1, 1), []

    def apply(self, function, *args):
        called[:] = [1]
        return self

    both(lambda x: (net.float(), x + len(called))[1], setter(Net, "_apply", apply))


# Names that a fact speaks of where they are asked for
LEAVE_FACTS = {"_missing_", "setup_context", "_apply", "derive", "__dict__"}


def test_a_look_up_of_another_name_leaves_a_fact():
    package = Path(capture.__file__).parent
    asked = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
                name = node.args[1]
                if node.func.id in ("find_in_class", "is_overridden", "has_special") and isinstance(name, ast.Constant):
                    asked.add(name.value)
    assert asked - set(SPECIAL_NAMES) == LEAVE_FACTS
