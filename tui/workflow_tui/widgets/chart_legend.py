"""The row above a chart's plot that names its layers, and says what the plot cannot show."""

from __future__ import annotations

import math

from workflow_tui.figures import figure
from workflow_tui.theme import HEAT_LEVELS, role_marker, spot_marker
from workflow_tui.widgets.chart_cells import BLANK, Cell, Ink, Row, Tone, elided, fit, narrow, signs, written
from workflow_tui.widgets.chart_frame import x_axis_of
from workflow_tui.widgets.chart_layers import ChartSpec, Heat, Lines, Mark, Path, Scatter, Spot
from workflow_tui.widgets.chart_points import off_log

GUTTER = 5
Entry = tuple[str, Ink, str]


def legend(spec: ChartSpec, width: int, *, use_ascii: bool, colour: bool) -> Row | None:
    """Each layer's sign and label, what the plot cannot show at the right end; None where there is nothing to say.

    Labels that are too long lose their middle. What is said at the right has the first claim on the row.
    """
    entries = _entries(spec, use_ascii)
    right = _right(spec, width, sum(len(label) + 3 for _, _, label in entries), use_ascii, colour)
    room = width - len(right) - (2 if right else 0)
    more = signs(use_ascii).more
    cells: list[Cell] = []
    lengths = [len(label) for _, _, label in entries]
    start, gap = _spacing(sum(lengths) + 2 * len(entries), len(entries) - 1, room)
    longest = _longest(lengths, room - (2 + gap) * len(entries) + gap)
    for sign, ink, label in entries:
        entry = f"{sign} {elided(label, longest, more)}"
        before = gap if cells else start
        if len(cells) + before + len(entry) > room:
            break
        cells += [BLANK] * before + [(char, ink) for char in entry]
    if right:
        cells = [*fit(cells, width - len(right)), *right]
    return fit(cells, width) if cells else None


def _spacing(length: int, gaps: int, room: int) -> tuple[int, int]:
    """The blanks before the first entry and between two, as many as entries of such a `length` in all leave."""
    for start, gap in ((GUTTER + 1, 3), (0, 2), (0, 1)):
        if start + length + gap * gaps <= room:
            return start, gap
    return 0, 2


def _entries(spec: ChartSpec, use_ascii: bool) -> list[Entry]:
    on_map = any(isinstance(layer, Heat) for layer in spec.layers)
    entries: dict[Entry, None] = {}
    for layer in spec.layers:
        if isinstance(layer, Mark | Heat) or not layer.label:
            continue
        sign = role_marker(layer.role, use_ascii=use_ascii)
        if isinstance(layer, Spot):
            sign = spot_marker(layer.kind, use_ascii=use_ascii)
        # what lies on a map is written in one colour
        ink: Ink = None if on_map and isinstance(layer, Spot | Path) else layer.role
        entries[sign, ink, narrow(layer.label)] = None
    return list(entries)


def _right(spec: ChartSpec, width: int, wanted: int, use_ascii: bool, colour: bool) -> list[Cell]:
    """The scale of a map, or what a logarithmic axis cannot show, as long as the row has room for it."""
    heat = next((layer for layer in spec.layers if isinstance(layer, Heat)), None)
    texts = _scales(heat, use_ascii, colour) if heat else _off_axis(spec, use_ascii)
    for text in texts:
        if len(text) + 2 + wanted <= width:
            return text
    return texts[-1] if texts and heat is None and len(texts[-1]) <= width // 2 else []


def _off_axis(spec: ChartSpec, use_ascii: bool) -> list[list[Cell]]:
    if not spec.log_y:
        return []
    axis = x_axis_of(spec.x_range)
    found = [off_log(layer.points, axis, 1) for layer in spec.layers if isinstance(layer, Lines | Scatter)]
    zero, below = any(zeros for zeros, _ in found), any(negative for _, negative in found)
    sign = signs(use_ascii).zero
    long = [f"{sign} zero, below the axis"] * zero + ["values below 0 not shown"] * below
    short = [f"{sign} 0"] * zero + ["< 0 left out"] * below
    return [written(", ".join(texts), "muted") for texts in (long, short)] if long else []


def _scales(heat: Heat, use_ascii: bool, colour: bool) -> list[list[Cell]]:
    """What the levels of a map stand for, the longest form first."""
    name = written(f"{narrow(heat.label)} " if heat.label else "", heat.role)
    values = [value for row in heat.grid for value in row if math.isfinite(value)]
    if not values:
        return [[*name, *written("not finite", "bad")], written("not finite", "bad")]
    low, high = figure(min(values)), figure(max(values))
    ramp = signs(use_ascii).ramp
    bar: list[Cell] = []
    for level in range(HEAT_LEVELS):
        ink: Ink = Tone("muted", level, level) if colour else "muted"
        bar.append((" " if colour and not use_ascii else ramp[level], ink))
    drawn = [*written(f"{low} ", heat.role), *bar, *written(f" {high}", heat.role)]
    short = [*written(f"{low} ", heat.role), *bar[::2], *written(f" {high}", heat.role)]
    plain = written(f"{low} to {high}", heat.role)
    return [[*name, *drawn], drawn, [*name, *short], short, [*name, *plain], plain]


def _longest(lengths: list[int], room: int) -> int:
    """The length to which the longer ones are cut for all to fit into `room`; no less than 4."""
    most = max(lengths, default=0)
    while most > 4 and sum(min(length, most) for length in lengths) > room:
        most -= 1
    return most
