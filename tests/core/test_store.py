"""Every epoch exactly, on disk, whatever the disk does meanwhile."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_core import store as store_module
from workflow_core.errors import Problem
from workflow_core.store import Store


@pytest.fixture
def problems() -> list[Problem]:
    return []


@pytest.fixture
def store(tmp_path: Path, problems: list[Problem]) -> Iterator[Store]:
    own = Store(tmp_path / "workspace.sqlite", problems.append)
    yield own
    own.close()


def test_every_epoch_comes_back_exactly(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
    run = store.begin("[data]\n", ["train_loss", "weight"])
    other = store.begin("", ["train_loss"])
    at = 0
    for count in (1, 5, 300, 2):
        epochs = range(at, at + count)
        store.append(run, at, {"train_loss": [epoch / 3 for epoch in epochs], "weight": [-float(e) for e in epochs]})
        store.append(other, at, {"train_loss": [float(epoch) for epoch in epochs]})
        at += count
    assert store.flush()
    found = store.read(run, 0, 10**9)
    assert found == {
        "train_loss": array("d", [epoch / 3 for epoch in range(308)]),
        "weight": array("d", [-float(epoch) for epoch in range(308)]),
    }
    assert store.read(run, 4, 7)["weight"].tolist() == [-4.0, -5.0, -6.0]
    assert store.read(run, 400, 500) == {"train_loss": array("d"), "weight": array("d")}
    assert store.read(other, 306, 308)["train_loss"].tolist() == [306.0, 307.0]
    with pytest.raises(KeyError):
        store.read(99, 0, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(), min_size=1, max_size=20), min_size=1, max_size=8), st.data())
def test_any_figures_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[float]], data: st.DataObject
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
    run, at = store.begin("", ["a", "b"]), 0
    for piece in pieces:
        store.append(run, at, {"a": piece, "b": [-value for value in piece]})
        at += len(piece)
        if data.draw(st.booleans()):
            assert store.flush()
    assert store.flush()
    start = data.draw(st.integers(0, at))
    stop = data.draw(st.integers(start, at + 1))
    wanted = array("d", [value for piece in pieces for value in piece][start:stop])
    assert store.read(run, start, stop)["a"].tobytes() == wanted.tobytes()  # NaN and -0.0 to the bit
    assert len(store.read(run, start, stop)["b"]) == len(wanted)
    store.close()


def test_any_tool_can_read_it(store: Store) -> None:
    run = store.begin("[train]\nepochs = 2\n", ["train_loss", "val_loss"])
    store.append(run, 0, {"train_loss": [1.5, math.nan], "val_loss": [2.5, math.inf]})
    store.set_state(run, "diverged", "validation loss")
    store.close()
    db = sqlite3.connect(store.path)
    assert db.execute("SELECT id, settings, series, state, reason FROM runs").fetchall() == [
        (run, "[train]\nepochs = 2\n", json.dumps(["train_loss", "val_loss"]), "diverged", "validation loss")
    ]
    [(start, count, data)] = db.execute("SELECT start, count, data FROM epochs").fetchall()
    db.close()
    assert (start, count) == (0, 2)
    assert repr(array("d", data).tolist()) == "[1.5, nan, 2.5, inf]"


def test_a_later_engine_goes_on_counting_runs(store: Store) -> None:
    first = store.begin("", ["a"])
    store.append(first, 0, {"a": [1.0]})
    store.close()
    again = Store(store.path)
    assert again.begin("", ["a"]) == first + 1
    assert again.read(first, 0, 5)["a"].tolist() == [1.0]
    again.close()


def test_a_disk_that_takes_nothing_is_told_once_and_nothing_is_lost(
    tmp_path: Path, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY", 0.01)
    store = Store(tmp_path / "s.sqlite", problems.append)
    run = store.begin("", ["a"])
    assert store.flush()
    blocker = sqlite3.connect(store.path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store.append(run, 0, {"a": [1.0]})
    assert not store.flush(20)
    store.append(run, 1, {"a": [2.0]})
    assert not store.flush(20)
    assert [problem.title for problem in problems] == ["Epochs are not being recorded"]
    assert "locked" in problems[0].message
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.flush(20)
    assert store.read(run, 0, 5)["a"].tolist() == [1.0, 2.0]
    store.append(run, 2, {"a": [3.0]})
    assert store.flush(20)
    assert len(problems) == 1
    store.close()


def test_what_waits_for_a_dead_disk_is_bounded_and_said(
    store: Store, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 800)
    told = threading.Event()
    store._tell = lambda problem: (problems.append(problem), told.set())  # type: ignore[func-returns-value,assignment]
    run = store.begin("", ["a"])
    store.append(run, 0, {"a": [0.0] * 100})
    store.append(run, 100, {"a": [1.0] * 100})  # over the limit as long as the first is not written
    assert told.wait(10)
    assert len(problems) == 1
    assert "left out" in problems[0].message
    assert store.flush()
    store.append(run, 200, {"a": [2.0] * 50})
    assert store.flush()
    assert store.read(run, 0, 1000)["a"].tolist() == [0.0] * 100 + [2.0] * 50


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(sqlite3.Error):
        Store(tmp_path / "s.sqlite")


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"this is no database, by any means" * 100)
    with pytest.raises(sqlite3.Error):
        Store(tmp_path / "s.sqlite")
