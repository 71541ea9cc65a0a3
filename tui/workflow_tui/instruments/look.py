"""Which epochs the charts show, and which of them a person looks at: pure values, moved by keys."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LEAST = 10
"""Epochs that the narrowest window shows."""
RECENT = 10
"""The recent window is this part of the planned epochs: one in ten."""


@dataclass(frozen=True)
class Look:
    """`epoch` is the one that is looked at, counted from 0; None is now.

    `window` are the epochs shown, (start, stop), None all that are planned; `recent` follows the last ones instead.
    """

    epoch: int | None = None
    window: tuple[int, int] | None = None
    recent: bool = False

    @property
    def now(self) -> bool:
        """Is all of it shown, as it is now?"""
        return self == Look()

    def shown(self, planned: int, done: int) -> tuple[int, int]:
        """The epochs from the left edge of a chart to its right, of a run of `planned` epochs of which `done` are."""
        planned = max(planned, done, 1)
        if self.recent:
            span = min(max(LEAST, planned // RECENT), planned)
            stop = min(max(done, span), planned)
            return stop - span, stop
        if self.window is None:
            return 0, planned
        start, stop = self.window
        span = min(max(stop - start, LEAST), planned)
        start = min(max(start, 0), planned - span)
        return start, start + span

    def moved(self, by: int, columns: int, planned: int, done: int) -> Look:
        """Look `by` columns further on, of a chart that has so many; the window follows to the epoch looked at."""
        if not done:
            return self
        start, stop = self.shown(planned, done)
        step = max(1, round((stop - start) / max(columns, 1)))
        at = done - 1 if self.epoch is None else self.epoch
        return self.at(at + by * step, planned, done)

    def at(self, epoch: int, planned: int, done: int) -> Look:
        """Look at `epoch`, or at the nearest that is done."""
        if not done:
            return self
        epoch = min(max(epoch, 0), done - 1)
        start, stop = self.shown(planned, done)
        if start <= epoch < stop:
            return replace(self, epoch=epoch, window=(start, stop) if self.recent else self.window, recent=False)
        span = stop - start
        start = epoch if epoch < start else epoch - span + 1
        return Look(epoch, (start, start + span))

    def zoomed(self, factor: float, planned: int, done: int, around: float | None = None) -> Look:
        """Show `factor` times as many epochs, the one looked at (else `around`, else the last one) staying in place."""
        planned = max(planned, done, 1)
        start, stop = self.shown(planned, done)
        centre = self.epoch if self.epoch is not None else around
        centre = max(done - 1, 0) if centre is None else centre
        centre = min(max(centre, start), stop)
        span = min(max(round((stop - start) * factor), LEAST), planned)
        if span >= planned:
            return Look(self.epoch)
        part = (centre - start) / max(stop - start, 1)
        first = round(centre - part * span)
        if centre < stop:  # an epoch that is shown stays to be seen
            first = min(max(first, math.floor(centre) - span + 1), math.floor(centre))
        first = min(max(first, 0), planned - span)
        return Look(self.epoch, (first, first + span))

    def panned(self, by: float, planned: int, done: int) -> Look:
        """Show what lies `by` windows further on; the epoch looked at stays the one it is while it is shown."""
        start, stop = self.shown(planned, done)
        span = stop - start
        first = min(max(start + round(by * span), 0), max(planned, done, 1) - span)
        if self.epoch is None or done <= first:
            return Look(None, (first, first + span))
        return Look(min(max(self.epoch, first), min(first + span, done) - 1), (first, first + span))

    def recently(self) -> Look:
        """All of it, or the recent epochs only."""
        return Look(recent=not self.recent)
