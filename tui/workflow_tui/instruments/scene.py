"""All that an instrument needs to show itself: the app's state, what is looked at, and what the engine was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workflow_core.history import Column
from workflow_core.protocol import PastView, SpeedAnswer, SurfaceAnswer, TrainingView
from workflow_tui.instruments.look import Look
from workflow_tui.plots import COLUMNS, column_points
from workflow_tui.state import State

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Earlier:
    """A kept run that lies dimmed below the one that is there, or a lane of a race."""

    run: int
    label: str
    series: Mapping[str, Sequence[Column]]


@dataclass(frozen=True)
class Scene:
    """A state as the panels show it.

    `past` is the run at the epoch looked at, `detail` the columns of a window that are read back from the store because
    the history at hand is coarser; None where that is not there (yet). `surface` and `speed` are answers or a sentence
    that says why there is none.
    """

    state: State
    look: Look = field(default_factory=Look)
    past: PastView | None = None
    detail: Mapping[str, Sequence[Column]] | None = None
    earlier: tuple[Earlier, ...] = ()
    lanes: tuple[Earlier, ...] = ()
    surface: SurfaceAnswer | str | None = None
    speed: SpeedAnswer | str | None = None
    log_loss: bool = True
    narrow: bool = False
    low: bool = False

    @property
    def training(self) -> TrainingView | None:
        """The run that is there."""
        return self.state.training

    @property
    def asking(self) -> bool:
        """Is an epoch looked at of which nothing is known yet?"""
        return self.look.epoch is not None and self.past is None

    @property
    def begun(self) -> bool:
        """Is there an epoch to show?"""
        return self.training is not None and self.training.epoch > 0

    @property
    def planned(self) -> int:
        """Epochs that the run is to have."""
        return self.training.spec.epochs if self.training else self.state.train_spec.epochs

    @property
    def done(self) -> int:
        """Epochs that are recorded."""
        return self.state.history.epochs or (self.training.epoch if self.training else 0)

    @property
    def window(self) -> tuple[int, int]:
        """The epochs from the left edge of every chart over epochs to its right."""
        return self.look.shown(self.planned, self.done)

    @property
    def cursor(self) -> float | None:
        """Where the cursor stands on those charts."""
        return None if self.look.epoch is None else float(self.look.epoch)

    def points(self, name: str) -> Points:
        """A series in the window: read back from the store where that is finer, else from the history at hand."""
        if self.detail is not None and name in self.detail:
            return column_points(self.detail[name])
        series = self.state.history.series.get(name)
        start, stop = self.window
        # one more on each side: the line goes on to the edge
        return [] if series is None else column_points(series.columns(COLUMNS, max(start - 1, 0), stop + 1))
