"""SpecializedSize: a size that was to be a symbol and became one number, why, and how to keep it symbolic.

`explain` shows them, and the error for a dimension that is marked as dynamic is made of one. Invariant: it is words and
numbers only, so it can be saved and sent anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from .guards.facts import UserLine

_IN_PYTHON = (
    "Python needs the number there: for a branch, a loop, an index, a key or text. Ask it of the tensors "
    "(`torch.where`, an operation over the whole dimension), choose outside the compiled function, or mark the "
    "dimension with the bounds that hold (`mark_dynamic(x, dim, min=..., max=...)`)."
)
_IN_OPERATION = (
    "`{operation}` is given that number, a tensor of that size, or takes numbers only: compute with `{dimension}` in "
    "place of the number, and give the other tensor the same size."
)


@dataclass(frozen=True, slots=True)
class SpecializedSize:
    """`dimension` (as in `x.size(0)`) became `value` at a line of the user's; `operation`: on tensors, which did that;
    empty: Python itself."""

    dimension: str
    value: int
    operation: str
    user_line: UserLine | None

    @property
    def fate(self) -> str:
        """What became of it, and by what."""
        return f"became {self.value}" + (f", in `{self.operation}`" if self.operation else "")

    @property
    def words(self) -> str:
        """The same, with its name."""
        return f"{self.dimension} {self.fate}"

    @property
    def lines(self) -> tuple[str, ...]:
        """Where: the user's line, and what stands there."""
        line = self.user_line
        return () if line is None else (f"{line}: {line.text}" if line.text else str(line),)

    @property
    def hint(self) -> str:
        """How to keep it symbolic."""
        return (
            _IN_OPERATION.format(operation=self.operation, dimension=self.dimension) if self.operation else _IN_PYTHON
        )
