"""Options of `lampwork.compile`: the modes and options of `torch.compile`, as the lowering core's frozen config.

On the path before anything is captured, so that a wrong option fails at the call of `compile`, not at the first run.
Invariant: an unknown name is an error with a hint, never silently dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from lampwork_inductor_core.config import Config

_MODES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    # These differ on a GPU only; on a CPU every mode is the default one.
    "reduce-overhead": {},
    "max-autotune": {},
    "max-autotune-no-cudagraphs": {},
}


class OptionError(ValueError):
    """An unknown mode or option, or a value of the wrong type."""


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def core_options(mode: str | None, options: Mapping[str, Any] | None) -> Config:
    """The core's config for a `mode` and `options` as `torch.compile` takes them. Raises OptionError."""
    if mode is not None and mode not in _MODES:
        raise OptionError(f"unknown mode {mode!r}: {_did_you_mean(str(mode), list(_MODES))}")
    chosen = dict(_MODES[mode or "default"])
    base = Config()
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    for name, value in (options or {}).items():
        if name not in fields:
            raise OptionError(f"unknown option {name!r}: {_did_you_mean(name, list(fields))}")
        if fields[name] is not None and type(value) is not type(fields[name]):
            expected = type(fields[name]).__name__
            raise OptionError(f"option {name!r} takes a value of type {expected}, got {value!r}")
        chosen[name] = value
    return dataclasses.replace(base, **chosen)
