"""What a chart reads of a record is what its epochs say, in whatever pieces they lie and whatever of them waits yet."""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_store import view_of

from workflow_core.history import CAP, Column, History
from workflow_core.store import NoSuchSeries, Store, changes, pieces, reading

VALUES = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308])
STEPS = st.lists(
    st.tuples(st.just("append"), st.lists(VALUES, min_size=1, max_size=40))
    | st.tuples(st.just("take back"), st.integers(0, 60))
    | st.tuples(st.just("branch"), st.integers(0, 60))
    | st.tuples(st.just("write"), st.none()),
    min_size=1,
    max_size=12,
)


@contextlib.contextmanager
def small_store(cap: int = CAP) -> Iterator[Store]:
    """A store with blocks and pieces that a short run has many of."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (pieces, reading):
            patch.setattr(module, "BLOCK", 4)
        patch.setattr(reading, "BLOCKS_EACH", 2)
        patch.setattr(reading, "buckets_each", lambda series: cap)
        patch.setattr(changes, "PIECE", 10 * 16)
        with contextlib.closing(Store(Path(folder) / "s.sqlite")) as store:
            yield store


def kept(store: Store, steps: list[tuple[str, object]]) -> tuple[int, list[float]]:
    """A run that all that was done to, and its figures: the series `a`, and its negative as `b`."""
    run, values = store.number(), array("d")
    store.begin(view_of(run), ["a", "b"])
    for what, how in steps:
        if what == "append":
            assert isinstance(how, list)
            store.append(view_of(run), len(values), {"a": how, "b": [-value for value in how]})
            values.extend(how)
        elif what == "write":
            assert store.flush()
        else:
            assert isinstance(how, int)
            if what == "branch":
                parent, run = run, store.number()
                store.begin(view_of(run), ["a", "b"])
                store.copy(parent, how, run)
            else:
                store.truncate(run, how)
            values = values[:how]
    return run, values.tolist()


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)


def finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(-3, 200), st.integers(0, 200), st.integers(1, 30))
def test_columns_say_what_the_epochs_say(steps: list[tuple[str, object]], start: int, more: int, count: int) -> None:
    with small_store() as store:
        run, values = kept(store, steps)
        stop = start + more
        assert (
            store.read(run, start, stop, ["a"])["a"].tobytes()
            == array("d", values[max(start, 0) : max(stop, 0)]).tobytes()
        )
        epochs, series = store.columns(run, start, stop, count, ["b", "a"])
    assert epochs == len(values)
    columns = series["a"]
    begin, end = max(start, 0), min(stop, len(values))
    if end <= begin:
        assert columns == []
        return
    assert columns[0].start <= begin < columns[0].start + 4
    assert end <= columns[-1].stop < end + 4
    assert len(columns) == min(count, columns[-1].stop - columns[0].start)
    for before, after in itertools.pairwise(columns):
        assert before.stop == after.start
    # not even: no column has more than twice the epochs of another
    widths = [column.stop - column.start for column in columns[:-1]]
    assert not widths or max(widths) <= 2 * min(widths)
    for column, mirrored in zip(columns, series["b"], strict=True):
        part = values[column.start : column.stop]
        assert column.low == min(finite(part), default=math.nan) or not finite(part)
        assert column.high == max(finite(part), default=math.nan) or not finite(part)
        assert math.isnan(column.low) == math.isnan(column.high) == (not finite(part))
        assert same((column.first, column.last), (part[0], part[-1]))
        assert same((mirrored.start, mirrored.stop), (column.start, column.stop))
        assert mirrored.low == -column.high or not finite(part)
    if end - begin <= count:
        exact = [value if math.isfinite(value) else math.nan for value in values]
        assert same(
            columns, [Column(at, at + 1, exact[at], exact[at], values[at], values[at]) for at in range(begin, end)]
        )


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 300), st.sampled_from([2, 4, 16, 64]))
def test_a_history_that_is_read_is_the_one_that_was_folded(
    steps: list[tuple[str, object]], epochs: int, cap: int
) -> None:
    with small_store(cap) as store:
        run, values = kept(store, steps)
        found = store.history(run, epochs)
    history = History(cap)
    if values[:epochs]:
        history.extend({"a": values[:epochs], "b": [-value for value in values[:epochs]]})
    # 0.0 and -0.0 are one figure, and which of them is the least is nobody's promise
    assert repr(found).replace("-0.0", "0.0") == repr(history.to_data()).replace("-0.0", "0.0")


def test_blocks_as_long_as_they_are(tmp_path: Path) -> None:
    """With pieces of the usual sizes, partly in memory still: most is read without looking at the epochs."""
    values = [math.sin(epoch * 1.7) * 1.001**epoch for epoch in range(30_000)]
    values[12_345] = math.nan
    with contextlib.closing(Store(tmp_path / "s.sqlite")) as store:
        run = store.number()
        store.begin(view_of(run), ["a"])
        for start in range(0, 30_000, 2_500):
            store.append(view_of(run), start, {"a": values[start : start + 2_500]})
            if start < 25_000:
                assert store.flush()
        looked: list[str] = []
        execute = reading.Recorded._read
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                reading.Recorded,
                "_read",
                lambda *asked: looked.append(asked[1]) or execute(*asked),  # type: ignore[func-returns-value]
            )
            epochs, series = store.columns(run, 777, 29_000, 20)
            history = store.history(run, 29_999)
        assert looked == ["summary", "data"]  # a history of so few epochs has narrow buckets
        assert len(store.columns(run, 0, 2 * CAP, CAP)[1]["a"]) == CAP
    assert epochs == 30_000
    assert (series["a"][0].start, series["a"][-1].stop) == (768, 29_056)
    for column in series["a"]:
        part = finite(values[column.start : column.stop])
        assert (column.low, column.high) == (min(part), max(part))
    assert history.series["a"].first_bad == 12_345
    whole = History()
    whole.extend({"a": values[:29_999]})
    assert repr(history) == repr(whole.to_data())


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(Store(tmp_path / "s.sqlite")) as store:
        run, _ = kept(store, [("append", [1.0] * 10)])
        with pytest.raises(KeyError):
            store.columns(run + 1, 0, 10, 10)
        with pytest.raises(NoSuchSeries, match="c"):
            store.columns(run, 0, 10, 10, ["a", "c"])
        with pytest.raises(OverflowError, match="20 columns of 2 series"):
            store.columns(run, 0, 100, 100, limit=19)
        assert store.columns(run, 0, 100, 100, limit=20)[0] == 10
        assert store.flush()
        store.path.unlink()
        with pytest.raises(sqlite3.Error):
            store.read(run, 0, 10)
        assert not store.path.exists()
