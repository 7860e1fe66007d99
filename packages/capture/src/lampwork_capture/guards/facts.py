"""Guard facts: what must hold, about which source, for a captured graph to be valid again.

The tracer records facts while it follows a frame; `guards.tree` compiles them into one native tree that is checked on
every call; `guards.reason` says in words which one failed. Invariant: a fact is immutable data; checking it has no
side effect on the user's program.
"""

from __future__ import annotations

import enum
import linecache
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..source import Source
from .scalar_program import ScalarProgram


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line of the user's program: where a guard, a break or a graph node comes from."""

    filename: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """What stands there; empty where the source is not at hand."""
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        return f'File "{self.filename}", line {self.line}, in {self.function}'


@dataclass(frozen=True, slots=True, eq=False)
class ByIdentity:
    """Holds an object whose equality must not be asked; equal only to a holder of the same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True, slots=True)
class Fact:
    """Base of all facts. `source` is what the fact speaks about."""

    source: Source


@dataclass(frozen=True, slots=True)
class TypeIs(Fact):
    """`type(source) is expected`."""

    expected: type

    def __eq__(self, other: object) -> bool:
        return type(other) is TypeIs and other.expected is self.expected and other.source == self.source

    def __hash__(self) -> int:
        return hash((self.source, id(self.expected)))  # that of a metaclass may be the program's


@dataclass(frozen=True, slots=True)
class TypeIsAmong(Fact):
    """`type(source) in expected`, a few classes of the interpreter's or torch's own."""

    expected: tuple[type, ...]


@dataclass(frozen=True, slots=True)
class IdentityIs(Fact):
    """`source is expected`. The tree holds the object by weak reference where it can (no leaks, no stale `id`)."""

    expected: ByIdentity


@dataclass(frozen=True, slots=True)
class ConstantIs(Fact):
    """Same type and equal: None, bool, int, float (bit-exact: -0.0, nan), complex, str, bytes, Ellipsis, torch.device,
    torch.Size, range, slice, tuples/frozensets of these; by identity: torch.dtype, torch.layout, enum members, code."""

    expected: ByIdentity  # compared by type and value in the tree; wrapped so that 1, 1.0 and True stay distinct facts


class DynamicSize(enum.Enum):
    """A size or stride that other facts speak about, or none."""

    ANY = "any"


@dataclass(frozen=True, slots=True)
class StrideBehind:
    """The stride of the dimension around dimension `dim`, with no gap: `size(dim) * stride(dim)`."""

    dim: int


Stride: TypeAlias = int | DynamicSize | StrideBehind


@dataclass(frozen=True, slots=True)
class TensorMatches(Fact):
    """`type(source) is python_type` (Tensor or Parameter) with these properties.

    Entries of `sizes` and `strides` may be DynamicSize.ANY, those of `strides` StrideBehind."""

    python_type: type
    dtype: torch.dtype
    device: torch.device
    layout: torch.layout
    requires_grad: bool
    sizes: tuple[int | DynamicSize, ...]
    strides: tuple[Stride, ...] | None  # None: layout without strides
    dispatch_keys: (
        int  # raw key set, so that functorch wrappers, inference tensors, conj/neg bits never match by accident
    )


@dataclass(frozen=True, slots=True)
class LengthIs(Fact):
    """`len(source) == length`, for exact builtin containers."""

    length: int


@dataclass(frozen=True, slots=True)
class DictKeysAre(Fact):
    """`list(source) == keys` in order, of a dict or a set; `keys` are constants or ByIdentity holders."""

    keys: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class DictContains(Fact):
    """`(key in source) is present`, for a dict or a set."""

    key: Any
    present: bool


@dataclass(frozen=True, slots=True)
class AttributePresent(Fact):
    """`hasattr(source, name) is present`, through instance dict and type lookup, without running `__getattr__` code."""

    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class InstanceDictLacks(Fact):
    """`name not in source.__dict__`: an attribute found on the type is not shadowed by the instance."""

    name: str


@dataclass(frozen=True, slots=True)
class SpecialMethodsAre(Fact):
    """The class `source` has these special methods, as `guards.specials` tells them."""

    methods: tuple[ByIdentity | None, ...]


@dataclass(frozen=True, slots=True)
class SameObject(Fact):
    """`source is other`."""

    other: Source


@dataclass(frozen=True, slots=True)
class AllDistinct(Fact):
    """No two of `source, *others` are the same object (tensors that were distinct inputs when traced)."""

    others: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class IntegerWithin(Fact):
    """`type(source) is int` and `lower <= source <= upper`; both bounds fit in 64 bits."""

    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class ScalarIs(Fact):
    """What `program` computes from the numbers at `source, *others` is exactly `expected`, in type and value.

    The numbers are exact ints and floats: other facts say so, earlier."""

    others: tuple[Source, ...]
    program: ScalarProgram
    expected: ByIdentity

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source, *self.others)


@dataclass(frozen=True, slots=True)
class GlobalStateIs(Fact):
    """Process and thread state that changes what torch does, as `guards.global_state` reads it: grad mode, autocast,
    default dtype and device, deterministic flags, threads, mode stacks ... `source` is always `GLOBAL_STATE`."""

    state: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _GlobalState(Source):
    def __str__(self) -> str:
        return "torch's global state"


GLOBAL_STATE = _GlobalState()


@dataclass(frozen=True, slots=True)
class Guard:
    """A fact with the user's line that made it necessary, and the operation on tensors that did (empty: Python)."""

    fact: Fact
    user_line: UserLine | None = None
    operation: str = ""


class GuardSetBuilder:
    """Collects facts once each, in the order they were needed. `freeze()` ends it."""

    def __init__(self) -> None:
        self._lines: dict[Fact, UserLine | None] = {}  # of each fact the line that needed it first
        self._late: list[Callable[[], Iterable[Guard]]] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, fact: Fact, user_line: UserLine | None = None) -> None:
        self._lines.setdefault(fact, user_line)

    def extend(self, facts: Iterable[Fact], user_line: UserLine | None = None) -> None:
        for fact in facts:
            self.add(fact, user_line)

    def add_late(self, guards: Callable[[], Iterable[Guard]]) -> None:
        """Guards that are asked for when the set is frozen: those of numbers are known only then."""
        self._late.append(guards)

    def freeze(self) -> GuardSet:
        late = [guard for guards in self._late for guard in guards()]
        return GuardSet((*(Guard(fact, line) for fact, line in self._lines.items()), *late))


@dataclass(frozen=True, slots=True)
class GuardSet:
    """What must hold for one captured frame to be used again."""

    guards: tuple[Guard, ...]

    def __iter__(self) -> Iterator[Guard]:
        return iter(self.guards)

    def __len__(self) -> int:
        return len(self.guards)
