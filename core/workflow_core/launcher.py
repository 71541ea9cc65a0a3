"""Starts the engine, and imports next to nothing for it: torch should load while the UI still imports textual."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from workflow_core import sockets
from workflow_core.errors import WorkflowError
from workflow_core.workspace import Workspace

LOG_LIMIT = 1024 * 1024
"""A log larger than this (bytes) is set aside as engine.log.1 when an engine starts."""

TAIL = 4096
"""Bytes at the log's end in which an engine's last word is looked for."""

IDLE_SECONDS = "WORKFLOW_TUI_IDLE_SECONDS"
CHECKPOINT_SECONDS = "WORKFLOW_TUI_CHECKPOINT_SECONDS"
"""Variables of the environment that an engine goes by."""

_children: dict[tuple[Path, int], tuple[subprocess.Popen[bytes], int]] = {}
"""The engine last started for each workspace, and how long the log was before its first word."""


def _key(workspace: Workspace) -> tuple[Path, int]:
    """The folder itself, not only its name: one that was removed and made anew is another."""
    try:
        return workspace.path, workspace.path.stat().st_ino
    except OSError:
        return workspace.path, 0


def seconds(text: str) -> float:
    """So many seconds, more than none. Raises ValueError for anything else."""
    found = float(text)
    if not 0 < found < float("inf"):
        raise ValueError(text)
    return found


def _check_seconds(variable: str) -> None:
    """Raises WorkflowError for a variable that is set to no number of seconds."""
    said = os.environ.get(variable)
    if not said:
        return
    try:
        seconds(said)
    except ValueError as error:
        raise WorkflowError(
            "Cannot start the engine",
            f"{variable} is {said!r}, which is no number of seconds.",
            "Set a number, or unset it.",
        ) from error


def launch(workspace: Workspace) -> None:
    """Start an engine for `workspace` unless one answers there; does not wait for it.

    The engine has a session of its own and no pipe to this process: it outlives both it and its terminal.
    Raises WorkflowError where no process can be started, or what the environment says of engines means nothing.
    """
    if sockets.answers(workspace.socket):
        return
    if (child := child_of(workspace)) and child.poll() is None:
        return
    for variable in (IDLE_SECONDS, CHECKPOINT_SECONDS):
        _check_seconds(variable)
    command = [sys.executable, "-P", "-m", "workflow_core.engine", "--workspace", str(workspace.path)]
    try:
        log = open_log(workspace)
        try:
            said = os.fstat(log).st_size
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            _children[_key(workspace)] = child, said
        finally:
            os.close(log)
    except OSError as error:
        raise WorkflowError(
            "Cannot start the engine",
            f"the engine process cannot be started: {error.strerror}.",
            f"Look at {workspace.path}.",
        ) from error


def open_log(workspace: Workspace) -> int:
    """A descriptor that appends to the engine's log; a log that has grown too large is set aside. Raises OSError."""
    if workspace.log.exists() and workspace.log.stat().st_size > LOG_LIMIT:
        workspace.log.replace(workspace.log.with_suffix(".log.1"))
    return os.open(workspace.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def child_of(workspace: Workspace) -> subprocess.Popen[bytes] | None:
    """The engine process that `launch` started for `workspace` from here, alive or ended; None where it did not."""
    return _children.get(_key(workspace), (None, 0))[0]


def last_word(workspace: Workspace) -> str:
    """The last line that the engine of `child_of` left in the log, without its full stop; empty where it left none.

    Where there is no room for a line, that is the word. What engines before it said stands in the same log, and is
    not its own.
    """
    start = _children.get(_key(workspace), (None, 0))[1]
    with contextlib.suppress(OSError), workspace.log.open("rb") as log:
        size = os.fstat(log.fileno()).st_size
        # a log shorter than it was has been set aside since: all of it is newer
        log.seek(max(start if start <= size else 0, size - TAIL))
        for line in reversed(log.read(TAIL).decode("utf-8", errors="replace").split("\n")):
            if line.strip():
                return line.strip().rstrip(".")
        if not os.statvfs(workspace.path).f_bavail:
            return f"the disk that {workspace.path} is on has no room left"
    return ""
