"""What a run survives of SIGTERM: the first saves within a second, the second ends at once, whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.conftest import end_engine
from tests.e2e.program import PROGRAM
from tests.soak.table import sizes, tell

from workflow_core.launcher import child_of
from workflow_core.protocol import BuildModel, MakeData, Run, SetTraining
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.workspace import Workspace

Attach = Callable[[Workspace], Any]

SAVED_WITHIN = 1.0
"""Seconds from SIGTERM until the run is on disk."""
AT_ONCE = 0.5
"""Seconds from the second SIGTERM until the process has ended."""
BESIDE_OTHERS = 20.0
"""Seconds for either where it runs beside other tests, in short."""
HEADLESS: list[str | Path] = [PROGRAM, "train", "--epochs", "1000000", "--json", "--every", "10"]
MODELS = """
import hashlib, pathlib
from torch import nn

HERE = pathlib.Path(__file__).parent

def wait():
    if (HERE / "wait").exists():
        (HERE / "waits").touch()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # in C code, which no handler of Python's interrupts

class Pass(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x):
        if self.training:
            wait()
        return self.line(x)

class Saving(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x):
        return self.line(x)

    def state_dict(self, *arguments, **more):
        wait()
        return super().state_dict(*arguments, **more)
"""
"""Models of a person's own that hang once a file is there: in a pass, or as they are saved."""

DISK = """
import hashlib, os

fsync = os.fsync

def hang(descriptor):
    if os.path.exists(os.path.join(os.getcwd(), "hang")):  # where an engine is, is its workspace
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    fsync(descriptor)

os.fsync = hang
"""
"""What Python runs as it starts, so that a disk can hang: there is none that does when it is asked to."""


def until_there(path: Path) -> None:
    """Wait until there is such a file."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.01)


@contextlib.contextmanager
def hanging_disk(workspace: Workspace) -> Iterator[None]:
    """Each fsync that begins now takes for ever."""
    flag = workspace.path / "hang"
    flag.touch()
    yield
    flag.unlink()


@contextlib.contextmanager
def locked_store(workspace: Workspace) -> Iterator[None]:
    """Another program has begun to write into the record of the runs, and does not come to an end."""
    with contextlib.closing(sqlite3.connect(workspace.store, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def endless_pass(workspace: Workspace) -> Iterator[None]:
    """The model is what hangs."""
    (workspace.path / "wait").touch()
    until_there(workspace.path / "waits")
    yield


HANGS = hanging_disk, endless_pass, locked_store


async def trained(ui: Any, epochs: int = 0, spec: TrainSpec | None = None) -> subprocess.Popen[bytes]:
    """The engine process of `ui`, which trains and has done so many epochs."""
    if spec is not None:
        await ui.request(SetTraining(spec=spec))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.training.state == "running" and ui.training.epoch >= epochs)
    child = child_of(ui.client.workspace)
    assert child is not None
    return child


async def back(ui: Any) -> Any:
    """What an engine tells of the run that the one before it had, once it has brought it back."""
    await ui.until(lambda: ui.state["engine"].state == "ready" and ui.state.get("training"), 60)
    return ui.training


def ended(child: subprocess.Popen[Any]) -> tuple[int, float]:
    """The status of a process that is sent SIGTERM, and the seconds until it has ended; one that stays is killed."""
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    try:
        status = child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        status = child.wait()
    return status, time.monotonic() - begun


@sizes(1, 40)
async def test_sigterm_saves_within_a_second(count: int, workspace: Workspace, attach: Attach) -> None:
    """40 engines told to end at a random moment of a training in batches; the next one goes on where they were."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    ui = await attach(workspace)
    await ui.request(MakeData(spec=DataSpec(step=0.0001, noise=0.1)))
    spec: TrainSpec | None = TrainSpec(epochs=1_000_000, batch_size=8, device="cpu")
    took: list[float] = []
    wrong: list[object] = []
    for at in range(count):
        child = await trained(ui, spec=spec)
        spec = None
        time.sleep(moments.uniform(0, 0.5))
        begun = time.time()
        status, _ = ended(child)
        took.append((workspace.checkpoints / "run.pt").stat().st_mtime - begun)
        await asyncio.sleep(0.1)  # what it said last is heard
        told, ui = ui.training, await attach(workspace)
        run = await back(ui)
        if (
            status
            or not 0 <= took[-1] <= (SAVED_WITHIN if count > 1 else BESIDE_OTHERS)
            or ui.notices
            or run.state != "paused"
        ):
            wrong.append((at, status, took[-1], ui.notices, run.state))
        if (run.epoch, run.batch) < (told.epoch, told.batch) or ui.history.epochs != run.epoch:
            wrong.append((at, (told.epoch, told.batch), (run.epoch, run.batch), ui.history.epochs))
    tell(f"SIGTERM at random moments (seed {seed})", count, len(wrong), f"saved within {max(took):.2f} s")
    assert not wrong, (seed, wrong)


