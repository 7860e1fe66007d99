"""Every opcode of the running interpreter is handled, or declined by name."""

from __future__ import annotations

import dis

import lampwork_capture  # noqa: F401  (fills the table)
from bytecode import Instr
from lampwork_capture.bytecode import version
from lampwork_capture.bytecode.assemble import disassemble
from lampwork_capture.bytecode.block_stack import BLOCK_SETUPS
from lampwork_capture.interpreter import dispatch
from lampwork_capture.interpreter.instructions import decode

# Never in a code object of 3.11 or later: the compiler resolves them, or the interpreter writes them over others while
# it runs.
_NOT_IN_CODE = {
    "JUMP", "JUMP_NO_INTERRUPT", "POP_BLOCK", "SETUP_CLEANUP", "SETUP_FINALLY", "SETUP_WITH", "STORE_FAST_MAYBE_NULL",
    "LOAD_SUPER_METHOD", "LOAD_ZERO_SUPER_ATTR", "LOAD_ZERO_SUPER_METHOD",
}  # fmt: skip
# Read as the instructions that they stand for.
_JOINED = set(version.JOINED)


def test_every_opcode_is_handled_or_declined():
    names = {name for name in dis.opmap if not name.startswith("INSTRUMENTED_")}
    names -= {name for name in ("LOAD_METHOD", "LOAD_CLOSURE") if dis.opmap.get(name, 0) > 255}
    if version.PY311:
        names -= _NOT_IN_CODE
    missing = {n for n in names - _JOINED if not (dispatch.is_handled(n) or dispatch.is_declined(n))}
    assert not missing


def test_no_opcode_is_both_handled_and_declined():
    assert not [name for name in dis.opmap if dispatch.is_handled(name) and dispatch.is_declined(name)]


def test_decoding_agrees_with_dis():
    for function in (decode, dispatch.opcode, dis.dis, dis._unpack_opargs, dis._get_instructions_bytes):
        code = function.__code__
        wanted = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
        found = decode(code).instructions
        parts = [part for i in wanted for part in version.split_raw(i.opname, i.arg or 0)]
        assert [name for name, _ in parts] == [i.name for i in found]
        assert [arg for _, arg in parts] == [i.arg if dis.opmap[i.name] >= dis.HAVE_ARGUMENT else 0 for i in found]
        targets = {i.offset: i.argval for i in wanted if i.opcode in (*dis.hasjrel, *dis.hasjabs)}
        for mine in found:
            if mine.offset in targets:
                target = mine.value if mine.name in BLOCK_SETUPS else mine.target
                assert found[target].offset == _past_extended(code, targets[mine.offset])


def test_joined_instructions_are_split_in_the_same_way_everywhere():
    """What the interpreter decodes and what the assembler edits are the same instructions."""

    def several(a, b, *rest):
        total, other = a, b
        while total < other and not rest:
            total, other = other, total + 1
        return [x for x in rest if x > total], total == other, lambda: (total, other)

    for function in (several, decode, dispatch.opcode, dis.dis, dis._unpack_opargs):
        code = function.__code__
        listed = [item for item in disassemble(code).instructions if isinstance(item, Instr)]
        assert [item.name for item in listed] == [i.name for i in decode(code).instructions]
        assert not _JOINED.intersection(item.name for item in listed)


def _past_extended(code, offset):
    while dis.opname[code.co_code[offset]] == "EXTENDED_ARG":
        offset += 2
    return offset
