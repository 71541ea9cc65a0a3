"""The app: one state, one client, six screens; it sends commands, folds events and draws at most ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import shlex
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import events
from textual.app import SystemCommand
from textual.driver import Driver
from textual.filter import LineFilter
from textual.screen import Screen

from workflow_core.client import EngineClient
from workflow_core.errors import Problem
from workflow_core.protocol import (
    Command,
    NextLine,
    Pause,
    Predict,
    Predictions,
    Run,
    SetPace,
    SetTraining,
    Source,
    StepName,
)
from workflow_core.sanitize import sanitize
from workflow_core.saying import OutputError, say
from workflow_core.specs import SaveKind
from workflow_core.workspace import Workspace
from workflow_tui.dialogs.base import error_dialog
from workflow_tui.dialogs.help import HelpDialog
from workflow_tui.dialogs.leave import leave_dialog
from workflow_tui.dialogs.paused import give_up_dialog, paused_dialog
from workflow_tui.earlier import EarlierRuns
from workflow_tui.farewell import last_words
from workflow_tui.link import Link, MakeClient
from workflow_tui.output import OutputGuard
from workflow_tui.screens.base import StepScreen
from workflow_tui.state import State
from workflow_tui.sturdy import SturdyApp, SturdyScreen
from workflow_tui.stylesheet import OnceRead
from workflow_tui.terminal.session import GuardedApp, run_app
from workflow_tui.theme import DARK_NAME, LIGHT_NAME, WORKFLOW_DARK, WORKFLOW_LIGHT, ascii_only, role_variables
from workflow_tui.typeahead import OneKeyAtATime
from workflow_tui.widgets.stepper import NAMES

if TYPE_CHECKING:
    from workflow_tui.file_flows import FileFlows
    from workflow_tui.run_flows import RunFlows

DRAW_INTERVAL = 0.1
FLASH_SECONDS = 8.0
LATER = ("workflow_tui.run_flows", "workflow_tui.file_flows", "workflow_core.scripts", "rich.syntax")
"""What the first frame does not wait for, beside the other screens."""
DEFAULT_PACE = 20.0
"""Epochs per second at first: flat out, the course's 100 epochs are over before anyone has seen one."""


