"""What the charts of several screens have in common: the data, its true line, and history as points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from workflow_core.history import Column, History
from workflow_core.protocol import DataView, Point
from workflow_tui.theme import ROLES, Role
from workflow_tui.widgets.chart import Lines, Mark, Scatter
from workflow_tui.widgets.chart_layers import Layer

SHORT = {"train": "train", "validation": "val", "test": "test"}
COLUMNS = 240
"""Twice as many columns as the widest chart of a 200-column terminal needs, two points each."""


def role_of(name: str) -> Role:
    """The role of a split or parameter of this name; parameters of no role of their own look like predictions."""
    return next((role for role in ROLES if role == name), "prediction")


def data_layers(data: DataView, *, truth: bool = True) -> list[Layer]:
    """The true line below, the three splits above it."""
    layers: list[Layer] = []
    if truth and data.line:
        layers.append(Lines("target", "true", list(data.line)))
    layers += [
        Scatter(role_of(split.name), SHORT[split.name], list(split.points)) for split in data.splits if split.count
    ]
    return layers


def data_range(data: DataView) -> tuple[float, float]:
    """The x axis that shows every row."""
    ranges = [split.x_range for split in data.splits if split.x_range is not None]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def series_points(history: History, name: str, start: int, stop: int) -> list[Point]:
    """A series as points for `start` to `stop` (exclusive) epochs: at most two a column, least and greatest value."""
    series = history.series.get(name)
    return [] if series is None else list(_points(series.columns(COLUMNS, start, stop)))


def _points(columns: Iterable[Column]) -> Iterator[Point]:
    for column in columns:
        if math.isnan(column.low):
            continue
        if column.low == column.high:
            yield float(column.start), column.low
            if column.stop - column.start > 1:
                yield float(column.stop - 1), column.high
            continue
        falling = not column.first <= column.last
        ends = (column.high, column.low) if falling else (column.low, column.high)
        yield float(column.start), ends[0]
        yield float(column.stop - 1), ends[1]


def bad_mark(first_bad: int | None) -> list[Layer]:
    """A mark at the first epoch with a NaN or infinite figure, where there is one."""
    return [] if first_bad is None else [Mark(float(first_bad), "bad", "NaN or infinite")]
