"""What the emitter emits runs, on the running CPython."""

import collections
import inspect
import sys
import types

import pytest
from bytecode import Instr
from lampwork_capture.bytecode.assemble import EditableCode, assemble, new_function_code, prologue
from lampwork_capture.bytecode.emitter import Emitter, SourceNotLoadableError
from lampwork_capture.bytecode.stack_depth import StackDepthError
from lampwork_capture.guards.facts import GLOBAL_STATE
from lampwork_capture.source import (
    AttributeSource,
    BuiltinSource,
    CellObjectSource,
    CellSource,
    ClassAttributeSource,
    ClosureSource,
    DefaultSource,
    DictKeySource,
    DictValueSource,
    FrameScope,
    FunctionGlobalSource,
    GlobalSource,
    ItemSource,
    LocalSource,
    MethodFunctionSource,
    ModuleSource,
    TypeSource,
)

A_GLOBAL = object()


def here():
    return None


def function_of(emitter: Emitter, arguments=(), freevars=(), closure=None) -> types.FunctionType:
    """A function of what was emitted."""
    editable: EditableCode = new_function_code("emitted", list(arguments), here.__code__)
    editable.freevars = list(freevars)
    editable.instructions = [*prologue([], list(freevars)), *emitter.instructions]
    return types.FunctionType(assemble(editable), globals(), closure=closure)


class SubDict(dict):
    def __getitem__(self, key):
        raise AssertionError("never called")


class Thing:
    name = "class"

    def method(self):
        return self


def sample(positional=3, *, keyword=4):
    return positional, keyword, A_GLOBAL


def closing():
    first, second = object(), object()

    def function():
        return first, second

    return function


THING = Thing()
KEY = object()
ARGUMENT = LocalSource("x")

SOURCES = [
    (ARGUMENT, THING),
    (CellSource("free"), THING),
    (CellObjectSource("free"), THING),
    (GlobalSource("A_GLOBAL"), THING),
    (BuiltinSource("len"), THING),
    (ModuleSource("collections"), THING),
    (AttributeSource(ARGUMENT, "name"), THING),
    (ItemSource(ARGUMENT, 1), [1, THING]),
    (ItemSource(ARGUMENT, -1), (1, THING)),
    (ItemSource(ARGUMENT, "k"), {"k": THING}),
    (ItemSource(ARGUMENT, ("a", 1)), collections.OrderedDict({("a", 1): THING})),
    (ItemSource(ARGUMENT, "k"), SubDict(k=THING)),
    (DictKeySource(ARGUMENT, 1), {1: 2, KEY: 3}),
    (DictValueSource(ARGUMENT, 1), {1: 2, KEY: THING}),
    (DefaultSource(ARGUMENT, 0), sample),
    (DefaultSource(ARGUMENT, "keyword"), sample),
    (ClosureSource(ARGUMENT, 1), closing()),
    (FunctionGlobalSource(ARGUMENT, "A_GLOBAL"), sample),
    (TypeSource(ARGUMENT), THING),
    (MethodFunctionSource(ARGUMENT), THING.method),
    (ClassAttributeSource(TypeSource(ARGUMENT), "method"), THING),
]


@pytest.mark.parametrize(("source", "value"), SOURCES, ids=lambda item: type(item).__name__)
def test_every_source_loads_what_it_resolves_to(source, value):
    cell = types.CellType(object())
    emitter = Emitter(freevars=["free"])
    emitter.load_source(source)
    emitter.return_value()
    loaded = function_of(emitter, ["x"], ["free"], (cell,))(value)
    scope = FrameScope({"x": value}, {"free": cell}, globals(), vars(__import__("builtins")))
    assert loaded is source.resolve(scope)


def test_sources_that_cannot_be_loaded():
    with pytest.raises(SourceNotLoadableError):
        Emitter().load_source(GLOBAL_STATE)


def test_calls():
    def record(*args, **kwargs):
        return args, kwargs

    emitter = Emitter()
    emitter.begin_call(record)
    emitter.load_constant(1)
    emitter.load_local("x")
    emitter.call(1, ("k",))
    emitter.begin_call()
    emitter.load_local("f")
    emitter.callable_ready()
    emitter.call(0)
    emitter.begin_call(record)
    emitter.load_constant((5, 6))
    emitter.load_constant("a")
    emitter.load_constant(7)
    emitter.build_dict(1)
    emitter.call_star()
    emitter.build_tuple(3)
    emitter.return_value()
    result = function_of(emitter, ["x", "f"])(2, lambda: "called")
    assert result == (((1,), {"k": 2}), "called", ((5, 6), {"a": 7}))


