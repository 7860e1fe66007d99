"""Call shapes: which parameters a callable has that a handler models, and which of them an argument is for.

A handler models what a callable does with arguments that it accepts: a call that eager refuses must not reach it, and
what was passed by keyword reaches it in its place. Invariant: a shape that is not known refuses nothing.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from ..guards.facts import ByIdentity

_T = TypeVar("_T")
_Kind = inspect.Parameter
_NOT_PASSED: Any = object()  # the default of a parameter for which no argument means the same
_PASSABLE = (int, float, bool, str, bytes, type(None), tuple)


class RefusedCall(Exception):
    """Eager refuses a call for its arguments' number or names."""


@dataclass(frozen=True, slots=True)
class CallShape:
    """The parameters of a callable."""

    names: tuple[str | None, ...]  # of those that take positional arguments; None if they take no keyword
    defaults: tuple[Any, ...]  # of the last of these
    takes_more: bool  # positional arguments than it has parameters
    keywords: frozenset[str]  # of the keyword-only parameters
    needed: frozenset[str]  # those of them that have no default
    takes_any_keyword: bool

    @staticmethod
    def of(function: Any) -> CallShape:
        """The shape that `inspect.signature` reads. Raises ValueError or TypeError if there is none."""
        parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
        placed = [p for p in parameters if p.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)]
        named = [p for p in parameters if p.kind is _Kind.KEYWORD_ONLY]
        return CallShape(
            tuple(None if p.kind is _Kind.POSITIONAL_ONLY else p.name for p in placed),
            tuple(p.default for p in placed if p.default is not p.empty),
            any(p.kind is _Kind.VAR_POSITIONAL for p in parameters),
            frozenset(p.name for p in named),
            frozenset(p.name for p in named if p.default is p.empty),
            any(p.kind is _Kind.VAR_KEYWORD for p in parameters),
        )

    @property
    def fewest(self) -> int:
        """How many of the parameters before the keyword-only ones must be given."""
        return len(self.names) - len(self.defaults)

    def bind(
        self, args: Sequence[_T], kwargs: Mapping[str, _T], constant: Callable[[Any], _T]
    ) -> tuple[Sequence[_T], Mapping[str, _T]]:
        """The arguments of a call with those for positional parameters in their places. Raises RefusedCall.

        `constant` makes the argument for a parameter before them that was not given. Where its default cannot be
        passed, what follows stays among the keywords."""
        if len(args) > len(self.names) and not self.takes_more:
            raise RefusedCall(f"{len(args)} arguments for {len(self.names)} parameters")
        placed, named = self._sort(len(args), kwargs)
        missing = [i for i in range(len(args), self.fewest) if i not in placed]
        if missing or not self.needed <= named.keys():
            raise RefusedCall("an argument is missing")
        bound = list(args)
        while placed:
            index = len(bound)
            if index in placed:
                bound.append(placed.pop(index))
                continue
            default = self.defaults[index - self.fewest]
            if self.names[index] is None or not isinstance(default, _PASSABLE):
                return bound, {**{str(self.names[i]): value for i, value in placed.items()}, **named}
            bound.append(constant(default))
        return bound, named

    def _sort(self, count: int, kwargs: Mapping[str, _T]) -> tuple[dict[int, _T], dict[str, _T]]:
        """The arguments passed by keyword: those for positional parameters, by their index, and the others."""
        placed: dict[int, _T] = {}
        named: dict[str, _T] = {}
        for name, value in kwargs.items():
            if name in self.names:
                index = self.names.index(name)
                if index < count:
                    raise RefusedCall(f"`{name}` is given twice")
                placed[index] = value
            elif self.takes_any_keyword or name in self.keywords:
                named[name] = value
            else:
                raise RefusedCall(f"there is no parameter `{name}`")
        return placed, named


