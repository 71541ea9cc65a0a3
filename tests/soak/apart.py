"""Work in processes of their own: one with torch loaded and no threads, which forks many that are killed, or hindered.

`hindered` lets strace stand between one thread and the kernel: it kills it, or lets its calls fail.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_FILES = """
    open openat openat2 close read pread64 readv write pwrite64 writev lseek ftruncate truncate fallocate fchmod fchown
    fstat lstat stat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink flock fcntl fsync fdatasync
    link linkat rename renameat renameat2 unlink unlinkat
"""
FILES = frozenset(_FILES.split())
"""The system calls by which a thread has to do with files."""


def apart(function: Callable[..., Any], **arguments: Any) -> Any:
    """What `function` of a module of tests gives for `arguments`, all of it JSON, in a process of its own."""
    command = [sys.executable, "-m", "tests.soak.apart", function.__module__, function.__qualname__]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(arguments), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])


class Forked:
    """A process that does `work`, and tells lines of text meanwhile; it ends with 0 where the work comes to its end."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        self._end, far = os.pipe()
        self._read = b""
        self.status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                work(functools.partial(_say, far))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(far)

    def line(self) -> str:
        """The next line that it tells. AssertionError where it ended before."""
        while b"\n" not in self._read:
            more = os.read(self._end, 65536)
            assert more, f"it ended with {self.wait()}"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def lines(self) -> list[str]:
        """All lines that are left, once it has ended."""
        self.wait()
        while more := os.read(self._end, 65536):
            self._read += more
        lines, self._read = self._read.decode().splitlines(), b""
        return lines

    def kill(self) -> None:
        """As `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its status, negative for a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        """Let go of what it told."""
        self.wait()
        os.close(self._end)


def _say(end: int, line: str) -> None:
    os.write(end, f"{line}\n".encode())


@functools.cache
def no_tracing() -> str:
    """Why strace cannot hinder a process here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "strace may not trace here"


def needs_tracing() -> None:
    """Skip the test where strace does not work."""
    if reason := no_tracing():
        pytest.skip(reason)


@contextlib.contextmanager
def hindered(thread: int, *options: str, trace: str | Path = os.devnull) -> Iterator[None]:
    """Trace one `thread` by strace with `options` inside the block; what it calls stands in the file `trace`."""
    with attached(["-p", str(thread)], [thread], *options, trace=trace):
        yield


@contextlib.contextmanager
def hindered_process(pid: int, *options: str) -> Iterator[None]:
    """Trace all threads of a process, and those that it begins."""
    threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    with attached(["-f", "-p", str(pid)], threads, *options):
        yield


@contextlib.contextmanager
def attached(target: list[str], threads: list[int], *options: str, trace: str | Path = os.devnull) -> Iterator[None]:
    """Let strace trace `target` inside the block, which begins when all `threads` are traced."""
    command = ["strace", "-qq", "-e", "signal=none", "-o", str(trace), *options, *target]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        try:
            deadline = time.monotonic() + 10
            while not all(_is_traced(thread) for thread in threads):
                assert strace.poll() is None, strace.stderr.read() if strace.stderr else ""
                assert time.monotonic() < deadline, "strace does not come"
                time.sleep(0.002)
            yield
        finally:
            strace.terminate()
            strace.communicate()


def _is_traced(thread: int) -> bool:
    with contextlib.suppress(OSError):
        return "TracerPid:\t0\n" not in Path(f"/proc/{thread}/status").read_text()
    return True  # it has ended meanwhile


def calls(trace: Path) -> list[tuple[str, int]]:
    """The calls about files in a trace, in order: which, and the how manieth of its kind it is."""
    seen: dict[str, int] = {}
    found = []
    for name in re.findall(r"^(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE):
        seen[name] = seen.get(name, 0) + 1
        if name in FILES:
            found.append((name, seen[name]))
    return found


if __name__ == "__main__":
    _function: Any = importlib.import_module(sys.argv[1])
    for _name in sys.argv[2].split("."):
        _function = getattr(_function, _name)
    print(json.dumps(_function(**json.load(sys.stdin))))
