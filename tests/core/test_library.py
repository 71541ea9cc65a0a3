"""Runs are kept, listed, named, pinned, deleted and read without the thread that trains."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from workflow_core.engine import exporter
from workflow_core.engine import library as library_module
from workflow_core.engine.library import MAX_NAME, Library
from workflow_core.engine.record import SHOWN, Record
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    MAX_FRAME,
    Answer,
    Command,
    DeleteRuns,
    EditRun,
    ExportRun,
    ReadSeries,
    SeriesAnswer,
    TrainingView,
    Update,
    encode,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.store import Store

DATA, MODEL = DataSpec(noise=0.1), ModelSpec(kind="linear")


def training(run: int, epoch: int, **more: Any) -> TrainingView:
    """A run as its trainer shows it after so many epochs."""
    values = {"weight": epoch / 7}
    view = TrainingView(
        run=run,
        spec=TrainSpec(learning_rate=0.1),
        device="cpu",
        state="running",
        epoch=epoch,
        pace=None,
        rate=100.0,
        elapsed=epoch / 100,
        initial=values,
        parameters=values,
        line=(),
        train_loss=1 / epoch if epoch else None,
        best_epoch=epoch - 1 if epoch else None,
        best_loss=1 / epoch if epoch else None,
    )
    return replace(view, **more)


def series(start: int, stop: int) -> dict[str, list[float]]:
    epochs = range(start + 1, stop + 1)
    return {"train_loss": [1 / epoch for epoch in epochs], "weight": [epoch / 7 for epoch in epochs]}


def kept(library: Library, epochs: int = 5, **more: Any) -> Record:
    """A run of so many epochs, which is finished."""
    number = library.number()
    record = library.record(number, DATA, MODEL)
    record.keep(0, series(0, epochs), training(number, epochs, **{"state": "finished", **more}))
    return record


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    own = Store(tmp_path / "workspace.sqlite")
    yield own
    own.close()


@pytest.fixture
def library(store: Store, tmp_path: Path) -> Iterator[Library]:
    own = Library(store, tmp_path)
    yield own
    own.close()


def numbers(library: Library) -> list[int]:
    return [view.run for view in library.listing()]


def reopened(library: Library, store: Store) -> Library:
    """A library of what is on disk, as a later engine has it."""
    assert store.flush()
    seen = threading.Event()
    again = Library(store, changed=lambda at_once: seen.set())
    again.open()
    assert seen.wait(10)
    return again


def test_a_run_is_listed_with_its_settings_and_its_result(library: Library, store: Store) -> None:
    number = library.number()
    record = library.record(number, DATA, MODEL, race=3)
    record.note(training(number, 0, state="paused"))
    assert library.listing() == ()
    with pytest.raises(WorkflowError, match="no run 1"):
        library.find(number)
    record.keep(0, series(0, 4), training(number, 4))
    (view,) = library.listing()
    assert view.spec == WorkflowSpec(data=DATA, model=MODEL, train=TrainSpec(learning_rate=0.1))
    assert (view.run, view.race, view.state, view.epochs, view.elapsed) == (number, 3, "running", 4, 0.04)
    longer = TrainSpec(learning_rate=0.1, epochs=500)
    more = {"reason": "why", "val_loss": math.inf, "spec": longer, "lr_changes": ((2, 0.2), (6, 0.3))}
    record.keep(4, series(4, 6), training(number, 6, **more))
    record.note(training(number, 6, state="finished", **more))
    (view,) = library.listing()
    assert (view.train_loss, view.val_loss, view.parameters) == (1 / 6, math.inf, {"weight": 6 / 7})
    assert (view.best_epoch, view.best_loss) == (5, 1 / 6)
    assert (view.state, view.reason, view.spec.train) == ("finished", "why", longer)
    assert view.lr_changes == ((2, 0.2),)  # the later one has not made a step yet
    (again,) = reopened(library, store).listing()
    assert again == view
    assert library.figures(number, 0, 9) == store.read(number, 0, 9)
    assert list((library.figures(number, 5, 6) or {})["weight"]) == [6 / 7]


def test_a_branch_has_its_parents_epochs(library: Library) -> None:
    parent = kept(library, 10)
    number = library.number()
    branch = library.record(number, DATA, MODEL)
    branch.go_on(list(series(0, 1)), training(number, 6, parent=parent.number, parent_epoch=6))
    assert len(branch.figures(0, 99)["weight"]) == 6
    branch.keep(6, series(6, 8), training(number, 8, parent=parent.number, parent_epoch=6))
    assert library.find(number).parent == parent.number
    answer = library.answer(ReadSeries(run=number, start=0, stop=99, columns=99, names=("weight",)))
    assert isinstance(answer, SeriesAnswer)
    assert [column.last for column in answer.series["weight"]] == series(0, 8)["weight"]
    history = library.history(number, 99)
    assert history is not None
    assert history.series["weight"].last == series(0, 8)["weight"]


def test_a_run_that_another_takes_the_place_of_is_stopped(library: Library) -> None:
    for before, after in (("running", "stopped"), ("paused", "stopped"), ("finished", "finished")):
        record = kept(library, state=before)
        record.leave(training(record.number, 5, state=before))
        assert library.find(record.number).state == after
    record.discard()
    record.discard()
    record.note(training(record.number, 5))
    assert record.number not in numbers(library)


def test_what_has_changed_is_told_and_progress_once_until_it_was_looked_at(store: Store) -> None:
    told: list[bool] = []
    library = Library(store, changed=told.append)
    number = library.number()
    record = library.record(number, DATA, MODEL)
    for epoch in range(5):
        record.keep(epoch, series(epoch, epoch + 1), training(number, epoch + 1))
    assert told == [True]
    library.listing()
    for epoch in range(5, 9):
        record.keep(epoch, series(epoch, epoch + 1), training(number, epoch + 1))
    assert told == [True, False]
    record.note(training(number, 9, state="paused"))
    assert told == [True, False, True]
    library.answer(EditRun(run=number, name="a"))
    assert told == [True, False, True, True]
    library.close()


def test_names_and_pins_are_the_users(library: Library, store: Store) -> None:
    record = kept(library)
    number = record.number
    library.answer(EditRun(run=number, name="  \x1b[31mhot\n "))
    library.answer(EditRun(run=number, pinned=True))
    record.note(training(number, 5, state="diverged"))
    view = library.find(number)
    assert (view.name, view.pinned, view.state) == ("\ufffd[31mhot", True, "diverged")
    assert library.find(number) == reopened(library, store).find(number)
    library.answer(EditRun(run=number, name="", pinned=False))
    assert (library.find(number).name, library.find(number).pinned) == ("", False)
    with pytest.raises(WorkflowError, match="no run 9"):
        library.answer(EditRun(run=9, name="nobody"))
    with pytest.raises(WorkflowError, match="no name"):
        library.answer(EditRun(run=number, name="x" * (MAX_NAME + 1)))


def test_the_newest_and_the_pinned_are_listed_and_older_ones_move_up(
    library: Library, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "LISTED", 3)
    monkeypatch.setattr(library_module, "MAX_PINNED", 1)
    records = [kept(library) for _ in range(6)]
    library.answer(EditRun(run=1, pinned=True))
    assert numbers(library) == [6, 5, 4, 1]
    with pytest.raises(WorkflowError, match="Unpin"):
        library.answer(EditRun(run=5, pinned=True))
    library.answer(EditRun(run=2, name="not listed"))
    assert numbers(library) == [6, 5, 4, 1]
    library.answer(DeleteRuns(runs=(5, 4, 5)))
    assert numbers(library) == [6, 3, 2, 1]
    assert library.find(2).name == "not listed"
    again = reopened(library, store)
    assert again.listing() == library.listing()
    assert again.number() == records[-1].number + 1


def test_the_list_fits_into_a_frame_whatever_was_trained(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {f"layers.{at}.weight norm": 0.1 for at in range(2000)}
    table = DataSpec(kind="table", file="t.csv", target="y", features=tuple(f"column {at:090}" for at in range(900)))
    for _ in range(60):
        number = library.number()
        record = library.record(number, table, MODEL)
        record.keep(0, {"train_loss": [1.0]}, training(number, 1, parameters=wide))
    assert len(library.find(1).parameters) == SHOWN
    assert len(encode(Update(runs=library.listing()))) < MAX_FRAME / 3
    assert 60 > len(library.listing()) > 30
    assert numbers(library)[0] == 60


def test_runs_that_are_needed_are_not_deleted(library: Library) -> None:
    for _ in range(3):
        kept(library)
    with pytest.raises(WorkflowError, match="run 2 cannot be deleted now: it is the run that is there"):
        library.answer(DeleteRuns(runs=(1, 2)), {2: "it is the run that is there"})
    with pytest.raises(WorkflowError, match="no run 7"):
        library.answer(DeleteRuns(runs=(1, 7)))
    assert numbers(library) == [3, 2, 1]
    library.answer(DeleteRuns(runs=(1, 3)), {2: "it is the run that is there"})
    assert numbers(library) == [2]
    with pytest.raises(WorkflowError, match="no run 3"):
        library.answer(ReadSeries(run=3, start=0, stop=1, columns=1))


def test_series_are_read_as_asked_and_refused_where_they_cannot_be(library: Library) -> None:
    number = kept(library, 100).number
    answer = library.answer(ReadSeries(run=number, start=90, stop=120, columns=5))
    assert isinstance(answer, SeriesAnswer)
    assert (answer.run, answer.start, answer.stop, answer.epochs) == (number, 90, 120, 100)
    assert set(answer.series) == {"train_loss", "weight"}
    assert [(column.start, column.stop) for column in answer.series["weight"]] == [
        (at, at + 2) for at in range(90, 100, 2)
    ]
    for columns in (0, -1, 4097):
        with pytest.raises(WorkflowError, match="Ask for 1 to 4,096"):
            library.answer(ReadSeries(run=number, start=0, stop=9, columns=columns))
    with pytest.raises(WorkflowError, match="no series \ufffd"):
        library.answer(ReadSeries(run=number, start=0, stop=9, columns=9, names=("\x1b",)))


def test_so_many_series_that_no_frame_holds_them_are_refused(library: Library) -> None:
    number = library.number()
    record = library.record(number, DATA, MODEL)
    many = {f"{at}": [0.5] * 4096 for at in range(65)}
    record.keep(0, many, training(number, 4096))
    ask = ReadSeries(run=number, start=0, stop=4096, columns=4096)
    with pytest.raises(WorkflowError, match="fewer columns"):
        library.answer(ask)
    answer = library.answer(replace(ask, names=tuple(many)[:64]))
    assert isinstance(answer, SeriesAnswer)
    assert len(encode(Update())) + sum(47 * len(columns) for columns in answer.series.values()) < MAX_FRAME


def test_without_a_store_runs_are_known_while_the_engine_lives(tmp_path: Path) -> None:
    library = Library(None, tmp_path)
    first, second = kept(library), kept(library)
    assert (first.number, second.number, library.race_number()) == (1, 2, 1)
    library.answer(EditRun(run=1, name="one", pinned=True))
    assert [(view.run, view.name, view.pinned) for view in library.listing()] == [(2, "", False), (1, "one", True)]
    for command in (
        ReadSeries(run=1, start=0, stop=1, columns=1),
        ExportRun(run=1, path="run.csv", kind="csv"),
    ):
        with pytest.raises(WorkflowError, match="no epochs are recorded"):
            library.answer(command)
        with pytest.raises(WorkflowError, match="no run 8"):
            library.answer(replace(command, run=8))
    assert library.history(1, 5) is None
    assert library.figures(1, 0, 5) is None
    library.answer(DeleteRuns(runs=(1,)))
    assert numbers(library) == [2]
    library.close()


def test_a_disk_that_takes_nothing_is_said_to_who_changes_something(
    library: Library, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept(library)
    monkeypatch.setattr(store, "flush", lambda timeout: False)
    with pytest.raises(WorkflowError, match="cannot be written at present"):
        library.answer(EditRun(run=1, name="later"))
    assert library.find(1).name == "later"
    with pytest.raises(WorkflowError, match="not all epochs"):
        library.answer(ExportRun(run=1, path="run.csv", kind="csv"))
    monkeypatch.undo()
    store.flush()
    store.path.rename(tmp_path / "away")
    with pytest.raises(WorkflowError, match="cannot be read"):
        library.answer(ReadSeries(run=1, start=0, stop=1, columns=1))
    with pytest.raises(WorkflowError, match="cannot be read"):
        library.find(2)


class Desk:
    """Asks a library as the server does."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.answers: list[tuple[Problem | None, Answer]] = []
        self._condition = threading.Condition()

    def ask(self, command: Command, held: Mapping[int, str] | None = None) -> None:
        self.library.submit(command, held or {}, self._take)

    def _take(self, problem: Problem | None, value: Answer) -> None:
        with self._condition:
            self.answers.append((problem, value))
            self._condition.notify_all()

    def wait(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.answers) >= count, 20)


