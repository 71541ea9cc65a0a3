"""From data to the dots of a canvas: cleaned, at most two points per column, clipped to the box."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from workflow_tui.widgets.chart_axes import Axis, clean
from workflow_tui.widgets.chart_layers import Points

Dot = tuple[float, float]
Run = list[Dot]
Place = tuple[int, int]
# of the left and the right dots of a cell, from below (Unicode, Braille Patterns)
_BITS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))


def dot(fraction: float, count: int) -> int:
    """The index of `count` dots that a fraction of the way falls on (0 is the first, 1 the last)."""
    return math.floor(0.5 + (count - 1) * fraction)


def decimate(points: Points, x_axis: Axis, columns: int, *, log_y: bool = False) -> list[Run]:
    """At most two points per column, the least and the greatest y there, as unbroken runs in axis units.

    A column that holds nothing but values that cannot be drawn ends a run. Of the points beside the axis only the
    nearest on each side are kept, for the line to leave the box in the right direction. Points come sorted by x.
    """
    runs: list[Run] = []
    run: Run = []
    column, low, high, seen = -2, None, None, False

    def close() -> None:
        nonlocal run, low, high
        if low is not None and high is not None:
            if column == -1:
                run = [max(low, high)]
            elif column == columns:
                run.append(min(low, high))
            else:
                run.extend([low] if low == high else sorted((low, high)))
        elif seen and run:
            runs.append(run)
            run = []
        low = high = None

    scale = (2 * columns - 1) / (x_axis.high - x_axis.low)
    for x, y in _sorted(points):
        dots = 0.5 + scale * (x - x_axis.low)
        at = -1 if dots < 0 else columns if dots >= 2 * columns else int(dots) // 2
        if at != column:
            close()
            column, seen = at, False
        seen = True
        value = clean(y, log=log_y)
        if value != value:
            continue
        if at in (-1, columns):
            # beside the axis only the neighbour of the box counts: the last on the left, the first on the right
            if at == -1 or low is None:
                low = high = (x, value)
        elif low is None or high is None:
            low = high = (x, value)
        elif value < low[1]:
            low = (x, value)
        elif value > high[1]:
            high = (x, value)
    close()
    return [*runs, run] if run else runs


def _sorted(points: Points) -> Iterable[Dot]:
    cleaned = [(x, y) for raw, y in points if (x := clean(raw)) == x]
    if any(a[0] > b[0] for a, b in pairwise(cleaned)):
        cleaned.sort(key=lambda point: point[0])
    return cleaned


def polylines(runs: list[Run], x_axis: Axis, y_axis: Axis, width: int, height: int) -> list[list[tuple[int, int]]]:
    """Runs in axis units as lines between whole dots of a `width` by `height` canvas, cut at its edges."""
    lines: list[list[tuple[int, int]]] = []
    for run in runs:
        dots = [((width - 1) * x_axis.fraction(x), (height - 1) * y_axis.fraction(y)) for x, y in run]
        line: list[tuple[int, int]] = []
        if len(dots) == 1:
            dots *= 2
        for start, end in pairwise(dots):
            piece = _clip(start, end, width - 0.5, height - 0.5)
            if piece is None:
                continue
            a, b = _whole(piece[0]), _whole(piece[1])
            if not line or line[-1] != a:
                if line:
                    lines.append(line)
                line = [a]
            if b != a:
                line.append(b)
        if line:
            lines.append(line)
    return lines


def heights(run: Run, x_axis: Axis) -> list[float]:
    """The y values of a run between the ends of the x axis, those where it crosses the ends included."""
    found = [y for x, y in run if x_axis.low <= x <= x_axis.high]
    for (x0, y0), (x1, y1) in pairwise(run):
        for edge in (x_axis.low, x_axis.high):
            if x0 < edge < x1:
                found.append(y0 + (y1 - y0) * ((edge - x0) / (x1 - x0)))
    return found


def _whole(point: Dot) -> tuple[int, int]:
    return math.floor(point[0] + 0.5), math.floor(point[1] + 0.5)


def _clip(start: Dot, end: Dot, right: float, top: float) -> tuple[Dot, Dot] | None:
    """The part of a segment inside -0.5 <= x < right, -0.5 <= y < top (Liang and Barsky 1984), or None."""
    edge = 1e-6
    (x, y), (to_x, to_y) = start, end
    if -0.5 <= x < right - edge > to_x >= -0.5 and -0.5 <= y < top - edge > to_y >= -0.5:
        return start, end
    dx, dy = to_x - x, to_y - y
    enter, leave = 0.0, 1.0
    for step, room in ((-dx, x + 0.5), (dx, right - edge - x), (-dy, y + 0.5), (dy, top - edge - y)):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            enter = max(enter, room / step)
        else:
            leave = min(leave, room / step)
    if enter > leave:
        return None
    return (x + enter * dx, y + enter * dy), (x + leave * dx, y + leave * dy)


def walk(points: Points, *, log_y: bool = False) -> list[Run]:
    """Points in their order as unbroken runs in axis units."""
    runs: list[Run] = []
    run: Run = []
    for raw, height in points:
        x, y = clean(raw), clean(height, log=log_y)
        if x == x and y == y:
            run.append((x, y))
        elif run:
            runs.append(run)
            run = []
    return [*runs, run] if run else runs


def height_at(run: Run, x: float) -> float | None:
    """The y of a run at x, straight between its points; None before its first and after its last."""
    at = bisect_left(run, (x,))
    if at < len(run) and run[at][0] == x:
        return run[at][1]
    if not 0 < at < len(run):
        return None
    (x0, y0), (x1, y1) = run[at - 1], run[at]
    return y0 + (y1 - y0) * ((x - x0) / (x1 - x0))


def dots_of(lines: list[list[Place]], *, thin: bool = False) -> Iterator[Place]:
    """The dots along lines between dots; with `thin` every second one: which, depends on their place alone."""
    for line in lines:
        for (x0, y0), (x1, y1) in zip(line, line[1:] or line, strict=False):
            if x0 == x1 and not thin:
                for y in range(min(y0, y1), max(y0, y1) + 1):  # most of what there is to draw where data is noisy
                    yield x0, y
                continue
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            flat = abs(x1 - x0) >= abs(y1 - y0)
            across, up = (x1 - x0) / steps, (y1 - y0) / steps
            for step in range(steps + 1):
                x, y = int(x0 + across * step + 0.5), int(y0 + up * step + 0.5)
                if not thin or (x if flat else y) % 2 == 0:
                    yield x, y


def braille(dots: Iterable[Place]) -> dict[Place, str]:
    """Dots as the characters of the cells they fall in, 2x4 a cell."""
    masks: dict[Place, int] = {}
    for x, y in dots:
        cell = x >> 1, y >> 2
        masks[cell] = masks.get(cell, 0) | _BITS[x & 1][y & 3]
    return {cell: chr(0x2800 + mask) for cell, mask in masks.items()}


def dotted(lines: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Every second column of lines between dots, as cells (2x4 dots each)."""
    cells = []
    for line in lines:
        for (x0, y0), (x1, y1) in zip(line, line[1:] or line, strict=False):
            for column in range(x0 // 2, x1 // 2 + 1):
                if column % 2 == 0:
                    part = 0.0 if x1 == x0 else min(max((2 * column + 0.5 - x0) / (x1 - x0), 0.0), 1.0)
                    cells.append((column, math.floor(y0 + part * (y1 - y0) + 0.5) // 4))
    return list(dict.fromkeys(cells))


def cells_of(runs: list[Run], x_axis: Axis, y_axis: Axis, columns: int, rows: int) -> list[Place]:
    """The cell of each single point, once where several share it; what lies outside the axes is left out."""
    return list(dict.fromkeys(_each_cell((point for run in runs for point in run), x_axis, y_axis, columns, rows)))


def off_log(points: Points, x_axis: Axis, columns: int) -> tuple[list[int], bool]:
    """What a logarithmic axis cannot show within the x axis: the columns with a value of 0, and is there one below?"""
    zeros: dict[int, None] = {}
    below = False
    for raw, y in points:
        if y <= 0 and (height := clean(y)) == height and 0 <= (at := x_axis.fraction(clean(raw))) <= 1:
            below |= height < 0
            if height == 0:
                zeros[min(dot(at, 2 * columns) // 2, columns - 1)] = None
    return list(zeros), below


def point_cells(
    points: Points, x_axis: Axis, y_axis: Axis, columns: int, rows: int, *, log_y: bool = False
) -> list[Place]:
    """The cell of every point that can be drawn inside the axes, as often as points share it."""
    cleaned = ((clean(x), clean(y, log=log_y)) for x, y in points)
    return list(_each_cell(((x, y) for x, y in cleaned if x == x and y == y), x_axis, y_axis, columns, rows))


def _each_cell(points: Iterable[Dot], x_axis: Axis, y_axis: Axis, columns: int, rows: int) -> Iterable[Place]:
    for x, y in points:
        column = dot(x_axis.fraction(x), 2 * columns) // 2
        row = dot(y_axis.fraction(y), 4 * rows) // 4
        if 0 <= column < columns and 0 <= row < rows:
            yield column, row


def shared_cells(layers: Sequence[Sequence[Place]]) -> list[list[Place]]:
    """Which cells each layer of single points is seen in, when each cell shows one layer: as fair as can be.

    `layers` hold a cell for each point, repeated where points share it. Cells go to the layers in proportion to their
    points there, what one is owed by a cell counting in the next; equal claims go to the layer with fewer points. A
    layer that no cell fell to takes the one where its share is greatest, unless that is all another one has.
    """
    counts = [Counter(cells) for cells in layers]
    rank = [(-len(cells), -index) for index, cells in enumerate(layers)]
    owed = [0.0] * len(layers)
    owner: dict[Place, int] = {}
    share: dict[tuple[Place, int], float] = {}
    for cell in sorted(set().union(*counts)):
        total = sum(count[cell] for count in counts)
        present = [index for index, count in enumerate(counts) if count[cell]]
        for index in present:
            share[cell, index] = counts[index][cell] / total
            owed[index] += share[cell, index]
        owner[cell] = max(present, key=lambda index: (round(owed[index], 9), rank[index]))
        owed[owner[cell]] -= 1
    for index, count in enumerate(counts):
        seen = Counter(owner.values())
        free = [cell for cell in sorted(count) if seen[owner[cell]] > 1]
        if count and not seen[index] and free:
            owner[max(free, key=lambda cell: share[cell, index])] = index
    return [[cell for cell, by in owner.items() if by == index] for index in range(len(layers))]
