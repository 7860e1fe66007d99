"""Reachability: an instruction list without what nothing leads to.

A copy of a user's code that is entered in its middle keeps only what can run from there. Invariant: exception entries
that cover nothing that is kept are dropped with it.
"""

from __future__ import annotations

from bytecode import Instr, Label
from bytecode.instr import TryBegin, TryEnd

from .emitter import Instruction
from .stack_depth import exception_regions, handler_label, label_positions
from .version import falls_through


def drop_unreachable(items: list[Instruction]) -> list[Instruction]:
    """The list without instructions that nothing reaches, and without exception entries that cover none."""
    labels = label_positions(items)
    regions = exception_regions(items)
    reached: set[int] = set()
    pending = [0]
    while pending:
        index = pending.pop()
        while index < len(items) and index not in reached:
            reached.add(index)
            item = items[index]
            if isinstance(item, Instr):
                region = regions[index]
                if region is not None:
                    pending.append(labels[handler_label(region)])
                if isinstance(item.arg, Label):
                    pending.append(labels[item.arg])
                if not falls_through(item):
                    break
            index += 1
    used = {
        id(region)
        for index, region in enumerate(regions)
        if region is not None and index in reached and isinstance(items[index], Instr)
    }
    targets: set[Label] = set()
    for index in reached:
        item = items[index]
        if isinstance(item, Instr) and isinstance(item.arg, Label):
            targets.add(item.arg)
    targets |= {handler_label(r) for r in regions if r is not None and id(r) in used}
    kept: list[Instruction] = []
    for index, item in enumerate(items):
        if isinstance(item, TryBegin):
            keep = id(item) in used
        elif isinstance(item, TryEnd):
            keep = id(item.entry) in used
        elif isinstance(item, Label):
            keep = item in targets
        else:
            keep = index in reached or not isinstance(item, Instr)
        if keep:
            kept.append(item)
    return kept