def without_flags(problem: Problem) -> Problem:
    """A problem as the screen tells it: what the command line calls things, such as ` (--missing drop)`, left out."""
    message, advice = (re.sub(r"\s*\(--[a-z][^()]*\)", "", text) for text in (problem.message, problem.advice))
    return Problem(title=problem.title, message=message, advice=advice)


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
    # all at once: Textual reads every stylesheet anew, and styles every widget, for each screen that brings its own
    CSS_PATH = ["app.tcss", "screens/base.tcss", *(f"screens/{name}.tcss" for name in NAMES), "dialogs/dialogs.tcss"]  # noqa: RUF012
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
        way_back: str = "workflow-tui",
        workspace: str = "",
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self.stylesheet = OnceRead(variables=self.get_css_variables())
        self._guard = OutputGuard(ascii_only=ascii_only())
        self.link = Link(self, make_client, device)
        self.earlier = EarlierRuns(self)
        self.way_back = way_back
        self.workspace = workspace
        self.written: dict[str, str] = {}
        self._farewell: str | None = None
        self._wanted_pace: float | None = DEFAULT_PACE
        self._dirty = True
        self._flash: Text | None = None
        self._lasting = False
        self._drawn: tuple[object, ...] = ()
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

    @cached_property
    def runs(self) -> RunFlows:
        """What is done with kept runs; the first frame does not wait for its dialogs."""
        from workflow_tui.run_flows import RunFlows

        return RunFlows(self)

    @cached_property
    def files(self) -> FileFlows:
        """What is done with files, likewise."""
        from workflow_tui.file_flows import FileFlows

        return FileFlows(self)

    @property
    def state(self) -> State:
        """Everything the engine last said."""
        return self.link.state

    def on_load(self) -> None:
        """Connect while the first screen is made, so that its first frame may have what the engine says already."""
        self.start_work(self.link.connect, "connect")

    def on_ready(self) -> None:
        """The first frame stands: start the drawing clock."""
        self.set_interval(DRAW_INTERVAL, self._draw)
        self.link.first_frame()

    def start_work(
        self, work: Callable[[], Coroutine[Any, Any, object]], group: str, *, exclusive: bool = False
    ) -> None:
        """Do something that waits, such as for a dialog, beside everything else; `exclusive` in its group."""
        # the function, not a coroutine of it: one that is never awaited, as the app leaves, would say so on the shell
        self.run_worker(cast(Any, work), group=group, exclusive=exclusive)

    def send(self, command: Command) -> None:
        """Send a command; a problem becomes a dialog."""
        self.start_work(partial(self.link.ask, command), "commands")

    def predict(self, rows: tuple[tuple[float, ...], ...], source: Source, show: Callable[[Predictions], None]) -> None:
        """Ask for predictions and `show` them when they come; the screen waits for nothing meanwhile."""

        async def ask() -> None:
            answer, _ = await self.link.ask(Predict(x=rows, source=source))
            if isinstance(answer, Predictions):
                show(answer)

        self.start_work(ask, "predict", exclusive=True)

    def engine_ready(self) -> None:
        """The engine can be asked: what it said stands at once, and the step on the screen may do itself."""
        self._draw()
        if isinstance(self.screen, StepScreen):
            self.screen.engine_ready(self.state)
        self.call_after_refresh(self.start_work, self._load_screens, "load screens", exclusive=True)

    async def _load_screens(self) -> None:
        await self.link.framed()
        # while there is time: the first visit is quicker, and a package that is renewed meanwhile does not matter
        for name in NAMES:
            await asyncio.to_thread(importlib.import_module, f"workflow_tui.screens.{name}")
        for module in LATER:
            await asyncio.to_thread(importlib.import_module, module)

    def refused(self, problem: Problem | None) -> None:
        """A command was not carried out: show the engine's settings again, and why."""
        if isinstance(step := self.screen_stack[0], StepScreen):
            step.restore_fields()
        if problem is not None:
            self.show_problem(problem)

    def action_restart_engine(self) -> None:
        """Start the engine again, with the settings that are on the screen."""
        if self.state.lost:
            self.start_work(self.link.restart, "restart", exclusive=True)
        else:
            self.complain("The engine is alive; nothing to start")

    # --- training --------------------------------------------------------------------------------

    @property
    def pace(self) -> float | None:
        """Epochs per second asked for; None is flat out."""
        there = self.state.race or self.state.training
        return there.pace if there is not None else self._wanted_pace

    def set_pace(self, pace: float | None) -> None:
        """Ask for a pace, now and for runs to come."""
        self._wanted_pace = pace
        self.redraw()
        if self.state.training is not None or self.state.race is not None:
            self.send(SetPace(pace=pace))

    async def settle_pace(self) -> bool:
        """Tell an engine that has no run yet which pace is wanted of the first; False where it could not be told."""
        if self.state.training is not None or self.state.race is not None:
            return True
        return (await self.link.ask(SetPace(pace=self._wanted_pace)))[1]

    def once_known(self, act: Callable[[], None]) -> None:
        """Do what hangs on the run that is there: at once, or where the engine is still loading, when it has said."""
        if not self.state.unknown:
            act()
        else:
            self.start_work(partial(self._once_known, act), "commands")

    async def _once_known(self, act: Callable[[], None]) -> None:
        await self.link.settled()
        act()

    def run_training(self, command: Run | NextLine | None = None) -> None:
        """Run the training: to its end, or as far as `command` says."""
        if self.state.unknown:
            self.once_known(partial(self.run_training, command))
            return
        training = self.state.training
        if (
            training is not None
            and training.state == "finished"
            and training.spec == self.state.train_spec
            and self.state.steps.train == "done"
            and self.state.race is None
            and not self.link.busy  # such as a reset, which would change all this
        ):
            done = "All" if training.epoch >= training.spec.epochs else f"{training.epoch:,} of"
            self.complain(
                f"This run has ended: {done} {training.spec.epochs:,} epochs are done. m trains more, r resets"
            )
            return
        if self.state.stake is None and not self.link.waits_for(SetTraining):
            self.start_work(partial(self._run, command or Run()), "commands")
        else:
            self.start_work(partial(self._run_after_question, command or Run()), "dialogs", exclusive=True)

    async def _run(self, command: Run | NextLine) -> None:
        if await self.settle_pace():
            await self.link.ask(command)

    async def _run_after_question(self, command: Run | NextLine) -> None:
        await self.link.answered(SetTraining)  # whether a run is given up hangs on the settings
        run, training, answer = self.state.stake, self.state.training, "new"
        if self.state.given_up is not None:
            answer = await self.push_screen_wait(paused_dialog(self.state))
        elif run is not None and training is not None:
            question = give_up_dialog(training, "n", "new run: begin at epoch 0")
            answer = "new" if await self.push_screen_wait(question) else "cancel"
        if answer == "cancel":
            return
        if self.state.stake != run:
            self.complain(f"Run {run} has changed meanwhile: nothing was done")
            return
        # what follows is a command like any other, which another dialog does not end
        self.start_work(partial(self._go_on if answer == "on" else self._run, command), "commands")

    async def _go_on(self, command: Run | NextLine) -> None:
        training = self.state.training
        if training is not None and (await self.link.ask(SetTraining(spec=training.spec)))[1]:
            await self._run(command)

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
        self.forget_complaint()
        await self.switch_mode(step)

    async def action_go(self, step: StepName) -> None:
        """Go to a step by its number."""
        await self.go(step)

    async def go_by(self, by: int) -> None:
        """Go `by` steps on."""
        at = NAMES.index(self.current_mode) + by
        if 0 <= at < len(NAMES):
            await self.go(NAMES[at])

    def redraw(self) -> None:
        """Let the clock draw what has changed."""
        self._dirty = True

    def _draw(self) -> None:
        # a dialog does not hide what happens below it, such as the end of the engine, unless nothing of it can be seen;
        # but each change of a cell there has Textual write the whole screen, so mere progress waits for its end
        standing = self._standing()
        if len(self.screen_stack) > 1 and standing == self._drawn:
            return
        if (
            (self._dirty or self.link.busy or self.link.silent or not self.state.ready)
            and self.screen_stack
            and isinstance(self.screen_stack[0], StepScreen)
            and not any(isinstance(screen, SturdyScreen) and screen.covers for screen in self.screen_stack)
        ):
            self._dirty, self._drawn = False, standing
            self.screen_stack[0].refresh_state()

    def _standing(self) -> tuple[object, ...]:
        """What is news even under a dialog."""
        state, flash = self.state, self.flash
        run = None if state.training is None else (state.training.run, state.training.state)
        race = None if state.race is None else (state.race.race, state.race.state)
        return state.connection, state.engine.state, state.steps, run, race, flash.plain if flash is not None else ""

    async def _let_through(self, key: events.Key) -> None:
        if not self._lasting and len(self.screen_stack) == 1:
            self.forget_complaint()  # it was about an earlier key
        await super()._let_through(key)

    # --- saying things ---------------------------------------------------------------------------

    @property
    def flash(self) -> Text | None:
        """A message that stands on the status line for a while, or what is being waited for."""
        return self._flash or self.link.patience()

    def complain(self, text: str, *, lasting: bool = False) -> None:
        """Say one sentence on the status line, until the next key; one that answers none is `lasting`."""
        self._lasting = lasting
        flash = Text(f" {sanitize(text, 400)}", f"bold {self.theme_variables.get('role-validation', '')}")
        self._flash = flash
        self._dirty = True
        self.set_timer(FLASH_SECONDS, lambda: self.forget_complaint(flash))

    def forget_complaint(self, flash: Text | None = None) -> None:
        """Take the sentence back: `flash`, or whichever stands there."""
        if self._flash is not None and (flash is None or flash is self._flash):
            self._flash = None
            self._dirty = True

    def show_problem(self, problem: Problem) -> None:
        """Show a problem as a dialog; while one is open, on the status line."""
        problem = without_flags(problem)
        if len(self.screen_stack) > 1:
            self.complain(problem.line(), lasting=True)  # it waits for the end of the dialog
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

    def save_dialog(self, kind: SaveKind) -> None:
        """Choose a file, ask before one is replaced, save."""
        self.start_work(partial(self.files.save, kind), "dialogs", exclusive=True)

    def action_load(self) -> None:
        """Choose a file and load it."""
        self.start_work(self.files.load, "dialogs", exclusive=True)

    def action_export(self) -> None:
        """Write the whole workflow as one script."""
        self.once_known(self._export)

    def _export(self) -> None:
        self.start_work(self.files.export, "dialogs", exclusive=True)

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
        self.start_work(self._leave, "dialogs", exclusive=True)

    async def _leave(self) -> None:
        dialog = leave_dialog(self.state, self.way_back)
        answer = "stop" if dialog is None else await self.push_screen_wait(dialog)
        if answer == "cancel":
            return
        if answer == "save":
            if self.state.running:
                await self.link.ask(Pause())
            if not await self.files.save("state_dict"):
                return
        # the engine is told to end now: another key would call this off, and leave the screen without one
        self.take_no_more()
        state, last = self.state, ""
        if answer == "detach":
            last = self._goes_on
        elif await self.link.end_engine():
            await self.link.folded()
            why = "another screen is attached to it" if self.state.engine.keeps else "what it has cannot be kept now"
            last = f"The engine goes on: {why}. {self.way_back} brings you back to it."
        elif (state.trained or state.race is not None) and state.engine.keeps:
            last = f"{self.way_back} brings it back"
            last += ", as it was kept last: the engine has ended." if state.lost else "."
        state = replace(state, training=self.state.training, race=self.state.race)
        self._farewell = last_words(state, last, self.written)
        await self.link.client.close()
        self.exit(0)

    @property
    def _goes_on(self) -> str:
        return f"The engine goes on without the screen. {self.way_back} brings you back to it."

    @property
    def farewell(self) -> str:
        """What is to stand in the terminal once the screen has gone, however it went."""
        if self._farewell is not None:
            return self._farewell
        there = self.state.trained or self.state.busy or self.state.race is not None
        return last_words(self.state, self._goes_on if there and not self.state.lost else "", self.written)

    def note_written(self, path: str, what: str) -> None:
        """A file was written, which is named when the screen has gone."""
        self.written.pop(path, None)
        self.written[path] = what


