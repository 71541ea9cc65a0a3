"""Every run and each of its epochs exactly, on disk, whatever the disk does and whenever the engine is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.conftest import noting

from workflow_core import store as store_module
from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import TrainSpec, WorkflowSpec
from workflow_core.store import Store, changes, schema
from workflow_core.views import RunView

SPEC = WorkflowSpec(train=TrainSpec(epochs=5000, learning_rate=0.1))


def view_of(run: int, epochs: int = 0, **more: object) -> RunView:
    """A run as it stands after so many epochs, whose figures are those of `figures`."""
    last = {"train_loss": epochs / 3, "parameters": {"weight": -float(epochs)}} if epochs else {}
    stands = {"run": run, "name": "", "begun": 1.5e9, "elapsed": epochs / 10, "spec": SPEC, "state": "running"}
    return RunView(**{**stands, "epochs": epochs, **last, **more})  # type: ignore[arg-type]


def figures(start: int, stop: int) -> dict[str, list[float]]:
    """Those of the epochs `start` to `stop`: each can be told by its value."""
    epochs = range(start + 1, stop + 1)
    return {"train_loss": [epoch / 3 for epoch in epochs], "weight": [-float(epoch) for epoch in epochs]}


def begun(store: Store, epochs: int = 0) -> int:
    """A run of `store` with so many epochs."""
    run = store.number()
    store.begin(view_of(run), ["train_loss", "weight"])
    if epochs:
        store.append(view_of(run, epochs), 0, figures(0, epochs))
    return run


def pieces(store: Store, run: int) -> list[tuple[int, int]]:
    """Where the pieces of `run` on disk start, and how many epochs they have."""
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        return db.execute("SELECT start, count FROM epochs WHERE run = ? ORDER BY start", (run,)).fetchall()


@pytest.fixture
def problems() -> list[Problem]:
    return []


@pytest.fixture
def store(tmp_path: Path, problems: list[Problem]) -> Iterator[Store]:
    own = Store(tmp_path / "workspace.sqlite", noting(problems))
    yield own
    own.close()


@pytest.fixture
def locked(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another program that holds the file of `store`, after that has opened it."""
    monkeypatch.setattr(schema, "BUSY", 0.01)
    assert begun(store) == 1
    assert store.flush()
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db


def test_every_epoch_comes_back_exactly(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    run, other = begun(store), begun(store)
    at = 0
    for count in (1, 5, 300, 2):
        for each in (run, other):
            store.append(view_of(each, at + count), at, figures(at, at + count))
        at += count
    assert store.flush()
    assert store.read(run, 0, 10**9) == {name: array("d", column) for name, column in figures(0, 308).items()}
    assert store.read(run, 4, 7)["weight"].tolist() == [-5.0, -6.0, -7.0]
    assert store.read(run, 400, 500) == {"train_loss": array("d"), "weight": array("d")}
    assert store.read(other, 306, 308, ["weight"]) == {"weight": array("d", [-307.0, -308.0])}
    with pytest.raises(KeyError):
        store.read(99, 0, 1)


def test_any_tool_can_read_it_meanwhile(store: Store) -> None:
    run = store.number()
    store.begin(view_of(run), ["train_loss", "val_loss"])
    bad = view_of(run, 2, state="diverged", reason="validation loss", train_loss=math.nan, val_loss=math.inf)
    store.append(bad, 0, {"train_loss": [1.5, math.nan], "val_loss": [2.5, math.inf]})
    assert store.flush()
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT id, settings, series, state, reason, epochs FROM runs").fetchall() == [
            (run, SPEC.to_toml(), json.dumps(["train_loss", "val_loss"]), "diverged", "validation loss", 2)
        ]
        [(start, count, data)] = db.execute("SELECT start, count, data FROM epochs").fetchall()
        store.note(view_of(run, 2))
        assert store.flush()
    assert (start, count) == (0, 2)
    assert repr(array("d", data).tolist()) == "[1.5, nan, 2.5, inf]"


