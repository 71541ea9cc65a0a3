"""The app: one state, one client, six screens; it sends commands, folds events and draws at most ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Protocol, cast

import msgspec
from rich.text import Text
from textual.app import SystemCommand
from textual.driver import Driver
from textual.filter import LineFilter
from textual.screen import Screen

from workflow_core import atomic
from workflow_core.client import EngineClient
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    Event,
    FileAnswer,
    Hello,
    Load,
    MakeData,
    Notice,
    Predictions,
    Run,
    Save,
    SetPace,
    SetTraining,
    Shutdown,
    StepName,
    Update,
)
from workflow_core.sanitize import sanitize
from workflow_core.scripts import script
from workflow_core.specs import SaveKind
from workflow_core.workspace import Workspace
from workflow_tui.dialogs.base import confirm_replace, error_dialog
from workflow_tui.dialogs.files import OpenDialog, SaveDialog
from workflow_tui.dialogs.help import HelpDialog
from workflow_tui.dialogs.leave import leave_dialog
from workflow_tui.output import OutputGuard
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State, reduce
from workflow_tui.sturdy import SturdyApp
from workflow_tui.terminal.session import GuardedApp, run_app
from workflow_tui.theme import DARK_NAME, LIGHT_NAME, WORKFLOW_DARK, WORKFLOW_LIGHT, ascii_only, role_variables
from workflow_tui.typeahead import OneKeyAtATime
from workflow_tui.widgets.stepper import NAMES

DRAW_INTERVAL = 0.1
PATIENCE = 0.4
WAITING: dict[type, str] = {
    Run: "Preparing the run (PyTorch loads its optimizers once)",
    Save: "Writing the file",
    Load: "Reading the file",
}
FLASH_SECONDS = 8.0
DEFAULT_PACE = 20.0
"""Epochs per second at first: flat out, the course's 100 epochs are over before anyone has seen one."""


class Client(Protocol):
    """What the app needs of an engine's client; tests replay one."""

    async def connect(self, timeout: float = ...) -> Hello:
        """Find or start the engine."""

    async def request(self, command: Command, timeout: float | None = ...) -> Predictions | FileAnswer | None:
        """Send a command, wait for its reply."""

    async def close(self) -> None:
        """End the connection."""

    async def restart(self, timeout: float = ...) -> Hello:
        """Connect anew, starting the engine again."""


MakeClient = Callable[[Callable[[Event], None], Callable[[str], None]], Client]


def later(step: StepName) -> Callable[[], StepScreen]:
    """The screen of `step`, imported when it is first gone to: the first frame waits for one screen, not for six."""

    def make() -> StepScreen:
        module = importlib.import_module(f"workflow_tui.screens.{step}")
        screen = getattr(module, f"{step.capitalize()}Screen")()
        assert isinstance(screen, StepScreen)
        return screen

    return make


