"""Which memory of a host program a caller may bring: what is allocated and still holds a result at the end.

Asked once a wrapper is written, by `program`; printed in the wrapper's form that asks for memory (`Form.given`).
Invariant: a name here is allocated by a line of the program, and results that lie in no such memory come as they always
do. A name too many costs memory, never a result: who brings memory looks at where results really lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..schedule.dependencies import views_in
from .wrapper import Allocate, ExternCall, Line, Return, TakeOver

_NOWHERE: frozenset[str] = frozenset()


def given_memory(lines: Sequence[Line]) -> tuple[str, ...]:
    """The allocations, in order, in whose memory results lie. A result may lie in the memory of a buffer that died
    before, and that in another's: then the first of them is what the caller brings."""
    roots: dict[str, frozenset[str]] = {}
    wanted: set[str] = set()
    for line in lines:
        if isinstance(line, Allocate):
            roots[line.name] = frozenset((line.name,))
        elif isinstance(line, TakeOver):
            roots[line.name] = roots.get(line.source, _NOWHERE)
        elif isinstance(line, ExternCall) and line.aliased:
            read = (view.buffer for view in views_in([*line.arguments, *line.keywords.values()]))
            lies_in = _union(roots, read)
            roots.update((name, lies_in) for _, name, _ in line.results)
        elif isinstance(line, Return):
            wanted |= _union(roots, (v.name for v in line.values if v.name is not None and not v.fresh))
    return tuple(line.name for line in lines if isinstance(line, Allocate) and line.name in wanted)


def _union(roots: dict[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    return _NOWHERE.union(*(roots.get(name, _NOWHERE) for name in names))
