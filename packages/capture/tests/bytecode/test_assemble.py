"""Disassembling and assembling keeps code as it is, and an edited copy keeps its handlers."""

import contextlib
import dis
import importlib.util
import sys
import types

import pytest
from bytecode import Instr, Label
from lampwork_capture.bytecode.assemble import assemble, disassemble, prologue_end
from lampwork_capture.bytecode.emitter import Emitter
from lampwork_capture.bytecode.liveness import Liveness, live_locals
from lampwork_capture.bytecode.stack_depth import compute_depths
from lampwork_capture.bytecode.version import JOINED, split_raw

MODULES = ["argparse", "dataclasses", "contextlib", "asyncio.tasks", "json.decoder", "functools", "tempfile", "shutil"]


def codes_of(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def listing(code):
    """What a code does, without offsets and constant order; joined instructions as those that they stand for."""
    result = []
    for item in dis.get_instructions(code):
        if item.opname in ("EXTENDED_ARG", "CACHE"):
            continue
        argument = item.argval
        if item.opcode in dis.hasjrel or item.opcode in dis.hasjabs:
            argument = "jump"
        elif isinstance(argument, types.CodeType):
            argument = argument.co_name
        elif isinstance(argument, frozenset):
            argument = sorted(map(repr, argument))
        names = [name for name, _ in split_raw(item.opname, item.arg or 0)]
        arguments = argument if item.opname in JOINED else (argument, None)
        positions = item.positions if sys.version_info >= (3, 11) else item.starts_line
        result += [(name, repr(each), positions) for name, each in zip(names, arguments)]
    return result


@pytest.mark.parametrize("module", MODULES)
def test_round_trip(module):
    specification = importlib.util.find_spec(module)
    with open(specification.origin) as file:
        code = compile(file.read(), module, "exec")
    for one in codes_of(code):
        editable = disassemble(one)
        again = assemble(editable)
        assert listing(again) == listing(one)
        if sys.version_info >= (3, 11):
            table, wanted = dis._parse_exception_table(again), dis._parse_exception_table(one)
            assert [(entry.depth, entry.lasti) for entry in table] == [(entry.depth, entry.lasti) for entry in wanted]
        assert compute_depths(editable.instructions).maximum <= one.co_stacksize
        for name in (
            "co_name",
            *(["co_qualname"] if sys.version_info >= (3, 11) else []),
            "co_argcount",
            "co_kwonlyargcount",
            "co_posonlyargcount",
            "co_flags",
            "co_freevars",
            "co_cellvars",
            "co_firstlineno",
            "co_filename",
            "co_stacksize",
        ):
            assert getattr(again, name) == getattr(one, name), (one, name)


EVENTS = []


@contextlib.contextmanager
def manager():
    EVENTS.append("in")
    try:
        yield 5
    except ValueError as error:
        EVENTS.append(f"swallowed {error}")
    finally:
        EVENTS.append("out")


def boom(x):
    raise ValueError(x)


def with_handlers(x, *rest, k=1, **kw):
    y = x + k
    for i in range(3):
        try:
            z = y * i
            boom(z)
        except ValueError as e:
            y += len(str(e))
        finally:
            y += 1
    with manager() as c:
        boom(y)
    return y, c, k, [x + q for q in rest], lambda: (x, kw)


def plain(result):
    return (*result[:4], result[4]())


@pytest.mark.parametrize("which", [0, 1, 2])
def test_jump_into_a_copy_keeps_its_handlers(which):
    editable = disassemble(with_handlers.__code__)
    instructions = editable.instructions
    stores = [i for i, item in enumerate(instructions) if isinstance(item, Instr) and item.name == "STORE_FAST"]
    at = next(i for i in stores if instructions[i].arg == "y")
    end = prologue_end(instructions)
    target = Label()
    emitter = Emitter.for_code(with_handlers.__code__)
    emitter.load_local("x")  # in a cell: the lambda closes over it
    emitter.load_local("k")
    emitter.extend([Instr("BINARY_OP", 0) if sys.version_info >= (3, 11) else Instr("BINARY_ADD")])
    emitter.jump(target)
    editable.instructions = [
        *instructions[:end],
        *emitter.instructions,
        *instructions[end:at],
        target,
        *instructions[at:],
    ]
    editable.take_plain_arguments()
    replaced = types.FunctionType(assemble(editable), globals())
    EVENTS.clear()
    expected = plain(with_handlers(which, 8, k=3, w=1))
    events = EVENTS[:]
    EVENTS.clear()
    assert plain(replaced(which, 3, (8,), {"w": 1})) == expected and EVENTS == events


def test_an_exit_in_the_middle_of_try_and_loop():
    """An inserted exit returns the stack and live locals from inside a `for` and a `try`."""

    def f(values):
        total = 0
        for value in values:
            try:
                total += value
                boom(value)
            except ValueError:
                total += 100
        return total

    editable = disassemble(f.__code__)
    instructions = editable.instructions
    at = next(
        i
        for i, item in enumerate(instructions)
        if isinstance(item, Instr) and item.arg == "boom" or isinstance(item, Instr) and item.arg == (True, "boom")
    )
    depth = compute_depths(instructions).before[at]
    live = sorted(Liveness(instructions).before(at))
    assert depth == 1 and live == ["total", "value"]
    emitter = Emitter.for_code(f.__code__)
    for name in live:
        emitter.load_local(name)
    emitter.build_tuple(depth + len(live))
    emitter.return_value()
    editable.instructions = [*instructions[:at], *emitter.instructions, *instructions[at:]]
    iterator, total, value = types.FunctionType(assemble(editable), globals())([7, 8])
    assert (list(iterator), total, value) == ([8], 7, 7)


def test_liveness_follows_exceptions_and_loops():
    def f(a, b, c, d):
        try:
            boom(a)
        except ValueError:
            return b
        while c:
            c = c - 1
        return d

    instructions = disassemble(f.__code__).instructions
    start = prologue_end(instructions)
    assert live_locals(instructions, start) == {"a", "b", "c", "d"}
    after_loop = next(i for i in range(len(instructions) - 1, 0, -1) if getattr(instructions[i], "arg", None) == "d")
    assert live_locals(instructions, after_loop) == {"d"}
    in_handler = next(i for i, item in enumerate(instructions) if getattr(item, "arg", None) == "b")
    assert live_locals(instructions, in_handler) == {"b"}


def test_locals_call_keeps_everything_alive():
    def f(a, b):
        del b
        return locals()

    instructions = disassemble(f.__code__).instructions
    last = len(instructions) - 1
    assert live_locals(instructions, last) >= {"b"}
