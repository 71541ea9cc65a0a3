"""What plotext is to draw for the layers of a chart, in whole dots and cells: equal strokes are equal pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workflow_tui.theme import TRACKED, Role, role_marker
from workflow_tui.widgets.chart_axes import clean
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_layers import ChartSpec, Layer, Lines, Path, Scatter
from workflow_tui.widgets.chart_points import (
    Place,
    Run,
    braille,
    cells_of,
    decimate,
    dots_of,
    dotted,
    height_at,
    point_cells,
    polylines,
    shared_cells,
    walk,
)

HEADED: frozenset[Role] = frozenset({"train", "validation", "test", *TRACKED})
"""Roles whose lines carry their marker, at the end and, where there are several, along the way."""
MARKERS_APART = 18
"""Columns from one marker along a line to the next, at least."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One thing for plotext to draw: cells of the plot, counted from the lower left, and the character of each."""

    role: Role
    places: tuple[Place, ...]
    signs: tuple[str, ...]

    def coordinates(self, columns: int, rows: int) -> tuple[list[float], list[float]]:
        """The cells on axes that run from 0 to the last dot, such that plotext rounds to exactly these."""
        across, up = (2 * columns - 1) / max(columns - 1, 1), (4 * rows - 1) / max(rows - 1, 1)
        return [x * across for x, _ in self.places], [y * up for _, y in self.places]


def _points(role: Role, places: Iterable[Place], use_ascii: bool) -> Stroke:
    distinct = tuple(dict.fromkeys(places))
    return Stroke(role, distinct, (role_marker(role, use_ascii=use_ascii),) * len(distinct))


class Sketch:
    """Works out runs and strokes of layers, and keeps them: earlier runs are drawn ten times a second, unchanged."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], tuple[object, list[Run]]] = {}
        self._lines: dict[int, tuple[object, list[Run], Stroke]] = {}

    def runs(self, spec: ChartSpec, frame: Frame) -> list[list[Run]]:
        """For each layer its points as unbroken runs in axis units, as many as the columns of `frame` can show."""
        if len(self._runs) > 4 * len(spec.layers):
            self._runs.clear()  # of sizes that the chart had once
        found = []
        for index, layer in enumerate(spec.layers):
            key = (layer, frame.x_axis, spec.log_y)
            known = self._runs.get((index, frame.columns))
            if known is None or known[0] != key:
                known = self._runs[index, frame.columns] = key, _runs_of(layer, frame, spec.log_y)
            found.append(known[1])
        return found

    def strokes(self, spec: ChartSpec, runs: list[list[Run]], frame: Frame, use_ascii: bool) -> list[Stroke]:
        """The strokes of all layers of points, those of earlier runs first, the markers of lines last."""
        below: list[Stroke] = []
        strokes: list[Stroke] = []
        seen = iter(_scattered(spec, frame))
        for index, (layer, parts) in enumerate(zip(spec.layers, runs, strict=True)):
            if isinstance(layer, Scatter):
                strokes.append(_points(layer.role, next(seen), use_ascii))
            elif isinstance(layer, Lines | Path) and parts:
                key = (layer.role, frame, use_ascii)
                known = self._lines.get(index)
                if known is None or known[1] is not parts or known[0] != key:
                    known = self._lines[index] = key, parts, _line(layer.role, parts, frame, use_ascii)
                (below if layer.role == "earlier" else strokes).append(known[2])
        strokes = below + strokes + _markers(spec, runs, frame, use_ascii)
        return [stroke for stroke in strokes if stroke.places]


def _runs_of(layer: Layer, frame: Frame, log_y: bool) -> list[Run]:
    if isinstance(layer, Lines | Scatter):
        return decimate(layer.points, frame.x_axis, frame.columns, log_y=log_y)
    return walk(layer.points, log_y=log_y) if isinstance(layer, Path) else []


def _scattered(spec: ChartSpec, frame: Frame) -> list[list[Place]]:
    return shared_cells(
        [
            point_cells(layer.points, frame.x_axis, frame.y_axis, frame.columns, frame.rows, log_y=spec.log_y)
            for layer in spec.layers
            if isinstance(layer, Scatter)
        ]
    )


def _line(role: Role, parts: list[Run], frame: Frame, use_ascii: bool) -> Stroke:
    lines = polylines(parts, frame.x_axis, frame.y_axis, 2 * frame.columns, 4 * frame.rows)
    if role == "target":
        return _points(role, dotted(lines), use_ascii)
    cells = braille(dots_of(lines, thin=role == "earlier"))
    return _points(role, cells, use_ascii) if use_ascii else Stroke(role, tuple(cells), tuple(cells.values()))


def _markers(spec: ChartSpec, runs: list[list[Run]], frame: Frame, use_ascii: bool) -> list[Stroke]:
    """Each line's marker at its end and, where there are several lines, in some of its columns: staggered, and always
    in the same ones, so that what grows does not make them walk."""
    headed = [
        (layer.role, parts)
        for layer, parts in zip(spec.layers, runs, strict=True)
        if isinstance(layer, Lines) and parts and layer.role in HEADED
    ]
    strokes = []
    for index, (role, parts) in enumerate(headed):
        places: list[Place] = []
        if len(headed) > 1 and not use_ascii:  # in ASCII the whole line is made of it
            apart = max(MARKERS_APART, frame.columns // 6)
            places = _along(parts, frame, (index + 1) * apart // (len(headed) + 1), apart)
        places += cells_of([parts[-1][-1:]], frame.x_axis, frame.y_axis, frame.columns, frame.rows)
        strokes.append(_points(role, places, use_ascii))
    return strokes


def _along(parts: list[Run], frame: Frame, offset: int, apart: int) -> list[Place]:
    """The cells of a line in every `apart`-th column."""
    cells = []
    for column in range(offset, frame.columns, apart):
        x = clean(frame.x_at(column))
        y = next((y for run in parts if (y := height_at(run, x)) is not None), None)
        if y is not None and frame.holds(y):
            cells.append((column, frame.rows - 1 - frame.row(y)))
    return cells
