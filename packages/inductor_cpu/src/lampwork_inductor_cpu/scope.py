"""Scopes: the nested blocks of a kernel's text while it is being written.

`body` puts each statement into the outermost block where everything it needs is known, so loop-invariant work leaves
the loop in the text already. Invariant: a block's text joins its parent's when it is closed, after all that was
hoisted.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from lampwork_symshape import Symbol


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the body: its C++ text (a name or a literal), dtype, and whether it has lanes."""

    text: str
    dtype: torch.dtype
    vector: bool = False


@dataclass(slots=True)
class Scope:
    """One open block: its lines so far and the values that are in scope."""

    lines: list[str] = field(default_factory=list)
    values: dict[object, Value] = field(default_factory=dict)


class ScopeStack:
    """The open blocks, outermost first, and the depth at which each loop symbol is known."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = [Scope()]
        self.symbol_depth: dict[Symbol, int] = {}
        self._names: dict[str, int] = {}

    @property
    def depth(self) -> int:
        """Position of the innermost open block."""
        return len(self.scopes) - 1

    def fresh(self, stem: str) -> str:
        """A name that is not in use yet: the stem with a number."""
        number = self._names.get(stem, 0)
        self._names[stem] = number + 1
        return f"{stem}_{number}"

    def line(self, text: str, depth: int | None = None) -> None:
        """Append a statement to a block (the innermost if not said otherwise)."""
        self.scopes[self.depth if depth is None else depth].lines.append(text)

    @contextmanager
    def block(self, headers: Sequence[str], symbols: Sequence[Symbol] = (), closing: str = "}") -> Generator[Scope]:
        """A nested block: header lines, the last of which gets the opening brace. `symbols` are known inside."""
        scope = Scope()
        self.scopes.append(scope)
        for symbol in symbols:
            self.symbol_depth[symbol] = self.depth
        try:
            yield scope
        finally:
            self.scopes.pop()
            for symbol in symbols:
                del self.symbol_depth[symbol]
        parent = self.scopes[-1].lines
        pad = ""
        for header in headers[:-1]:
            parent.append(pad + header)
            if header.startswith("for "):
                pad += "  "
        parent.append(f"{pad}{headers[-1]} {{" if headers[-1] else f"{pad}{{")
        parent.extend(f"{pad}  {line}" for line in scope.lines)
        parent.append(pad + closing)

    @contextmanager
    def rewound(self, depth: int) -> Generator[None]:
        """Work as if the blocks below `depth` were not open yet."""
        hidden = self.scopes[depth + 1 :]
        del self.scopes[depth + 1 :]
        try:
            yield
        finally:
            self.scopes.extend(hidden)
