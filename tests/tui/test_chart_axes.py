"""The axis holds the data in round steps and does not fidget."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from workflow_tui.widgets.chart_axes import Axis, choose, clean, count, nice_step, short_count, ticks, x_ticks
from workflow_tui.widgets.chart_cells import UNICODE
from workflow_tui.widgets.chart_frame import Frame, framed
from workflow_tui.widgets.chart_layers import ChartSpec

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


extents = st.tuples(sane, sane).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(extents, min_size=1, max_size=20), st.integers(3, 6), st.booleans())
def test_an_axis_holds_still_while_the_data_fits_and_fills_it_and_never_grows_far_beyond(
    many: list[tuple[float, float]], intervals: int, log: bool
) -> None:
    axis: Axis | None = None
    for low, high in many:
        if log:  # these are exponents
            low, high = low / 1e8, high / 1e8
        before, axis = axis, choose(axis, low, high, intervals, log=log)
        slack = 1e-6 * (axis.high - axis.low)
        assert axis.low - slack <= low
        assert high <= axis.high + slack
        if before is None:
            continue
        span = before.high - before.low
        if before.low <= low and high <= before.high and high - low >= 0.4 * span:
            assert axis == before
        reach = max(high, before.high) - min(low, before.low)
        size = max(abs(low), abs(high), 1e-9)
        assert axis.high - axis.low <= max(4 * reach, 1e-2 * size, 3.0 if log else 0)


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
    # less than two decades: the values between the powers of ten say more than one of these alone
    narrow = choose(None, clean(0.06, log=True), clean(0.4, log=True), 5, log=True)
    assert [tick.label for tick in ticks(narrow, 5)] == ["0.05", "0.1", "0.2", "0.5"]


def labels(x_range: tuple[float, float], columns: int) -> list[str]:
    """What is written below an x axis that counts."""
    frame = Frame(Axis(*x_range), Axis(0, 1), columns, 0, 6, 0)
    rows = framed([], [], ChartSpec((), x_range, None, "epoch", whole_x=True), frame, UNICODE)
    text = "".join(char for char, _ in rows[-1]).split()
    assert text[0] == "epoch"
    return text[1:]


def test_epochs_are_counted_in_whole_numbers_and_read_well_when_there_are_many() -> None:
    assert labels((0, 1000), 52) == ["0", "200", "400", "600", "800", "1000"]
    assert labels((0, 5), 52) == ["0", "1", "2", "3", "4", "5"]
    assert labels((0, 3), 52) == ["0", "1", "2", "3"]
    assert labels((7, 8), 52) == ["7", "8"]
    assert labels((0, 12_500), 80) == ["0", "5000", "10,000"]
    assert labels((0, 10_000_000), 52) == ["0", "2M", "4M", "6M", "8M", "10M"]
    assert labels((0, 10_000_000), 110) == ["0", "2,000,000", "4,000,000", "6,000,000", "8,000,000", "10,000,000"]
    assert labels((2_500_100, 2_500_108), 52) == ["2,500,102", "2,500,104", "2,500,106"]
    assert labels((0, 10_000_000), 12) == ["0", "10M"]


@given(st.integers(0, 10**9), st.integers(1, 10**7), st.integers(10, 200))
def test_ticks_of_epochs_are_whole_within_the_window_and_say_what_they_are(low: int, span: int, columns: int) -> None:
    axis = Axis(low, low + span)
    for marks in x_ticks(axis, whole=True):
        for tick in marks:
            assert tick.at == round(tick.at)
            assert axis.low <= tick.at <= axis.high
            text = tick.label.replace(",", "")
            size = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
            assert math.isclose(float(text.rstrip("kMG")) * size, tick.at, rel_tol=1e-12)
    written = labels((low, low + span), columns)
    assert len(set(written)) == len(written)


def test_counts_are_shortened_only_where_nothing_is_lost() -> None:
    assert [short_count(value) for value in (0, 999, 9999, 20_000, 2_500_000, 2_500_100, 12_345_678)] == [
        "0",
        "999",
        "9999",
        "20k",
        "2.5M",
        "2,500,100",
        "12,345,678",
    ]
    assert count(10_000) == "10,000"
