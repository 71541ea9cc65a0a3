"""An engine that is told to end while a batch takes long: it waits for it and keeps it, and says so where it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.core.conftest import until_kept

from workflow_core import remote
from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import BuildModel, Evaluate, Run, SetTraining, StartRace
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.standing import survey
from workflow_core.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked")
Attach = Callable[[Workspace], Any]

MODEL = """
import ctypes, pathlib, time
from torch import nn

HERE = pathlib.Path(__file__).parent

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x):
        if (HERE / "slow").exists() and self.training != (HERE / "between").exists():
            (HERE / "waits").touch()
            time.sleep(float((HERE / "slow").read_text()))
        if self.training:
            if (HERE / "hold").exists():
                (HERE / "waits").touch()
                while not (HERE / "told").exists():
                    time.sleep(0.01)
                ctypes.PyDLL(None).sleep(int((HERE / "hold").read_text()))  # which lets no other thread of Python run
            with open(HERE / "passes", "a") as file:
                file.write("x")
        return self.line(x)
"""
"""A model of a person's own whose passes take as many seconds as a file says, and are counted."""

SHORT = """
from workflow_core.engine import server

server.BATCH_GRACE = 1.0
"""
"""What Python runs as it starts, so that an engine waits for its batches no longer."""


async def until(check: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


async def trained(workspace: Workspace, attach: Attach, slow: str = "", hold: str = "") -> subprocess.Popen[bytes]:
    """The engine while it trains; with `slow` or `hold`, in a pass that takes so many seconds."""
    ui = await attach(workspace)
    file = workspace.path / "models.py"
    file.write_text(MODEL, encoding="utf-8")
    await ui.request(BuildModel(spec=ModelSpec(kind="custom", file=str(file), class_name="Slow")), timeout=60)
    await ui.request(SetTraining(spec=TrainSpec(epochs=1_000_000, batch_size=8, device="cpu")))
    (workspace.path / "passes").unlink(missing_ok=True)
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.training.epoch >= 3)
    await until_kept(workspace)
    if slow or hold:
        await slowed(workspace, slow, hold)
    child = child_of(workspace)
    assert child is not None
    return child


async def slowed(workspace: Workspace, slow: str = "", hold: str = "") -> None:
    """Let passes take so many seconds from now on, and wait for the first one."""
    name, seconds = ("slow", slow) if slow else ("hold", hold)
    (workspace.path / "draft").write_text(seconds)
    (workspace.path / "draft").rename(workspace.path / name)
    await until((workspace.path / "waits").exists)


def passes(workspace: Workspace) -> int:
    """Batches that the model has been trained with."""
    return len((workspace.path / "passes").read_text())


