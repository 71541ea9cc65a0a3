"""The table of kept runs as plain values: its columns, their order, and the text of every cell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from workflow_core.protocol import RunView
from workflow_core.sanitize import sanitize
from workflow_tui import figures, runs_text
from workflow_tui.run_settings import Settings, common, settings_of, special_text

Value = float | str | tuple[tuple[int, str], ...] | None
Cell = tuple[str, str]
"""A text, and the role or weight it is drawn in."""
LEAST, MOST = 18, 72
"""Columns of the terminal that what is special in the settings takes, beside what everything else needs."""
NAME = 20


@dataclass(frozen=True, slots=True)
class Known:
    """A run with what is worked out of its settings once."""

    run: RunView
    settings: Settings
    special: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `value` is what it is sorted by (None comes last), `down` whether the greatest comes first."""

    key: str
    title: str
    text: Callable[[Known, datetime], str]
    value: Callable[[Known], Value]
    down: bool = False
    right: bool = True
    loss: bool = False


def _best_kind(run: RunView) -> str:
    return runs_text.unit(run) + ("" if run.val_loss is not None else " train")


def _natural(text: str) -> Value:
    """Texts in the order of people, for whom trial 9 comes before trial 10; None for an empty one."""
    parts = re.split(r"([0-9]{1,15})", text.casefold())
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts) if text else None


