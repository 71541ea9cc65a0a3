"""Calm axes: round limits in 1-2-5 steps that hold still while the data moves a little, and few, short tick labels.

An axis works in axis units: the values themselves, or their log10 on a logarithmic axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# beyond this, differences of two floats overflow or underflow; nothing that is drawn in a terminal needs more
HUGE, TINY = 1e300, 1e-300
FILL = 0.4
HEADROOM = 0.1


@dataclass(frozen=True, slots=True)
class Tick:
    """A position in axis units and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits in axis units, `low` < `high`, and the distance of its ticks (0 on a logarithmic axis)."""

    low: float
    high: float
    step: float = 0.0
    log: bool = False

    def fraction(self, value: float) -> float:
        """Where a value in axis units lies: 0 at `low`, 1 at `high`; kept within ±1e6."""
        return min(max((value - self.low) / (self.high - self.low), -1e6), 1e6)


def clean(value: float, *, log: bool = False) -> float:
    """The value in axis units, or NaN where it cannot be drawn (NaN, infinity, not above 0 on a logarithmic axis)."""
    try:
        value = float(value)
    except OverflowError:
        return math.nan
    if not math.isfinite(value):
        return math.nan
    if log:
        return math.log10(value) if value > 0 else math.nan
    if -TINY < value < TINY:
        return 0.0
    return min(max(value, -HUGE), HUGE)


def nice_step(span: float, intervals: int, smallest: float = 0.0) -> float:
    """The least of 1, 2, 5 times a power of ten that divides `span` into at most `intervals` parts."""
    wanted = max(span / max(intervals, 1), smallest, TINY)
    exponent = math.floor(math.log10(wanted))
    for factor, power in ((1, exponent), (2, exponent), (5, exponent), (1, exponent + 1)):
        step = float(f"{factor}e{power}")
        if step >= wanted * (1 - 1e-9):
            return step
    return float(f"2e{exponent + 1}")


def choose(previous: Axis | None, low: float, high: float, intervals: int, *, log: bool = False) -> Axis:
    """The axis for data from `low` to `high` (axis units): the previous one while it fits, else a round one.

    It grows at once, with some headroom, when the data leaves it, and shrinks only when the data would fill less
    than 40% of it.
    """
    if previous is None or previous.log != log:
        return _round_log(low, high) if log else _round(low, high, intervals)
    span = previous.high - previous.low
    fits = previous.low <= low and high <= previous.high
    thin = high - low < FILL * span
    if fits and not thin:
        return previous
    # headroom on the sides that moved; when it shrinks on both, or the next value would make it grow again
    room = HEADROOM * (high - low)
    bottom = low - room if low < previous.low or fits else low
    top = high + room if high > previous.high or fits else high
    if not log:
        # a headroom is no reason to cross zero
        bottom, top = (0.0 if bottom < 0 <= low else bottom), (0.0 if high <= 0 < top else top)
    if not thin:
        bottom, top = min(bottom, previous.low), max(top, previous.high)
    axis = _round_log(bottom, top) if log else _round(bottom, top, intervals)
    return previous if fits and axis.high - axis.low >= span else axis


def _round(low: float, high: float, intervals: int) -> Axis:
    size = max(abs(low), abs(high))
    if size == 0:
        return Axis(-1.0, 1.0, min(nice_step(2.0, intervals), 1.0))
    if high - low <= size * 1e-12:
        low, high = low - 0.1 * size, high + 0.1 * size
    # four significant digits must be able to tell two ticks apart
    smallest = 10.0 ** max(math.floor(math.log10(size)) - 3, -300)
    step = nice_step(high - low, intervals, smallest)
    for _ in range(4):
        bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if top - bottom <= max(intervals, 1) + 1:
            break
        step = nice_step(step * 1.5, 1)
    if bottom == top:
        top += 1
    return Axis(_times(bottom, step), _times(top, step), step)


def _times(count: int, step: float) -> float:
    # through text: 3 * 0.1 is 0.30000000000000004
    return min(max(float(f"{count * step:.12g}"), -2 * HUGE), 2 * HUGE)


def _round_log(low: float, high: float) -> Axis:
    if high - low >= 1:
        return Axis(float(math.floor(low + 1e-9)), float(math.ceil(high - 1e-9)), log=True)
    bottom = max(at for at, _ in _rungs(low - 1.1, low + 1e-9))
    top = min(at for at, _ in _rungs(high - 1e-9, high + 1.1))
    if bottom == top:
        bottom = max(at for at, _ in _rungs(low - 1.1, bottom - 1e-6))
        top = min(at for at, _ in _rungs(top + 1e-6, high + 1.1))
    return Axis(bottom, top, log=True)


def _rungs(low: float, high: float) -> list[tuple[float, str]]:
    """The 1-2-5 values between two exponents: (log10, label)."""
    rungs = []
    for exponent in range(math.floor(low) - 1, math.ceil(high) + 1):
        for factor in (1, 2, 5):
            at = exponent + math.log10(factor)
            if low <= at <= high:
                rungs.append((at, _power(factor, exponent)))
    return rungs


def _power(factor: int, exponent: int) -> str:
    if 0 <= exponent <= 3:
        return str(factor * 10**exponent)
    if -2 <= exponent < 0:
        return f"{factor * 10.0**exponent:.{-exponent}f}"
    return f"{factor}e{exponent}"


def ticks(axis: Axis, intervals: int, *, decimals: int = 0) -> list[Tick]:
    """At most about `intervals` + 1 ticks from low to high; labels of plain numbers have at least `decimals` decimals
    where the step is below 1, and all the same number of them."""
    if axis.log:
        return _log_ticks(axis, intervals)
    step = axis.step or nice_step(axis.high - axis.low, intervals)
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    stride = max(1, math.ceil((last - first) / max(intervals + 1, 1)))
    values = [_times(count, step) for count in range(first, last + 1, stride)]
    return [Tick(value, number(value, step, max(abs(axis.low), abs(axis.high)), decimals)) for value in values]


def number(value: float, step: float, size: float, decimals: int = 0) -> str:
    """A tick's label: plain between 1e-3 and 1e5, else with an exponent; at most four significant digits."""
    if value == 0:
        value = 0.0
    if 1e-3 <= size < 1e5:
        wanted = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{value:.{max(wanted, decimals if step < 1 else 0)}f}"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def x_ticks(axis: Axis, *, whole: bool = False) -> Iterator[list[Tick]]:
    """Ticks of at most five intervals and fewer and fewer, to choose by room; with `whole` at whole numbers only."""
    counts = whole and max(abs(axis.low), abs(axis.high)) < 1e12
    for intervals in range(5, 0, -1):
        if counts:
            yield _whole_ticks(axis, intervals, count)
            yield _whole_ticks(axis, intervals, short_count)
        else:
            yield ticks(axis, intervals)


def _whole_ticks(axis: Axis, intervals: int, label: Callable[[float], str]) -> list[Tick]:
    step = nice_step(axis.high - axis.low, intervals, 1.0)
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    return [Tick(at * step, label(at * step)) for at in range(first, last + 1)]


def count(value: float) -> str:
    """A whole number as people count: `1000`, `2,500,000`."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"


def short_count(value: float) -> str:
    """A whole number in fewer characters where that loses nothing: `2.5M`, `200k`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        text = f"{value / size:.4g}"
        if abs(value) >= max(size, 10_000) and float(text) * size == value:
            return text + unit
    return count(value)


def _log_ticks(axis: Axis, intervals: int) -> list[Tick]:
    rungs = _rungs(axis.low - 1e-9, axis.high + 1e-9)
    powers = [(at, label) for at, label in rungs if abs(at - round(at)) < 1e-9]
    if len(powers) > 2 or (len(powers) == 2 and len(rungs) > intervals + 1):
        rungs = powers
    stride = max(1, math.ceil((len(rungs) - 1) / max(intervals, 1)))
    return [Tick(at, label) for at, label in rungs[::stride]]
