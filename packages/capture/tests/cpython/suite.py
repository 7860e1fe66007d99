"""CPython's own test suite with every function of its modules converted: the same tests pass and fail as without.

`python suite.py [--jobs N] [--timeout SECONDS] [--slow] [MODULE ...]` runs each module in two processes of its own, one
without the hook and one with it, compares test by test, and prints what differs and how many frames were converted.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import lampwork_capture  # noqa: E402
import torch  # noqa: E402
from lampwork_capture.config import CaptureConfig  # noqa: E402
from modules import KNOWN, LANGUAGE, SLOW  # noqa: E402
from run_module import RECOMPILE_LIMIT, run_module  # noqa: E402

_fork = threading.Lock()


@dataclass
class ModuleRun:
    """What one process reported of one module."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    running: str = ""  # the last test that began
    ended: str = ""  # how the process ended, if not well
    slow: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counts(self) -> collections.Counter[str]:
        return collections.Counter(outcome for found in self.outcomes.values() for outcome in found)


@dataclass
class Comparison:
    """One module, without and with."""

    module: str
    plain: ModuleRun
    hooked: ModuleRun

    def differences(self) -> list[str]:
        found: list[str] = []
        for test in sorted({*self.plain.outcomes, *self.hooked.outcomes}):
            if test in KNOWN:
                continue
            before, after = self.plain.outcomes.get(test, []), self.hooked.outcomes.get(test, [])
            if before != after and not (self.hooked.ended and not after):
                found.append(f"{test}: {before} -> {after}")
        if self.hooked.ended != self.plain.ended:
            found.append(f"{self.module} {self.hooked.ended} in {self.hooked.running} (without: {self.plain.ended!r})")
        return found


def _child(module: str, hooked: bool, path: str, log: str, patterns: list[str], timeout: float, strict: bool) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv[1:] = []
    os.chdir(tempfile.mkdtemp())
    status = 1
    try:
        faulthandler.enable()
        faulthandler.dump_traceback_later(timeout)
        config = CaptureConfig(strict=strict, recompile_limit=RECOMPILE_LIMIT, convert_without_tensor_work=True)
        with open(path, "w") as out:
            run_module(module, hooked, out, patterns, config)
        status = 0
    except BaseException as error:
        with open(path, "a") as out:
            out.write(json.dumps({"test": module, "outcome": f"not run: {type(error).__name__}: {error}"}) + "\n")
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _read(path: str, run: ModuleRun) -> None:
    for text in Path(path).read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if "starts" in line:
            run.running = line["starts"]
        elif "summary" in line:
            run.summary = line["summary"]
        else:
            run.outcomes.setdefault(line["test"], []).append(line["outcome"])
            run.details.setdefault(line["test"], line.get("detail", ""))
            if line.get("seconds", 0) > 3:
                run.slow.append((line["seconds"], line["test"]))


def run_in_process(
    module: str, hooked: bool, folder: str, timeout: float, patterns: list[str] = [], strict: bool = False
) -> ModuleRun:
    """One module in a process forked from this one, which has imported torch already."""
    stem = os.path.join(folder, f"{module}.{'hooked' if hooked else 'plain'}")
    Path(stem + ".json").write_text("")
    begin = time.monotonic()
    with _fork:
        process = os.fork()
        if process == 0:
            _child(module, hooked, stem + ".json", stem + ".log", patterns, timeout, strict)
    run = ModuleRun()
    status = None
    while status is None:
        done, code = os.waitpid(process, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() - begin > timeout + 5:
            os.kill(process, signal.SIGKILL)
            run.ended = f"took more than {timeout} s"
            os.waitpid(process, 0)
            status = 0
        else:
            time.sleep(0.02)
    if status < 0:
        run.ended = f"died of {signal.Signals(-status).name}"
    elif status:
        run.ended = f"ended with status {status}"
    run.seconds = time.monotonic() - begin
    _read(stem + ".json", run)
    return run


def compare(module: str, folder: str, timeout: float, patterns: list[str] = [], strict: bool = False) -> Comparison:
    """A module without the hook, then with it."""
    plain = run_in_process(module, False, folder, timeout, patterns)
    return Comparison(module, plain, run_in_process(module, True, folder, timeout, patterns, strict))


def _print(found: Comparison, verbose: bool) -> None:
    differences = found.differences()
    plain, hooked = dict(found.plain.counts), dict(found.hooked.counts)
    summary = found.hooked.summary
    equal = "equal" if not differences else f"{len(differences)} DIFFER"
    frames = summary.get("counts", {})
    print(
        f"{found.module}: {equal}  without {plain}  with {hooked}  frames {frames} "
        f"[{found.plain.seconds:.1f} s, {found.hooked.seconds:.1f} s, converting {summary.get('seconds', 0)} s]",
        flush=True,
    )
    for line in differences:
        print(f"    {line}")
        test = line.partition(": ")[0]
        if verbose and test in found.hooked.details:
            print("        " + found.hooked.details[test].replace("\n", "\n        "))
    if verbose:
        for seconds, test in sorted(found.hooked.slow, reverse=True)[:4]:
            print(f"    slow: {test} {seconds} s")
        print(f"    slowest conversions: {summary.get('slowest')}")
    sys.stdout.flush()


def warm_up() -> None:
    """Convert something once: what torch imports at first use is then shared by all processes."""
    lampwork_capture.optimize("eager")(lambda x: [x + 1, [i for i in range(3)]])(torch.ones(2))
    lampwork_capture.reset()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--folder", default=None, help="where logs and outcomes are kept")
    parser.add_argument("--match", nargs="*", default=[], help="only tests whose name contains one of these")
    parser.add_argument("--slow", action="store_true", help="the slow modules too")
    parser.add_argument("--strict", action="store_true", help="errors of ours raise")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    folder = options.folder or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    print(f"logs in {folder}")
    warm_up()
    total: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("plain", "hooked", "frames", "ids", "causes")
    }
    differing: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [
            pool.submit(compare, module, folder, options.timeout, options.match, options.strict)
            for module in options.modules or (LANGUAGE + SLOW if options.slow else LANGUAGE)
        ]
        for task in tasks:
            found = task.result()
            _print(found, options.verbose)
            differing += found.differences()
            total["plain"].update(found.plain.counts)
            total["hooked"].update(found.hooked.counts)
            summary = found.hooked.summary
            total["frames"].update(summary.get("counts", {}))
            total["ids"].update(summary.get("ids", {}))
            total["causes"].update(summary.get("causes", {}))
    print(f"\nwithout the hook: {dict(total['plain'])}\nwith the hook:    {dict(total['hooked'])}")
    print(f"frames: {dict(total['frames'])}")
    for name, count in total["ids"].most_common():
        print(f"    {count:6}  {name}")
    print("most frequent causes:")
    for name, count in total["causes"].most_common(40):
        print(f"    {count:6}  {name}")
    print(f"{len(differing)} differences")
    for test, reason in KNOWN.items():
        print(f"known to differ: {test}: {reason}")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
