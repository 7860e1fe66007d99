"""`os.path` as text: the functions that look at a path's letters only, folded over constant paths.

Invariant: none of these looks at the file system; what eager refuses breaks the graph.
"""

from __future__ import annotations

import os
import os.path
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .registry import handles

_OF_TEXT: tuple[Callable[..., Any], ...] = (
    os.fspath,
    os.path.join,
    os.path.split,
    os.path.splitext,
    os.path.basename,
    os.path.dirname,
    os.path.isabs,
    os.path.normpath,
)


def _register_functions_of_text() -> None:
    for function in _OF_TEXT:

        @handles(function)
        def fold(
            tracer: Tracer,
            args: Sequence[Value],
            kwargs: Mapping[str, Value],
            function: Callable[..., Any] = function,
        ) -> Value:
            parts = [arg.realize() for arg in args]
            if kwargs or any(not (part.is_constant() and isinstance(part.as_constant(), str)) for part in parts):
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{function.__name__}` of what is not known text")
            return tracer.constant(function(*(part.as_constant() for part in parts)))


_register_functions_of_text()
