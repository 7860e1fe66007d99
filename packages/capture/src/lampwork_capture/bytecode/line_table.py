"""The line table of CPython 3.10: which line of the program each piece of code stands for.

From 3.11 the library that assembles writes it. Its table for 3.10 gives no line to code that follows an instruction
without one when the line is the same as before that, so tracebacks would lose it; we write this one. Invariant: an
instruction that we made has the line of the one in front; one that the compiler gave no line has none.
"""

from __future__ import annotations

import struct

from bytecode import ConcreteBytecode, ConcreteInstr, SetLineno

_NO_LINE = -128
_MOST_BYTES, _MOST_LINES = 254, 127


def line_table(listing: ConcreteBytecode, first_line: int) -> bytes:
    """`co_linetable` of a code that starts at `first_line`: pairs of a length in bytes and a difference of lines."""
    pieces: list[tuple[int, int | None]] = []  # length in bytes, line
    line: int | None = first_line
    for item in listing:
        if isinstance(item, SetLineno):
            line = item.lineno
            continue
        assert isinstance(item, ConcreteInstr)
        if item.location is not None:
            line = item.location.lineno
        if pieces and pieces[-1][1] == line:
            pieces[-1] = (pieces[-1][0] + item.size, line)
        else:
            pieces.append((item.size, line))
    table = bytearray()
    known = first_line
    for length, line in pieces:
        difference = _NO_LINE if line is None else line - known
        if line is not None:
            known = line
            while abs(difference) > _MOST_LINES:
                step = _MOST_LINES if difference > 0 else -_MOST_LINES
                table += struct.pack("Bb", 0, step)
                difference -= step
        while length > _MOST_BYTES:
            table += struct.pack("Bb", _MOST_BYTES, difference)
            length -= _MOST_BYTES
            difference = _NO_LINE if line is None else 0
        table += struct.pack("Bb", length, difference)
    return bytes(table)
