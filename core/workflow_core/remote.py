"""What runs in which workspace, from outside: list it, end it, start it. Without torch and without a UI."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from workflow_core.client import EngineClient
from workflow_core.errors import Problem, WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    Answer,
    BuildModel,
    Ending,
    Epochs,
    Event,
    Hello,
    MakeData,
    Notice,
    Pause,
    RaceView,
    Reset,
    Run,
    SavedView,
    SetTraining,
    Shutdown,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, WorkflowSpec
from workflow_core.store import schema
from workflow_core.views import RunView, holds
from workflow_core.workspace import Workspace

ANSWER = 2.0
"""Seconds that an engine has to say what it is doing."""
LOADING = 120.0
"""Seconds that an engine may take to load torch and what it had kept."""
ENDING = 40.0
"""Seconds that an engine may take to end: to come to the end of its batch, and to keep that."""
TURN = 0.02
"""Seconds between two looks at whether another has begun its training."""

Spec = TypeVar("Spec", DataSpec, ModelSpec)
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
                return _live(Standing(name=name, path=path, engine="live", pid=pid), watched)
    except WorkflowError as error:  # another version's engine, or no engine at all
        return Standing(name=name, path=path, engine="stale", pid=workspace.engine_pid(), reason=error.problem.message)
    pid = workspace.engine_pid()
    engine: EngineState = "stale" if pid is not None else "crashed" if workspace.left_behind() else "none"
    return _recorded(Standing(name=name, path=path, engine=engine, pid=pid), workspace)


def _live(standing: Standing, watched: Watched) -> Standing:
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
        there, runs = _on_record(workspace)
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


def _on_record(workspace: Workspace) -> tuple[tuple[int, int] | None, list[RunView]]:
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


async def stop(workspace: Workspace, *, force: bool = False) -> Standing:
    """Let the epoch under way come to its end, keep the run and end the engine; how it stood then.

    Raises WorkflowError where there is no engine, it does not end, or, unless by `force`, the run cannot be kept.
    """
    async with watching(workspace) as watched:
        if watched is None:
            raise _nobody_to_stop(workspace)
        # until then it does not say what it had kept
        await watched.until(LOADING, "ready", "failed", "lost")
        if watched.running:
            await watched.client.request(Pause(at_epoch=True))
            await watched.until(None, "resting", "lost")
        standing = _live(Standing(name=workspace.path.name, path=str(workspace.path), engine="none"), watched)
        answer: Answer = None
        with contextlib.suppress(WorkflowError):  # it may be gone before its answer
            answer = await watched.client.request(Shutdown(if_kept=not force), timeout=ENDING)
        if isinstance(answer, Ending) and not answer.ends:
            raise _cannot_be_kept(standing, workspace)
        if not await watched.until(ENDING, "lost"):
            raise WorkflowError("Still there", f"the engine of {workspace.path} has not ended.", "Try again.")
    # what it said last, when the last checkpoint was written or was not
    return replace(standing, keeps=watched.keeps)


def _cannot_be_kept(standing: Standing, workspace: Workspace) -> WorkflowError:
    what = f"run {standing.run}" if standing.race is None else f"race {standing.race}"
    return WorkflowError(
        "Not kept",
        f"{what} cannot be kept as it stands, after {standing.epoch or 0:,} epochs: {workspace.log} says why. "
        "The engine lives on with it, paused.",
        "Make room on the disk and stop it again, or attach and save the model; --force ends it all the same.",
    )


def _nobody_to_stop(workspace: Workspace) -> WorkflowError:
    pid = workspace.engine_pid()
    if pid is None:
        return WorkflowError("No engine", f"no engine runs in {workspace.path}.", "There is nothing to stop.")
    return WorkflowError(
        "The engine does not answer",
        f"the engine of {workspace.path} (pid {pid}) does not answer: it hangs, or ends already.",
        f"Try again; where it hangs, kill -9 {pid} ends it, and what was kept last comes back.",
    )


async def resume(workspace: Workspace) -> Standing:
    """Go on with the training or the race that is there, in an engine that is started where there is none.

    Raises WorkflowError where there is none, or it is over.
    """
    watched, recorded, again = Watched(workspace), 0, None
    with contextlib.suppress(sqlite3.Error, OSError):
        recorded = max((run.epochs for run in _on_record(workspace)[1]), default=0)
    left = workspace.kept_run.exists()
    try:
        hello = await _ready(workspace, watched)
        if watched.training is None and watched.race is None:
            raise _nothing_to_resume(workspace, left=left)
        if not watched.running:
            there = watched.training if watched.race is None else watched.race
            again = max(recorded - there.epoch, 0) if there is not None else None
            await watched.client.request(Run(go_on=True))
            await watched.until(ANSWER, "running", "lost")
        standing = Standing(name=workspace.path.name, path=str(workspace.path), engine="live", pid=hello.pid)
        return _live(replace(standing, again=again, notices=_noticed(watched)), watched)
    except WorkflowError:
        await _leave_no_engine(watched)
        raise
    finally:
        await watched.client.close()


def _noticed(watched: Watched) -> tuple[str, ...]:
    """What has happened; not what to do about it, which is said of the screens, and before a run goes on."""
    return tuple(dict.fromkeys(f"{each.title}: {each.message}" for each in watched.notices))


def _nothing_to_resume(workspace: Workspace, *, left: bool) -> WorkflowError:
    if left:
        return WorkflowError(
            "Not brought back",
            f"what was kept in {workspace.path} could not be brought back.",
            "The screens say why, as does the log: attach to it.",
        )
    return WorkflowError(
        "Nothing to resume", f"nothing is kept in {workspace.path} that could go on.", "Start a training there."
    )


async def _ready(workspace: Workspace, watched: Watched) -> Hello:
    hello = await watched.client.connect()
    if not await watched.until(LOADING, "ready", "failed", "lost") or not watched.ready:
        why = watched.failed or "it has ended, or takes too long to load PyTorch"
        raise WorkflowError("The engine is not ready", f"{why.rstrip('.')}.", f"Look at {workspace.log}.")
    return hello


async def _leave_no_engine(watched: Watched) -> None:
    """End the engine that was started for nothing; one that has something to do or to tell lives on."""
    if child_of(watched.client.workspace) is not None and watched.client.connected:
        with contextlib.suppress(WorkflowError):
            await watched.client.request(Shutdown(if_idle=True), timeout=ENDING)


async def start(workspace: Workspace, spec: WorkflowSpec) -> Standing:
    """Begin a training in the workspace, whose engine is started where there is none, and leave it to itself.

    Of several that would begin one there at once the first does: what it begins is made of its own settings alone.
    Raises WorkflowError where that cannot be, also where a training is there that would be given up for it.
    """
    async with _in_turn(workspace):
        return await _start(workspace, spec)


@contextlib.asynccontextmanager
async def _in_turn(workspace: Workspace) -> AsyncIterator[None]:
    """Alone in beginning a training there; without a word on a disk that knows no locks. Raises WorkflowError."""
    turn = None
    until = time.monotonic() + LOADING
    with contextlib.suppress(OSError):
        while (turn := workspace.turn()) is None:
            if time.monotonic() > until:
                raise WorkflowError(
                    "Something else begins a training there",
                    f"it has not come to its end in {workspace.path} within {LOADING:.0f} s.",
                    "Look at `workflow-tui ls`, or name another --workspace.",
                )
            await asyncio.sleep(TURN)
    try:
        yield
    finally:
        if turn is not None:
            os.close(turn)


async def _start(workspace: Workspace, spec: WorkflowSpec) -> Standing:
    watched = Watched(workspace)
    try:
        hello = await _ready(workspace, watched)
        _refuse_to_give_up(workspace, watched)
        before = watched.training
        replaced = before.run if before is not None and before.epoch and not holds(watched.saved, before) else None
        await watched.client.request(MakeData(spec=_placed(spec.data)))
        await watched.client.request(BuildModel(spec=_placed(spec.model)))
        await watched.client.request(SetTraining(spec=spec.train))
        if watched.training is not None:
            await watched.client.request(Reset())
        await watched.client.request(Run())
        await watched.until(ANSWER, "training")
        standing = Standing(name=workspace.path.name, path=str(workspace.path), engine="live", pid=hello.pid)
        return _live(replace(standing, replaced=replaced, notices=_noticed(watched)), watched)
    except WorkflowError:
        await _leave_no_engine(watched)
        raise
    finally:
        await watched.client.close()


def _refuse_to_give_up(workspace: Workspace, watched: Watched) -> None:
    training = watched.training
    if watched.race is not None and watched.race.state in ("running", "paused"):
        what = "a race"
    elif training is not None and (training.state == "running" or (training.state == "paused" and training.epoch)):
        what = f"run {training.run}, after {training.epoch:,} of {training.spec.epochs:,} epochs,"
    else:
        return
    raise WorkflowError(
        "Something trains there already",
        f"{what} is {'running' if watched.running else 'paused'} in {workspace.path}.",
        "Attach to it or resume it, or name another --workspace.",
    )


def _placed(spec: Spec) -> Spec:
    """`spec` with the whole path of the file that it names: the engine is in another folder."""
    if spec.kind not in ("table", "custom"):
        return spec
    return replace(spec, file=str(Path(spec.file).expanduser().absolute()))
