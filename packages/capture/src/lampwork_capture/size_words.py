"""Sizes in words: what the symbolic sizes of a captured graph may be, as its guards have it.

Beside the path, for `explain`. Invariant: it is read off the guards that are checked, so it says what is true.
"""

from __future__ import annotations

from .guards.facts import ConstantIs, Guard, GuardSet, IntegerWithin, ScalarIs
from .source import Source, TensorSizeSource, TensorStrideSource

_UNBOUNDED = 2**63 - 1


def sizes_in_words(guards: GuardSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What symbolic sizes and strides may be, and which of them became one number, each with the line that needs it."""
    accepted: list[str] = []
    specialized: list[str] = []
    for guard in guards:
        match guard.fact:
            case IntegerWithin(source, lower, upper) if _is_of_tensor(source):
                accepted.append(f"{source}: {_range(lower, upper)}")
            case ScalarIs() as fact if any(map(_is_of_tensor, fact.sources)):
                text = fact.program.text.format(*(str(source) for source in fact.sources))
                value = fact.expected.value
                accepted.append(_needed(text if value is True else f"{text} is {value!r}", guard))
            case ConstantIs(source, expected) if _is_of_tensor(source):
                specialized.append(_needed(f"{source} is {expected.value}", guard))
            case _:
                pass
    return tuple(accepted), tuple(specialized)


def _is_of_tensor(source: Source) -> bool:
    return isinstance(source, TensorSizeSource | TensorStrideSource)


def _range(lower: int, upper: int) -> str:
    return f"{lower} or more" if upper == _UNBOUNDED else f"{lower} to {upper}"


def _needed(text: str, guard: Guard) -> str:
    return text if guard.user_line is None else f"{text}, needed by {guard.user_line}"
