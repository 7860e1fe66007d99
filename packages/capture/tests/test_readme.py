"""The README's examples run, in order, as one program."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    exec(compile(program.read_text(encoding="utf-8"), str(program), "exec"), {})
