"""Which processes a test has left behind, found by the path of the test's own workspace in their command lines."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


def processes_of(path: Path) -> dict[int, str]:
    """The processes (id and command line) whose command line names `path`, this one left out."""
    whole = re.compile(re.escape(str(path)) + r"(?![\w.-])")  # /tmp/ws1 is not /tmp/ws10
    return {pid: command for pid, command in _processes() if whole.search(command) and pid != os.getpid()}


def _processes() -> Iterator[tuple[int, str]]:
    proc = Path("/proc")
    if not (proc / "self" / "cmdline").exists():
        listing = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command
        return
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def end_processes_of(path: Path, patience: float = 3.0) -> dict[int, str]:
    """End those processes, by SIGTERM and after `patience` seconds by SIGKILL; gives those that were there."""
    found = processes_of(path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        for pid in processes_of(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while processes_of(path) and time.monotonic() < deadline:
            time.sleep(0.02)
    return found


def until_no_processes_of(path: Path, timeout: float = 5.0) -> None:
    """Wait until none is left. AssertionError that names those that stay."""
    deadline = time.monotonic() + timeout
    while left := processes_of(path):
        assert time.monotonic() < deadline, f"processes stayed behind: {left}"
        time.sleep(0.02)