# What does not say itself how it is called, or not the same in every CPython
_PROTOTYPES: dict[Any, Callable[..., None]] = {
    bool: lambda x=False, /: None,
    bytes: lambda source=_NOT_PASSED, encoding=_NOT_PASSED, errors=_NOT_PASSED: None,
    classmethod: lambda function, /: None,
    complex: lambda real=0, imag=0: None,
    dict: lambda iterable=(), /, **entries: None,
    enumerate: lambda iterable, start=0: None,
    filter: lambda function, iterable, /: None,
    float: lambda x=0, /: None,
    frozenset: lambda iterable=(), /: None,
    int: lambda x=0, /, base=10: None,
    list: lambda iterable=(), /: None,
    map: lambda function, iterable, /, *iterables: None,
    object: lambda: None,
    property: lambda fget=None, fset=None, fdel=None, doc=None: None,
    range: lambda start, stop=0, step=1, /: None,
    reversed: lambda sequence, /: None,
    set: lambda iterable=(), /: None,
    slice: lambda start, stop=None, step=None, /: None,
    staticmethod: lambda function, /: None,
    str: lambda object=b"", encoding="utf-8", errors="strict": None,
    tuple: lambda iterable=(), /: None,
    type: lambda name, bases=(), namespace=(), /, **keywords: None,
    zip: lambda *iterables, strict=False: None,
    dir: lambda object=None, /: None,
    getattr: lambda object, name, default=None, /: None,
    iter: lambda object, sentinel=None, /: None,
    max: lambda first, /, *others, key=None, default=None: None,
    min: lambda first, /, *others, key=None, default=None: None,
    next: lambda iterator, default=None, /: None,
    vars: lambda object=None, /: None,
    OrderedDict: lambda iterable=(), /, **entries: None,
    defaultdict: lambda default_factory=None, iterable=(), /, **entries: None,
    deque: lambda iterable=(), maxlen=None: None,
    functools.partial: lambda function, /, *args, **keywords: None,
    functools.reduce: lambda function, iterable, initial=None, /: None,
    itertools.accumulate: lambda iterable, func=None, *, initial=None: None,
    itertools.chain: lambda *iterables: None,
    itertools.combinations: lambda iterable, r: None,
    itertools.combinations_with_replacement: lambda iterable, r: None,
    itertools.compress: lambda data, selectors: None,
    itertools.count: lambda start=0, step=1: None,
    itertools.cycle: lambda iterable, /: None,
    itertools.dropwhile: lambda predicate, iterable, /: None,
    itertools.filterfalse: lambda predicate, iterable, /: None,
    itertools.groupby: lambda iterable, key=None: None,
    itertools.islice: lambda iterable, start, stop=None, step=None, /: None,
    itertools.pairwise: lambda iterable, /: None,
    itertools.permutations: lambda iterable, r=None: None,
    itertools.product: lambda *iterables, repeat=1: None,
    itertools.repeat: lambda object, times=_NOT_PASSED: None,
    itertools.starmap: lambda function, iterable, /: None,
    itertools.takewhile: lambda predicate, iterable, /: None,
    itertools.tee: lambda iterable, n=2, /: None,
    itertools.zip_longest: lambda *iterables, fillvalue=None: None,
    operator.attrgetter: lambda name, /, *names: None,
    operator.itemgetter: lambda item, /, *items: None,
    operator.methodcaller: lambda name, /, *args, **keywords: None,
}
_KNOWN = {ByIdentity(function): prototype for function, prototype in _PROTOTYPES.items()}


def shape_of(function: Any) -> CallShape | None:
    """The shape of a callable, or None if it is not known: classes do not say what their metaclasses take."""
    prototype = _KNOWN.get(ByIdentity(function))
    if prototype is not None:
        return CallShape.of(prototype)
    if isinstance(function, type) or (isinstance(function, FunctionType) and hasattr(function, "__signature__")):
        return None
    try:
        return CallShape.of(function)
    except (TypeError, ValueError):
        return None


def takes_keywords(method: Any, names: Collection[str]) -> bool:
    """Whether a method of a builtin type takes these keywords; one that does not say so takes any."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return True
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return True
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}.issuperset(names)
