"""The files that commands name: where they are, and whether they have changed since they were read."""

from __future__ import annotations

import os
from pathlib import Path

from workflow_core.errors import WorkflowError

Stamp = tuple[int, int, int] | None
"""What is another one when a file was written anew: its time, size and inode; None for what is no file."""


def absolute(text: str, folder: Path) -> Path:
    """The path that `text` names; a relative one lies in `folder`, whoever asks from wherever. Raises WorkflowError."""
    if not text or "\0" in text:
        raise WorkflowError("Not a file name", "the name of the file is empty or holds a NUL.", "Give another name.")
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as error:
        raise WorkflowError("Not a file name", f"{text}: {error}.") from error


def stamp(path: Path) -> Stamp:
    """The stamp of the file as it is now."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
