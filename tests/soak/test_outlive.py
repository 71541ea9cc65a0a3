"""What a run survives of kills, of many engines and screens at once, and of noise on its socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.conftest import end_engine, until_kept
from tests.soak.runs import digest, straight
from tests.soak.table import sizes, tell

from workflow_core import sockets
from workflow_core.launcher import child_of
from workflow_core.protocol import MakeData, Pause, ReadSeries, Run, Save, SetPace, SetTraining
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.workspace import Workspace

Attach = Callable[[Workspace], Any]
STARTS = 20
NOISY = DataSpec(noise=0.05, step=0.005)


@contextlib.contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Not in this process, which holds all that pytest and torch have made: a look at that takes longer than what is
    measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def told_of_run(ui: Any) -> None:
    await ui.until(lambda: ui.state.get("training"), 60)


@sizes(2, 200)
async def test_kills_at_random_moments_cost_nothing(
    count: int, workspace: Workspace, attach: Attach, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """200 kills of the engine while it trains: the run ends with the weights of one that nobody killed."""
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.1")
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    spec = TrainSpec(
        epochs=100 + count * 60, batch_size=32, optimizer="adam", scheduler="cosine", scheduler_epochs=500, device="cpu"
    )
    ui = await attach(workspace)
    await ui.request(MakeData(spec=NOISY))
    await ui.request(SetTraining(spec=spec))
    await ui.request(SetPace(pace=100.0))
    await ui.request(Run(), timeout=60)
    await until_kept(workspace)
    lost = 0
    for kill in range(count):
        await asyncio.sleep(moments.uniform(0.0, 0.6))
        told = ui.training.epoch
        child = child_of(workspace)
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        await ui.client.close()
        ui = await attach(workspace)
        await told_of_run(ui)
        lost += ui.training.epoch < told - 100 or ui.history.epochs != ui.training.epoch
        await ui.request(Run(), timeout=60)
        assert ui.training.run == 1, (seed, kill)
    await ui.request(SetPace(pace=None))
    await ui.until(lambda: ui.training.state == "finished", 300)
    answer = await ui.request(ReadSeries(run=1, start=0, stop=spec.epochs, columns=4096, names=("train_loss",)))
    assert answer.epochs == spec.epochs, "no gap, and nothing twice"
    path = tmp_path / "model.pt"
    await ui.request(Save(path=str(path)), timeout=60)
    same = digest(torch.load(path, weights_only=True)) == straight(ModelSpec(), NOISY, spec, spec.epochs)[0]
    tell(f"kill -9 of the engine at random moments (seed {seed})", count, lost, f"final weights equal: {same}")
    assert same
    assert not lost


@sizes(1, 50)
def test_of_simultaneous_starts_one_engine_stays(count: int, tmp_path: Path) -> None:
    """50 rounds of 20 engines started at once on one workspace."""
    wrong = 0
    for at in range(count):
        workspace = Workspace.open(tmp_path / str(at))
        command = [sys.executable, "-P", "-m", "workflow_core.engine", "--workspace", str(workspace.path)]
        engines = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(STARTS)]
        deadline = time.monotonic() + 120
        while sum(engine.poll() is None for engine in engines) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        alive = [engine for engine in engines if engine.poll() is None]
        wrong += len(alive) != 1 or any(engine.returncode for engine in engines if engine not in alive)
        for engine in alive:
            engine.kill()
            engine.wait()
    tell("rounds of 20 simultaneous starts, one engine each", count, wrong)
    assert not wrong


@sizes(5, 500)
async def test_attaching_again_and_again_is_quick_and_changes_nothing(
    count: int, workspace: Workspace, attach: Attach, tmp_path: Path
) -> None:
    """500 screens that come and go while a run trains flat out, a long one behind it."""
    spec = TrainSpec(epochs=10_000_000, device="cpu")
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=spec))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.history.epochs > 40 * count, 60)
    took = []
    with no_garbage_collected():
        for _ in range(count):
            begun = time.perf_counter()
            other = await attach(workspace)
            await told_of_run(other)
            took.append(1000 * (time.perf_counter() - begun))
            await other.client.close()
    assert ui.training.state == "running"
    await ui.request(Pause(), timeout=60)
    view = await ui.until_state("paused")
    path = tmp_path / "model.pt"
    await ui.request(Save(path=str(path)), timeout=60)
    same = digest(torch.load(path, weights_only=True)) == straight(ModelSpec(), DataSpec(), spec, view.epoch)[0]
    ninety_nine = statistics.quantiles(took, n=100)[-1]
    slow = sum(each > 50 for each in took) if ninety_nine > 50 else 0
    told = f"99 in 100 within {ninety_nine:.0f} ms; weights after {view.epoch:,} epochs equal: {same}"
    tell("attaches to a training that runs flat out", count, count if not same else slow, told)
    assert same
    assert count < 100 or ninety_nine <= 50, "a few say nothing of 99 in 100"
    end_engine(workspace)


@sizes(30, 1000)
async def test_malformed_frames_leave_the_engine_alive(count: int, workspace: Workspace, attach: Attach) -> None:
    """1,000 frames of noise, too long or cut, each on a connection of its own."""
    ui = await attach(workspace)
    child = child_of(workspace)
    assert child is not None
    rng = random.Random(7)
    lost = 0
    for at in range(count):
        while True:
            try:
                peer = sockets.connect(workspace.socket, timeout=5)
                break
            except BlockingIOError:  # more knock than are let in at once
                await asyncio.sleep(0.01)
        noise = rng.randbytes(rng.randrange(1, 400))
        if at % 3 == 0:
            noise = len(noise).to_bytes(4, "big") + noise
        elif at % 3 == 1:
            noise = b"\xff\xff\xff\xff" + noise
        with contextlib.suppress(OSError):
            peer.sendall(noise)
        peer.close()
        lost += child.poll() is not None
    lost += len(ui.lost)
    tell("malformed frames", count, lost)
    assert not lost
    await ui.request(SetPace(pace=7.0), timeout=10)
    await ui.request(Run(epochs=1), timeout=60)
    await ui.until_state("paused")
