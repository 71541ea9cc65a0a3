"""Paints a chart into a grid of cells: plotext draws the data, the frame around it is laid out here.

Axes are not plotext's: its tick labels move with each other, its set order differs between runs, and it has no
ASCII form. The cells name a role, not a colour, so that a change of theme needs no new drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rich.cells import cell_len
from textual_plotext import Plot

from workflow_tui.theme import ROLES, TRACKED, Role, role_marker
from workflow_tui.widgets.chart_axes import Axis, Tick, choose, clean, ticks
from workflow_tui.widgets.chart_layers import ChartSpec, Horizontal, Lines, Mark, Scatter
from workflow_tui.widgets.chart_points import (
    Run,
    cells_of,
    decimate,
    dot,
    dotted,
    heights,
    point_cells,
    polylines,
    shared_cells,
)

MIN_WIDTH, MIN_HEIGHT = 16, 5
GUTTER = 5
Cell = tuple[str, Role | None]
Row = tuple[Cell, ...]
BLANK: Cell = (" ", None)
# roles whose lines end in their marker: the line says what it is without its colour
_HEADS = frozenset({"train", "validation", "test", *TRACKED})


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters a chart is drawn with."""

    column: str
    tick_left: str
    row: str
    tick_below: str
    corner: str
    mark: str


UNICODE = Signs("│", "┤", "─", "┬", "└", "┊")
ASCII = Signs("|", "+", "-", "+", "+", ":")


@lru_cache(256)
def narrow(text: str) -> str:
    """The text with everything that is not exactly one cell wide replaced, so that a grid can hold it."""
    return "".join(char if char.isprintable() and cell_len(char) == 1 else "?" for char in text[:200])