class TrainingApp(WorkflowApp):
    """Begins where the training is that seems to be there: no other screen is drawn before it."""

    DEFAULT_MODE = "train"


def way_back(asked: str | None) -> str:
    """The command that opens the workspace again which was `asked` for, None for the usual one."""
    if asked is None:
        return "workflow-tui"
    # a name may look like an option
    return f"workflow-tui --workspace{'=' if asked.startswith('-') else ' '}{shlex.quote(sanitize(asked, 400))}"


def run(
    workspace: Workspace,
    *,
    asked: str | None = None,
    theme: str | None = None,
    device: str | None = None,
    training: bool = False,
) -> int:
    """Run the app on a workspace's engine until it is left; the exit status. Says afterwards what still runs.

    With `training` it begins on the screen of the training.
    """
    apps: list[WorkflowApp] = []

    def make_app(driver_class: type[Driver]) -> WorkflowApp:
        app = (TrainingApp if training else WorkflowApp)(
            lambda on_event, on_lost: EngineClient(workspace, on_event, on_lost),
            theme=theme or "dark",
            device=device,
            way_back=way_back(asked),
            workspace="" if asked is None else workspace.path.name,
            driver_class=driver_class,
        )
        apps.append(app)
        return app

    status = run_app(make_app, workspace.path / "ui.log")
    if apps and apps[0].farewell:
        with contextlib.suppress(OutputError):  # the terminal may be gone
            say(apps[0].farewell)
    return status
