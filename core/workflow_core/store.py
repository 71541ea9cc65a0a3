"""Every epoch of every run on disk, in one SQLite file, written by a thread of its own: training waits for no disk.

`runs` holds a row a run, with its settings as TOML and the names of its series as a JSON list. `epochs` holds them in
pieces: `count` epochs from `start`, as one blob of little-endian float64, all of the first series, then all of the
second and so on; NaN and infinity are kept as they are. Any tool that reads SQLite can take a piece apart, in Python
with `array("d", data)`. Rows of their own would take ten times the time of the loop that they record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from workflow_core.errors import Problem

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, begun REAL NOT NULL, settings TEXT NOT NULL, series TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'ready', reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS epochs (
    run INTEGER NOT NULL REFERENCES runs (id), start INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (run, start)
) WITHOUT ROWID;
"""
KILLED = "the engine ended before the run did"
INTERVAL = 0.5
"""Seconds between two transactions."""
MAX_WAITING = 64 * 1024 * 1024
"""Bytes that may wait for a disk that takes none; epochs beyond that are not recorded, and that is said."""
BUSY = 5.0
"""Seconds to wait for another program that holds the file."""

log = logging.getLogger(__name__)


class _Begin(msgspec.Struct):
    """A run that began: its row."""

    run: int
    begun: float
    settings: str
    series: str
    size: int = 0

    def write(self, db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO runs (id, begun, settings, series) VALUES (?, ?, ?, ?)",
            (self.run, self.begun, self.settings, self.series),
        )


class _Piece(msgspec.Struct):
    """Consecutive epochs of a run, a column a series; `size` is their bytes."""

    run: int
    start: int
    columns: list[array[float]]
    size: int

    @property
    def count(self) -> int:
        return len(self.columns[0])

    def write(self, db: sqlite3.Connection) -> None:
        data = b"".join(_little_endian(column).tobytes() for column in self.columns)
        db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?)", (self.run, self.start, self.count, data))


class _State(msgspec.Struct):
    """How a run stands."""

    run: int
    state: str
    reason: str
    size: int = 0

    def write(self, db: sqlite3.Connection) -> None:
        db.execute("UPDATE runs SET state = ?, reason = ? WHERE id = ?", (self.state, self.reason, self.run))


class _Delete(msgspec.Struct):
    """A run that is to be forgotten."""

    run: int
    size: int = 0

    def write(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM epochs WHERE run = ?", (self.run,))
        db.execute("DELETE FROM runs WHERE id = ?", (self.run,))


class _Copy(msgspec.Struct):
    """The first epochs of a run, which another one begins with."""

    run: int
    epochs: int
    to: int
    size: int = 0

    def write(self, db: sqlite3.Connection) -> None:
        pieces = db.execute(
            "SELECT start, count, data FROM epochs WHERE run = ? AND start < ? ORDER BY start", (self.run, self.epochs)
        )
        for start, count, data in pieces.fetchall():
            kept = min(count, self.epochs - start)
            if kept < count:
                width = len(data) // count // 8
                data = b"".join(data[8 * index * count : 8 * (index * count + kept)] for index in range(width))
            db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?)", (self.to, start, kept, data))