class Hostile:
    __hash__ = None

    def __eq__(self, other):
        raise AssertionError("constants are never compared")


def test_constants_of_any_type_keep_their_identity():
    twin_lists = [[1], [1]]
    constants = [
        *twin_lists,
        bytearray(b"a"),
        b"a",
        Hostile(),
        Hostile(),
        1,
        True,
        1.0,
        -0.0,
        0.0,
        {1: 2},
        {1: 2},
        here,
    ]
    emitter = Emitter()
    for constant in (*constants, *constants):
        emitter.load_constant(constant)
    emitter.build_tuple(2 * len(constants))
    emitter.return_value()
    result = function_of(emitter)()
    for found, expected in zip(result, (*constants, *constants), strict=True):
        assert found is expected or (type(found) is type(expected) and repr(found) == repr(expected))
    assert len(set(map(id, result))) >= len(constants) - 1


def test_containers_attributes_items_and_stack():
    emitter = Emitter()
    emitter.load_constant("v")
    emitter.load_local("x")
    emitter.store_attribute("attribute")
    emitter.load_constant("item")
    emitter.load_local("d")
    emitter.load_constant("key")
    emitter.store_item()
    emitter.load_local("d")
    emitter.load_constant("old")
    emitter.delete_item()
    emitter.load_constant(1)
    emitter.load_constant(2)
    emitter.build_list(2)
    emitter.unpack_sequence(2)  # 1 on top
    emitter.copy(2)
    emitter.swap(2)  # 2 2 1 -> top is 1
    emitter.build_list(3)
    emitter.load_constant(1)
    emitter.load_constant(None)
    emitter.build_slice(2)
    emitter.load_item()
    temporary = emitter.fresh_local("t")
    emitter.store_local(temporary)
    emitter.load_constant("gone")
    emitter.pop()
    emitter.load_local(temporary)
    emitter.delete_local(temporary)
    emitter.load_constant(3)
    emitter.build_set(1)
    emitter.load_local("x")
    emitter.load_attribute("attribute")
    emitter.build_tuple(3)
    emitter.return_value()
    thing, mapping = Thing(), {"old": 1}
    assert function_of(emitter, ["x", "d"])(thing, mapping) == ([2, 1], {3}, "v")
    assert mapping == {"key": "item"} and thing.attribute == "v"
    assert emitter.fresh_local("t") != temporary


def test_jumps_in_both_directions():
    emitter = Emitter()
    again, done = emitter.label(), emitter.label()
    emitter.place(again)
    emitter.load_local("n")
    emitter.pop_jump_if_false(done)
    emitter.load_local("n")
    emitter.load_constant(1)
    emitter.extend([Instr("BINARY_OP", 10) if sys.version_info >= (3, 11) else Instr("BINARY_SUBTRACT")])
    emitter.store_local("n")
    emitter.load_local("n")
    emitter.pop_jump_if_true(again)
    emitter.jump(again)
    emitter.place(done)
    emitter.load_constant("done")
    emitter.return_value()
    assert function_of(emitter, ["n"])(5) == "done"


def test_cells_and_functions():
    inner = (
        compile("def outer(cell):\n def inner(): return cell\n return inner", "<t>", "exec").co_consts[0].co_consts[1]
    )
    emitter = Emitter(freevars=["cell"])
    emitter.load_constant("stored")
    emitter.store_local("cell")
    emitter.make_function(inner, ["cell"])
    emitter.load_local("cell")
    emitter.make_function(here.__code__)
    emitter.build_tuple(3)
    emitter.return_value()
    cell = types.CellType(0)
    made, loaded, plain = function_of(emitter, [], ["cell"], (cell,))()
    assert made() == loaded == cell.cell_contents == "stored"
    assert plain() is None and inspect.isfunction(plain)


def test_bad_stack_is_an_error():
    emitter = Emitter()
    emitter.pop()
    with pytest.raises(StackDepthError, match="instruction"):
        function_of(emitter)
    emitter = Emitter()
    emitter.load_constant(1)
    with pytest.raises(StackDepthError, match="past the end"):
        function_of(emitter)
    emitter = Emitter()
    nowhere = emitter.label()
    emitter.jump(nowhere)
    with pytest.raises(StackDepthError, match="placed nowhere"):
        function_of(emitter)
    emitter = Emitter()
    merge = emitter.label()
    emitter.load_local("x")
    emitter.pop_jump_if_false(merge)
    emitter.load_constant(1)
    emitter.place(merge)
    emitter.load_constant(1)
    emitter.return_value()
    with pytest.raises(StackDepthError, match="depth"):
        function_of(emitter, ["x"])
