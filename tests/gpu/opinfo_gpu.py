"""torch's sample database on a GPU: every operator through the whole stack, against eager on the same card.

    python tests/gpu/opinfo_gpu.py [--jobs 12] [--samples 1] [--dtypes float32,bfloat16,float16,int64,bool]
        [--names add,sum] [--total 480] [--out FOLDER] [--device cpu]

A sample becomes a Python function of tensors, which `lampwork.compile` compiles; where the database wraps an operator
in a function of its own, which no capture enters, that is one call of a graph handed to the stack. A sample passes
(results, and inputs that it writes to, are eager's); or fell back (nothing was compiled: told with the reason); or
failed. Where torch's usual tolerances do not hold, a float64 run decides: ours may be a few times as far from it as
eager. Processes take turns at slices; one that crashes, hangs or loses the card is started again behind the sample that
it was at, which failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each sample compiles as a first one does
sys.path.insert(0, str(Path(__file__).parent.parent / "symbolic"))
sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import lampwork
import lampwork.pipeline as pipeline
import lampwork_capture
import torch
from lampwork_capture.aot import UnsupportedForAot
from opinfo_gradients import NOT_COMPARABLE, SEED
from opinfo_symbolic import database
from torch.utils import _pytree as pytree

DTYPES = "float32,bfloat16,float16,int64,bool"
SAMPLE_LIMIT_S, SILENCE_LIMIT_S = 60, 120
LOST_CARD = 3  # exit status: the card's state in this process is gone
DETERMINED = ("passed", "fell back", "failed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample. `status`: passed, fell back, failed, or why it says nothing."""

    operator: str
    dtype: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Program:
    """A sample as a function of its tensors."""

    function: Callable[..., Any]
    tensors: tuple[torch.Tensor, ...]
    wrapped: bool
    """What it calls is a function of torch's tests."""

    def copies(self) -> list[torch.Tensor]:
        """Inputs of the same values and strides, which a call may write to."""
        copied: list[torch.Tensor] = []
        for tensor in self.tensors:
            made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device)
            overlaps = any(s == 0 and n > 1 for s, n in zip(tensor.stride(), tensor.shape))
            copied.append(tensor.clone() if overlaps else made.copy_(tensor))
        return copied


