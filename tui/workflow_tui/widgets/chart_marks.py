"""What lies over the data of a chart: targets, marks with their texts, single places, values off a logarithmic axis."""

from __future__ import annotations

from collections.abc import Iterable

from workflow_tui.theme import Role, role_marker, spot_marker
from workflow_tui.widgets.chart_axes import clean
from workflow_tui.widgets.chart_cells import BLANK, Cell, Row, Signs, elided, narrow, signs, written
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_layers import ChartSpec, Horizontal, Lines, Mark, Scatter, Spot
from workflow_tui.widgets.chart_points import Run, braille, dot, off_log

Grid = list[list[Cell]]
LEAST = 4
"""Characters of a mark's text that must be left of it for it to be written at all."""


def overlay(canvas: list[Row], spec: ChartSpec, runs: list[list[Run]], frame: Frame, use_ascii: bool) -> list[Row]:
    """The plot with all of it; data gives way to texts of marks only where there is no other room."""
    grid = [list(row) for row in canvas]
    chars = signs(use_ascii)
    marks = [layer for layer in spec.layers if isinstance(layer, Mark)]
    for layer in spec.layers:
        if isinstance(layer, Horizontal):
            _target(grid, layer, frame, clean(layer.y, log=spec.log_y), use_ascii)
        elif isinstance(layer, Lines | Scatter) and spec.log_y:
            for at in off_log(layer.points, frame.x_axis, frame.columns)[0]:
                if grid[-1][at] == BLANK:
                    grid[-1][at] = (chars.zero, layer.role)
    for mark in marks:
        if (column := frame.column(mark.x)) is not None:
            _rule(grid, column, mark.role, chars)
    for layer, parts in zip(spec.layers, runs, strict=True):
        if isinstance(layer, Spot):
            _spot(grid, layer, frame, clean(layer.y, log=spec.log_y), use_ascii)
        elif isinstance(layer, Lines) and layer.tag and parts:
            _tag(grid, layer, frame, parts[-1][-1])
    _texts(grid, marks, frame, chars)
    return [tuple(row) for row in grid]


def _target(grid: Grid, layer: Horizontal, frame: Frame, y: float, use_ascii: bool) -> None:
    """A row of dots as high as lines have theirs: what has arrived lies on them, not above or below."""
    if frame.holds(y):
        row, sign = grid[frame.row(y)], role_marker("target", use_ascii=use_ascii)
        if not use_ascii:
            height = dot(frame.y_axis.fraction(y), 4 * frame.rows)
            sign = braille([(0, height)])[0, height >> 2]
        row[:] = [(sign, layer.role) if c % 2 == 0 and cell == BLANK else cell for c, cell in enumerate(row)]


def _rule(grid: Grid, column: int, role: Role, chars: Signs) -> None:
    for row in grid:
        if row[column] == BLANK:
            row[column] = (chars.mark, role)


def _spot(grid: Grid, spot: Spot, frame: Frame, y: float, use_ascii: bool) -> None:
    column = frame.column(spot.x)
    if column is not None and frame.holds(y):
        grid[frame.row(y)][column] = (spot_marker(spot.kind, use_ascii=use_ascii), spot.role)


def _tag(grid: Grid, layer: Lines, frame: Frame, end: tuple[float, float]) -> None:
    """The tag of a line: behind its end, or above or below it where the plot ends there; never on data."""
    column = frame.column(end[0])
    if column is None or not frame.holds(end[1]):
        return
    row, tag = frame.row(end[1]), narrow(layer.tag)
    last = max(min(column + 1, frame.columns - len(tag)), 0)
    for at, start in ((row, column + 1), (row - 1, last), (row + 1, last)):
        if 0 <= at < frame.rows and start + len(tag) <= frame.columns and _free(grid, at, start, len(tag)):
            grid[at][start : start + len(tag)] = written(tag, layer.role)
            return


def _texts(grid: Grid, marks: list[Mark], frame: Frame, chars: Signs) -> None:
    """The texts of marks, each beside its line: as high as it finds room that is free of data, or at least of texts."""
    taken: set[tuple[int, int]] = set()
    for mark in sorted(marks, key=lambda mark: mark.role != "bad"):
        column, text = frame.column(mark.x), narrow(mark.text)
        if column is None or not text:
            continue
        room = [
            (at, start, words)
            for at, start, words in _places(text, column, frame, chars.more)
            if taken.isdisjoint((at, c) for c in range(start - 1, start + len(words) + 1))
        ]
        if room:
            at, start, words = next(
                (place for place in room if _free(grid, place[0], place[1], len(place[2]))), room[0]
            )
            grid[at][start : start + len(words)] = [(char, mark.role) for char in words]
            taken.update((at, c) for c in range(start, start + len(words)))


def _places(text: str, column: int, frame: Frame, more: str) -> Iterable[tuple[int, int, str]]:
    """Where the text of a mark may stand, best first: row, first column, and as much of the text as fits there."""
    right, left = frame.columns - column - 2, column - 1
    for row in range(frame.rows):
        if len(text) <= right:
            yield row, column + 2, text
        if len(text) <= left:
            yield row, column - 1 - len(text), text
        if len(text) > max(left, right) >= LEAST:
            words = elided(text, max(left, right), more)
            yield row, (column + 2 if right >= left else column - 1 - len(words)), words


def _free(grid: Grid, row: int, start: int, length: int) -> bool:
    """Whether a text there would lie on nothing, and touch nothing on its right."""
    return all(cell == BLANK for cell in grid[row][max(start, 0) : start + length + 1])
