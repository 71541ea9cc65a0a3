"""What other load does to a measurement: the time in which a thread could have run, and the machine did not let it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest


def kept_waiting(pid: int, thread: int | None = None) -> float:
    """Seconds that a thread (by itself the main one) has stood ready to run, and waited for a processor.

    0 where the system does not tell (Linux does): all of a delay then counts as the program's own.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/task/{thread or pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def busiest_thread(pid: int) -> int:
    """The thread of a process that has had most of a processor."""

    def had(thread: str) -> int:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
        return 0

    with contextlib.suppress(OSError):
        return int(max(os.listdir(f"/proc/{pid}/task"), key=had))
    return pid


def needs_proc() -> None:
    """Skip the test where the system does not tell of its processes as Linux does."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc here")


def needs_tmux() -> None:
    """Skip the test where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")


def needs_names_of_bytes(folder: Path) -> None:
    """Skip the test where a name of a file in `folder` must be UTF-8."""
    path = os.fsencode(folder) + b"/\xff"
    try:
        os.close(os.open(path, os.O_CREAT))
    except OSError:
        pytest.skip("names of files are UTF-8 here")
    os.unlink(path)


class Stopwatch:
    """Measures what a thread takes by itself: the time on the wall, less that in which the machine kept it waiting."""

    def __init__(self, pid: int, thread: int | None = None, *, new: bool = False) -> None:
        """From now on; with `new` from the beginning of a process that has begun a moment ago."""
        self._pid, self._thread = pid, thread
        self._waited = 0.0 if new else kept_waiting(pid, thread)
        self._begun = time.monotonic()

    def own(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._begun - (kept_waiting(self._pid, self._thread) - self._waited)