@sizes(1, 30)
async def test_a_second_sigterm_ends_the_engine_at_once(
    count: int, tmp_path: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 engines that cannot save: a disk that hangs, a pass that does not end, a record that is locked."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    took: list[float] = []
    wrong: list[object] = []
    (tmp_path / "sitecustomize.py").write_text(DISK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for at in range(count):
        workspace = Workspace.open(tmp_path / str(at))
        hang = HANGS[at % len(HANGS)]
        ui = await attach(workspace)
        if hang is endless_pass:
            file = workspace.path / "models.py"
            file.write_text(MODELS, encoding="utf-8")
            model = ModelSpec(kind="custom", file=str(file), class_name="Pass")
            await ui.request(BuildModel(spec=model), timeout=60)
        child = await trained(ui, 30, TrainSpec(epochs=1_000_000, device="cpu"))
        with hang(workspace):
            child.send_signal(signal.SIGTERM)
            time.sleep(moments.uniform(0.05, 0.3))
            early = child.poll()
            status, seconds = ended(child)
        took.append(seconds)
        if early is not None or status or seconds > (AT_ONCE if count > 1 else BESIDE_OTHERS):
            wrong.append((at, hang.__name__, early, status, seconds))
        ui = await attach(workspace)  # which finds all in order
        await ui.until(lambda told=ui.state: told["engine"].state == "ready", 60)
        if ui.notices:
            wrong.append((at, hang.__name__, ui.notices))
        await ui.client.close()
        end_engine(workspace)
    what = f"second SIGTERM to engines that hang (seed {seed})"
    tell(what, count, len(wrong), f"ended within {1000 * max(took):.0f} ms")
    assert not wrong, (seed, wrong)


@sizes(1, 20)
def test_a_second_sigterm_ends_a_training_without_screens_at_once(count: int, tmp_path: Path) -> None:
    """20 trainings that hang in a pass, or as they save after the first SIGTERM."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    took: list[float] = []
    wrong: list[object] = []
    for at in range(count):
        name = ("Pass", "Saving")[at % 2]
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "models.py").write_text(MODELS, encoding="utf-8")
        command = [*HEADLESS, "--model", f"{folder}/models.py:{name}", "--save", folder / "model.pt"]
        training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert training.stdout is not None
        with training:
            while '"epoch":30' not in training.stdout.readline().replace(" ", ""):
                assert training.poll() is None
            (folder / "wait").touch()
            if name == "Pass":
                until_there(folder / "waits")
            training.send_signal(signal.SIGTERM)
            until_there(folder / "waits")
            time.sleep(moments.uniform(0.05, 0.3))
            early = training.poll()
            status, seconds = ended(training)
        took.append(seconds)
        if (
            early is not None
            or status not in (143, -signal.SIGTERM)
            or seconds > (AT_ONCE if count > 1 else BESIDE_OTHERS)
        ):
            wrong.append((at, name, early, status, seconds))
    what = f"second SIGTERM to trainings without screens that hang (seed {seed})"
    tell(what, count, len(wrong), f"ended within {1000 * max(took):.0f} ms")
    assert not wrong, (seed, wrong)