def program_of(op: Any, sample: Any) -> Program:
    """The text of a function that makes the sample's call; what is no tensor is a global of it."""
    tensors: list[torch.Tensor] = []
    scope: dict[str, Any] = {"operator": op.op, "__name__": "sample_database"}

    def text(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            tensors.append(value.detach())
            return f"x{len(tensors) - 1}"
        if type(value) is list:
            return f"[{', '.join(map(text, value))}]"
        if type(value) is tuple:
            return f"({''.join(f'{text(item)}, ' for item in value)})"
        scope[f"c{len(scope)}"] = value
        return f"c{len(scope) - 1}"

    arguments = [text(sample.input), *map(text, sample.args)]
    arguments += [f"{name}={text(value)}" for name, value in sample.kwargs.items()]
    names = ", ".join(f"x{k}" for k in range(len(tensors)))
    exec(f"def sample({names}):\n    return operator({', '.join(arguments)})\n", scope)
    wrapped = isinstance(op.op, types.FunctionType) and op.op.__module__.startswith("torch.testing")
    return Program(scope["sample"], tuple(tensors), wrapped)


def compiled(program: Program) -> Callable[..., Any]:
    """The program through the stack."""
    if not program.wrapped:
        return lampwork.compile(program.function, dynamic=False)
    graph = torch.fx.Graph()
    inputs = tuple(graph.placeholder(f"x{number}") for number in range(len(program.tensors)))
    graph.output((graph.call_function(program.function, inputs),))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    return pipeline.graph_backend()(module, program.copies())


def why_nothing(program: Program) -> str:
    """Why no graph was compiled."""
    if program.wrapped:
        return "no graph was compiled"
    breaks = lampwork_capture.explain(program.function)(*program.copies()).graph_breaks
    return str(breaks[0].cause)[:200] if breaks else "no operation to compile"


def run(function: Callable[..., Any], program: Program, convert: torch.dtype | None = None) -> list[Any]:
    """All leaves of the result, then the inputs as they are after the call."""
    inputs = program.copies()
    if convert is not None:
        inputs = [t.to(convert) if t.is_floating_point() else t for t in inputs]
    torch.manual_seed(SEED)
    return [*pytree.tree_leaves(function(*inputs)), *inputs]


def compare(actual: Sequence[Any], expected: Sequence[Any]) -> str:
    """Empty, or how they differ by torch's usual tolerances."""
    if len(actual) != len(expected):
        return f"{len(actual)} results instead of {len(expected)}"
    for got, want in zip(actual, expected):
        if isinstance(want, torch.Tensor) and isinstance(got, torch.Tensor):
            try:
                torch.testing.assert_close(got, want, equal_nan=True)
            except AssertionError as error:
                return str(error).replace("\n", " ")[:250]
        elif type(got) is not type(want) or (got != want and got == got):
            return f"{got!r} instead of {want!r}"[:250]
    return ""


def within_double(actual: Sequence[Any], expected: Sequence[Any], exact: Sequence[Any]) -> bool:
    """Whether every floating result is about as near to the float64 one as eager's, and all else is equal."""
    for got, want, best in zip(actual, expected, exact, strict=True):
        if not isinstance(want, torch.Tensor) or not want.is_floating_point():
            if compare([got], [want]):
                return False
            continue
        if got.shape != want.shape or got.dtype != want.dtype or best.shape != want.shape:
            return False
        finite = best.isfinite() & want.isfinite()
        if not torch.equal(got[~finite].isnan(), want[~finite].isnan()) or not bool(got[finite].isfinite().all()):
            return False
        if not bool(finite.any()):
            continue
        eager_error = (want[finite].double() - best[finite].double()).abs().max()
        own_error = (got[finite].double() - best[finite].double()).abs().max()
        step = torch.finfo(want.dtype).eps * best[finite].double().abs().max()
        if not own_error <= 3 * eager_error + 2 * step:
            return False
    return True


def check(op: Any, sample: Any, dtype: torch.dtype) -> Outcome:
    """Compile one sample, and compare it with eager."""
    name = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
    kind = str(dtype).removeprefix("torch.")
    program = program_of(op, sample)
    if not program.tensors or any(
        type(t) is not torch.Tensor or t.layout is not torch.strided for t in program.tensors
    ):
        return Outcome(name, kind, "no plain tensors")
    if op.name in NOT_COMPARABLE:
        return Outcome(name, kind, "not comparable")
    try:
        expected, again = run(program.function, program), run(program.function, program)
    except Exception as error:
        return Outcome(name, kind, "eager raises", f"{type(error).__name__}: {error}"[:100])
    if compare(again, expected):
        return Outcome(name, kind, "not comparable", "eager differs from itself")
    graphs: list[Any] = []
    compile_graph = pipeline.compile_graph

    def counting(*args: Any, **kwargs: Any) -> Any:
        graphs.append(compile_graph(*args, **kwargs))
        return graphs[-1]

    pipeline.compile_graph = counting
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            function = compiled(program)
            first, second = run(function, program), run(function, program)
    except Exception as error:
        lose_card_on(error)
        refusal = unsupported(error)
        if refusal is not None:
            return Outcome(name, kind, "fell back", refusal[:200])
        return Outcome(name, kind, "failed", f"{type(error).__name__}: {error}"[:300].replace("\n", " "))
    finally:
        pipeline.compile_graph = compile_graph
    for actual in (first, second):
        difference = compare(actual, expected)
        if difference and not near_exact(program, dtype, actual, expected):
            return Outcome(name, kind, "failed", difference)
    if not graphs:
        told = [str(w.message).splitlines()[0] for w in said if "lampwork" in str(w.message).lower()]
        return Outcome(name, kind, "fell back", told[0][:200] if told else why_nothing(program))
    return Outcome(name, kind, "passed")


def unsupported(error: BaseException | None) -> str | None:
    """The reason if the stack refused to trace, which runs eagerly unless errors are to be raised."""
    while error is not None and not isinstance(error, UnsupportedForAot):
        error = error.__cause__
    return None if error is None else error.reason


def near_exact(program: Program, dtype: torch.dtype, actual: list[Any], expected: list[Any]) -> bool:
    """Whether a float64 run says that ours is as good as eager's."""
    if not dtype.is_floating_point:
        return False
    try:
        exact = run(program.function, program, torch.float64)
        return len(exact) == len(expected) == len(actual) and within_double(actual, expected, exact)
    except Exception as error:
        lose_card_on(error)
        return False


class CardLost(BaseException):
    """An error after which nothing runs on the card in this process."""


def lose_card_on(error: BaseException) -> None:
    """Raises CardLost for such an error."""
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error):
        raise CardLost(str(error)) from error


