"""From the cells of a chart to what the terminal is sent: styled strips, and the spans of cells that changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from workflow_tui.theme import heat_colour, heat_ink, role_colour
from workflow_tui.widgets.chart_cells import Ink, Row, Tone

GAP = 10
"""Unchanged cells between two changed ones that cost less to write again than to leap over."""


def strip_of(row: Row, width: int, base: Style, theme_name: str, stale: bool) -> Strip:
    """A row in the colours of a theme, on the style `base`, `width` cells wide."""
    segments: list[Segment] = []
    text = ""
    current: Ink = None
    for char, ink in row:
        # a blank looks the same in any colour: it joins its neighbour, which saves two escape sequences
        if ink != current and (ink is not None or isinstance(current, Tone)):
            if text and (current is not None or isinstance(ink, Tone)):
                segments.append(Segment(text, base + style_of(theme_name, current, stale)))
                text = ""
            current = ink
        text += char
    segments.append(Segment(text, base + style_of(theme_name, current, stale)))
    return Strip(segments, len(row)).adjust_cell_length(width, base)


@lru_cache(1024)
def style_of(theme_name: str, ink: Ink, stale: bool = False) -> Style:
    """The colours of an ink in a theme; where it is `stale`, greys alone, but for the cursor: that is of now."""
    if ink is None:
        return Style()
    if isinstance(ink, Tone):
        upper, lower = (heat_colour(theme_name, level, grey=stale) for level in (ink.upper, ink.lower))
        if ink.role is None:
            return Style(color=upper, bgcolor=lower)
        return Style(color=heat_ink(theme_name), bgcolor=lower, bold=ink.role != "muted")
    red, green, blue = role_colour(theme_name, "stale" if stale and ink not in ("muted", "cursor") else ink)
    return Style(color=f"#{red:02x}{green:02x}{blue:02x}")


def changed(before: Sequence[Sequence[object]], after: Sequence[Sequence[object]]) -> list[Region]:
    """What differs between two drawings of the same size: spans of cells, several in a row that differs far apart."""
    regions = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is new or old == new:
            continue
        columns = [x for x, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        start = columns[0]
        for last, following in zip(columns, [*columns[1:], None], strict=True):
            if following is None or following - last > GAP:
                regions.append(Region(start, y, last + 1 - start, 1))
                start = following or 0
    return regions
