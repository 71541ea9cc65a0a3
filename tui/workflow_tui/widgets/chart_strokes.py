"""What plotext is to draw for the layers of a chart, in whole dots and cells: equal strokes are equal pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

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
BRAILLE = 0x2800
"""The first character of Unicode's block Braille Patterns, without a dot; the bits of the others are their dots."""
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
    """Strokes that hide nothing of each other.

    Lines take turns in the cells that they share, a column each, and a cell shows the dots of all of them. Of points
    under a line every second one in a row gives way to it.
    """
    claims: dict[Place, list[int]] = {}
    for (first, one), (second, other) in combinations(enumerate(strokes), 2):
        for place in one.cells.keys() & other.cells.keys():
            claim = claims.setdefault(place, [first])
            if second not in claim:
                claim.append(second)
    if not claims:
        return strokes
    kept = [dict(stroke.cells) for stroke in strokes]
    for place in sorted(claims, key=lambda place: (place[1], place[0])):
        claim = sorted(claims[place])
        points = [index for index in claim if strokes[index].single]
        lines = [index for index in claim if not strokes[index].single]
        stands = points and (not lines or (place[0] - 1, place[1]) not in kept[points[-1]])
        owner = points[-1] if stands else lines[place[0] % len(lines)]
        sign = _together([strokes[index].cells[place] for index in lines], strokes[owner].cells[place])
        for index in claim:
            del kept[index][place]
        kept[owner][place] = strokes[owner].cells[place] if stands else sign
    return [Stroke(stroke.role, cells, stroke.single) for stroke, cells in zip(strokes, kept, strict=True)]


def _together(chars: list[str], own: str) -> str:
    """The dots of several characters of braille in one; of other characters the one that is its `own`."""
    masks = [ord(char) - BRAILLE for char in chars]
    if not all(0 <= mask < 256 for mask in masks):
        return own
    dots = 0
    for mask in masks:
        dots |= mask
    return chr(BRAILLE + dots)


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
        """The strokes of all layers of points, those of earlier runs first, the markers of lines last."""
        earlier: list[Stroke] = []
        targets: list[Stroke] = []
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
                below = {"earlier": earlier, "target": targets}
                below.get(layer.role, strokes).append(known[2])
                if index in headed:
                    turn = headed.index(index) + 1, len(headed) + 1
                    markers.append(_markers(known[2], parts, frame, turn, use_ascii))
        if strokes != self._shared[0]:
            self._shared = strokes, share(strokes)
        return [stroke for stroke in (*earlier, *targets, *self._shared[1], *markers) if stroke.cells]


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
        return _points(role, dotted(lines), use_ascii)
    cells = braille(dots_of(lines, thin=role == "earlier"))
    return _points(role, cells, use_ascii) if use_ascii else Stroke(role, cells)


def _markers(line: Stroke, parts: list[Run], frame: Frame, turn: tuple[int, int], use_ascii: bool) -> Stroke:
    """A line's marker at its end and, where there are several lines, in some of its columns: staggered by its `turn`
    among them, and always in the same ones, so that what grows does not make them walk."""
    places: list[Place] = []
    at, among = turn
    if among > 2 and not use_ascii:  # in ASCII the whole line is made of it
        apart = max(MARKERS_APART, frame.columns // 6)
        places = _along(line, parts, frame, at * apart // among, apart)
    places += cells_of([parts[-1][-1:]], frame.x_axis, frame.y_axis, frame.columns, frame.rows)
    return _points(line.role, places, use_ascii)


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