# One process


def operators(names: Sequence[str]) -> list[Any]:
    """Every operator of the database, or those named, in an order that spreads what is slow."""
    found = sorted(database.op_db, key=lambda op: (op.name, op.variant_test_name))
    random.Random(0).shuffle(found)
    return [op for op in found if not names or op.name in names]


def work(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Iterator[Any]], Any, torch.dtype]]:
    """A key, a function that makes samples, the operator and the dtype, in one order in every process."""
    for op in operators([n for n in options.names.split(",") if n]):
        for dtype in (getattr(torch, name) for name in options.dtypes.split(",")):
            if dtype not in op.supported_dtypes(options.device):
                continue

            def samples(op: Any = op, dtype: torch.dtype = dtype) -> Iterator[Any]:
                torch.manual_seed(0)
                found = op.sample_inputs(options.device, dtype, requires_grad=False)
                return iter([sample for _, sample in zip(range(options.samples), found)])

            yield f"{op.name}/{op.variant_test_name}/{dtype}", samples, op, dtype


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SAMPLE_LIMIT_S} s")


def worker(options: argparse.Namespace) -> None:
    """A slice of the work behind what its file has already; a line before each operator, and one for each outcome."""
    part, parts = map(int, options.slice.split("/"))
    done = {entry["at"] for entry in read(options.file) if "at" in entry}
    signal.signal(signal.SIGALRM, _too_long)
    with options.file.open("a", buffering=1) as file, torch.no_grad():
        for number, (key, samples, op, dtype) in enumerate(work(options)):
            if number % parts != part or key in done:
                continue
            file.write(json.dumps({"at": key}) + "\n")
            signal.alarm(SAMPLE_LIMIT_S)
            try:
                outcomes = [check(op, sample, dtype) for sample in samples()]
                outcomes = outcomes or [Outcome(op.name, str(dtype), "no samples")]
            except CardLost as error:
                file.write(json.dumps(asdict(_failed(key, f"the card was lost: {error}"))) + "\n")
                file.close()
                os._exit(LOST_CARD)  # an orderly exit could wait for the card
            except TimeoutError as error:
                outcomes = [_failed(key, str(error))]
            except Exception as error:
                outcomes = [Outcome(op.name, str(dtype), "no samples", f"{type(error).__name__}: {error}"[:100])]
            finally:
                signal.alarm(0)
            for outcome in outcomes:
                file.write(json.dumps(asdict(outcome)) + "\n")
            torch.compiler.reset()
        file.write(json.dumps({"end": True}) + "\n")


def _failed(key: str, reason: str) -> Outcome:
    name, variant, dtype = key.rsplit("/", 2)
    return Outcome(f"{name}.{variant}" if variant else name, dtype.removeprefix("torch."), "failed", reason[:300])


# All processes


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a worker's file; a last one that is not whole is left out."""
    entries: list[dict[str, Any]] = []
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries


