"""Every run and each of its epochs on disk, in one SQLite file, by a thread of its own: training waits for no disk.

`runs` holds a row a run: its settings as TOML, the names of its series as a JSON list, its result. `epochs` holds
them in pieces: `count` epochs from `start`, as one blob of little-endian float64, all of the first series, then all
of the second and so on; NaN and infinity are kept as they are. Any tool that reads SQLite can take a piece apart, in
Python with `array("d", data)`. Rows of their own would take ten times the time of the loop that they record.
`summary` is what a chart needs of the piece (see pieces.py); `numbers` are the last ones that a run and a race got, so
that none is given again; what `deleted` runs have left is freed a little at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from workflow_core import atomic
from workflow_core.errors import Problem, WorkflowError
from workflow_core.history import Column, HistoryData
from workflow_core.store import schema
from workflow_core.store.changes import (
    Append,
    Begin,
    Change,
    Copy,
    Delete,
    Edit,
    Note,
    Numbered,
    There,
    Truncate,
    put_together,
    sweep,
)
from workflow_core.store.pieces import Piece
from workflow_core.store.reading import NoSuchSeries, Recorded
from workflow_core.views import RunView

INTERVAL = 0.5
"""Seconds between two transactions."""
RETRY = 5.0
"""Seconds until a disk that took nothing is tried again, unless somebody waits: each time it gets all that waits."""
SWEEP_INTERVAL = 0.02
"""Seconds between two transactions while the epochs of a deleted run are freed."""
MAX_WAITING = 64 * 1024 * 1024
"""Bytes that may wait for a disk that takes none; epochs beyond that are not recorded, and that is said."""
REMOVED = "Put it back, or save the model elsewhere before you leave: nothing can be kept there."
"""What to do about a workspace that is no longer there."""

__all__ = ["NoSuchSeries", "Store"]

log = logging.getLogger(__name__)


class Store:
    """The runs of one workspace. `tell` gets a Problem when the disk takes no more, and None when it does again; the
    thread calls it, once each time.

    What changes something returns at once and never raises for what the disk does; about `INTERVAL` seconds later it
    outlasts the engine, after `flush` a power cut as well. What reads sees all of it at once. A killed engine leaves
    each run with all epochs up to some point, and the result that belongs to them. Raises sqlite3.Error or OSError
    where the file is no store, and WorkflowError where it is one of a later version of the program. `killed` are the
    numbers of the runs that were training when the engine before was killed, `left` of those that it has left to come
    back.
    """

    def __init__(self, path: Path, tell: Callable[[Problem | None], None] = lambda problem: None) -> None:
        self.path = path
        self._tell = tell
        self._changed = threading.Condition()
        self._work: list[Change] = []
        self._writing: list[Change] = []
        # from a commit to when its changes no longer count as waiting nobody may begin to read
        self._committing = threading.Lock()
        self._waiting = 0
        self._lost = False
        self._failed = False
        self._removed = False
        self._told = False
        self._closing = False
        self._soon = False
        self._asked = self._done = 0
        self._sweeping = True
        with contextlib.closing(schema.connect(path)) as db:
            with schema.transaction(db):  # of an engine that was killed: there is only one at a time
                killed = db.execute("SELECT id FROM runs WHERE state = 'running' ORDER BY id").fetchall()
                db.execute(
                    "UPDATE runs SET state = 'interrupted', reason = ? WHERE state = 'running'", (schema.KILLED,)
                )
            self.killed = tuple(int(number) for (number,) in killed)
            self.left = schema.left(db)
            self._file = path.stat()
            self._numbers: dict[str, int] = dict(db.execute("SELECT kind, last FROM numbers"))
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def number(self, kind: str = "run") -> int:
        """A number that no run (or `race`) of this workspace has had, or will have again."""
        with self._changed:
            self._numbers[kind] += 1
            self._work.append(Numbered(kind, self._numbers[kind]))
            # an engine that is killed before this is on disk gives the number again
            self._soon = True
            self._changed.notify_all()
            return self._numbers[kind]

    def there(self, run: int, race: int) -> None:
        """Note which run and which race an engine to come will find; 0 for none."""
        self._add(There(run, race))

    def begin(self, view: RunView, series: Sequence[str]) -> None:
        """Keep a run, by the number that was reserved for it."""
        self._add(Begin(view, tuple(series)))

    def append(self, view: RunView, start: int, columns: Mapping[str, Sequence[float]]) -> None:
        """The epochs of a run from `start` on, and how it stands after them.

        All series are there, in the order that `begin` was told. Epochs from `start` on that it has already are taken
        back.
        """
        change = Append(view, Piece(start, [array("d", column) for column in columns.values()]))
        with self._changed:
            if self._waiting + change.size > MAX_WAITING:
                self._lost = True
                return
            self._waiting += change.size
            self._work.append(change)

    def note(self, view: RunView) -> None:
        """How a run stands now; its name and pin are left alone."""
        self._add(Note(view))

    def truncate(self, run: int, epochs: int) -> None:
        """Take the epochs from `epochs` on back: the run goes on from there."""
        self._add(Truncate(run, epochs))

    def copy(self, run: int, epochs: int, to: int) -> None:
        """Let run `to`, which was begun and has no epochs, have the first `epochs` of `run`."""
        self._add(Copy(run, epochs, to))

    def edit(self, run: int, name: str | None = None, pinned: bool | None = None) -> None:
        """Name a run, or pin it; None leaves as it is."""
        self._add(Edit(run, name, pinned))

    def delete(self, run: int) -> None:
        """Forget a run. Its room in the file is used again."""
        self._add(Delete(run))

    def _add(self, change: Change) -> None:
        with self._changed:
            self._work.append(change)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was told so far outlasts a power cut; False where it does not by then."""
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

    # --- reading: from any thread, all that was told so far ------------------------------------------

    def runs(self, others: int) -> list[RunView]:
        """The pinned runs and the newest `others`, newest first, as far as they are on disk. Raises sqlite3.Error."""
        with contextlib.closing(schema.connect_to_read(self.path)) as db:
            newest = "SELECT id FROM runs WHERE NOT pinned ORDER BY id DESC LIMIT ?"
            return schema.select(db, f"pinned OR id IN ({newest})", (others,))

    def find(self, run: int) -> RunView:
        """A run as it is on disk. Raises KeyError where there is none, and sqlite3.Error."""
        with contextlib.closing(schema.connect_to_read(self.path)) as db:
            found = schema.select(db, "id = ?", (run,))
        if not found:
            raise KeyError(run)
        return found[0]

    def read(self, run: int, start: int, stop: int, names: Sequence[str] = ()) -> dict[str, array[float]]:
        """The epochs `start` to `stop` (exclusive) of `run` as far as there are any: a column a series.

        `names` empty is all series. Raises KeyError for a run that is not there, and sqlite3.Error.
        """
        with self._record(run) as record:
            found = {name: array("d") for name in names or record.names}
            for _, columns in record.values(start, stop, list(found)):
                for own, more in zip(found.values(), columns, strict=True):
                    own.extend(more)
        return found

    def columns(
        self, run: int, start: int, stop: int, count: int, names: Sequence[str] = (), limit: int = sys.maxsize
    ) -> tuple[int, dict[str, list[Column]]]:
        """How many epochs `run` has, and series of it in at most `count` columns (see `Recorded.columns`).

        `names` empty is all series. Raises KeyError for a run and NoSuchSeries for a series that is not there,
        OverflowError where there would be more than `limit` columns in all, and sqlite3.Error.
        """
        with self._record(run) as record:
            if unknown := set(names).difference(record.names):
                raise NoSuchSeries(min(unknown))
            names = names or record.names
            if (total := min(count, max(stop - start, 0), record.epochs) * len(names)) > limit:
                raise OverflowError(f"{total:,} columns of {len(names):,} series are over the limit of {limit:,}")
            return record.epochs, record.columns(start, stop, count, names)

    def history(self, run: int, epochs: int) -> HistoryData:
        """The first `epochs` of `run` as a `History` holds them. Raises KeyError and sqlite3.Error."""
        with self._record(run) as record:
            return record.history(epochs)

    @contextlib.contextmanager
    def _record(self, run: int) -> Iterator[Recorded]:
        with contextlib.closing(schema.connect_to_read(self.path)) as db:
            with self._committing:
                with self._changed:
                    changes = [*self._writing, *self._work]
                # what is seen from the first look on is what is there now
                db.execute("BEGIN")
                db.execute("SELECT 1 FROM runs").fetchone()
            yield Recorded(db, run, changes)

    # --- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.closing(_Connection(self.path, self._file)) as connection:
            self._work_through(connection)

    def _work_through(self, connection: _Connection) -> None:
        was_lost = False
        while True:
            with self._changed:
                pause = RETRY if self._failed else SWEEP_INTERVAL if self._sweeping else INTERVAL
                self._changed.wait_for(lambda: self._closing or self._soon or self._asked > self._done, pause)
                self._soon = False
                asked, closing = self._asked, self._closing
                self._writing, self._work = self._work, []
                lost, self._lost = self._lost, False
            self._write(connection, lasting=asked > self._done)
            if lost and not was_lost:
                self._say("more epochs wait for it than fit in memory, and some are left out")
            elif self._told and not lost and not self._failed:
                self._told = False
                log.info("the store is written again")
                self._tell(None)
            was_lost = lost
            with self._changed:
                self._done = asked
                self._changed.notify_all()
            if closing:
                return

    def _write(self, connection: _Connection, lasting: bool) -> None:
        """All that waits in one transaction, or none of it: then it waits for the next one."""
        changes = self._writing
        try:
            if changes:
                self._commit(connection.get(), changes)
            if self._sweeping or any(isinstance(change, Delete) for change in changes):
                self._sweeping = sweep(connection.get())
            if lasting or connection.doubtful:
                connection.sync()
        except (sqlite3.Error, OSError, WorkflowError) as failure:
            # also where it went in the middle of this, which is told in other words each time
            error = _Removed() if connection.removed else failure
            connection.doubtful = True
            connection.close()
            self._removed = isinstance(error, _Removed)
            with self._changed:
                self._work, self._writing = self._writing + self._work, []
            if not self._failed:
                self._failed = True
                self._say(str(error))
        else:
            self._failed = False

    def _commit(self, db: sqlite3.Connection, changes: Sequence[Change]) -> None:
        """One transaction, after which none of `changes` waits any more; who reads sees both or neither."""
        with contextlib.ExitStack() as stack:
            with schema.transaction(db):
                for change in put_together(changes):
                    change.write(db)
                stack.enter_context(self._committing)
            with self._changed:
                self._waiting -= sum(change.size for change in changes if isinstance(change, Append))
                self._writing = []

    def _say(self, reason: str) -> None:
        self._told = True
        log.warning("the store cannot be written: %s", reason)
        self._tell(
            Problem(
                title="Epochs are not being recorded",
                message=f"{self.path} cannot be written: {reason}. The training goes on.",
                advice=REMOVED if self._removed else "Make room on the disk, or see to it; what waits is written then.",
            )
        )


