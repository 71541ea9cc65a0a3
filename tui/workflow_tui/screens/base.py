"""What all six screens share: stepper, purpose, side panel, banner, status line and key bar."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widget import Widget
from textual.widgets import Input, Select, Static

from workflow_core.protocol import Command as EngineCommand
from workflow_core.protocol import StepName
from workflow_core.specs import SaveKind
from workflow_tui.commands import COMMON, Command
from workflow_tui.screens.forms import FormScreen
from workflow_tui.state import State
from workflow_tui.widgets.cell_text import CellText
from workflow_tui.widgets.form import Form
from workflow_tui.widgets.frame import KeyBar, StatusLine
from workflow_tui.widgets.predictor import Predictor
from workflow_tui.widgets.side_panel import Content, SidePanel
from workflow_tui.widgets.stepper import Stepper

SIDE_WIDTH = 140
"""From this many columns on, the lesson lies beside the instruments from the start."""


class StepScreen(FormScreen):
    """One of the six steps: a subclass names itself and its commands, composes its instruments and shows a state."""

    step: ClassVar[StepName]
    purpose: ClassVar[str]
    commands: ClassVar[tuple[Command, ...]] = ()
    lesson_at_start: ClassVar[bool] = True
    depends_on: ClassVar[tuple[StepName, ...]] = ()
    """Earlier steps whose staleness concerns this one."""

    AUTO_FOCUS = ""
    ESCAPE_TO_MINIMIZE = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls.BINDINGS = [command.binding() for command in cls.all_commands()]
        super().__init_subclass__(**kwargs)

    def __init__(self) -> None:
        super().__init__(id=f"{self.step}-screen")
        self._side_chosen = False
        self._stands = False
        self._resumed = False
        self._begun = False

    def compose(self) -> ComposeResult:
        """The frame, with the subclass's instruments in the middle."""
        # before there are widgets: every class that comes later styles all of them anew
        self._classify(self.app.size.width, self.app.size.height)
        yield Stepper(self.step, self.owner.workspace)
        yield Static(self.purpose, id="purpose", markup=False)
        with Horizontal(id="body"):
            with Container(id="instruments"):
                yield from self.instruments()
            yield SidePanel(self.step)
        yield Static("", id="banner", markup=False)
        yield StatusLine()
        yield KeyBar(self.all_commands())

    def instruments(self) -> ComposeResult:
        """The widgets of this step."""
        raise NotImplementedError

    def show(self, state: State) -> None:
        """Bring the instruments up to `state`."""
        raise NotImplementedError

    def code_file(self, state: State) -> tuple[str, SaveKind]:
        """The file that the code of this step names, and what it holds."""
        return "model.pt", "state_dict"

    def status(self, state: State) -> Text:
        """What the status line says while nothing else has just happened."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Lay out for the size at hand; every instrument stands by now."""
        self._stands = True
        self._arrange(self.app.size.width, self.app.size.height)
        self.owner.link.listen()
        self.call_after_refresh(self.refresh_state)

    def on_resize(self, event: events.Resize) -> None:
        """Lay out for a changed size."""
        self._arrange(self.app.size.width, self.app.size.height)  # the event may be an old one
        self.call_after_refresh(self.refresh_state)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Show what changed while another screen was on top, and do the step where it is still open.

        Once: the screen resumes after every dialog, that of the step's failure too.
        """
        # all widgets are new the first time, and have the styles that they got as they came
        event.refresh_styles = event.refresh_styles and self._resumed
        self._resumed = True
        self.refresh_state()
        if self.owner.state.ready and self.owner.link.greeted and not self._begun:
            self.engine_ready(self.owner.state)

    def _classify(self, width: int, height: int) -> None:
        self.set_class(width < 100, "-narrow")
        self.set_class(width < SIDE_WIDTH, "-over")
        self.set_class(height < 30, "-low")
        self.set_class(width < 60 or height < 18, "-tiny")

    def _arrange(self, width: int, height: int) -> None:
        self._classify(width, height)
        if not self._side_chosen:
            self.side_panel.open("lesson" if self.lesson_at_start and width >= SIDE_WIDTH else "")

    @property
    def side_panel(self) -> SidePanel:
        """The lesson and code panel."""
        return self.query_one(SidePanel)

    def refresh_state(self) -> None:
        """Show the app's state as it is now, frame included."""
        if not self._stands:
            return
        state = self.owner.state
        self.query_one(Stepper).show(state)
        self.query_one(KeyBar).lost = state.lost
        self.side_panel.show(state.spec, *self.code_file(state))
        self._show_banner(state)
        self.query_one(StatusLine).show(self.owner.flash or self.unfit() or self.status(state))
        self.show(state)

    def _show_banner(self, state: State) -> None:
        banner = self.query_one("#banner", Static)
        concerns = (self.step, *self.depends_on)
        stale = next((reason for step in concerns if (reason := state.stale_because(step))), "")
        if state.connection == "lost":
            text = f"The engine has ended ({state.lost_reason}). This is the last it said. a starts it again."
        elif state.engine.problem is not None:
            text = state.engine.problem.line()
        elif stale:
            text = f"Stale: {stale}"
        else:
            text = self.remark(state)
        broken = state.connection == "lost" or state.engine.problem is not None
        banner.set_class(broken, "-bad")
        banner.display = bool(text)
        if text and str(banner.content) != text:
            banner.update(text)

    @on(CellText.Resized)
    def _align_anew(self, event: CellText.Resized) -> None:
        event.stop()
        self.owner.redraw()

    def remark(self, state: State) -> str:
        """What must be said of this step above all its figures; empty where nothing must."""
        return ""

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Say what the keys do in a field, and give what it belongs to the room that a low terminal has."""
        # the open list of a choice is a widget of its own inside it
        within = event.widget.ancestors_with_self
        self.query_one(KeyBar).editing = any(isinstance(node, Input | Select) for node in within)
        if any(isinstance(node, Form | Predictor) for node in event.widget.ancestors):
            self.add_class("-editing")

    def on_descendant_blur(self) -> None:
        """Back to the keys of the screen, unless the next field has the focus by then."""
        self.call_later(self._leave_fields)

    def _leave_fields(self) -> None:
        if self.focused is not None:
            return
        self.query_one(KeyBar).editing = False
        if self.has_class("-editing"):
            self.remove_class("-editing")
            for form in self.query(Form):
                form.scroll_home(animate=False)
            self.call_after_refresh(self.refresh_state)  # what was hidden meanwhile has a size again

    def on_key(self, event: events.Key) -> None:
        """A letter in a choice is no key of the screen behind it: in the fields beside it it would be text."""
        if event.is_printable and event.key != "space" and isinstance(self.focused, Select):
            event.stop()
            event.prevent_default()

    def key_escape(self) -> None:
        """Leave a field, hide the side panel where it covers the instruments, or take back what does not fit."""
        if self.focused is not None and self.focused is not self.side_panel:
            self.abandon(self.focused)
            self.set_focus(None)
        elif self.has_class("-over") and self.side_panel.content:
            self.side_panel.open("")
            self.set_focus(None)
        elif self.focused is not None:
            self.set_focus(None)
        else:
            self.put_back()

    @classmethod
    def sections(cls) -> tuple[tuple[str, tuple[Command, ...]], ...]:
        """The step's own commands as the help lists them, under titles."""
        return (("On this screen", cls.commands),)

    @classmethod
    def all_commands(cls) -> tuple[Command, ...]:
        """What keys and palette can do here: the step's own, and the common ones that it does not put its own way."""
        own = {command.action for command in cls.commands}
        return (*cls.commands, *(command for command in COMMON if command.action not in own))

    def engine_ready(self, state: State) -> None:
        """The engine is ready while this screen is on top: a first visit does the step with the settings it has."""
        command = self.first_command(state)
        if command is not None:
            self._begun = True
            self.owner.send(command)

    def first_command(self, state: State) -> EngineCommand | None:
        """What a first visit asks of the engine; None where the step waits for a key."""
        return None

    # --- predictions -------------------------------------------------------------------------------

    @on(Predictor.Refused)
    def _refused(self, event: Predictor.Refused) -> None:
        event.stop()
        self.owner.complain(event.text)

    @on(Predictor.Asked)
    def _asked(self, event: Predictor.Asked) -> None:
        event.stop()
        self.owner.predict(event.rows, event.predictor.source, event.predictor.answer)

    # --- keys --------------------------------------------------------------------------------------

    def fields(self) -> list[Widget]:
        """The fields `enter` goes into, in order."""
        return [
            widget
            for widget in self.query("Input, Select")
            if widget.focusable and all(node.display for node in widget.ancestors_with_self if isinstance(node, Widget))
        ]

    def action_settings(self) -> None:
        """Go into the first field."""
        if fields := self.fields():
            self.set_focus(fields[0])

    def action_side(self, content: Content) -> None:
        """Show or hide lesson or code."""
        self._side_chosen = True
        self.side_panel.toggle(content)
        self.set_focus(self.side_panel if self.side_panel.content else None)  # arrow keys scroll it
        self.call_after_refresh(self.refresh_state)

    async def action_next_step(self) -> None:
        """Go one step on."""
        await self.owner.go_by(1)

    async def action_previous_step(self) -> None:
        """Go one step back."""
        await self.owner.go_by(-1)
