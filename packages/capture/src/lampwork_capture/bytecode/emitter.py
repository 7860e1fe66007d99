"""Emitter: builds instruction sequences that are correct for the running CPython.

The interpreter writes graph calls, reconstructed values and exits through it; `assemble` makes code of the result.
Invariants: the emitter never names a version-dependent opcode itself (see `version`); a constant of any type may be
loaded, and one object stays one object.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Hashable, Iterable, Sequence
from types import CodeType
from typing import Any

import torch
from bytecode import Instr, Label, SetLineno
from bytecode.instr import CellVar, FreeVar, TryBegin, TryEnd

from ..source import (
    ArrayTensorSource,
    AttributeSource,
    BuiltinSource,
    CellObjectSource,
    CellSource,
    ClassAttributeSource,
    ClosureSource,
    DefaultSource,
    DictKeySource,
    DictValueSource,
    FunctionGlobalSource,
    GlobalSource,
    ItemSource,
    LocalSource,
    MethodFunctionSource,
    ModuleSource,
    Source,
    TensorSizeSource,
    TensorStrideSource,
    TypeSource,
)
from . import version
from .source_access import nth_key, nth_value, read_default, read_item, read_module

Instruction = Instr | Label | TryBegin | TryEnd | SetLineno

OWN_PREFIX = "__lampwork_"  # of the names of locals that emitted code adds

_NO_OBJECT: Any = object()
_MERGED = frozenset({int, float, complex, str, bytes})


def _nothing() -> None:
    """Called to take a NULL off the stack."""


def _is_word(text: str) -> bool:
    """Whether code objects intern a text among their constants."""
    return text.isascii() and text.replace("_", "a").isalnum()


class SourceNotLoadableError(Exception):
    """A source that no bytecode can load, like torch's global state."""

    def __init__(self, source: Source) -> None:
        super().__init__(f"`{source}` ({type(source).__name__}) cannot be loaded by bytecode; guard on it instead")
        self.source = source


