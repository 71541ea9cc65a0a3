"""Multi-resolution series: however many epochs, bounded memory, and no extreme is ever lost.

A series holds at most `cap` buckets of equal width, each with the minimum, maximum, first and last value of its
epochs. When they are full, neighbours merge and the width doubles. NaN and infinity are not part of minimum and
maximum, which would break any axis; the first epoch that has one is remembered instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

CAP = 4096
RECORDED = ("train_loss", "val_loss", "learning_rate", "grad_norm")
"""The series of every run (`val_loss` only with validation rows); all others are the tracked values of its model."""
MAX_BUCKETS = 64 * CAP
"""Buckets of all series together: a snapshot of them must fit into one frame, whatever model is trained."""
_NAN = math.nan


def buckets_each(series: int) -> int:
    """The buckets that each of so many series may have: a power of two, at most CAP."""
    cap = CAP
    while cap > 16 and cap * series > MAX_BUCKETS:
        cap //= 2
    return cap


class SeriesData(msgspec.Struct, frozen=True, kw_only=True):
    """A series as plain values: what goes over the wire. The last bucket may be only partly filled."""

    low: list[float]
    high: list[float]
    first: list[float]
    last: list[float]
    first_bad: int | None


class HistoryData(msgspec.Struct, frozen=True, kw_only=True):
    """All series of one run: `epochs` of each, in buckets of `width` epochs."""

    epochs: int
    width: int
    series: dict[str, SeriesData]


NOTHING = HistoryData(epochs=0, width=1, series={})


class Column(msgspec.Struct, frozen=True, array_like=True):
    """What a chart draws in one column: the extremes over `start` to `stop` (exclusive), and the last value there."""

    start: int
    stop: int
    low: float
    high: float
    first: float
    last: float


class Series:
    """One named figure over the epochs, from epoch 0 without gaps."""

    __slots__ = ("cap", "epochs", "first", "first_bad", "high", "last", "low", "width")

    def __init__(self, cap: int = CAP) -> None:
        assert cap >= 2
        assert cap % 2 == 0
        self.cap = cap
        self.width = 1
        self.epochs = 0
        self.low: list[float] = []
        self.high: list[float] = []
        self.first: list[float] = []
        self.last: list[float] = []
        self.first_bad: int | None = None

    def extend(self, values: Sequence[float]) -> None:
        """Add the values of the next epochs, in order."""
        at = 0
        while at < len(values):
            filled = self.epochs % self.width
            if not filled and len(self.low) == self.cap:
                self._halve()
                continue
            take = min(self.width - filled, len(values) - at)
            if self.width == 1:
                take = min(self.cap - len(self.low), len(values) - at)
            chunk = values[at : at + take]
            if self.first_bad is None and not all(map(math.isfinite, chunk)):
                bad = next(i for i, value in enumerate(chunk) if not math.isfinite(value))
                self.first_bad = self.epochs + bad
            if self.width == 1:
                self._append_each(chunk)
                at += take
                continue
            good = chunk if self.first_bad is None else [value for value in chunk if math.isfinite(value)]
            low, high = (min(good), max(good)) if good else (_NAN, _NAN)
            if filled:
                self.low[-1] = _least(self.low[-1], low)
                self.high[-1] = _most(self.high[-1], high)
                self.last[-1] = chunk[-1]
            else:
                self.low.append(low)
                self.high.append(high)
                self.first.append(chunk[0])
                self.last.append(chunk[-1])
            self.epochs += take
            at += take

    def _append_each(self, values: Sequence[float]) -> None:
        """A bucket for every value."""
        extremes = values
        if self.first_bad is not None:
            extremes = [value if math.isfinite(value) else _NAN for value in values]
        self.low.extend(extremes)
        self.high.extend(extremes)
        self.first.extend(values)
        self.last.extend(values)
        self.epochs += len(values)

    def _halve(self) -> None:
        self.low = [_least(a, b) for a, b in zip(self.low[::2], self.low[1::2], strict=True)]
        self.high = [_most(a, b) for a, b in zip(self.high[::2], self.high[1::2], strict=True)]
        self.first = self.first[::2]
        self.last = self.last[1::2]
        self.width *= 2

    def columns(self, count: int, start: int, stop: int) -> list[Column]:
        """At most `count` columns that cover the epochs `start` to `stop` (exclusive) as far as they exist.

        The least `low` and greatest `high` of the columns are those of the buckets that were covered: nothing is lost.
        Columns never split a bucket; where there are fewer buckets than columns each bucket is a column.
        """
        start, stop = max(start, 0), min(stop, self.epochs)
        if count < 1 or stop <= start:
            return []
        begin, end = start // self.width, (stop - 1) // self.width + 1
        buckets = end - begin
        columns = []
        for column in range(min(count, buckets)):
            a = begin + column * buckets // min(count, buckets)
            b = begin + (column + 1) * buckets // min(count, buckets)
            columns.append(
                Column(
                    a * self.width,
                    min(b * self.width, self.epochs),
                    _fold(_least, self.low[a:b]),
                    _fold(_most, self.high[a:b]),
                    self.first[a],
                    self.last[b - 1],
                )
            )
        return columns

    def extremes(self) -> tuple[float, float] | None:
        """The least and greatest finite value so far, or None where there is none."""
        low, high = _fold(_least, self.low), _fold(_most, self.high)
        return None if math.isnan(low) else (low, high)


def _least(a: float, b: float) -> float:
    return b if a != a or b < a else a


def _most(a: float, b: float) -> float:
    return b if a != a or b > a else a


def _fold(pick: object, values: Iterable[float]) -> float:
    finite = [value for value in values if value == value]
    if not finite:
        return _NAN
    return min(finite) if pick is _least else max(finite)


class History:
    """The series of one run, all of the same length; `cap` None lets their number decide how many buckets each has."""

    def __init__(self, cap: int | None = None) -> None:
        self.cap = cap
        self.series: dict[str, Series] = {}

    @property
    def epochs(self) -> int:
        """How many epochs every series holds."""
        return next((series.epochs for series in self.series.values()), 0)

    def extend(self, values: Mapping[str, Sequence[float]]) -> None:
        """Add the next epochs; every call names the same series, with equally many values. Raises ValueError if not."""
        if len({len(column) for column in values.values()}) > 1:
            raise ValueError("series of different lengths")
        if self.series and set(values) != set(self.series):
            raise ValueError(f"series {sorted(values)} do not match {sorted(self.series)}")
        if not self.series:
            cap = self.cap or buckets_each(len(values))
            self.series = {name: Series(cap) for name in values}
        for name, column in values.items():
            self.series[name].extend(column)

    @property
    def width(self) -> int:
        """How many epochs a bucket of every series holds."""
        return next((series.width for series in self.series.values()), 1)

    @property
    def first_bad(self) -> int | None:
        """The first epoch in which any series was NaN or infinite."""
        return min((s.first_bad for s in self.series.values() if s.first_bad is not None), default=None)

    def to_data(self) -> HistoryData:
        """A snapshot for the wire."""
        return HistoryData(
            epochs=self.epochs,
            width=self.width,
            series={
                name: SeriesData(
                    low=list(s.low),
                    high=list(s.high),
                    first=list(s.first),
                    last=list(s.last),
                    first_bad=s.first_bad,
                )
                for name, s in self.series.items()
            },
        )

    @classmethod
    def from_data(cls, data: HistoryData, cap: int | None = None) -> History:
        """The history a snapshot was taken of; both go on alike."""
        history = cls(cap)
        for name, part in data.series.items():
            series = history.series[name] = Series(cap or buckets_each(len(data.series)))
            series.width, series.epochs = data.width, data.epochs
            series.low, series.high = list(part.low), list(part.high)
            series.first, series.last = list(part.first), list(part.last)
            series.first_bad = part.first_bad
        return history
