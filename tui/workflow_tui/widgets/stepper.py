"""The line on top of every screen: six steps, which of them are done, current, open or stale, and the engine."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from workflow_core.protocol import StepName
from workflow_tui.state import State
from workflow_tui.tables import fitted_start

NAMES: tuple[StepName, ...] = ("data", "build", "train", "evaluate", "save", "load")
NAME = 12
"""Columns for the name of a workspace."""
MARKS = {"open": "", "done": "✓", "stale": "↻", "bad": "✗", "running": "▶"}


class StepTab(Static):
    """One step of the six; a click goes there."""

    def __init__(self, step: StepName, number: int) -> None:
        super().__init__(f"{number} {step.capitalize()}", markup=False, classes="step")
        self.step = step
        self.number = number

    def show(self, status: str, *, current: bool) -> None:
        """Show this step's `status`; the classes carry the colours."""
        self.set_class(current, "-current")
        for name in MARKS:
            self.set_class(status == name, f"-{name}")
        self.update(f"{self.number} {self.step.capitalize()} {MARKS[status]}".rstrip())

    async def on_click(self, event: events.Click) -> None:
        """Go to this step."""
        event.stop()
        await self.run_action(f"app.go('{self.step}')")


class Stepper(Horizontal):
    """The six steps and, at the right end, device, seed and engine."""

    def __init__(self, current: StepName, workspace: str = "") -> None:
        """`workspace` is named where it is not the usual one."""
        super().__init__(id="stepper")
        self.workspace = workspace
        self.current = current
        self._shown: object = None

    def compose(self) -> ComposeResult:
        """Build the line."""
        yield Static("workflow-tui", id="brand", markup=False)
        for number, step in enumerate(NAMES, start=1):
            if number > 1:
                yield Static("──", classes="joint", markup=False)
            yield StepTab(step, number)
        yield Static("", id="engine", markup=False)

    def show(self, state: State) -> None:
        """Show `state`'s steps and engine."""
        shown = (
            state.steps,
            state.connection,
            state.engine,
            self._facts(state),
            state.went_wrong,
            state.running,
            self.app.size.width,
        )
        if shown == self._shown:
            return
        self._shown = shown
        for tab in self.query(StepTab):
            status = getattr(state.steps, tab.step)
            if tab.step == "train" and status == "done" and state.went_wrong:
                status = "bad"
            if tab.step == "train" and state.running and not state.lost:
                status = "running"
            tab.show(status, current=tab.step == self.current)
        self.query_one("#engine", Static).update(self._engine(state))

    def _facts(self, state: State) -> str:
        device = state.training.device if state.training else state.data.X.device if state.data else ""
        return " · ".join([*([device] if device else []), f"seed {state.model_spec.init.seed}", ""])

    def _engine(self, state: State) -> Text:
        text = Text(no_wrap=True, justify="right")
        if state.connection == "lost":
            return text.append("engine ended ✗", self._colour("bad"))
        if state.connection == "starting" or state.engine.state == "loading":
            return text.append("engine starting ○")
        if state.engine.state == "failed":
            return text.append("engine failed ✗", self._colour("bad"))
        if self.app.size.width >= 104:
            text.append(self._facts(state))
        if not state.engine.keeps:
            if self.app.size.width < 70:  # the steps need the room
                return text.append("✗", self._colour("bad"))
            text.append("not kept ", self._colour("bad"))
        elif self.app.size.width >= 70:
            name = fitted_start(self.workspace, NAME)
            text.append(f"{name} · engine " if name and self.app.size.width >= 140 else f"{name or 'engine'} ")
        return text.append("●", self._colour("prediction"))

    def _colour(self, role: str) -> str:
        return self.app.theme_variables.get(f"role-{role}", "default")
