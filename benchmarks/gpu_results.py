"""The result file of a cell of the GPU benchmarks, and the options that ours knows in this version.

Used inside of a cell's process. Invariant: the file is whole at every moment, and says what the process is about to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lampwork.options import OptionError, stack_options


class Report:
    """The result file. `at` is what the process is about to do."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, {"contestants": {}}

    def at(self, what: str) -> None:
        """Note what comes next, and write everything."""
        self.data["at"] = what
        self.save()

    def of(self, contestant: str) -> dict[str, Any]:
        """The figures of a contestant, to be added to."""
        return self.data["contestants"].setdefault(contestant, {})

    def save(self) -> None:
        """Write the file."""
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.data))
        temporary.replace(self.path)


def refused(options: Mapping[str, Any]) -> str:
    """Why ours does not take these options, or nothing."""
    try:
        stack_options(None, options)
    except OptionError as error:
        return str(error)
    return ""


def known(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that ours knows."""
    return {name: value for name, value in options.items() if not refused({name: value})}
