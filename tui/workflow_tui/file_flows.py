"""Saving, loading and exporting: a dialog, a question where a file would be replaced, a command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual_fspicker import Filters

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.protocol import Load, Save
from workflow_core.sanitize import sanitize
from workflow_core.scripts import script
from workflow_core.specs import SaveKind
from workflow_tui.dialogs.base import confirm_replace
from workflow_tui.dialogs.files import OpenDialog, SaveDialog

if TYPE_CHECKING:
    from workflow_tui.app import WorkflowApp
    from workflow_tui.state import State

DEFAULT_NAMES: dict[SaveKind, str] = {"state_dict": "model.pt", "checkpoint": "checkpoint.pt"}


class FileFlows:
    """What the app does with files; remembers the folder of the last one."""

    def __init__(self, app: WorkflowApp) -> None:
        self.app = app
        try:
            self.folder = Path.cwd()
        except OSError:  # the current folder was removed
            self.folder = Path.home()

    async def save(self, kind: SaveKind) -> bool:
        """Choose a file and save the model there; False where that was cancelled or failed."""
        path, exists = await self.choose(DEFAULT_NAMES[kind], "Save the model as")
        if path is None:
            return False
        _, saved = await self.app.link.ask(Save(path=str(path), kind=kind, overwrite=exists))
        if saved:
            self.folder = path.parent
            await self.app.go("save")
        return saved

    async def load(self) -> None:
        """Choose a file and load it into a fresh model."""
        last = self.app.state.saved
        saved = Path(last.file.path) if last else None
        path = await self.app.push_screen_wait(
            OpenDialog(saved.parent if saved else self.folder, saved.name if saved else "")
        )
        if path is None:
            return
        _, loaded = await self.app.link.ask(Load(path=str(path)))
        if loaded:
            self.folder = path.parent
            await self.app.go("load")

    async def open(self, title: str, filters: Filters, last: str) -> Path | None:
        """Choose a file to read, beginning at the `last` one; None where that was cancelled."""
        before = Path(last) if last else None
        path: Path | None = await self.app.push_screen_wait(
            OpenDialog(
                before.parent if before else self.folder, before.name if before else "", title=title, filters=filters
            )
        )
        if path is not None:
            self.folder = path.parent
        return path

    async def export(self) -> None:
        """Write the settings as they stand as one plain script; its model goes beside it under the script's name.

        Where they are those of the run, the script follows the learning rates that it was given by hand.
        """
        path, exists = await self.choose("workflow.py", "Write the script as")
        if path is None:
            return
        state = self.app.state
        try:
            rows = state.data.rows if state.data is not None and state.data.spec == state.data_spec else None
            text = script(state.spec, path=f"{path.stem}.pt", lr_changes=state.lr_changes, table_rows=rows)
            source = text.encode(errors="backslashreplace")
            await asyncio.to_thread(atomic.write, path, source, overwrite=exists)
        except WorkflowError as error:
            self.app.show_problem(error.problem)
            return
        self.folder = path.parent
        self.app.note_written(str(path), "script of the workflow")
        self.app.complain(
            f"Written{_by_hand(state)}: {path}. It trains with the settings as they stand now", lasting=True
        )

    async def choose(self, default: str, title: str) -> tuple[Path | None, bool]:
        """A path to write, and whether it exists and may be replaced; None where that was cancelled."""
        path = await self.app.push_screen_wait(SaveDialog(self.folder, default, title=title))
        if path is None:
            return None, False
        try:
            exists = path.exists()
        except (OSError, ValueError):
            exists = False
        if exists and not await self.app.push_screen_wait(confirm_replace(sanitize(str(path), 300))):
            return None, False
        return path, exists


def _by_hand(state: State) -> str:
    """What a script of the settings makes of the learning rates that the run was given by hand."""
    if state.training is None or not state.training.lr_changes:
        return ""
    return f" {'with' if state.lr_changes else 'without'} the learning rates set by hand in run {state.training.run}"
