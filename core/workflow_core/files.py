"""A file that a user names is opened without trusting it: no pipe makes us wait, no device makes us read for ever."""

from __future__ import annotations

import errno
import os
import stat

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its symbolic links go round in a circle",
    errno.EIO: "the disk reports an error",
    errno.ENXIO: "it is no regular file",
}


def read(path: str | os.PathLike[str], most: int, title: str = "Cannot read the file") -> bytes:
    """All bytes of the regular file `path` (with ~ expanded), of which it may have at most `most`.

    Raises WorkflowError with `title` for anything else: no such file, a folder, a pipe, a device, a larger file.
    """
    name = atomic.expand(path, title)
    try:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write to it
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            size = _size(name, os.fstat(descriptor), most, title)
            with open(descriptor, "rb", closefd=False) as file:
                # room for that much is taken at once: not for the most that is allowed
                return file.read(size + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(name, _REASONS.get(error.errno or 0, "the system refused"), title) from error
    except MemoryError as error:
        raise unreadable(name, "it does not fit into the memory of this machine", title) from error


def unreadable(name: str, reason: str, title: str = "Cannot read the file") -> WorkflowError:
    """The error to raise where the file `name` cannot be read because of `reason`."""
    return WorkflowError(title, f"{sanitize(name)} cannot be read: {reason}.", "Choose another file.")


def _size(name: str, status: os.stat_result, most: int, title: str) -> int:
    if stat.S_ISDIR(status.st_mode):
        raise unreadable(name, "it is a folder", title)
    if not stat.S_ISREG(status.st_mode):
        raise unreadable(name, "it is a device, a pipe or a socket, not a file", title)
    if status.st_size > most:
        raise unreadable(name, f"it is larger than {most // 1024**2:,} MiB, the most that is read here", title)
    return status.st_size
