"""Every check of the house, as nox sessions. Packages and their dependencies are read from the pyprojects.

`nox` runs what CI runs; `nox -l` lists the rest. Each session installs the packages as built wheels into an
environment of its own, with the versions that constraints.txt pins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import nox

ROOT = Path(__file__).parent
nox.options.sessions = ["lint", "imports", "types", "unit", "end_to_end", "docs", "build"]
nox.options.error_on_missing_interpreters = True
STRICT = {"LAMPWORK_STRICT": "1", "LAMPWORK_VERIFY": "1"}


@dataclass(frozen=True)
class Package:
    """One distribution of the repository."""

    folder: Path
    name: str
    requirements: tuple[str, ...]
    test_requirements: tuple[str, ...]


def _read_package(folder: Path) -> Package:
    project = nox.project.load_toml(folder / "pyproject.toml")
    tests = nox.project.dependency_groups(project, "test")
    return Package(folder, project["project"]["name"], tuple(project["project"]["dependencies"]), tuple(tests))


PACKAGES = {p.name: p for p in map(_read_package, sorted((ROOT / "packages").iterdir()))}
FULL_STACK = "lampwork"


def _closure(name: str) -> list[Package]:
    """The package and the packages of this repository that it needs, dependencies first."""
    order: dict[str, Package] = {}

    def visit(current: str) -> None:
        for requirement in PACKAGES[current].requirements:
            needed = requirement.split(">")[0].split(";")[0].strip()
            if needed in PACKAGES and needed not in order:
                visit(needed)
        order[current] = PACKAGES[current]

    visit(name)
    return list(order.values())


def _install(session: nox.Session, name: str, *extra: str) -> None:
    folders = [str(p.folder) for p in _closure(name)]
    session.install("-q", "-c", "constraints.txt", *folders, *PACKAGES[name].test_requirements, *extra)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and formatting."""
    session.install("-q", "-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def imports(session: nox.Session) -> None:
    """The layers, and what product code never imports."""
    session.install("-q", "-c", "constraints.txt", "import-linter")
    sources = os.pathsep.join(str(p.folder / "src") for p in PACKAGES.values())
    session.run("lint-imports", env={"PYTHONPATH": sources})


@nox.session
def types(session: nox.Session) -> None:
    """basedpyright in strict mode; pyproject.toml names what is exempt and why."""
    _install(session, FULL_STACK, "basedpyright")
    session.run("basedpyright")


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def unit(session: nox.Session, package: str) -> None:
    """One package's own tests, with only what that package declares."""
    _install(session, package)
    session.run("pytest", str(PACKAGES[package].folder / "tests"), *session.posargs, env=STRICT)


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def capture_on(session: nox.Session) -> None:
    """capture's tests on every interpreter that it supports (not part of CI: each brings its own torch)."""
    _install(session, "lampwork-capture")
    session.run("pytest", "packages/capture/tests", *session.posargs, env=STRICT)


@nox.session(python=["3.11", "3.12"])
def threads(session: nox.Session) -> None:
    """16 threads that compile and call at once for 30 seconds, and again under `python -X dev` (not part of CI)."""
    _install(session, "lampwork-capture")
    storm = "packages/capture/tests/threads/thread_storm.py"
    for options in ((), ("-X", "dev", "-X", "faulthandler")):
        session.run("python", *options, storm, *(session.posargs or ("30", "16")))


@nox.session
def end_to_end(session: nox.Session) -> None:
    """What crosses packages: the whole stack under torch.compile."""
    _install(session, FULL_STACK, "transformers")
    session.run("pytest", "tests", *session.posargs, env=STRICT)


@nox.session
def opinfo_symbolic(session: nox.Session) -> None:
    """Every operator of torch's sample database with all sizes symbolic: passed, specialised, failed (long)."""
    _install(session, FULL_STACK)
    session.run("python", "tests/symbolic/opinfo_symbolic.py", *session.posargs, env=STRICT)


@nox.session
def training(session: nox.Session) -> None:
    """Every operator's gradients through the lowering, and model families trained beside torch.compile (long)."""
    _install(session, FULL_STACK, "transformers")
    session.run("python", "tests/training/opinfo_gradients.py", *session.posargs, env=STRICT)
    session.run("python", "benchmarks/training_families.py")


@nox.session
def dynamic(session: nox.Session) -> None:
    """Model families over twelve sizes: how often each is captured, beside torch.compile (long)."""
    _install(session, "lampwork-capture", "transformers")
    session.run("python", "benchmarks/dynamic_families.py", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Five real models through `torch.compile(model, backend="lampwork")`, and a table."""
    _install(session, FULL_STACK, "transformers")
    session.run("python", "benchmarks/demo.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; its examples are executed, and a warning is an error."""
    _install(session, FULL_STACK, "sphinx", "furo", "myst-nb")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and sdists of every package, installed into clean environments and smoke-tested."""
    session.install("-q", "-c", "constraints.txt", "build")
    session.run("python", "tests/distributions.py", session.create_tmp())


@nox.session
def bench(session: nox.Session) -> None:
    """The model benchmark against eager, torch.compile, ONNX Runtime and OpenVINO (long; a quiet machine)."""
    _install(session, FULL_STACK, "transformers", "onnx", "onnxscript", "onnxruntime", "openvino")
    session.run("python", "benchmarks/models.py", *session.posargs)


@nox.session
def families(session: nox.Session) -> None:
    """Whole-graph capture of model families beside torch.compile's: results, graphs, breaks (about half an hour)."""
    _install(session, FULL_STACK, "transformers")
    session.run("python", "benchmarks/families.py", *session.posargs)


@nox.session(python="3.11")
def cpython(session: nox.Session) -> None:
    """CPython's own test suite with every function of its modules converted (long; a quiet machine)."""
    _install(session, "lampwork-capture")
    session.run("python", "packages/capture/tests/cpython/suite.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """5,000 random programs, eager against captured (long)."""
    _install(session, "lampwork-capture")
    folder = "packages/capture/tests/interpreter"
    tests = [f"{folder}/test_random_programs.py", f"{folder}/test_mixed_programs.py"]
    session.run("pytest", *tests, *session.posargs, env={**STRICT, "LAMPWORK_RANDOM_PROGRAMS": "5000"})
