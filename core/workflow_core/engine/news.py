"""What happened and could be told to nobody yet; another engine tells it where this one ends before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import msgspec
from msgspec.structs import replace

from workflow_core import atomic
from workflow_core.errors import Problem, WorkflowError
from workflow_core.workspace import Workspace

MOST = 16
"""Problems that are kept: the newest."""

GOES_ON = "Close this; then space goes on with it."
"""What to do about a run that is back, and paused."""
WENT_ON = "It has gone on since."
"""What is said in place of that once it is not."""

log = logging.getLogger(__name__)


class News:
    """The problems that wait to be told, those that earlier engines have left first; also in a file of the workspace.

    What is added and taken is written by a thread of its own: nobody waits for the disk, and what it does not take is
    told all the same as long as this engine lives.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._waiting = self._read()
        self._writer = ThreadPoolExecutor(1, "news")
        self._written = self._writer.submit(lambda: None)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._waiting)

    def add(self, problem: Problem) -> None:
        """Keep it until somebody is there."""
        self._waiting = [*self._waiting, problem][-MOST:]
        self._write_soon()

    def gone_on(self) -> None:
        """What came back, and waited to be gone on with, no longer does."""
        waiting = [replace(each, advice=each.advice.replace(GOES_ON, WENT_ON)) for each in self._waiting]
        if waiting != self._waiting:
            self._waiting = waiting
            self._write_soon()

    def told(self) -> None:
        """All of it has been told."""
        if self._waiting:
            self._waiting = []
            self._write_soon()

    def close(self, seconds: float) -> None:
        """Wait so long for the disk."""
        wait([self._written], seconds)

    def _write_soon(self) -> None:
        waiting = list(self._waiting)
        self._written = self._writer.submit(self._write, waiting)

    def _write(self, waiting: list[Problem]) -> None:
        path = self._workspace.news
        if not self._workspace.held():
            return
        try:
            if waiting:
                atomic.write(path, msgspec.json.encode(waiting), overwrite=True, mode=0o600)
            else:
                path.unlink(missing_ok=True)
        except (WorkflowError, OSError) as error:
            log.warning("what is to be told cannot be kept: %s", error)

    def _read(self) -> list[Problem]:
        path = self._workspace.news
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Problem])[-MOST:]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            log.warning("what an earlier engine had to tell cannot be read in %s: %s", path, error)
            return []
