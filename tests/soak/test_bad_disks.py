"""A disk that takes nothing ends no training: it is told, what was there stays whole, later all is written."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tests.core.conftest import Watcher, end_engine
from tests.core.test_back import kept_epoch
from tests.soak import disks
from tests.soak.apart import no_tracing
from tests.soak.runs import digest, straight
from tests.soak.table import sizes, tell

from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import BuildModel, Notice, Pause, Run, Save, SetPace, SetTraining
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.store import Store
from workflow_core.threads import one_thread
from workflow_core.workspace import Workspace

Attach = Callable[[Workspace], Any]
NETWORK = ModelSpec(kind="mlp", hidden=(32, 32))
SPEC = TrainSpec(epochs=10**7, optimizer="adam", device="cpu")
NOT_KEPT = "The training is not being kept"
NOT_RECORDED = "Epochs are not being recorded"


class Trouble(NamedTuple):
    """Something that is wrong with a disk for a while, what is told of it, and why a model cannot be saved."""

    begin: Callable[[Path, int], AbstractContextManager[None]]
    told: set[str]
    reason: str


TROUBLES = [
    Trouble(disks.full, {NOT_KEPT, NOT_RECORDED}, "disk is full"),
    Trouble(disks.limited, {NOT_KEPT, NOT_RECORDED}, "larger than is allowed"),
    Trouble(disks.failing, {NOT_KEPT, NOT_RECORDED}, "reports an error"),
    Trouble(disks.read_only, {NOT_KEPT}, "read-only"),
]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 32 MB, with a workspace on it whose engine keeps its run all the time."""
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.1")
    with disks.disk(tmp_path / "disk", "32m") as folder:
        yield folder
        end_engine(Workspace(folder / "w"))


def as_ever(epochs: int) -> tuple[str, list[float]]:
    """Weights and training losses of a run that nothing has hindered."""
    with one_thread():  # as the engine does for so few rows
        return straight(NETWORK, DataSpec(), SPEC, epochs)


def titles(ui: Watcher, since: int) -> set[str]:
    return {event.problem.title for event in ui.events[since:] if isinstance(event, Notice)}


def kept(workspace: Workspace) -> int:
    """The epoch of the checkpoint that is there, which must be whole."""
    return kept_epoch(workspace.checkpoints / "run.pt")


