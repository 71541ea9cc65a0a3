"""The training loop of the engine: at a pace or flat out, and never more than a batch away from a command."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from workflow_core import devices
from workflow_core.engine.faults import explain
from workflow_core.engine.held import Held
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.record import Record
from workflow_core.engine.speed import Speed
from workflow_core.engine.subject import Subject
from workflow_core.engine.timing import Timing
from workflow_core.engine.travel import Kept
from workflow_core.engine.watch import Watch
from workflow_core.errors import WorkflowError
from workflow_core.history import RECORDED, HistoryData
from workflow_core.protocol import Epochs, LoopView, RunState, TrainingView, Update
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import build, custom, linear
from workflow_core.steps.custom import explained
from workflow_core.steps.data import Dataset
from workflow_core.steps.diagnosis import Figures
from workflow_core.steps.losses import loss_scale
from workflow_core.steps.train import DIVERGED, Trainer

CHUNK = 0.05
"""Seconds of training between two fetches of its figures."""

MAX_CHANGES = 1000
"""Learning rates that can be set by hand in a run: all are remembered, for the script that repeats it."""

log = logging.getLogger(__name__)


class Runner:
    """One run: a trainer with its pace, its limits and what is known of it.

    `publish` gets the epochs as they are done, and of a long one the batches, at most every `CHUNK` seconds; `view` is
    the run as it stands between two calls, `loop` the pass that is made one line at a time, as far as it is.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        model_spec: ModelSpec,
        run: int,
        pace: float | None,
        publish: Callable[[Epochs | Update], None],
    ) -> None:
        self.trainer = trainer
        self.dataset = dataset
        self.model_spec = model_spec
        self.view = self._first_view(run, pace)
        self._publish = publish
        self._record: Record | None = None
        self._timing = Timing(pace, trainer.done)
        self.loop: LoopView | None = None
        self._keep: Callable[[], None] = lambda: None
        self._turning = False
        self._last = 0
        self._steps: int | None = None
        self._pending = 0
        self._trained_with: tuple[tuple[int, int, int] | None, dict[str, str]] = None, {}
        self._held = Held(trainer.held_epochs)
        self._flush_at = 0.0
        self.watch = Watch(trainer, dataset, model_spec)
        self.kept = Kept()
        self.kept.offer(trainer.done, trainer.state)

    @classmethod
    def branched(
        cls,
        other: Runner,
        trainer: Trainer,
        run: int,
        figures: dict[str, float],
        publish: Callable[[Epochs | Update], None],
    ) -> Runner:
        """A run that goes on from `other` as it stood, which `trainer` holds; `figures` are those of its last epoch."""
        runner = cls(trainer, other.dataset, other.model_spec, run, other.view.pace, publish)
        epoch, best = trainer.done, trainer.best
        runner.kept = other.kept.until(epoch)
        runner._held = Held(epoch, figures)
        runner.view = replace(
            runner.view,
            state="paused" if epoch < trainer.spec.epochs else "finished",
            epoch=epoch,
            initial=other.view.initial,
            parameters={name: value for name, value in figures.items() if name not in RECORDED},
            learning_rate=trainer.learning_rate,
            lr_changes=tuple(change for change in other.view.lr_changes if change[0] < epoch),
            grad_norm=figures["grad_norm"],
            train_loss=figures["train_loss"],
            val_loss=figures.get("val_loss"),
            best_epoch=best[0] if best is not None else None,
            best_loss=best[1] if best is not None else None,
            parent=other.view.run,
            parent_epoch=epoch,
        )
        return runner

    @classmethod
    def restored(
        cls,
        trainer: Trainer,
        dataset: Dataset,
        model_spec: ModelSpec,
        view: TrainingView,
        history: HistoryData,
        record: Record,
        first: dict[str, Any],
        figures: Figures | None,
        publish: Callable[[Epochs | Update], None],
    ) -> Runner:
        """A run that an earlier engine has left: as `view`, with the epochs of `history`, which `record` has.

        `trainer` stands where it stood, `first` is the state of one like it before the first epoch, `figures` are what
        its watch had kept (None where that is not known). A run that was going on is paused.
        """
        runner = cls(trainer, dataset, model_spec, view.run, view.pace, publish)
        runner._record = record
        runner._timing = Timing(view.pace, trainer.done, view.elapsed)
        runner._held.come_back(trainer, runner.recorded)
        runner.kept = Kept()
        runner.kept.put(0, first)
        if trainer.done and not trainer.under_way:
            runner.kept.put(trainer.done, trainer.state())
        if trainer.best is not None:
            at_best = runner.recorded(trainer.best[0]).get("train_loss", math.nan)
            runner.watch.go_on(history, view.initial, trainer.best, at_best)
        if figures is not None:
            runner.watch.come_back(figures)
        runner.view = replace(
            view,
            device=str(trainer.device),
            state="paused" if view.state == "running" else view.state,
            rate=0.0,
            **runner._prediction(),
        )
        return runner

    def _first_view(self, run: int, pace: float | None) -> TrainingView:
        initial = self.trainer.tracked.read()
        spec = self.trainer.spec
        return TrainingView(
            run=run,
            spec=spec,
            device=str(self.trainer.device),
            state="ready",
            epoch=self.trainer.done,
            batch=self.trainer.batch,
            pace=pace,
            rate=0.0,
            elapsed=0.0,
            initial=initial,
            parameters=initial,
            learning_rate=self.trainer.learning_rate,
            batches=self.trainer.batches.count,
            loss_scale=loss_scale(spec.loss, self.dataset.scaling),
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
        epoch, figures = self._held.epoch, {} if self.trainer.batch else self._held.figures
        return Subject(
            model=self.trainer.model,
            model_spec=self.model_spec,
            dataset=self.dataset,
            train_spec=self.view.spec,
            run=self.view.run,
            epoch=epoch,
            batch=self.trainer.batch,
            batches=self.trainer.batches.count,
            train_loss=figures.get("train_loss"),
            val_loss=figures.get("val_loss"),
            optimizer_state=self.trainer.optimizer_state(),
            lr_changes=tuple(change for change in self.view.lr_changes if change[0] < epoch + bool(self.trainer.batch)),
        )

    @property
    def place(self) -> tuple[int, int, int]:
        """Run, epochs and batches that are behind the model."""
        return self.view.run, self.view.epoch, self.trainer.batch

    @property
    def files(self) -> dict[str, str]:
        """The files of a model of the user's own with their digests: those that it was trained with last."""
        where, files = self._trained_with
        return files if where == self.place else custom.sources(self.trainer.model)

    def trained_with(self, files: dict[str, str]) -> None:
        """So far it was trained with these, whatever they are now."""
        self._trained_with = self.place, files

    @property
    def begun(self) -> bool:
        """Is anything behind it?"""
        return self.view.epoch > 0 or self.trainer.batch > 0

    @property
    def extensible(self) -> bool:
        """Can more epochs be added, as if they had been asked for from the start?"""
        return not self.trainer.ended and self.view.spec.scheduler != "cosine"  # which ends with the last epoch

    def record(self, record: Record) -> None:
        """Keep every epoch in `record`, and how the run stands."""
        self._record = record

    def go_on(self, record: Record, history: HistoryData) -> None:
        """Keep what is to come in `record`, which begins with the epochs of the parent: those of `history`."""
        self._record = record
        record.go_on(list(history.series), self.view)
        best = self.trainer.best
        at_best = self.recorded(best[0]).get("train_loss", math.nan) if best is not None else math.nan
        self.watch.go_on(history, self.view.initial, best, at_best)

    def history(self, epochs: int) -> HistoryData | None:
        """The first `epochs` epochs as they are recorded; None where they cannot be had."""
        return self._record.history(epochs) if self._record is not None else None

    def leave(self) -> None:
        """Another run takes the place of this one."""
        if self._record is not None:
            self._record.leave(self.view)

    def keep_by(self, keep: Callable[[], None]) -> None:
        """Let `keep` be called whenever `view` and `trainer` stand at the same epoch and batch while it trains."""
        self._keep = keep

    def publish_to(self, publish: Callable[[Epochs | Update], None]) -> None:
        """Let another one get what is published from now on."""
        self._publish = publish

    def read(self, start: int, stop: int) -> Mapping[str, Sequence[float]]:
        """What is recorded of the epochs `start` to `stop` (exclusive): a column a series; empty without a store."""
        return self._record.figures(start, stop) if self._record is not None else {}

    def recorded(self, epoch: int) -> dict[str, float]:
        """The figures of one epoch as they were recorded; empty where they cannot be had."""
        columns = self.read(epoch, epoch + 1) if epoch >= 0 else {}
        return {name: column[0] for name, column in columns.items() if len(column)}

    @property
    def speed(self) -> Speed:
        """Its epochs a second over the seconds that it trained."""
        return self._timing.speed

    @property
    def running(self) -> bool:
        """Is it to go on by itself?"""
        return self.view.state == "running"

    def begin(self, epochs: int | None, steps: int | None = None) -> None:
        """Be running, for so many more epochs or steps of the optimizer (then paused) or to the end.

        The epoch under way counts as one.
        """
        # as headless: a batch is what torch computes at a time, and two threads for a small one take far longer
        devices.set_threads(self.view.spec.batch_size or len(self.dataset.X))
        total = self.view.spec.epochs
        self._last = total if epochs is None else min(total, self.view.epoch + epochs)
        self._steps = steps
        self.loop = None
        if not self.running:
            self._timing.start(self._position)
            self._change("running")

    def extend(self, spec: TrainSpec) -> None:
        """Train by the same settings for another number of epochs in all."""
        self.trainer.spec = spec
        self.view = replace(self.view, spec=spec)

    def pause(self) -> None:
        """Stop here, between two batches; `begin` goes on."""
        if self.running:
            self._change("paused")

    def set_pace(self, pace: float | None) -> None:
        """Epochs per second from now on."""
        self._timing.pace.change(pace, time.monotonic())
        self.view = replace(self.view, pace=pace)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Take steps of another size from the next epoch on: not that under way, whose figures have one learning rate.

        Raises WorkflowError after MAX_CHANGES of them.
        """
        first = self.view.epoch + self.trainer.under_way
        earlier = tuple(change for change in self.view.lr_changes if change[0] < first)
        if len(earlier) >= MAX_CHANGES:
            raise WorkflowError(
                "Changed too often",
                f"the learning rate of this run was set {MAX_CHANGES:,} times already, and no more are remembered.",
                "Choose a scheduler, and reset.",
            )
        self.trainer.set_learning_rate(learning_rate)
        changes = (*earlier, (first, learning_rate))
        self.view = replace(self.view, learning_rate=self.trainer.learning_rate, lr_changes=changes)

    def finish(self, reason: str) -> None:
        """End the run as it stands, between two epochs; `extend` and `begin` can still go on with it."""
        self._change("finished", reason)

    def discard(self) -> None:
        """Forget what was recorded of the run."""
        if self.running:
            self._change("paused")
        if self._record is not None:
            self._record.discard()

    def fail(self, reason: str) -> None:
        """End the run for good: in the middle of an epoch, whose weights belong to no figures."""
        self._pending = 0
        self._change("failed", f"the run failed: {reason}")

    def advance(self, inbox: Inbox, until: float = math.inf) -> None:
        """Train until something waits in `inbox`, the run is over, or `until` (as time.monotonic() counts).

        What was done by then has been published.
        """
        with self._guarded():
            while self.running and not inbox.waiting and time.monotonic() < until:
                self._next(inbox, until)
            self._flush()
            if self.trainer.batch != self.view.batch:
                self._look()

    def next_line(self) -> None:
        """Run the next line of the loop, and be paused; the epoch is published where it is over by that."""
        devices.set_threads(self.view.spec.batch_size or len(self.dataset.X))
        self._change("paused")
        with self._guarded():
            self.trainer.next_line()
            self._timing.leave_out(self._position)
            self._pending = self.trainer.done - self.view.epoch
            self._flush()
            self._look()
        self.loop = self.trainer.loop

    def take_turn(self, inbox: Inbox) -> bool:
        """Train to the end of an epoch at no pace, as a lane of a race does; less far where something waits in `inbox`.

        What there is to show waits for `flush`, but for the end of the run. Says whether the epoch is over. The time
        until its next turn is spent on it, too: as that in which another run waits for its pace.
        """
        # others take their turns in between, and may have batches of another size
        devices.set_threads(self.view.spec.batch_size or len(self.dataset.X))
        over = True
        with self._guarded():
            with self._timing.work():
                over = self.trainer.advance(lambda: inbox.waiting)
            self._pending += over
            if self.trainer.ended or self.view.epoch + self._pending >= self._last:
                self._flush()
        return over or not self.running

    def take_part(self, taking: bool) -> None:
        """Others take turns with this run from now on, or no more: the time of their turns is spent on it, too, that
        of whatever is done in between is not."""
        self._turning = taking
        if taking:
            self._timing.enter()
        elif self.running:
            self._timing.count()

    def flush(self) -> None:
        """Fetch and publish what the turns so far have come to."""
        with self._guarded():
            self._flush()
            if self.trainer.batch != self.view.batch:
                self._look()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Count the time of what is done within, and that since the last turn of a run that takes turns; whatever goes
        wrong ends the run with one sentence."""
        now = time.monotonic() if self._turning and self.running else self._timing.enter()
        self._flush_at = max(self._flush_at, now)
        try:
            with explained():
                yield
        except WorkflowError as error:
            self._save_what_was_done()
            self.fail(error.problem.message)
        except Exception as error:
            log.exception("run %d failed", self.view.run)
            self._save_what_was_done()
            self.fail(explain(error))
        self._timing.count()
        self.view = replace(self.view, elapsed=self._timing.elapsed)

    def _save_what_was_done(self) -> None:
        """Publish the epochs that were complete before something broke, as far as the device still gives them."""
        with contextlib.suppress(Exception):
            self._pending = self.trainer.done - self.view.epoch
            self._flush()
        with contextlib.suppress(Exception):
            self.trainer.break_off()
            self._look()

    def _next(self, inbox: Inbox, until: float = math.inf) -> None:
        """An epoch or a part of it, or a wait for it to be due."""
        begun = time.monotonic()
        delay = 0.0 if self.trainer.batch else self._timing.pace.wait(begun)
        if delay > 0:
            if self._pending:
                delay = min(delay, self._flush_at - begun)
            if delay > 0:
                inbox.wait(min(delay, until - begun))
        else:
            with self._timing.work():
                self._train(inbox)
        now = time.monotonic()
        if self._pending:
            last = self.trainer.ended or self.view.epoch + self._pending >= self._last or self._steps == 0
            if last or self.view.batch or now >= self._flush_at:
                self._flush()
        elif now >= self._flush_at and self.trainer.batch:
            self._look()
            self._flush_at = now + CHUNK
            self._publish(Update(training=self.view))
            self._keep()
        if self._steps == 0:
            self.pause()

    def _train(self, inbox: Inbox) -> None:
        """Train to the end of the epoch, up to a command, or so far that there is something new to show of a long one.

        What is shown of an epoch under way waits for nothing: while figures of others do, its end comes first.
        """
        trainer = self.trainer
        before = trainer.batch
        over = trainer.advance(
            lambda: inbox.waiting or (not self._pending and time.monotonic() >= self._flush_at), self._steps
        )
        if self._steps is not None:
            self._steps -= (trainer.batches.count if over else trainer.batch) - before
        if over:
            self._timing.pace.count()
            self._pending += 1

    def _look(self) -> None:
        """See what the model is now, perhaps in the middle of an epoch."""
        with self._timing.work():
            parameters = self.trainer.tracked.read()  # an accelerator does first what it was given to do
        self._measure()
        self.view = replace(
            self.view,
            batch=self.trainer.batch,
            parameters=parameters,
            gradients=self.trainer.gradients(),
            **self._prediction(),
        )

    def _measure(self) -> None:
        """See how fast the training is, and how fast it could be."""
        rate, capacity = self._timing.measure(self._position, running=self.running)
        self.view = replace(self.view, elapsed=self._timing.elapsed, rate=rate, capacity=capacity)

    @property
    def _position(self) -> float:
        """Epochs done, the part of that under way with them."""
        return self.trainer.done + self.trainer.batch / self.view.batches

    def _flush(self) -> None:
        """Fetch the figures of the epochs since the last time, see whether the run goes on, and publish."""
        if not self._pending:
            return
        with self._timing.work():
            series = self.trainer.fetch()
        start, self._pending = self.view.epoch, 0
        latest = {name: column[-1] for name, column in series.items()}
        epoch = start + len(series["train_loss"])
        best = self.trainer.best
        self._measure()
        self._held.note(self.trainer, start, series)
        self.view = replace(
            self.view,
            epoch=epoch,
            batch=self.trainer.batch,
            parameters=self.trainer.tracked.read() if self.trainer.batch else _tracked(latest),
            learning_rate=latest["learning_rate"],
            grad_norm=latest["grad_norm"],
            train_loss=latest["train_loss"],
            val_loss=latest.get("val_loss"),
            best_epoch=best[0] if best is not None else None,
            best_loss=best[1] if best is not None else None,
            gradients=self.trainer.gradients(),
            **self._prediction(),
        )
        self._flush_at = time.monotonic() + CHUNK
        self.view = replace(self.view, findings=self.watch.note(series, self.view))
        if self._record is not None:
            self._record.keep(start, series, self.view)
        self._see_whether_it_ends(start, series)
        self._publish(Epochs(start=start, series=series, training=self.view))
        # one of an epoch under way would be that of another place than its number says
        if not self.trainer.ended and not self.trainer.under_way:
            self.kept.offer(self.trainer.done, self.trainer.state)
        self._keep()

    def _see_whether_it_ends(self, start: int, series: dict[str, list[float]]) -> None:
        epoch = self.view.epoch
        if self.trainer.ended:  # and has put back better weights than those of the last epoch
            held = self.trainer.held_epochs
            self.view = replace(self.view, parameters=self.trainer.tracked.read(), held=held)
        if self.trainer.ended == DIVERGED:
            bad = _first_bad(series) or (epoch - start - 1, "a parameter became NaN or infinite")
            why = self.watch.divergence(self.view)._asdict()
            self.view = replace(self.view, first_bad=start + bad[0], findings=(), **why)
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

    def _change(self, state: RunState, reason: str = "") -> None:
        self.view = replace(self.view, state=state, reason=reason, rate=self.view.rate if state == "running" else 0.0)
        if self._record is not None:
            self._record.note(self.view)


def _tracked(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in RECORDED}


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
