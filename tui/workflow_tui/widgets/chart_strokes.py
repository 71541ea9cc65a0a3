"""What plotext is to draw for the layers of a chart, in whole dots and cells: equal strokes are equal pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workflow_tui.theme import TRACKED, Role, role_marker
from workflow_tui.widgets.chart_axes import clean
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_layers import ChartSpec, Layer, Lines, Path, Points, Scatter
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
DASH = 2
"""Columns of each line where several take turns."""
MARKERS_APART = 18
"""Columns from one marker along a line to the next, at least."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One thing for plotext to draw: cells of the plot, counted from the lower left, and the character of each."""

    role: Role
    cells: dict[Place, str]
    single: bool = False
    """Are its cells points that each stand for themselves?"""

    def coordinates(self, columns: int, rows: int) -> tuple[list[float], list[float]]:
        """The cells on axes that run from 0 to the last dot, such that plotext rounds to exactly these."""
        across, up = (2 * columns - 1) / max(columns - 1, 1), (4 * rows - 1) / max(rows - 1, 1)
        return [x * across for x, _ in self.cells], [y * up for _, y in self.cells]


def _points(role: Role, places: Iterable[Place], use_ascii: bool, *, single: bool = False) -> Stroke:
    return Stroke(role, dict.fromkeys(places, role_marker(role, use_ascii=use_ascii)), single)


def share(strokes: list[Stroke]) -> list[Stroke]:
    """Strokes that leave each other room: a cell belongs to one of those that lie in it.

    Lines take turns there, some columns each, so that two which run along each other are two dashed ones in their own
    colours. Where points lie under a line every second one in a row gives way to it; no points vanish as a whole.
    """
    first: dict[Place, int] = {}
    claims: dict[Place, list[int]] = {}
    for index, stroke in enumerate(strokes):
        for place in stroke.cells:
            if place in first:
                claims.setdefault(place, [first[place]]).append(index)
            else:
                first[place] = index
    if not claims:
        return strokes
    kept = [dict(stroke.cells) for stroke in strokes]
    singles = [index for index, stroke in enumerate(strokes) if stroke.single]
    pointed: list[Place] = []
    for place, claim in claims.items():
        if any(strokes[index].single for index in claim):
            pointed.append(place)
        else:
            _give(kept, place, claim, claim[place[0] // DASH % len(claim)])
    for column, row in sorted(pointed, key=lambda place: (place[1], place[0])):
        claim = claims[column, row]
        points = next(index for index in reversed(claim) if strokes[index].single)
        lines = [index for index in claim if not strokes[index].single]
        beside = any((column - 1, row) in kept[index] for index in singles)
        gives_way = lines and beside and len(kept[points]) > 1
        _give(kept, (column, row), claim, lines[column // DASH % len(lines)] if gives_way else points)
    return [Stroke(stroke.role, cells, stroke.single) for stroke, cells in zip(strokes, kept, strict=True)]


def _give(kept: list[dict[Place, str]], place: Place, claim: list[int], owner: int) -> None:
    for index in claim:
        if index != owner:
            del kept[index][place]


class Sketch:
    """Works out runs and strokes of layers, and keeps them: earlier runs are drawn ten times a second, unchanged."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], tuple[object, list[Run]]] = {}
        self._lines: dict[int, tuple[object, list[Run], Stroke]] = {}
        self._shared: tuple[list[Stroke], list[Stroke]] = [], []

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
        """The strokes of all layers of points: those of earlier runs below all, the markers of lines above."""
        earlier: list[Stroke] = []
        strokes: list[Stroke] = []
        markers: list[Stroke] = []
        headed = [index for index, layer in enumerate(spec.layers) if _is_headed(layer) and runs[index]]
        seen = iter(_scattered(spec, frame))
        for index, (layer, parts) in enumerate(zip(spec.layers, runs, strict=True)):
            if isinstance(layer, Scatter):
                strokes.append(_points(layer.role, next(seen), use_ascii, single=True))
            elif isinstance(layer, Lines | Path) and parts:
                key = (layer.role, frame, use_ascii)
                known = self._lines.get(index)
                if known is None or known[1] is not parts or known[0] != key:
                    known = self._lines[index] = key, parts, _line(layer.role, parts, frame, use_ascii)
                (earlier if layer.role == "earlier" else strokes).append(known[2])
                if index in headed:
                    turn = headed.index(index) + 1, len(headed) + 1
                    end = _end(layer.points, log_y=spec.log_y)
                    markers.append(_markers(known[2], parts, end, frame, turn, use_ascii))
        if strokes != self._shared[0]:
            self._shared = strokes, share(strokes)
        return [stroke for stroke in (*earlier, *self._shared[1], *markers) if stroke.cells]


def _is_headed(layer: Layer) -> bool:
    return isinstance(layer, Lines) and layer.role in HEADED


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
        return _points(role, dotted(lines), use_ascii, single=True)
    cells = braille(dots_of(lines, thin=role == "earlier"))
    return _points(role, cells, use_ascii) if use_ascii else Stroke(role, cells)


def _end(points: Points, *, log_y: bool) -> Run:
    """The last of the points that can be drawn: the runs have but the extremes of its column."""
    for raw, y in reversed(points):
        x, height = clean(raw), clean(y, log=log_y)
        if x == x and height == height:
            return [(x, height)]
    return []


def _markers(line: Stroke, parts: list[Run], end: Run, frame: Frame, turn: tuple[int, int], use_ascii: bool) -> Stroke:
    """A line's marker at its end and, where there are several lines, in some of its columns: staggered by its `turn`
    among them, and always in the same ones, so that what grows does not make them walk."""
    places: list[Place] = []
    last = cells_of([end], frame.x_axis, frame.y_axis, frame.columns, frame.rows)
    at, among = turn
    if among > 2 and not use_ascii:  # in ASCII the whole line is made of it
        apart = max(MARKERS_APART, frame.columns // 6)
        places = _along(line, parts, frame, at * apart // among, apart)
    # one just before the end would only blur it
    places = [place for place in places if not last or last[0][0] - place[0] > 2]
    return _points(line.role, [*places, *last], use_ascii)


def _along(line: Stroke, parts: list[Run], frame: Frame, offset: int, apart: int) -> list[Place]:
    """The cells of a line in every `apart`-th column: of several there, the one nearest to its height."""
    drawn: dict[int, list[int]] = {column: [] for column in range(offset, frame.columns, apart)}
    for column, row in line.cells:
        if column in drawn:
            drawn[column].append(row)
    cells = []
    for column, rows in drawn.items():
        x = clean(frame.x_at(column))
        y = next((y for run in parts if (y := height_at(run, x)) is not None), None)
        if y is not None and rows:
            wanted = frame.rows - 1 - frame.row(y)
            cells.append((column, min(rows, key=lambda row: abs(row - wanted))))
    return cells
