"""Where things lie on disk: the private folder that an engine and its UIs share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
from pathlib import Path

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize

APP = "workflow-tui"
_ADVICE = "Name a new folder with --workspace."


class Workspace:
    """A folder of mode 0700 with the engine's socket, pid, lock and log, the checkpoints and the store.

    `kept_run` is what an engine has kept last, of a run or a race, for the next one to bring back; `news` is what it
    could tell nobody.

    Use `Workspace.open`, which makes and checks the folder; the class itself only names the files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "engine.sock"
        self.pid_file = path / "engine.pid"
        self._pid_draft = path / "engine.pid.tmp"
        self.lock_file = path / "engine.lock"
        self.log = path / "engine.log"
        self.news = path / "news.json"
        self.checkpoints = path / "checkpoints"
        self.kept_run = self.checkpoints / "run.pt"
        self.store = path / "workspace.sqlite"
        self._lock: int | None = None

    @classmethod
    def open(cls, path_or_name: str | Path | None = None) -> Workspace:
        """The workspace in a folder (anything with a slash, or a Path), by a name, or the default one.

        Makes the folder where it is missing, and takes away other users' access to one that is empty or a workspace
        already. Raises WorkflowError where there can be no private folder of ours.
        """
        path = _locate(path_or_name)
        workspace = cls(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            workspace._make_private()
            # nobody else can put anything here from now on: what was planted before is found now or never
            workspace._refuse_planted()
            workspace.checkpoints.mkdir(mode=0o700, exist_ok=True)
        except (OSError, ValueError) as error:
            if os.path.exists(path) and not os.path.isdir(path):
                raise _unusable(path, "it is not a folder") from error
            reason = error.strerror if isinstance(error, OSError) else error
            raise _unusable(path, f"it cannot be made or used: {reason}") from error
        return workspace

    @classmethod
    def find(cls, path_or_name: str | Path) -> Workspace:
        """The workspace that is there already, by a name or in a folder; nothing is made. Raises WorkflowError."""
        path = _locate(path_or_name)
        workspace = cls(path)
        try:
            theirs = path.lstat().st_uid != os.geteuid() or not _ours(workspace.lock_file)
        except (OSError, ValueError):
            theirs = True
        if theirs:
            name = sanitize(str(path_or_name), 200)
            raise WorkflowError(
                "No such workspace", f"there is no workspace {name}.", f"`{APP} ls` lists those that there are."
            )
        return workspace

    @classmethod
    def all(cls) -> list[Workspace]:
        """Those that have a name, in the order of their names."""
        try:
            folders = sorted(_folder().iterdir())
        except (OSError, RuntimeError):
            return []
        return [cls(path) for path in folders if _ours(path / "engine.lock")]

    def _make_private(self) -> None:
        """Let nobody but this user into the folder, unless it may be meant for others. Raises WorkflowError, OSError.

        One descriptor is looked at and changed, so that no other folder can take the name in between.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            info = os.fstat(descriptor)
            if info.st_uid != os.geteuid():
                raise _unusable(self.path, "it belongs to another user")
            if info.st_mode & stat.S_ISVTX:
                # a shared folder such as /tmp, which root owns as well: tightening it would lock everybody else out
                raise _unusable(self.path, "it is a folder that users share")
            if not info.st_mode & 0o077:
                return
            if os.listdir(descriptor) and not (_ours(self.lock_file) or _ours(self.log)):
                raise _unusable(self.path, "other users can enter it, and it holds other things than a workspace's")
            os.fchmod(descriptor, stat.S_IMODE(info.st_mode) & ~0o077)
        finally:
            os.close(descriptor)

    def _refuse_planted(self) -> None:
        """Raise WorkflowError where a file of ours would be written through something that another user left here."""
        for path in (self.lock_file, self.log, self.pid_file, self._pid_draft, self.news, self.store):
            if os.path.lexists(path) and not _ours(path):
                raise _unusable(self.path, f"{path.name} in it is a link, or not a file of yours")
        for path, is_kind in ((self.socket, stat.S_ISSOCK), (self.checkpoints, stat.S_ISDIR)):
            with contextlib.suppress(FileNotFoundError):
                info = path.lstat()
                if not is_kind(info.st_mode) or info.st_uid != os.geteuid():
                    raise _unusable(self.path, f"{path.name} in it is a link, or not yours")

    def lock(self) -> int | None:
        """A descriptor that holds the folder for one engine until it is closed, or None while another holds it.

        The lock goes with its process, however that ends; the file stays, because deleting it would let two
        engines hold one lock each. Raises OSError.
        """
        descriptor = _locked(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        if descriptor is not None:
            self._lock = descriptor
        return descriptor

    def turn(self) -> int | None:
        """A descriptor that lets nobody else begin a training here until it is closed, or None while another's does.

        Only those who ask for their turn wait for it; it goes with its process, however that ends. Raises OSError,
        also on a disk that knows no locks.
        """
        return _locked(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def held(self) -> bool:
        """Is the folder still the one this process locked? Not after it was removed, though another has its name.

        One whose disk cannot tell now (EIO, ESTALE) is still held: nobody has removed it.
        """
        if self._lock is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), self.lock_file.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def write_pid(self) -> None:
        """Note that this process is the engine. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self._pid_draft, flags, 0o600), "w", encoding="ascii") as draft:
            draft.write(f"{os.getpid()} {started(os.getpid())}\n")
        self._pid_draft.replace(self.pid_file)

    def engine_pid(self) -> int | None:
        """The engine's pid, or None where it has ended: a number that another process got since is not it."""
        try:
            pid, _, start = self.pid_file.read_text(encoding="ascii").strip().partition(" ")
            number = int(pid)
        except (OSError, ValueError):
            return None
        return number if number > 0 and start and started(number) == start else None

    def left_behind(self) -> bool:
        """Is there what only a live engine has, though none is alive? Then the last one did not end in order."""
        return self.pid_file.exists() and self.engine_pid() is None

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


