"""Guards on how an attribute look-up ended: what is later added to, or taken from, a class is seen."""

from __future__ import annotations

import lampwork_capture as capture
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
