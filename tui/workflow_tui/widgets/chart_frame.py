"""Where things lie in a chart: its plot of cells between axes, and the axes themselves with their labels."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from workflow_tui.theme import Role
from workflow_tui.widgets.chart_axes import Axis, Tick, clean, x_ticks
from workflow_tui.widgets.chart_cells import BLANK, Cell, Row, Signs, elided, fit, narrow, written
from workflow_tui.widgets.chart_layers import ChartSpec, Horizontal, Range
from workflow_tui.widgets.chart_points import dot


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot, `columns` by `rows` cells, `left` and `top` cells into the chart, and the axes it lies between."""

    x_axis: Axis
    y_axis: Axis
    columns: int
    rows: int
    left: int
    top: int

    def column(self, x: float) -> int | None:
        """The column of an x in data units; None where it is not within the axis."""
        within = 0 <= self.x_axis.fraction(clean(x)) <= 1  # NaN is not either
        return self.nearest_column(clean(x)) if within else None

    def nearest_column(self, x: float) -> int:
        """The column of an x in data units; one beyond the axis is at its end."""
        return min(max(dot(self.x_axis.fraction(x), 2 * self.columns) // 2, 0), self.columns - 1)

    def row(self, y: float) -> int:
        """The row, counted from the top, of a y in axis units; one beyond the axis is at its end."""
        return self.rows - 1 - min(max(dot(self.y_axis.fraction(y), 4 * self.rows) // 4, 0), self.rows - 1)

    def holds(self, y: float) -> bool:
        """Whether a y in axis units is within the axis; NaN is not."""
        return y == y and 0 <= self.y_axis.fraction(y) <= 1

    def x_at(self, column: int) -> float:
        """The x in data units in the middle of a column, or of the nearest that there is."""
        within = min(max(column, 0), self.columns - 1)
        return self.x_axis.low + (2 * within + 0.5) / (2 * self.columns - 1) * (self.x_axis.high - self.x_axis.low)


def x_axis_of(x_range: Range) -> Axis:
    """The x axis from one end of a range to the other, whatever they are."""
    low, high = (clean(value) for value in x_range)
    if low != low or high != high:
        low, high = 0.0, 1.0
    low, high = min(low, high), max(low, high)
    least = 1e-12 * max(abs(low), abs(high))  # what floats tell apart well at this size
    if high - low > least:
        return Axis(low, high)
    half = max(0.5, least)
    return Axis(low - half, low + half)


def with_targets(y_ticks: list[Tick], spec: ChartSpec, y_axis: Axis, rows: int) -> list[tuple[Tick, Role]]:
    """Ticks with their role; a target's own value takes the place of ticks that would touch it."""
    frame = Frame(y_axis, y_axis, 1, rows, 0, 0)
    targets = []
    for layer in spec.layers:
        if isinstance(layer, Horizontal) and frame.holds(y := clean(layer.y, log=spec.log_y)):
            label = f"{layer.y:.4g}" if abs(layer.y) >= 1e4 or 0 < abs(layer.y) < 1e-3 else f"{layer.y:.2f}"
            targets.append((Tick(y, label), layer.role))
    taken = [frame.row(tick.at) for tick, _ in targets]
    plain: list[tuple[Tick, Role]] = [
        (tick, "muted") for tick in y_ticks if all(abs(frame.row(tick.at) - row) > 1 for row in taken)
    ]
    return plain + targets


def framed(
    canvas: list[Row], y_ticks: list[tuple[Tick, Role]], spec: ChartSpec, frame: Frame, signs: Signs
) -> list[Row]:
    """The plot with the y axis on its left and the x axis below it."""
    named = {frame.row(tick.at): (tick.label, role) for tick, role in y_ticks}
    gutter = frame.left - 1
    rows: list[Row] = []
    for index, row in enumerate(canvas):
        label, role = named.get(index, ("", "muted"))
        sign: Cell = (signs.tick_left if label else signs.column, "muted")
        rows.append((*written(label[:gutter].rjust(gutter), role), sign, *row))
    return rows + _bottom(spec, frame, signs)


def _bottom(spec: ChartSpec, frame: Frame, signs: Signs) -> list[Row]:
    """The x axis and its labels, as two rows; a name of the axis that is too long for the corner stands on it."""
    gutter, name = frame.left - 1, narrow(spec.x_label)
    cornered = len(name) <= gutter
    labels = list((name if cornered else "").ljust(frame.left + frame.columns))
    line: list[Cell] = written(" " * gutter + signs.corner + signs.row * frame.columns, "muted")
    for tick, start in _best_placed(spec, frame, len(name) + 1 if name and cornered else 0):
        labels[start : start + len(tick.label)] = tick.label
        line[frame.left + frame.nearest_column(tick.at)] = (signs.tick_below, "muted")
    if not cornered:
        _name_axis(line, elided(name, frame.columns // 2, signs.more), signs)
    return [tuple(line), tuple(written("".join(labels), "muted"))]


def _best_placed(spec: ChartSpec, frame: Frame, free: int) -> list[tuple[Tick, int]]:
    """The first ticks that all have room, if they are three or more; else those of which most have, side by side."""
    most: list[tuple[Tick, int]] = []
    best = 0, False
    for marks in x_ticks(frame.x_axis, whole=spec.whole_x):
        placed = _placed(marks, frame, free)
        if len(placed) == len(marks) >= 3:
            return placed
        score = len(placed), len(placed) == len(marks)
        if score > best and [tick for tick, _ in placed] in (marks, marks[1:], marks[:-1], marks[1:-1]):
            most, best = placed, score
    return most


def _placed(marks: list[Tick], frame: Frame, free: int) -> list[tuple[Tick, int]]:
    """The ticks whose labels have room below the axis, two blanks apart, from column `free` on; where each starts."""
    width = frame.left + frame.columns
    columns = [frame.left + frame.nearest_column(tick.at) for tick in marks]
    starts = [
        min(max(column - (len(tick.label) - 1) // 2, 0), width - len(tick.label))
        for tick, column in zip(marks, columns, strict=True)
    ]
    if marks and starts[0] < free <= columns[0]:
        # the first one gives way to the name of the axis, where the next one lets it
        pushed = free + len(marks[0].label) + 2 <= (starts[1] if len(marks) > 1 else width + 2)
        starts[0] = free if pushed else starts[0]
    placed = []
    for tick, start in zip(marks, starts, strict=True):
        if start >= free and start + len(tick.label) <= width:
            placed.append((tick, start))
            free = start + len(tick.label) + 2
    return placed


def _name_axis(line: list[Cell], name: str, signs: Signs) -> None:
    """Write a name on the axis, between the ticks furthest right that leave it room."""
    for end in range(len(line) - 1, len(name) + 4, -1):
        part = line[end - len(name) - 4 : end]
        if all(char == signs.row for char, _ in part):
            line[end - len(name) - 3 : end - 1] = written(f" {name} ", "muted")
            return


def message(text: str, width: int, height: int) -> list[Row]:
    """A text in the middle of an otherwise empty chart."""
    lines = textwrap.wrap(narrow(text), max(width - 2, 1))[:height] or [""]
    top = (height - len(lines)) // 2
    rows: list[Row] = [(BLANK,) * width] * height
    for index, line in enumerate(lines):
        rows[top + index] = fit([BLANK] * ((width - len(line)) // 2) + written(line, "muted"), width)
    return rows
