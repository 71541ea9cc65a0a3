"""Paints a chart into a grid of cells: plotext draws the data, the frame around it is laid out here.

Axes are not plotext's: its tick labels move with each other, its set order differs between runs, and it has no
ASCII form. It is given cells, not lines between points: joining dots it takes twice as long as all else of a draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from plotext._matrix import matrix_class
from plotext._utility import no_color
from textual_plotext import Plot

from workflow_tui.theme import ROLES, Role
from workflow_tui.widgets.chart_axes import Axis, choose, clean, ticks
from workflow_tui.widgets.chart_cells import BLANK, Row, signs
from workflow_tui.widgets.chart_frame import Frame, framed, message, with_targets, x_axis_of
from workflow_tui.widgets.chart_heat import heat_rows, over_map
from workflow_tui.widgets.chart_layers import ChartSpec, Heat, Horizontal, Lines, Mark, Range, Scatter, Spot
from workflow_tui.widgets.chart_legend import GUTTER, legend
from workflow_tui.widgets.chart_marks import overlay
from workflow_tui.widgets.chart_points import Run, heights, off_log
from workflow_tui.widgets.chart_strokes import Sketch, Stroke

MIN_WIDTH, MIN_HEIGHT = 16, 5
_ROLE_OF: dict[object, Role] = dict(enumerate(ROLES))
NOTHING_ON_LOG = "no value above 0: a logarithmic axis cannot show any"


class _Matrix(matrix_class):  # type: ignore[misc]
    """plotext's cells, all blank to begin with; its own take a fifth of a draw to ask each for its background."""

    def set_matrices(self) -> None:
        """All cells without a character and a colour."""
        self.marker = [[" "] * self.cols for _ in self.Rows]
        self.fullground, self.background, self.style = ([[no_color] * self.cols for _ in self.Rows] for _ in range(3))