class Emitter:
    """An instruction list under construction.

    `cellvars` and `freevars` are those of the code that the instructions will stand in: locals that live in cells are
    then loaded and stored through their cell, by whichever method. `taken_names` are local names that `fresh_local`
    must avoid.
    """

    def __init__(
        self,
        cellvars: Iterable[str] = (),
        freevars: Iterable[str] = (),
        taken_names: Iterable[str] = (),
    ) -> None:
        version.require_supported()
        self._instructions: list[Instruction] = []
        self._cellvars = set(cellvars)
        self._freevars = set(freevars)
        self._taken = {*taken_names, *self._cellvars, *self._freevars}
        self._next_fresh = 0
        self._literals: dict[Hashable, Any] = {}

    @classmethod
    def for_code(cls, code: CodeType) -> Emitter:
        """An emitter whose instructions will be placed in an edited copy of `code`."""
        return cls(code.co_cellvars, code.co_freevars, code.co_varnames)

    @property
    def instructions(self) -> list[Instruction]:
        """What was emitted so far (the live list)."""
        return self._instructions

    def extend(self, instructions: Iterable[Instruction]) -> None:
        """Append ready instructions."""
        self._instructions.extend(instructions)

    def emit(self, name: str, *arg: Any) -> None:
        """One raw instruction; for opcodes that are the same in every supported version."""
        self._instructions.append(Instr(name, *arg))

    # Names

    def fresh_local(self, prefix: str = "tmp") -> str:
        """A local name that no code of the user and no earlier call of this emitter has."""
        while True:
            name = f"{OWN_PREFIX}{prefix}_{self._next_fresh}"
            self._next_fresh += 1
            if name not in self._taken:
                self._taken.add(name)
                return name

    def load_local(self, name: str) -> None:
        """Push a local that is bound; one that lives in a cell is read through it."""
        if name in self._cellvars or name in self._freevars:
            self.load_cell(name)
        else:
            self.emit("LOAD_FAST", name)

    def store_local(self, name: str) -> None:
        """Pop into a local."""
        if name in self._cellvars or name in self._freevars:
            self.store_cell(name)
        else:
            self.emit("STORE_FAST", name)

    def delete_local(self, name: str) -> None:
        """Unbind a local that is bound."""
        if name in self._cellvars or name in self._freevars:
            self.emit("DELETE_DEREF", self._cell(name))
        else:
            self.emit("DELETE_FAST", name)

    def load_cell(self, name: str) -> None:
        """Push the contents of a cell or free variable."""
        self.emit("LOAD_DEREF", self._cell(name))

    def store_cell(self, name: str) -> None:
        """Pop into a cell or free variable."""
        self.emit("STORE_DEREF", self._cell(name))

    def load_closure(self, name: str) -> None:
        """Push the cell itself."""
        self._instructions.append(version.load_closure(self._cell(name)))

    def load_global(self, name: str) -> None:
        """Push a global of the frame (or the builtin of that name)."""
        self._instructions.append(version.load_global(name))

    def load_constant(self, obj: Any) -> None:
        """Push this very object, of any type."""
        self.emit("LOAD_CONST", obj)

    def load_literal(self, obj: Any) -> None:
        """Push this very number or text, even where the code has an equal one: code objects merge equal constants."""
        if type(obj) in _MERGED:
            is_interned = type(obj) is str and _is_word(obj) and sys.intern(obj) is not obj
            key = (type(obj), repr(obj) if type(obj) in (float, complex) else obj)  # 0.0 is not -0.0
            if is_interned or self._literals.setdefault(key, obj) is not obj:
                self.load_constant([obj])
                self.load_constant(0)
                self.load_item()
                return
        self.load_constant(obj)

    def _cell(self, name: str) -> CellVar | FreeVar:
        return CellVar(name) if name in self._cellvars else FreeVar(name)

    # Objects

    def load_attribute(self, name: str) -> None:
        """object -> object.name"""
        self._instructions.append(version.load_attribute(name))

    def store_attribute(self, name: str) -> None:
        """value, object -> (nothing); object.name = value"""
        self.emit("STORE_ATTR", name)

    def load_item(self) -> None:
        """container, key -> container[key]"""
        self.emit("BINARY_SUBSCR")

    def store_item(self) -> None:
        """value, container, key -> (nothing); container[key] = value"""
        self.emit("STORE_SUBSCR")

    def delete_item(self) -> None:
        """container, key -> (nothing); del container[key]"""
        self.emit("DELETE_SUBSCR")

    def delete_attribute(self, name: str) -> None:
        """object -> (nothing); del object.name"""
        self.emit("DELETE_ATTR", name)

    def build_tuple(self, n: int) -> None:
        self.emit("BUILD_TUPLE", n)

    def build_list(self, n: int) -> None:
        self.emit("BUILD_LIST", n)

    def build_set(self, n: int) -> None:
        self.emit("BUILD_SET", n)

    def build_dict(self, n: int) -> None:
        """key, value, ... (n pairs) -> dict"""
        self.emit("BUILD_MAP", n)

    def build_slice(self, n: int) -> None:
        """start, stop[, step] -> slice; n is 2 or 3"""
        self.emit("BUILD_SLICE", n)

    def unpack_sequence(self, n: int) -> None:
        """sequence -> its n items, the first on top"""
        self.emit("UNPACK_SEQUENCE", n)

    def make_function(self, code: CodeType, freevars: Sequence[str] = ()) -> None:
        """Push a new function of `code`, closed over the named cells, in the order of `code.co_freevars`."""
        if freevars:
            for name in freevars:
                self.load_closure(name)
            self.build_tuple(len(freevars))
        self.finish_function(code, 0x08 if freevars else 0)

    def finish_function(self, code: CodeType, flags: int, qualified: str | None = None) -> None:
        """defaults, keyword defaults, annotations, closure (those that `flags` name: 1, 2, 4, 8) -> a new function"""
        self.extend(version.make_function(code, flags, qualified or version.qualified_name(code)))

    # Calls

    def begin_call(self, function: Any = _NO_OBJECT) -> None:
        """Start a call: with `function` given (and not None) push it; else the caller pushes the callable next, and
        says `callable_ready`."""
        self._instructions.extend(version.before_callable())
        if function is not _NO_OBJECT and function is not None:
            self.load_constant(function)
            self.callable_ready()

    def callable_ready(self) -> None:
        """The callable of a call stands on the stack; its arguments come next."""
        self._instructions.extend(version.after_callable())

    def call(self, n_positional: int, keyword_names: Sequence[str] = ()) -> None:
        """(begin_call), callable, positional..., keyword values... -> result"""
        self._instructions.extend(version.call_sequence(n_positional, tuple(keyword_names)))

    def call_star(self) -> None:
        """(begin_call), callable, args tuple, kwargs dict -> result"""
        self.emit("CALL_FUNCTION_EX", 1)

    def call_with_tuple(self) -> None:
        """(begin_call), callable, args tuple -> result"""
        self._instructions.append(version.call_with_tuple())

    # Stack and control

    def pop(self) -> None:
        self.emit("POP_TOP")

    def copy(self, depth: int) -> None:
        """Push a copy of the value at `depth` (1 is the top)."""
        self.extend(version.copy_value(depth))

    def swap(self, depth: int) -> None:
        """Swap the top with the value at `depth` (2 is the one below the top); 1 does nothing."""
        if depth > 1:
            self.extend(version.swap_value(depth))

    def push_null(self) -> None:
        """The NULL that stands beside a callable; for rebuilding a stack that held one."""
        self.extend(version.push_null())

    def drop_null(self) -> None:
        """Take off a NULL that is on top: it becomes the one beside the callable of a call that does nothing."""
        self.load_constant(_nothing)
        self.extend(version.call_over_null())
        self.pop()

    def return_value(self) -> None:
        self.emit("RETURN_VALUE")

    def raise_value(self) -> None:
        """exception -> (raises)"""
        self.emit("RAISE_VARARGS", 1)

    def label(self) -> Label:
        """A new jump target, to be `place`d once."""
        return Label()

    def place(self, label: Label) -> None:
        self._instructions.append(label)

    def jump(self, label: Label) -> None:
        """Jump, in whichever direction the label will stand."""
        self._instructions.append(version.jump_always(label))

    def pop_jump_if_false(self, label: Label) -> None:
        self.extend([*version.to_bool(), version.pop_jump("IF_FALSE", label)])

    def pop_jump_if_true(self, label: Label) -> None:
        self.extend([*version.to_bool(), version.pop_jump("IF_TRUE", label)])

    # Sources

    def load_source(self, source: Source) -> None:
        """Push the object that a source denotes in the running call. Raises SourceNotLoadableError."""
        match source:
            case LocalSource(name):
                self.load_local(name)
            case CellSource(name):
                self.load_cell(name)
            case CellObjectSource(name):
                self.load_closure(name)
            case GlobalSource(name):
                self.load_global(name)
            case BuiltinSource(name):
                self.load_constant(builtins)
                self.load_attribute(name)
            case ModuleSource(name):
                self._call_helper(read_module, None, name)
            case ItemSource(base, key):
                self._call_helper(read_item, base, key)
            case DictKeySource(base, index):
                self._call_helper(nth_key, base, index)
            case DictValueSource(base, index):
                self._call_helper(nth_value, base, index)
            case DefaultSource(base, key):
                self._call_helper(read_default, base, key)
            case TypeSource(base) | ArrayTensorSource(base):
                self.begin_call(type if isinstance(source, TypeSource) else torch.from_numpy)
                self.load_source(base)
                self.call(1)
            case _:
                self._load_by_attribute(source)

    def _load_by_attribute(self, source: Source) -> None:
        match source:
            case AttributeSource(base, name):
                self.load_source(base)
                self.load_attribute(name)
            case MethodFunctionSource(base):
                self.load_source(base)
                self.load_attribute("__func__")
            case ClosureSource(base, index):
                self.load_source(base)
                self.load_attribute("__closure__")
                self.load_constant(index)
                self.load_item()
                self.load_attribute("cell_contents")
            case FunctionGlobalSource(base, name):
                self.load_source(base)
                self.load_attribute("__globals__")
                self.load_constant(name)
                self.load_item()
            case ClassAttributeSource(base, name):
                self.load_source(base)
                self.load_attribute("__dict__")
                self.load_constant(name)
                self.load_item()
            case TensorSizeSource(base, dim):
                self.load_source(base)
                self.load_attribute("shape")
                self.load_constant(dim)
                self.load_item()
            case TensorStrideSource(base, dim):
                self.begin_call(torch.Tensor.stride)
                self.load_source(base)
                self.load_constant(dim)
                self.call(2)
            case _:
                raise SourceNotLoadableError(source)

    def _call_helper(self, helper: Any, base: Source | None, argument: Any) -> None:
        self.begin_call(helper)
        if base is not None:
            self.load_source(base)
        self.load_constant(argument)
        self.call(1 if base is None else 2)
