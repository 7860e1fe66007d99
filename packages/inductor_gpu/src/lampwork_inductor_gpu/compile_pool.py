"""CompilePool: the processes that compile, as their parent sees them.

Between `kernel_compiler` and `compile_server`. Starting and asking return at once; a job's future has its machine code.
Two threads of a session write to and read from the server's socket, so neither side ever waits for the other.
Invariant: a future always ends, with `PoolUnavailable` if there is no server (any more); a fork of this process has no
part in the session.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from .compile_job import CompileFailed, CompileJob, MachineCode
from .compile_messages import NUMBER_BYTES, READY, SUCCESS
from .interpreter import VARIABLE as _INTERPRETER_VARIABLE

_MOST_WORKERS = 32
_END_SECONDS = 5.0  # that a server takes at most to end its children
_START = (
    "import sys; sys.path[:] = {path!r}\n"
    "from lampwork_inductor_gpu.compile_server import main; main({socket}, {workers}, {architecture})"
)


class PoolUnavailable(RuntimeError):
    """There are no processes that compile; the message says why."""


def worker_count() -> int:
    """As many as this process has cores."""
    return max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0))))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job on its way."""

    name: str
    code: Future[MachineCode]


@dataclass(slots=True)
class _Session:
    """One server, from its start to its end."""

    messages: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    asked: dict[int, _Asked] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None
    ours: socket.socket | None = None
    connection: Connection | None = None  # over a copy of the socket, for both threads
    ready: bool = False
    closed: bool = False
    ended: str = ""  # why, once it has


class CompilePool:
    """Asks a server that starts with the first request, or with `start`.

    `environment` is the server's; `folder` has the texts of kernels; `architecture` is only what it warms up for.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, architecture: int, workers: int = 0) -> None:
        self.workers = workers or worker_count()
        self._environment = {k: v for k, v in environment.items() if k != _INTERPRETER_VARIABLE}
        self._folder = folder
        self._architecture = architecture
        self._session: _Session | None = None
        self._lock = threading.Lock()
        self._count = 0
        self._broken = ""
        _pools.add(self)

    def start(self) -> None:
        """Start the server unless it runs. Returns at once; that it cannot start is said by the first job's future."""
        with self._lock:
            self._running()

    def submit(self, job: CompileJob) -> Future[MachineCode]:
        """The machine code to come. Its errors: CompileFailed, PoolUnavailable."""
        code: Future[MachineCode] = Future()
        request = json.dumps({"folder": str(self._folder), "job": job.to_json()}).encode()
        with self._lock:
            session = self._running()
            self._count += 1
            number = self._count
        if session is not None:
            with session.lock:
                if not session.ended:
                    session.asked[number] = _Asked(job.name, code)
                    session.messages.put(number.to_bytes(NUMBER_BYTES, "little") + request)
                    return code
        code.set_exception(PoolUnavailable(self._broken if session is None else session.ended))
        return code

    @property
    def process(self) -> int | None:
        """The server's process, if there is one."""
        session = self._session
        return session.process.pid if session is not None and session.process is not None else None

    def close(self) -> None:
        """End the server and its children; what was asked ends with PoolUnavailable."""
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        with session.lock:
            session.closed = True
        session.messages.put(None)
        if session.ours is not None:
            with contextlib.suppress(OSError):
                session.ours.shutdown(socket.SHUT_RDWR)
        if session.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                session.process.wait(_END_SECONDS)

    def _running(self) -> _Session | None:
        """The session, started if need be; None once a server could not start. Under the lock."""
        if self._session is not None and self._session.ended:
            if not self._session.ready:
                self._broken = self._session.ended
            self._session = None
        if getattr(sys, "frozen", False):
            self._broken = "this program is one executable, which cannot run another program"
        if self._session is None and not self._broken:
            session = _Session()
            writer = threading.Thread(target=self._write, args=(session,), daemon=True, name="lampwork-compile")
            try:
                writer.start()
            except RuntimeError as error:  # this process ends
                self._broken = str(error)
            else:
                self._session = session
        return self._session

    def _write(self, session: _Session) -> None:
        """A thread: start the server, then send what is asked. However it ends, nobody waits for ever."""
        try:
            self._serve(session)
        except BaseException as error:  # no descriptors left, no folder for what the server prints, ...
            _end(session, f"the compile server cannot be started: {error!r}")

    def _serve(self, session: _Session) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (the reader closes it)
        ours, theirs = socket.socketpair()
        start = _START.format(
            path=[str(entry) for entry in sys.path],
            socket=theirs.fileno(),
            workers=self.workers,
            architecture=self._architecture,
        )
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-c", start],
                    env=self._environment,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,  # an interrupt from the keyboard is for this process
                )
        except (OSError, TypeError, ValueError) as error:
            ours.close()
            _end(session, f"the compile server cannot be started: {error}")
            return
        connection = Connection(os.dup(ours.fileno()))
        with session.lock:
            session.ours, session.connection, session.process = ours, connection, process
            closed = session.closed
        if closed:  # meanwhile
            ours.shutdown(socket.SHUT_RDWR)
        reader = threading.Thread(target=_read, args=(session, process, errors), daemon=True, name="lampwork-compiled")
        try:
            reader.start()
        except RuntimeError as error:  # this process ends, and the server with its socket
            connection.close()
            ours.close()
            errors.close()
            _end(session, str(error))
            return
        with contextlib.suppress(OSError):  # the reader sees the end, too
            while (message := session.messages.get()) is not None:
                connection.send_bytes(message)

    def _forget(self) -> None:
        """In a fork of this process: the session is the parent's."""
        session, self._session = self._session, None
        self._lock = threading.Lock()
        if session is not None and session.ours is not None and session.connection is not None:
            session.ours.close()  # this process's copies only
            session.connection.close()
            session.process = None


def _read(session: _Session, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """A thread: hand answers to those who wait, until the server ends."""
    try:
        _receive(session, process, errors)
    except BaseException as error:
        _end(session, f"what the compile server says is not understood: {error!r}")


def _receive(session: _Session, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    assert session.connection is not None and session.ours is not None
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = session.connection.recv_bytes()
            if message == READY:
                session.ready = True
                continue
            number = int.from_bytes(message[:NUMBER_BYTES], "little")
            with session.lock:
                asked = session.asked.pop(number)
            _answer(asked, message[NUMBER_BYTES:])
    session.messages.put(None)
    with contextlib.suppress(OSError):
        session.ours.shutdown(socket.SHUT_RDWR)
    status = process.wait()
    session.ours.close()
    session.connection.close()
    with errors:
        errors.seek(0)
        printed = errors.read().decode(errors="replace").strip()
    when = "ended" if session.ready else "ended at its start"
    _end(
        session, "the pool was closed" if session.closed else f"the compile server {when} ({status}) {printed[-4000:]}"
    )


def _answer(asked: _Asked, answer: bytes) -> None:
    if answer[:1] != SUCCESS:
        asked.code.set_exception(CompileFailed(asked.name, answer[1:].decode(errors="replace")))
        return
    try:
        code = MachineCode.from_bytes(answer[1:])
    except ValueError as error:
        asked.code.set_exception(CompileFailed(asked.name, str(error)))
    else:
        asked.code.set_result(code)


def _end(session: _Session, why: str) -> None:
    with session.lock:
        session.ended = why
        left = list(session.asked.values())
        session.asked.clear()
    for asked in left:
        asked.code.set_exception(PoolUnavailable(why))


_pools: weakref.WeakSet[CompilePool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool._forget()


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
