"""Several trainings side by side, in turns and epoch by epoch: the same data, the same initial parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from torch import nn

from workflow_core.engine.inbox import Inbox
from workflow_core.engine.pace import Meter, Pace
from workflow_core.engine.runner import CHUNK, Runner
from workflow_core.errors import WorkflowError
from workflow_core.history import History, HistoryData
from workflow_core.protocol import Epochs, LaneView, RaceView, RunState, Update
from workflow_core.steps.models import COPIES, machine_memory

LANES = 2, 6
"""Trainings that a race may have: at least, at most."""
OVER = ("finished", "diverged", "failed")


class Race:
    """The lanes of a race and how far they are; `publish` gets an Update when there is something new to show.

    In a round every lane that goes on trains one epoch. So they are never more than one apart, also where a command
    comes between; those whose turn it was come first then. A lane that has ended by itself waits for nobody.
    """

    def __init__(
        self,
        race: int,
        lanes: Sequence[tuple[Runner, str]],
        pace: float | None,
        publish: Callable[[Update], None],
        histories: Sequence[History] = (),
    ) -> None:
        self.race = race
        self.lanes = tuple(lane for lane, _ in lanes)
        self.histories = tuple(histories or (History() for _ in lanes))
        self._labels = tuple(label for _, label in lanes)
        self._publish = publish
        self._shown: tuple[object, ...] = ()
        self._pace = Pace(pace)
        self._meter = Meter()
        self._rate = self._elapsed = self._flush_at = 0.0
        self._turns: list[Runner] = []
        self._keep: Callable[[], None] = lambda: None
        for lane, history in zip(self.lanes, self.histories, strict=True):
            lane.publish_to(_folding(history))

    @classmethod
    def restored(
        cls, view: RaceView, lanes: Sequence[tuple[Runner, HistoryData]], publish: Callable[[Update], None]
    ) -> Race:
        """A race that an earlier engine has left, as `view`; each of its lanes comes with the epochs that it has.

        One that was going on is paused. Lanes that had no turn yet in the round under way come first.
        """
        labelled = [(lane, of.label) for (lane, _), of in zip(lanes, view.lanes, strict=True)]
        histories = [History.from_data(history) for _, history in lanes]
        race = cls(view.race, labelled, view.pace, publish, histories)
        race._elapsed = view.elapsed
        going = race._going
        if len(done := {lane.view.epoch for lane in going}) > 1:
            race._turns = [lane for lane in going if lane.view.epoch == min(done)]
        return race

    @property
    def epochs(self) -> int:
        """Epochs that the longest lane is to have."""
        return max(lane.view.spec.epochs for lane in self.lanes)

    @property
    def epoch(self) -> int:
        """Epochs that the lane which is farthest has behind it."""
        return max(lane.view.epoch for lane in self.lanes)

    @property
    def _going(self) -> list[Runner]:
        return [lane for lane in self.lanes if lane.view.state not in OVER]

    @property
    def running(self) -> bool:
        """Is it to go on by itself?"""
        return any(lane.running for lane in self.lanes)

    @property
    def over(self) -> bool:
        """Has every lane ended?"""
        return all(lane.view.state in OVER for lane in self.lanes)

    @property
    def state(self) -> RunState:
        """As that of a run: it is `finished` when all lanes have ended, however they did."""
        if self.running:
            return "running"
        if self.over:
            return "finished"
        return "paused" if any(lane.view.state == "paused" for lane in self.lanes) else "ready"

    @property
    def view(self) -> RaceView:
        """The race as it stands."""
        return RaceView(
            race=self.race,
            state=self.state,
            lanes=tuple(map(_lane_view, self.lanes, self._labels)),
            epochs=self.epochs,
            epoch=self.epoch,
            pace=self._pace.rate,
            rate=self._rate if self.running else 0.0,
            elapsed=self._elapsed,
        )

    def keep_by(self, keep: Callable[[], None]) -> None:
        """Let `keep` be called now and then while it trains, when the view and the trainer of each lane agree."""
        self._keep = keep

    def begin(self, epochs: int | None = None) -> None:
        """Run, or go on: for so many more epochs of every lane (then paused) or to the end."""
        self._fetch()
        going = self._going
        was_running = self.running
        least = min((lane.view.epoch for lane in going), default=0)
        for lane in going:
            # one that is an epoch ahead has had it already
            more = None if epochs is None else epochs - (lane.view.epoch - least)
            if more is None or more > 0:
                lane.begin(more)
            else:
                lane.pause()
        self._turns = [lane for lane in self._turns if lane.running]
        if not was_running:
            now = time.monotonic()
            self._pace.start(now)
            self._meter.restart(now, self.epoch)

    def pause(self) -> None:
        """Stand still where it is."""
        self._fetch()
        for lane in self.lanes:
            lane.pause()

    def set_pace(self, pace: float | None) -> None:
        """Epochs a second of every lane from now on."""
        self._pace.change(pace, time.monotonic())

    def stop(self, reason: str, but: Runner | None = None) -> None:
        """End every lane that has not ended, as it stands; all `but` one."""
        self._fetch()
        for lane in self.lanes:
            if lane is not but and lane.view.state not in OVER:
                lane.finish(reason)

    def fail(self, reason: str) -> None:
        """End every lane that has not ended, in the middle of whatever it does."""
        for lane in self.lanes:
            if lane.view.state not in OVER:
                lane.fail(reason)

    def discard(self) -> None:
        """Forget what was recorded of all lanes."""
        for lane in self.lanes:
            lane.discard()

    def advance(self, inbox: Inbox, until: float = math.inf) -> None:
        """Train until something waits in `inbox`, the race stands still, or `until` as time.monotonic() counts.

        Except for the last of these, what was done by then has been published.
        """
        clock = time.monotonic()
        for lane in self.lanes:
            lane.take_part(True)
        while self.running and not inbox.waiting and clock < until:
            if self._turns or (delay := self._pace.wait(clock)) <= 0:
                self._take_turns(inbox)
            else:
                inbox.wait(min(delay, until - clock, CHUNK))
            now = time.monotonic()
            self._elapsed, clock = self._elapsed + now - clock, now
            if now >= self._flush_at:
                self._show()
        if not self.running or inbox.waiting:
            self._show()
        for lane in self.lanes:
            lane.take_part(False)

    def _take_turns(self, inbox: Inbox) -> None:
        """Let every lane that goes on have its epoch; those that are left, where a command comes between, come next."""
        if not self._turns:
            self._turns = [lane for lane in self.lanes if lane.running]
        while self._turns and not inbox.waiting:
            lane = self._turns[0]
            if lane.running and not lane.take_turn(inbox):
                return
            del self._turns[0]
        if not self._turns:
            self._pace.count()

    def _fetch(self) -> None:
        for lane in self.lanes:
            lane.flush()

    def _show(self) -> None:
        """Publish how far it is, where that is farther than it was."""
        self._fetch()
        now = time.monotonic()
        self._flush_at = now + CHUNK
        self._rate = self._meter.mark(now, self.epoch)
        place = self.state, *(lane.place for lane in self.lanes)
        if place != self._shown:
            self._shown = place
            self._publish(Update(race=self.view))
            self._keep()


def _lane_view(lane: Runner, label: str) -> LaneView:
    view = lane.view
    return LaneView(
        run=view.run,
        label=label,
        spec=view.spec,
        state=view.state,
        epoch=view.epoch,
        train_loss=view.train_loss,
        val_loss=view.val_loss,
        best_epoch=view.best_epoch,
        best_loss=view.best_loss,
        parameters=view.parameters,
        first_bad=view.first_bad,
        reason=view.reason,
    )


def _folding(history: History) -> Callable[[Epochs | Update], None]:
    def fold(event: Epochs | Update) -> None:
        if isinstance(event, Epochs):
            history.extend(event.series)

    return fold


def check_room(model: nn.Module, lanes: int) -> None:
    """Raises WorkflowError where so many trainings of such a model would fill the memory: Linux kills who does that."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    need, memory = size * COPIES * lanes, machine_memory()
    if need > memory:
        raise WorkflowError(
            "Too large for a race",
            f"{lanes} trainings of this model take about {need / 2**30:,.0f} GiB, and this machine has "
            f"{memory / 2**30:,.0f}.",
            "Let fewer of them race, or a smaller model.",
        )
