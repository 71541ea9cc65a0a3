"""Earlier runs that lie dimmed under the current one: which of them, and their losses, read once from the engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from workflow_core.errors import WorkflowError
from workflow_core.history import Column
from workflow_core.protocol import ReadSeries, RunView, SeriesAnswer
from workflow_core.specs import LOSS_NAMES
from workflow_tui.plots import COLUMNS
from workflow_tui.runs_text import engaged

if TYPE_CHECKING:
    from workflow_tui.app import WorkflowApp
    from workflow_tui.state import State

AGAIN = 5.0
"""Seconds until what could not be read is asked for again."""
BY_DEFAULT = 3
"""Runs that are drawn until somebody chooses others: the last ones before the current one."""


def difference(run: RunView, state: State) -> str:
    """Why its losses are not to be compared with those of the run that is there; empty where they are."""
    spec = state.training.spec if state.training is not None else state.train_spec
    if (run.spec.train.loss, run.spec.train.delta) != (spec.loss, spec.delta):
        return f", {LOSS_NAMES[run.spec.train.loss]}"
    return "" if run.spec.data == state.data_spec else ", other data"


class EarlierRuns:
    """Which kept runs are drawn under the current one, and their losses."""

    def __init__(self, app: WorkflowApp) -> None:
        self.app = app
        self._chosen: dict[int, bool] = {}
        self._read: dict[int, tuple[int, Sequence[Column]]] = {}
        self._asked: set[int] = set()

    def under(self, state: State) -> tuple[RunView, ...]:
        """The runs whose losses are drawn, newest first: the last three that compare with the current one, or those
        chosen.

        Never a run that is on the charts itself, and none without an epoch.
        """
        there = engaged(state)
        earlier = sorted((run for run in state.runs if run.run not in there and run.epochs), key=lambda run: -run.run)
        # one that blew up would leave the others no room on the axis; who wants to see it chooses it
        like = [run for run in earlier if not difference(run, state) and run.state not in ("diverged", "failed")]
        recent = {run.run for run in like[:BY_DEFAULT]}
        return tuple(run for run in earlier if self._chosen.get(run.run, run.run in recent))

    def toggle(self, run: RunView) -> None:
        """Draw a run, or hide it, from now on."""
        self._chosen[run.run] = run.run not in {each.run for each in self.under(self.app.state)}
        self.app.redraw()

    def columns(self, run: RunView) -> Sequence[Column]:
        """The training loss of a run over all its epochs; empty until the engine has told it."""
        epochs, series = self._read.get(run.run, (0, ()))
        if epochs < run.epochs and run.run not in self._asked and self.app.state.ready:
            self._asked.add(run.run)
            self.app.start_work(partial(self._ask, run), f"losses of run {run.run}")
        return series

    async def _ask(self, run: RunView) -> None:
        # not by `link.ask`: nobody asked for this, so nobody waits for it, and a refusal concerns nobody
        command = ReadSeries(run=run.run, start=0, stop=run.epochs, columns=COLUMNS, names=("train_loss",))
        try:
            answer = await self.app.link.client.request(command)
        except WorkflowError:
            self.app.set_timer(AGAIN, partial(self._asked.discard, run.run))
            return
        self._asked.discard(run.run)
        if not isinstance(answer, SeriesAnswer):
            return
        drawn = {each.run for each in self.under(self.app.state)}
        self._read = {number: read for number, read in self._read.items() if number in drawn}
        self._read[run.run] = run.epochs, answer.series.get("train_loss", ())
        self.app.redraw()
