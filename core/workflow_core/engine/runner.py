"""The training loop of the engine: at a pace or flat out, and never more than an epoch away from a command."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from workflow_core import devices
from workflow_core.engine.faults import explain
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.pace import Meter, Pace
from workflow_core.engine.record import Record
from workflow_core.engine.subject import Subject
from workflow_core.errors import WorkflowError
from workflow_core.history import RECORDED
from workflow_core.protocol import Epochs, RunState, TrainingView
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import build, linear
from workflow_core.steps.custom import explained
from workflow_core.steps.data import Dataset, Scaling
from workflow_core.steps.train import DIVERGED, EARLY_STOP, Trainer

CHUNK = 0.05
"""Seconds of training between two fetches of its figures."""

MAX_CHANGES = 1000
"""Learning rates that can be set by hand in a run: all are remembered, for the script that repeats it."""

log = logging.getLogger(__name__)


class Runner:
    """One run: a trainer with its pace, its limits and what is known of it.

    `publish` gets the epochs as they are done, at most every `CHUNK` seconds; `view` is always what was published last.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        model_spec: ModelSpec,
        run: int,
        pace: float | None,
        publish: Callable[[Epochs], None],
    ) -> None:
        self.trainer = trainer
        self.dataset = dataset
        self.model_spec = model_spec
        self.view = self._first_view(run, pace)
        self._publish = publish
        self._record: Record | None = None
        self._pace = Pace(pace)
        self._meter = Meter()
        self._last = 0
        self._pending = 0
        # of the epoch whose weights the model holds: after an early stop or a divergence that is not the last one
        self._held: tuple[int, dict[str, float]] = 0, {}
        self._best_figures: dict[str, float] = {}
        self._last_figures: dict[str, float] = {}
        self._clock = 0.0
        self._flush_at = 0.0

    def _first_view(self, run: int, pace: float | None) -> TrainingView:
        initial = self.trainer.tracked.read()
        spec = self.trainer.spec
        return TrainingView(
            run=run,
            spec=spec,
            device=str(self.trainer.device),
            state="ready",
            epoch=0,
            pace=pace,
            rate=0.0,
            elapsed=0.0,
            initial=initial,
            parameters=initial,
            learning_rate=spec.learning_rate,
            loss_scale=loss_scale(spec, self.dataset.scaling),
            **self._prediction(),
        )

    def _prediction(self) -> dict[str, Any]:
        """The parts of a view that show what the model predicts now."""
        model, dataset = self.trainer.model, self.dataset
        return {
            "line": build.line(model, dataset),
            "pairs": build.pairs(model, dataset),
            "coefficients": linear.coefficients(model, self.model_spec, dataset.features, dataset.scaling),
        }

    @property
    def subject(self) -> Subject:
        """The model as it is now, with all that it was made from."""
        epoch, figures = self._held
        return Subject(
            model=self.trainer.model,
            model_spec=self.model_spec,
            dataset=self.dataset,
            train_spec=self.view.spec,
            run=self.view.run,
            epoch=epoch,
            train_loss=figures.get("train_loss"),
            val_loss=figures.get("val_loss"),
            optimizer_state=self.trainer.optimizer_state(),
            lr_changes=tuple(change for change in self.view.lr_changes if change[0] < epoch),
        )

    @property
    def extensible(self) -> bool:
        """Can more epochs be added, as if they had been asked for from the start?"""
        return not self.trainer.ended and self.view.spec.scheduler != "cosine"  # which ends with the last epoch

    def record(self, record: Record) -> None:
        """Keep every epoch in `record`, and how the run stands."""
        self._record = record

    def leave(self) -> None:
        """Another run takes the place of this one."""
        if self._record is not None:
            self._record.leave(self.view)

    @property
    def running(self) -> bool:
        """Is it to go on by itself?"""
        return self.view.state == "running"

    def begin(self, epochs: int | None) -> None:
        """Be running, for so many more epochs (then paused) or to the end."""
        # as headless: a batch is what torch computes at a time, and two threads for a small one take far longer
        devices.set_threads(self.view.spec.batch_size or len(self.dataset.X))
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

    def set_learning_rate(self, learning_rate: float) -> None:
        """Take steps of another size from the next epoch on. Raises WorkflowError after MAX_CHANGES of them."""
        earlier = tuple(change for change in self.view.lr_changes if change[0] < self.view.epoch)
        if len(earlier) >= MAX_CHANGES:
            raise WorkflowError(
                "Changed too often",
                f"the learning rate of this run was set {MAX_CHANGES:,} times already, and no more are remembered.",
                "Choose a scheduler, and reset.",
            )
        self.trainer.set_learning_rate(learning_rate)
        changes = (*earlier, (self.view.epoch, learning_rate))
        self.view = replace(self.view, learning_rate=learning_rate, lr_changes=changes)

    def fail(self, reason: str) -> None:
        """End the run for good: in the middle of an epoch, whose weights belong to no figures."""
        self._pending = 0
        self._change("failed", f"the run failed: {reason}")

    def advance(self, inbox: Inbox) -> None:
        """Train until something waits in `inbox` or the run is over; what was done by then has been published."""
        self._clock = time.monotonic()
        self._flush_at = max(self._flush_at, self._clock)
        try:
            with explained():
                while self.running and not inbox.waiting:
                    self._next(inbox)
                self._flush()
        except WorkflowError as error:
            self._save_what_was_done()
            self.fail(error.problem.message)
        except Exception as error:
            log.exception("run %d failed", self.view.run)
            self._save_what_was_done()
            self.fail(explain(error))
        self._count_time()

    def _save_what_was_done(self) -> None:
        """Publish the epochs that were complete before something broke, as far as the device still gives them."""
        with contextlib.suppress(Exception):
            self._pending = self.trainer.done - self.view.epoch
            self._flush()
        with contextlib.suppress(Exception):
            self.trainer.break_off()
            self.view = replace(self.view, parameters=self.trainer.tracked.read(), **self._prediction())

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
        if self._pending and (
            self.trainer.ended or self.view.epoch + self._pending >= self._last or time.monotonic() >= self._flush_at
        ):
            self._flush()

    def _flush(self) -> None:
        """Fetch the figures of the epochs since the last time, see whether the run goes on, and publish."""
        if not self._pending:
            return
        series = self.trainer.fetch()
        start, self._pending = self.view.epoch, 0
        latest = {name: column[-1] for name, column in series.items()}
        epoch = start + len(series["train_loss"])
        now = self._count_time()
        best = self.trainer.best
        self._hold(start, series)
        self.view = replace(
            self.view,
            epoch=epoch,
            rate=self._meter.mark(now, epoch),
            parameters={name: value for name, value in latest.items() if name not in RECORDED},
            learning_rate=latest["learning_rate"],
            grad_norm=latest["grad_norm"],
            train_loss=latest["train_loss"],
            val_loss=latest.get("val_loss"),
            best_epoch=best[0] if best is not None else None,
            best_loss=best[1] if best is not None else None,
            **self._prediction(),
        )
        self._flush_at = now + CHUNK
        if self._record is not None:
            self._record.keep(start, series, self.view)
        self._see_whether_it_ends(start, series)
        self._publish(Epochs(start=start, series=series, training=self.view))

    def _hold(self, start: int, series: dict[str, list[float]]) -> None:
        """Remember the figures of the last epoch that is behind the weights which the model holds now."""
        last = start + len(series["train_loss"])

        def figures(epoch: int) -> dict[str, float]:
            if epoch < start:
                return self._last_figures if epoch == start - 1 else {}
            return {name: column[epoch - start] for name, column in series.items()}

        trainer = self.trainer
        if trainer.best is not None and (found := figures(trainer.best[0] + trainer.validates - 1)):
            self._best_figures = found
        held = trainer.held_epochs
        stopped = trainer.ended == EARLY_STOP
        self._held = held, self._best_figures if stopped else figures(held - 1)
        self._last_figures = figures(last - 1)

    def _see_whether_it_ends(self, start: int, series: dict[str, list[float]]) -> None:
        epoch = self.view.epoch
        if self.trainer.ended:  # and has put back better weights than those of the last epoch
            held = self.trainer.held_epochs
            self.view = replace(self.view, parameters=self.trainer.tracked.read(), held=held)
        if self.trainer.ended == DIVERGED:
            bad = _first_bad(series) or (epoch - start - 1, "a parameter became NaN or infinite")
            self.view = replace(self.view, first_bad=start + bad[0], advice=self._advice())
            self._change("diverged", f"the run diverged: {bad[1]} in epoch {start + bad[0]}")
        elif self.trainer.ended:
            self._change("finished", self._why_ended())
        elif epoch >= self.view.spec.epochs:
            self._change("finished")
        elif epoch >= self._last:
            self._change("paused")

    def _why_ended(self) -> str:
        spec, best = self.view.spec, self.view.best_epoch
        which = "validation" if self.view.val_loss is not None else "training"
        by = f" by more than {spec.min_delta:g}" if spec.min_delta else ""
        held = self.trainer.held_epochs
        after = f"after {held:,} epoch{'s' * (held != 1)}"
        kept = f"; the weights are the best, those of epoch {best:,}, {after}" if best is not None else ""
        return f"stopped early: the {which} loss has not fallen{by} for {spec.early_stop:,} epochs{kept}"

    def _advice(self) -> str:
        rate = self.view.learning_rate
        stable = linear.reference(self.model_spec, self.dataset, self.view.spec).stable_lr
        if stable is not None and stable < rate:
            advice = f"Set a learning rate below {stable:.4g}, the largest that is stable here; {rate:g} is above it."
            scaled = self.dataset.scaling is not None or stable > 0.01
            return advice if scaled else f"Standardise the data (step 1). {advice}"
        clip = "" if self.view.spec.optimizer == "lbfgs" else ", or limit the gradients (clip)"
        return f"Set a learning rate below {rate:g}, for example {rate / 10:g}{clip}."

    def _count_time(self) -> float:
        now = time.monotonic()
        self.view = replace(self.view, elapsed=self.view.elapsed + now - self._clock)
        self._clock = now
        return now

    def _change(self, state: RunState, reason: str = "") -> None:
        self.view = replace(self.view, state=state, reason=reason, rate=self.view.rate if state == "running" else 0.0)
        if self._record is not None:
            self._record.note(self.view)


def loss_scale(spec: TrainSpec, scaling: Scaling | None) -> float | None:
    """What turns the criterion's loss into one of y in the user's own units; None where no factor does."""
    if scaling is None:
        return 1.0
    return {"mse": scaling.y_std * scaling.y_std, "l1": scaling.y_std}.get(spec.loss)


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
