"""What is done with kept runs from the screen: dialogs and questions, then a command to the engine, or a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.history import Column
from workflow_core.protocol import (
    Adopt,
    DeleteRuns,
    EditRun,
    ExportRun,
    ReadSeries,
    RestoreRun,
    RunView,
    SeriesAnswer,
    StartRace,
)
from workflow_core.sanitize import sanitize
from workflow_core.specs import WorkflowSpec
from workflow_tui import figures, run_settings, runs_text
from workflow_tui.dialogs.base import SHOWN, Choice, Dialog
from workflow_tui.dialogs.compare import MOST, CompareDialog
from workflow_tui.dialogs.export_run import Form, export_dialog, file_name
from workflow_tui.dialogs.lanes import LanesDialog
from workflow_tui.dialogs.name import NameDialog
from workflow_tui.dialogs.race import RaceDialog
from workflow_tui.dialogs.runs import RunsDialog
from workflow_tui.picture import COLUMNS, picture
from workflow_tui.tables import fitted_start
from workflow_tui.theme import is_dark

if TYPE_CHECKING:
    from workflow_tui.app import WorkflowApp
    from workflow_tui.state import State


class RunFlows:
    """What the app does with runs."""

    def __init__(self, app: WorkflowApp) -> None:
        self.app = app

    def toggle(self, run: RunView) -> None:
        """Draw a run under the current one, or hide it."""
        if run.run in runs_text.engaged(self.app.state):
            self.app.complain(f"{_at_start(runs_text.title(run, 30))} is on the charts itself: v is for the others")
        elif not run.epochs:
            self.app.complain(f"{_at_start(runs_text.title(run, 30))} has no epoch that could be drawn")
        else:
            self.app.earlier.toggle(run)

    # dialogs

    def open(self) -> None:
        """Show the table of runs."""
        if len(self.app.screen_stack) == 1:
            self.app.push_screen(RunsDialog(self))

    def compare(self, runs: Sequence[int]) -> None:
        """Show several runs side by side."""
        if len(runs) < 2:
            self.app.complain("space marks runs; two or more of them can be compared")
        elif len(runs) > MOST:
            self.app.complain(f"{len(runs)} runs are marked; {MOST} at most can be looked at side by side")
        else:
            self.app.push_screen(CompareDialog(self, runs))

    def pin(self, run: RunView) -> None:
        """Pin a run, or let it go."""
        self.app.send(EditRun(run=run.run, pinned=not run.pinned))

    def rename(self, run: RunView) -> None:
        """Ask for the name of a run."""
        self.app.start_work(partial(self._rename, run), "dialogs", exclusive=True)

    async def _rename(self, run: RunView) -> None:
        before = runs_text.name_of(run.name)
        typed = await self.app.push_screen_wait(
            NameDialog(
                f"Name of run {run.run}",
                f"What tables and charts call it, in {runs_text.NAME} characters at most; an empty name takes it away.",
                before,
                most=runs_text.NAME,
            )
        )
        if typed is not None and (name := runs_text.name_of(typed)) != before:
            await self.app.link.ask(EditRun(run=run.run, name=name))

    def delete(self, runs: Sequence[RunView]) -> None:
        """Delete runs after a question."""
        there = runs_text.engaged(self.app.state)
        if kept := [run for run in runs if run.run in there]:
            which = "it is" if len(runs) == 1 else f"{runs_text.title(kept[0], 30)} is"
            self.app.complain(f"Not deleted: {which} on the charts now. Start another run first")
            return
        self.app.start_work(partial(self._delete, runs), "dialogs", exclusive=True)

    async def _delete(self, runs: Sequence[RunView]) -> None:
        if await self.app.push_screen_wait(_delete_question(runs)):
            await self.app.link.ask(DeleteRuns(runs=tuple(run.run for run in runs)))

    def restore(self, run: RunView, dialog: RunsDialog) -> None:
        """Go back to the settings of a run, after a question where something would be lost; `dialog` closes then."""
        state = self.app.state
        if state.running or (state.race is not None and state.race.state == "running"):
            self.app.complain("A training runs: space on Train pauses it, then settings can change")
        elif run.spec == state.spec:
            self.app.complain(f"The settings are those of {runs_text.title(run, 30)} already")
        else:
            self.app.start_work(partial(self._restore, run, dialog), "dialogs", exclusive=True)

    async def _restore(self, run: RunView, dialog: RunsDialog) -> None:
        question = restore_question(run, self.app.state)
        if question is not None and not await self.app.push_screen_wait(question):
            return
        _, done = await self.app.link.ask(RestoreRun(run=run.run))
        if done:
            dialog.dismiss(None)
            self.app.complain(
                f"Data, model and training are set as for {runs_text.title(run, 30)}. space trains by them"
            )

    # a race

    def race(self) -> None:
        """Set a race up and start it."""
        self.app.start_work(self._race, "dialogs", exclusive=True)

    async def _race(self) -> None:
        state = self.app.state
        stable = state.model.reference.stable_lr if state.model is not None and state.steps.build == "done" else None
        run, there = state.training, state.race is None and state.steps.train != "stale"
        waits = run.run if run is not None and run.epoch and run.state in ("running", "paused") and there else None
        lanes = await self.app.push_screen_wait(RaceDialog(state.train_spec, stable, waits))
        if lanes is not None and await self.app.settle_pace():
            await self.app.link.ask(StartRace(lanes=lanes))

    def adopt(self) -> None:
        """Choose the lane of the race that the other steps go on with."""
        if self.app.state.race is None:
            self.app.complain("There is no race whose lane could be taken")
        else:
            self.app.start_work(self._adopt, "dialogs", exclusive=True)

    async def _adopt(self) -> None:
        run = await self.app.push_screen_wait(LanesDialog(self))
        if run is not None:
            await self.app.link.ask(Adopt(run=run))

    # files

    def export(self, run: RunView) -> None:
        """Write a run to a file."""
        if run.epochs:
            self.app.start_work(partial(self._export, run), "dialogs", exclusive=True)
        else:
            self.app.complain("It has no epoch yet: there is nothing to write")

    async def _export(self, run: RunView) -> None:
        form = await self.app.push_screen_wait(export_dialog(run))
        if form is None:
            return
        path, exists = await self.app.files.choose(file_name(run, form), f"Write run {run.run} as")
        if path is not None and await self._write(run, form, path, exists):
            self.app.files.folder = path.parent
            self.app.note_written(str(path), f"run {run.run} as {form.upper()}")
            self.app.complain(f"Written: {path}", lasting=True)

    async def _write(self, run: RunView, form: Form, path: Path, exists: bool) -> bool:
        if form != "svg":
            _, written = await self.app.link.ask(ExportRun(run=run.run, path=str(path), kind=form, overwrite=exists))
            return written
        series = await self.series(run)
        if series is None:
            return False
        try:
            text = picture(
                run,
                series,
                caption(run),
                targets=targets(run, self.app.state),
                dark=is_dark(self.app.theme),
            )
            await asyncio.to_thread(atomic.write, path, text.encode(), overwrite=exists)
        except WorkflowError as error:
            self.app.show_problem(error.problem)
            return False
        return True

    async def series(self, run: RunView) -> Mapping[str, Sequence[Column]] | None:
        """All recorded series of a run in so many columns as a picture has; None where they cannot be read."""
        state = self.app.state
        if state.training is not None and state.training.run == run.run:
            history = state.history
            return {name: each.columns(COLUMNS, 0, history.epochs) for name, each in history.series.items()}
        answer, _ = await self.app.link.ask(ReadSeries(run=run.run, start=0, stop=run.epochs, columns=COLUMNS))
        return answer.series if isinstance(answer, SeriesAnswer) else None


def _at_start(text: str) -> str:
    return text[:1].upper() + text[1:]


def _delete_question(runs: Sequence[RunView]) -> Dialog[bool]:
    pinned = sum(run.pinned for run in runs)
    epochs = figures.epochs(sum(run.epochs for run in runs))
    text = Text(f"Settings, result and {epochs} of ").append(runs_text.titles(runs, SHOWN), "bold")
    text.append(" will be gone. Files that were exported stay.")
    if pinned:
        text.append(f"\n\n{'It is pinned.' if len(runs) == 1 else f'{pinned} of them {figures.are(pinned)} pinned.'}")
    return Dialog(
        f"Delete {runs_text.title(runs[0], 30) if len(runs) == 1 else f'{len(runs)} runs'}?",
        text,
        (Choice("c", "cancel", False, "primary"), Choice("d", "delete", True, "error")),
        cancel=False,
    )


def restore_question(run: RunView, state: State) -> Dialog[bool] | None:
    """May the settings become those of `run`? None where nothing would be lost by that."""
    kept = next((each for each in runs_text.live(state) if each.spec == state.spec), None)
    unsaved = state.unsaved and state.steps.train != "stale"
    if kept is not None and not unsaved:
        return None
    changed = [fitted_start(text, 68) for text in run_settings.changes(state.spec, run.spec)]
    more = f"\nand {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    text = Text("The data and the model are made as they were then. What changes:\n\n")
    text.append("\n".join(changed[:SHOWN]) + more, "bold")
    if kept is None:
        text.append("\n\nNo kept run has the settings as they stand now: they would be gone.")
    if unsaved and state.training is not None:
        text.append(
            f"\n\nThe weights of run {state.training.run} are in no file: w on Train saves them first. "
            "Its record stays in the table."
        )
    return Dialog(
        f"Back to the settings of {runs_text.title(run, 30)}?",
        text,
        (Choice("c", "cancel", False, "primary"), Choice("r", "restore them", True, "error")),
        cancel=False,
    )


def targets(run: RunView, state: State) -> dict[str, float]:
    """Where the tracked values of a run should arrive, known only for data, model and loss as they stand now."""
    now = state.spec
    same = (run.spec.data, run.spec.model, run.spec.train.loss) == (now.data, now.model, now.train.loss)
    if state.model is None or state.steps.build != "done" or not same:
        return {}
    return dict(state.model.reference.targets)


def caption(run: RunView) -> tuple[str, ...]:
    """What stands below the picture of a run: when, by which settings, with which result."""
    # what is usual to the program goes without saying: where the picture travels, nobody has the table beside it
    usual = {key: setting.value for key, setting in run_settings.settings_of(WorkflowSpec()).items()}
    lines = runs_text.details(run, run_settings.settings_of(run.spec), usual)
    values = " · ".join(f"{sanitize(name, 60)} {value:.6g}" for name, value in list(run.parameters.items())[:8])
    return tuple(line for line in (*lines, values and f"at the end: {values}") if line)
