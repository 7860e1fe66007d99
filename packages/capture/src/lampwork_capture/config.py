"""Config: the settings of capture, and the only place where environment variables are read.

Invariant: a config is immutable; a conversion reads the one it was given, never the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """Settings of one `optimize` call.

    `strict`: a failure of ours raises instead of falling back to eager (`LAMPWORK_STRICT=1`). `recompile_limit`: how
    many captures of one code object are kept before it runs eagerly. `longest_chain`: attempts to place a break.
    `convert_without_tensor_work`: replace also frames that do nothing with tensors, which gains nothing; tests of the
    interpreter itself ask for it.
    `dynamic`: which sizes of input tensors are symbolic: those that are marked, and (None) those that varied, or (True)
    all. `verify`: what a short cut of the guards says is checked, and the process ends if it is wrong
    (`LAMPWORK_VERIFY=1`). `memory`: the folder that tells later processes what varied (`LAMPWORK_REMEMBER=0`: none).
    """

    fullgraph: bool = False
    strict: bool = False
    recompile_limit: int = 8
    longest_chain: int = 32
    convert_without_tensor_work: bool = False
    verify: bool = False
    dynamic: bool | None = None
    memory: Path | None = None


def config_from_environment(*, fullgraph: bool = False, dynamic: bool | None = None) -> CaptureConfig:
    """The defaults, with what the environment says."""
    limit = int(os.environ.get("LAMPWORK_RECOMPILE_LIMIT", "8"))
    return CaptureConfig(
        fullgraph=fullgraph,
        strict=_is_on("LAMPWORK_STRICT"),
        recompile_limit=limit,
        verify=_is_on("LAMPWORK_VERIFY"),
        dynamic=dynamic,
        memory=_cache_directory() / "varied" if _is_on("LAMPWORK_REMEMBER", default="1") else None,
    )


def _is_on(variable: str, default: str = "") -> bool:
    return os.environ.get(variable, default) not in ("", "0")


def _cache_directory() -> Path:
    """Where Lampwork keeps what later processes use: `LAMPWORK_CACHE_DIR`, or the user's cache folder."""
    chosen = os.environ.get("LAMPWORK_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("lampwork", appauthor=False))