def test_a_run_is_kept_with_its_settings_and_its_result(store: Store) -> None:
    assert store.runs(10) == []
    run = begun(store, 3)
    result = view_of(
        run,
        4,
        state="diverged",
        reason="the run diverged",
        best_epoch=2,
        best_loss=0.125,
        loss_scale=None,
        lr_changes=((1, 0.1), (3, 1e-5)),
        parameters={"weight": math.nan, "a": math.inf, "b": -math.inf, "c": 0.1},
        train_loss=math.nan,
        spec=replace(SPEC, train=TrainSpec(epochs=9)),
    )
    store.append(result, 3, figures(3, 4))
    store.edit(run, name="[/] the best", pinned=True)
    store.note(result)  # which knows neither name nor pin
    store.close()
    again = Store(store.path)
    (found,) = again.runs(10)
    assert repr(found) == repr(replace(result, name="[/] the best", pinned=True))
    assert repr(again.find(run)) == repr(found)
    with pytest.raises(KeyError):
        again.find(run + 1)
    again.close()


def test_the_newest_are_listed_and_all_that_are_pinned(store: Store) -> None:
    runs = [begun(store, 1) for _ in range(6)]
    for run in (runs[0], runs[5]):
        store.edit(run, pinned=True)
    assert store.flush()
    assert [view.run for view in store.runs(2)] == [runs[at] for at in (5, 4, 3, 0)]
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE runs SET settings = '[data]\ncolour = 3' WHERE id = ?", (runs[4],))
        db.execute("UPDATE runs SET begun = 'yesterday' WHERE id = ?", (runs[3],))
    assert [view.run for view in store.runs(4)] == [runs[at] for at in (5, 2, 1, 0)]


def test_numbers_are_given_once_in_the_life_of_a_workspace(store: Store) -> None:
    assert [begun(store, 1), store.number(), begun(store, 1)] == [1, 2, 3]
    assert [store.number("race"), store.number("race")] == [1, 2]
    store.delete(3)
    assert store.number() == 4  # and no epoch follows
    store.close()
    again = Store(store.path)
    assert again.number() == 5
    assert again.number("race") == 3
    assert [view.run for view in again.runs(10)] == [1]
    again.close()


def test_what_a_run_had_is_free_for_others_once_it_is_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PIECE", 1)
    monkeypatch.setattr(changes, "STEP", 3)

    def filled() -> int:
        run = begun(store)
        for start in range(0, 4000, 400):
            store.append(view_of(run, start + 400), start, figures(start, start + 400))
            assert store.flush()
        return run

    def ask(question: str) -> int:
        with contextlib.closing(sqlite3.connect(store.path)) as db:
            return int(db.execute(question).fetchone()[0])

    run, kept = filled(), begun(store, 10)
    assert len(pieces(store, run)) == 10
    store.delete(run)
    with pytest.raises(KeyError):
        store.read(run, 0, 1)
    store.append(view_of(run, 4001), 4000, figures(4000, 4001))  # of a trainer that does not know it yet
    store.note(view_of(run, 4001))
    assert store.flush()
    assert [view.run for view in store.runs(10)] == [kept]
    while ask("SELECT count(*) FROM deleted"):
        assert store.flush()
    assert ask("SELECT count(*) FROM epochs") == 1
    pages = ask("PRAGMA page_count")
    filled()
    assert ask("PRAGMA page_count") == pages


def test_freeing_goes_on_where_an_engine_was_killed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(store, 10)
    store.flush()
    monkeypatch.setattr(store_module, "sweep", lambda db: False)
    store.delete(run)
    store.close()
    assert pieces(store, run) == [(0, 10)]
    monkeypatch.undo()
    again = Store(store.path)
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        while db.execute("SELECT count(*) FROM deleted").fetchone()[0]:
            again.flush()
    assert pieces(again, run) == []
    again.close()


