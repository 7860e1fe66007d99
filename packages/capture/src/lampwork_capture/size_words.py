"""Sizes in words: which sizes a captured graph takes, as its guards have it.

Beside the path, for `explain`. Invariant: it is read off the guards that are checked, so it says what is true.
"""

from __future__ import annotations

from .guards.facts import ConstantIs, DynamicSize, Guard, GuardSet, IntegerWithin, ScalarIs, TensorMatches
from .source import Source, TensorSizeSource, TensorStrideSource, is_module_state
from .specialized_size import SpecializedSize

_UNBOUNDED = 2**63 - 1


def accepted_sizes(guards: GuardSet) -> tuple[str, ...]:
    """The sizes of each tensor that is no module's, then what must hold between sizes, with the line that needs it."""
    bounds = {guard.fact.source: guard.fact for guard in guards if isinstance(guard.fact, IntegerWithin)}
    settled = {size.dimension: size.value for size in specialized_sizes(guards)}
    tensors: list[str] = []
    relations: list[str] = []
    for guard in guards:
        match guard.fact:
            case TensorMatches(source) as fact if fact.sizes and not is_module_state(source):
                dims = (TensorSizeSource(source, dim) for dim in range(len(fact.sizes)))
                sizes = (_size(size, dim, bounds, settled) for size, dim in zip(fact.sizes, dims))
                tensors.append(f"{source} of {' x '.join(sizes)}")
            case IntegerWithin(TensorStrideSource() as source, lower, upper):
                relations.append(f"{source}: {_range(lower, upper)}")
            case ScalarIs() as fact if any(map(_is_of_tensor, fact.sources)):
                text = fact.program.text.format(*(str(source) for source in fact.sources))
                value = fact.expected.value
                relations.append(_needed(text if value is True else f"{text} is {value!r}", guard))
            case _:
                pass
    return (*tensors, *relations)


def specialized_sizes(guards: GuardSet) -> tuple[SpecializedSize, ...]:
    """The sizes and strides that were to be symbols, and became numbers."""
    return tuple(
        SpecializedSize(str(guard.fact.source), guard.fact.expected.value, guard.operation, guard.user_line)
        for guard in guards
        if isinstance(guard.fact, ConstantIs) and _is_of_tensor(guard.fact.source)
    )


def _size(
    size: int | DynamicSize, source: TensorSizeSource, bounds: dict[Source, IntegerWithin], settled: dict[str, int]
) -> str:
    if not isinstance(size, DynamicSize):
        return str(size)
    if str(source) in settled:
        return str(settled[str(source)])
    bound = bounds.get(source)
    return "(any)" if bound is None else f"({_range(bound.lower, bound.upper)})"


def _is_of_tensor(source: Source) -> bool:
    return isinstance(source, TensorSizeSource | TensorStrideSource)


def _range(lower: int, upper: int) -> str:
    return f"{lower} or more" if upper == _UNBOUNDED else f"{lower} to {upper}"


def _needed(text: str, guard: Guard) -> str:
    if guard.user_line is None:
        return text
    by = f" by `{guard.operation}`" if guard.operation else ""
    return f"{text}, needed{by} at {guard.user_line}"
