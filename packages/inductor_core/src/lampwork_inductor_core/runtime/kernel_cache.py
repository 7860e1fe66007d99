"""Kernel cache: compiled artifacts on disk, found by the content that they were made from.

Device backends keep what a compiler took long to build here; a later process finds it and compiles nothing. A key is a
digest of everything that decides the artifact (text, flags, compiler version, ABI). Invariant: a reader sees a whole,
checked artifact or none: files are written beside their place and renamed into it, and carry a checksum; what a killed
process left behind is ignored and later swept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

CACHE_VARIABLE = "LAMPWORK_CACHE_DIR"
_MAGIC = b"LWK1"
_DIGEST_BYTES = 32
_PARTIAL_SUFFIX = ".partial"
_PARTIAL_AGE = 3600.0  # seconds after which an unfinished file belongs to nobody
_TOUCH_AGE = 3600.0  # an artifact's time of last use is kept to about this many seconds
DEFAULT_LIMIT = 2 << 30  # bytes


class KernelCacheError(RuntimeError):
    """The cache folder cannot be used. The hint names the environment variable that moves it."""


def cache_directory() -> Path:
    """Where Lampwork keeps compiled kernels: `LAMPWORK_CACHE_DIR`, or the user's cache folder. Not created here."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("lampwork", appauthor=False))


def content_key(*parts: str | bytes) -> str:
    """A file-name-safe digest of everything that decides an artifact; the order and the borders of parts count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class KernelCache:
    """Artifacts of one kind in one folder.

    `get_or_build` is the usual entry. Artifacts are `<folder>/<first two of key>/<key><suffix>`, with a checksum
    in a file `.sum` beside each, so that a compiler's output can be loaded from its place (dlopen) as it is.
    """

    folder: Path
    suffix: str = ".bin"
    limit: int = DEFAULT_LIMIT

    @staticmethod
    def named(kind: str, suffix: str = ".bin", limit: int = DEFAULT_LIMIT) -> KernelCache:
        """The cache for one kind of artifact (`"cpp"`, `"cubin"`) under `cache_directory()`."""
        return KernelCache(cache_directory() / kind, suffix, limit)

    def path_of(self, key: str) -> Path:
        """Where the artifact of a key lies or would lie."""
        return self.folder / key[:2] / f"{key}{self.suffix}"

    def find(self, key: str) -> Path | None:
        """The path of a whole artifact, or None. A damaged one is removed. Marks it as used."""
        path = self.path_of(key)
        try:
            expected = _sum_path(path).read_bytes()
            data = path.read_bytes()
        except OSError:
            return None
        if expected != _checksum(data):
            self._discard(path)
            return None
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _TOUCH_AGE:
                os.utime(path)
        return path

    def store(self, key: str, data: bytes) -> Path:
        """Put an artifact in place, atomically. Of concurrent writers of one key any may win; they wrote the same."""
        path = self.path_of(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, data)
            _write_atomically(_sum_path(path), _checksum(data))
        except OSError as error:
            raise KernelCacheError(
                f"cannot write {path}: {error}. Hint: set {CACHE_VARIABLE} to a folder that is writable and has room."
            ) from error
        return path

    def get_or_build(self, key: str, build: Callable[[], bytes]) -> Path:
        """The artifact's path; `build` makes it when it is not there. One process builds a key, others wait for it.

        A builder that dies releases its lock (the operating system does), and the next one builds.
        """
        found = self.find(key)
        if found is not None:
            return found
        path = self.path_of(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KernelCacheError(f"cannot make {path.parent}: {error}. Hint: set {CACHE_VARIABLE}.") from error
        with filelock.FileLock(path.with_suffix(".lock")):
            found = self.find(key)
            if found is None:
                found = self.store(key, build())
                self.sweep()
        return found

    def sweep(self) -> int:
        """Delete abandoned partial files, and the least recently used artifacts beyond the size limit; returns bytes
        freed.

        Runs after each build. On POSIX systems a file that another process has loaded stays usable after its deletion.
        """
        now = time.time()
        entries: list[tuple[float, int, Path]] = []
        freed = 0
        for file in _files(self.folder):
            with contextlib.suppress(OSError):
                status = file.stat()
                if file.name.endswith(_PARTIAL_SUFFIX):
                    if now - status.st_mtime > _PARTIAL_AGE:
                        file.unlink()
                        freed += status.st_size
                elif file.name.endswith(self.suffix):
                    entries.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries):
            if total <= self.limit:
                break
            self._discard(file)
            total -= size
            freed += size
        return freed

    def clear(self) -> None:
        """Delete every artifact of this kind."""
        for file in list(_files(self.folder)):
            with contextlib.suppress(OSError):
                file.unlink()

    def discard(self, key: str) -> None:
        """Remove an artifact, because it is of no use here although it is whole."""
        self._discard(self.path_of(key))

    def _discard(self, path: Path) -> None:
        for file in (_sum_path(path), path):
            with contextlib.suppress(OSError):
                file.unlink()


def _files(folder: Path) -> Iterable[Path]:
    return (f for f in folder.glob("*/*") if f.is_file()) if folder.is_dir() else ()


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sum")


def _checksum(data: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(data).digest()[:_DIGEST_BYTES]


def _write_atomically(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=_PARTIAL_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