def test_epochs_are_taken_back(store: Store) -> None:
    run = begun(store, 100)
    store.append(view_of(run, 130, best_epoch=120, best_loss=1.0), 100, figures(100, 130))
    assert store.flush()
    for epochs in (200, 115, 60):
        store.truncate(run, epochs)
        assert len(store.read(run, 0, 999)["weight"]) == min(epochs, 130)  # also what is still to be written
    assert store.flush()
    view = store.find(run)
    assert (view.epochs, view.train_loss, view.parameters) == (60, 20.0, {"weight": -60.0})
    assert (view.best_epoch, view.best_loss) == (None, None)
    # one that goes on without a word: no epoch is there twice
    store.append(view_of(run, 55), 50, figures(50, 55))
    store.append(view_of(run, 57), 55, figures(55, 57))
    assert store.flush()
    assert store.read(run, 0, 999)["weight"].tolist() == figures(0, 57)["weight"]
    assert sum(count for _, count in pieces(store, run)) == 57
    store.truncate(run, 0)
    assert store.flush()
    assert (store.find(run).epochs, store.find(run).train_loss) == (0, None)
    assert pieces(store, run) == []


def test_a_branch_begins_with_what_its_parent_had(store: Store) -> None:
    parent = begun(store, 300)
    store.flush()
    store.append(view_of(parent, 400), 300, figures(300, 400))

    branch = begun(store)
    store.copy(parent, 350, branch)
    store.append(view_of(branch, 351), 350, {"train_loss": [7.0], "weight": [8.0]})
    store.truncate(parent, 10)
    for flushed in (False, True):
        assert not flushed or store.flush()
        found = store.read(branch, 0, 999)
        assert found["weight"].tolist() == [*figures(0, 350)["weight"], 8.0]
        assert found["train_loss"].tolist() == [*figures(0, 350)["train_loss"], 7.0]
        assert len(store.read(parent, 0, 999)["weight"]) == 10
    store.delete(parent)
    assert store.flush()
    assert len(store.read(branch, 0, 999)["weight"]) == 351

    stranger = store.number()
    store.begin(view_of(stranger), ["train_loss"])
    store.copy(branch, 10, stranger)
    assert store.flush()
    assert store.read(stranger, 0, 999) == {"train_loss": array("d")}


def test_slow_trainings_leave_few_pieces_too(store: Store) -> None:
    run = begun(store)
    for epoch in range(300):
        store.append(view_of(run, epoch + 1), epoch, figures(epoch, epoch + 1))
        assert store.flush()
    assert store.read(run, 0, 999)["weight"].tolist() == figures(0, 300)["weight"]
    assert len(pieces(store, run)) <= 9


def test_lanes_of_a_race_are_written_by_pieces(store: Store) -> None:
    lanes = [begun(store) for _ in range(3)]
    store.flush()
    for start in range(0, 50, 5):
        for lane in lanes:
            store.append(view_of(lane, start + 5), start, figures(start, start + 5))
    assert store.flush()
    for lane in lanes:
        assert store.read(lane, 0, 99)["weight"].tolist() == figures(0, 50)["weight"]
        assert len(pieces(store, lane)) <= 3


def test_who_reads_while_it_is_written_sees_every_epoch_told_so_far(store: Store) -> None:
    run, told, over = begun(store), [0], threading.Event()

    def write() -> None:
        while not over.is_set():
            start = told[0]
            store.append(view_of(run, start + 7), start, figures(start, start + 7))
            told[0] = start + 7
            if start % 70 == 0:
                store.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(60):
            before = told[0]
            weights = store.read(run, 0, 10**9)["weight"].tolist()
            assert len(weights) >= before
            assert weights == figures(0, len(weights))["weight"]
            epochs, columns = store.columns(run, 0, 10**9, 5)
            assert epochs >= len(weights)
            assert columns["weight"][-1].last == -float(columns["weight"][-1].stop)
    finally:
        over.set()
        writer.join()


