"""KernelCompiler: machine code for jobs, from the disk, from the processes that compile, or made here.

Between launchers and everything that compiles. Asking returns at once; whoever needs the code waits for it. Invariants:
what the disk has is compiled by nobody, and starts no process; without processes the code is made in this one, and a
warning says once why.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lampwork_inductor_core.runtime.kernel_cache import KernelCache, KernelCacheError, content_key

from .code_identity import compiler_identity, imported_text
from .compile_job import CompileFailed, CompileJob, MachineCode
from .compile_pool import CompilePool, PoolUnavailable

_FORMAT = "machine code 1"  # of what is kept
_SUFFIX = ".kernel"


class Pool(Protocol):
    """Processes that compile."""

    def start(self) -> None: ...
    def submit(self, job: CompileJob) -> Future[MachineCode]: ...


@dataclass(slots=True)
class PendingCode:
    """Machine code that is there or on its way. `result` waits for it. Raises CompileFailed."""

    future: Future[MachineCode]
    here: Callable[[], MachineCode]  # the same, made in this process
    process: int = field(default_factory=os.getpid)

    def result(self) -> MachineCode:
        if self.process != os.getpid() and not self.future.done():
            return self.here()  # a fork, which the answer does not come to
        try:
            return self.future.result()
        except PoolUnavailable as why:
            _warn_once(f"Lampwork compiles GPU kernels in this process, one after the other, since {why}")
            return self.here()


@dataclass(slots=True)
class KernelCompiler:
    """`folder` has kernels' texts; `identity` is what decides code beside a job."""

    cache: KernelCache
    folder: Path
    pool: Pool
    identity: str
    _swept: bool = False
    _here: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Have processes ready, unless none may be needed: for a cache that has something they wait for a miss."""
        if next(self.cache.folder.glob(f"*/*{_SUFFIX}"), None) is None:
            self.pool.start()

    def key(self, job: CompileJob) -> str:
        """Everything that decides the code."""
        return content_key(_FORMAT, self.identity, imported_text(job.text), job.to_json())

    def request(self, job: CompileJob) -> PendingCode:
        """The code to come."""
        key = self.key(job)

        def here() -> MachineCode:
            return self._compile_here(job, key)

        found = self._find(key)
        if found is not None:
            there: Future[MachineCode] = Future()
            there.set_result(found)
            return PendingCode(there, here)
        future = self.pool.submit(job)
        future.add_done_callback(lambda done: self._keep(key, done))
        return PendingCode(future, here)

    def _find(self, key: str) -> MachineCode | None:
        path = self.cache.find(key)
        if path is None:
            return None
        try:
            return MachineCode.from_bytes(path.read_bytes())
        except (OSError, ValueError):
            self.cache.discard(key)
            return None

    def _keep(self, key: str, done: Future[MachineCode]) -> None:
        if done.exception() is None:
            self._store(key, done.result())

    def _store(self, key: str, code: MachineCode) -> None:
        try:
            self.cache.store(key, code.to_bytes())
            if not self._swept:
                self._swept = True
                self.cache.sweep()
        except KernelCacheError as error:
            _warn_once(f"compiled GPU kernels are not kept: {error}")

    def _compile_here(self, job: CompileJob, key: str) -> MachineCode:
        with self._here:
            found = self._find(key)  # another thread may have made it
            if found is not None:
                return found
            # Triton takes 0.4 s to import, and this is the only place of a user's process that needs it.
            compiler = importlib.import_module(".triton_compile", __package__)
            try:
                code = compiler.machine_code(job, self.folder)
            except Exception as error:
                raise CompileFailed(job.name, f"{type(error).__name__}: {error}") from error
            self._store(key, code)
            return code


@functools.cache
def compiler_of_process(folder: Path, architecture: int) -> KernelCompiler:
    """With the cache in a folder, and a pool of as many processes as there are cores, warmed up for an architecture.

    Triton's environment variables are read now, once.
    """
    sources = folder / "triton_sources"
    environment = dict(os.environ)
    pool = CompilePool(environment, sources, architecture)
    return KernelCompiler(KernelCache(folder / "cubin", _SUFFIX), sources, pool, compiler_identity(environment))


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=3)
