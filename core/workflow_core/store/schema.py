"""The tables of a store, how an older file becomes one of today, and a run as a row of them."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sqlite3
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from workflow_core.errors import WorkflowError
from workflow_core.history import RECORDED
from workflow_core.store.pieces import unpacked
from workflow_core.views import RunView

VERSION = 1
"""What `PRAGMA user_version` says of a file of today."""
KILLED = "the engine ended before the run did"
BUSY = 5.0
"""Seconds to wait for another program that holds the file."""

_FIRST = (
    """CREATE TABLE IF NOT EXISTS runs (
        id INTEGER PRIMARY KEY, begun REAL NOT NULL, settings TEXT NOT NULL, series TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'ready', reason TEXT NOT NULL DEFAULT ''
    )""",
    """CREATE TABLE IF NOT EXISTS epochs (
        run INTEGER NOT NULL REFERENCES runs (id), start INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (run, start)
    ) WITHOUT ROWID""",
)
_SINCE_1 = (
    "ALTER TABLE runs ADD COLUMN name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN elapsed REAL NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN epochs INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN train_loss REAL",
    "ALTER TABLE runs ADD COLUMN val_loss REAL",
    "ALTER TABLE runs ADD COLUMN best_epoch INTEGER",
    "ALTER TABLE runs ADD COLUMN best_loss REAL",
    "ALTER TABLE runs ADD COLUMN loss_scale REAL DEFAULT 1.0",
    "ALTER TABLE runs ADD COLUMN parameters TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE runs ADD COLUMN lr_changes TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE runs ADD COLUMN parent INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN parent_epoch INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN race INTEGER NOT NULL DEFAULT 0",
    # to step from one row without a rowid to the next SQLite reads all of it, figures and all
    "ALTER TABLE epochs RENAME TO pieces",
    """CREATE TABLE epochs (
        run INTEGER NOT NULL REFERENCES runs (id), start INTEGER NOT NULL, count INTEGER NOT NULL, summary BLOB,
        data BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX places ON epochs (run, start, count)",
    "INSERT INTO epochs SELECT run, start, count, NULL, data FROM pieces",
    "DROP TABLE pieces",
    "CREATE TABLE numbers (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO numbers SELECT 'run', coalesce(max(id), 0) FROM runs",
    "INSERT INTO numbers VALUES ('race', 0)",
    "CREATE TABLE deleted (run INTEGER PRIMARY KEY)",
)
_RESULT = (
    *("settings", "state", "reason", "elapsed", "epochs", "train_loss", "val_loss", "best_epoch", "best_loss"),
    *("loss_scale", "parameters", "lr_changes"),
)
_ROW = ("id", "series", "begun", "name", "pinned", "parent", "parent_epoch", "race", *_RESULT)

RUN_THERE, RACE_THERE = "run there", "race there"
"""Kinds of numbers: the run and the race that an engine to come will find."""

log = logging.getLogger(__name__)