COLUMNS = (
    Column("run", "run", lambda k, _: str(k.run.run), lambda k: k.run.run, down=True),
    Column("name", "name", lambda k, _: sanitize(k.run.name, 60), lambda k: _natural(k.run.name), right=False),
    Column("settings", "settings", lambda k, _: k.special, lambda k: _natural(k.special), right=False),
    Column("state", "state", lambda k, _: runs_text.state_text(k.run), lambda k: k.run.state, right=False),
    Column("epochs", "epochs", lambda k, _: runs_text.epochs_text(k.run), lambda k: k.run.epochs, down=True),
    Column("train", "train", lambda k, _: figures.figure(k.run.train_loss), lambda k: k.run.train_loss, loss=True),
    Column("val", "val", lambda k, _: figures.figure(k.run.val_loss), lambda k: k.run.val_loss, loss=True),
    Column("best", "best val", lambda k, _: runs_text.best_text(k.run), lambda k: k.run.best_loss, loss=True),
    Column("time", "time", lambda k, _: figures.duration(k.run.elapsed), lambda k: k.run.elapsed),
    Column("begun", "begun", lambda k, now: runs_text.when_text(k.run.begun, now), lambda k: k.run.begun, down=True),
)
UNIT = Column("unit", "loss", lambda k, _: runs_text.unit(k.run), lambda k: runs_text.unit(k.run), right=False)
"""What the losses are of: a column only where they are not all of the same."""
MARKS = "marks"
KEYS = tuple(column.key for column in COLUMNS)


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, and whether the greatest comes first."""

    by: str = "run"
    down: bool = True

    def next(self) -> Order:
        """By the next column, its own way round."""
        column = COLUMNS[(KEYS.index(self.by) + 1) % len(COLUMNS)]
        return Order(column.key, column.down)

    def turned(self) -> Order:
        """The other way round."""
        return Order(self.by, not self.down)

    def sort(self, runs: Iterable[Known]) -> list[Known]:
        """Pinned runs first; what has no value, or no finite one, last; equal ones with the newest first.

        Losses of one kind stand together: numbers of different kinds say nothing about each other.
        """
        column = COLUMNS[KEYS.index(self.by)]
        ordered = sorted(runs, key=lambda known: known.run.run, reverse=True)
        valued = [known for known in ordered if _finite(column.value(known))]
        valued.sort(key=column.value, reverse=self.down)  # type: ignore[arg-type]
        if column.loss:
            valued.sort(key=lambda known: _best_kind(known.run) if self.by == "best" else runs_text.unit(known.run))
        rest = [known for known in ordered if not _finite(column.value(known))]
        return sorted(valued + rest, key=lambda known: not known.run.pinned)


def _finite(value: Value) -> bool:
    return value is not None and (not isinstance(value, float | int) or math.isfinite(value))


@dataclass(frozen=True, slots=True)
class Head:
    """A column as it is laid out: two lines above it and its width, a blank between it and the next one included."""

    key: str
    lines: tuple[str, str]
    width: int
    sorted_by: bool = False


class Ledger:
    """The table of runs; remembers what it worked out of runs that have not changed."""

    def __init__(self) -> None:
        self.usual: dict[str, str] = {}
        self._settings: dict[int, tuple[RunView, Settings]] = {}
        self._known: dict[int, Known] = {}
        self._cells: dict[tuple[int, str], tuple[Known, str]] = {}

    def take(self, runs: Sequence[RunView]) -> None:
        """These are the runs now."""
        settings, changed = {}, len(runs) != len(self._settings)
        for run in runs:
            before = self._settings.get(run.run)
            if before is not None and (before[0].spec is run.spec or before[0].spec == run.spec):
                settings[run.run] = run, before[1]
            else:
                settings[run.run] = run, settings_of(run.spec)
                changed = True
        self._settings = settings
        if changed:
            self.usual = common(each for _, each in settings.values())
            self._known = {}
        self._known = {number: self._know(run, each) for number, (run, each) in settings.items()}

    def _know(self, run: RunView, settings: Settings) -> Known:
        before = self._known.get(run.run)
        if before is not None and (before.run is run or before.run == run):
            return before
        special = special_text(settings, self.usual, run.lr_changes)
        return Known(run, settings, special)

    def get(self, run: int | None) -> Known | None:
        """What is known of a run, None where it is not kept."""
        return None if run is None else self._known.get(run)

    def ordered(self, order: Order) -> list[Known]:
        """The runs in their order."""
        return order.sort(self._known.values())

    def _text(self, column: Column, known: Known, now: datetime) -> str:
        # a time of day is another one tomorrow
        key = known.run.run, f"{column.key} {now.date()}" if column.key == "begun" else column.key
        before = self._cells.get(key)
        if before is None or before[0] is not known:
            before = self._cells[key] = known, column.text(known, now)
        return before[1]

    def layout(
        self, order: Order, room: int, now: datetime, signs: Mapping[int, str]
    ) -> tuple[tuple[Head, ...], dict[int, tuple[Cell, ...]]]:
        """The heads of the columns and the cells of every run, in order, for `room` columns of the terminal.

        `signs` are the three that stand before each run, a `*` among them where it is marked. Columns are as wide as
        their texts; what is special in the settings gets the room that the others leave.
        """
        runs = self.ordered(order)
        units = {runs_text.unit(known.run) for known in runs}
        columns = list(COLUMNS)
        if len(units) > 1:
            columns.insert(KEYS.index("train"), UNIT)
        heads = _heads(columns, order, units)
        texts = {column.key: [self._text(column, known, now) for known in runs] for column in columns}
        widths = {
            key: max([*(cell_len(line) for line in heads[key]), *(cell_len(text) for text in texts[key]), 1])
            for key in heads
        }
        widths["name"] = min(widths["name"], NAME)
        wanted = min(widths["settings"], MOST)
        others = 4 + sum(width for key, width in widths.items() if key != "settings")
        gap = 2 if others + wanted + 2 * len(widths) <= room else 1
        widths["settings"] = min(wanted, max(room - others - len(widths), LEAST))
        laid = [Head(MARKS, ("", ""), 4)]
        for column in columns:
            width, lines = widths[column.key], heads[column.key]
            fitted = fit(lines[0], width, right=column.right), fit(lines[1], width, right=column.right)
            laid.append(Head(column.key, fitted, width + gap, column.key == order.by))
        rows = {}
        for index, known in enumerate(runs):
            number = known.run.run
            weight = "bold" if "*" in signs[number] else ""
            cells: list[Cell] = [(signs[number], "bold")]
            for column in columns:
                text = fit(texts[column.key][index], widths[column.key], right=column.right)
                cells.append((text, runs_text.state_role(known.run) if column.key == "state" else weight))
            rows[number] = tuple(cells)
        return tuple(laid), rows


def _heads(columns: Sequence[Column], order: Order, units: Set[str]) -> Mapping[str, tuple[str, str]]:
    unit = next(iter(units)) if len(units) == 1 else "of its loss"
    below = {"epochs": "done/plan", "train": unit, "val": unit, "best": f"{unit} @ epoch", "time": "m:ss"}
    # the room of the sign is kept in all of them: columns that move when they are sorted by cannot be followed
    sign = "▼" if order.down else "▲"
    return {
        column.key: (column.title + (sign if column.key == order.by else " "), below.get(column.key, ""))
        for column in columns
    }


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` columns of the terminal, cut with an ellipsis where it is longer."""
    size = cell_len(text)
    if size <= width:
        return " " * (width - size) + text if right else text + " " * (width - size)
    return set_cell_size(text, width - 1) + "…" if width > 1 else "…"[:width]
