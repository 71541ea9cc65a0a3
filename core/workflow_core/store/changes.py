"""What a store is told, one change after the other: each knows how it is written, inside a transaction of many."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence

import msgspec

from workflow_core.store import schema
from workflow_core.store.pieces import PIECE, Piece, unpacked
from workflow_core.views import RunView

OVERHEAD = 512
"""Bytes that a piece takes in memory beside its figures, or more."""
STEP = 16
"""Pieces of a deleted run that one transaction frees."""

log = logging.getLogger(__name__)


class Begin(msgspec.Struct, frozen=True):
    """A run that began: its row."""

    view: RunView
    series: tuple[str, ...]

    def write(self, db: sqlite3.Connection) -> None:
        schema.insert(db, self.view, self.series)


class Append(msgspec.Struct, frozen=True):
    """The next epochs of a run, and how it stands after them."""

    view: RunView
    piece: Piece

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        return self.piece.size + OVERHEAD + 64 * len(self.piece.columns)

    def write(self, db: sqlite3.Connection) -> None:
        run, piece = self.view.run, self.piece
        if not _exists(db, run):
            return
        cut(db, run, piece.start)
        # as long as the one before is no longer than this: so no epoch is written more often than the logarithm
        # of what a piece may hold, and the fewest pieces are left
        while (before := _last(db, run)) and before[1] == piece.start:
            count = before[1] - before[0]
            if count > piece.stop - piece.start or piece.size + count * 8 * len(piece.columns) > PIECE:
                break
            piece = _read(db, run, before[0]).joined(piece)
            _remove(db, run, before[0])
        _insert(db, run, piece)
        schema.update(db, self.view)


class Note(msgspec.Struct, frozen=True):
    """How a run stands now."""

    view: RunView

    def write(self, db: sqlite3.Connection) -> None:
        schema.update(db, self.view)


class Truncate(msgspec.Struct, frozen=True):
    """Take epochs back: the run has only so many."""

    run: int
    epochs: int

    def write(self, db: sqlite3.Connection) -> None:
        if not cut(db, self.run, self.epochs):
            return
        last = _last(db, self.run)
        if last is None:
            schema.note_last(db, self.run, 0, {})
            return
        (series,) = db.execute("SELECT series FROM runs WHERE id = ?", (self.run,)).fetchone()
        columns = _read(db, self.run, last[0]).columns
        schema.note_last(
            db, self.run, last[1], {name: c[-1] for name, c in zip(json.loads(series), columns, strict=True)}
        )


class Copy(msgspec.Struct, frozen=True):
    """The first epochs of a run as those of another one, which has its row and no epochs yet."""

    run: int
    epochs: int
    to: int

    def write(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT series FROM runs WHERE id IN (?, ?)", (self.run, self.to)).fetchall()
        if len(rows) < 2 or rows[0] != rows[1]:
            log.warning("run %d does not go on from run %d: not the same series", self.to, self.run)
            return
        db.execute(
            "INSERT INTO epochs SELECT ?, start, count, summary, data FROM epochs WHERE run = ? AND start < ?",
            (self.to, self.run, self.epochs),
        )
        cut(db, self.to, self.epochs)


class Edit(msgspec.Struct, frozen=True):
    """Name and pin of a run, which are its user's; None leaves as it is."""

    run: int
    name: str | None
    pinned: bool | None

    def write(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE runs SET name = coalesce(?, name), pinned = coalesce(?, pinned) WHERE id = ?",
            (self.name, self.pinned, self.run),
        )


