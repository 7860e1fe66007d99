"""What the environment says to this stage, read in one place.

Read when a graph is compiled, never on a call. Invariant: the values are fixed for one compile.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """`strict`: raise instead of running eagerly (LAMPWORK_STRICT). `verify`: check every graph (LAMPWORK_VERIFY)."""

    strict: bool = False
    verify: bool = False

    @staticmethod
    def from_environment() -> Settings:
        return Settings(strict=_flag("LAMPWORK_STRICT"), verify=_flag("LAMPWORK_VERIFY"))


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")
