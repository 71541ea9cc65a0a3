"""Kept runs through a real engine: read while it trains flat out, and there again after it was killed."""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    DeleteRuns,
    EditRun,
    Evaluate,
    ExportRun,
    Pause,
    ReadSeries,
    Reset,
    RestoreRun,
    Run,
    SeriesAnswer,
    SetTraining,
    Update,
)
from workflow_core.specs import TrainSpec
from workflow_core.views import RunView
from workflow_core.workspace import Workspace

if TYPE_CHECKING:
    from tests.core.conftest import Watcher

pytestmark = pytest.mark.usefixtures("forked")
Attach = Callable[[Workspace], Awaitable["Watcher"]]

FAST = TrainSpec(learning_rate=0.001, epochs=1_000_000_000)


def listed(ui: Watcher) -> dict[int, RunView]:
    return {view.run: view for view in ui.state["runs"]}


async def read(ui: Watcher, run: int, start: int, stop: int, columns: int = 4096) -> SeriesAnswer:
    answer = await ui.request(ReadSeries(run=run, start=start, stop=stop, columns=columns), timeout=10)
    assert isinstance(answer, SeriesAnswer)
    return answer


def recorded(ui: Watcher, name: str) -> list[float]:
    """A series as the UI was told it, epoch by epoch; only while it is short."""
    assert ui.history.series[name].width == 1
    return ui.history.series[name].last


def exact(answer: SeriesAnswer, name: str) -> list[float]:
    assert all(column.stop == column.start + 1 for column in answer.series[name])
    return [column.last for column in answer.series[name]]


async def test_runs_are_kept_over_the_life_of_engines(workspace: Workspace, attach: Attach, tmp_path: Path) -> None:
    ui = await attach(workspace)
    assert ui.state["runs"] == ()
    await ui.request(SetTraining(spec=TrainSpec(epochs=300)), timeout=60)
    await ui.request(Run(), timeout=60)
    first = await ui.until_state("finished")
    losses = list(recorded(ui, "train_loss"))
    await ui.request(EditRun(run=1, name="the first", pinned=True))
    view = listed(ui)[1]
    assert (view.name, view.pinned, view.state, view.epochs) == ("the first", True, "finished", 300)
    assert (view.train_loss, view.parameters, view.spec.train) == (first.train_loss, first.parameters, first.spec)

    # a second one flat out: all that is read of both is exact, and nothing is missing that the UI was told of
    await ui.request(SetTraining(spec=FAST))
    await ui.request(Run())
    for wanted in (50, 400, 1000, 2000):
        await ui.until(functools.partial(lambda wanted: ui.history.epochs >= wanted, wanted))
        told = min(ui.history.epochs, 4096)
        answer = await read(ui, 2, told - 50, told)
        if ui.history.series["train_loss"].width == 1:
            for name in ("train_loss", "val_loss", "weight"):
                assert exact(answer, name) == recorded(ui, name)[told - 50 : told]
        assert answer.epochs >= told
    assert exact(await read(ui, 1, 0, 300), "train_loss") == losses
    await ui.until(lambda: listed(ui)[2].epochs > 1000)
    assert listed(ui)[2].state == "running"
    with pytest.raises(WorkflowError, match="it is the run that is there"):
        await ui.request(DeleteRuns(runs=(2,)))
    with pytest.raises(WorkflowError, match="while the model is trained"):
        await ui.request(RestoreRun(run=1))

    # an engine that is killed
    child = child_of(workspace)
    assert child is not None
    told = ui.history.epochs
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    await ui.until(lambda: ui.lost)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state["runs"])
    views = listed(ui)
    assert views[1] == view
    assert (views[2].state, views[2].spec.train) == ("interrupted", FAST)
    answer = await read(ui, 2, 0, views[2].epochs, 1)
    assert answer.epochs == views[2].epochs > told - 40_000  # at most the last half second is missing
    assert answer.series["train_loss"][0].last == views[2].train_loss
    assert exact(await read(ui, 1, 0, 300), "train_loss") == losses

    path = tmp_path / "first.json"
    await ui.request(ExportRun(run=1, path=str(path), kind="json"), timeout=60)
    assert json.loads(path.read_bytes())["series"]["train_loss"] == losses
    # the run comes back with the engine, before and after it has loaded what it needs for that
    with pytest.raises(WorkflowError, match=r"it may be about to come back|it is the run that is there"):
        await ui.request(DeleteRuns(runs=(2,)))
    await ui.until(lambda: ui.state.get("training"))
    with pytest.raises(WorkflowError, match="it is the run that is there"):
        await ui.request(DeleteRuns(runs=(2,)))
    await ui.request(RestoreRun(run=1), timeout=60)
    await ui.request(Run(), timeout=60)
    again = await ui.until_state("finished")
    assert (again.run, again.parameters) == (3, first.parameters)
    await ui.request(DeleteRuns(runs=(2,)))
    await ui.until(lambda: list(listed(ui)) == [3, 1])  # the list may come a frame after the state


async def test_what_is_asked_of_kept_runs_waits_for_no_command(engine: Workspace, attach: Attach) -> None:
    """Neither for the loading of torch, nor for what the worker does, nor it for them."""
    ui = await attach(engine)
    begun = time.perf_counter()
    with pytest.raises(WorkflowError, match="no run 99"):
        await read(ui, 99, 0, 1)
    if ui.state["engine"].state == "loading":
        assert time.perf_counter() - begun < 1
    await ui.request(SetTraining(spec=FAST), timeout=60)
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.training.epoch > 3000)
    run, waits = ui.training.run, []
    for _ in range(20):
        begun = time.perf_counter()
        await read(ui, run, 0, 10**9, 240)
        waits.append(time.perf_counter() - begun)
    assert sorted(waits)[10] < 0.1
    before = len(ui.events)
    seconds = ui.training.elapsed
    await ui.until(lambda: ui.training.elapsed > seconds + 1.5)
    lists = [event for event in ui.events[before:] if isinstance(event, Update) and event.runs]
    assert 1 <= len(lists) <= 4, "the list is told once a second"
    await ui.request(Evaluate())
    await ui.request(Pause())
    await ui.until(lambda: listed(ui)[run].state == "paused")
    assert listed(ui)[run].epochs == ui.training.epoch
    await ui.request(Reset())
    await ui.until(lambda: listed(ui)[run].state == "stopped")
    await ui.request(DeleteRuns(runs=(run,)))
    assert run not in listed(ui)
