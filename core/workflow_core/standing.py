"""How workspaces stand, from outside: what runs in them, as their engines say, or else their records."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from workflow_core.client import EngineClient
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import Epochs, Event, Notice, RaceView, SavedView, TrainingView, Update
from workflow_core.store import schema
from workflow_core.views import RunView
from workflow_core.workspace import Workspace

ANSWER = 2.0
"""Seconds that an engine has to say what it is doing."""

EngineState = Literal["live", "stale", "crashed", "none"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace and the last run in it.

    `engine` is live; stale, where it is alive and does not answer, or is of another version; crashed, where the last
    one did not end in order; or none. `state` is that of the run: ready, running, paused, finished, diverged, failed,
    stopped, interrupted, "" where there was none, or unreadable, where the record is. `rate` is epochs a second now.
    With a `race` and no `run` it is the race that is there, whose losses are those of its `best` lane, with both the
    newest lane of one. All of it comes back in another engine where this one `keeps` it. `replaced` is the run that
    gave way to one that was begun now, with weights that were in no file; `again` are the epochs on record that a
    resumed one trains again; `notices` are what whoever begins or resumes one should know of it.
    """

    name: str
    path: str
    engine: EngineState
    pid: int | None = None
    state: str = ""
    run: int | None = None
    race: int | None = None
    best: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    rate: float | None = None
    reason: str = ""
    keeps: bool = True
    replaced: int | None = None
    again: int | None = None
    notices: tuple[str, ...] = ()


class Watched:
    """The state of an engine as far as it has been told."""

    def __init__(self, workspace: Workspace) -> None:
        self.client = EngineClient(workspace, self._take, self._lose, quiet=True)
        self.training: TrainingView | None = None
        self.race: RaceView | None = None
        self.ready = False
        self.keeps = True
        self.saved: SavedView | None = None
        self.failed = ""
        self.notices: list[Problem] = []
        self.told = False
        self.lost = False
        self._changed = asyncio.Event()

    def _take(self, event: Event) -> None:
        if isinstance(event, Epochs):
            self.training = event.training
        elif isinstance(event, Update):
            self.told = True
            if event.training is not UNSET:
                self.training = event.training
            if event.race is not UNSET:
                self.race = event.race
            if event.saved is not UNSET:
                self.saved = event.saved
            if event.engine is not UNSET and event.engine is not None:
                self.ready, self.keeps = event.engine.state == "ready", event.engine.keeps
                self.failed = event.engine.problem.line() if event.engine.problem is not None else ""
        elif isinstance(event, Notice) and not event.last:
            self.notices.append(event.problem)
        self._changed.set()

    def _lose(self, reason: str) -> None:
        self.lost = True
        self._changed.set()

    async def until(self, seconds: float | None, *names: str) -> bool:
        """Wait until one of these attributes is true; False where none is in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not any(getattr(self, name) for name in names):
                    self._changed.clear()
                    await self._changed.wait()
                return True
        return False

    @property
    def running(self) -> bool:
        """Is a training or a race under way?"""
        return any(each is not None and each.state == "running" for each in (self.training, self.race))

    @property
    def resting(self) -> bool:
        """Is none?"""
        return not self.running


@contextlib.asynccontextmanager
async def watching(workspace: Workspace) -> AsyncIterator[Watched | None]:
    """What the engine that is there says; None where there is none that answers. Raises WorkflowError."""
    watched = Watched(workspace)
    try:
        hello = await watched.client.find(ANSWER)
        yield watched if hello is not None and await watched.until(ANSWER, "told", "lost") else None
    finally:
        await watched.client.close()


async def survey(workspaces: Sequence[Workspace]) -> list[Standing]:
    """How each of `workspaces` stands; all are asked at once."""
    return list(await asyncio.gather(*map(_standing, workspaces)))


async def _standing(workspace: Workspace) -> Standing:
    name, path = workspace.path.name, str(workspace.path)
    try:
        async with watching(workspace) as watched:
            if watched is not None:
                pid = watched.client.engine.pid if watched.client.engine is not None else None
                return live(Standing(name=name, path=path, engine="live", pid=pid), watched)
    except WorkflowError as error:  # another version's engine, or no engine at all
        return Standing(name=name, path=path, engine="stale", pid=workspace.engine_pid(), reason=error.problem.message)
    pid = workspace.engine_pid()
    engine: EngineState = "stale" if pid is not None else "crashed" if workspace.left_behind() else "none"
    return _recorded(Standing(name=name, path=path, engine=engine, pid=pid), workspace)


def live(standing: Standing, watched: Watched) -> Standing:
    """`standing` with what the engine that is watched says of its race or its training."""
    race, training, standing = watched.race, watched.training, replace(standing, keeps=watched.keeps)
    if race is not None:
        best = min(race.lanes, key=lambda lane: math.inf if lane.best_loss is None else lane.best_loss)
        return replace(
            standing,
            state=race.state,
            race=race.race,
            best=None if best.best_loss is None else best.run,
            epoch=race.epoch,
            epochs=race.epochs,
            train_loss=best.train_loss,
            val_loss=best.val_loss,
            rate=race.rate if race.state == "running" else None,
        )
    if training is None:
        return standing
    return replace(
        standing,
        state=training.state,
        run=training.run,
        epoch=training.epoch,
        epochs=training.spec.epochs,
        train_loss=training.train_loss,
        val_loss=training.val_loss,
        rate=training.rate if training.state == "running" else None,
        reason=training.reason,
    )


def _recorded(standing: Standing, workspace: Workspace) -> Standing:
    """What the record says of the run or the race that an engine would find; without a word of that, the newest run."""
    try:
        there, runs = on_record(workspace)
    except (sqlite3.Error, OSError) as error:
        return replace(standing, state="unreadable", reason=str(error))
    if not runs:
        run = there[0] if there is not None else 0
        return replace(standing, state="ready", run=run, epoch=0) if run else standing
    # what was running in an engine that does not answer may go on all the same
    states = {"running": "running" if standing.engine == "stale" else "interrupted"}
    best = min(runs, key=lambda run: math.inf if run.best_loss is None else run.best_loss)
    race = there[1] if there is not None else 0
    found = {states.get(run.state, run.state) for run in runs}
    over = "finished" if race else best.state
    return replace(
        standing,
        state=next((each for each in ("running", "interrupted", "paused") if each in found), over),
        run=None if race else best.run,
        race=race or best.race or None,
        best=best.run if race and best.best_loss is not None else None,
        epoch=max(run.epochs for run in runs),
        epochs=best.spec.train.epochs,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        reason="" if race else best.reason,
    )


def on_record(workspace: Workspace) -> tuple[tuple[int, int] | None, list[RunView]]:
    """Which run and race are there (see `schema.there`), and the record of that race's runs or of that run.

    Raises sqlite3.Error and OSError.
    """
    if not workspace.store.exists():
        return None, []
    with contextlib.closing(schema.connect_to_read(workspace.store)) as db:
        there = schema.there(db)
        if there is None:
            return None, schema.select(db, "id = (SELECT max(id) FROM runs)", ())
        run, race = there
        return there, schema.select(db, "race = ?", (race,)) if race else schema.select(db, "id = ?", (run,))
