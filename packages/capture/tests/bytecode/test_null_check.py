"""Assembled code never takes a NULL for an object: such code crashes the process, so it must not be made."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import subprocess
import sys
import types

import lampwork_capture as capture
import pytest
import torch
from bytecode import Instr
from lampwork_capture.bytecode.assemble import assemble, disassemble, new_function_code
from lampwork_capture.bytecode.emitter import Emitter
from lampwork_capture.bytecode.null_check import NullConsumedError, check_nulls
from lampwork_capture.bytecode.stack_depth import compute_depths
from lampwork_capture.bytecode.version import copy_value, push_null


def assembled(instructions):
    editable = new_function_code("made", [], (lambda: None).__code__)
    editable.instructions += instructions
    return assemble(editable)


def call_of(count, names):
    emitter = Emitter((), ())
    emitter.load_constant(print)
    emitter.begin_call(zip)
    for value in ([], [], True):
        emitter.load_constant(value)
    emitter.call(count, names)
    emitter.emit("BUILD_TUPLE", 2)
    emitter.return_value()
    return emitter.instructions


def test_a_call_with_a_wrong_count_is_refused():
    with pytest.raises(NullConsumedError):
        assembled(call_of(3, ("strict",)))
    function = types.FunctionType(assembled(call_of(2, ("strict",))), {})
    assert function()[0] is print


@pytest.mark.parametrize("last", [Instr("POP_TOP"), Instr("RETURN_VALUE"), Instr("GET_ITER"), *copy_value(1)])
def test_a_null_taken_for_an_object_is_refused(last):
    with pytest.raises(NullConsumedError):
        assembled([*push_null(), last, Instr("LOAD_CONST", None), Instr("RETURN_VALUE")])


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_copies_and_swaps_reach_their_depth(depth):
    emitter = Emitter((), ())
    for value in range(6):
        emitter.load_constant(value)
    emitter.copy(depth)
    emitter.swap(depth)
    emitter.build_tuple(7)
    emitter.return_value()
    expected = [*range(6), 6 - depth]
    expected[-1], expected[-depth] = expected[-depth], expected[-1]
    assert types.FunctionType(assembled(emitter.instructions), {})() == tuple(expected)


def test_a_null_is_pushed_and_dropped():
    emitter = Emitter((), ())
    emitter.load_constant(1)
    emitter.push_null()
    emitter.push_null()
    emitter.drop_null()
    emitter.drop_null()
    emitter.return_value()
    assert types.FunctionType(assembled(emitter.instructions), {})() == 1


@pytest.mark.parametrize("module", [inspect, dataclasses, asyncio.base_events, subprocess], ids=lambda m: m.__name__)
def test_compiled_code_passes(module):
    codes = [value.__code__ for value in vars(module).values() if isinstance(value, types.FunctionType)]
    for cls in [value for value in vars(module).values() if isinstance(value, type)]:
        codes += [value.__code__ for value in vars(cls).values() if isinstance(value, types.FunctionType)]
    assert len(codes) > 3
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        items = disassemble(code).instructions
        compute_depths(items)
        check_nulls(items)


X = torch.ones(2)
PROGRAMS = {
    "list": lambda p, q: [1 for u in zip(p, q, strict=True)],
    "set": lambda p, q: {1 for u in zip(p, q, strict=True)},
    "dict": lambda p, q: {1: 2 for u in zip(p, q, strict=True)},
    "tuple": lambda p, q: tuple(1 for u in zip(p, q, strict=True)),
    "added": lambda p, q: [X + u for u, v in zip(p, q, strict=True)],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_strict_zip_of_unequal_lengths_raises(name):
    function = PROGRAMS[name]
    source = f"""
import sys; sys.path.insert(0, {__file__.rpartition("/")[0]!r})
import lampwork_capture, test_null_check as t
try:
    print(lampwork_capture.optimize("eager")(t.PROGRAMS[{name!r}])([t.X], []))
except ValueError as error:
    print("ValueError", error)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError) as eager:
        function([X], [])
    assert done.stdout.strip() == f"ValueError {eager.value}"
    with pytest.raises(ValueError):
        capture.optimize("eager")(function)([X], [])
