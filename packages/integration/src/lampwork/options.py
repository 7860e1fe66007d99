"""Options of `lampwork.compile`: the modes and options of `torch.compile`, as the lowering core's frozen config.

On the path before anything is captured, so that a wrong option fails at the call of `compile`, not at the first run.
Invariant: an unknown name is an error with a hint, never silently dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from lampwork_inductor_core import CompileOptions, Config

# Each mode and the options that it sets. They differ on a GPU only; on a CPU every mode is the default one.
MODES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "reduce-overhead": {},
    "max-autotune": {},
    "max-autotune-no-cudagraphs": {},
}


class OptionError(ValueError):
    """An unknown mode or option, or a value of the wrong type."""


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def core_options(
    mode: str | None, options: Mapping[str, Any] | None, *, keep_artifacts: bool = False
) -> CompileOptions:
    """The core's options for a `mode` and `options` as `torch.compile` takes them. Raises OptionError.

    Options are the fields of `Config`, and those of `ScheduleConfig` by their own names.
    """
    if mode is not None and mode not in MODES:
        raise OptionError(f"unknown mode {mode!r}: {_suggestion(str(mode), list(MODES))}")
    config = Config.from_environment()
    for name, value in {**MODES[mode or "default"], **(options or {})}.items():
        config = _with_option(config, name, value)
    # Guards have established what the lowering would check again at each call.
    return CompileOptions(config=config, check_inputs=False, keep_artifacts=keep_artifacts)


def _with_option(config: Config, name: str, value: Any) -> Config:
    parts = {"": config, "schedule": config.schedule}
    known = {f.name: part for part, fields in parts.items() for f in dataclasses.fields(fields) if f.name not in parts}
    if name not in known:
        raise OptionError(f"unknown option {name!r}: {_suggestion(name, sorted(known))}")
    current = getattr(parts[known[name]], name)
    if type(value) is not type(current):
        raise OptionError(f"option {name!r} takes a value of type {type(current).__name__}, got {value!r}")
    if known[name] == "schedule":
        return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, **{name: value}))
    return dataclasses.replace(config, **{name: value})
