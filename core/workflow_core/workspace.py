"""Where things lie on disk: the private folder that an engine and its UIs share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
from pathlib import Path

from workflow_core.errors import WorkflowError

APP = "workflow-tui"
_ADVICE = "Name another folder with --workspace."


class Workspace:
    """A folder of mode 0700 with the engine's socket, pid, lock and log, and the checkpoints.

    Use `Workspace.open`, which makes and checks the folder; the class itself only names the files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "engine.sock"
        self.pid_file = path / "engine.pid"
        self.lock_file = path / "engine.lock"
        self.log = path / "engine.log"
        self.checkpoints = path / "checkpoints"
        self._lock: int | None = None

    @classmethod
    def open(cls, path_or_name: str | Path | None = None) -> Workspace:
        """The workspace in a folder (anything with a slash, or a Path), by a name, or the default one.

        Makes the folder where it is missing, and takes away other users' access where they could write to it.
        Raises WorkflowError where there can be no private folder of ours.
        """
        path = _locate(path_or_name)
        try:
            if not path.exists():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(path)
            (path / "checkpoints").mkdir(mode=0o700, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise _unusable(path, f"it cannot be made or used: {reason}") from error
        return cls(path)

    def lock(self) -> int | None:
        """A descriptor that holds the folder for one engine until it is closed, or None while another holds it.

        The lock goes with its process, however that ends; the file stays, because deleting it would let two
        engines hold one lock each. Raises OSError.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor
        return descriptor

    def held(self) -> bool:
        """Is the folder still the one this process locked? Not after it was removed, though another has its name."""
        with contextlib.suppress(OSError):
            return self._lock is not None and os.path.samestat(os.fstat(self._lock), self.lock_file.stat())
        return False

    def write_pid(self) -> None:
        """Note that this process is the engine. Raises OSError."""
        temporary = self.pid_file.with_suffix(".pid.tmp")
        temporary.write_text(f"{os.getpid()} {started(os.getpid())}\n", encoding="ascii")
        temporary.replace(self.pid_file)

    def engine_pid(self) -> int | None:
        """The engine's pid, or None where it has ended: a number that another process got since is not it."""
        try:
            pid, _, start = self.pid_file.read_text(encoding="ascii").strip().partition(" ")
            number = int(pid)
        except (OSError, ValueError):
            return None
        return number if number > 0 and start and started(number) == start else None

    def sweep(self) -> None:
        """Remove what only a live engine has: its socket and its pid."""
        for path in (self.socket, self.pid_file):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def started(pid: int) -> str:
    """When process `pid` began, as text that no later process of the same number shares; empty where it has ended."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _ps_started(pid)
    except OSError:
        return ""
    # the name in parentheses may hold anything; after it come the state (field 3) and the start (field 22)
    fields = line.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _ps_started(pid: int) -> str:
    try:
        answer = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    state, _, start = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else "-".join(start.split())


def _locate(path_or_name: str | Path | None) -> Path:
    if path_or_name is None or (isinstance(path_or_name, str) and not _is_path(path_or_name)):
        from platformdirs import user_state_path  # costs 13 ms, and a path that is given needs none of it

        name = path_or_name or "default"
        if len(os.fsencode(name)) > 100 or not name.isprintable():
            raise WorkflowError("No such workspace", "a workspace's name is up to 100 printable characters.", _ADVICE)
        return Path(user_state_path(APP)) / name
    try:
        return Path(path_or_name).expanduser().absolute()
    except RuntimeError as error:
        raise WorkflowError("No such workspace", f"{path_or_name}: {error}", _ADVICE) from error


def _is_path(text: str) -> bool:
    return "/" in text or text in (".", "..") or text.startswith("~")


def _make_private(path: Path) -> None:
    """Check that `path` is a folder of this user's that nobody else can write to. Raises WorkflowError or OSError."""
    info = path.stat()
    if not stat.S_ISDIR(info.st_mode):
        raise _unusable(path, "it is not a folder")
    if info.st_uid != os.getuid():
        raise _unusable(path, "it belongs to another user")
    if info.st_mode & stat.S_ISVTX:
        # a shared folder such as /tmp, which root owns as well: tightening it would lock everybody else out
        raise _unusable(path, "it is a folder that users share")
    if info.st_mode & 0o022:
        path.chmod(0o700)


def _unusable(path: Path, why: str) -> WorkflowError:
    return WorkflowError("Cannot use this workspace", f"{path} cannot be the workspace: {why}.", _ADVICE)
