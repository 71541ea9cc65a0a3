"""The map behind a chart: values on a grid as levels that read as contour bands, two of them in every cell."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

from workflow_tui.theme import HEAT_LEVELS, role_marker
from workflow_tui.widgets.chart_cells import BLANK, Cell, Row, Tone, signs
from workflow_tui.widgets.chart_frame import Frame, x_axis_of
from workflow_tui.widgets.chart_layers import Heat

DECADES = 4
"""How far below the greatest value a logarithmic scale tells values apart; all lower ones share its end."""
HALF = "▀"
OUTSIDE, BAD = -1, -2
Weight = tuple[int, int, float]


def heat_rows(heat: Heat, frame: Frame, *, use_ascii: bool, colour: bool) -> list[Row]:
    """The map as cells of the plot. Without colours, or in ASCII, its levels are characters that get denser."""
    places = positions(heat)
    xs = [_between(heat.x_range, len(places[0]) if places else 0, x) for x in map(frame.x_at, range(frame.columns))]
    halves = 1 if use_ascii or not colour else 2
    lines = []
    for part in range(halves * frame.rows):
        y = _between(heat.y_range, len(places), _y_at(frame, part, 4 // halves))
        lines.append([OUTSIDE if x is None or y is None else _level(places, x, y) for x in xs])
    lines.reverse()
    if halves == 2:
        return [tuple(map(_shaded, lines[row], lines[row + 1])) for row in range(0, len(lines), 2)]
    ramp, bad = signs(use_ascii).ramp, role_marker("bad", use_ascii=use_ascii)
    return [tuple(_dense(level, ramp, bad, colour) for level in line) for line in lines]


def positions(heat: Heat) -> list[list[float]]:
    """For every value of the grid its place from 0, the least, to 1, the greatest; NaN where it is not finite."""
    columns = min((len(row) for row in heat.grid), default=0)
    if not columns:
        return []
    values = sorted(value for row in heat.grid for value in row[:columns] if math.isfinite(value))
    if not values or values[0] == values[-1]:
        return [[0.0 if math.isfinite(value) else math.nan for value in row[:columns]] for row in heat.grid]
    scale = _scale(values[0], values[-1], heat.log)
    last = bisect_left(values, values[-1])

    def place(value: float) -> float:
        if not math.isfinite(value):
            return math.nan
        return (bisect_left(values, value) / last + scale(value)) / 2

    return [[place(value) for value in row[:columns]] for row in heat.grid]


def _scale(low: float, high: float, log: bool) -> Callable[[float], float]:
    if not log or high <= 0:
        span = high / 2 - low / 2  # halved, as the difference of two large numbers may be infinite
        return lambda value: (value / 2 - low / 2) / span if span else 0.0
    bottom = max(math.log10(low), math.log10(high) - DECADES) if low > 0 else math.log10(high) - DECADES
    top = math.log10(high)
    if top <= bottom:
        return lambda value: 0.0
    return lambda value: 0.0 if value <= 0 else max((math.log10(value) - bottom) / (top - bottom), 0.0)


def _y_at(frame: Frame, part: int, dots: int) -> float:
    """The y in the middle of one part of the plot, counted from below, that is so many dots high."""
    axis = frame.y_axis
    return axis.low + (dots * part + (dots - 1) / 2) / (4 * frame.rows - 1) * (axis.high - axis.low)


def _between(ends: tuple[float, float], count: int, value: float) -> Weight | None:
    """Of `count` evenly spaced points the last before `value`, the first after, and how far it is between them."""
    axis = x_axis_of(ends)
    part = axis.fraction(value)
    if not count or not -1e-9 <= part <= 1 + 1e-9:
        return None
    at = min(max(part, 0.0), 1.0) * (count - 1)
    first = min(int(at), count - 1)
    return first, min(first + 1, count - 1), at - first


def _level(places: list[list[float]], x: Weight, y: Weight) -> int:
    (left, right, across), (low, high, up) = x, y
    below = places[low][left] * (1 - across) + places[low][right] * across
    above = places[high][left] * (1 - across) + places[high][right] * across
    place = below * (1 - up) + above * up
    if place != place:  # beside a value that is not finite the nearest decides
        place = places[high if up >= 0.5 else low][right if across >= 0.5 else left]
    return BAD if place != place else min(int(place * HEAT_LEVELS), HEAT_LEVELS - 1)


def _shaded(upper: int, lower: int) -> Cell:
    if upper == BAD or lower == BAD:
        return role_marker("bad"), "bad"
    if upper == OUTSIDE or lower == OUTSIDE:
        return BLANK
    # a cell of one level needs no character: it stays a blank that its neighbours can join
    return (" " if upper == lower else HALF), Tone(None, upper, lower)


def _dense(level: int, ramp: str, bad: str, colour: bool) -> Cell:
    if level == BAD:
        return bad, "bad"
    if level == OUTSIDE:
        return BLANK
    return ramp[level], Tone("muted", level, level) if colour else "muted"


def over_map(rows: list[Row], ground: list[Row]) -> list[Row]:
    """The cells of a plot with a map behind them; where that is of characters, they keep off what lies on them."""
    return [tuple(_over_row(row, below)) for row, below in zip(rows, ground, strict=True)]


def _over_row(row: Row, ground: Row) -> Iterator[Cell]:
    padded = (BLANK, *row, BLANK)
    for before, cell, after, below in zip(padded, row, padded[2:], ground, strict=False):
        char, ink = cell
        if cell == BLANK:
            dense = below[0] not in (" ", HALF)
            yield ((" ", below[1]) if dense and (before != BLANK or after != BLANK) else below)
        elif isinstance(below[1], Tone) and not isinstance(ink, Tone):
            level = (below[1].upper + below[1].lower + 1) // 2
            yield char, Tone(ink, level, level)
        else:
            yield cell
