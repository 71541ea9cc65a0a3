"""Runs side by side: how they ended, what differs in their settings, and, where asked for, all that is equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical

from workflow_core.protocol import RunView
from workflow_core.sanitize import sanitize
from workflow_tui import compare_text, runs_text
from workflow_tui.commands import Command
from workflow_tui.compare_text import Line
from workflow_tui.dialogs.following import FollowingDialog
from workflow_tui.runs_table import Cell, Head, fit
from workflow_tui.tables import Ink
from workflow_tui.theme import ROLES
from workflow_tui.widgets.calm_table import CalmTable
from workflow_tui.widgets.key_lines import KeyLines

if TYPE_CHECKING:
    from workflow_tui.run_flows import RunFlows

MOST = 12
"""Runs that are compared at most: more cannot be looked at together."""
LABEL, VALUE = 24, 26
"""Columns of the terminal that a label and a value take at most."""
SIGNS = {"result": " ", "differs": "≠", "equal": "=", "heading": " "}

COMMANDS = (
    Command("all", "a,space", "a", "equal settings", "Show or hide the settings that are equal."),
    Command("close", "escape,c,u,q", "c", "close", "Back to the table of runs."),
)


class CompareDialog(FollowingDialog[None]):
    """Settings and results as rows, runs as columns; what differs comes first, bold and with a mark."""

    covers = True
    AUTO_FOCUS = "CalmTable"
    BINDINGS = [replace(command.binding(), priority=True) for command in COMMANDS]  # noqa: RUF012

    def __init__(self, flows: RunFlows, runs: Sequence[int]) -> None:
        super().__init__()
        self.flows = flows
        self.runs = tuple(runs)
        self.all = False
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The table and its keys."""
        with Vertical(classes="dialog runs") as box:
            box.border_title = "Runs side by side"
            box.border_subtitle = "* least of the row · ≠ settings that differ · – not a setting of this run"
            yield CalmTable(id="compared", fixed=1)
            yield KeyLines(COMMANDS)

    def follow(self) -> None:
        """Bring the table up to what the engine has said; without two runs there is nothing to compare."""
        kept = {run.run: run for run in runs_text.live(self.flows.app.state)}
        runs = tuple(kept[number] for number in self.runs if number in kept)
        if len(runs) < 2:
            self.dismiss(None)
            return
        shown = (runs, self.all, self.app.theme)
        if shown == self._shown:
            return
        self._shown = shown
        ink = Ink(self)
        styles = {"result": "", "differs": "bold", "equal": ink("muted"), "heading": ink("accent", "bold")}
        styles |= {"least": "bold", "muted": ink("muted")} | {role: ink(role) for role in (*ROLES, "accent")}
        heads, rows = layout(runs, datetime.now().astimezone(), everything=self.all)
        self.query_one(CalmTable).show(heads, rows, styles)

    def action_all(self) -> None:
        """Show or hide what is equal."""
        self.all = not self.all
        self.follow()

    def action_close(self) -> None:
        """Back to the table."""
        self.dismiss(None)


def layout(
    runs: Sequence[RunView], now: datetime, *, everything: bool
) -> tuple[tuple[Head, ...], dict[str, tuple[Cell, ...]]]:
    """The columns of a comparison and its rows by their numbers; equal settings as one row unless `everything` is."""
    found = compare_text.lines(runs, now)
    results, differ, equal = ([line for line in found if line.kind == kind] for kind in ("result", "differs", "equal"))
    rest = ("",) * (len(runs) - 1)
    shown = [
        *results,
        Line("heading", "Settings that differ" if differ else "No setting differs", ("", *rest)),
        *differ,
    ]
    more = f"{len(equal)} equal setting{'s' * (len(equal) != 1)}"
    shown.append(Line("heading", more, ("" if everything else "a shows them", *rest)))
    shown += equal if everything else []
    label = min(max(len(line.label) for line in shown), LABEL)
    widths = [_width(run, [line.values[at] for line in shown]) for at, run in enumerate(runs)]
    heads = [Head("label", (fit("", label), fit("", label)), label + 3)]
    for run, width in zip(runs, widths, strict=True):
        name = sanitize(run.name, 60)
        heads.append(Head(str(run.run), (fit(f"run {run.run}", width), fit(name, width)), width + 2))
    return tuple(heads), {str(at): _cells(line, label, widths) for at, line in enumerate(shown)}


def _width(run: RunView, values: Sequence[str]) -> int:
    longest = max(cell_len(text) for text in (f"run {run.run}", sanitize(run.name, 60), *values))
    return min(longest + 2, VALUE)


def _cells(line: Line, label: int, widths: Sequence[int]) -> tuple[Cell, ...]:
    role = "" if line.kind == "result" else line.kind
    cells: list[Cell] = [(f"{SIGNS[line.kind]} {fit(line.label, label)} ", role)]
    for at, width in enumerate(widths):
        least = at in line.least
        text = line.values[at] + (" *" if least else "")
        cells.append((fit(text, width), "bold" if least else role))
    return tuple(cells)