def test_a_disk_that_takes_nothing_is_told_once_and_nothing_is_lost(
    store: Store, problems: list[Problem], locked: sqlite3.Connection
) -> None:
    run = 1
    for epoch in range(2):
        store.append(view_of(run, epoch + 1), epoch, figures(epoch, epoch + 1))
        assert not store.flush(20)
    assert [problem.title for problem in problems] == ["Epochs are not being recorded"]
    assert "locked" in problems[0].message
    # what waits can be read all the same
    other = store.number()
    store.begin(view_of(other), ["train_loss", "weight"])
    store.copy(run, 1, other)
    assert store.read(run, 0, 5)["weight"].tolist() == [-1.0, -2.0]
    assert store.read(other, 0, 5)["weight"].tolist() == [-1.0]
    assert store.columns(run, 0, 5, 1)[1]["weight"][0].low == -2.0
    locked.execute("ROLLBACK")
    assert store.flush(20)
    store.append(view_of(run, 3), 2, figures(2, 3))
    assert store.flush(20)
    assert store.read(run, 0, 5)["weight"].tolist() == [-1.0, -2.0, -3.0]
    assert sum(count for _, count in pieces(store, run)) == 3
    assert len(problems) == 1


def test_what_waits_for_a_dead_disk_is_bounded_and_said(
    store: Store, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 2500)
    told = threading.Event()
    store._tell = lambda problem: (noting(problems)(problem), told.set())  # type: ignore[func-returns-value,assignment]
    run = begun(store, 100)
    store.append(view_of(run, 200), 100, figures(100, 200))  # over the limit as long as the first is not written
    assert told.wait(10)
    assert len(problems) == 1
    assert "left out" in problems[0].message
    assert store.flush()
    store.append(view_of(run, 250), 200, figures(200, 250))
    assert store.flush()
    assert store.read(run, 0, 1000)["weight"].tolist() == [*figures(0, 100)["weight"], *figures(200, 250)["weight"]]
    # a chart shows the gap where it is
    _, columns = store.columns(run, 98, 202, 104)
    assert [column.last for column in columns["weight"][1:3] + columns["weight"][101:103]] == [
        -100.0,
        pytest.approx(math.nan, nan_ok=True),
        pytest.approx(math.nan, nan_ok=True),
        -201.0,
    ]


