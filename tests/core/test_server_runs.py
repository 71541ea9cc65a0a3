"""What the server knows of kept runs: which are needed, who is told of them and when, and what becomes of a request."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.core.conftest import Watcher
from tests.core.test_library import DATA, MODEL, series, training

from workflow_core.engine import server as server_module
from workflow_core.engine.library import Library
from workflow_core.engine.server import Server
from workflow_core.engine.worker import Worker
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    DeleteRuns,
    EditRun,
    ExportRun,
    LaneView,
    RaceView,
    ReadSeries,
    SeriesAnswer,
    Shutdown,
    Update,
)
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked")


class House:
    """A server in this process whose worker does nothing, with some who watch it."""

    def __init__(self, workspace: Workspace) -> None:
        self.server = Server(workspace, 600)
        self.workspace = workspace
        self.watchers: list[Watcher] = []
        self.served = asyncio.create_task(self.server.serve())

    @property
    def library(self) -> Library:
        return self.server._library

    def keep(self, count: int, epochs: int = 3, state: str = "finished") -> None:
        """More runs of so many epochs."""
        for _ in range(count):
            number = self.library.number()
            record = self.library.record(number, DATA, MODEL)
            record.keep(0, series(0, epochs), training(number, epochs, state=state))

    async def attach(self) -> Watcher:
        watcher = Watcher(self.workspace)
        self.watchers.append(watcher)
        async with asyncio.timeout(20):
            # a socket that an earlier one has left is no sign
            while self.server._listener is None:
                await asyncio.sleep(0)
        await watcher.client.connect()
        await watcher.until(lambda: watcher.state)
        return watcher


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    def idle(worker: Worker) -> None:
        while worker._inbox.get(block=True) is not None:
            pass

    monkeypatch.setattr(Worker, "run", idle)
    workspace = Workspace.open(tmp_path / "w")
    assert workspace.lock() is not None
    house = House(workspace)
    yield house
    house.server.end("the test is over")
    for watcher in house.watchers:
        await watcher.client.close()
    async with asyncio.timeout(20):
        await house.served


def listed(ui: Watcher) -> list[int]:
    return [view.run for view in ui.state["runs"]]


async def test_everybody_sees_the_runs_also_who_comes_later(house: House) -> None:
    first = await house.attach()
    house.keep(2)
    await first.until(lambda: listed(first) == [2, 1])
    second = await house.attach()
    assert listed(second) == [2, 1]
    await second.request(EditRun(run=1, name="one"))
    assert second.state["runs"][1].name == "one"
    await first.until(lambda: first.state["runs"][1].name == "one")
    await second.request(DeleteRuns(runs=(2,)))
    assert listed(second) == [1]


async def test_a_run_that_goes_on_is_told_of_once_in_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "RUNS_INTERVAL", 0.2)
    ui = await house.attach()
    record = house.library.record(house.library.number(), DATA, MODEL)
    begun = asyncio.get_running_loop().time()
    for epoch in range(60):
        record.keep(epoch, series(epoch, epoch + 1), training(record.number, epoch + 1))
        await asyncio.sleep(0)
    await ui.until(lambda: ui.state["runs"] and ui.state["runs"][0].epochs == 60)
    took = asyncio.get_running_loop().time() - begun
    assert took > 0.15, "the last of it is told in its time"
    told = [event.runs for event in ui.events if isinstance(event, Update) and event.runs]
    assert 2 <= len(told) <= 2 + took / 0.2
    record.note(training(record.number, 60, state="paused"))
    await ui.until(lambda: ui.state["runs"][0].state == "paused")


async def test_runs_that_others_need_stay(house: House) -> None:
    ui = await house.attach()
    house.keep(5)
    lane = LaneView(run=2, label="adam", spec=TrainSpec(), state="paused")
    race = RaceView(race=1, state="paused", lanes=(lane,), epochs=10, epoch=3, pace=None)
    branch = training(9, 3, state="ready", parent=4, parent_epoch=3)
    house.server._publish(Update(training=branch, race=race))
    for run, words in ((2, "a lane of the race"), (9, "no run 9")):
        with pytest.raises(WorkflowError, match=words):
            await ui.request(DeleteRuns(runs=(run, 1)))
    house.server._publish(Update(training=training(5, 3), race=None))
    with pytest.raises(WorkflowError, match="the run that is there"):
        await ui.request(DeleteRuns(runs=(1, 5)))
    await ui.request(DeleteRuns(runs=(1, 2, 4)))
    assert listed(ui) == [5, 3]


async def test_runs_of_earlier_engines_are_there(tmp_path: Path, house: House) -> None:
    house.keep(3, epochs=7)
    ui = await house.attach()
    answer = await ui.request(ReadSeries(run=2, start=0, stop=10, columns=10))
    assert isinstance(answer, SeriesAnswer)
    await ui.request(Shutdown())
    await house.served
    later = House(house.workspace)
    again = await later.attach()
    try:
        await again.until(lambda: listed(again) == [3, 2, 1])
        assert await again.request(ReadSeries(run=2, start=0, stop=10, columns=10)) == answer
    finally:
        await again.client.close()
        later.server.end("done")
        await later.served


async def test_an_export_that_the_end_cuts_short_is_not_passed_off_as_done(house: House, tmp_path: Path) -> None:
    house.keep(1, epochs=300_000)
    ui = await house.attach()
    exporting = asyncio.create_task(ui.request(ExportRun(run=1, path=str(tmp_path / "run.csv"), kind="csv"), 20))
    async with asyncio.timeout(20):
        while not any(path.suffix == ".part" for path in tmp_path.iterdir()):
            await asyncio.sleep(0)
    await ui.request(Shutdown())
    with pytest.raises(WorkflowError, match=r"the engine ended before|ended before it was done"):
        await exporting
    async with asyncio.timeout(20):
        while any(path.suffix == ".part" for path in tmp_path.iterdir()):
            await asyncio.sleep(0.01)
    assert not (tmp_path / "run.csv").exists()


async def test_a_disk_that_fails_for_a_while_ends_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = dict[Path, int]()
    sought = (house.workspace.lock_file, house.workspace.socket)
    ui = await house.attach()
    look = Path.stat

    def failing(path: Path, **how: bool) -> os.stat_result:
        if path not in sought:
            return look(path, **how)
        looked[path] = looked.get(path, 0) + 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    listener = house.server._listener
    house.server._idle_timeout = 0.1  # it looks the more often
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", failing)
        async with asyncio.timeout(20):
            while min(looked.get(path, 0) for path in sought) < 5:
                await asyncio.sleep(0)
    assert not house.served.done()
    assert house.server._listener is listener
    assert listener is not None
    assert listener.is_serving()
    assert not ui.lost


async def test_one_whose_folder_was_replaced_keeps_nothing_in_the_new_one(house: House) -> None:
    house.workspace.path.rename(house.workspace.path.with_name("gone"))
    other = Workspace.open(house.workspace.path)
    other.kept_run.write_bytes(b"theirs")
    keeper = house.server._keeper
    assert keeper is not None
    mine: Any = SimpleNamespace(packed=lambda: b"mine")
    for change in (functools.partial(keeper.put, lambda: mine), keeper.drop):
        change()
        assert not keeper.flush(20)
        assert other.kept_run.read_bytes() == b"theirs"


@pytest.mark.parametrize("left", [b"", b"no JSON", b'{"title": 3}', b"[" * 100_000, b"\xff"])
async def test_what_an_earlier_engine_had_to_tell_and_nobody_can_read_is_ignored_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    monkeypatch.setattr(Worker, "run", lambda worker: None)
    workspace = Workspace.open(tmp_path / "w")
    assert workspace.lock() is not None
    workspace.news.write_bytes(left)
    house = House(workspace)
    ui = await house.attach()
    try:
        assert ui.notices == []
        assert f"cannot be read in {workspace.news}" in caplog.text
    finally:
        await ui.client.close()
        house.server.end("done")
        await house.served


@pytest.mark.parametrize("version", [0, 99])
async def test_a_store_that_cannot_be_used_is_told_and_runs_are_kept_in_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(Worker, "run", lambda worker: None)
    workspace = Workspace.open(tmp_path / "w")
    assert workspace.lock() is not None
    if version:
        db = sqlite3.connect(workspace.store)
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
    else:
        workspace.store.write_bytes(b"no database" * 1000)
    house = House(workspace)
    ui = await house.attach()
    try:
        await ui.until(lambda: ui.notices)
        assert ("later version" if version else "cannot be used") in ui.notices[0]
        house.keep(2)
        await ui.until(lambda: listed(ui) == [2, 1])
        await ui.request(EditRun(run=1, name="unwritten"))
        assert ui.state["runs"][1].name == "unwritten"
        with pytest.raises(WorkflowError, match="no epochs are recorded"):
            await ui.request(ReadSeries(run=1, start=0, stop=1, columns=1))
    finally:
        await ui.client.close()
        house.server.end("done")
        await house.served