def run_slice(part: int, options: argparse.Namespace, folder: Path, deadline: float) -> list[dict[str, Any]]:
    """One slice to its end, by as many processes as it takes."""
    file, caches = folder / f"slice{part}.jsonl", folder / f"caches{part}"
    file.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LAMPWORK_STRICT": "1",
        "LAMPWORK_CACHE_DIR": str(caches / "lampwork"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, "--slice", f"{part}/{options.jobs}", "--file", str(file)]
    command += ["--samples", str(options.samples), "--dtypes", options.dtypes, "--names", options.names]
    command += ["--device", options.device]
    while time.monotonic() < deadline:
        started = len(read(file))
        with (folder / f"slice{part}.log").open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            reason = _watch(process, file, deadline)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        entries = read(file)
        if (entries and "end" in entries[-1]) or time.monotonic() >= deadline:
            return entries
        if len(entries) == started:
            return [*entries, asdict(Outcome(f"slice {part}", "", "failed", f"the process does not start: {reason}"))]
        if "at" in entries[-1]:  # it ended at this one without a word
            with file.open("a") as lines:
                lines.write("\n" + json.dumps(asdict(_failed(entries[-1]["at"], reason))) + "\n")
    return read(file)


def _watch(process: subprocess.Popen[bytes], file: Path, deadline: float) -> str:
    """Wait for a process to end, or for too long a silence. Why it ended."""
    latest = time.monotonic()
    size = -1
    while process.poll() is None:
        now = time.monotonic()
        current = file.stat().st_size if file.exists() else 0
        if current != size:
            size, latest = current, now
        if now - latest > SILENCE_LIMIT_S or now > deadline:
            return f"the process said nothing for {now - latest:.0f} s"
        time.sleep(0.1)
    return f"the process ended with status {process.returncode}"


def report(entries: Sequence[dict[str, Any]], expected: int) -> int:
    """Print the table, what fell back and what failed. The number of failures and of operators not reached."""
    outcomes = [Outcome(**entry) for entry in entries if "status" in entry]
    dtypes = sorted({o.dtype for o in outcomes if o.status in DETERMINED and o.dtype})
    print(f"| dtype | {' | '.join(DETERMINED)} | says nothing |\n|---|---|---|---|---|")
    for dtype in dtypes:
        counts = Counter(o.status for o in outcomes if o.dtype == dtype)
        others = sum(n for status, n in counts.items() if status not in DETERMINED)
        print(f"| {dtype} | {' | '.join(str(counts[s]) for s in DETERMINED)} | {others} |")
    rest = Counter(o.status for o in outcomes)
    print(f"\nall: {', '.join(f'{n} {status}' for status, n in rest.most_common())}")
    for status in ("fell back", "failed"):
        grouped: dict[tuple[str, str], list[str]] = {}
        for outcome in outcomes:
            if outcome.status == status:
                grouped.setdefault((outcome.operator, outcome.reason), []).append(outcome.dtype)
        print(f"\n{status}:")
        for (name, reason), found in sorted(grouped.items()):
            print(f"  {name} ({', '.join(found)}): {reason}")
    missing = expected - len({entry["at"] for entry in entries if "at" in entry})
    print(f"\n{missing} operators and dtypes were not reached in time." if missing else "\nAll were reached.")
    return rest["failed"] + missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--dtypes", default=DTYPES)
    parser.add_argument("--names", default="")
    parser.add_argument("--total", type=float, default=480, help="seconds for all")
    parser.add_argument("--out", type=Path, help="keep what each process wrote")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--slice", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.slice:
        worker(options)
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        deadline = start + options.total
        slices = list(pool.map(lambda part: run_slice(part, options, folder, deadline), range(options.jobs)))
    expected = sum(1 for _ in work(options))
    failures = report([entry for entries in slices for entry in entries], expected)
    print(f"{time.monotonic() - start:.0f} s, {options.jobs} processes")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
