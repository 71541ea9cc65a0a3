"""The app's end of the engine: what is asked of it, what is still being waited for, and what happens when it dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET
from rich.text import Text

from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    Branch,
    BuildModel,
    Command,
    Ending,
    Event,
    ExportRun,
    Hello,
    InspectTable,
    Load,
    MakeData,
    NextLine,
    Notice,
    Pause,
    ReadSeries,
    RestoreRun,
    Run,
    Save,
    SetTraining,
    Shutdown,
    StartRace,
    Update,
)
from workflow_core.sanitize import sanitize
from workflow_tui import figures
from workflow_tui.farewell import contents
from workflow_tui.state import State, reduce

if TYPE_CHECKING:
    from workflow_tui.app import WorkflowApp

PATIENCE = 0.4
"""Seconds after which a person is told what is being waited for."""
SILENCE = 5.0
"""Seconds without a word of what trains after which a person is told so."""
LEAVING = 3.0
"""Seconds an engine may take to end before the app leaves without it."""
WAITING: dict[type, str] = {
    InspectTable: "Reading the table",
    Run: "Preparing the run (PyTorch loads its optimizers once)",
    StartRace: "Preparing the race",
    RestoreRun: "Making data and model as they were",
    ReadSeries: "Reading the record of the run",
    ExportRun: "Writing the file",
    NextLine: "Preparing the run (PyTorch loads its optimizers once)",
    Branch: "Going back to that epoch",
    Save: "Writing the file",
    Load: "Reading the file",
}


class Client(Protocol):
    """What the app needs of an engine's client; tests replay one."""

    async def connect(self, timeout: float = ...) -> Hello:
        """Find or start the engine."""

    async def request(self, command: Command, timeout: float | None = ...) -> object:
        """Send a command, wait for its reply."""

    async def close(self) -> None:
        """End the connection."""

    async def restart(self, timeout: float = ...) -> Hello:
        """Connect anew, starting the engine again."""


MakeClient = Callable[[Callable[[Event], None], Callable[[str], None]], Client]