def connect(path: Path, *, new: bool = True) -> sqlite3.Connection:
    """A connection to the store at `path` for reading and writing; the file is made, unless it is not to be `new`, or
    brought up to date.

    Transactions are those of `transaction`. Raises sqlite3.Error or OSError where the file is no store, and
    WorkflowError where it is one of a later version of the program.
    """
    # What SQLite puts beside the file later is as private as the file itself. One that is there is left to SQLite: to
    # close it here gives up the locks of all connections of this process, and other programs take it for unused.
    with contextlib.suppress(FileExistsError):
        if new:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = _open(path)
    try:
        version = _version(db)
        if version > VERSION:
            raise WorkflowError(
                "Runs will not be recorded",
                f"{path} was written by a later version of the program. Trainings run all the same.",
                "Use that version, or name another --workspace.",
            )
        db.execute("PRAGMA journal_mode = WAL")
        # a commit waits for no fsync: who must know that it lasts asks for one (Store.flush)
        db.execute("PRAGMA synchronous = NORMAL")
        # what is deleted is overwritten where that costs no writing of its own; free pages are used again in any case
        db.execute("PRAGMA secure_delete = FAST")
        if version < VERSION:
            _bring_up_to_date(db)
    except (ValueError, TypeError, ArithmeticError) as error:
        db.close()
        raise sqlite3.DatabaseError(f"it holds what no version of the program has written ({error})") from error
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, to a store that is there. Raises sqlite3.Error."""
    db = _open(path)
    db.execute("PRAGMA query_only = ON")
    return db


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=BUSY, isolation_level=None, uri=True)


def there(db: sqlite3.Connection) -> tuple[int, int] | None:
    """The run and the race that an engine will find, 0 for none; None where that was never said.

    Raises sqlite3.Error.
    """
    numbers = dict(db.execute("SELECT kind, last FROM numbers"))
    return (numbers[RUN_THERE], numbers[RACE_THERE]) if RUN_THERE in numbers else None


def left(db: sqlite3.Connection) -> frozenset[int]:
    """The runs that an engine will find: that which is there, and those of the race. Raises sqlite3.Error."""
    run, race = there(db) or (0, 0)
    lanes = db.execute("SELECT id FROM runs WHERE race = ?", (race,)) if race else ()
    return frozenset({run, *(int(number) for (number,) in lanes)} - {0})


def open_log(path: Path) -> int | None:
    """A descriptor of the write-ahead log of the store at `path`, to which there is a connection. Raises OSError.

    Of the file itself there must be none but SQLite's (see `connect`). None where SQLite has no log, as where the file
    system has no shared memory: then it syncs each commit by itself.
    """
    with contextlib.suppress(FileNotFoundError):
        return os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
    return None


def no_run(run: int) -> WorkflowError:
    """The error to raise for a run that is not there."""
    return WorkflowError("No such run", f"there is no run {run} in this workspace.", "It may have been deleted.")


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside the block is on disk together, or nothing of it. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    with transaction(db):
        if _version(db) == VERSION:
            return
        for statement in (*_FIRST, *_SINCE_1):
            db.execute(statement)
        for run, series in db.execute("SELECT id, series FROM runs").fetchall():
            _fill_in(db, run, json.loads(series))
        db.execute(f"PRAGMA user_version = {VERSION}")


def _fill_in(db: sqlite3.Connection, run: int, series: Sequence[str]) -> None:
    """Give a run of before the result that its last epoch tells."""
    last = db.execute(
        "SELECT start, count, data FROM epochs WHERE run = ? ORDER BY start DESC LIMIT 1", (run,)
    ).fetchone()
    if last is not None:
        piece = unpacked(*last)
        note_last(db, run, piece.stop, {name: each[-1] for name, each in zip(series, piece.columns, strict=True)})


def note_last(db: sqlite3.Connection, run: int, epochs: int, figures: dict[str, float]) -> None:
    """Let the result of `run` be that it has so many epochs, the last of them with these figures."""
    tracked = {name: value for name, value in figures.items() if name not in RECORDED}
    db.execute(
        "UPDATE runs SET epochs = ?, train_loss = ?, val_loss = ?, parameters = ?, "
        "best_loss = iif(best_epoch < ?, best_loss, NULL), best_epoch = iif(best_epoch < ?, best_epoch, NULL) "
        "WHERE id = ?",
        (epochs, figures.get("train_loss"), figures.get("val_loss"), to_json(tracked), epochs, epochs, run),
    )


def insert(db: sqlite3.Connection, view: RunView, series: Sequence[str]) -> None:
    """A row for a run; one that has a row already keeps it."""
    fixed = view.run, json.dumps(list(series)), view.begun, view.name, view.pinned
    marks = ", ".join("?" * len(_ROW))
    db.execute(
        f"INSERT OR IGNORE INTO runs ({', '.join(_ROW)}) VALUES ({marks})",
        (*fixed, view.parent, view.parent_epoch, view.race, *_result(view)),
    )


def update(db: sqlite3.Connection, view: RunView) -> None:
    """Settings and result of a run, where it has a row; its name and whether it is pinned stay as they are."""
    fields = ", ".join(f"{name} = ?" for name in _RESULT)
    db.execute(f"UPDATE runs SET {fields} WHERE id = ?", (*_result(view), view.run))


def _result(view: RunView) -> tuple[Any, ...]:
    return (
        *(view.spec.to_toml(), view.state, view.reason, view.elapsed, view.epochs, view.train_loss, view.val_loss),
        *(view.best_epoch, view.best_loss, view.loss_scale, to_json(view.parameters), json.dumps(view.lr_changes)),
    )


def select(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[RunView]:
    """The runs that the condition `where` is true of, newest first; one that cannot be read is left out."""
    rows = db.execute(f"SELECT {', '.join(_ROW)} FROM runs WHERE {where} ORDER BY id DESC", values)
    return [view for row in rows if (view := _view(dict(zip(_ROW, row, strict=True)))) is not None]


def _view(row: dict[str, Any]) -> RunView | None:
    try:
        # SQLite keeps no NaN: where a loss is recorded and is none here, it was that
        if row["epochs"]:
            for name in {"train_loss", "val_loss"}.intersection(json.loads(row["series"])):
                row[name] = math.nan if row[name] is None else row[name]
        parameters = {name: float(value) for name, value in json.loads(row["parameters"]).items()}
        lr_changes, pinned = json.loads(row["lr_changes"]), bool(row["pinned"])
        made = {"run": row["id"], "spec": tomllib.loads(row["settings"]), "pinned": pinned}
        return msgspec.convert(row | made | {"parameters": parameters, "lr_changes": lr_changes}, RunView)
    # settings of another version of the program, or what somebody else has written there
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("run %s cannot be shown: %s", row["id"], error)
        return None


def to_json(figures: dict[str, float]) -> str:
    """As JSON that every program reads: it has no NaN and no infinity, which are told as text."""
    return json.dumps({name: json_number(value) for name, value in figures.items()})


def json_number(value: float) -> float | str:
    """`value` as JSON can hold it: `NaN`, `Infinity` and `-Infinity` as text, which `float()` reads back."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
