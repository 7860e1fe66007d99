"""Compiles a guard set into the native tree: one node per source, shared prefixes read once, cheap checks first.

The tracer's facts come in, what the code cache checks on every call comes out (csrc/guard_tree.c). Invariants: two
sources share a node exactly when they read the same thing (1, 1.0 and True are different keys); a fact that the native
tree cannot check is an error here, never dropped.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from .. import _native
from ..bytecode.assemble import argument_slots
from ..source import (
    AttributeSource,
    BuiltinSource,
    CellObjectSource,
    CellSource,
    ClassAttributeSource,
    ClosureSource,
    DefaultSource,
    DictKeySource,
    DictValueSource,
    FunctionGlobalSource,
    GlobalSource,
    GlobalsSource,
    ItemSource,
    LocalSource,
    MethodFunctionSource,
    ModuleSource,
    Source,
    TensorSizeSource,
    TensorStrideSource,
    TypeSource,
)
from .exact import exact_key
from .facts import (
    AllDistinct,
    AttributePresent,
    ByIdentity,
    ConstantIs,
    DictContains,
    DictKeysAre,
    DynamicSize,
    Fact,
    GlobalStateIs,
    GuardSet,
    IdentityIs,
    InstanceDictLacks,
    IntegerWithin,
    LengthIs,
    SameObject,
    ScalarIs,
    SpecialMethodsAre,
    Stride,
    StrideBehind,
    TensorMatches,
    TypeIs,
    TypeIsAmong,
)
from .global_state import native_item
from .specials import SPECIAL_PLACES
from .tensor_access import device_index, dtype_code, is_fast


class UnsupportedGuardError(Exception):
    """A fact or source that the native tree has no check for."""

    def __init__(self, what: object) -> None:
        super().__init__(f"no native guard for {what!r}; record the fact about another source, or break the graph")


_WORTH_STAMPING = 12  # nodes: below that a walk is as quick


class Stamps(enum.IntEnum):
    """Whether a tree that has held notes which words of memory prove that it holds again (csrc/guard_stamp.c).

    VERIFIED: always, and each time they prove it the whole tree is walked as well; the process ends if it disagrees.
    """

    NEVER = 0
    ALWAYS = 1
    VERIFIED = 2
    WHERE_LARGE = 3


@dataclass(frozen=True, slots=True)
class Handed:
    """What a successful check hands to the replacement code: a tuple of the graph's inputs; or, if there are `extras`,
    a tuple of that one and of them. Facts speak about each source."""

    inputs: tuple[Source, ...] = ()
    extras: tuple[Source, ...] = ()


NOTHING_HANDED = Handed()

# Cheapest first, within one node.
_COST = {
    _native.CHECK_TYPE: 0,
    _native.CHECK_IDENTITY: 0,
    _native.CHECK_LENGTH: 1,
    _native.CHECK_CONSTANT: 2,
    _native.CHECK_TENSOR: 3,
    _native.CHECK_INSTANCE_DICT_LACKS: 3,
    _native.CHECK_DICT_CONTAINS: 3,
    _native.CHECK_ATTRIBUTE: 4,
    _native.CHECK_DICT_KEYS: 5,
    _native.CHECK_INTEGER: 0,
    _native.CHECK_SCALAR: 6,
    _native.CHECK_SPECIALS: 5,
    _native.CHECK_TYPE_AMONG: 1,
}


# Kinds of relation, as csrc/guard_tree.h numbers them
_SAME, _DISTINCT, _SCALAR = range(3)


class _TreeBuilder:
    """Numbers nodes and collects what they check."""

    def __init__(self, code: CodeType) -> None:
        self._arguments = {name: index for index, name in enumerate(code.co_varnames[: argument_slots(code)])}
        self._cells = {name: index for index, name in enumerate(code.co_freevars)}
        self._numbers: dict[Hashable, int] = {}
        # By identity, since equal sources may read different things: of keys 1 and True. Kept alive beside the number.
        self._known: dict[int, tuple[Source, int]] = {}
        self._nodes: list[tuple[int, int, Any, int]] = []
        self._slots: dict[int, int] = {}
        self._checks: list[list[tuple[int, Any, bool]]] = []
        self._relations: list[tuple[Any, ...]] = []
        self._state: list[tuple[int, int, int, Any, Any]] = []

    def node(self, source: Source) -> int:
        """The number of the node that reads `source`; made once."""
        known = self._known.get(id(source))
        if known is not None:
            return known[1]
        parent = -1 if source.parent is None else self.node(source.parent)
        access, key, index = self._access(source)
        identity = (parent, access, exact_key(key), index)
        number = self._numbers.get(identity)
        if number is None:
            number = len(self._nodes)
            self._numbers[identity] = number
            self._nodes.append((parent, access, key, index))
            self._checks.append([])
        self._known[id(source)] = (source, number)
        return number

    def _access(self, source: Source) -> tuple[int, Any, int]:
        """(how, key object, index) of reading a source from its parent."""
        match source:
            case LocalSource(name):
                return self._argument(source, name)
            case CellSource(name) if name in self._cells:
                return _native.ACCESS_CELL, None, self._cells[name]
            case CellObjectSource(name) if name in self._cells:
                return _native.ACCESS_CELL_OBJECT, None, self._cells[name]
            case GlobalsSource():
                return _native.ACCESS_GLOBAL, None, 0
            case GlobalSource(name):
                return _native.ACCESS_GLOBAL, name, 0
            case BuiltinSource(name):
                return _native.ACCESS_BUILTIN, name, 0
            case ModuleSource(name):
                return _native.ACCESS_MODULE, name, 0
            case AttributeSource(_, name):
                return _native.ACCESS_ATTRIBUTE, name, 0
            case ItemSource(_, key):
                return _native.ACCESS_KEY, key, 0
            case DictKeySource(_, index):
                return _native.ACCESS_NTH_KEY, None, index
            case DictValueSource(_, index):
                return _native.ACCESS_NTH_VALUE, None, index
            case DefaultSource(_, int(index)):
                return _native.ACCESS_DEFAULT, None, index
            case DefaultSource(_, str(name)):
                return _native.ACCESS_KEYWORD_DEFAULT, name, 0
            case ClosureSource(_, index):
                return _native.ACCESS_CLOSURE, None, index
            case FunctionGlobalSource(_, name):
                return _native.ACCESS_FUNCTION_GLOBAL, name, 0
            case TypeSource():
                return _native.ACCESS_TYPE, None, 0
            case MethodFunctionSource():
                return _native.ACCESS_METHOD_FUNCTION, None, 0
            case ClassAttributeSource(_, name):
                return _native.ACCESS_CLASS_ATTRIBUTE, name, 0
            case TensorSizeSource(_, dim):
                return _native.ACCESS_SIZE, None, dim
            case TensorStrideSource(_, dim):
                return _native.ACCESS_STRIDE, None, dim
            case _:
                raise UnsupportedGuardError(source)

    def _argument(self, source: Source, name: str) -> tuple[int, Any, int]:
        if name not in self._arguments:
            raise UnsupportedGuardError(source)
        return _native.ACCESS_ARGUMENT, None, self._arguments[name]

    def _slot(self, source: Source) -> int:
        return self._slots.setdefault(self.node(source), len(self._slots))

    def _check(self, fact: Fact, kind: int, argument: Any, flag: bool = False) -> None:
        self._checks[self.node(fact.source)].append((kind, argument, flag))

    def add(self, fact: Fact) -> None:
        """One more fact. Raises UnsupportedGuardError."""
        match fact:
            case TypeIs(_, expected):
                self._check(fact, _native.CHECK_TYPE, expected)
            case TypeIsAmong(_, expected):
                self._check(fact, _native.CHECK_TYPE_AMONG, expected)
            case IdentityIs(_, expected):
                self._check(fact, _native.CHECK_IDENTITY, expected.value)
            case ConstantIs(_, expected):
                self._check(fact, _native.CHECK_CONSTANT, expected.value)
            case TensorMatches():
                self._check(fact, _native.CHECK_TENSOR, _tensor_spec(fact))
            case LengthIs(_, length):
                self._check(fact, _native.CHECK_LENGTH, length)
            case DictKeysAre(_, keys):
                pairs = tuple((True, key.value) if isinstance(key, ByIdentity) else (False, key) for key in keys)
                self._check(fact, _native.CHECK_DICT_KEYS, pairs)
            case DictContains(_, key, present):
                key = key.value if isinstance(key, ByIdentity) else key
                self._check(fact, _native.CHECK_DICT_CONTAINS, key, present)
            case AttributePresent(_, name, present):
                self._check(fact, _native.CHECK_ATTRIBUTE, name, present)
            case InstanceDictLacks(_, name):
                self._check(fact, _native.CHECK_INSTANCE_DICT_LACKS, name)
            case SpecialMethodsAre(_, methods):
                expected = tuple(None if method is None else method.value for method in methods)
                self._check(fact, _native.CHECK_SPECIALS, (SPECIAL_PLACES, expected))
            case SameObject(source, other):
                self._relate(False, (source, other))
            case AllDistinct(source, others):
                self._relate(True, (source, *others))
            case IntegerWithin(_, lower, upper):
                self._check(fact, _native.CHECK_INTEGER, (lower, upper))
            case ScalarIs():
                self._add_scalar(fact)
            case GlobalStateIs(_, state):
                self._state.extend(native_item(name, value) for name, value in state)
            case _:
                raise UnsupportedGuardError(fact)

    def _add_scalar(self, fact: ScalarIs) -> None:
        steps = tuple((int(step.kind), step.value, step.count) for step in fact.program.steps)
        spec = (steps, fact.expected.value, len(fact.sources))
        if fact.others:
            self._relations.append((_SCALAR, tuple(self._slot(source) for source in fact.sources), spec))
        else:
            self._check(fact, _native.CHECK_SCALAR, spec)

    def _relate(self, distinct: bool, sources: tuple[Source, ...]) -> None:
        if len(sources) < 2:
            return
        slots = tuple(self._slot(source) for source in sources)
        if len(set(slots)) == 1 and not distinct:
            return
        self._relations.append((_DISTINCT if distinct else _SAME, slots))

    def finish(self, handed: Handed, stamps: Stamps) -> _native.GuardTree:
        """The native tree of everything added."""
        inputs, extras = (tuple(self._slot(source) for source in group) for group in (handed.inputs, handed.extras))
        nodes = tuple((*node, self._slots.get(number, -1)) for number, node in enumerate(self._nodes))
        checks = tuple(
            (number, kind, argument, flag)
            for number, of_node in enumerate(self._checks)
            for kind, argument, flag in sorted(of_node, key=lambda check: _COST[check[0]])
        )
        # Native state first: what calls Python is rarely there, and only looked at when the rest holds.
        state = tuple(sorted(self._state, key=lambda item: item[0] == 0))
        if stamps is Stamps.WHERE_LARGE:
            stamps = Stamps.ALWAYS if len(nodes) >= _WORTH_STAMPING else Stamps.NEVER
        return _native.GuardTree(nodes, checks, tuple(self._relations), state, inputs, extras, int(stamps))


def _tensor_spec(fact: TensorMatches) -> tuple[Any, ...]:
    def sizes(values: tuple[Stride, ...]) -> tuple[int | tuple[int] | None, ...]:
        return tuple(map(_number, values))

    return (
        fact.python_type,
        fact.dtype,
        fact.device,
        fact.layout,
        fact.requires_grad,
        sizes(fact.sizes),
        None if fact.strides is None else sizes(fact.strides),
        fact.dispatch_keys,
        dtype_code(fact.dtype) if is_fast() else -1,
        device_index(fact.device),
    )


def _number(value: Stride) -> int | tuple[int] | None:
    """As csrc/guard_tensor.c takes it."""
    match value:
        case StrideBehind(dim):
            return (dim,)
        case DynamicSize():
            return None
        case _:
            return int(value)


def build_tree(
    guards: GuardSet, code: CodeType, handed: Handed = NOTHING_HANDED, stamps: Stamps = Stamps.WHERE_LARGE
) -> _native.GuardTree:
    """The native tree for frames of `code`. Raises UnsupportedGuardError."""
    builder = _TreeBuilder(code)
    for guard in guards:
        builder.add(guard.fact)
    return builder.finish(handed, stamps)
