"""Trainings in workspaces, from outside: begin one, go on with one, end one. Without torch and without a UI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    Answer,
    BuildModel,
    Ending,
    Hello,
    MakeData,
    Pause,
    Reset,
    Run,
    SetTraining,
    Shutdown,
)
from workflow_core.specs import DataSpec, ModelSpec, WorkflowSpec
from workflow_core.standing import ANSWER, Standing, Watched, live, on_record, watching
from workflow_core.views import holds
from workflow_core.workspace import Workspace

LOADING = 120.0
"""Seconds that an engine may take to load torch and what it had kept."""
ENDING = 40.0
"""Seconds that an engine may take to end: to come to the end of its batch, and to keep that."""
TURN = 0.02
"""Seconds between two looks at whether another has begun its training."""

Spec = TypeVar("Spec", DataSpec, ModelSpec)


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
        standing = live(Standing(name=workspace.path.name, path=str(workspace.path), engine="none"), watched)
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
        recorded = max((run.epochs for run in on_record(workspace)[1]), default=0)
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
        return live(replace(standing, again=again, notices=_noticed(watched)), watched)
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
        return live(replace(standing, replaced=replaced, notices=_noticed(watched)), watched)
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