async def until(check: Callable[[], object], seconds: float, what: str) -> None:
    """For what no event tells: it is looked at again and again."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def model(path: Path) -> str:
    return digest(torch.load(path, weights_only=True))


async def paused_and_recorded(ui: Watcher, workspace: Workspace) -> None:
    """Pause, and look whether each epoch is on disk, once and with its figures."""
    await ui.request(Pause())
    epochs = ui.training.epoch
    await until(lambda: kept(workspace) == epochs, 20, "the last checkpoint is not written")
    store = Store(workspace.store)
    try:
        found = store.read(1, 0, 10**9)
    finally:
        store.close()
    assert list(found["train_loss"]) == as_ever(epochs)[1], "a gap, or an epoch that is not itself"


async def begin(attach: Attach, workspace: Workspace, pace: float | None) -> Watcher:
    ui: Watcher = await attach(workspace)
    await ui.request(BuildModel(spec=NETWORK))
    await ui.request(SetTraining(spec=SPEC))
    await ui.request(SetPace(pace=pace))
    await ui.request(Run(), timeout=60)
    return ui


@sizes(1, 12)
async def test_nothing_is_lost_by_a_disk_that_takes_nothing_for_a_while(count: int, disk: Path, attach: Attach) -> None:
    """12 troubles in turn while a run trains: full, a limit of file sizes, errors of fsync, read-only."""
    workspace = Workspace.open(disk / "w")
    path = disk / "model.pt"
    ui = await begin(attach, workspace, 300.0)
    await ui.request(Save(path=str(path)), timeout=60)
    child = child_of(workspace)
    assert child is not None
    survived, longest = 0, 0.0
    troubles = [trouble for trouble in TROUBLES if trouble.begin is not disks.failing or not no_tracing()]
    try:
        for at in range(count):
            trouble = troubles[at % len(troubles)]
            reached = ui.training.epoch
            await until(lambda: kept(workspace) > reached, 20, "no checkpoint")  # noqa: B023
            saved, since = model(path), len(ui.events)
            with trouble.begin(disk, child.pid):
                await ui.until(lambda: titles(ui, since) >= trouble.told, 30)  # noqa: B023
                whole, reached = kept(workspace), ui.training.epoch
                with pytest.raises(WorkflowError, match=trouble.reason):
                    await ui.request(Save(path=str(path), overwrite=True), timeout=60)
                await ui.until(lambda: ui.training.epoch > reached + 200, 60)  # noqa: B023
                assert kept(workspace) == whole
                assert model(path) == saved
                assert len([each for each in ui.events[since:] if isinstance(each, Notice)]) == len(trouble.told)
            better, reached = time.monotonic(), ui.training.epoch
            await until(lambda: kept(workspace) > reached, 30, "nothing is written though there is room")  # noqa: B023
            longest = max(longest, time.monotonic() - better)
            await paused_and_recorded(ui, workspace)
            assert disks.hidden(disk) == disks.hidden(workspace.checkpoints) == []
            await ui.request(Save(path=str(path), overwrite=True), timeout=60)
            await ui.request(Run(), timeout=60)
            survived += 1
        if count == 1:
            return
        await ui.until(lambda: ui.training.epoch > reached + 200, 60)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        ui = await attach(workspace)
        await ui.until(lambda: ui.state.get("training"), 60)
        await ui.request(Run(epochs=50), timeout=60)
        await ui.until_state("paused")
        await ui.request(Save(path=str(path), overwrite=True), timeout=60)
        assert model(path) == as_ever(ui.training.epoch)[0]
    finally:
        tell(
            "disks that take nothing: full, limited, failing, read-only",
            count,
            count - survived,
            f"all is on disk {longest:.1f} s after room is made",
        )


@sizes(1, 5)
async def test_a_disk_that_the_training_itself_fills(count: int, tmp_path: Path, attach: Attach) -> None:
    """A run that trains flat out on a disk of 1 MB; when there is more, all of it is there."""
    survived, epochs = 0, 0
    try:
        for at in range(count):
            with disks.disk(tmp_path / str(at), "1m") as folder:
                workspace = Workspace.open(folder / "w")
                try:
                    ui = await begin(attach, workspace, None)
                    await ui.until(lambda: titles(ui, 0) >= {NOT_RECORDED}, 60)  # noqa: B023
                    reached = ui.training.epoch
                    await ui.until(lambda: ui.training.epoch > reached + 2000, 60)  # noqa: B023
                    disks.resize(folder, "64m")
                    await paused_and_recorded(ui, workspace)
                    epochs += ui.training.epoch
                    survived += 1
                finally:
                    end_engine(workspace)
    finally:
        tell("disks of 1 MB that a training fills", count, count - survived, f"{epochs:,} epochs, all there")


@sizes(1, 5)
async def test_a_workspace_that_is_removed_while_it_trains(
    count: int, tmp_path: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder goes: that is told, the training goes on, and its model can be saved elsewhere."""
    monkeypatch.setenv("WORKFLOW_TUI_IDLE_SECONDS", "2")
    survived = 0
    try:
        for at in range(count):
            workspace = Workspace.open(tmp_path / str(at))
            ui = await begin(attach, workspace, 300.0)
            child = child_of(workspace)
            assert child is not None
            try:
                disks.remove(workspace.path)
                await ui.until(lambda: titles(ui, 0) >= {NOT_RECORDED}, 30)  # noqa: B023
                assert "it was removed" in " ".join(ui.notices)
                reached = ui.training.epoch
                await ui.until(lambda: ui.training.epoch > reached + 200, 60)  # noqa: B023
                await ui.request(Pause())
                path = tmp_path / f"{at}.pt"
                await ui.request(Save(path=str(path)), timeout=60)
                assert model(path) == as_ever(ui.training.epoch)[0]
                await ui.client.close()
                assert child.wait(10) == 0, "nobody can reach it any more"
                assert not workspace.path.exists()
                survived += 1
            finally:
                child.kill()
    finally:
        tell("workspaces that are removed while they train", count, count - survived)