class Delete(msgspec.Struct, frozen=True):
    """Forget a run at once; its epochs are freed by `sweep`, some at a time."""

    run: int

    def write(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM runs WHERE id = ?", (self.run,))
        db.execute("INSERT OR IGNORE INTO deleted VALUES (?)", (self.run,))


class Numbered(msgspec.Struct, frozen=True):
    """The last number that was given to a `run` or a `race`."""

    kind: str
    last: int

    def write(self, db: sqlite3.Connection) -> None:
        db.execute("UPDATE numbers SET last = max(last, ?) WHERE kind = ?", (self.last, self.kind))


class There(msgspec.Struct, frozen=True):
    """The run and the race that an engine to come will find; 0 for none."""

    run: int
    race: int

    def write(self, db: sqlite3.Connection) -> None:
        found = (schema.RUN_THERE, self.run), (schema.RACE_THERE, self.race)
        db.executemany("INSERT OR REPLACE INTO numbers VALUES (?, ?)", found)


Change = Begin | Append | Note | Truncate | Copy | Edit | Delete | Numbered | There


def put_together(changes: Sequence[Change]) -> list[Change]:
    """The same changes with the epochs of a run that follow each other as one piece: they are far faster to write."""
    fewer: list[Change | list[Append]] = []
    open_: dict[int, list[Append]] = {}
    for change in changes:
        if not isinstance(change, Append):
            open_.clear()
            fewer.append(change)
        elif (group := open_.get(change.view.run)) and group[-1].piece.stop == change.piece.start:
            group.append(change)
        else:
            open_[change.view.run] = group = [change]
            fewer.append(group)
    return [_joined(part) if isinstance(part, list) else part for part in fewer]


def _joined(appends: list[Append]) -> Append:
    if len(appends) == 1:
        return appends[0]
    columns = [column[:] for column in appends[0].piece.columns]
    for later in appends[1:]:
        for column, more in zip(columns, later.piece.columns, strict=True):
            column.extend(more)
    return Append(appends[-1].view, Piece(appends[0].piece.start, columns))


def cut(db: sqlite3.Connection, run: int, epochs: int) -> bool:
    """Take the epochs from `epochs` on off a run; were there any?"""
    last = _last(db, run)
    if last is None or last[1] <= epochs:
        return False
    for (start,) in db.execute("SELECT start FROM epochs WHERE run = ? AND start >= ?", (run, epochs)).fetchall():
        _remove(db, run, start)
    last = _last(db, run)
    if last is not None and last[1] > epochs:
        piece = _read(db, run, last[0]).cut(epochs)
        _remove(db, run, piece.start)
        _insert(db, run, piece)
    return True


def sweep(db: sqlite3.Connection) -> bool:
    """Free some of what deleted runs have left, in a transaction of its own; is there more?"""
    found = db.execute("SELECT min(run) FROM deleted").fetchone()[0]
    if found is None:
        return False
    with schema.transaction(db):
        starts = db.execute("SELECT start FROM epochs WHERE run = ? LIMIT ?", (found, STEP)).fetchall()
        for (start,) in starts:
            _remove(db, found, start)
        if len(starts) < STEP:
            db.execute("DELETE FROM deleted WHERE run = ?", (found,))
    return True


def _exists(db: sqlite3.Connection, run: int) -> bool:
    return db.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is not None


def _last(db: sqlite3.Connection, run: int) -> tuple[int, int] | None:
    """Where the last piece of `run` starts and stops."""
    row = db.execute("SELECT start, count FROM epochs WHERE run = ? ORDER BY start DESC LIMIT 1", (run,)).fetchone()
    return (row[0], row[0] + row[1]) if row is not None else None


def _read(db: sqlite3.Connection, run: int, start: int) -> Piece:
    row = db.execute("SELECT start, count, data FROM epochs WHERE run = ? AND start = ?", (run, start)).fetchone()
    return unpacked(*row)


def _insert(db: sqlite3.Connection, run: int, piece: Piece) -> None:
    count = piece.stop - piece.start
    row = run, piece.start, count, piece.summary(), piece.pack()
    db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", row)


def _remove(db: sqlite3.Connection, run: int, start: int) -> None:
    db.execute("DELETE FROM epochs WHERE run = ? AND start = ?", (run, start))
