"""The Python examples of every README that needs the full stack run, in order, as one program each."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ["README.md", *(f"packages/{name}/README.md" for name in ("inductor_core", "inductor_cpu", "integration"))]


@pytest.mark.parametrize("readme", READMES)
def test_examples_run(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks or readme.startswith("packages/inductor_cpu")
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    exec(compile(program.read_text(encoding="utf-8"), str(program), "exec"), {"__name__": "readme"})
