"""The way from the socket to the worker thread: in order, except that control never queues behind long work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from workflow_core.errors import Problem
from workflow_core.protocol import (
    Answer,
    Command,
    Evaluate,
    Inspect,
    InspectTable,
    Load,
    LookBack,
    Pause,
    Predict,
    ReadSpeed,
    ReadSurface,
    Save,
    SetLearningRate,
    SetPace,
)

_CONTROL = (Pause, SetPace, SetLearningRate)
# what neither starts nor changes a training means the same before and after a Pause
_OVERTAKEN = (Evaluate, Predict, Save, Inspect, InspectTable, Load, LookBack, ReadSurface, ReadSpeed)


class Job(NamedTuple):
    """A command, and where its answer goes (called from the worker thread)."""

    command: Command
    reply: Callable[[Problem | None, Answer], None]


class Inbox:
    """Jobs from one thread to another. `waiting` is a plain attribute, cheap enough to look at after every batch."""

    def __init__(self) -> None:
        self.waiting = False
        self.closed = False
        self._jobs: deque[Job] = deque()
        self._condition = threading.Condition()

    def put(self, job: Job) -> None:
        """Add a job; control goes before work that it does not depend on."""
        with self._condition:
            at = len(self._jobs)
            if isinstance(job.command, _CONTROL):
                while at and isinstance(self._jobs[at - 1].command, _OVERTAKEN):
                    at -= 1
            self._jobs.insert(at, job)
            self.waiting = True
            self._condition.notify()

    def get(self, block: bool) -> Job | None:
        """The next job; None where there is none (waits for one with `block`) or the inbox was closed."""
        with self._condition:
            while block and not self._jobs and not self.closed:
                self._condition.wait()
            job = self._jobs.popleft() if self._jobs and not self.closed else None
            self.waiting = bool(self._jobs) or self.closed
            return job

    def wait(self, seconds: float) -> None:
        """Wait until there is a job, the inbox is closed, or the time is over."""
        with self._condition:
            if not self.waiting:
                self._condition.wait(seconds)

    def close(self) -> None:
        """Hand out nothing any more: the worker ends at the next batch boundary."""
        with self._condition:
            self.closed = self.waiting = True
            self._condition.notify()
