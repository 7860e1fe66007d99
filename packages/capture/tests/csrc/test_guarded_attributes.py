"""Guards read attributes without running user code, also of methods and past an object's own `__getattribute__`."""

from __future__ import annotations

import pytest
from lampwork_capture.guards.facts import ByIdentity, ConstantIs, GuardSetBuilder, TypeIs
from lampwork_capture.guards.tree import build_tree
from lampwork_capture.source import AttributeSource, ItemSource, LocalSource


class Watchful:
    def __init__(self):
        self.value = 3

    def __getattribute__(self, name):
        if name != "__dict__":
            raise AssertionError("user code ran")
        return object.__getattribute__(self, name)

    def method(self):
        return self


def template(x):
    return x


def holds(fact, obj):
    builder = GuardSetBuilder()
    builder.add(fact)
    return build_tree(builder.freeze(), template.__code__).check((obj,), None, globals(), vars(__import__("builtins")))


@pytest.mark.parametrize(("value", "expected"), [(3, True), (4, False)])
def test_namespace_of_object_with_own_getattribute(value, expected):
    source = ItemSource(AttributeSource(LocalSource("x"), "__dict__"), "value")
    assert holds(ConstantIs(source, ByIdentity(value)), Watchful()) is expected


def test_owner_of_a_method():
    method = Watchful.method.__get__(Watchful())
    owner = AttributeSource(LocalSource("x"), "__self__")
    assert holds(TypeIs(owner, Watchful), method)
    assert not holds(TypeIs(owner, int), method)


def test_attribute_of_the_function_of_a_method():
    method = Watchful.method.__get__(Watchful())
    name = AttributeSource(LocalSource("x"), "__name__")
    assert holds(ConstantIs(name, ByIdentity("method")), method)
