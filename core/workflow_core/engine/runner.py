"""The training loop of the engine: at a pace or flat out, and never more than an epoch away from a command."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from msgspec.structs import replace

from workflow_core.engine.faults import explain
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.pace import Meter, Pace
from workflow_core.errors import WorkflowError
from workflow_core.protocol import Epochs, RunState, TrainingView
from workflow_core.specs import TrainSpec
from workflow_core.steps import build
from workflow_core.steps.data import Dataset
from workflow_core.steps.train import Trainer

CHUNK = 0.05
"""Seconds of training between two fetches of its figures."""

log = logging.getLogger(__name__)


class Runner:
    """One run: a trainer with its pace, its limits and what is known of it.

    `publish` gets the epochs as they are done, at most every `CHUNK` seconds; `view` is always what was published last.
    """

    def __init__(
        self, trainer: Trainer, dataset: Dataset, view: TrainingView, publish: Callable[[Epochs], None]
    ) -> None:
        self.trainer = trainer
        self.view = view
        self.dataset = dataset
        self._publish = publish
        self._pace = Pace(view.pace)
        self._meter = Meter()
        self._last = view.epoch
        # costs a CPU nothing, and ends a diverging run at its first bad epoch; a GPU would have to wait every time
        self._eager = trainer.device.type == "cpu"
        self._series: dict[str, list[float]] = {}
        self._bad = False
        self._pending = 0
        self._clock = 0.0
        self._flush_at = 0.0

    @property
    def running(self) -> bool:
        """Is it to go on by itself?"""
        return self.view.state == "running"

    def begin(self, epochs: int | None) -> None:
        """Be running, for so many more epochs (then paused) or to the end."""
        total = self.view.spec.epochs
        self._last = total if epochs is None else min(total, self.view.epoch + epochs)
        if not self.running:
            now = time.monotonic()
            self._pace.start(now)
            self._meter.restart(now, self.view.epoch)
            self._change("running")

    def extend(self, spec: TrainSpec) -> None:
        """Train by the same settings for another number of epochs in all."""
        self.trainer.spec = spec
        self.view = replace(self.view, spec=spec)

    def pause(self) -> None:
        """Stop here, between two epochs; `begin` goes on."""
        if self.running:
            self._change("paused")

    def set_pace(self, pace: float | None) -> None:
        """Epochs per second from now on."""
        self._pace.change(pace, time.monotonic())
        self.view = replace(self.view, pace=pace)

    def fail(self, reason: str) -> None:
        """End the run for good; epochs that were not published are lost."""
        self._pending, self._series = 0, {}
        self._change("failed", f"the run failed: {reason}")

    def advance(self, inbox: Inbox) -> None:
        """Train until something waits in `inbox` or the run is over; what was done by then has been published."""
        self._clock = time.monotonic()
        self._flush_at = max(self._flush_at, self._clock)
        try:
            while self.running and not inbox.waiting:
                self._next(inbox)
            self._flush()
        except WorkflowError as error:
            self.fail(error.problem.message)
        except Exception as error:
            log.exception("run %d failed", self.view.run)
            self.fail(explain(error))
        self._count_time()

    def _next(self, inbox: Inbox) -> None:
        """One epoch, or a wait for it to be due."""
        delay = self._pace.wait(time.monotonic())
        if delay > 0:
            if self._pending:
                delay = min(delay, self._flush_at - time.monotonic())
            if delay > 0:
                inbox.wait(delay)
        else:
            self.trainer.epoch()
            self._pace.count()
            self._pending += 1
            if self._eager:
                self._fetch()
        if self._pending and (
            self._bad or self.view.epoch + self._pending >= self._last or time.monotonic() >= self._flush_at
        ):
            self._flush()

    def _fetch(self) -> None:
        for name, column in self.trainer.fetch().items():
            self._series.setdefault(name, []).extend(column)
            self._bad = self._bad or not all(map(math.isfinite, column))

    def _flush(self) -> None:
        """Fetch the figures of the epochs since the last time, see whether the run goes on, and publish."""
        if not self._pending:
            return
        self._fetch()
        start, self._pending = self.view.epoch, 0
        series, self._series = self._series, {}
        epoch = start + len(series["train_loss"])
        now = self._count_time()
        self.view = replace(
            self.view,
            epoch=epoch,
            rate=self._meter.mark(now, epoch),
            parameters=build.scalars(self.trainer.model),
            line=build.line(self.trainer.model, self.dataset),
            train_loss=series["train_loss"][-1],
            val_loss=series["val_loss"][-1] if "val_loss" in series else None,
        )
        self._flush_at = now + CHUNK
        if self._bad and (bad := _first_bad(series)) is not None:
            self.view = replace(self.view, first_bad=start + bad[0])
            self._change("diverged", f"the run diverged: {bad[1]} in epoch {start + bad[0]}")
        elif epoch >= self.view.spec.epochs:
            self._change("finished")
        elif epoch >= self._last:
            self._change("paused")
        self._publish(Epochs(start=start, series=series, training=self.view))

    def _count_time(self) -> float:
        now = time.monotonic()
        self.view = replace(self.view, elapsed=self.view.elapsed + now - self._clock)
        self._clock = now
        return now

    def _change(self, state: RunState, reason: str = "") -> None:
        self.view = replace(self.view, state=state, reason=reason, rate=self.view.rate if state == "running" else 0.0)


def _first_bad(series: dict[str, list[float]]) -> tuple[int, str] | None:
    """Where the first NaN or infinity is, and what it is in words; None where all is finite."""
    found = [
        (next(index for index, value in enumerate(column) if not math.isfinite(value)), name)
        for name, column in series.items()
        if not all(map(math.isfinite, column))
    ]
    if not found:
        return None
    index, name = min(found, key=lambda place: place[0])
    label = {"train_loss": "the training loss", "val_loss": "the validation loss"}.get(name, name)
    return index, f"{label} became {series[name][index]:g}"
