"""Guards on how an attribute look-up ended: what is later added to, or taken from, a class is seen."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch

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