class Painter:
    """Draws one chart again and again; keeps its figure and its y axis, and draws only what changed."""

    def __init__(self) -> None:
        self.plot: Any = Plot()
        self.builds = 0
        self.axis: Axis | None = None
        self._axis_intervals = 0
        self._key: object = None
        self._canvas: list[Row] = []

    def forget_axis(self) -> None:
        """Choose the y axis anew at the next painting, whatever it was."""
        self.axis = None

    def paint(self, spec: ChartSpec, width: int, height: int, *, use_ascii: bool, hint: str) -> list[Row]:
        """The chart as `height` rows of exactly `width` cells."""
        if width < 1 or height < 1:
            return []
        if width < MIN_WIDTH or height < MIN_HEIGHT:
            return _message(f"needs {MIN_WIDTH}x{MIN_HEIGHT}", width, height)
        x_axis = _x_axis(spec)
        legend = _legend(spec, width, use_ascii) if height > MIN_HEIGHT else None
        rows = height - 2 - (legend is not None)
        intervals = max(1, min(5, rows // 3))
        # the gutter is measured on the labels, the labels need the axis, the axis the data: columns at their widest
        runs = self._runs(spec, x_axis, width - GUTTER - 1)
        bounds = _bounds(spec, runs, x_axis)
        if bounds is None:
            return _message(hint, width, height)
        y_axis = self._y_axis(spec, bounds, intervals)
        y_ticks = _with_targets(ticks(y_axis, intervals, decimals=2), spec, y_axis, rows)
        gutter = min(max([GUTTER, *(len(tick.label) for tick, _ in y_ticks)]), width // 2)
        columns = width - gutter - 1
        if gutter != GUTTER:
            runs = self._runs(spec, x_axis, columns)
        canvas = self._data(spec, runs, x_axis, y_axis, columns, rows, use_ascii)
        canvas = _overlay(canvas, spec, x_axis, y_axis, use_ascii)
        signs = ASCII if use_ascii else UNICODE
        frame = _left(canvas, y_ticks, y_axis, gutter, signs)
        return ([legend] if legend else []) + frame + _bottom(spec, x_axis, gutter, columns, signs)

    def _runs(self, spec: ChartSpec, x_axis: Axis, columns: int) -> list[list[Run]]:
        return [
            decimate(layer.points, x_axis, columns, log_y=spec.log_y) if isinstance(layer, Lines | Scatter) else []
            for layer in spec.layers
        ]

    def _y_axis(self, spec: ChartSpec, bounds: tuple[float, float], intervals: int) -> Axis:
        if spec.y_range is not None:
            low, high = (clean(value, log=spec.log_y) for value in sorted(spec.y_range))
            if low < high:
                return Axis(low, high, log=spec.log_y)
        previous = self.axis if intervals == self._axis_intervals else None
        self.axis, self._axis_intervals = choose(previous, *bounds, intervals, log=spec.log_y), intervals
        return self.axis

    def _data(
        self,
        spec: ChartSpec,
        runs: list[list[Run]],
        x_axis: Axis,
        y_axis: Axis,
        columns: int,
        rows: int,
        use_ascii: bool,
    ) -> list[Row]:
        strokes = _strokes(spec, runs, x_axis, y_axis, columns, rows, use_ascii)
        key = (strokes, columns, rows)
        if key != self._key:
            self._canvas = self._build(strokes, columns, rows)
            self._key = key
        return self._canvas

    def _build(self, strokes: list[Stroke], columns: int, rows: int) -> list[Row]:
        """Let plotext draw the strokes; its matrix, read directly, saves writing and parsing escape sequences."""
        self.builds += 1
        plot, monitor = self.plot, self.plot.monitor
        plot.clear_data()
        plot.frame(False)
        plot.xticks([])
        plot.yticks([])
        plot.xlim(0, 2 * columns - 1)
        plot.ylim(0, 4 * rows - 1)
        for stroke in strokes:
            draw = plot.plot if stroke.joined else plot.scatter
            xs, ys = stroke.coordinates(columns, rows)
            draw(xs, ys, marker=stroke.marker, color=ROLES.index(stroke.role))
        # not plot_size: that clamps to the terminal, whatever the widget's size
        monitor.set_size([columns, rows])
        monitor.build_plot()
        matrix = monitor.matrix
        return [
            tuple(
                (char, ROLES[colour] if isinstance(colour, int) else None)
                for char, colour in zip(chars, colours, strict=True)
            )
            for chars, colours in zip(reversed(matrix.marker), reversed(matrix.fullground), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One thing for plotext to draw: whole dots (2x4 a cell) with the marker `braille`, else whole cells."""

    role: Role
    marker: str
    joined: bool
    places: tuple[tuple[int, int], ...]

    def coordinates(self, columns: int, rows: int) -> tuple[list[float], list[float]]:
        """The places on axes that run from 0 to the last dot, such that plotext rounds to exactly these."""
        if self.marker == "braille":
            return [float(x) for x, _ in self.places], [float(y) for _, y in self.places]
        across, up = (2 * columns - 1) / max(columns - 1, 1), (4 * rows - 1) / max(rows - 1, 1)
        return [x * across for x, _ in self.places], [y * up for _, y in self.places]


def _strokes(
    spec: ChartSpec,
    runs: list[list[Run]],
    x_axis: Axis,
    y_axis: Axis,
    columns: int,
    rows: int,
    use_ascii: bool,
) -> list[Stroke]:
    strokes: list[Stroke] = []
    heads: list[Stroke] = []
    scatters = [layer for layer in spec.layers if isinstance(layer, Scatter)]
    seen = iter(
        shared_cells([point_cells(layer.points, x_axis, y_axis, columns, rows, log_y=spec.log_y) for layer in scatters])
    )
    for layer, parts in zip(spec.layers, runs, strict=True):
        if isinstance(layer, Scatter):
            marker = role_marker(layer.role, use_ascii=use_ascii)
            strokes.append(Stroke(layer.role, marker, False, tuple(next(seen))))
            continue
        if not parts or not isinstance(layer, Lines):
            continue
        marker = role_marker(layer.role, use_ascii=use_ascii)
        lines = polylines(parts, x_axis, y_axis, 2 * columns, 4 * rows)
        if layer.role == "target":
            strokes.append(Stroke("target", marker, False, tuple(dotted(lines))))
        elif use_ascii:
            strokes += [Stroke(layer.role, marker, True, tuple((x // 2, y // 4) for x, y in line)) for line in lines]
        else:
            strokes += [Stroke(layer.role, "braille", True, tuple(line)) for line in lines]
        if layer.role in _HEADS and (head := cells_of([parts[-1][-1:]], x_axis, y_axis, columns, rows)):
            heads.append(Stroke(layer.role, marker, False, tuple(head)))
    return [stroke for stroke in strokes + heads if stroke.places]


def _x_axis(spec: ChartSpec) -> Axis:
    low, high = (clean(value) for value in spec.x_range)
    if low != low or high != high:
        low, high = 0.0, 1.0
    low, high = min(low, high), max(low, high)
    return Axis(low, high) if high - low > 1e-12 * max(abs(low), abs(high)) else Axis(low - 0.5, low + 0.5)


def _bounds(spec: ChartSpec, runs: list[list[Run]], x_axis: Axis) -> tuple[float, float] | None:
    """The least and greatest value to be shown, in axis units; None where there is nothing to draw."""
    values = [y for parts in runs for run in parts for y in heights(run, x_axis)]
    if not values:
        return None
    for layer in spec.layers:
        if isinstance(layer, Horizontal) and (y := clean(layer.y, log=spec.log_y)) == y:
            values.append(y)
    return min(values), max(values)


def _with_targets(y_ticks: list[Tick], spec: ChartSpec, y_axis: Axis, rows: int) -> list[tuple[Tick, Role]]:
    """Ticks with their role; a target's own value takes the place of ticks that would touch it."""
    targets = []
    for layer in spec.layers:
        if isinstance(layer, Horizontal) and y_axis.low <= (y := clean(layer.y, log=spec.log_y)) <= y_axis.high:
            label = f"{layer.y:.4g}" if abs(layer.y) >= 1e4 or 0 < abs(layer.y) < 1e-3 else f"{layer.y:.2f}"
            targets.append((Tick(y, label), layer.role))
    taken = [_row(y_axis, tick.at, rows) for tick, _ in targets]
    plain: list[tuple[Tick, Role]] = [
        (tick, "muted") for tick in y_ticks if all(abs(_row(y_axis, tick.at, rows) - row) > 1 for row in taken)
    ]
    return plain + targets


def _row(y_axis: Axis, at: float, rows: int) -> int:
    """Counted from the top."""
    return rows - 1 - min(max(dot(y_axis.fraction(at), 4 * rows) // 4, 0), rows - 1)


def _legend(spec: ChartSpec, width: int, use_ascii: bool) -> Row | None:
    entries = [
        (role, narrow(label))
        for role, label in dict.fromkeys(
            (layer.role, layer.label) for layer in spec.layers if not isinstance(layer, Mark) and layer.label
        )
    ]
    cells: list[Cell] = []
    roomy = sum(len(label) + 5 for _, label in entries) + GUTTER <= width
    longest = _longest([len(label) for _, label in entries], width - 4 * len(entries) + 2)
    for role, label in entries:
        entry = f"{role_marker(role, use_ascii=use_ascii)} {_elided(label, longest, use_ascii)}"
        gap = (3 if roomy else 2) if cells else (GUTTER + 1 if roomy else 0)
        if len(cells) + gap + len(entry) > width:
            break
        cells += [BLANK] * gap + [(char, role) for char in entry]
    return _fit(cells, width) if cells else None


def _longest(lengths: list[int], room: int) -> int:
    """The length to which the longer ones are cut for all to fit into `room`; no less than 4."""
    most = max(lengths, default=0)
    while most > 4 and sum(min(length, most) for length in lengths) > room:
        most -= 1
    return most


def _elided(label: str, most: int, use_ascii: bool) -> str:
    """Both ends of a label that is too long: where it belongs and what it is."""
    if len(label) <= most:
        return label
    head = (most - 1) // 2
    return label[:head] + ("~" if use_ascii else "…") + label[len(label) - (most - 1 - head) :]


def _overlay(canvas: list[Row], spec: ChartSpec, x_axis: Axis, y_axis: Axis, use_ascii: bool) -> list[Row]:
    """Targets and marks, in the cells that the data left free."""
    grid = [list(row) for row in canvas]
    rows, columns = len(grid), len(grid[0])
    for layer in spec.layers:
        if isinstance(layer, Horizontal):
            y = clean(layer.y, log=spec.log_y)
            if y == y and 0 <= y_axis.fraction(y) <= 1:
                row = grid[_row(y_axis, y, rows)]
                sign = role_marker("target", use_ascii=use_ascii)
                row[:] = [(sign, layer.role) if c % 2 == 0 and cell == BLANK else cell for c, cell in enumerate(row)]
        elif isinstance(layer, Mark):
            x = clean(layer.x)
            if x == x and 0 <= x_axis.fraction(x) <= 1:
                column = min(dot(x_axis.fraction(x), 2 * columns) // 2, columns - 1)
                _draw_mark(grid, column, layer, (ASCII if use_ascii else UNICODE).mark)
    return [tuple(row) for row in grid]


def _draw_mark(grid: list[list[Cell]], column: int, mark: Mark, sign: str) -> None:
    for row in grid:
        if row[column] == BLANK:
            row[column] = (sign, mark.role)
    text = narrow(mark.text)
    columns = len(grid[0])
    start = column + 2 if column + 2 + len(text) <= columns else column - 1 - len(text)
    if text and start >= 0:
        grid[0][start : start + len(text)] = [(char, mark.role) for char in text]


def _left(canvas: list[Row], y_ticks: list[tuple[Tick, Role]], y_axis: Axis, gutter: int, signs: Signs) -> list[Row]:
    named = {_row(y_axis, tick.at, len(canvas)): (tick.label, role) for tick, role in y_ticks}
    rows = []
    for index, row in enumerate(canvas):
        label, role = named.get(index, ("", "muted"))
        axis: Cell = (signs.tick_left if label else signs.column, "muted")
        rows.append((*((char, role) for char in label[:gutter].rjust(gutter)), axis, *row))
    return [tuple((char, role if char != " " else None) for char, role in row) for row in rows]


def _bottom(spec: ChartSpec, x_axis: Axis, gutter: int, columns: int, signs: Signs) -> list[Row]:
    """The x axis and its labels, as two rows."""
    width = gutter + 1 + columns
    line: list[Cell] = [BLANK] * gutter + [(signs.corner, "muted")] + [(signs.row, "muted")] * columns
    labels = [" "] * width
    x_label = narrow(spec.x_label)
    if len(x_label) <= gutter:
        labels[: len(x_label)] = x_label
    free = len(x_label) + 1 if x_label and len(x_label) <= gutter else 0
    widest = max(len(tick.label) for tick in ticks(x_axis, 5)) if columns else 1
    for tick in ticks(x_axis, max(1, min(5, columns // (widest + 4)))):
        column = gutter + 1 + min(max(dot(x_axis.fraction(tick.at), 2 * columns) // 2, 0), columns - 1)
        start = min(max(column - (len(tick.label) - 1) // 2, 0), width - len(tick.label))
        if start < free:
            continue
        labels[start : start + len(tick.label)] = tick.label
        line[column] = (signs.tick_below, "muted")
        free = start + len(tick.label) + 1
    return [tuple(line), tuple((char, "muted" if char != " " else None) for char in labels)]


def _message(text: str, width: int, height: int) -> list[Row]:
    text = narrow(text)[:width]
    left = (width - len(text)) // 2
    line = _fit([BLANK] * left + [(char, "muted") for char in text], width)
    blank = (BLANK,) * width
    return [line if row == (height - 1) // 2 else blank for row in range(height)]


def _fit(cells: list[Cell], width: int) -> Row:
    return tuple((cells + [BLANK] * width)[:width])
