"""The clock of a run: how long it has trained, how fast it is and could be, and when its next epoch is due."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from workflow_core.engine.pace import Capacity, Meter, Pace
from workflow_core.engine.speed import Speed


class Timing:
    """Seconds by time.monotonic(); a `position` is epochs done, the part of the one under way with them.

    `elapsed` are the seconds spent on the training, those of an earlier engine with them: all from `start` or `enter`
    to `count`, waits for the pace included.
    """

    def __init__(self, pace: float | None, position: float, elapsed: float = 0.0) -> None:
        self.pace = Pace(pace)
        self.speed = Speed(int(position))
        self.elapsed = self._before = elapsed
        self._meter = Meter()
        self._capacity = Capacity()
        self._worked = 0.0
        self._counted = position
        self._since = 0.0

    def start(self, position: float) -> None:
        """The training begins to run, or goes on: a pause is no part of anything."""
        self._since = time.monotonic()
        self.pace.start(self._since)
        self._meter.restart(self._since, position)

    def enter(self) -> float:
        """Count from now on, and what is now."""
        self._since = time.monotonic()
        return self._since

    def count(self) -> float:
        """Count the time until now, and what is now."""
        now = time.monotonic()
        self.elapsed += now - self._since
        self._since = now
        return now

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """What is done within is work on the epochs themselves, which tells how fast they could be."""
        begun = time.monotonic()
        yield
        self._worked += time.monotonic() - begun

    def leave_out(self, position: float) -> None:
        """What was done up to here says nothing of how fast it could be."""
        self._counted = position

    def measure(self, position: float, *, running: bool) -> tuple[float, float]:
        """Epochs a second over the last second (0 where it is not running), and those that it could do flat out."""
        rate = self._meter.mark(self.count(), position)
        capacity = self._capacity.mark(self._worked, position - self._counted)
        self.speed.note(self.elapsed - self._before, position)
        self._worked, self._counted = 0.0, position
        return (rate if running else 0.0), capacity
