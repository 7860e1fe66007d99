"""Blocks of CPython 3.10: found in the code, and pushed again where code is entered in its middle."""

import dis
import sys

import lampwork_capture
import pytest
import torch
from bytecode import ConcreteBytecode, ConcreteInstr
from bytecode.instr import InstrLocation
from lampwork_capture.bytecode.block_stack import Block, BlockStackError, block_stacks, covering
from lampwork_capture.bytecode.line_table import line_table
from lampwork_capture.interpreter.instructions import decode


def straight(names, handlers):
    """The blocks of a code without jumps that ends before its first handler."""
    end = min(handler for handler in (*handlers, len(names)) if handler >= 0)
    return block_stacks(names, handlers, lambda index: [(index + 1, 0)] if index + 1 < end else [])


def test_blocks_nest_and_handlers_have_their_own():
    names = ["SETUP_FINALLY", "SETUP_FINALLY", "NOP", "POP_BLOCK", "POP_BLOCK", "NOP", "NOP"]
    blocks = straight(names, [5, 6, -1, -1, -1, -1, -1])
    assert blocks[:5] == [(), (Block(5, 0),), (Block(5, 0), Block(6, 0)), (Block(5, 0), Block(6, 0)), (Block(5, 0),)]
    assert blocks[5:] == [(Block(-1, 0),), (Block(5, 0), Block(-1, 0))]
    with pytest.raises(BlockStackError):
        straight(["POP_BLOCK", "NOP"], [-1, -1])
    with pytest.raises(BlockStackError):
        straight(["SETUP_FINALLY", "POP_EXCEPT", "NOP"], [2, -1, -1])


def test_an_exception_enters_the_innermost_block_that_is_no_running_handler():
    outer, handling = Block(7, 1), Block(-1, 1)
    assert covering((outer, handling)) is outer
    assert covering((handling,)) is None


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="there is no block stack")
def test_blocks_of_compiled_code():
    def f(manager):
        with manager:
            try:
                return print()
            except ValueError:
                return 1

    decoded = decode(f.__code__)
    setups = {i.name: i for i in decoded.instructions if i.name in ("SETUP_WITH", "SETUP_FINALLY")}
    inside = decoded.blocks_at(setups["SETUP_FINALLY"].index + 1)
    assert inside == (Block(setups["SETUP_WITH"].value, 1), Block(setups["SETUP_FINALLY"].value, 1))
    entry = decoded.handler_at(setups["SETUP_FINALLY"].index + 1)
    assert (entry.target, entry.depth, entry.pushes) == (setups["SETUP_FINALLY"].value, 1, 6)
    handling = decoded.blocks_at(setups["SETUP_FINALLY"].value)
    assert handling == (Block(setups["SETUP_WITH"].value, 1), Block(-1, 1))
    assert len(decoded.depths) == len([i for i in dis.get_instructions(f) if i.opname != "EXTENDED_ARG"])


class Recorder:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, kind, error, trace):
        self.log.append(kind and kind.__name__)
        return kind is ValueError


def nested(x, fail_at, log):
    def step(n):
        lampwork_capture.graph_break()
        log.append(n)
        if n == fail_at:
            raise (ValueError if n % 2 else KeyError)(n)
        return n

    with Recorder(log) as first, Recorder(log):
        total = x + 1 + max(1, step(0))
        try:
            total = total * 2 + step(1)
            with Recorder(log):
                total = total + step(2) if first is not None else total
        except KeyError as error:
            total = total + 10 + step(3) + error.args[0]
        finally:
            log.append("finally")
            total = total + 100
        for i in range(4, 6):
            try:
                total = total + step(i)
            finally:
                log.append("each")
        return total + step(6)
    return "swallowed"


@pytest.mark.parametrize("fail_at", range(8))
def test_breaks_inside_nested_blocks(fail_at):
    x = torch.ones(2)

    def call(function):
        log = []
        try:
            result = function(x, fail_at, log)
        except Exception as error:
            result = (type(error), error.args)
        return (result.tolist() if isinstance(result, torch.Tensor) else result), log

    lampwork_capture.reset()
    optimized = lampwork_capture.optimize("eager")(nested)
    want = call(nested)
    assert call(optimized) == want
    assert call(optimized) == want


def lines_of(table, first_line):
    """The meaning of a line table of 3.10: a line, or None, for each instruction."""
    lines, line = [], first_line
    for length, difference in zip(table[::2], table[1::2]):
        difference -= 256 * (difference > 127)
        line += difference if difference != -128 else 0
        lines += [None if difference == -128 else line] * (length // 2)
    return lines


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="instructions have caches, and the table another form")
@pytest.mark.parametrize("lines", [[5, None, 5, 6], [5, 400, 5], [7] * 300, [None] * 200 + [5, 5], [200, 1000, 5]])
def test_line_table_says_the_line_of_each_instruction(lines):
    items = [ConcreteInstr("NOP", location=InstrLocation(line, None, None, None)) for line in lines]
    listing = ConcreteBytecode(items)
    assert lines_of(line_table(listing, 5), 5) == lines
