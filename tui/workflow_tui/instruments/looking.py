"""Looking at any epoch, and at a part of them: the cursor, zoom and pan, and the way back to now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on

from workflow_core.protocol import Branch, LookBack, PastAnswer, ReadSeries, SeriesAnswer
from workflow_tui.commands import Command
from workflow_tui.dialogs.number import NumberDialog
from workflow_tui.instruments.look import Look
from workflow_tui.instruments.lookups import Lookup
from workflow_tui.instruments.scene import Scene
from workflow_tui.plots import COLUMNS
from workflow_tui.screens.base import StepScreen
from workflow_tui.widgets.chart import Chart

if TYPE_CHECKING:
    from workflow_core.protocol import PastView
    from workflow_tui.state import State

LOOKING = (
    Command("look", "slash", "/", "cursor", "Look at one epoch: charts, fit and parameters are those after it."),
    Command("look_by(-1)", "left", "←", "earlier", "Look one column of the charts earlier.", bar=False),
    Command("look_by(1)", "right", "→", "later", "Look one column of the charts later.", bar=False),
    Command("look_epochs(-1)", "shift+left,comma", ",", "-1 epoch", "Look exactly one epoch earlier.", bar=False),
    Command("look_epochs(1)", "shift+right,semicolon", ";", "+1 epoch", "Look exactly one epoch later.", bar=False),
    Command("look_first", "home", "home", "first", "Look at the first epoch, epoch 0.", bar=False),
    Command("look_last", "end", "end", "last", "Look at the last epoch that is done.", bar=False),
    Command("look_at", "j", "j", "jump", "Look at an epoch by its number.", bar=False),
    Command("zoom(0.5)", "up", "↑", "zoom in", "Show half as many epochs, around the one looked at.", bar=False),
    Command("zoom(2)", "down", "↓", "zoom out", "Show twice as many epochs.", bar=False),
    Command("pan(-0.5)", "less_than_sign", "<", "pan back", "Show earlier epochs.", bar=False),
    Command("pan(0.5)", "greater_than_sign", ">", "pan on", "Show later epochs.", bar=False),
    Command("recent", "h", "h", "recent", "Show the recent epochs only, or all that are planned.", bar=False),
    Command("branch", "k", "k", "go on from here", "Go on from the epoch looked at, as a new run.", bar=False),
    Command("now", "backspace", "escape", "now", "Back to now and to all epochs.", bar=False),
)
ZOOMED = (
    ("space", "run/pause"),
    ("↑ ↓", "zoom"),
    ("< >", "pan"),
    ("h", "recent"),
    ("/", "look at an epoch"),
    ("escape", "all epochs"),
    ("?", "help"),
    ("q", "leave"),
)
"""What the key bar says while some of the epochs are shown."""
KEYS = (
    ("← →", "look"),
    ("k", "go on from here"),
    (", ;", "±1 epoch"),
    ("↑ ↓", "zoom"),
    ("< >", "pan"),
    ("j", "jump"),
    ("?", "help"),
    ("escape", "now"),
)
"""What the key bar says while an epoch is looked at."""


class LookingScreen(StepScreen):
    """A screen whose charts run over the epochs of a run; a subclass says how many columns they have."""

    def __init__(self) -> None:
        super().__init__()
        self.look = Look()
        self._run: tuple[int, int, int] = (0, 0, 0)
        """The race or the run that is shown, and its epochs."""
        self._past = Lookup(self, "the epoch")
        self._detail = Lookup(self, "the window", fresh=0.2)

    def columns(self) -> int:
        """Columns of data that the charts over epochs have."""
        raise NotImplementedError

    def refresh_state(self) -> None:
        """Show the app's state, of another run at now."""
        self.follow_run(self.owner.state)
        super().refresh_state()

    # --- what is looked at ----------------------------------------------------------------------

    def follow_run(self, state: State) -> None:
        """Look at now where another run is there than was."""
        race, training, now = state.race, state.training, (0, 0, 0)
        if race is not None:
            now = (race.race, 0, race.epoch)
        elif training is not None:
            now = (0, training.run, training.epoch)
        if now[:2] != self._run[:2] or now[2] < self._run[2]:
            self.look = Look()
            self.forget()
        self._run = now

    def forget(self) -> None:
        """Forget what was asked of another run."""
        self._past.forget()
        self._detail.forget()

    def past(self, state: State) -> PastView | None:
        """The run as it was after the epoch looked at, once the engine has said so."""
        training, epoch = state.training, self.look.epoch
        if training is None or epoch is None or state.race is not None:
            return None
        subject = (training.run, epoch)
        self._past.want(subject, LookBack(epoch=epoch))
        answer = self._past.latest(subject, PastAnswer)
        if isinstance(answer, str):
            self.owner.complain(answer)
            self._past.forget()
            self.look = Look()
        return answer.past if isinstance(answer, PastAnswer) else None

    def detail(self, scene: Scene) -> SeriesAnswer | None:
        """The window read back from the store, where the history at hand is coarser than the charts."""
        training, (start, stop) = scene.training, scene.window
        width = next((series.width for series in scene.state.history.series.values()), 1)
        if training is None or width == 1 or scene.look.window is None or (stop - start) >= width * COLUMNS:
            return None
        subject = (training.run, start, stop)
        question = ReadSeries(run=training.run, start=start, stop=stop, columns=COLUMNS)
        self._detail.want(subject, question, moves=min(scene.done, stop))
        answer = self._detail.latest(subject, SeriesAnswer)
        return answer if isinstance(answer, SeriesAnswer) else None

    # --- keys -----------------------------------------------------------------------------------

    def _extent(self) -> tuple[int, int]:
        """Epochs planned and done."""
        scene = Scene(self.owner.state)
        race = scene.state.race
        return (scene.planned, scene.done) if race is None else (race.epochs, race.epoch)

    def refuses_race(self) -> bool:
        """Say so where a race is shown, and not the one run that a key is about."""
        race = self.owner.state.race
        if race is not None:
            way = "S ends it" if self.owner.state.racing else "enter takes a lane on"
            self.owner.complain(f"That is for a single run, and a race is shown: {way}")
        return race is not None

    def _take(self, look: Look) -> None:
        if not self._extent()[1]:
            self.owner.complain("There is no epoch to look at yet: space trains")
            return
        if look != self.look:
            self.look = look
            self.refresh_state()

    def _look_at(self, look: Look) -> None:
        """Look at an epoch, which only a single run lets one do."""
        if not self.refuses_race():
            self._take(look)

    def action_look(self) -> None:
        """Look at the last epoch, or no longer; what part of the epochs is shown stays."""
        planned, done = self._extent()
        there = self.look.epoch is not None
        self._look_at(replace(self.look, epoch=None) if there else self.look.at(done - 1, planned, done))

    def action_look_by(self, columns: int) -> None:
        """Move the cursor by columns of the charts."""
        self._look_at(self.look.moved(columns, self.columns(), *self._extent()))

    def action_look_epochs(self, by: int) -> None:
        """Move the cursor by single epochs."""
        planned, done = self._extent()
        at = done - 1 if self.look.epoch is None else self.look.epoch
        self._look_at(self.look.at(at + by, planned, done))

    def action_look_first(self) -> None:
        """The first epoch."""
        self._look_at(self.look.at(0, *self._extent()))

    def action_look_last(self) -> None:
        """The last epoch that is done."""
        planned, done = self._extent()
        self._look_at(self.look.at(done - 1, planned, done))

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more epochs."""
        self._take(self.look.zoomed(factor, *self._extent()))

    def action_pan(self, by: float) -> None:
        """Show earlier or later epochs."""
        self._take(self.look.panned(by, *self._extent()))

    def action_recent(self) -> None:
        """The recent epochs, or all."""
        self._take(self.look.recently())

    def action_now(self) -> None:
        """Back to now and to all epochs."""
        self.look = Look()
        self.refresh_state()

    def action_look_at(self) -> None:
        """Ask for an epoch."""
        if self.refuses_race():
            return
        if self._extent()[1]:
            self.owner.start_work(self._jump, "dialogs", exclusive=True)
        else:
            self.owner.complain("There is no epoch to look at yet: space trains")

    async def _jump(self) -> None:
        done = self._extent()[1]
        at = done - 1 if self.look.epoch is None else self.look.epoch
        epoch = await self.app.push_screen_wait(
            NumberDialog(
                "Look at an epoch",
                f"Epochs are named from 0; {done - 1:,} is the last that is done.",
                "epoch",
                at,
                low=0,
                high=done - 1,
                integer=True,
            )
        )
        if epoch is not None:
            self._look_at(self.look.at(int(epoch), *self._extent()))  # it may have gone on meanwhile

    def action_branch(self) -> None:
        """Go on from the epoch looked at."""
        if self.refuses_race():
            return
        if self.look.epoch is None:
            self.owner.complain("Look at an epoch first (/ and arrow keys): k goes on from there as a new run")
            return
        self.owner.send(Branch(epoch=self.look.epoch))

    @on(Chart.Picked)
    def _picked(self, event: Chart.Picked) -> None:
        event.stop()
        if event.chart.spec.x_label == "epoch":
            self._look_at(self.look.at(round(event.x), *self._extent()))

    @on(Chart.Zoomed)
    def _zoomed(self, event: Chart.Zoomed) -> None:
        event.stop()
        if event.chart.spec.x_label == "epoch":
            self._take(self.look.zoomed(event.factor, *self._extent(), around=event.x))

    def key_escape(self) -> None:
        """Back to now first where a past epoch or a part of them is shown."""
        if self.focused is None and not self.look.now:
            self.action_now()
        else:
            super().key_escape()
