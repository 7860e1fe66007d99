"""Call shapes: which numbers of arguments and which keywords a builtin callable takes.

A handler models what a builtin does with arguments that it accepts; a call that eager refuses must not reach it.
Invariant: a shape that is not known refuses nothing; one that is known is that of every supported CPython.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from types import MethodDescriptorType, WrapperDescriptorType
from typing import Any

from ..guards.facts import ByIdentity

_MANY = 1 << 20
_OF_A_TYPE = (MethodDescriptorType, WrapperDescriptorType)  # these live as long as a builtin type


@dataclass(frozen=True, slots=True)
class CallShape:
    """At least `fewest` and at most `most` positional arguments, and these keywords (None: any)."""

    fewest: int
    most: int
    keywords: frozenset[str] | None

    def takes(self, count: int, names: Collection[str]) -> bool:
        if self.keywords is not None and not self.keywords.issuperset(names):
            return False
        return count <= self.most and count + len(names) >= self.fewest


def _shape(fewest: int, most: int, *keywords: str) -> CallShape:
    return CallShape(fewest, most, frozenset(keywords))


_KNOWN: dict[Any, CallShape] = {
    bool: _shape(0, 1), bytes: _shape(0, 3, "source", "encoding", "errors"), classmethod: _shape(1, 1),
    staticmethod: _shape(1, 1), complex: _shape(0, 2, "real", "imag"),
    dict: CallShape(0, 1, None), enumerate: _shape(1, 2, "iterable", "start"), filter: _shape(2, 2),
    float: _shape(0, 1), frozenset: _shape(0, 1), int: _shape(0, 2, "base"), list: _shape(0, 1),
    map: _shape(2, _MANY), object: _shape(0, 0), range: _shape(1, 3), reversed: _shape(1, 1), set: _shape(0, 1),
    slice: _shape(1, 3), str: _shape(0, 3, "object", "encoding", "errors"), tuple: _shape(0, 1),
    zip: _shape(0, _MANY, "strict"), dir: _shape(0, 1), getattr: _shape(2, 3), iter: _shape(1, 2),
    max: _shape(1, _MANY, "key", "default"), min: _shape(1, _MANY, "key", "default"), next: _shape(1, 2),
    vars: _shape(0, 1), OrderedDict: CallShape(0, 1, None), defaultdict: CallShape(0, 2, None),
    deque: _shape(0, 2, "iterable", "maxlen"), itertools.chain: _shape(0, _MANY),
    itertools.islice: _shape(2, 4), itertools.repeat: _shape(1, 2, "object", "times"),
    itertools.count: _shape(0, 2, "start", "step"), itertools.zip_longest: _shape(0, _MANY, "fillvalue"),
    itertools.product: _shape(0, _MANY, "repeat"), itertools.cycle: _shape(1, 1), itertools.starmap: _shape(2, 2),
    itertools.filterfalse: _shape(2, 2), itertools.pairwise: _shape(1, 1),
    itertools.dropwhile: _shape(2, 2), itertools.takewhile: _shape(2, 2), itertools.tee: _shape(1, 2),
    itertools.compress: _shape(2, 2, "data", "selectors"), itertools.groupby: _shape(1, 2, "iterable", "key"),
    itertools.permutations: _shape(1, 2, "iterable", "r"), itertools.combinations: _shape(2, 2, "iterable", "r"),
    itertools.combinations_with_replacement: _shape(2, 2, "iterable", "r"),
    itertools.accumulate: _shape(1, 2, "iterable", "func", "initial"), functools.reduce: _shape(2, 3),
    property: _shape(0, 4, "fget", "fset", "fdel", "doc"),
}  # fmt: skip
_BUILTINS = frozenset(ByIdentity(obj) for obj in vars(builtins).values() if callable(obj))


def takes(function: Any, count: int, names: Collection[str]) -> bool:
    """Whether a call with `count` positional arguments and these keywords is not refused by its shape alone."""
    shape = _shape_of(ByIdentity(function))
    return shape is None or shape.takes(count, names)


@functools.lru_cache(maxsize=1024)
def _shape_of(key: ByIdentity) -> CallShape | None:
    function = key.value
    if getattr(type(function), "__hash__", None) is not None and function in _KNOWN:
        return _KNOWN[function]
    if key not in _BUILTINS or isinstance(function, type):
        return None
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return CallShape(len(required), _MANY if many else len(positional), None)
    keywords = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return CallShape(len(required), _MANY if many else len(positional), keywords)


def takes_keywords(method: Any, names: Collection[str]) -> bool:
    """Whether a method of a builtin type takes these keywords; one that does not say so takes any."""
    known = _known_keywords(ByIdentity(method)) if type(method) in _OF_A_TYPE else _keywords_of(method)
    return known is None or known.issuperset(names)


@functools.lru_cache(maxsize=1024)  # asking leaves work for the collector, each time
def _known_keywords(key: ByIdentity) -> frozenset[str] | None:
    return _keywords_of(key.value)


def _keywords_of(method: Any) -> frozenset[str] | None:
    """The keywords that a method takes; None for any."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
