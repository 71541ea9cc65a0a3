"""Pieces of a record: consecutive epochs as bytes, and what a chart needs of them without reading them all."""

from __future__ import annotations

import bisect
import math
import sys
from array import array
from collections.abc import Iterator, Sequence

import msgspec

BLOCK = 128
"""Epochs that are summed up together. They begin at its multiples, whatever the pieces are."""
PIECE = 256 * 1024
"""Bytes up to which pieces are put together: fewer of them are read faster, larger ones are written more often."""
FIGURES = 5
"""What the summary of a block holds of each series: least, greatest, first and last figure, and its first bad epoch."""


class Piece(msgspec.Struct, frozen=True):
    """Consecutive epochs of a run from `start` on, a column a series."""

    start: int
    columns: list[array[float]]

    @property
    def stop(self) -> int:
        """The epoch after the last one."""
        return self.start + len(self.columns[0])

    @property
    def size(self) -> int:
        """Bytes of its figures."""
        return sum(len(column) * column.itemsize for column in self.columns)

    def cut(self, stop: int) -> Piece:
        """Those of its epochs that lie before `stop`."""
        return Piece(self.start, [column[: stop - self.start] for column in self.columns])

    def joined(self, later: Piece) -> Piece:
        """This piece and the one that follows it."""
        return Piece(self.start, [own + more for own, more in zip(self.columns, later.columns, strict=True)])

    def pack(self) -> bytes:
        """All of the first series, then all of the second and so on."""
        return b"".join(turned(column).tobytes() for column in self.columns)

    def summary(self) -> bytes:
        """The figures of the blocks that it has a part in: for each series all of the first figure, then the others.

        Least and greatest are the finite ones, NaN where there is none; the first bad epoch is the first whose figure
        is NaN or infinite, infinity where there is none.
        """
        edges = range(self.start // BLOCK * BLOCK, self.stop + BLOCK, BLOCK)
        places = [(a, a - self.start, b - self.start) for _, a, b in spans(edges, self.start, self.stop)]
        found = bytearray()
        for values in self.columns:
            blocks = [_summed(epoch, values[a:b].tolist()) for epoch, a, b in places]
            for figures in zip(*blocks, strict=True):
                found += turned(array("d", figures)).tobytes()
        return bytes(found)


def _summed(epoch: int, values: list[float]) -> tuple[float, float, float, float, float]:
    low, high, bad = digest(values)
    return low, high, values[0], values[-1], math.inf if bad is None else float(epoch + bad)


def unpacked(start: int, count: int, data: bytes) -> Piece:
    """The piece that was packed to `data`."""
    return Piece(start, [column(data, count, at) for at in range(len(data) // (8 * count))])


def column(data: bytes, count: int, index: int) -> array[float]:
    """One series of a packed piece."""
    values = array("d")
    values.frombytes(memoryview(data)[index * count * 8 : (index + 1) * count * 8])
    return turned(values)


def spans(edges: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Where `start` to `stop` falls between rising `edges`: each column that it has a part in, and that part."""
    at = max(bisect.bisect_right(edges, start) - 1, 0)
    while at < len(edges) - 1 and edges[at] < stop:
        yield at, max(edges[at], start), min(edges[at + 1], stop)
        at += 1


def digest(values: list[float]) -> tuple[float, float, int | None]:
    """The least and the greatest finite one of at least one value (NaN: there is none), and where the first bad is."""
    # a sum is finite only where all its parts are, and takes a tenth of the time of looking at each
    if math.isfinite(sum(values)):
        return min(values), max(values), None
    finite = [value for value in values if math.isfinite(value)]
    bad = None
    if len(finite) < len(values):
        bad = next(at for at, value in enumerate(values) if not math.isfinite(value))
    return min(finite, default=math.nan), max(finite, default=math.nan), bad


def turned(values: array[float]) -> array[float]:
    """`values` between this machine's order of bytes and the file's, which is little-endian."""
    if sys.byteorder == "big":
        values = array("d", values)
        values.byteswap()
    return values
