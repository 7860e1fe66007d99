"""Reconstruction: from the values of a traced frame back to real objects, as bytecode.

After the graph call, the emitted code must hold the return value, or the stack and the locals of a break, and must
replay the side effects. Invariants: a value that has a source is read from it *before* any side effect is replayed; a
value is built at most once, so identity and aliasing are kept; only tensors that are loaded become graph outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..bytecode.emitter import Emitter
from ..graph_break import BreakId, GraphBreak
from ..source import AttributeSource, ItemSource, LocalSource, Source
from .side_effects import Deleted

if TYPE_CHECKING:
    from types import CodeType

    import torch.fx

    from ..variables.base import Value
    from ..variables.cell import CellValue
    from .side_effects import SideEffects


_PLAIN_DICTS = frozenset({"_modules", "_parameters", "_buffers", "__dict__"})


def _is_plain_dict(source: Source) -> bool:
    return isinstance(source, AttributeSource) and source.name in _PLAIN_DICTS


def is_in_place(name: str, value: Value) -> bool:
    """Whether the local `name` of the root frame already holds the real object of `value`."""
    source = value.source
    return isinstance(source, LocalSource) and source.name == name


def is_held(value: Value) -> bool:
    """Whether the locals of the root frame may be all that keeps the real object of `value` alive."""
    source = value.source
    while isinstance(source, ItemSource):
        source = source.base
    return isinstance(source, LocalSource)


class SourceEmitter(Emitter):
    """An emitter that reads each shared prefix of many sources once."""

    def __init__(self, code: CodeType) -> None:
        super().__init__(code.co_cellvars, code.co_freevars, code.co_varnames)
        self._uses: dict[Source, int] = {}
        self._held: dict[Source, str] = {}

    def plan(self, sources: Iterable[Source]) -> None:
        """Announce what will be loaded."""
        for source in sources:
            node: Source | None = source
            while node is not None:
                uses = self._uses.get(node, 0)
                self._uses[node] = uses + 1
                node = node.parent if uses == 0 else None

    def load_source(self, source: Source) -> None:
        name = self._held.get(source)
        if name is not None:
            self.emit("LOAD_FAST", name)
            return
        if isinstance(source, ItemSource) and _is_plain_dict(source.base):
            self.load_source(source.base)
            self.load_constant(source.key)
            self.load_item()
        else:
            super().load_source(source)
        if source.parent is not None and self._uses.get(source, 0) > 1:
            name = self._held[source] = self.fresh_local("shared")
            self.copy(1)
            self.emit("STORE_FAST", name)


class ValueEmitter(Emitter):
    """An emitter that knows how to push the real object of a traced value.

    `preloads` names the locals into which sources must be read before anything that this emitter emits itself.
    """

    def __init__(self, code: CodeType, side_effects: SideEffects) -> None:
        super().__init__(code.co_cellvars, code.co_freevars, code.co_varnames)
        self.side_effects = side_effects
        self.preloads: dict[Source, str] = {}
        self._cell_names = {*code.co_cellvars, *code.co_freevars}
        self._built: dict[int, str] = {}
        self._building: set[int] = set()
        self._uses: dict[int, int] = {}
        self._outputs: dict[Any, str] = {}
        self._later: list[Callable[[ValueEmitter], None]] = []
        self._kept: list[Value] = []  # ids stay valid
        self._filled_cells: set[int] = set()
        self.temporaries: list[str] = []

    # For values

    def load_value(self, value: Value) -> None:
        """Push the real object of `value`: from its source, as built before, or by its `reconstruct`."""
        key = id(value)
        local = self._built.get(key)
        if local is not None:
            self.emit("LOAD_FAST", local)
            return
        source = value.source
        if source is not None:
            self.load_sourced(source)
            return
        if value.is_constant() and not isinstance(value.as_constant(), (tuple, frozenset, slice)):
            value.reconstruct(self)  # the same object however often it is loaded
            return
        if key in self._building:
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, f"{value.describe()} contains itself")
        self._building.add(key)
        self._kept.append(value)
        value.reconstruct(self)
        self._building.discard(key)
        if key not in self._built and self._uses.get(key, 2) > 1:
            self.remember(value)

    def load_sourced(self, source: Source) -> None:
        """Push what a source denoted when the frame began."""
        if isinstance(source, LocalSource) and source.name not in self._cell_names:
            self.emit("LOAD_FAST", source.name)  # locals are restored after everything was loaded
            return
        name = self.preloads.get(source)
        if name is None:
            name = self.preloads[source] = self._temporary("in")
        self.emit("LOAD_FAST", name)

    def remember(self, value: Value) -> None:
        """The object on top of the stack is `value`'s: later loads find it. A value that may contain itself calls this
        in its `reconstruct` as soon as the object exists, before it is filled."""
        name = self._temporary("object")
        self._kept.append(value)
        self._built[id(value)] = name
        self.copy(1)
        self.emit("STORE_FAST", name)

    def load_graph_output(self, node: torch.fx.Node) -> None:
        """Push what the graph computed for `node`, which thereby becomes an output of the graph."""
        name = self._outputs.get(node)
        if name is None:
            name = self._outputs[node] = self._temporary("out")
        self.emit("LOAD_FAST", name)

    def later(self, action: Callable[[ValueEmitter], None]) -> None:
        """Run `action` once the current object is built (fills what may refer to itself); stack-neutral."""
        self._later.append(action)

    def fill_root_cell(self, cell: CellValue) -> None:
        """The real cell of a cell variable of the root frame is needed: give it its contents, once."""
        if id(cell) not in self._filled_cells:
            self._filled_cells.add(id(cell))
            self._kept.append(cell)
            self._later.append(cell.emit_root_contents)

    def run_later(self) -> None:
        """Emit what was put off."""
        while self._later:
            pending, self._later = self._later, []
            for action in pending:
                action(self)

    # For the output code generation

    @property
    def outputs(self) -> dict[torch.fx.Node, str]:
        """The graph outputs that were loaded, and the local each is expected in."""
        return self._outputs

    def count_uses(self, roots: Iterable[Value]) -> None:
        """Count how often each value is reached, so that what is used once needs no local of its own."""
        stack = list(roots)
        while stack:
            value = stack.pop()
            key = id(value)
            seen = self._uses.get(key, 0)
            self._uses[key] = seen + 1
            if seen == 0:
                self._kept.append(value)
                stack.extend(value.children())
                for write in self.side_effects.attribute_writes(value).values():
                    if not isinstance(write.value, Deleted):
                        stack.append(write.value)

    def _temporary(self, prefix: str) -> str:
        name = self.fresh_local(prefix)
        self.temporaries.append(name)
        return name