class _Removed(OSError):
    """The file is no longer the one it was."""

    def __str__(self) -> str:
        return "it was removed, or another file has taken its place"


class _Connection:
    """A connection that is made when it is needed, and anew after a failure: closing the last one costs an fsync.

    It is always to the `file` that there was at first. What would be written to one that was removed, or made anew
    without the runs that are there, would be lost without a word.
    """

    def __init__(self, path: Path, file: os.stat_result) -> None:
        self._path = path
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._log: int | None = None
        self._named = False
        self.doubtful = False
        """Has something failed since `sync` was well? Then not all that was committed need be in the log any more."""

    @property
    def removed(self) -> bool:
        """Is there no such file any more? Not where the disk cannot tell now."""
        try:
            self._check()
        except _Removed:
            return True
        except OSError:
            pass
        return False

    def _check(self) -> None:
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except FileNotFoundError:
            there = False
        if not there:
            raise _Removed

    def get(self) -> sqlite3.Connection:
        """The connection. Raises sqlite3.Error, OSError and WorkflowError."""
        self._check()
        if self._db is None:
            self._db = schema.connect(self._path, new=False)
            self._check()  # what has taken its place in between is not written to
            self._log = schema.open_log(self._path)
        return self._db

    def sync(self) -> None:
        """Let all that was committed outlast a power cut. Raises sqlite3.Error, OSError and WorkflowError.

        A commit only writes to the log. SQLite moves what is there into the file, and begins the log anew, after an
        fsync of the one and of the other: what is in the log no more needs none from here. That the log is held open
        matters: an error of it is told once to each descriptor that is open then, and SQLite keeps those of its own
        moving to itself.
        """
        db = self.get()
        # What an fsync that failed was to write counts as written from then on: the next one is well, and has not
        # written it. So all of it goes into the file, which is written for that, and the log is emptied.
        if self.doubtful and db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("another program is reading it")
        if self._log is not None:
            os.fsync(self._log)
        if not self._named:
            atomic.sync_folder(self._path.parent)
            self._named = True
        self.doubtful = False

    def close(self) -> None:
        """Let the connection go."""
        if self._log is not None:
            os.close(self._log)
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db, self._log, self._named = None, None, False
