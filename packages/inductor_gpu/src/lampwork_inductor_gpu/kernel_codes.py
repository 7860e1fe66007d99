"""KernelCodes: the machine code of one kernel's variants, asked for once each; and what to ask for early.

Between a launcher and the compiler. Kernels that one graph needs are compiled together: those without sizes at once,
the others as soon as their sizes are known, which the launch of any kernel of the graph tells. Invariant: asking
early changes nothing but when code is there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .compile_job import CompileJob, MachineCode
from .launch_spec import LaunchSpec, Variant


class Pending(Protocol):
    """Code that is there or on its way."""

    def result(self) -> MachineCode: ...


class Compiler(Protocol):
    """Where code comes from."""

    def request(self, job: CompileJob) -> Pending: ...


@dataclass(frozen=True, slots=True)
class _Key:
    variant: Variant
    architecture: int


@dataclass(slots=True)
class KernelCodes:
    """The variants of the kernel `name` in `text`."""

    name: str
    text: str
    spec: LaunchSpec
    compiler: Compiler
    _pending: dict[_Key, Pending] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, variant: Variant, architecture: int) -> Pending:
        """The code of a variant to come."""
        key = _Key(variant, architecture)
        with self._lock:
            pending = self._pending.get(key)
            if pending is None:
                job = self.spec.job(self.name, self.text, variant, architecture)
                pending = self._pending[key] = self.compiler.request(job)
            return pending

    def forget(self, variant: Variant, architecture: int) -> None:
        """Let the code go, as a device has it, or ask again next time."""
        with self._lock:
            self._pending.pop(_Key(variant, architecture), None)


@dataclass(slots=True)
class KernelGroup:
    """Kernels that are compiled together, and the sizes that their launches have shown, by name."""

    members: Sequence[KernelCodes]
    _known: dict[str, int] = field(default_factory=dict)
    _left: list[KernelCodes] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = list(self.members)

    def begin(self, architecture: int) -> None:
        """Ask for what needs no sizes."""
        self.sizes_are({}, architecture)

    def sizes_are(self, sizes: dict[str, int], architecture: int) -> None:
        """Ask for what is known to be needed, now that these sizes are."""
        if not self._left:
            return
        with self._lock:
            self._known.update(sizes)
            now = [codes for codes in self._left if self._known.keys() >= set(codes.spec.size_names)]
            self._left = [codes for codes in self._left if codes not in now]
            known = dict(self._known)
        for codes in now:
            given = [known[name] for name in codes.spec.size_names]
            if codes.spec.program_count(given):
                codes.request(codes.spec.variant_at(given, aligned=True), architecture)
