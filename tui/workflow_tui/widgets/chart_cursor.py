"""A line through a drawn chart at one x: laid over its cells, so that moving it needs no new drawing."""

from __future__ import annotations

from workflow_tui.figures import figure
from workflow_tui.theme import Role, role_marker
from workflow_tui.widgets.chart_axes import clean, count
from workflow_tui.widgets.chart_cells import BLANK, Cell, Row, Signs, Tone, signs
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_heat import HALF
from workflow_tui.widgets.chart_layers import ChartSpec, Lines
from workflow_tui.widgets.chart_points import Run, height_at
from workflow_tui.widgets.chart_strokes import HEADED


def with_cursor(
    rows: list[Row], spec: ChartSpec, runs: list[list[Run]], frame: Frame, x: float, *, use_ascii: bool
) -> list[Row]:
    """The rows of a chart with a line at `x` (data units), where each series crosses it, and x below.

    `runs` are what was drawn of each layer. Beyond the axis there is no line.
    """
    column = frame.column(x)
    if column is None:
        return rows
    at = frame.left + column
    drawn = list(rows)
    chars = signs(use_ascii)
    for y in range(frame.top, frame.top + frame.rows):
        if _is_ground(rows[y][at], chars):
            drawn[y] = _put(rows[y], at, (chars.cursor, "cursor"))
    for row, role in crossings(spec, runs, frame, clean(x)):
        y = frame.top + row
        drawn[y] = _put(rows[y], at, (role_marker(role, use_ascii=use_ascii), role))
    foot = frame.top + frame.rows
    drawn[foot] = _put(rows[foot], at, (chars.tick_below, "cursor"))
    drawn[foot + 1] = _labelled(rows[foot + 1], at, count(x) if spec.whole_x else figure(clean(x)))
    return drawn


def _is_ground(cell: Cell, chars: Signs) -> bool:
    """Whether the cursor may take a cell: a free one, one of the map, one of the line of a mark."""
    char, ink = cell
    if char in chars.ramp:  # a blank among them
        return ink in (None, "muted") or isinstance(ink, Tone)
    return char in (HALF, chars.mark)


def crossings(spec: ChartSpec, runs: list[list[Run]], frame: Frame, x: float) -> list[tuple[int, Role]]:
    """The row of the plot in which each series crosses the line at `x`, with its role; those beneath come first."""
    found = []
    for layer, parts in zip(spec.layers, runs, strict=True):
        if isinstance(layer, Lines) and (layer.role in HEADED or layer.role == "prediction"):
            y = next((y for run in parts if (y := height_at(run, x)) is not None), None)
            if y is not None and frame.holds(y):
                found.append((frame.row(y), layer.role))
    return found


def _put(row: Row, at: int, cell: Cell) -> Row:
    ground = row[at][1]
    char, role = cell
    if isinstance(ground, Tone) and isinstance(role, str):
        level = (ground.upper + ground.lower + 1) // 2
        cell = (char, Tone(role, level, level))
    return (*row[:at], cell, *row[at + 1 :])


def _labelled(row: Row, at: int, text: str) -> Row:
    """The row of labels with `text` below the line; labels that it would touch are left out whole."""
    start = min(max(at - (len(text) - 1) // 2, 0), max(len(row) - len(text), 0))
    end = min(start + len(text), len(row))
    low, high = max(start - 1, 0), end
    while low > 0 and row[low] != BLANK:
        low -= 1
    while high < len(row) and row[high] != BLANK:
        high += 1
    cells: list[Cell] = [*row[:low], *[BLANK] * (high - low), *row[high:]]
    cells[start:end] = [(char, "cursor") for char in text[: end - start]]
    return tuple(cells)
