"""When the next epoch is due, and how many a second there were: the clock beside the training loop."""

from __future__ import annotations

import math
import statistics
from collections import deque

LATE = 1.0
"""Seconds a schedule may lag before what was missed is forgotten (a machine that slept must not race afterwards)."""

STRETCHES = 32


class Pace:
    """A schedule of epochs counted from a fixed point, so that single delays do not add up to a drift.

    Times are those of one monotonic clock, in seconds; `rate` is epochs per second, None for as many as there can be.
    """

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate
        self._origin = -math.inf
        self._count = 0

    def start(self, now: float) -> None:
        """Begin: the next epoch is due now."""
        self._origin, self._count = now, 0

    def change(self, rate: float | None, now: float) -> None:
        """Go on at another rate, counted from the last epoch that was due."""
        last = self._origin + (self._count - 1) / self.rate if self.rate and self._count else now
        self.rate = rate
        self._origin, self._count = last, 1

    def wait(self, now: float) -> float:
        """Seconds until the next epoch is due, 0 where it is."""
        if self.rate is None:
            return 0.0
        due = self._origin + self._count / self.rate
        if now - due > LATE:
            self._origin, self._count = now, 0
            return 0.0
        return max(0.0, due - now)

    def count(self) -> None:
        """One epoch was done."""
        self._count += 1


class Meter:
    """Epochs per second over the last second, or over the last epoch where that took longer."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()

    def restart(self, now: float, epoch: float) -> None:
        """Forget what was before: a pause is not part of any rate."""
        self._marks.clear()
        self._marks.append((now, epoch))

    def mark(self, now: float, epoch: float) -> float:
        """Note how far the training is, with a fraction for the epoch under way, and get its rate."""
        self._marks.append((now, epoch))
        while len(self._marks) > 2 and now - self._marks[1][0] >= 1.0:
            self._marks.popleft()
        start, first = self._marks[0]
        return (epoch - first) / (now - start) if now > start else 0.0


class Capacity:
    """Epochs a second that a training does flat out, by the median of its last stretches of work without a wait."""

    def __init__(self) -> None:
        self._stretches: deque[float] = deque(maxlen=STRETCHES)

    def mark(self, seconds: float, epochs: float) -> float:
        """Note how long so many epochs have taken, and get the rate."""
        if seconds > 0 and epochs > 0:
            self._stretches.append(epochs / seconds)
        return statistics.median(self._stretches) if self._stretches else 0.0


class Rates:
    """Epochs a second over the seconds spent training, in at most `most` stretches, which grow with the time.

    `position` are the epochs that are done before the first of those seconds.
    """

    def __init__(self, position: float = 0.0, most: int = 240) -> None:
        self._most = most
        self._width = 1.0
        self._epochs: list[float] = []
        self._last = 0.0, position

    def note(self, elapsed: float, position: float) -> None:
        """So many epochs, a fraction of one among them, are done after so many seconds."""
        since, before = self._last
        if elapsed <= since:
            return
        self._last = elapsed, position
        while elapsed > self._width * self._most:
            pairs = zip(self._epochs[::2], [*self._epochs[1::2], 0.0], strict=False)
            self._epochs = [first + second for first, second in pairs]
            self._width *= 2
        rate = max(0.0, position - before) / (elapsed - since)
        while since < elapsed:
            at = int(since / self._width)
            end = min(elapsed, (at + 1) * self._width)
            self._epochs += [0.0] * (at + 1 - len(self._epochs))
            self._epochs[at] += rate * (end - since)
            since = end

    def series(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Where each stretch ends, in seconds, and its rate."""
        ends = [min((at + 1) * self._width, self._last[0]) for at in range(len(self._epochs))]
        starts = [at * self._width for at in range(len(self._epochs))]
        rates = [part / (end - start) for part, start, end in zip(self._epochs, starts, ends, strict=True)]
        return tuple(ends), tuple(rates)