class Told:
    """What a store tells: a Problem, or None when it is over."""

    def __init__(self, store: Store) -> None:
        self.all: list[str] = []
        self._changed = threading.Condition()
        store._tell = self._take

    def _take(self, problem: Problem | None) -> None:
        with self._changed:
            self.all.append("over" if problem is None else problem.message)
            self._changed.notify_all()

    def until(self, count: int) -> list[str]:
        """The first `count`, once there are as many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, 10), self.all
        return self.all


def test_a_disk_that_hung_while_more_was_told_than_can_wait_is_over_when_it_takes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workflow_core.store")
    monkeypatch.setattr(store_module, "MAX_WAITING", 4000)
    told, hangs, takes = Told(store), threading.Event(), threading.Event()
    run = begun(store)
    assert store.flush()

    def commit(*arguments: object) -> None:
        hangs.set()
        assert takes.wait(10)
        Store._commit(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_commit", commit)
    for epoch in range(0, 1000, 100):
        store.append(view_of(run, epoch + 100), epoch, figures(epoch, epoch + 100))
    assert hangs.wait(10)
    takes.set()
    problem, over = told.until(2)
    assert "left out" in problem
    assert over == "over"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_that_the_disk_takes_again_is_told_once(
    store: Store, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workflow_core.store")
    told = Told(store)
    for epoch in range(2):
        store.append(view_of(1, epoch + 1), epoch, figures(epoch, epoch + 1))
        assert not store.flush(20)
    assert ["locked" in problem for problem in told.all] == [True]
    locked.execute("ROLLBACK")
    for _ in range(2):
        assert store.flush(20)
    assert told.all[1:] == ["over"]
    assert [record.message for record in caplog.records][1:] == ["the store is written again"]


def test_what_was_left_out_is_not_over_before_it_is_told(
    store: Store, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(store)
    store.append(view_of(1, 1), 0, figures(0, 1))
    assert not store.flush(20)
    monkeypatch.setattr(store_module, "MAX_WAITING", 1)
    store.append(view_of(1, 2), 1, figures(1, 2))  # is left out, in the round in which the disk takes again
    locked.execute("ROLLBACK")
    assert store.flush(20)
    failed, left_out, over = told.until(3)
    assert "locked" in failed
    assert "left out" in left_out
    assert over == "over"


def log_of(store: Store) -> Path:
    return store.path.with_name("workspace.sqlite-wal")


def synced(monkeypatch: pytest.MonkeyPatch, path: Path, failing: threading.Event | None = None) -> list[bytes]:
    """What stood in the file `path` at each fsync of it by this process, which is an error while it is `failing`."""
    found: list[bytes] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            if failing is not None and failing.is_set():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            found.append(path.read_bytes() if path.is_file() else b"")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_what_was_flushed_outlasts_a_power_cut(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synced(monkeypatch, tmp_path)
    run = begun(store, 5)
    assert store.flush()
    assert folder, "the log is new there"
    log = synced(monkeypatch, log_of(store))
    assert store.flush()
    assert len(log) == 1, "others may have let it be written that did not wait"
    store.append(view_of(run, 9), 5, figures(5, 9))
    assert store.flush()
    assert log[-1] == log_of(store).read_bytes() != log[0]


def test_an_fsync_that_is_well_after_one_that_failed_is_not_trusted(
    store: Store, problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY", 0.01)
    run = begun(store, 5)
    assert store.flush()
    failing = threading.Event()
    synced(monkeypatch, log_of(store), failing)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT epochs FROM runs").fetchall() == [(5,)]
        failing.set()
        store.append(view_of(run, 9), 5, figures(5, 9))
        assert not store.flush()
        assert "Input/output error" in problems[0].message
        failing.clear()
        assert not store.flush(), "what the file lacks cannot be moved there while another program reads it"
        other.execute("ROLLBACK")
        assert store.flush()
        assert len(problems) == 1
        assert log_of(store).read_bytes() == b""
        file = tmp_path / "alone.sqlite"
        file.write_bytes(store.path.read_bytes())
        with contextlib.closing(sqlite3.connect(file)) as alone:
            assert alone.execute("SELECT sum(count) FROM epochs").fetchall() == [(9,)]


def test_to_connect_takes_no_locks_from_who_is_connected(store: Store) -> None:
    assert begun(store, 5)
    assert store.flush()
    other = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM runs'); db.close()"
    with contextlib.closing(schema.connect(store.path)):
        subprocess.run([sys.executable, "-c", other, store.path], check=True)
        assert log_of(store).exists(), "the other program took itself for the last one, and let the log go"


def anew(get: Callable[[Any], sqlite3.Connection]) -> Callable[[Any], sqlite3.Connection]:
    """`get`, after the connection was let go."""

    def got(connection: Any) -> sqlite3.Connection:
        connection.close()
        return get(connection)

    return got


@pytest.mark.parametrize("when", ["before", "connect", "open_log"])
def test_a_store_that_was_removed_is_told_of_and_not_made_anew(
    store: Store, problems: list[Problem], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Also where it goes between two steps of a write."""
    run = begun(store, 5)
    assert store.flush()
    away = store.path.with_name("away.sqlite")
    if when == "before":
        store.path.rename(away)
    else:
        step = getattr(schema, when)

        def in_the_middle(*arguments: Any, **options: Any) -> Any:
            if not problems:
                store.path.rename(away)
            return step(*arguments, **options)

        monkeypatch.setattr(schema, when, in_the_middle)
        # so that a connection is made for it
        monkeypatch.setattr(store_module._Connection, "get", anew(store_module._Connection.get))
    store.append(view_of(run, 6), 5, figures(5, 6))
    assert not store.flush()
    assert "it was removed" in problems[0].message
    assert not store.path.exists()
    away.rename(store.path)
    assert store.flush()
    assert store.read(run, 0, 9)["weight"].tolist() == figures(0, 6)["weight"]
    assert len(problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises((sqlite3.Error, OSError)):
        Store(tmp_path / "s.sqlite")


@pytest.mark.parametrize("statement", [None, "CREATE TABLE runs (colour)", "CREATE TABLE epochs (colour)"])
def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path, statement: str | None) -> None:
    path = tmp_path / "s.sqlite"
    if statement is None:
        path.write_bytes(b"this is no database, by any means" * 100)
    else:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute(statement)
    with pytest.raises(sqlite3.Error):
        Store(path)
    if statement is not None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema")] == [statement]


