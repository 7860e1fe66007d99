"""Varying numbers: what changed between the calls of a code object: ints, floats, and the sizes and strides of tensors.

The frame callback notes them when no cache entry fits; the next trace of that code takes them as inputs. Invariants: a
history that was handed out never changes; only `note` and `begin` write, and a reader sees the old one or the new one;
nothing is kept of a code object that is gone, but on disk (`size_memory`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType

import torch

from .bytecode.code_map import CodeMap
from .guards.exact import same_constant
from .guards.facts import ConstantIs, DynamicSize, GuardSet, StrideBehind, TensorMatches, TypeIs
from .size_memory import History, Number, SizeMemory
from .source import FrameScope, Source, TensorSizeSource, TensorStrideSource, is_module_state

_REMEMBERED = 16  # calls whose numbers are compared; enough to tell apart what is equal by chance


@dataclass(frozen=True, slots=True)
class Varying:
    """The numbers of one code object that varied: by source, what they were in the calls that were noted.

    `remembered`: the same of earlier processes, by the words of the source; their calls are numbered below 0.
    """

    values: Mapping[Source, Mapping[int, Number]] = field(default_factory=dict[Source, Mapping[int, Number]])
    remembered: History = field(default_factory=dict[str, Mapping[int, Number]])

    def __bool__(self) -> bool:
        return bool(self.values or self.remembered)

    def __contains__(self, source: object) -> bool:
        return source in self.values or (bool(self.remembered) and str(source) in self.remembered)

    def have_varied_alike(self, first: Source, second: Source) -> bool:
        """Whether two numbers changed and were equal in each call in which both were noted."""
        one, other = self._history(first), self._history(second)
        common = one.keys() & other.keys()
        return len(common) >= 2 and all(one[call] == other[call] for call in common)

    def earlier_values(self, source: Source) -> Iterator[Number]:
        """What a number was, the latest first."""
        known = self._history(source)
        return (known[call] for call in sorted(known, reverse=True))

    def all_by_words(self) -> History:
        """All of it, by the words of the sources."""
        names = dict.fromkeys((*self.remembered, *map(str, self.values)))
        found = {words: dict(self.remembered.get(words, {})) for words in names}
        for source, known in self.values.items():
            found[str(source)].update(known)
        return found

    def _history(self, source: Source) -> Mapping[int, Number]:
        known = self.values.get(source, {})
        return {**self.remembered.get(str(source), {}), **known} if self.remembered else known


NOTHING_VARIES = Varying()


class VaryingNumbers:
    """The histories of code objects. `memory`: where those of other processes are kept; None: nowhere."""

    def __init__(self, memory: SizeMemory | None = None) -> None:
        self._memory = memory
        self._of: CodeMap[Varying] = CodeMap()

    def of(self, code: CodeType) -> Varying:
        """What is known to vary of a code object."""
        return self._of.get(code, NOTHING_VARIES)

    def note(self, code: CodeType, entries: Iterable[tuple[int, GuardSet]], call: int, scope: FrameScope) -> None:
        """Note what differs in this call from those that entries were made for, by the number of each call."""
        known_before = self.of(code)
        before = known_before.values
        values = {source: dict(known) for source, known in before.items()}
        readable: set[Source] = set()
        for made, guards in entries:
            reader = _Reader(guards, scope)
            readable |= reader.tensors()
            for source, old, new in changed_numbers(guards, reader):
                values.setdefault(source, {}).update({made: old, call: new})
        for source in before:
            now = _number_at(source, scope) if source.parent in readable else None
            if now is not None:
                values[source][call] = now
        if not values:
            return
        for known in values.values():
            for old_call in sorted(known)[:-_REMEMBERED]:
                del known[old_call]
        self._of[code] = found = Varying(values, known_before.remembered)
        if self._memory is not None:
            self._memory.keep(code, _latest(found.all_by_words()))

    def begin(self, code: CodeType) -> None:
        """The code object is captured anew: what was noted is forgotten, what is remembered on disk counts."""
        remembered = {} if self._memory is None else self._memory.recall(code)
        if remembered:
            self._of[code] = Varying(remembered=remembered)
        else:
            self._of.discard(code)


def _latest(history: History) -> History:
    """The last calls of each number."""
    return {words: {call: known[call] for call in sorted(known)[-_REMEMBERED:]} for words, known in history.items()}


def _number_at(source: Source, scope: FrameScope) -> Number | None:
    """The size or stride at a source whose tensor may be read; None where there is none."""
    if isinstance(source, TensorSizeSource | TensorStrideSource):
        tensor = _tensor_at(source.base, scope)
        if tensor is None or source.dim >= tensor.dim():
            return None
        return tensor.size(source.dim) if isinstance(source, TensorSizeSource) else tensor.stride(source.dim)
    return None


def _tensor_at(source: Source, scope: FrameScope) -> torch.Tensor | None:
    try:
        value = source.resolve(scope)
    except Exception:
        return None
    return value if type(value) is torch.Tensor and value.layout is torch.strided else None


class _Reader:
    """Reads sources of a call whose parents are of the classes that they were guarded to be of: reading from an object
    of another class may run code of the program."""

    def __init__(self, guards: GuardSet, scope: FrameScope) -> None:
        self.scope = scope
        self._guards = guards
        self._kinds = {guard.fact.source: guard.fact.expected for guard in guards if isinstance(guard.fact, TypeIs)}
        self._known: dict[Source, bool] = {}

    def tensors(self) -> set[Source]:
        """Where the guarded tensors stand that may be read."""
        sources = (guard.fact.source for guard in self._guards if isinstance(guard.fact, TensorMatches))
        return {source for source in sources if self.reads_alike(source.parent)}

    def reads_alike(self, source: Source | None) -> bool:
        if source is None:
            return True
        if source not in self._known:
            alike = self._known[source] = self.reads_alike(source.parent)
            if alike and source in self._kinds:
                try:
                    self._known[source] = type(source.resolve(self.scope)) is self._kinds[source]
                except Exception:
                    self._known[source] = False
        return self._known[source]


def changed_numbers(guards: GuardSet, reader: _Reader) -> Iterator[tuple[Source, Number, Number]]:
    """The sources that were guarded to be one number and are another one of its type now, with both."""
    scope = reader.scope
    for guard in guards:
        fact = guard.fact
        if isinstance(fact, TensorMatches):
            of_module = is_module_state(fact.source) and fact.python_type is not torch.Tensor  # a buffer may grow
            if reader.reads_alike(fact.source.parent) and not of_module:
                yield from _changed_sizes(fact, scope)
        elif isinstance(fact, ConstantIs) and type(fact.expected.value) in (int, float):
            if not reader.reads_alike(fact.source.parent):
                continue
            try:
                value = fact.source.resolve(scope)
            except Exception:
                continue
            if type(value) is type(fact.expected.value) and not same_constant(value, fact.expected.value):
                yield fact.source, fact.expected.value, value


def _changed_sizes(fact: TensorMatches, scope: FrameScope) -> Iterator[tuple[Source, Number, Number]]:
    if fact.python_type is not torch.Tensor or fact.strides is None:
        return
    tensor = _tensor_at(fact.source, scope)
    if tensor is None or tensor.dim() != len(fact.sizes):
        return
    for dim, size in enumerate(fact.sizes):
        if not isinstance(size, DynamicSize) and tensor.size(dim) != size:
            yield TensorSizeSource(fact.source, dim), size, tensor.size(dim)
    behind = strides_behind(tensor)
    for dim, stride in enumerate(fact.strides):
        if isinstance(stride, int) and tensor.stride(dim) != stride and behind[dim] is None:
            yield TensorStrideSource(fact.source, dim), stride, tensor.stride(dim)


def strides_behind(tensor: torch.Tensor) -> tuple[StrideBehind | None, ...]:
    """For each dimension the one that it is just around: the size of that times its stride is the stride here.

    None: there are gaps, or it is the innermost. Following these leads inwards, never round.
    """
    sizes, strides = tensor.shape, tensor.stride()
    inwards: list[int] = []
    found: list[StrideBehind | None] = [None] * len(sizes)
    for dim in sorted(range(len(sizes)), key=lambda dim: (strides[dim], -dim)):
        inner = next((i for i in reversed(inwards) if sizes[i] * strides[i] == strides[dim]), None)
        found[dim] = None if inner is None else StrideBehind(inner)
        inwards.append(dim)
    return tuple(found)
