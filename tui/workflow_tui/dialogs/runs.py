"""Every run that is kept, in a table to sort, pin, name, compare, export, delete, and to go back to the settings of."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from workflow_core.protocol import RunView
from workflow_tui import figures, runs_text
from workflow_tui.commands import Command
from workflow_tui.dialogs.following import FollowingDialog
from workflow_tui.runs_table import COLUMNS, KEYS, Ledger, Order
from workflow_tui.tables import Ink
from workflow_tui.theme import ROLES
from workflow_tui.widgets.calm_table import CalmTable
from workflow_tui.widgets.frame import StatusLine
from workflow_tui.widgets.key_lines import KeyLines

if TYPE_CHECKING:
    from workflow_tui.run_flows import RunFlows

EMPTY = (
    "No run is kept yet.\n\nEvery run will stand here with its settings, how it ended, its losses and its best epoch, "
    "until it is deleted. space on Train starts one; u or escape goes back."
)
DETAILS = ("run-head", "run-settings", "run-losses", "run-end")
ENDED = " The engine has ended; this is the last it said of its runs. a on Train starts it again"
MARKS = "* marked  ^ pinned  > on the charts now  ~ drawn below it"

COMMANDS = (
    Command("mark", "space", "space", "mark", "Mark the run, for comparing or deleting several."),
    Command("compare", "c", "c", "compare", "Settings and results of the marked runs side by side."),
    Command("restore", "enter", "enter", "restore settings", "Data, model and training as they were for this run."),
    Command("pin", "p", "p", "pin", "Keep the run on top, whatever the table is sorted by."),
    Command("rename", "r", "r", "rename", "Give the run a name."),
    Command("draw", "v", "v", "draw/hide", "Draw its losses under those of the current run, or hide them."),
    Command("sort", "o", "o", "sort by next", "Sort by the next column."),
    Command("turn", "O,shift+o", "O", "turn order", "Sort the other way round."),
    Command("export", "e", "e", "export", "Write the run as CSV or JSON, or a picture of it as SVG."),
    Command("delete", "x,delete", "x", "delete", "Delete the run, or the marked ones, after a question."),
    Command("close", "u,escape,q", "u", "close", "Back to the training."),
)


class RunsDialog(FollowingDialog[None]):
    """The kept runs as the engine lists them at this moment; what is under way moves in it."""

    covers = True
    AUTO_FOCUS = "CalmTable"
    # ahead of the table, which has a use of its own for enter
    BINDINGS = [replace(command.binding(), priority=True) for command in COMMANDS]  # noqa: RUF012

    def __init__(self, flows: RunFlows) -> None:
        super().__init__()
        self.flows = flows
        self.ledger = Ledger()
        self.order = Order()
        self.marked: set[int] = set()
        self._shown: tuple[object, ...] = ()
        self._captions = ("", "")

    def compose(self) -> ComposeResult:
        """The table, all about the run under the cursor, and what the keys do."""
        self._classify()
        with Vertical(classes="dialog runs"):
            yield Static(EMPTY, id="no-runs", markup=False)
            yield CalmTable(id="runs", fixed=2)
            with Vertical(id="run-details"):
                # a line each: of a run under way they change ten times a second, and only in a few cells
                for name in DETAILS:
                    yield StatusLine(id=name)
            yield KeyLines(COMMANDS)

    def on_resize(self) -> None:
        """The columns have another width to share; a low terminal shows the table before everything else."""
        self._classify()
        if self._stands:
            self.call_after_refresh(self.follow)

    def _classify(self) -> None:
        height = self.app.size.height
        self.set_class(height < 16, "-low")
        self.set_class(height < 10, "-tiny")

    def follow(self) -> None:
        """Bring the table up to what the engine has said, and say what has just happened."""
        state = self.flows.app.state
        runs = runs_text.live(state)
        drawn = frozenset(run.run for run in self.flows.app.earlier.under(state))
        self.marked &= {run.run for run in runs}
        table = self.query_one(CalmTable)
        now = datetime.now().astimezone()
        there = frozenset(runs_text.engaged(state))
        shown = (runs, drawn, there, frozenset(self.marked), self.order, table.size.width, self.app.theme, now.date())
        table.display, self.query_one("#no-runs").display = bool(runs), not runs
        if shown != self._shown and (table.size.width or not runs):  # else the columns would be laid out twice
            self._shown = shown
            self.ledger.take(runs)
            signs = {run.run: self._signs(run, there, drawn) for run in runs}
            heads, rows = self.ledger.layout(self.order, table.size.width, now, signs)
            ink = Ink(self)
            styles = {role: ink(role) for role in (*ROLES, "accent")}
            table.show(heads, {str(number): cells for number, cells in rows.items()}, styles)
            self._caption(runs, scrolls=sum(head.width for head in heads) > table.size.width)
        self._tell()

    def _signs(self, run: RunView, there: Set[int], drawn: Set[int]) -> str:
        charts = ">" if run.run in there else "~" if run.run in drawn else " "
        return ("*" if run.run in self.marked else " ") + ("^" if run.pinned else " ") + charts

    def _caption(self, runs: tuple[RunView, ...], *, scrolls: bool) -> None:
        box = self.query_one(".dialog")
        column = COLUMNS[KEYS.index(self.order.by)]
        way = "greatest first" if self.order.down else "least first"
        if column.key in ("run", "begun"):
            way = "newest first" if self.order.down else "oldest first"
        elif not column.right:
            way = "from z to a" if self.order.down else "from a to z"
        count = f"{figures.whole(len(runs))} run{'s' * (len(runs) != 1)}"
        captions = (
            (f"Runs · {count}, by {column.title}, {way}", MARKS + "  ← → scroll" * scrolls) if runs else ("Runs", "")
        )
        if captions != self._captions:  # the border is the whole screen's, and all of it is repainted
            self._captions = captions
            box.border_title, box.border_subtitle = captions

    def _tell(self) -> None:
        known = self.ledger.get(self._run)
        told = ("", "", "", "") if known is None else runs_text.details(known.run, known.settings, self.ledger.usual)
        lines = [Text().append(text, "" if at else "bold") for at, text in enumerate(told)]
        if (flash := self.flows.app.flash or (Text(ENDED) if self.flows.app.state.lost else None)) is not None:
            lines[-1] = flash
        for name, line in zip(DETAILS, lines, strict=True):
            self.query_one(f"#{name}", StatusLine).show(line)

    @property
    def _run(self) -> int | None:
        chosen = self.query_one(CalmTable).chosen
        return None if chosen is None else int(chosen)

    def _chosen(self) -> RunView | None:
        if not self.flows.app.state.runs:
            self.flows.app.complain("There is no run yet: space on Train starts one")
        known = self.ledger.get(self._run)
        return None if known is None else known.run

    def _several(self) -> list[RunView]:
        """The marked runs in their order, or the one under the cursor."""
        if not self.marked:
            run = self._chosen()
            return [] if run is None else [run]
        return [known.run for known in self.ledger.ordered(self.order) if known.run.run in self.marked]

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._tell()

    @on(DataTable.HeaderSelected)
    def _head_clicked(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        key = str(event.column_key.value)
        if key in KEYS:
            column = COLUMNS[KEYS.index(key)]
            self._sort(self.order.turned() if key == self.order.by else Order(key, column.down))

    def action_mark(self) -> None:
        """Mark, or take the mark away."""
        if (run := self._chosen()) is not None:
            self.marked ^= {run.run}
            self.follow()

    def action_compare(self) -> None:
        """The marked runs side by side; one alone beside that under the cursor."""
        runs = self._several()
        chosen = self._chosen() if runs else None
        if chosen is not None and len(runs) == 1:
            runs = [run for run in runs if run.run != chosen.run] + [chosen]
        self.flows.compare([run.run for run in runs])

    def action_restore(self) -> None:
        """Back to the settings of the run."""
        if (run := self._chosen()) is not None:
            self.flows.restore(run, self)

    def action_pin(self) -> None:
        """Pin the run, or let it go."""
        if (run := self._chosen()) is not None:
            self.flows.pin(run)

    def action_rename(self) -> None:
        """Ask for a name."""
        if (run := self._chosen()) is not None:
            self.flows.rename(run)

    def action_draw(self) -> None:
        """Draw the run under the current one, or hide it."""
        if (run := self._chosen()) is not None:
            self.flows.toggle(run)
            self.follow()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._sort(self.order.next())

    def action_turn(self) -> None:
        """Sort the other way round."""
        self._sort(self.order.turned())

    def _sort(self, order: Order) -> None:
        self.order = order
        self.follow()
        self.query_one(CalmTable).reveal(order.by)

    def action_export(self) -> None:
        """Write the run to a file."""
        if (run := self._chosen()) is not None:
            self.flows.export(run)

    def action_delete(self) -> None:
        """Delete the marked runs, or the one under the cursor."""
        if runs := self._several():
            self.flows.delete(runs)

    def action_close(self) -> None:
        """Back to the screen below."""
        self.dismiss(None)