def test_what_is_asked_is_answered_in_order_in_another_thread(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(library)
    desk = Desk(library)
    desk.ask(EditRun(run=1, name="first"))
    desk.ask(EditRun(run=5))
    desk.ask(ReadSeries(run=1, start=0, stop=1, columns=1))
    desk.ask(DeleteRuns(runs=(1,)))
    desk.ask(ReadSeries(run=1, start=0, stop=1, columns=1))
    desk.wait(5)
    titles = [problem.title if problem else type(value).__name__ for problem, value in desk.answers]
    assert titles == ["NoneType", "No such run", "SeriesAnswer", "NoneType", "No such run"]
    monkeypatch.setattr(library, "answer", lambda *asked: 1 / 0)
    desk.ask(EditRun(run=1, name="fault"))
    desk.wait(6)
    assert desk.answers[-1][0] is not None
    assert "ZeroDivisionError" in desk.answers[-1][0].message
    library.close()
    desk.ask(EditRun(run=1, name="too late"))


BAD = {"train_loss": [0.1, math.nan, math.inf], 'a,"b"\n': [1e-300, -math.inf, -0.0]}


def test_a_run_is_exported_exactly(library: Library, tmp_path: Path) -> None:
    number = library.number()
    record = library.record(number, DATA, MODEL)
    record.keep(0, BAD, training(number, 3, parameters={"w": math.nan}, lr_changes=((1, 0.5),)))
    library.answer(EditRun(run=number, name="«best»"))
    library.answer(ExportRun(run=number, path="run.csv", kind="csv"))
    with (tmp_path / "run.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["epoch", *BAD]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    for at, values in enumerate(BAD.values(), 1):
        assert repr([float(row[at]) for row in rows]) == repr(values)

    library.answer(ExportRun(run=number, path=str(tmp_path / "run.json"), kind="json"))

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((tmp_path / "run.json").read_text(), parse_constant=no_constant)
    assert {name: repr([float(value) for value in values]) for name, values in found["series"].items()} == {
        name: repr(values) for name, values in BAD.items()
    }
    assert (found["run"], found["name"], found["result"]["epochs"]) == (number, "«best»", 3)
    assert found["result"]["parameters"] == {"w": "NaN"}
    assert found["result"]["lr_changes"] == [[1, 0.5]]
    assert WorkflowSpec.from_builtins(found["settings"]) == WorkflowSpec(
        data=DATA, model=MODEL, train=TrainSpec(learning_rate=0.1)
    )
    assert "NaN" in found["note"]


def test_an_export_replaces_only_what_it_may(library: Library, tmp_path: Path) -> None:
    kept(library, 3)
    (tmp_path / "run.csv").write_text("mine")
    for path, words in (("run.csv", "exists already"), ("no/run.csv", "does not exist"), ("", "empty")):
        with pytest.raises(WorkflowError, match=words):
            library.answer(ExportRun(run=1, path=path, kind="csv"))
    with pytest.raises(WorkflowError, match="no run 2"):
        library.answer(ExportRun(run=2, path="run.csv", kind="csv", overwrite=True))
    assert (tmp_path / "run.csv").read_text() == "mine"
    library.answer(ExportRun(run=1, path="run.csv", kind="csv", overwrite=True))
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite" not in path.name) == ["run.csv"]


def test_an_export_under_way_keeps_its_run_and_ends_with_the_engine(library: Library, tmp_path: Path) -> None:
    kept(library, 3)
    os.mkfifo(tmp_path / "stderr")
    desk = Desk(library)
    with pytest.MonkeyPatch.context() as patch:
        # a process that takes its time
        patch.setattr(exporter.sys, "executable", str(tmp_path / "slow"))  # type: ignore[attr-defined]
        (tmp_path / "slow").write_text(f"#!/bin/sh\nexec cat {tmp_path}/stderr\n")
        (tmp_path / "slow").chmod(0o700)
        desk.ask(ExportRun(run=1, path="run.csv", kind="csv"))
        with open(tmp_path / "stderr", "w"):  # it is there
            desk.ask(DeleteRuns(runs=(1,)))
            desk.wait(1)
            problem, _ = desk.answers[0]
            assert problem is not None
            assert "being exported" in problem.message
            library.close()
            desk.wait(2)
    problem, _ = desk.answers[1]
    assert problem is not None
    assert "ended before it was done" in problem.message


def test_an_export_that_begins_while_the_engine_ends_is_broken_off(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(library, 3)
    start = subprocess.Popen
    closing = threading.Thread(target=library.close)

    def started(command: list[str], **options: Any) -> Any:
        child = start(["sleep", "60"], **options)
        closing.start()
        closing.join(0.2)  # it ends when it knows of the process, and not before
        return child

    monkeypatch.setattr(exporter.subprocess, "Popen", started)  # type: ignore[attr-defined]
    desk = Desk(library)
    desk.ask(ExportRun(run=1, path="run.csv", kind="csv"))
    desk.wait(1)
    closing.join()
    problem, _ = desk.answers[0]
    assert problem is not None
    assert "ended before it was done" in problem.message
    with pytest.raises(WorkflowError, match="about to end"):
        library.answer(ExportRun(run=1, path="run.csv", kind="csv"))
    assert not (tmp_path / "run.csv").exists()


def test_a_fault_of_the_record_is_said_by_the_export(library: Library, store: Store, tmp_path: Path) -> None:
    kept(library, 3)
    assert store.flush()
    with contextlib.closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE runs SET series = 'no list'")
    with pytest.raises(WorkflowError, match=r"ended before it was done \(status 1\)"):
        library.answer(ExportRun(run=1, path="run.csv", kind="csv"))
    assert not (tmp_path / "run.csv").exists()