class Store:
    """The runs of one workspace. `tell` gets a Problem when the disk takes no more; the thread calls it, once each
    time.

    `begin`, `append` and `set_state` return at once and never raise for what the disk does; what they are told is on
    disk after about `INTERVAL` seconds, or after `flush`. Raises sqlite3.Error or OSError where the file is no store.
    """

    def __init__(self, path: Path, tell: Callable[[Problem], None] = lambda problem: None) -> None:
        self.path = path
        self._tell = tell
        self._changed = threading.Condition()
        self._work: list[_Begin | _Piece | _State | _Delete | _Copy] = []
        self._waiting = 0
        self._lost = False
        self._failed = False
        self._closing = False
        self._asked = self._done = 0
        with contextlib.closing(self._connect()) as db:
            with db:  # of an engine that was killed: there is only one at a time
                db.execute("UPDATE runs SET state = 'interrupted', reason = ? WHERE state = 'running'", (KILLED,))
            self._last = int(db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0])
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def begin(self, settings: str, series: Sequence[str]) -> int:
        """A new run with its settings as TOML; gives the id that its epochs are recorded under."""
        with self._changed:
            self._last += 1
            self._work.append(_Begin(self._last, time.time(), settings, json.dumps(list(series))))
            return self._last

    def append(self, run: int, start: int, columns: Mapping[str, Sequence[float]]) -> None:
        """The epochs of `run` from `start` on: all its series, in the order that `begin` was told."""
        fresh = [array("d", column) for column in columns.values()]
        size = sum(len(column) * column.itemsize for column in fresh)
        with self._changed:
            if self._waiting + size > MAX_WAITING:
                self._lost = True
                return
            self._waiting += size
            last = self._work[-1] if self._work else None
            if isinstance(last, _Piece) and last.run == run and last.start + last.count == start:
                for column, more in zip(last.columns, fresh, strict=True):
                    column.extend(more)
                last.size += size
            else:
                self._work.append(_Piece(run, start, fresh, size))

    def set_state(self, run: int, state: str, reason: str = "") -> None:
        """How the run stands now, and why it ended where it has."""
        with self._changed:
            self._work.append(_State(run, state, reason))

    def delete(self, run: int) -> None:
        """Forget a run and its epochs."""
        with self._changed:
            self._work.append(_Delete(run))

    def copy(self, run: int, epochs: int, to: int) -> None:
        """Let the run `to`, which has begun, begin with the first epochs of another one."""
        with self._changed:
            self._work.append(_Copy(run, epochs, to))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was told so far is on disk; False where it is not by then."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= asked, timeout) and not self._failed

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def read(self, run: int, start: int, stop: int) -> dict[str, array[float]]:
        """The epochs `start` to `stop` (exclusive) of `run` as far as they are on disk: a column a series.

        Raises KeyError for a run that is not there.
        """
        with contextlib.closing(self._connect()) as db:
            row = db.execute("SELECT series FROM runs WHERE id = ?", (run,)).fetchone()
            if row is None:
                raise KeyError(run)
            found = {name: array("d") for name in json.loads(row[0])}
            pieces = db.execute(
                "SELECT start, count, data FROM epochs "
                "WHERE run = ? AND start < ? AND start + count > ? ORDER BY start",
                (run, stop, start),
            )
            for at, count, data in pieces:
                values = array("d")
                values.frombytes(data)
                first, last = max(start - at, 0), min(stop - at, count)
                for index, column in enumerate(found.values()):
                    column.extend(_little_endian(values[index * count + first : index * count + last]))
        return found

    # --- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.closing(_Connection(self._connect)) as connection:
            self._work_through(connection)

    def _work_through(self, connection: _Connection) -> None:
        was_lost = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._asked > self._done, INTERVAL)
                asked, closing = self._asked, self._closing
                work, self._work = self._work, []
                lost, self._lost = self._lost, False
            if work:
                self._write(connection, work)
            if lost and not was_lost:
                self._say("more epochs wait for it than fit in memory, and some are left out")
            was_lost = lost
            with self._changed:
                self._done = asked
                self._changed.notify_all()
            if closing:
                return

    def _write(self, connection: _Connection, work: list[_Begin | _Piece | _State | _Delete | _Copy]) -> None:
        """All of it in one transaction, or none of it: then it waits for the next one."""
        try:
            with connection.get() as db:
                for item in work:
                    item.write(db)
        except (sqlite3.Error, OSError) as error:
            log.warning("the store cannot be written: %s", error)
            connection.close()
            with self._changed:
                self._work = work + self._work
            if not self._failed:
                self._failed = True
                self._say(str(error))
            return
        with self._changed:
            self._waiting -= sum(item.size for item in work)
        self._failed = False

    def _say(self, reason: str) -> None:
        self._tell(
            Problem(
                title="Epochs are not being recorded",
                message=f"{self.path} cannot be written: {reason}. The training goes on.",
                advice="Make room on the disk, or see to it; what still waits is written then.",
            )
        )

    def _connect(self) -> sqlite3.Connection:
        # what SQLite puts beside the file later is as private as the file itself
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, timeout=BUSY)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
        return db


class _Connection:
    """A connection that is made when it is needed, and anew after a failure: closing the last one costs an fsync."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._db: sqlite3.Connection | None = None

    def get(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._connect()
        return self._db

    def close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _little_endian(column: array[float]) -> array[float]:
    if sys.byteorder == "big":
        column = array("d", column)
        column.byteswap()
    return column
