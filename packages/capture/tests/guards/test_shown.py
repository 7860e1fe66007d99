"""What reasons show of the user's values: short, and by running nothing of the program."""

from __future__ import annotations

import collections
import enum

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.guards.shown import keys_of, length_of, shown


class Color(enum.Enum):
    RED = 1


class Loud(dict):
    """Everything of it that a reason could look at is code of the program."""

    asked: list[str] = []

    def __repr__(self):
        self.asked.append("repr")
        return "loud"

    def __len__(self):
        self.asked.append("len")
        return 7

    def __iter__(self):
        self.asked.append("iter")
        return iter("abc")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        ([1, ("a", None)], "[1, ('a', None)]"),
        ([Loud()], "a list"),
        ({1: Color.RED}, "a dict"),
        (Color.RED, "Color.RED"),
        (torch.ones(2, 3), "a tensor of sizes (2, 3)"),
        (torch.float32, "torch.float32"),
        (int, "the class int"),
        (len, "the function len"),
        (torch, "the module torch"),
        ("x" * 100, "'" + "x" * 76 + "..."),
        (list(range(100)), "a list"),
    ],
)
def test_text(value, text):
    assert shown(value) == text


def test_a_number_with_too_many_digits():
    assert shown(10**9000) == "a very large int"


def test_lengths_and_keys_are_those_of_the_builtin_class():
    assert length_of(Loud(a=1)) == 1 and keys_of(Loud(a=1)) == ["a"]
    assert length_of(collections.deque([1, 2])) == 2 and length_of(object()) is None
    assert not Loud.asked


def test_a_recompilation_runs_nothing_of_the_values_that_changed():
    def f(x, held):
        return x + len(held.items()) + (1 if held is FIRST else 2)

    FIRST = Loud(a=1)
    compiled = capture.optimize("eager")(f)
    for held in (FIRST, Loud(a=1), Loud(b=2), Loud(a=1, b=2), [1]):
        try:
            compiled(torch.ones(1), held)
        except AttributeError:
            assert type(held) is list
    assert not Loud.asked


def test_a_metaclass_is_not_asked():
    asked = []

    class Meta(type):
        def __getattribute__(cls, name):
            asked.append(name)
            return super().__getattribute__(name)

    class Odd(metaclass=Meta):
        pass

    odd = Odd()
    asked.clear()
    assert shown(odd).startswith("a ") and not asked
