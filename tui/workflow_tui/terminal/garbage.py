"""How often Python looks for garbage in the process of the screen."""

from __future__ import annotations

import gc

THRESHOLDS = 20_000, 20, 20
"""New containers until a look at the youngest, and looks until one at the older ones (gc.set_threshold)."""


def look_seldom() -> None:
    """Look for unreachable cycles less often than Python does by itself, and never at what is there already.

    A screen is tens of thousands of widgets, styles and cells, nearly all of them still in use at every look: at
    Python's own 700, 10, 10 looking takes a fifth of the time of drawing, and holds single draws up by some
    milliseconds. What is not part of a cycle goes at once, as ever.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
