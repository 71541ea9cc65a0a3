"""What is recorded of a run, read back: every epoch exactly, or columns for a chart without reading every epoch."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from workflow_core.history import Column, HistoryData, SeriesData, buckets_each
from workflow_core.store.changes import Append, Begin, Change, Copy, Delete, Truncate
from workflow_core.store.pieces import BLOCK, FIGURES, Piece, column, digest, spans, turned

BLOCKS_EACH = 4
"""Blocks that a column must cover at least, so that none is split: then they differ by a quarter at most."""


class NoSuchSeries(LookupError):
    """A run has no series of this name."""


class Part(msgspec.Struct, frozen=True):
    """Some epochs of a run, from `start` to `stop` (exclusive): of a `piece` in memory, or of one on disk.

    The latter is that of `run` which begins at `start` and has `count` epochs.
    """

    start: int
    stop: int
    piece: Piece | None = None
    run: int = 0
    count: int = 0


class Recorded:
    """All that is recorded of a run by now: what is on disk, as `changes` that are not written yet leave it.

    `db` is to be in a transaction that began before any of them was written. Raises KeyError where there is no such
    run.
    """

    def __init__(self, db: sqlite3.Connection, run: int, changes: Sequence[Change] = ()) -> None:
        self._db = db
        names, self._parts = _listed(db, run, changes)
        if names is None:
            raise KeyError(run)
        self.names = names

    @property
    def epochs(self) -> int:
        """How many epochs there are."""
        return self._parts[-1].stop if self._parts else 0

    def values(self, start: int, stop: int, names: Sequence[str]) -> Iterator[tuple[int, list[array[float]]]]:
        """The epochs `start` to `stop` (exclusive) piece by piece: the first epoch of each, and a column a series."""
        wanted = [self.names.index(name) for name in names]
        for part, data in self._read("data", start, stop):
            first, last = max(part.start, start), min(part.stop, stop)
            yield first, [values[first - part.start : last - part.start] for values in _columns(part, data, wanted)]

    def columns(self, start: int, stop: int, count: int, names: Sequence[str]) -> dict[str, list[Column]]:
        """Each series in at most `count` columns of equal width that cover `start` to `stop` as far as it goes.

        Columns of many epochs begin and end with blocks, and so may those at the ends reach beyond `start` and `stop`.
        Epochs that could not be recorded are NaN.
        """
        start, stop = max(start, 0), min(stop, self.epochs)
        if stop <= start:
            return {name: [] for name in names}
        if stop - start <= count:
            return self._exact(start, stop, names)
        width = BLOCK if stop - start >= count * BLOCK * BLOCKS_EACH else 1
        begin, end = start // width, (stop - 1) // width + 1
        edges = [(begin + at * (end - begin) // count) * width for at in range(count + 1)]
        folds = self._folded(edges, width, names)
        edges[-1] = min(edges[-1], self.epochs)
        return {name: fold.columns(edges) for name, fold in zip(names, folds, strict=True)}

    def _exact(self, start: int, stop: int, names: Sequence[str]) -> dict[str, list[Column]]:
        columns: dict[str, list[Column]] = {}
        found = {name: [math.nan] * (stop - start) for name in names}
        for first, parts in self.values(start, stop, names):
            for own, values in zip(found.values(), parts, strict=True):
                own[first - start : first - start + len(values)] = values
        edges = range(start, stop + 1)
        for name, figures in found.items():
            finite = [figure if math.isfinite(figure) else math.nan for figure in figures]
            columns[name] = list(map(Column, edges, edges[1:], finite, finite, figures, figures))
        return columns

    def history(self, epochs: int) -> HistoryData:
        """The first epochs as a `History` holds them that was given one after the other."""
        epochs = min(epochs, self.epochs)
        cap, width = buckets_each(len(self.names)), 1
        while epochs > cap * width:
            width *= 2
        folds = self._folded([*range(0, epochs, width), epochs], width, self.names)
        series = {name: fold.data() for name, fold in zip(self.names, folds, strict=True)}
        return HistoryData(epochs=epochs, width=width, series=series if epochs else {})

    def _folded(self, edges: Sequence[int], width: int, names: Sequence[str]) -> list[_Fold]:
        """Each series in columns between `edges`, all but the last multiples of `width`; by blocks where that is so."""
        wanted = [self.names.index(name) for name in names]
        folds = [_Fold(edges) for _ in wanted]
        for part, data in self._read("summary" if width >= BLOCK else "data", edges[0], edges[-1]):
            # a block that was cut, or that the last edge goes through, says too much
            uncut = part.stop - part.start == part.count and (part.stop <= edges[-1] or edges[-1] % BLOCK == 0)
            if width >= BLOCK and uncut and data is not None:
                _fold_blocks(folds, wanted, edges, part, data)
                continue
            if width >= BLOCK and part.piece is None:
                [(part, data)] = self._read("data", part.start, part.start + 1)
            start, stop = max(part.start, edges[0]), min(part.stop, edges[-1])
            for fold, values in zip(folds, _columns(part, data, wanted), strict=True):
                fold.take_values(start, values[start - part.start : stop - part.start])
        return folds

    def _read(self, what: str, start: int, stop: int) -> Iterator[tuple[Part, bytes | None]]:
        """The parts that have a share in `start` to `stop`, those on disk each with its `data` or `summary`."""
        parts = [part for part in self._parts if part.start < stop and part.stop > start]
        on_disk = [part for part in parts if part.piece is None]
        if on_disk:
            rows = self._db.execute(
                f"SELECT {what} FROM epochs WHERE run = ? AND start BETWEEN ? AND ? ORDER BY start",
                (on_disk[0].run, on_disk[0].start, on_disk[-1].start),
            )
            yield from ((part, data) for part, (data,) in zip(on_disk, rows, strict=True))
        yield from ((part, None) for part in parts[len(on_disk) :])


def _columns(part: Part, data: bytes | None, wanted: Sequence[int]) -> list[array[float]]:
    if data is not None:
        return [column(data, part.count, index) for index in wanted]
    assert part.piece is not None
    return [part.piece.columns[index] for index in wanted]


def _listed(db: sqlite3.Connection, run: int, changes: Sequence[Change]) -> tuple[tuple[str, ...] | None, list[Part]]:
    """The names of the series of `run` (None where there is no such run), and its epochs in order."""
    row = db.execute("SELECT series FROM runs WHERE id = ?", (run,)).fetchone()
    names: tuple[str, ...] | None = tuple(json.loads(row[0])) if row is not None else None
    parts = []
    if names is not None:
        pieces = db.execute("SELECT start, count FROM epochs WHERE run = ? ORDER BY start", (run,))
        parts = [Part(start, start + count, None, run, count) for start, count in pieces]
    for at, change in enumerate(changes):
        match change:
            case Begin(view=view, series=series) if view.run == run and names is None:
                names = series
            case Append(view=view, piece=piece) if view.run == run and names is not None:
                parts = [*_cut(parts, piece.start), Part(piece.start, piece.stop, piece)]
            case Truncate(run=own, epochs=epochs) if own == run:
                parts = _cut(parts, epochs)
            case Copy(run=other, epochs=epochs, to=own) if own == run:
                parts = _cut(_listed(db, other, changes[:at])[1], epochs)
            case Delete(run=own) if own == run:
                names, parts = None, []
    return names, parts


def _cut(parts: list[Part], epochs: int) -> list[Part]:
    while parts and parts[-1].stop > epochs:
        last = parts[-1]
        parts = parts[:-1]
        if last.start < epochs:
            return [*parts, msgspec.structs.replace(last, stop=epochs)]
    return parts


class _Fold:
    """A series on its way into the columns between `edges`."""

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges = edges
        count = len(edges) - 1
        self._low = [math.nan] * count
        self._high = [math.nan] * count
        self._first: list[float | None] = [None] * count
        self._last = [math.nan] * count
        self._bad: int | None = None

    def take_values(self, start: int, values: array[float]) -> None:
        """The figures of the epochs from `start` on."""
        for at, a, b in spans(self._edges, start, start + len(values)):
            part = values[a - start : b - start].tolist()
            low, high, bad = digest(part)
            self.add(at, low, high, part[0], part[-1])
            if bad is not None and self._bad is None:
                self._bad = a + bad

    def add(self, at: int, low: float, high: float, first: float, last: float) -> None:
        """More of column `at`: it follows what that has by now."""
        if self._first[at] is None:
            self._low[at], self._high[at], self._first[at] = low, high, first
        else:
            # only a NaN is not equal to itself
            self._low[at] = low if self._low[at] != self._low[at] or low < self._low[at] else self._low[at]
            self._high[at] = high if self._high[at] != self._high[at] or high > self._high[at] else self._high[at]
        self._last[at] = last

    def bad(self, epoch: float) -> None:
        """The first bad epoch of what was added is this one, or infinity where there is none."""
        if self._bad is None and epoch != math.inf:
            self._bad = int(epoch)

    def columns(self, edges: Sequence[int]) -> list[Column]:
        """The columns, with `edges` that may end earlier."""
        return list(map(Column, edges, edges[1:], self._low, self._high, self._firsts(), self._last))

    def data(self) -> SeriesData:
        """The columns as the buckets of a series."""
        return SeriesData(low=self._low, high=self._high, first=self._firsts(), last=self._last, first_bad=self._bad)

    def _firsts(self) -> list[float]:
        return [math.nan if first is None else first for first in self._first]


def _fold_blocks(folds: Sequence[_Fold], wanted: Sequence[int], edges: Sequence[int], part: Part, data: bytes) -> None:
    """Let each fold take the blocks of a part, whose summary is `data`; `edges` go through none of them."""
    base = part.start // BLOCK
    blocks = (part.stop - 1) // BLOCK + 1 - base
    values = array("d")
    values.frombytes(data)
    values = turned(values)
    places = [
        (at, a // BLOCK - base, (b - 1) // BLOCK + 1 - base)
        for at, a, b in spans(edges, max(part.start, edges[0]), part.stop)
    ]
    for fold, index in zip(folds, wanted, strict=True):
        low, high, first, last, bad = (
            values[at : at + blocks] for at in range(index * FIGURES * blocks, (index + 1) * FIGURES * blocks, blocks)
        )
        for at, a, b in places:
            fold.add(at, _pick(min, low[a:b]), _pick(max, high[a:b]), first[a], last[b - 1])
        fold.bad(min(bad[places[0][1] : places[-1][2]]))


def _pick(pick: Callable[[Iterable[float]], float], values: array[float]) -> float:
    """The least or greatest of figures that are finite or NaN."""
    if math.isnan(sum(values)):
        return pick([value for value in values if value == value] or [math.nan])
    return pick(values)