class Link:
    """Keeps the app's state up to what the engine says, and sends it commands."""

    def __init__(self, app: WorkflowApp, make_client: MakeClient, device: str | None) -> None:
        self.app = app
        self.state = State()
        self.client = make_client(self._on_event, self._on_lost)
        self._device = device
        self._attached = self._was_ready = False
        self._begun = self._spoke = monotonic()
        self._framed = asyncio.Event()
        self._listening = False
        self._connected = asyncio.Event()
        self._heard = asyncio.Event()
        self._told = asyncio.Event()
        self._waiting: list[tuple[type[Command], float]] = []
        self._early: list[Problem] = []
        self._held: list[Callable[[], object]] = []

    # what the client reports is handled in the app's own task, where its faults and screens belong

    def _on_event(self, event: Event) -> None:
        if self._listening:
            self.app.call_later(self.take, event)
        else:
            self._held.append(partial(self._fold, event))

    def _on_lost(self, reason: str) -> None:
        if self._listening:
            self.app.call_later(self.lose, reason)
        else:
            self._held.append(partial(self.lose, reason))

    def listen(self) -> None:
        """The first screen has its widgets: it can show what the engine has said meanwhile, and says from now on."""
        if self._listening:
            return
        self._listening = True
        held, self._held = self._held, []
        for fold in held:
            fold()
        self.app.call_later(self._act)

    def first_frame(self) -> None:
        """The first frame stands, and a dialog can lie on it."""
        self._framed.set()
        self.app.call_later(self._act)

    async def framed(self) -> None:
        """Wait for the first frame."""
        await self._framed.wait()

    @property
    def greeted(self) -> bool:
        """Has the app been told that there is an engine that can be asked?"""
        return self._attached

    async def take(self, event: Event) -> None:
        """Fold what the engine said; the clock draws it."""
        self._fold(event)
        await self._act()

    def _fold(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._early.append(event.problem)
            return
        self._spoke = monotonic()
        state = reduce(self.state, event)
        if isinstance(event, Update):
            state = replace(state, connection="connected")
            self._heard.set()
            if event.saved is not UNSET and event.saved is not None:
                self.app.note_written(event.saved.file.path, contents(event.saved))
        self.state = state
        self._told.set()
        self.app.redraw()

    async def _act(self) -> None:
        """What is to be done now that this is known."""
        was_ready, self._was_ready = self._was_ready, self.state.ready
        if self._was_ready and not was_ready:
            await self._ready()
        # before, a dialog would keep the screen of the run away that comes back
        if self._framed.is_set() and (self.state.ready or self.state.engine.state == "failed"):
            early, self._early = self._early, []
            for problem in early:
                self.app.show_problem(problem)

    async def _ready(self) -> None:
        first, self._attached = not self._attached, True
        if first and self._device is not None and self._device != self.state.train_spec.device:
            self.app.send(SetTraining(spec=msgspec.structs.replace(self.state.train_spec, device=self._device)))
        if first and (self.state.training is not None or self.state.race is not None):
            await self.app.go("train")
        self.app.engine_ready()

    def lose(self, reason: str) -> None:
        """Say that the engine has ended, keep what is there."""
        reason = reason.removeprefix("the engine has ended: ").rstrip(".")
        self.state = replace(self.state, connection="lost", lost_reason=sanitize(reason, 300))
        self._was_ready = False
        self._told.set()
        self.app.redraw()

    # asking

    def waits_for(self, kind: type[Command]) -> bool:
        """Has a command of this kind been asked, and not been answered yet?"""
        return any(asked is kind for asked, _ in self._waiting)

    async def answered(self, kind: type[Command]) -> None:
        """Wait until no command of this kind is unanswered."""
        while self.waits_for(kind):
            await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Wait until the engine has said what is there, kept by an earlier one or made since, or cannot say it."""
        while self.state.unknown:
            self._told.clear()
            await self._told.wait()

    @property
    def busy(self) -> bool:
        """Is any command still to be answered?"""
        return bool(self._waiting)

    @property
    def silent(self) -> bool:
        """Has nothing been said for long of what trains? A batch may take that long; an engine that hangs says nothing
        at all, and the last figures would pass for those of now."""
        return self.state.ready and self.state.busy and monotonic() - self._spoke >= SILENCE

    def patience(self) -> Text | None:
        """What is being waited for, and for how long; None where nothing has kept anyone waiting yet."""
        if not self.state.ready:
            if self.state.lost or self.state.engine.state == "failed":
                return None
            return Text(f" The engine is loading PyTorch … {monotonic() - self._begun:.0f} s")
        if not self._waiting:
            if not self.silent:
                return None
            seconds = monotonic() - self._spoke
            return Text(f" No news from the training for {seconds:.0f} s: a slow batch, or its engine hangs")
        kind, since = self._waiting[0]
        seconds = monotonic() - since
        if seconds < PATIENCE:
            return None
        return Text(f" {WAITING.get(kind, 'Waiting for the engine')} … {seconds:.0f} s")

    async def ask(self, command: Command) -> tuple[object, bool]:
        """Send a command, wait for the value of its reply, and say whether it was carried out.

        A problem is shown; a command that is sent before the engine is there waits for it.
        """
        if self.state.lost:
            self.app.complain("The engine has ended: a starts it again")
            return None, False
        waiting = (type(command), monotonic())
        self._waiting.append(waiting)
        try:
            await self._connected.wait()
            answer = await self.client.request(command)
        except WorkflowError as error:
            self.app.refused(None if self.state.lost else error.problem)
            return None, False
        finally:
            self._waiting.remove(waiting)
            self.app.redraw()
        self.app.forget_complaint()
        return answer, True

    async def look_up(self, command: Command) -> object | Problem:
        """Ask for what only shows something: a problem is the answer, not a dialog, and nobody is told to wait."""
        if self.state.lost:
            return Problem(title="The engine has ended", message="the engine has ended.")
        try:
            await self._connected.wait()
            return await self.client.request(command)
        except WorkflowError as error:
            return error.problem

    # coming and going

    async def connect(self) -> None:
        """Find the engine, or start it."""
        try:
            await self.client.connect()
        except WorkflowError as error:
            await self.framed()
            self._failed(error.problem)
        finally:
            self._connected.set()

    async def restart(self) -> None:
        """Start the engine again: with the run that it had kept, or with the settings that are on the screen unless
        another screen was quicker."""
        before = self.state
        self._begun = monotonic()
        self._heard.clear()
        try:
            await self.client.restart()
        except WorkflowError as error:
            self._failed(error.problem)
            return
        await self._heard.wait()
        if self.state.data is not None or self.state.training is not None or self.state.race is not None:
            self.app.complain("Another screen has started the engine again; this is what it is doing", lasting=True)
            return
        await self.ask(SetTraining(spec=before.train_spec))  # which is answered once what was kept is back
        await self.folded()
        training, race = self.state.training, self.state.race
        if race is not None and before.race is not None and race.race == before.race.race:
            done = figures.epochs(race.epoch)
            self.app.complain(
                f"The engine runs again, and race {race.race} is back as it was after {done}", lasting=True
            )
            return
        if training is not None and before.training is not None and training.run == before.training.run:
            done = figures.epochs(training.epoch)
            self.app.complain(
                f"The engine runs again, and run {training.run} is back as it was after {done}", lasting=True
            )
            return
        await self._restore(before)
        if before.trained and self.state.training is None and not self.busy:  # nobody was quicker than these words
            self.app.complain("The engine runs again. What it had trained is gone: space trains anew", lasting=True)

    async def folded(self) -> None:
        """Wait until all that has been said so far is in the state."""
        folded = asyncio.Event()
        self.app.call_later(folded.set)
        await folded.wait()

    async def _restore(self, before: State) -> None:
        if before.data is not None:
            _, made = await self.ask(MakeData(spec=before.data_spec))
            if made and before.model is not None:
                await self.ask(BuildModel(spec=before.model_spec))

    def _failed(self, problem: Problem) -> None:
        self.lose(problem.line())
        self.app.show_problem(problem)

    async def end_engine(self) -> bool:
        """End the engine, its training first; True where it stays, for another screen is attached to it, or what could
        be kept so far cannot be kept now."""
        if self.state.lost:
            return False
        kept = self.state.engine.keeps  # else whoever leaves knows that it is gone
        with contextlib.suppress(WorkflowError, TimeoutError):
            async with asyncio.timeout(LEAVING):
                await self._connected.wait()
                if self.state.busy:
                    await self.client.request(Pause())
                answer = await self.client.request(Shutdown(if_idle=True, if_kept=kept))
                return isinstance(answer, Ending) and not answer.ends
        return False
