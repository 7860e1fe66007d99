"""Build every distribution and smoke-test it alone in a clean environment. Run by `nox -s build`.

    python tests/distributions.py WORK_FOLDER

The wheels of `lampwork-capture` and of the full stack, with the siblings that they need, are installed by path into
environments of their own and tried. `lampwork-capture` alone must bring neither Triton nor a lowering package, and must
extract a graph. (The other packages are installed alone, from wheels, by `nox -s unit`.)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("symshape", "capture", "inductor_core", "inductor_cpu", "inductor_gpu", "integration")

CAPTURE_ALONE = """
import importlib.util, torch, lampwork_capture
for absent in ("triton", "lampwork", "lampwork_inductor_core", "lampwork_inductor_cpu", "lampwork_inductor_gpu"):
    assert importlib.util.find_spec(absent) is None, f"{absent} came along"
graphs = []
def backend(graph, example_inputs):
    graphs.append(graph)
    return graph.forward
compiled = lampwork_capture.optimize(backend, fullgraph=True)(lambda x: torch.relu(x) + 1)
x = torch.randn(4)
assert torch.equal(compiled(x), torch.relu(x) + 1) and len(graphs) == 1
print("capture alone: one graph")
"""

FULL_STACK = """
import torch
x = torch.randn(4, 8)
f = lambda t: torch.softmax(t * 2, -1)
with torch.no_grad():
    torch.testing.assert_close(torch.compile(f, backend="lampwork", fullgraph=True)(x), f(x))
print("full stack: compiled and equal")
"""

# Environment: (wheels to install, program that must run there).
SMOKE = {
    "capture": (("lampwork_symshape", "lampwork_capture"), CAPTURE_ALONE),
    "stack": (
        (
            "lampwork_symshape",
            "lampwork_capture",
            "lampwork_inductor_core",
            "lampwork_inductor_cpu",
            "lampwork_inductor_gpu",
            "lampwork",
        ),
        FULL_STACK,
    ),
}


def run(*command: str | Path, **options: object) -> None:
    """Run a command; its failure ends the program."""
    print("+", *command, flush=True)
    subprocess.run([str(c) for c in command], check=True, **options)  # type: ignore[call-overload]


def main(work: Path) -> None:
    """Build all, then install and try each of `SMOKE`."""
    wheels = work / "wheels"
    for folder in FOLDERS:
        # Without isolation options: sdist first, and the wheel from that sdist, so both are known to work.
        run(sys.executable, "-m", "build", "--outdir", wheels, ROOT / "packages" / folder)
    built = sorted(p.name for p in wheels.glob("*.whl"))
    assert len(built) == len(FOLDERS) and len(list(wheels.glob("*.tar.gz"))) == len(FOLDERS), built
    for name, (distributions, program) in SMOKE.items():
        environment = work / f"env-{name}"
        run(sys.executable, "-m", "venv", environment)
        python = environment / "bin" / "python"
        paths = [next(wheels.glob(f"{distribution}-[0-9]*.whl")) for distribution in distributions]
        run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *paths)
        run(python, "-c", program, cwd=work, env={"PATH": "/usr/bin:/bin", "LAMPWORK_STRICT": "1", "HOME": str(work)})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
