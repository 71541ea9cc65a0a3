"""Which lane of a race to go on with: how each of them stands, while they run and afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from workflow_core.protocol import LaneView, RaceView
from workflow_core.specs import LOSS_NAMES
from workflow_tui import figures
from workflow_tui.commands import Command
from workflow_tui.dialogs.following import FollowingDialog
from workflow_tui.instruments.race import standing
from workflow_tui.runs_table import Cell, Head, fit
from workflow_tui.tables import Ink, fitted_start
from workflow_tui.theme import ROLES
from workflow_tui.widgets.calm_table import CalmTable
from workflow_tui.widgets.key_lines import KeyLines

if TYPE_CHECKING:
    from workflow_tui.run_flows import RunFlows

LABEL = 20
"""Characters that the label of a lane takes at most."""
TITLES = ("lane", "state", "epoch", "train", "val", "best val")
COMMANDS = (
    Command("adopt", "enter", "enter", "go on with this lane", "Evaluate, save and train on with this one."),
    Command("close", "escape,q", "escape", "leave", "Leave the race as it is."),
)


class LanesDialog(FollowingDialog[int | None]):
    """The lanes of the race that is there; the run of the chosen one, None where it was left."""

    AUTO_FOCUS = "CalmTable"
    BINDINGS = [replace(command.binding(), priority=True) for command in COMMANDS]  # noqa: RUF012

    def __init__(self, flows: RunFlows) -> None:
        super().__init__()
        self.flows = flows
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The lanes, what choosing one does, and the keys."""
        with Vertical(classes="dialog lanes") as box:
            box.border_title = "The lanes of the race"
            yield CalmTable(id="race-table", fixed=1)
            text = "The race is over once a lane is taken: its run is the one to evaluate, save or train on."
            training = self.flows.app.state.training
            if training is not None and training.state == "paused" and training.epoch:
                text += f" Run {training.run}, paused after {figures.epochs(training.epoch)}, then cannot go on."
            yield Static(text, markup=False, classes="dialog-text")
            yield KeyLines(COMMANDS)

    def follow(self) -> None:
        """Bring the lanes up to what the engine has said; where the race has gone, so has the question."""
        state = self.flows.app.state
        if state.race is None:
            self.dismiss(None)
            return
        if (state.race, self.app.theme) == self._shown:
            return
        self._shown = (state.race, self.app.theme)
        heads, rows = layout(state.race, standardized=state.standardized)
        ink = Ink(self)
        styles = {role: ink(role) for role in (*ROLES, "accent")}
        table = self.query_one(CalmTable)
        table.show(heads, rows, styles)
        table.styles.height = len(rows) + 3

    def action_adopt(self) -> None:
        """Take the lane under the cursor."""
        chosen = self.query_one(CalmTable).chosen
        self.dismiss(None if chosen is None else int(chosen))

    def action_close(self) -> None:
        """Take none."""
        self.dismiss(None)


def layout(race: RaceView, *, standardized: bool) -> tuple[tuple[Head, ...], dict[str, tuple[Cell, ...]]]:
    """The columns of the table and a row for each lane, under the number of its run."""
    unit = LOSS_NAMES[race.lanes[0].spec.loss] + (" std." if standardized else "") if race.lanes else ""
    below = ("", "@ first bad", f"of {figures.whole(race.epochs)}", unit, unit, f"{unit} @ epoch")
    lanes = [lane for _, lane in standing(race)]  # the best first: it is the one under the cursor
    texts = [_texts(lane) for lane in lanes]
    heads = []
    for at, title in enumerate(TITLES):
        width = max(map(cell_len, (title, below[at], *(row[at] for row in texts))))
        heads.append(Head(title, (fit(title, width, right=at > 1), fit(below[at], width, right=at > 1)), width + 1))
    rows = {
        str(lane.run): tuple(_cell(row[at], heads[at], at, lane) for at in range(len(TITLES)))
        for lane, row in zip(lanes, texts, strict=True)
    }
    return tuple(heads), rows


def _cell(text: str, head: Head, at: int, lane: LaneView) -> Cell:
    role = {"running": "accent", "diverged": "bad", "failed": "bad"}.get(lane.state, "") if at == 1 else ""
    return fit(text, head.width - 1, right=at > 1), role


def _texts(lane: LaneView) -> Sequence[str]:
    best = "–"
    if lane.best_epoch is not None:
        best = f"{figures.figure(lane.best_loss)} @ {figures.whole(lane.best_epoch)}"
        best += "" if lane.val_loss is not None else " train"
    state = lane.state if lane.first_bad is None else f"{lane.state} @ {figures.whole(lane.first_bad)}"
    return (
        fitted_start(lane.label, LABEL),
        state,
        figures.whole(lane.epoch),
        figures.figure(lane.train_loss),
        figures.figure(lane.val_loss),
        best,
    )