def impatient(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are started now wait for no batch longer than a second."""
    (folder / "sitecustomize.py").write_text(SHORT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


async def told_to_end(workspace: Workspace, child: subprocess.Popen[bytes]) -> None:
    """Tell the engine to end, and wait until it knows."""
    os.kill(child.pid, signal.SIGTERM)
    await until(lambda: "ending: it received SIGTERM" in workspace.log.read_text())


async def back(workspace: Workspace, attach: Attach) -> Any:
    """Whoever sees what the next engine has brought back."""
    for name in ("slow", "hold"):
        (workspace.path / name).unlink(missing_ok=True)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state["engine"].state == "ready", 60)
    return ui


async def test_a_batch_that_takes_seconds_is_waited_for_and_kept(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach, slow="2.5")
    begun = time.monotonic()
    os.kill(child.pid, signal.SIGTERM)
    assert await asyncio.to_thread(child.wait, 20) == 0
    assert time.monotonic() - begun < 10, "one batch, and not the next"
    ui = await back(workspace, attach)
    assert ui.training.state == "paused"
    assert passes(workspace) == ui.training.epoch * ui.training.batches + ui.training.batch
    assert ui.history.epochs == ui.training.epoch
    assert ui.notices == []


async def test_so_is_one_of_a_race(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach)
    ui = await attach(workspace)
    lanes = tuple(TrainSpec(epochs=1_000_000, device="cpu", learning_rate=rate) for rate in (0.1, 0.01))
    await ui.request(StartRace(lanes=lanes), timeout=60)
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].epoch >= 3)
    await slowed(workspace, "1.5")
    os.kill(child.pid, signal.SIGTERM)
    assert await asyncio.to_thread(child.wait, 20) == 0
    ui = await back(workspace, attach)
    race, run = ui.state["race"], ui.training
    assert race.state == "paused"
    assert passes(workspace) == sum(lane.epoch for lane in race.lanes) + run.epoch * run.batches + run.batch
    assert ui.notices == []


async def test_so_is_what_takes_long_between_two_batches(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach)
    (workspace.path / "between").touch()
    ui = await attach(workspace)
    evaluating = asyncio.create_task(ui.request(Evaluate(), timeout=60))
    await slowed(workspace, "1.5")
    os.kill(child.pid, signal.SIGTERM)
    assert await asyncio.to_thread(child.wait, 20) == 0
    await asyncio.gather(evaluating, return_exceptions=True)
    ui = await back(workspace, attach)
    assert passes(workspace) == ui.training.epoch * ui.training.batches + ui.training.batch
    assert ui.notices == []


async def test_a_second_sigterm_ends_that_wait_at_once(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach, slow="60")
    await told_to_end(workspace, child)
    await until(lambda: "waiting for the batch under way" in workspace.log.read_text())
    assert child.poll() is None
    begun = time.monotonic()
    os.kill(child.pid, signal.SIGTERM)
    assert await asyncio.to_thread(child.wait, 20) == 0
    assert time.monotonic() - begun < 1
    ui = await back(workspace, attach)
    assert ui.notices == []


async def test_who_looks_meanwhile_is_told_what_is_waited_for(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach, slow="2.5")
    ui = await attach(workspace)
    await told_to_end(workspace, child)
    await ui.until(lambda: ui.notices)
    assert "It waits for the batch under way" in ui.notices[0]
    (looked,) = await survey([workspace])
    assert (looked.engine, looked.pid) == ("stale", child.pid)
    with pytest.raises(WorkflowError, match="or ends already"):
        await remote.stop(workspace)
    await ui.until(lambda: ui.lost)
    assert "it received SIGTERM" in ui.lost[0]
    assert await asyncio.to_thread(child.wait, 20) == 0


async def test_a_batch_that_does_not_end_is_given_up_and_the_next_engine_names_what_was_lost(
    workspace: Workspace, attach: Attach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(tmp_path, monkeypatch)
    child = await trained(workspace, attach, slow="60")
    ui = await attach(workspace)
    os.kill(child.pid, signal.SIGTERM)
    assert await asyncio.to_thread(child.wait, 20) == 1
    assert "did not end within 1 s" in workspace.log.read_text()
    await ui.until(lambda: ui.lost)
    assert "the batch was too slow" in ui.notices[-1]
    assert workspace.left_behind()
    ui = await back(workspace, attach)
    await ui.until(lambda: ui.notices)
    assert "while run 1 was training" in ui.notices[0]


async def test_a_batch_that_holds_all_of_python_up_is_waited_for_as_well(workspace: Workspace, attach: Attach) -> None:
    child = await trained(workspace, attach, hold="3")
    await told_to_end(workspace, child)
    (workspace.path / "told").touch()
    assert await asyncio.to_thread(child.wait, 20) == 0
    ui = await back(workspace, attach)
    assert passes(workspace) == ui.training.epoch * ui.training.batches + ui.training.batch
    assert ui.notices == []


async def test_one_that_holds_it_up_for_ever_is_ended_all_the_same(
    workspace: Workspace, attach: Attach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(tmp_path, monkeypatch)
    child = await trained(workspace, attach, hold="600")
    await told_to_end(workspace, child)
    (workspace.path / "told").touch()
    assert await asyncio.to_thread(child.wait, 20) == 1
    ui = await back(workspace, attach)
    await ui.until(lambda: ui.notices)
    assert "while run 1 was training" in ui.notices[0]
