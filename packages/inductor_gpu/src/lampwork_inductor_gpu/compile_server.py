"""The compile server: a process that has imported triton and nothing else, and forks children that compile.

At the other end of `compile_pool`, which starts it and says what to do by a socket (`compile_messages`). A child costs
milliseconds, since it has what its parent imported and warmed up. Invariant: the server ends, with all its children,
when the socket ends, whatever its parent dies of; a child that dies fails its own job only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import traceback
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import cast

from .compile_job import CompileJob
from .compile_messages import FAILURE, NUMBER_BYTES, READY, SUCCESS
from .triton_compile import machine_code, warm_up

_MESSAGES = "messages"  # the file that has what a child and the assembler print
_SHOWN = 6000  # characters of it in an error
_IDLE_SECONDS = 30.0  # after which children that nobody needs end


@dataclass(slots=True)
class _Child:
    """A process that compiles one job after another; `number` is that of the one in its hands."""

    process: int
    channel: Connection
    folder: Path
    number: bytes = b""


@dataclass(slots=True)
class Server:
    """Jobs in, answers out; at most `workers` children at once."""

    parent: Connection
    workers: int
    folder: Path
    waiting: deque[bytes] = field(default_factory=deque)
    busy: dict[Connection, _Child] = field(default_factory=dict)
    idle: list[_Child] = field(default_factory=list)

    def serve(self) -> None:
        """Until the parent is gone."""
        try:
            self.parent.send_bytes(READY)
            while True:
                while self.waiting and len(self.busy) < self.workers:
                    self._give(self.waiting.popleft())
                found = wait([self.parent, *self.busy, *(child.channel for child in self.idle)], _IDLE_SECONDS)
                if not found and not self.busy:
                    self._end_idle()
                for ready in found:
                    if ready is self.parent:
                        self.waiting.append(self.parent.recv_bytes())
                    elif ready in self.busy:
                        self._finish(self.busy.pop(cast(Connection, ready)))
                    else:  # an idle child has died
                        gone = next(child for child in self.idle if child.channel is ready)
                        self.idle.remove(gone)
                        self._end(gone)
        except (EOFError, OSError):
            pass  # the parent is gone
        finally:
            for child in self.busy.values():
                self._end(child)
            self._end_idle()

    def _give(self, message: bytes) -> None:
        child = self.idle.pop() if self.idle else self._fork()
        child.number = message[:NUMBER_BYTES]
        self.busy[child.channel] = child
        with contextlib.suppress(OSError):  # one that has died meanwhile is seen as its channel ends
            child.channel.send_bytes(message[NUMBER_BYTES:])

    def _fork(self) -> _Child:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        ours, theirs = cast("tuple[Connection, Connection]", Pipe())
        process = os.fork()
        if process == 0:
            try:
                for connection in (ours, self.parent, *self.busy, *(child.channel for child in self.idle)):
                    connection.close()  # an end that is held here would never be seen to end
                _compile_jobs(theirs, folder)
            finally:
                os._exit(0)
        theirs.close()
        return _Child(process, ours, folder)

    def _finish(self, child: _Child) -> None:
        try:
            answer = child.channel.recv_bytes()
        except (EOFError, OSError):
            status = self._end(child)
            answer = FAILURE + f"the process that compiled it ended by itself ({_ending(status)})".encode()
        else:
            self.idle.append(child)
        if answer[:1] == FAILURE:
            answer += _printed(child.folder / _MESSAGES).encode()
        self.parent.send_bytes(child.number + answer)

    def _end_idle(self) -> None:
        while self.idle:
            self._end(self.idle.pop())

    def _end(self, child: _Child) -> int:
        """Its status; that of a child that ended by itself says how."""
        child.channel.close()
        # With what it had started; by itself if it has no group yet.
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(child.process, signal.SIGKILL)
        return os.waitpid(child.process, 0)[1]


def _compile_jobs(channel: Connection, folder: Path) -> None:
    """A child's whole life: until the server is gone."""
    os.setpgid(0, 0)  # so that the assembler ends with it
    messages = os.open(folder / _MESSAGES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(messages, 1)
    os.dup2(messages, 2)
    tempfile.tempdir = str(folder)
    cache = folder / "cache"
    os.environ["TRITON_CACHE_DIR"] = str(cache)  # the code is kept elsewhere, as a whole
    with contextlib.suppress(EOFError, OSError):
        while True:
            request = json.loads(channel.recv_bytes())
            os.ftruncate(messages, 0)
            try:
                job = CompileJob.from_json(request["job"])
                answer = SUCCESS + machine_code(job, Path(request["folder"])).to_bytes()
            except BaseException as error:
                answer = FAILURE + _described(error).encode()
            channel.send_bytes(answer)
            shutil.rmtree(cache, ignore_errors=True)


def _described(error: BaseException) -> str:
    """Triton's errors say where in the text; others are ours to place."""
    shown = f"{type(error).__name__}: {error}"
    if type(error).__module__.startswith("triton"):
        cause = error.__cause__ or error.__context__
        return f"{shown}\n{type(cause).__name__}: {cause}" if cause is not None else shown
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).strip()


def _printed(path: Path) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return ""
    return f"\nprinted meanwhile:\n{text[-_SHOWN:]}" if text else ""


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"signal {number}, {signal.strsignal(number)}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def main(socket: int, workers: int, architecture: int) -> None:
    """Serve the socket (a file descriptor); `architecture` is what kernels will most likely be for."""
    os.set_inheritable(socket, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    folder = Path(tempfile.mkdtemp(prefix="lampwork-compile-"))
    try:
        os.environ["TRITON_CACHE_DIR"] = str(folder / "cache")
        warm_up(architecture, folder)
        Server(Connection(socket), workers, folder).serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
