"""How modelled callables take their arguments: by keyword as by position, and refused where eager refuses them."""

from __future__ import annotations

import bisect
import collections
import contextlib
import copy
import functools
import io
import itertools
import operator
import os
import re

import lampwork_capture
import pytest
import torch
from lampwork_capture.errors import CaptureError
from lampwork_capture.graph_break import BreakId
from lampwork_capture.variables import registry
from lampwork_capture.variables.call_shape import CallShape, RefusedCall, shape_of


class Halving:
    def __round__(self, ndigits=None):
        return ("rounded", ndigits)


X = torch.ones(2)
TAKEN = {
    "accumulate": lambda x: list(itertools.accumulate(func=operator.mul, iterable=[2, 3], initial=4)),
    "bisect": lambda x: bisect.bisect_left([1, 2, 3], x=3, hi=2),
    "bytes": lambda x: (bytes("a", encoding="ascii"), bytes(errors="strict", source="a", encoding="ascii")),
    "combinations": lambda x: list(itertools.combinations(r=2, iterable=[1, 2, 3])),
    "complex": lambda x: (complex(imag=2), complex(real=1)),
    "compress": lambda x: list(itertools.compress(selectors=[0, 1], data="ab")),
    "copy": lambda x: (copy.copy(x=[1]), copy.deepcopy(x=[1], memo=None)),
    "count": lambda x: next(itertools.count(step=2)) + next(itertools.count(start=3)),
    "deque": lambda x: (collections.deque(maxlen=1), collections.deque(iterable=[1, 2], maxlen=1)),
    "dict": lambda x: (dict(iterable=1, self=2), collections.OrderedDict([(1, 2)], iterable=3)),
    "enumerate": lambda x: list(enumerate(start=3, iterable="ab")),
    "getenv": lambda x: os.getenv(default="none", key="LAMPWORK_NO_SUCH_NAME"),
    "groupby": lambda x: [(k, list(g)) for k, g in itertools.groupby(key=lambda v: v // 2, iterable=[1, 2, 3])],
    "int": lambda x: (int("7", base=8), int("77", 8), int()),
    "max": lambda x: (max([], default=3), max(1, 2, key=operator.neg), min([x], key=id) is x),
    "namedtuple": lambda x: collections.namedtuple(field_names="a b", typename="Pair", defaults=(1,))(2),
    "object": lambda x: (round(number=Halving(), ndigits=3), round(Halving(), ndigits=None)),
    "permutations": lambda x: list(itertools.permutations([1, 2], r=None)),
    "pow": lambda x: (pow(exp=5, base=2), pow(2, exp=5, mod=7), pow(base=x, exp=2)),
    "property": lambda x: property(fset=abs).fset is abs and property(fset=abs).fget is None,
    "repeat": lambda x: list(itertools.repeat(object=x, times=2)),
    "round": lambda x: (round(ndigits=1, number=2.45), round(2.5, ndigits=None), round(number=2.6)),
    "sorted": lambda x: (sorted([3, 1, 2], key=operator.neg), sorted([1, 2], reverse=True)),
    "str": lambda x: (str(encoding="ascii"), str(b"a", errors="strict"), str(object=3), str()),
    "sub": lambda x: (re.sub("a", "b", string="aa", count=1), re.subn("a", "b", "aa")),
    "sum": lambda x: (sum([1, 2], start=3), sum([x, x], start=x)),
    "zip": lambda x: list(zip("ab", [1, 2], strict=True)),
    "jacobian": lambda x: torch.func.jacfwd(argnums=0, has_aux=False, func=torch.sin)(x),
}
REFUSED = {
    "accumulate with two initials": lambda x: itertools.accumulate([1], operator.add, 2),
    "add of one": lambda x: operator.add(x),
    "bytes without encoding": lambda x: bytes("a", errors="strict"),
    "checkpoint of nothing": lambda x: torch.utils.checkpoint.checkpoint(use_reentrant=False),
    "copy of nothing": lambda x: copy.copy(),
    "enumerate of two": lambda x: enumerate([1], iterable=[2]),
    "getattr without a name": lambda x: getattr(x),
    "getenv of a number": lambda x: os.getenv(1),
    "getter of nothing": lambda x: operator.itemgetter(),
    "int of a base": lambda x: int(base=8),
    "isinstance without a class": lambda x: isinstance(x),
    "len by keyword": lambda x: len(obj=[1]),
    "len of two": lambda x: len([1], [2]),
    "max of nothing": lambda x: max(),
    "next of nothing": lambda x: next(),
    "partial of nothing": lambda x: functools.partial(),
    "print of a word": lambda x: print("a", ending=""),
    "range of nothing": lambda x: range(),
    "round of a tensor": lambda x: round(x),
    "round of two digits": lambda x: round(1.5, 2, ndigits=3),
    "sorted by keyword": lambda x: sorted(iterable=[1]),
    "str of a number": lambda x: str(3, errors="strict"),
    "sum of a word": lambda x: sum([1], begin=2),
    "type of nothing": lambda x: type(),
    "zip of a word": lambda x: zip([1], strictly=True),
}


def seen(function):
    """What a call shows: result and output, or the exception."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            return repr(function(X)), output.getvalue()
    except Exception as error:
        return type(error), str(error), output.getvalue()


@pytest.mark.parametrize("name", TAKEN)
def test_arguments_by_keyword(name):
    lampwork_capture.reset()
    expected = seen(TAKEN[name])
    assert len(expected) == 2
    assert seen(lampwork_capture.optimize("eager", fullgraph=True)(TAKEN[name])) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_refuses(name):
    lampwork_capture.reset()
    expected = seen(REFUSED[name])
    assert expected[0] is TypeError
    assert seen(lampwork_capture.optimize("eager")(REFUSED[name])) == expected


OF_THE_WORLD = {  # or of the state of torch, when a call succeeds
    "breakpoint", "input", "open", "seed", "manual_seed", "set_default_device", "set_default_dtype", "set_rng_state",
    "set_grad_enabled", "_set_grad_enabled", "use_deterministic_algorithms", "_push_on_torch_function_stack",
    "_pop_torch_function_stack",
}  # fmt: skip
HANDLED = [key.value for key in registry._CALLS if getattr(key.value, "__name__", "") not in OF_THE_WORLD]


def test_no_handler_is_reached_with_arguments_that_it_does_not_know():
    """Each is called with none, with one and with two: eager may refuse, but the capture never fails."""
    assert len(HANDLED) > 200
    failed = []
    for function in HANDLED:
        for args in ((), (1,), (X, X)):
            lampwork_capture.reset()
            answer = seen(lampwork_capture.optimize("eager")(lambda x: (function(*args), x + 1)))
            if answer[0] is CaptureError:
                failed.append((function, args, answer))
    assert not failed


def test_what_is_printed():
    lampwork_capture.reset()
    assert seen(lampwork_capture.optimize("eager")(lambda x: print("a", x, sep="-", end="!")))[1].startswith("a-tensor")


def test_a_refused_call_is_a_break_that_says_why():
    lampwork_capture.reset()

    def f(x):
        try:
            return sum(x, begin=2)
        except TypeError:
            return x + 1

    (found,) = lampwork_capture.capture(f, X).graph_breaks
    assert found.break_id is BreakId.EXCEPTION_NOT_MODELLED and "no parameter `begin`" in found.cause


def prototype(a, b, /, c=1, d=(), *, e, f=None): ...


@pytest.mark.parametrize(
    "args,kwargs,bound",
    [
        ((1, 2), {"e": 3}, ([1, 2], {"e": 3})),
        ((1, 2), {"e": 3, "c": 4}, ([1, 2, 4], {"e": 3})),
        ((1, 2), {"d": 5, "f": 6, "e": 3}, ([1, 2, 1, 5], {"f": 6, "e": 3})),
        ((1, 2, 3, 4), {"e": 3}, ([1, 2, 3, 4], {"e": 3})),
    ],
)
def test_binding(args, kwargs, bound):
    assert CallShape.of(prototype).bind(args, kwargs, lambda default: default) == bound
    prototype(*args, **kwargs)


@pytest.mark.parametrize(
    "args,kwargs",
    [
        ((1,), {"e": 3}),  # `b` is missing
        ((1, 2), {}),  # `e` is missing
        ((1,), {"b": 2, "e": 3}),  # `b` takes no keyword
        ((1, 2, 3), {"c": 4, "e": 3}),  # `c` twice
        ((1, 2, 3, 4, 5), {"e": 3}),
        ((1, 2), {"e": 3, "g": 4}),
    ],
)
def test_refusing(args, kwargs):
    with pytest.raises(RefusedCall):
        CallShape.of(prototype).bind(args, kwargs, lambda default: default)
    with pytest.raises(TypeError):
        prototype(*args, **kwargs)


def test_a_default_that_cannot_be_passed_leaves_keywords():
    shape = shape_of(bytes)
    assert shape is not None and shape.bind(("a",), {"errors": "x"}, str) == (["a"], {"errors": "x"})
