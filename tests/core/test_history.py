"""However many epochs: bounded memory, no extreme lost, and a snapshot goes on as its original does."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_core.history import CAP, History, HistoryData, Series, SeriesData, buckets_each
from workflow_core.protocol import MAX_FRAME, Update, encode

VALUES = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf])
CHUNKS = st.lists(st.lists(VALUES, max_size=40), max_size=12)
CAPS = st.sampled_from([2, 4, 8, 16])


def filled(chunks: list[list[float]], cap: int) -> tuple[Series, list[float]]:
    series = Series(cap)
    for chunk in chunks:
        series.extend(chunk)
    return series, [value for chunk in chunks for value in chunk]


def finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


@given(CHUNKS, CAPS)
def test_memory_is_bounded_and_extremes_are_kept(chunks: list[list[float]], cap: int) -> None:
    series, values = filled(chunks, cap)
    assert series.epochs == len(values)
    assert len(series.low) == len(series.high) == len(series.first) == len(series.last) <= cap
    assert series.width * (len(series.low) - 1) < max(len(values), 1) <= max(series.width * len(series.low), 1)
    good = finite(values)
    assert series.extremes() == ((min(good), max(good)) if good else None)
    assert series.first_bad == next((at for at, value in enumerate(values) if not math.isfinite(value)), None)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(CHUNKS, CAPS, st.integers(1, 20), st.integers(-5, 300), st.integers(-5, 300))
def test_columns_are_what_the_values_say(
    chunks: list[list[float]], cap: int, count: int, start: int, stop: int
) -> None:
    series, values = filled(chunks, cap)
    columns = series.columns(count, start, stop)
    begin, end = max(start, 0), min(stop, len(values))
    if end <= begin:
        assert columns == []
        return
    assert 1 <= len(columns) <= count
    assert columns[0].start <= begin < columns[0].start + series.width
    assert columns[-1].stop >= end
    for before, after in itertools.pairwise(columns):
        assert before.stop == after.start
    for column in columns:
        part = values[column.start : column.stop]
        good = finite(part)
        assert same(column.low, min(good, default=math.nan))
        assert same(column.high, max(good, default=math.nan))
        assert same(column.first, part[0])
        assert same(column.last, part[-1])


@given(CHUNKS, CHUNKS, CAPS)
def test_a_snapshot_goes_on_as_if_never_interrupted(
    before: list[list[float]], after: list[list[float]], cap: int
) -> None:
    whole = History(cap)
    for chunk in before:
        whole.extend({"train_loss": chunk, "weight": [-value for value in chunk]})
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(whole.to_data()), type=HistoryData)
    resumed = History.from_data(wire, cap)
    for chunk in after:
        for history in (whole, resumed):
            history.extend({"train_loss": chunk, "weight": [-value for value in chunk]})
    assert repr(resumed.to_data()) == repr(whole.to_data())
    assert resumed.epochs == whole.epochs
    assert resumed.first_bad == whole.first_bad


def test_a_snapshot_is_not_a_live_view() -> None:
    history = History(4)
    history.extend({"train_loss": [1.0, 2.0, 3.0]})
    snapshot = history.to_data()
    before = repr(snapshot)
    History.from_data(snapshot, 4).extend({"train_loss": [9.0] * 10})
    history.extend({"train_loss": [9.0] * 10})
    assert repr(snapshot) == before


def test_series_belong_together() -> None:
    history = History()
    with pytest.raises(ValueError, match="different lengths"):
        history.extend({"train_loss": [1.0], "val_loss": []})
    history.extend({"train_loss": [1.0]})
    with pytest.raises(ValueError, match="do not match"):
        history.extend({"val_loss": [1.0]})
    assert history.epochs == 1


def test_a_million_epochs_in_chunks_cost_no_more_memory_than_the_cap() -> None:
    series = Series(1024)
    for start in range(0, 1_000_000, 5000):
        series.extend([float(epoch) for epoch in range(start, start + 5000)])
    assert len(series.low) <= 1024
    assert series.width == 1024
    assert series.extremes() == (0.0, 999_999.0)


@pytest.mark.parametrize("count", [1, 6, 64, 65, 1000, 20_000])
def test_a_snapshot_of_any_number_of_series_fits_into_a_frame(count: int) -> None:
    cap = buckets_each(count)
    assert cap == CAP or count > 64
    figures = [1e300] * cap
    part = SeriesData(low=figures, high=figures, first=figures, last=figures, first_bad=None)
    data = HistoryData(epochs=cap, width=1, series={f"layers.{at}.weight norm": part for at in range(count)})
    assert len(encode(Update(history=data))) <= MAX_FRAME


def test_many_series_go_on_alike_after_a_snapshot() -> None:
    history = History()
    for start in range(0, 9000, 3000):
        history.extend({str(at): [float(epoch) for epoch in range(start, start + 3000)] for at in range(100)})
    again = History.from_data(history.to_data())
    for one in (history, again):
        one.extend({str(at): [-1.0] * 5000 for at in range(100)})
    assert again.to_data() == history.to_data()
    assert len(history.series["0"].low) <= buckets_each(100) < CAP
    assert history.series["99"].extremes() == (-1.0, 8999.0)
