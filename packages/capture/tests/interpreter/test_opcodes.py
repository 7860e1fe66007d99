"""Every opcode of the running interpreter is handled, or declined by name."""

from __future__ import annotations

import dis

import lampwork_capture  # noqa: F401  (fills the table)
from lampwork_capture.interpreter import dispatch
from lampwork_capture.interpreter.instructions import decode

# Never in a code object: the compiler resolves them, or the interpreter writes them over others while it runs.
_NOT_IN_CODE = {
    "JUMP", "JUMP_NO_INTERRUPT", "POP_BLOCK", "SETUP_CLEANUP", "SETUP_FINALLY", "SETUP_WITH", "STORE_FAST_MAYBE_NULL",
    "LOAD_SUPER_METHOD", "LOAD_ZERO_SUPER_ATTR", "LOAD_ZERO_SUPER_METHOD",
}  # fmt: skip


def test_every_opcode_is_handled_or_declined():
    names = {name for name in dis.opmap if not name.startswith("INSTRUMENTED_")}
    if "LOAD_METHOD" in names and dis.opmap["LOAD_METHOD"] > 255:
        names.discard("LOAD_METHOD")
    missing = {n for n in names - _NOT_IN_CODE if not (dispatch.is_handled(n) or dispatch.is_declined(n))}
    assert not missing


def test_no_opcode_is_both_handled_and_declined():
    assert not [name for name in dis.opmap if dispatch.is_handled(name) and dispatch.is_declined(name)]


def test_decoding_agrees_with_dis():
    for function in (decode, dispatch.opcode, dis.dis, dis._unpack_opargs, dis._get_instructions_bytes):
        code = function.__code__
        wanted = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
        found = decode(code).instructions
        assert [i.opname for i in wanted] == [i.name for i in found]
        assert [i.arg or 0 for i in wanted] == [i.arg if dis.opmap[i.name] >= dis.HAVE_ARGUMENT else 0 for i in found]
        targets = {i.offset: i.argval for i in wanted if i.opcode in dis.hasjrel}
        for mine, theirs in zip(found, wanted):
            if theirs.offset in targets:
                assert found[mine.target].offset == _past_extended(code, targets[theirs.offset])


def _past_extended(code, offset):
    while dis.opname[code.co_code[offset]] == "EXTENDED_ARG":
        offset += 2
    return offset
