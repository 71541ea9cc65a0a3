"""Sends only the cells that changed: Textual writes each changed span from the left edge of its widget.

Measured at 120x40 with two charts growing ten times a second, titles with figures: 11 KB/s without, 5 KB/s with this.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate


def _render_segments(update: ChopsUpdate, console: Console) -> str:
    """What `ChopsUpdate.render_segments` gives, with every strip cut to its span on both sides."""
    sequences: list[str] = []
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            left, right = max(x, x1), min(end, x2)
            if strip is not None and left < right:
                sequences += [Control.move_to(left, y).segment.text, strip.crop(left - x, right - x).render(console)]
    return "".join(sequences)


def install() -> None:
    """Have Textual write this way from now on; a Textual that is built differently is left as it is."""
    if {"chops", "spans", "chop_ends"} <= set(ChopsUpdate.__init__.__code__.co_varnames):
        ChopsUpdate.render_segments = _render_segments  # type: ignore[method-assign, assignment]
