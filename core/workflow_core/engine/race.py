"""Several trainings side by side, in turns and epoch by epoch: the same data, the same initial parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from workflow_core.engine.inbox import Inbox
from workflow_core.engine.pace import Meter, Pace
from workflow_core.engine.runner import CHUNK, Runner
from workflow_core.history import History
from workflow_core.protocol import Epochs, LaneView, RaceView, RunState, Update
from workflow_core.specs import TrainSpec

LANES = 2, 6
"""Trainings that a race may have: at least, at most."""
OVER = ("finished", "diverged", "failed")
ROUND = CHUNK / 2
"""Seconds that a round should take, in which every lane trains as many epochs."""


class Race:
    """The lanes of a race and how far they are; `publish` gets an Update whenever there is something new to show.

    Whenever something is published all lanes that go on have the same epochs behind them, unless a command came in
    between; then those that are behind come first. A lane that has ended by itself waits for nobody.
    """

    def __init__(
        self, race: int, lanes: Sequence[Runner], pace: float | None, publish: Callable[[Update], None]
    ) -> None:
        self.race = race
        self.lanes = tuple(lanes)
        self.histories = tuple(History() for _ in lanes)
        self.state: RunState = "ready"
        self._labels = labels([lane.view.spec for lane in lanes])
        self._publish = publish
        self._pace = Pace(pace)
        self._meter = Meter()
        self._rate = self._elapsed = 0.0
        self._target = 0
        self._take = 1
        for lane, history in zip(self.lanes, self.histories, strict=True):
            lane.publish_to(_folding(history))

    @property
    def epochs(self) -> int:
        """Epochs that the longest lane is to have."""
        return max(lane.view.spec.epochs for lane in self.lanes)

    @property
    def epoch(self) -> int:
        """Epochs that the lane which is farthest has behind it."""
        return max(lane.view.epoch for lane in self.lanes)

    @property
    def running(self) -> bool:
        """Is it to go on by itself?"""
        return self.state == "running"

    @property
    def over(self) -> bool:
        """Has every lane ended?"""
        return self.state == "finished"

    @property
    def view(self) -> RaceView:
        """The race as it stands."""
        return RaceView(
            race=self.race,
            state=self.state,
            lanes=tuple(
                LaneView(
                    run=lane.view.run,
                    label=label,
                    spec=lane.view.spec,
                    state=lane.view.state,
                    epoch=lane.view.epoch,
                    train_loss=lane.view.train_loss,
                    val_loss=lane.view.val_loss,
                    best_epoch=lane.view.best_epoch,
                    best_loss=lane.view.best_loss,
                    parameters=lane.view.parameters,
                    first_bad=lane.view.first_bad,
                    reason=lane.view.reason,
                )
                for lane, label in zip(self.lanes, self._labels, strict=True)
            ),
            epochs=self.epochs,
            epoch=self.epoch,
            pace=self._pace.rate,
            rate=self._rate,
            elapsed=self._elapsed,
        )

    def begin(self) -> None:
        """Run, or go on."""
        if self.over or self.running:
            return
        now = time.monotonic()
        self._pace.start(now)
        self._meter.restart(now, self.epoch)
        self.state = "running"

    def pause(self) -> None:
        """Stand still where it is."""
        if self.running:
            self.state, self._rate = "paused", 0.0
            for lane in self.lanes:
                lane.pause()

    def set_pace(self, pace: float | None) -> None:
        """Epochs a second of every lane from now on."""
        self._pace.change(pace, time.monotonic())

    def stop(self, reason: str) -> None:
        """End every lane that has not ended, as it stands."""
        for lane in self.lanes:
            if lane.view.state not in OVER:
                lane.finish(reason)
        self.state, self._rate = "finished", 0.0

    def discard(self) -> None:
        """Forget what was recorded of all lanes."""
        for lane in self.lanes:
            lane.discard()

    def advance(self, inbox: Inbox, until: float = math.inf) -> None:
        """Train until something waits in `inbox`, the race is over, or `until` as time.monotonic() counts."""
        shown = time.monotonic()
        while self.running and not inbox.waiting and time.monotonic() < until:
            self._round(inbox)
            if time.monotonic() - shown >= CHUNK:
                self._publish(Update(race=self.view))
                shown = time.monotonic()
        self._publish(Update(race=self.view))

    def _round(self, inbox: Inbox) -> None:
        """Let every lane come up to the same epoch, or wait until the next one is due."""
        begun = time.monotonic()
        if all(lane.view.epoch >= self._target for lane in self._going()):
            if (delay := self._pace.wait(begun)) > 0:
                inbox.wait(min(delay, CHUNK))
                return
            self._target = self.epoch + (1 if self._pace.rate is not None else self._take)
        for lane in self._going():
            if inbox.waiting:
                return
            lane.train_to(self._target, inbox)
        now = time.monotonic()
        self._elapsed += now - begun
        if any(lane.view.epoch < self._target for lane in self._going()):
            return
        self._pace.count()
        self._take = _fitting(self._take, now - begun)
        self._rate = self._meter.mark(now, self.epoch)
        if not self._going():
            self.state, self._rate = "finished", 0.0

    def _going(self) -> list[Runner]:
        return [lane for lane in self.lanes if lane.view.state not in OVER]


def _folding(history: History) -> Callable[[Epochs | Update], None]:
    def fold(event: Epochs | Update) -> None:
        if isinstance(event, Epochs):
            history.extend(event.series)

    return fold


def _fitting(epochs: int, seconds: float) -> int:
    """How many epochs the next round should have for it to take ROUND, from what the last one took."""
    if seconds <= 0:
        return epochs * 2
    return max(1, min(epochs * 2, round(epochs * ROUND / seconds)))


NAMES: dict[str, str] = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "weight_decay": "weight decay",
    "early_stop": "early stop",
    "scheduler_epochs": "schedule epochs",
    "scheduler_factor": "schedule factor",
    "min_delta": "min delta",
    "batch_seed": "batch seed",
}
"""What settings are called in a lane's label, where it is not their own name."""
BARE = ("optimizer", "loss", "scheduler")
"""Settings whose value says what it is."""


def labels(specs: Sequence[TrainSpec]) -> tuple[str, ...]:
    """What each lane has that not all of the others have: `adam lr 0.1`."""
    fields = [name for name in TrainSpec.__struct_fields__ if len({repr(getattr(spec, name)) for spec in specs}) > 1]
    fields.sort(key=lambda name: (name not in BARE, name != "learning_rate"))
    return tuple(" ".join(_setting(name, getattr(spec, name)) for name in fields) or "the same" for spec in specs)


def _setting(name: str, value: object) -> str:
    if name in BARE:
        return str(value)
    if name == "loop":
        return "loop " + " ".join(map(str, value)) if isinstance(value, tuple) else "loop"
    return f"{NAMES.get(name, name)} {value:g}" if isinstance(value, float) else f"{NAMES.get(name, name)} {value}"
