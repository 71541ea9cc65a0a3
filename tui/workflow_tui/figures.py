"""How numbers are written everywhere on the screen: four digits that keep their width while they change."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH = 9
"""Columns that every figure fits in, sign and exponent included."""


def figure(value: float | None) -> str:
    """`value` to about four significant digits: `0.0922`, `12.35`, `1.23e-05`, `NaN`; a dash where there is none."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if size == 0:
        return "0.0000"
    if not 0.0005 <= size < 99_999.5:
        return f"{value:.2e}"
    exponent = int(f"{size:.3e}".partition("e")[2])
    return f"{value:.{4 if exponent < 1 else max(0, 3 - exponent)}f}"


def column(value: float | None) -> str:
    """`figure` right-aligned in WIDTH columns."""
    return figure(value).rjust(WIDTH)


def signed(value: float) -> str:
    """`figure` with its sign always there, for gaps and differences."""
    text = figure(value)
    return text if text.startswith("-") or math.isnan(value) else "+" + text


def short(value: float) -> str:
    """A setting as a person would type it: `0.7`, `1e-06`."""
    return f"{value:.6g}"


def full(value: float) -> str:
    """Every digit of a float32 value."""
    return f"{value:.9g}"


def whole(value: int) -> str:
    """A count with thousands separated: `1,000,000`."""
    return f"{value:,}"


def span(limits: tuple[float, float] | None) -> str:
    """A range of values: `0 … 0.68`; a dash where there is none."""
    return "–" if limits is None else f"{limits[0]:.4g} … {limits[1]:.4g}"


def tight_span(limits: tuple[float, float] | None) -> str:
    """A range in few columns, three significant digits: `0…0.68`; a dash where there is none."""
    return "–" if limits is None else f"{limits[0]:.3g}…{limits[1]:.3g}"


def shape(sizes: Sequence[int]) -> str:
    """A tensor's shape: `[50, 1]`."""
    return "[" + ", ".join(map(str, sizes)) + "]"


def size(count: int) -> str:
    """Bytes as a person reads them: `8 B`, `2.1 KiB`."""
    if count < 1024:
        return f"{count} B"
    amount = count / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def epochs(count: int) -> str:
    """How many epochs, as a count: `1 epoch`, `100 epochs`."""
    return f"{whole(count)} epoch{'s' * (count != 1)}"


def are(count: int) -> str:
    """`is` or `are`, after so many things."""
    return "is" if count == 1 else "are"


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours and days once there are any: `0:14`, `2:03:00`, `3d 04:00`."""
    if not math.isfinite(seconds) or seconds >= 100 * 86_400:
        return "> 99 d"
    whole_seconds = round(seconds)
    days, rest = divmod(whole_seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def rate(value: float) -> str:
    """Epochs per second: `20.0`, `6,400`."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def milliseconds(value: float) -> str:
    """A short time, given in ms, in its own unit: `156 µs`, `2.3 ms`, `1.2 s`."""
    if not math.isfinite(value):
        return "–"
    if value < 1:
        return f"{1000 * value:.0f} µs"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.1f} s"
