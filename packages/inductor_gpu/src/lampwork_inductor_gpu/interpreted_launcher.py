"""The launcher's call under Triton's interpreter (`TRITON_INTERPRET=1`), on CPU tensors.

Beside `launcher`; imported under the interpreter only. Invariant: the same arguments as on a card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton.language as tl

from .compile_job import TritonType
from .launch_spec import LaunchSpec


@dataclass(slots=True)
class InterpretedLauncher:
    """A `@triton.jit` function as the wrapper calls it."""

    function: Any
    spec: LaunchSpec

    def __call__(self, *arguments: Any) -> None:
        sizes = self.spec.sizes(arguments)
        programs = self.spec.program_count(sizes)
        if programs:
            constants = self.spec.constants_of(narrow=self.spec.narrow_at(sizes))
            values = {k: getattr(tl, v.name) if isinstance(v, TritonType) else v for k, v in constants.items()}
            self.function[(programs,)](*arguments, **values)
