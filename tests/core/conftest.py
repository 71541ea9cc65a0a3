"""Real engine processes for the tests that need one, each in a workspace of its own and always ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from tests.core.forked import Forks

from workflow_core import launcher
from workflow_core.client import EngineClient
from workflow_core.errors import Problem
from workflow_core.history import History
from workflow_core.launcher import child_of, launch
from workflow_core.protocol import Epochs, Event, Notice, Steps, TrainingView, Update
from workflow_core.workspace import Workspace


class Watcher:
    """A client that folds events as a UI does, and lets a test wait for what it should see."""

    def __init__(self, workspace: Workspace) -> None:
        self.client = EngineClient(workspace, self.take, self.lose)
        self.request = self.client.request
        self.state: dict[str, Any] = {}
        self.history = History()
        self.events: list[Event] = []
        self.lost: list[str] = []
        self._changed = asyncio.Event()

    def take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Update):
            for name in Update.__struct_fields__:
                if (value := getattr(event, name)) is not UNSET:
                    self.state[name] = value
            if event.history is not UNSET:
                self.history = History.from_data(event.history) if event.history else History()
        elif isinstance(event, Epochs):
            assert event.start == self.history.epochs, "epochs were lost or told twice"
            self.history.extend(event.series)
            self.state["training"] = event.training
        self._changed.set()

    def lose(self, reason: str) -> None:
        self.lost.append(reason)
        self._changed.set()

    @property
    def training(self) -> TrainingView:
        view = self.state["training"]
        assert isinstance(view, TrainingView)
        return view

    @property
    def steps(self) -> Steps:
        steps = self.state["steps"]
        assert isinstance(steps, Steps)
        return steps

    @property
    def notices(self) -> list[str]:
        return [event.problem.message for event in self.events if isinstance(event, Notice)]

    async def until(self, check: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until `check` holds; it is asked after every event."""
        async with asyncio.timeout(seconds):
            while not check():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(self, *states: str) -> TrainingView:
        """Wait until the run is in one of these states."""
        await self.until(lambda: self.state.get("training") and self.training.state in states)
        return self.training


async def until_kept(workspace: Workspace) -> None:
    """Wait until the first checkpoint is there: it is written after what began the run has been answered."""
    async with asyncio.timeout(20):
        while not workspace.kept_run.exists():
            await asyncio.sleep(0.01)


def noting(problems: list[Problem]) -> Callable[[Problem | None], None]:
    """What a keeper or a store is given to tell of its troubles; that one is over is left out."""

    def note(problem: Problem | None) -> None:
        if problem is not None:
            problems.append(problem)

    return note


def end_engine(workspace: Workspace) -> None:
    """Kill whatever engine there is, and wait for it."""
    if (pid := workspace.engine_pid()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if (child := child_of(workspace)) is not None:
        child.kill()
        child.wait(10)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The workspace of one engine that all tests of a module share."""
    workspace = Workspace.open(tmp_path_factory.mktemp("workspace"))
    launch(workspace)
    yield workspace
    end_engine(workspace)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of the test's own; an engine that it starts there is ended."""
    own = Workspace.open(tmp_path / "w")
    yield own
    end_engine(own)


@pytest.fixture(scope="session")
def forks() -> Forks:
    """Forks engines from a process that has loaded PyTorch, for all tests of this process."""
    return Forks()


@pytest.fixture
def forked(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are started from this process need not load PyTorch; for tests that are about something else."""
    monkeypatch.setattr(launcher, "subprocess", forks)


@pytest.fixture
def without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines started now find a torch that cannot be imported: they come up in a moment, and fail properly."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text('raise ImportError("libtorch is [broken]")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))


@pytest.fixture
async def attach() -> AsyncIterator[Callable[[Workspace], Any]]:
    """Connects watchers to a workspace, with an engine started where there is none."""
    watchers: list[Watcher] = []

    async def connect(workspace: Workspace) -> Watcher:
        watcher = Watcher(workspace)
        watchers.append(watcher)
        await watcher.client.connect()
        await watcher.until(lambda: watcher.state)
        return watcher

    yield connect
    for watcher in watchers:
        await watcher.client.close()