def _locked(path: Path, flags: int) -> int | None:
    """A descriptor that holds `path` locked, or None where another does. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _ours(path: Path) -> bool:
    """Is `path` a file of this user's under this one name, and no link? A second name may lie anywhere."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and info.st_nlink == 1


def _locate(path_or_name: str | Path | None) -> Path:
    """Where the workspace is to be, as an absolute path that can be told to the engine. Raises WorkflowError."""
    asked = sanitize("the default workspace" if path_or_name is None else str(path_or_name))
    try:
        path = _named(path_or_name)
        str(path).encode()  # the wire and the log carry it as UTF-8
    except UnicodeEncodeError as error:
        raise WorkflowError("No such workspace", f"the path of {asked} is not UTF-8.", _ADVICE) from error
    except RuntimeError as error:  # no such user, or nobody knows where this user's home is
        message = f"{asked} has no place: {sanitize(str(error)).rstrip('.')}."
        raise WorkflowError("No such workspace", message, _ADVICE) from error
    except OSError as error:
        message = f"The current folder cannot be told: {(error.strerror or 'the system refused').lower()}."
        raise WorkflowError("No such workspace", message, "Name the workspace by its whole path.") from error
    return path


def _named(path_or_name: str | Path | None) -> Path:
    """Raises WorkflowError, RuntimeError or OSError."""
    if path_or_name is None or (isinstance(path_or_name, str) and not _is_path(path_or_name)):
        name = "default" if path_or_name is None else path_or_name
        if not name or not name.isprintable() or len(name.encode()) > 100:
            raise WorkflowError("No such workspace", "a workspace's name is 1 to 100 printable characters.", _ADVICE)
        return _folder() / name
    return Path(path_or_name).expanduser().absolute()


def _folder() -> Path:
    """Where the workspaces are that have a name. Raises RuntimeError where this user has no home."""
    from platformdirs import user_state_path  # costs 13 ms, and a path that is given needs none of it

    folder = Path(user_state_path(APP))
    if not folder.is_absolute():
        raise RuntimeError("there is no home folder")
    return folder


def _is_path(text: str) -> bool:
    return "/" in text or text in (".", "..") or text.startswith("~")


def _unusable(path: Path, why: str) -> WorkflowError:
    return WorkflowError(
        "Cannot use this workspace", f"{sanitize(str(path), 4096)} cannot be the workspace: {why}.", _ADVICE
    )
