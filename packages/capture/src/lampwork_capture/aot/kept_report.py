"""What a forward graph keeps for its backward pass, as data and text: part of `explain`.

A forward graph carries its report in `meta[KEPT]`, where a compiler or a tool finds it. Invariant: numbers and words
only, at the sizes of the traced call.
"""

from __future__ import annotations

from dataclasses import dataclass

from .analysis import value_root
from .partition import Partition, bytes_of, is_static
from .printer import describe_value

KEPT = "kept"
_LONGEST_LIST = 12


@dataclass(frozen=True, slots=True)
class KeptTensor:
    """A value that is kept. `bytes` is 0 for parameters and buffers, which are alive anyway."""

    name: str
    value: str
    bytes: int
    line: str


@dataclass(frozen=True, slots=True)
class KeptReport:
    """Everything that is kept, largest first; `eager_bytes` is what eager's autograd would keep."""

    tensors: tuple[KeptTensor, ...]
    kept_bytes: int
    eager_bytes: int

    def __str__(self) -> str:
        total = f"kept for the backward pass: {_size(self.kept_bytes)} (eager keeps {_size(self.eager_bytes)})"
        counted = [tensor for tensor in self.tensors if tensor.bytes]
        lines = [total]
        for tensor in counted[:_LONGEST_LIST]:
            lines.append(f"  {_size(tensor.bytes):>9}  {tensor.value:<18} {tensor.name}  {tensor.line}".rstrip())
        if len(counted) > _LONGEST_LIST:
            rest = sum(tensor.bytes for tensor in counted[_LONGEST_LIST:])
            lines.append(f"  {_size(rest):>9}  in {len(counted) - _LONGEST_LIST} more")
        return "\n".join(lines)


def report_kept(chosen: Partition) -> KeptReport:
    """The report of a partition."""
    entries = [
        KeptTensor(
            node.name,
            describe_value(node.meta.get("val")),
            0 if is_static(value_root(node)) else bytes_of(node),
            str(node.meta.get("user_line") or ""),
        )
        for node in chosen.kept
    ]
    entries.sort(key=lambda entry: -entry.bytes)
    return KeptReport(tuple(entries), chosen.kept_bytes, chosen.eager_bytes)


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
