"""CellValue: a closure cell: one the frame was born with, one it made, or one of an inlined function.

Cells hold what `nonlocal` shares. Three cases: a cell of the outside world (read through its source, written back at
replay), a cell variable of the root frame (lives in the real frame's own cell), a cell of an inlined frame (made anew
if it escapes). Invariant: one real cell is one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import CellType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..source import CellObjectSource, Source
from .base import Tracer, Value

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_UNREAD: Any = object()


class CellValue(Value):
    """A cell. `contents` is None while it is empty."""

    kind = "a closure cell"
    __slots__ = ("_contents", "_contents_source", "_initial", "cell", "in_root", "name")

    def __init__(self, name: str, source: Source | None) -> None:
        super().__init__(source)
        self.name = name
        self.cell: CellType | None = None
        self.in_root = False
        self._contents: Value | None = None
        self._contents_source: Source | None = None
        self._initial: Value | None = None

    @classmethod
    def new(cls, name: str, contents: Value | None, *, in_root: bool) -> CellValue:
        """A cell made while tracing; `in_root`: it is the cell variable `name` of the root frame."""
        value = cls(name, None)
        value.in_root = in_root
        value._contents = value._initial = contents
        return value

    @classmethod
    def existing(cls, name: str, cell: CellType, source: Source, contents_source: Source) -> CellValue:
        """A real cell, whose contents are wrapped at their first use."""
        value = cls(name, source)
        value.cell = cell
        value._contents = _UNREAD
        value._contents_source = contents_source
        return value

    def python_type(self) -> type:
        return CellType

    def load(self, tracer: Tracer) -> Value | None:
        """The contents, or None if the cell is empty."""
        contents = self._contents
        if contents is _UNREAD:
            assert self.cell is not None and self._contents_source is not None
            try:
                obj = self.cell.cell_contents
            except ValueError:
                raise GraphBreak(
                    BreakId.FRAME_NOT_MODELLED, f"the free variable `{self.name}` is not assigned yet"
                ) from None
            contents = self._contents = tracer.wrap(obj, self._contents_source)
        elif contents is not None and contents is self._initial and hasattr(contents, "obj"):
            # an argument of the root frame that lives in a cell: wrapped at its first use
            contents = self._contents = tracer.wrap_unread(contents)
            self._initial = contents
        return contents

    def store(self, tracer: Tracer, value: Value | None) -> None:
        """Assign, or empty the cell with None."""
        self._contents = value
        tracer.side_effects.mutated(self)

    def peek(self) -> Value | None:
        """The contents as far as known, without wrapping anything."""
        return None if self._contents is _UNREAD else self._contents

    @property
    def contents_source(self) -> Source | None:
        """Where what a real cell held before the frame comes from."""
        return self._contents_source

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "cell_contents":
            contents = self.load(tracer)
            if contents is not None:
                return contents
            tracer.raise_observed(ValueError, "Cell is empty")
        return super().get_attribute(tracer, name)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        if name != "cell_contents":
            super().set_attribute(tracer, name, value)
        self.store(tracer, value)

    def children(self) -> Sequence[Value]:
        contents = self.peek()
        return () if contents is None else (contents,)

    # Back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.in_root:
            emitter.load_closure(self.name)
            emitter.fill_root_cell(self)
            return
        emitter.begin_call(CellType)
        emitter.call(0)
        emitter.remember(self)
        contents = self._contents
        if contents is None:
            return

        def fill(later: ValueEmitter) -> None:
            later.load_value(contents)
            later.load_value(self)
            later.store_attribute("cell_contents")

        emitter.later(fill)

    def emit_root_contents(self, emitter: ValueEmitter) -> None:
        """For a cell variable of the root frame: bring the real cell to the present contents."""
        if self._contents is self._initial:
            return
        if self._contents is None:
            emitter.delete_local(self.name)
        else:
            emitter.load_value(self._contents)
            emitter.store_cell(self.name)

    def write_back(self, emitter: ValueEmitter) -> None:
        contents = self._contents
        if isinstance(self.source, CellObjectSource):
            if contents is None:  # it may be empty already, which no deletion takes
                emitter.load_constant(None)
                emitter.store_cell(self.source.name)
                emitter.delete_local(self.source.name)
            else:
                emitter.load_value(contents)
                emitter.store_cell(self.source.name)
            return
        if contents is None:
            emitter.load_constant(None)
            emitter.load_value(self)
            emitter.store_attribute("cell_contents")
            emitter.load_value(self)
            emitter.delete_attribute("cell_contents")
        else:
            emitter.load_value(contents)
            emitter.load_value(self)
            emitter.store_attribute("cell_contents")