class Painter:
    """Draws one chart again and again; keeps its figure, its map and its y axis, and draws only what changed."""

    def __init__(self) -> None:
        self.plot = cast(Any, Plot())
        self.plot.monitor.matrix = _Matrix()
        self.sketch = Sketch()
        self.builds = 0
        self.axis: Axis | None = None
        self.frame: Frame | None = None
        self.runs: list[list[Run]] = []
        self.spec = ChartSpec()
        self._axis_intervals = 0
        self._span = 0.0
        self._key: object = None
        self._canvas: list[Row] = []
        self._map_key: object = None
        self._map: list[Row] = []

    def forget_axis(self) -> None:
        """Choose the y axis anew at the next painting, whatever it was."""
        self.axis = None

    def paint(
        self, spec: ChartSpec, width: int, height: int, *, use_ascii: bool, hint: str, colour: bool = True
    ) -> list[Row]:
        """The chart as `height` rows of exactly `width` cells.

        Afterwards `frame` says where its plot lies (None: there is none) and `runs` what was drawn of each layer of
        `spec`. Without `colour` a map is drawn with characters of different density.
        """
        self.frame = None
        heat = next((layer for layer in spec.layers if isinstance(layer, Heat)), None)
        if heat is not None and spec.log_y:
            spec = replace(spec, log_y=False)
        if width < 1 or height < 1:
            return []
        if width < MIN_WIDTH or height < MIN_HEIGHT:
            return message(f"needs {MIN_WIDTH}x{MIN_HEIGHT}", width, height)
        top = legend(spec, width, use_ascii=use_ascii, colour=colour) if height > MIN_HEIGHT else None
        rows = height - 2 - (top is not None)
        intervals = max(1, min(5, rows // 3))
        # the gutter is measured on the labels, the labels need the axis, the axis the data: columns at their widest
        widest = Frame(x_axis_of(spec.x_range), Axis(0, 1), width - GUTTER - 1, rows, GUTTER + 1, top is not None)
        runs = self.sketch.runs(spec, widest)
        bounds = _bounds(spec, runs, widest)
        if bounds is None and not _still_says(spec, widest):
            return message(_why_empty(spec, widest) or hint, width, height)
        y_axis = Axis(0, 1) if bounds is None else self._y_axis(spec, bounds, intervals)
        y_ticks = [] if bounds is None else ticks(y_axis, intervals, decimals=2)
        named = with_targets(y_ticks, spec, y_axis, rows)
        gutter = min(max([GUTTER, *(len(tick.label) for tick, _ in named)]), width // 2)
        frame = self.frame = Frame(widest.x_axis, y_axis, width - gutter - 1, rows, gutter + 1, widest.top)
        if gutter != GUTTER:
            runs = self.sketch.runs(spec, frame)
        self.runs, self.spec = runs, spec
        canvas = overlay(
            self._data(self.sketch.strokes(spec, runs, frame, use_ascii), frame), spec, runs, frame, use_ascii
        )
        if heat is not None:
            canvas = over_map(canvas, self._heat(heat, frame, use_ascii, colour))
        return ([top] if top else []) + framed(canvas, named, spec, frame, signs(use_ascii))

    def _y_axis(self, spec: ChartSpec, bounds: Range, intervals: int) -> Axis:
        mapped = any(isinstance(layer, Heat) for layer in spec.layers)
        pinned = spec.y_range or (bounds if mapped else None)
        if pinned is not None:
            low, high = (clean(value, log=spec.log_y) for value in sorted(pinned))
            if self.axis is not None and self.axis.log == spec.log_y and _close(self.axis, low, high):
                return self.axis
            if low < high:
                return Axis(low, high, log=spec.log_y)
        axis = x_axis_of(spec.x_range)
        # another scale of the x axis is another picture; a window that moves along is still the same
        zoomed = not math.isclose(axis.high - axis.low, self._span, rel_tol=1e-6)
        previous = None if zoomed or intervals != self._axis_intervals else self.axis
        self._span, self._axis_intervals = axis.high - axis.low, intervals
        self.axis = choose(previous, *bounds, intervals, log=spec.log_y)
        return self.axis

    def _data(self, strokes: list[Stroke], frame: Frame) -> list[Row]:
        key = (strokes, frame.columns, frame.rows)
        if key != self._key:
            self._canvas = self._build(strokes, frame.columns, frame.rows)
            self._key = key
        return self._canvas

    def _build(self, strokes: list[Stroke], columns: int, rows: int) -> list[Row]:
        """Let plotext draw the strokes; its matrix, read directly, saves writing and parsing escape sequences."""
        if not strokes:
            return [(BLANK,) * columns] * rows
        self.builds += 1
        plot, monitor = self.plot, self.plot.monitor
        plot.clear_data()
        plot.frame(False)
        plot.xticks([])
        plot.yticks([])
        plot.xlim(0, 2 * columns - 1)
        plot.ylim(0, 4 * rows - 1)
        for stroke in strokes:
            xs, ys = stroke.coordinates(columns, rows)
            plot.scatter(xs, ys, marker=list(stroke.cells.values()), color=ROLES.index(stroke.role))
        # not plot_size: that clamps to the terminal, whatever the widget's size
        monitor.set_size([columns, rows])
        monitor.build_plot()
        matrix = monitor.matrix
        empty, blank = [" "] * columns, (BLANK,) * columns
        return [
            blank if chars == empty else tuple(zip(chars, map(_ROLE_OF.get, colours), strict=True))
            for chars, colours in zip(reversed(matrix.marker), reversed(matrix.fullground), strict=True)
        ]

    def _heat(self, heat: Heat, frame: Frame, use_ascii: bool, colour: bool) -> list[Row]:
        key = (heat, frame, use_ascii, colour)
        if key != self._map_key:
            self._map_key, self._map = key, heat_rows(heat, frame, use_ascii=use_ascii, colour=colour)
        return self._map


def _close(axis: Axis, low: float, high: float) -> bool:
    slack = 1e-9 * (axis.high - axis.low)
    return abs(axis.low - low) <= slack and abs(axis.high - high) <= slack


def _bounds(spec: ChartSpec, runs: Sequence[list[Run]], frame: Frame) -> Range | None:
    """The least and greatest value to be shown, in axis units; None where there is nothing to draw."""
    heat = next((layer for layer in spec.layers if isinstance(layer, Heat)), None)
    if heat is not None:
        axis = x_axis_of(heat.y_range)
        return axis.low, axis.high
    values = [y for parts in runs for run in parts for y in heights(run, frame.x_axis)]
    if not values:
        return None
    for layer in spec.layers:
        if isinstance(layer, Horizontal) or (isinstance(layer, Spot) and frame.column(layer.x) is not None):
            values.append(clean(layer.y, log=spec.log_y))
    values = [y for y in values if y == y]
    return min(values), max(values)


def _still_says(spec: ChartSpec, frame: Frame) -> bool:
    """Without any value to draw: is there a mark to be seen, such as that of a run whose first epoch is not finite?"""
    return any(isinstance(layer, Mark) and frame.column(layer.x) is not None for layer in spec.layers)


def _why_empty(spec: ChartSpec, frame: Frame) -> str:
    """That there are values, but none for a logarithmic axis, and what to do then."""
    if not spec.log_y:
        return ""
    found = [off_log(layer.points, frame.x_axis, 1) for layer in spec.layers if isinstance(layer, Lines | Scatter)]
    if not any(zeros or below for zeros, below in found):
        return ""
    return f"{NOTHING_ON_LOG}; {spec.plain_axis}" if spec.plain_axis else NOTHING_ON_LOG