def test_a_store_of_a_later_version_is_refused_and_left_alone(store: Store) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 2")
    before = store.path.read_bytes()
    with pytest.raises(WorkflowError, match="later version"):
        Store(store.path)
    assert store.path.read_bytes() == before


OLD = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, begun REAL NOT NULL, settings TEXT NOT NULL, series TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'ready', reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE epochs (
    run INTEGER NOT NULL REFERENCES runs (id), start INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (run, start)
) WITHOUT ROWID;
"""


def test_a_store_of_before_names_and_results_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "workspace.sqlite"
    loss, weight = figures(0, 900).values()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript(OLD)
        for run, state in ((4, "finished"), (7, "running"), (8, "ready")):
            row = (run, 1.5e9, SPEC.to_toml(), json.dumps(["train_loss", "weight"]), state)
            db.execute("INSERT INTO runs (id, begun, settings, series, state) VALUES (?, ?, ?, ?, ?)", row)
        for start, stop in ((0, 600), (600, 900)):
            data = array("d", loss[start:stop] + weight[start:stop]).tobytes()
            db.execute("INSERT INTO epochs VALUES (7, ?, ?, ?)", (start, stop - start, data))
    store = Store(path)
    views = {view.run: view for view in store.runs(10)}
    assert [view.state for view in views.values()] == ["ready", "interrupted", "finished"]
    assert views[7] == view_of(7, 900, elapsed=0.0, state="interrupted", reason=schema.KILLED)
    assert views[4].epochs == 0
    assert store.read(7, 0, 10**9)["weight"].tolist() == weight
    _, columns = store.columns(7, 0, 900, 1)
    assert (columns["weight"][0].low, columns["weight"][0].high) == (-900.0, -1.0)
    assert store.number() == 9
    store.append(view_of(7, 901), 900, figures(900, 901))
    assert store.flush()
    assert len(store.read(7, 0, 10**9)["weight"]) == 901
    store.close()
    Store(path).close()


KILLED = """
import sys
from pathlib import Path
from tests.core.test_store import begun, figures, view_of
from workflow_core.store import Store

store = Store(Path(sys.argv[1]))
first, runs = store.number(), [begun(store) for _ in range(2)]
branch = begun(store)
print("ready", flush=True)
for start in range(0, 10**9, 20):
    for run in runs:
        store.append(view_of(run, start + 20), start, figures(start, start + 20))
    if start == 400:
        store.copy(runs[0], 333, branch)
        store.append(view_of(branch, 340), 333, figures(333, 340))
    if start % 1000 == 0:
        store.truncate(runs[1], start // 2)
        store.append(view_of(runs[1], start + 20), start // 2, figures(start // 2, start + 20))
    store.flush()
"""


def test_a_killed_engine_leaves_every_run_whole(tmp_path: Path) -> None:
    path, last = tmp_path / "workspace.sqlite", 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    for delay in (0.0, 0.03, 0.3):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=-1, env=environment) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(delay)
            child.send_signal(signal.SIGKILL)
        store = Store(path)
        for view in store.runs(100):
            found = store.read(view.run, 0, 10**9)
            assert {name: column.tolist() for name, column in found.items()} == figures(0, view.epochs)
            at = 0
            for start, count in pieces(store, view.run):
                assert start == at, "a gap, or epochs that are there twice"
                at += count
            assert at == view.epochs
            assert view == replace(view_of(view.run, view.epochs), state="interrupted", reason=schema.KILLED)
        numbers = [view.run for view in store.runs(100)]
        assert store.number() > max(numbers, default=0) >= last
        last = max(numbers, default=0)
        store.close()
    assert last
