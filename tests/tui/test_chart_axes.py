"""The axis holds the data in round steps and does not fidget."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from workflow_tui.widgets.chart_axes import Axis, choose, clean, nice_step, ticks

values = st.floats(allow_nan=False, allow_infinity=False)
sane = st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False)
intervals = st.integers(1, 6)


def is_nice(step: float) -> bool:
    return f"{step:.6e}"[0] in "125" and f"{step:.6e}"[1:8] == ".000000"


@given(values, values, intervals, st.booleans())
def test_the_axis_covers_the_data(a: float, b: float, count: int, log: bool) -> None:
    low, high = sorted((clean(a, log=log), clean(b, log=log)))
    if low != low or high != high:
        return
    axis = choose(None, low, high, count, log=log)
    slack = 1e-6 * max(abs(axis.high - axis.low), 1e-300)
    assert axis.low <= low + slack
    assert axis.high >= high - slack
    assert axis.low < axis.high


@given(sane, sane, intervals)
def test_limits_are_multiples_of_a_1_2_5_step(a: float, b: float, count: int) -> None:
    low, high = sorted((a, b))
    axis = choose(None, low, high, count)
    assert is_nice(axis.step)
    for limit in (axis.low, axis.high):
        assert math.isclose(limit / axis.step, round(limit / axis.step), abs_tol=1e-6)


@given(values, values, intervals, st.booleans())
def test_ticks_are_few_short_and_inside(a: float, b: float, count: int, log: bool) -> None:
    low, high = sorted((clean(a, log=log), clean(b, log=log)))
    if low != low or high != high:
        return
    axis = choose(None, low, high, count, log=log)
    marks = ticks(axis, count, decimals=2)
    assert 1 <= len(marks) <= count + 3
    labels = [tick.label for tick in marks]
    assert len(set(labels)) == len(labels)
    for tick in marks:
        assert axis.low - 1e-6 * (axis.high - axis.low) <= tick.at <= axis.high + 1e-6 * (axis.high - axis.low)
        digits = tick.label.split("e")[0].replace("-", "").replace(".", "").strip("0")
        assert len(digits) <= 4
        assert log or math.isclose(float(tick.label), tick.at, rel_tol=1e-3, abs_tol=1e-290)


@given(st.floats(0.001, 1000), st.booleans())
def test_steady_growth_moves_the_axis_rarely(start: float, log: bool) -> None:
    axis: Axis | None = None
    seen: list[Axis] = []
    for step in range(500):
        high = start * (1 + step / 50)
        axis = choose(axis, clean(start, log=log), clean(high, log=log), 5, log=log)
        if not seen or seen[-1] != axis:
            seen.append(axis)
    # from a fiftieth to ten times the start, in 500 drawings
    assert len(seen) <= 25


def test_a_small_growth_does_not_move_the_axis_and_a_small_shrink_neither() -> None:
    axis = choose(None, 0.0, 0.93, 5)
    assert choose(axis, 0.0, 0.99, 5) == axis
    assert choose(axis, 0.0, 0.5, 5) == axis
    assert choose(axis, 0.0, 0.1, 5).high <= 0.2
    assert choose(axis, 0.0, 1.3, 5).high >= 1.3


def test_growth_never_takes_a_positive_axis_below_zero() -> None:
    axis = choose(None, 0.5, 1.0, 5)
    assert choose(axis, 0.0, 1.0, 5).low == 0.0


@given(st.floats(min_value=1e-200, max_value=1e200), intervals)
def test_the_step_is_the_least_that_suffices(span: float, count: int) -> None:
    step = nice_step(span, count)
    assert is_nice(step)
    assert span / step <= count * (1 + 1e-6)
    assert span / (step / 2.6) > count


def test_labels_are_those_of_the_design() -> None:
    assert [tick.label for tick in ticks(choose(None, 0.3, 0.7, 4), 4, decimals=2)] == [
        "0.30",
        "0.40",
        "0.50",
        "0.60",
        "0.70",
    ]
    decades = choose(None, clean(2e-4, log=True), clean(0.8, log=True), 5, log=True)
    assert [tick.label for tick in ticks(decades, 5)] == ["1e-4", "1e-3", "0.01", "0.1", "1"]
    assert [tick.label for tick in ticks(Axis(0, 1000), 5)] == ["0", "200", "400", "600", "800", "1000"]
    assert [tick.label for tick in ticks(Axis(0, 1e9), 2)] == ["0", "5e8", "1e9"]
