"""A file that a user names is either as it was or completely the new one, whatever goes wrong in between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize

TITLE = "Cannot save there"

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some room or choose another folder."),
    errno.EDQUOT: ("your disk quota is used up", "Free some room or choose another folder."),
    errno.EFBIG: ("the file would be larger than is allowed here", "Raise the limit (ulimit -f) or save elsewhere."),
    errno.EROFS: ("the file system is read-only", "Choose another folder."),
    errno.EACCES: ("permission is denied", "Choose a folder that you may write to."),
    errno.EPERM: ("permission is denied", "Choose a folder that you may write to."),
    errno.ENOENT: ("the folder does not exist", "Create it first, or choose another."),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "Choose another folder."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.ELOOP: ("its symbolic links go round in a circle", "Choose another name."),
    errno.EEXIST: ("it exists already", "Choose another name, or replace it (--overwrite)."),
    errno.EIO: ("the disk reports an error", "Check the disk, or choose another folder."),
    errno.EAGAIN: ("another process is saving to it right now", "Try again in a moment."),
}


def problem(path: str | os.PathLike[str], error: OSError | str, advice: str = "", title: str = TITLE) -> WorkflowError:
    """The error to raise where `path` cannot be written or read because of `error`."""
    if isinstance(error, OSError):
        fallback = os.strerror(error.errno) if error.errno else "the system refused"
        reason, advice = _REASONS.get(error.errno or 0, (fallback.lower(), "Choose another folder."))
    else:
        reason = error
    return WorkflowError(title, f"{sanitize(os.fspath(path))}: {reason}.", advice)


def expand(path: str | os.PathLike[str], title: str = TITLE) -> str:
    """`path` with ~ expanded. Raises WorkflowError for one that cannot be a path at all."""
    text = os.fspath(path)
    if not text.strip():
        raise WorkflowError(title, "No file name was given.", "Name a file, for example model.pt.")
    if "\0" in text:
        raise problem(text, "a file name cannot hold a NUL character", "Choose another name.", title)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise problem(text, "the name holds characters that no file can have", "Choose another name.", title) from None
    return os.path.expanduser(text)


def check(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The real file that a write to `path` would make, symbolic links followed, after all that can be checked before.

    Raises WorkflowError where it exists (unless `overwrite`), is no regular file, or its folder cannot be written to.
    """
    text = expand(path)
    if text.endswith(os.sep) or os.path.basename(text) in (".", ".."):
        raise problem(path, "that is a folder, not a file", "Add a file name.")
    target = Path(os.path.realpath(text))
    try:
        _check_folder(target.parent)
        _check_file(target, overwrite)
    except OSError as error:
        raise problem(path, error) from error
    return target


def _check_folder(folder: Path) -> None:
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        raise OSError(errno.ENOTDIR, "")
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        raise OSError(errno.EROFS if read_only else errno.EACCES, "")


def _check_file(target: Path, overwrite: bool) -> None:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise problem(target, "that is a folder, not a file", "Add a file name.")
    if not stat.S_ISREG(mode):
        raise problem(target, "it is a device, a pipe or a socket, not a file", "Choose another name.")
    if not overwrite:
        raise OSError(errno.EEXIST, "")
    if not os.access(target, os.W_OK):
        raise problem(target, "the file is write-protected", "Choose another name, or make it writable.")


def write(path: str | os.PathLike[str], data: bytes, *, overwrite: bool, mode: int | None = None) -> Path:
    """Write `data` to `path`, whole or not at all, and return the real file that holds it. Raises WorkflowError."""
    return write_parts(path, (data,), overwrite=overwrite, mode=mode)


def write_parts(
    path: str | os.PathLike[str], parts: Iterable[bytes], *, overwrite: bool, mode: int | None = None
) -> Path:
    """Write all of `parts` to `path`, whole or not at all, and return the real file that holds them.

    It gets the permissions `mode`; None is those of the file in whose place it comes, or what is usual for a new one.

    The data goes to a temporary file in the same folder, whose name follows from the target's, so that the next write
    removes what a killed one left; then fsync, rename, and fsync of the folder. Without `overwrite` a file
    that appears in the meantime is not replaced either. Raises WorkflowError, and what `parts` raises.
    """
    target = check(path, overwrite=overwrite)
    # a name of this user's own: where others may write as well, a file of theirs there is no save under way
    digest = hashlib.sha256(b"%d/%s" % (os.geteuid(), os.fsencode(target.name))).hexdigest()[:16]
    temporary = target.with_name(f".workflow-tui-{digest}.part")
    try:
        with _locked(temporary, 0o666 if mode is None else mode) as descriptor:
            if mode is None:
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(descriptor, stat.S_IMODE(os.stat(target).st_mode) & 0o777)
            _fill(descriptor, parts)
            _publish(temporary, target, overwrite)
        _confirm(target.parent)
    except OSError as error:
        raise problem(path, error) from error
    return target


@contextlib.contextmanager
def _locked(temporary: Path, mode: int) -> Iterator[int]:
    """The temporary file, made by us and removed on failure: two saves to one name at once cannot mix their bytes."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            except FileExistsError:
                _clear(temporary)
                continue
            stack.callback(os.close, descriptor)
            if not _hold(descriptor, temporary):
                continue
            try:
                yield descriptor
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            return


def _clear(temporary: Path) -> None:
    """Remove what has the temporary file's name, unless a save of ours is under way there.

    A killed save of ours left it, or somebody planted it to own what we save. Raises OSError or WorkflowError.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
        named = os.lstat(temporary)
        if stat.S_ISREG(named.st_mode) and named.st_uid == os.geteuid():
            descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            if not _hold(descriptor, temporary):
                return
        try:
            os.unlink(temporary)
        except (IsADirectoryError, PermissionError) as error:
            reason = "this name is needed while saving, and something that cannot be removed has it"
            raise problem(temporary, reason, "Remove it, or choose another folder.") from error


def _hold(descriptor: int, temporary: Path) -> bool:
    """Lock the file; False where its name means another file, or none, by then. Raises OSError where it is locked."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(temporary))
    except FileNotFoundError:
        return False


def _fill(descriptor: int, parts: Iterable[bytes]) -> None:
    os.ftruncate(descriptor, 0)
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:
            # file systems without hard links: the look just before the rename has to do
            if os.path.lexists(target):
                raise OSError(errno.EEXIST, "") from None
        else:
            # the file is in place; a second name that stays is removed by the next save
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return
    os.replace(temporary, target)


def _confirm(folder: Path) -> None:
    """Make the new name last. The file is in place by now: what fails here must not be told as a failed save."""
    try:
        sync_folder(folder)
    except OSError as error:
        reason = "the file is in place, but the disk did not confirm that it will last"
        raise problem(folder, reason, "Check the disk, then save again.", "Saved, but not for certain") from error


def sync_folder(folder: Path) -> None:
    """Let what names there are in `folder` outlast a power cut, as far as it can be known. Raises OSError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # a folder that one may write to but not list cannot be opened, and some file systems know no fsync of folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise
