"""GlobalScope: the globals and builtins that a frame sees, and where each of them comes from.

LOAD_GLOBAL of the root frame reads the frame's own globals; an inlined function has its own module, reached by import
name, or through the function itself when its globals are no module's. Invariant: a global written by the traced
program is read back from the side effects, never from the real namespace.
"""

from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, DictContains, IdentityIs
from ..source import (
    AttributeSource,
    BuiltinSource,
    FunctionGlobalSource,
    GlobalSource,
    GlobalsSource,
    ModuleSource,
    Source,
)
from .side_effects import DELETED

if TYPE_CHECKING:
    from ..variables.base import Value
    from .reconstruct import ValueEmitter
    from .tracer import FrameTracer

_ORIGINAL_BUILTINS: dict[str, Any] = dict(vars(builtins))
_MISSING: Any = object()


class GlobalScope:
    """One module's namespace. `function_source` names a function whose `__globals__` it is; None for the root frame."""

    def __init__(self, variables: dict[str, Any], function_source: Source | None, *, is_root: bool) -> None:
        self._variables = variables
        self._is_root = is_root
        self._function_source = function_source
        name = variables.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        self._module = name if module is not None and getattr(module, "__dict__", None) is variables else None

    @property
    def variables(self) -> dict[str, Any]:
        return self._variables

    @property
    def module(self) -> str | None:
        """The import name of the module whose namespace this is; None if it is of none."""
        return self._module

    def source_of(self, name: str) -> Source:
        """Where a global of this namespace comes from."""
        if self._is_root:
            return GlobalSource(name)
        if self._module is not None:
            return AttributeSource(ModuleSource(self._module), name)
        if self._function_source is not None:
            return FunctionGlobalSource(self._function_source, name)
        raise GraphBreak(BreakId.FRAME_NOT_MODELLED, f"the global `{name}` of a function with no known module")

    def load(self, tracer: FrameTracer, name: str) -> Value:
        """The value of a global or builtin."""
        pending = tracer.side_effects.pending_global(self._variables, name)
        if pending is not None and pending is not DELETED:
            return pending  # type: ignore[return-value]
        if pending is None:
            obj = self._variables.get(name, _MISSING)
            if obj is not _MISSING:
                return tracer.wrap(obj, self.source_of(name))
        return self.load_builtin(tracer, name)

    def load_builtin(self, tracer: FrameTracer, name: str) -> Value:
        """The value of a builtin. Raises an observed NameError."""
        namespace = self._variables.get("__builtins__", builtins)
        if not isinstance(namespace, dict):
            namespace = vars(namespace)
        obj = namespace.get(name, _MISSING)
        if obj is _MISSING:
            self.guard_missing(tracer, name)
            tracer.raise_observed(NameError, f"name '{name}' is not defined")
        if tracer.frame_scope.builtin_values.get(name, _MISSING) is not obj:
            cause = f"the builtin `{name}` is not that of the compiled frame"
            raise GraphBreak(BreakId.FRAME_NOT_MODELLED, cause)
        # A global of that name, made later, would hide the builtin; and the builtin may be replaced
        tracer.guard(DictContains(self._namespace_source(), name, False))
        tracer.guard(IdentityIs(BuiltinSource(name), ByIdentity(obj)))
        if obj is _ORIGINAL_BUILTINS.get(name, _MISSING):
            return tracer.constant(obj)
        return tracer.wrap(obj, BuiltinSource(name))

    def guard_missing(self, tracer: FrameTracer, name: str) -> None:
        """The program saw that there is no such global."""
        tracer.guard(self.fact_of_missing(name))

    def fact_of_missing(self, name: str) -> DictContains:
        """That there is no such global."""
        return DictContains(self._namespace_source(), name, False)

    def _namespace_source(self) -> Source:
        """The dict of globals itself."""
        if self._is_root:
            return GlobalsSource()
        if self._module is not None:
            return AttributeSource(ModuleSource(self._module), "__dict__")
        if self._function_source is not None:
            return AttributeSource(self._function_source, "__globals__")
        raise GraphBreak(BreakId.FRAME_NOT_MODELLED, "a builtin in a function with no known module")

    def emit_store(self, emitter: ValueEmitter, name: str) -> None:
        if self._is_root:
            emitter.emit("STORE_GLOBAL", name)
            return
        self.emit_namespace(emitter)
        emitter.load_constant(name)
        emitter.store_item()

    def emit_delete(self, emitter: ValueEmitter, name: str) -> None:
        if self._is_root:
            emitter.emit("DELETE_GLOBAL", name)
            return
        self.emit_namespace(emitter)
        emitter.load_constant(name)
        emitter.delete_item()

    @property
    def is_root(self) -> bool:
        return self._is_root

    def emit_namespace(self, emitter: ValueEmitter) -> None:
        """Push the dict of globals itself."""
        if self._is_root:
            emitter.begin_call(globals)
            emitter.call(0)
        elif self._module is not None:
            emitter.load_source(ModuleSource(self._module))
            emitter.load_attribute("__dict__")
        elif self._function_source is not None:
            emitter.load_source(self._function_source)
            emitter.load_attribute("__globals__")
        else:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, "a write to the globals of a function with no known module")
