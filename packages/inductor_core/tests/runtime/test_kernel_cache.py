"""The on-disk cache under concurrent processes, kills, damage and a size limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from lampwork_inductor_core.runtime.kernel_cache import KernelCache, KernelCacheError, cache_directory, content_key


def _run(code: str, *arguments: str) -> subprocess.Popen[str]:
    head = "import sys, time, os\nfrom pathlib import Path\n"
    head += "from lampwork_inductor_core.runtime.kernel_cache import KernelCache\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True
    )


def test_key_depends_on_borders_and_order():
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("a", "b") != content_key("b", "a")
    assert content_key("a", b"b") == content_key(b"a", "b")


def test_directory_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("LAMPWORK_CACHE_DIR", str(tmp_path / "here"))
    assert cache_directory() == tmp_path / "here"
    monkeypatch.delenv("LAMPWORK_CACHE_DIR")
    assert "lampwork" in str(cache_directory())


def test_builds_once_and_finds(tmp_path):
    cache = KernelCache(tmp_path)
    built = []

    def build() -> bytes:
        built.append(1)
        return b"artifact"

    first = cache.get_or_build("a" * 8, build)
    second = cache.get_or_build("a" * 8, build)
    assert first == second and first.read_bytes() == b"artifact" and built == [1]
    assert cache.find("b" * 8) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "no_sum", "empty_sum"])
def test_damaged_artifact_is_rebuilt(tmp_path, damage):
    cache = KernelCache(tmp_path)
    path = cache.get_or_build("k1", lambda: b"x" * 1000)
    checksum = path.with_name(path.name + ".sum")
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "flip":
        data = bytearray(path.read_bytes())
        data[500] ^= 1
        path.write_bytes(bytes(data))
    elif damage == "no_sum":
        checksum.unlink()
    else:
        checksum.write_bytes(b"")
    assert cache.find("k1") is None
    assert cache.get_or_build("k1", lambda: b"y" * 10).read_bytes() == b"y" * 10
    assert cache.find("k1") is not None


def test_failing_build_leaves_nothing(tmp_path):
    cache = KernelCache(tmp_path)

    def build() -> bytes:
        raise OSError("compiler exploded")

    with pytest.raises(OSError, match="exploded"):
        cache.get_or_build("k", build)
    assert cache.find("k") is None
    assert cache.get_or_build("k", lambda: b"fine").read_bytes() == b"fine"


def test_concurrent_processes_build_once(tmp_path):
    code = """
        cache = KernelCache(Path(sys.argv[1]))
        def build():
            with open(sys.argv[2], "a") as log:
                log.write("built\\n")
            time.sleep(0.3)
            return b"z" * 100000
        path = cache.get_or_build("shared", build)
        print(len(path.read_bytes()))
    """
    log = tmp_path / "log"
    processes = [_run(code, str(tmp_path / "cache"), str(log)) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and out.strip() == "100000"
    assert log.read_text().count("built") == 1


def test_killed_builder_blocks_nobody(tmp_path):
    code = """
        def build():
            print("building", flush=True)
            time.sleep(60)
        KernelCache(Path(sys.argv[1])).get_or_build("k", build)
    """
    process = _run(code, str(tmp_path))
    assert process.stdout is not None and process.stdout.readline().strip() == "building"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    start = time.monotonic()
    assert KernelCache(tmp_path).get_or_build("k", lambda: b"rebuilt").read_bytes() == b"rebuilt"
    assert time.monotonic() - start < 10


def test_kill_while_writing_leaves_no_broken_artifact(tmp_path):
    """Kill writers at random moments; whatever is found afterwards is whole."""
    code = """
        cache = KernelCache(Path(sys.argv[1]))
        print("go", flush=True)
        for k in range(100000):
            cache.store(f"k{k % 7}", bytes([k % 251]) * 300000)
    """
    cache = KernelCache(tmp_path)
    for delay in (0.01, 0.05, 0.1):
        process = _run(code, str(tmp_path))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait(timeout=10)
        for k in range(7):
            path = cache.find(f"k{k}")
            if path is not None:
                data = path.read_bytes()
                assert len(data) == 300000 and len(set(data)) == 1


def test_partial_files_are_ignored_and_swept(tmp_path):
    cache = KernelCache(tmp_path)
    cache.store("k", b"data")
    partial = cache.path_of("k").parent / "k.bin123.partial"
    partial.write_bytes(b"half")
    cache.sweep()
    assert partial.exists(), "a young partial file may belong to a living writer"
    old = time.time() - 7200
    os.utime(partial, (old, old))
    assert cache.sweep() == 4 and not partial.exists() and cache.find("k") is not None


def test_size_limit_drops_the_least_recently_used(tmp_path):
    cache = KernelCache(tmp_path, limit=2500)
    for age, key in ((300, "aa"), (200, "bb"), (100, "cc")):
        path = cache.store(key, b"x" * 1000)
        os.utime(path, (time.time() - age,) * 2)
    cache.sweep()
    assert cache.find("aa") is None and cache.find("bb") is not None and cache.find("cc") is not None


def test_unusable_folder_has_a_hint(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(KernelCacheError, match="LAMPWORK_CACHE_DIR"):
        KernelCache(file / "below").get_or_build("k", lambda: b"")


def test_clear(tmp_path: Path):
    cache = KernelCache(tmp_path)
    cache.store("k", b"data")
    cache.clear()
    assert cache.find("k") is None
