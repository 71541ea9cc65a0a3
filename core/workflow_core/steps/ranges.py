"""Ranges of an axis that show all that must be seen on it, with room around it and ends that are round numbers."""

from __future__ import annotations

import math

Range = tuple[float, float]

MARGIN = 0.15
"""On each side, as a part of what must be seen."""
ROOM = 0.02
"""What must be left of it before a range is chosen anew."""
UNITS = 10
"""A range is about so many units long, each 1, 2 or 5 times a power of ten: rounded to these it is at most twice as
long as what must be seen, 1.3 times (1 + 2 * 2.5 / UNITS)."""
TINY = 1e-290


def rounded(low: float, high: float, margin: float = MARGIN) -> Range:
    """The range for what lies between `low` and `high`, finite and not beyond a quarter of the largest float.

    Around a single number it is about as long as that is large.
    """
    span = _span(low, high)
    middle, half = low / 2 + high / 2, span * (0.5 + margin)
    factor, power = _unit(2 * half / UNITS)
    unit = float(f"{factor}e{power}")
    first, last = math.floor((middle - half) / unit), math.ceil((middle + half) / unit)
    return float(f"{first * factor}e{power}"), float(f"{last * factor}e{power}")


def fits(ends: Range, low: float, high: float) -> bool:
    """Does the range show what lies between `low` and `high`, with a little room?"""
    room = ROOM * _span(low, high)
    return ends[0] <= low - room and high + room <= ends[1]


def points(ends: Range, count: int) -> list[float]:
    """So many numbers, evenly spread, the ends among them."""
    low, high = ends
    return [low + (high - low) * (at / (count - 1)) for at in range(count - 1)] + [high]


def _span(low: float, high: float) -> float:
    """From `low` to `high`; of a single number its size, and 1 for 0."""
    size = max(abs(low), abs(high))
    if size < TINY:
        return 1.0
    return high - low if high - low > 1e-6 * size else size


def _unit(length: float) -> tuple[int, int]:
    """The least of 1, 2 and 5 times a power of ten that is not below `length`, as factor and power."""
    power = math.floor(math.log10(length))
    for factor in (1, 2, 5):
        if float(f"{factor}e{power}") >= length:
            return factor, power
    return 1, power + 1