class WorkflowApp(SturdyApp, OneKeyAtATime, GuardedApp[int]):
    """Six screens on one engine."""

    TITLE = "workflow-tui"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {name: later(name) for name in NAMES}
    DEFAULT_MODE = "data"
    BINDINGS = []  # noqa: RUF012

    def __init__(
        self,
        make_client: MakeClient,
        *,
        theme: str = "dark",
        device: str | None = None,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self._guard = OutputGuard(ascii_only=ascii_only())
        self.client = make_client(
            lambda event: self._later(self.on_engine_event, event),
            lambda reason: self._later(self.on_engine_lost, reason),
        )
        self.state = State()
        self.farewell = ""
        self.folder = Path.cwd()
        self._wanted_pace: float | None = DEFAULT_PACE
        self._device = device
        self._dirty = True
        self._flash: Text | None = None
        self._attached = False
        self._connected = asyncio.Event()
        self._waiting: list[tuple[type[Command], float]] = []
        self.register_theme(WORKFLOW_DARK)
        self.register_theme(WORKFLOW_LIGHT)
        self.theme = LIGHT_NAME if theme == "light" else DARK_NAME

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The roles' colours under themes that are not ours."""
        return role_variables(dark=self.current_theme.dark)

    def get_line_filters(self) -> list[LineFilter]:
        """Every line passes the output guard last."""
        return [*super().get_line_filters(), self._guard]

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette offers what the keys of this screen do."""
        if isinstance(screen, StepScreen):
            for command in screen.all_commands():
                yield SystemCommand(
                    f"{command.label} ({command.shown})", command.help, lambda action=command.action: self._act(action)
                )

    async def _act(self, action: str) -> None:
        await self.screen.run_action(action)

    # --- the engine ----------------------------------------------------------------------------

    def on_ready(self) -> None:
        """The first frame stands: connect, and start the drawing clock."""
        self.set_interval(DRAW_INTERVAL, self._draw)
        self._start(self._connect, "connect")

    def _start(self, work: Callable[[], Coroutine[Any, Any, object]], group: str, *, exclusive: bool = False) -> None:
        # the function, not a coroutine of it: one that is never awaited, as the app leaves, would say so on the shell
        self.run_worker(cast(Any, work), group=group, exclusive=exclusive)

    async def _connect(self) -> None:
        try:
            await self.client.connect()
        except WorkflowError as error:
            self.on_engine_lost(error.problem.line())
            self.show_problem(error.problem)
        finally:
            self._connected.set()

    def _later(self, handler: Callable[[Any], object], value: Event | str) -> None:
        """Handle what the client reports in the app's own task, where its faults and screens belong."""
        self.call_later(handler, value)

    async def on_engine_event(self, event: Event) -> None:
        """Fold what the engine said; the clock draws it."""
        if isinstance(event, Notice):
            self.show_problem(event.problem)
            return
        was_ready = self.state.ready
        connection = self.state.connection if not isinstance(event, Update) else "connected"
        self.state = replace(reduce(self.state, event), connection=connection)
        self._dirty = True
        if self.state.ready and not was_ready:
            await self._engine_ready()

    async def _engine_ready(self) -> None:
        if self._device is not None and self._device != self.state.train_spec.device:
            self.send(SetTraining(spec=msgspec.structs.replace(self.state.train_spec, device=self._device)))
        if not self._attached:
            self._attached = True
            if self.state.training is not None:
                await self.go("train")
        if isinstance(self.screen, StepScreen):
            self.screen.engine_ready(self.state)

    def on_engine_lost(self, reason: str) -> None:
        """Say so, keep what is there."""
        self.state = replace(self.state, connection="lost", lost_reason=sanitize(reason.rstrip("."), 300) + ".")
        self._dirty = True

    def send(self, command: Command) -> None:
        """Send a command; a problem becomes a dialog."""
        self._start(partial(self.ask, command), "commands")

    async def ask(self, command: Command) -> Predictions | FileAnswer | None:
        """Send a command and wait; a problem becomes a dialog and gives None."""
        answer, _ = await self._try(command)
        return answer

    async def _try(self, command: Command) -> tuple[Predictions | FileAnswer | None, bool]:
        if self.state.lost:
            self.complain("The engine has ended: a starts it again")
            return None, False
        waiting = (type(command), monotonic())
        self._waiting.append(waiting)
        try:
            await self._connected.wait()
            answer = await self.client.request(command)
        except WorkflowError as error:
            if isinstance(step := self.screen_stack[0], StepScreen):
                step.restore_fields()
            if not self.state.lost:
                self.show_problem(error.problem)
            return None, False
        finally:
            self._waiting.remove(waiting)
            self._dirty = True
        self._clear_flash()
        return answer, True

    async def action_restart_engine(self) -> None:
        """Start the engine again, with the settings that are on the screen."""
        if not self.state.lost:
            self.complain("The engine is alive; nothing to start")
            return
        self._start(self._restart, "restart", exclusive=True)

    async def _restart(self) -> None:
        before = self.state
        self.state = replace(State(), data_spec=before.data_spec, model_spec=before.model_spec)
        self._dirty = True
        try:
            await self.client.restart()
        except WorkflowError as error:
            self.state = before
            self.on_engine_lost(error.problem.line())
            self.show_problem(error.problem)
            return
        await self._try(SetTraining(spec=before.train_spec))
        if before.data is not None:
            _, made = await self._try(MakeData(spec=before.data_spec))
            if made and before.model is not None:
                await self._try(BuildModel(spec=before.model_spec))
        if before.trained:
            self.complain("The engine runs again. What it had trained is gone: space trains anew")

    # --- training --------------------------------------------------------------------------------

    @property
    def pace(self) -> float | None:
        """Epochs per second asked for; None is flat out."""
        return self.state.training.pace if self.state.training is not None else self._wanted_pace

    def set_pace(self, pace: float | None) -> None:
        """Ask for a pace, now and for runs to come."""
        self._wanted_pace = pace
        self._dirty = True
        if self.state.training is not None:
            self.send(SetPace(pace=pace))

    def run_training(self, epochs: int | None = None) -> None:
        """Run the training, to its end or for so many epochs."""
        training = self.state.training
        if (
            training is not None
            and training.state == "finished"
            and training.spec == self.state.train_spec
            and self.state.steps.train == "done"
        ):
            self.complain(f"All {training.spec.epochs:,} epochs are done: more epochs in the settings go on, r resets")
            return
        self._start(partial(self._run, epochs), "commands")

    async def _run(self, epochs: int | None) -> None:
        if self.state.training is None and not (await self._try(SetPace(pace=self._wanted_pace)))[1]:
            return
        await self._try(Run(epochs=epochs))

    async def train_first(self) -> None:
        """Go to the training and run it: what a later step needs and does not have."""
        await self.go("train")
        if not self.state.running:
            self.run_training()

    # --- moving about ----------------------------------------------------------------------------

    async def go(self, step: StepName) -> None:
        """Show the screen of `step`, unless a dialog is open; keys typed meanwhile wait for it."""
        if len(self.screen_stack) > 1 or self.current_mode == step:
            return
        self._clear_flash()
        await self.switch_mode(step)

    async def action_go(self, step: StepName) -> None:
        """Go to a step by its number."""
        await self.go(step)

    async def go_by(self, by: int) -> None:
        """Go `by` steps on."""
        at = NAMES.index(self.current_mode) + by
        if 0 <= at < len(NAMES):
            await self.go(NAMES[at])

    def _draw(self) -> None:
        if (self._dirty or self._waiting) and isinstance(self.screen, StepScreen):
            self._dirty = False
            self.screen.refresh_state()

    # --- saying things ---------------------------------------------------------------------------

    @property
    def flash(self) -> Text | None:
        """A message that stands on the status line for a while."""
        return self._flash

    def patience(self) -> Text | None:
        """What is being waited for, and for how long; None where nothing has kept anyone waiting yet."""
        if not self._waiting or not self.state.ready:
            return None
        kind, since = self._waiting[0]
        seconds = monotonic() - since
        if seconds < PATIENCE:
            return None
        return Text(f" {WAITING.get(kind, 'Waiting for the engine')} … {seconds:.0f} s")

    def complain(self, text: str) -> None:
        """Say one sentence on the status line."""
        flash = Text(f" {sanitize(text, 400)}", f"bold {self.theme_variables.get('role-validation', '')}")
        self._flash = flash
        self._dirty = True
        self.set_timer(FLASH_SECONDS, lambda: self._clear_flash(flash))

    def _clear_flash(self, flash: Text | None = None) -> None:
        if self._flash is not None and (flash is None or flash is self._flash):
            self._flash = None
            self._dirty = True

    def show_problem(self, problem: Problem) -> None:
        """Show a problem as a dialog; while one is open, on the status line."""
        if len(self.screen_stack) > 1:
            self.complain(problem.line())
            return
        self.push_screen(
            error_dialog(sanitize(problem.title), sanitize(problem.message, 400), sanitize(problem.advice, 400))
        )

    # --- files -----------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Save from any screen."""
        if self.state.trained:
            self.save_dialog("state_dict")
        else:
            self.complain("Nothing is trained yet: step 3 does that")

    def action_load(self) -> None:
        """Load from any screen."""
        self.load_dialog()

    def save_dialog(self, kind: SaveKind) -> None:
        """Choose a file, ask before one is replaced, save."""
        self._start(partial(self._save, kind), "dialogs", exclusive=True)

    async def _save(self, kind: SaveKind) -> bool:
        default = "model.pt" if kind == "state_dict" else "checkpoint.pt"
        path = await self.push_screen_wait(SaveDialog(self.folder, default))
        if path is None or not await self._may_write(path):
            return False
        _, saved = await self._try(Save(path=str(path), kind=kind, overwrite=True))
        if saved:
            self.folder = path.parent
            await self.go("save")
        return saved

    async def _may_write(self, path: Path) -> bool:
        try:
            exists = path.exists()
        except (OSError, ValueError):
            return True
        return not exists or await self.push_screen_wait(confirm_replace(sanitize(str(path), 300)))

    def load_dialog(self) -> None:
        """Choose a file and load it."""
        self._start(self._load, "dialogs", exclusive=True)

    async def _load(self) -> None:
        saved = Path(self.state.saved.file.path) if self.state.saved else None
        path = await self.push_screen_wait(
            OpenDialog(saved.parent if saved else self.folder, saved.name if saved else "")
        )
        if path is None:
            return
        self.folder = path.parent
        _, loaded = await self._try(Load(path=str(path)))
        if loaded:
            await self.go("load")

    def action_export(self) -> None:
        """Write the whole workflow as one script."""
        self._start(self._export, "dialogs", exclusive=True)

    async def _export(self) -> None:
        path = await self.push_screen_wait(SaveDialog(self.folder, "workflow.py", title="Write the script as"))
        if path is None or not await self._may_write(path):
            return
        try:
            atomic.write(path, script(self.state.spec).encode(), overwrite=True)
        except WorkflowError as error:
            self.show_problem(error.problem)
            return
        self.folder = path.parent
        self.complain(f"Written: {path}. python {path.name} gives the same numbers")

    # --- help and leaving ------------------------------------------------------------------------

    def action_help(self) -> None:
        """Every key of this screen."""
        if isinstance(self.screen, StepScreen):
            self.push_screen(HelpDialog(self.screen))

    def action_theme(self) -> None:
        """The other theme."""
        self.theme = LIGHT_NAME if self.current_theme.dark else DARK_NAME
        self._dirty = True

    async def action_quit(self) -> None:
        """Textual's own quit asks like ours."""
        self.action_leave()

    def action_leave(self) -> None:
        """Leave, asking first where something would be lost."""
        if len(self.screen_stack) > 1:
            return
        self._start(self._leave, "dialogs", exclusive=True)

    async def _leave(self) -> None:
        dialog = leave_dialog(self.state)
        answer = "stop" if dialog is None else await self.push_screen_wait(dialog)
        if answer == "cancel" or (answer == "save" and not await self._save("state_dict")):
            return
        if answer == "detach":
            self.farewell = "The engine goes on without the screen. workflow-tui brings you back to it."
        await self.leave(end_engine=answer != "detach", force=dialog is not None)

    async def leave(self, *, end_engine: bool, force: bool = False) -> None:
        """End the engine, unless it is to go on or another UI looks at it, and leave."""
        if end_engine and self.state.connection == "connected":
            try:
                await self.client.request(Shutdown(if_idle=not force), timeout=2.0)
            except WorkflowError:
                self.farewell = self.farewell or "The engine goes on: another screen is attached to it."
        await self.client.close()
        self.exit(0)


def run(workspace: Workspace, *, theme: str | None = None, device: str | None = None) -> int:
    """Run the app on a workspace's engine until it is left; the exit status. Says afterwards what still runs."""
    apps: list[WorkflowApp] = []

    def make_app(driver_class: type[Driver]) -> WorkflowApp:
        app = WorkflowApp(
            lambda on_event, on_lost: EngineClient(workspace, on_event, on_lost),
            theme=theme or "dark",
            device=device,
            driver_class=driver_class,
        )
        apps.append(app)
        return app

    status = run_app(make_app, workspace.path / "ui.log")
    if apps and apps[0].farewell:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(apps[0].farewell)
    return status
