"""What screens do with the settings of a step: ask for them, keep what is refused, and go back to the course's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import on
from textual.screen import Screen
from textual.widget import Widget

from workflow_core.protocol import Command as EngineCommand
from workflow_tui.dialogs.base import confirm_defaults
from workflow_tui.settings import IncompleteError
from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import Ink, fitted_start
from workflow_tui.widgets.form import Field, Form, Values

if TYPE_CHECKING:
    from workflow_tui.app import WorkflowApp


class FormScreen(SturdyScreen, Screen[None]):
    """A screen with forms: a subclass says what asks the engine for their values."""

    @property
    def owner(self) -> WorkflowApp:
        """The app, by its own type."""
        return cast("WorkflowApp", self.app)

    def command_of(self, values: Values) -> EngineCommand:
        """What asks the engine for a form's values. Raises ValueError with what does not fit."""
        raise NotImplementedError

    def refresh_state(self) -> None:
        """Show the app's state as it is now."""
        raise NotImplementedError

    def changed(self, form: Form, name: str) -> None:
        """A person has changed the field `name`."""
        self.apply(form, name)

    def apply(self, form: Form, name: str = "") -> None:
        """Ask for the form's values; where they cannot be had they stay to be mended, and the field `name` says why."""
        try:
            command = self.command_of(form.values)
        except IncompleteError as missing:
            form.pending = True
            self.owner.complain(str(missing))
        except ValueError as error:
            form.refuse(name, str(error))
            self._say_unfit(form, str(error))
        else:
            form.accept()
            self.owner.send(command)

    def apply_again(self, form: Form, command: EngineCommand) -> None:
        """Do the step: with what the form holds where that is not in effect, else by `command`."""
        if form.fault:
            self.owner.complain(form.fault)
        elif form.unsent:
            self.apply(form)
        else:
            self.owner.send(command)

    def _say_unfit(self, form: Form, reason: str) -> None:
        if form.fault:  # which the status line tells until it is mended
            self.owner.forget_complaint()
            self.owner.redraw()
        else:
            self.owner.complain(reason)

    @on(Form.Applied)
    def _applied(self, event: Form.Applied) -> None:
        event.stop()
        if self.owner.state.unknown:
            self._once_shown(partial(event.form.put, event.changes))
        else:
            self.changed(event.form, event.name)

    def _once_shown(self, act: Callable[[], None]) -> None:
        """Do what hangs on the settings once the form shows those that the engine had kept, and not the course's."""

        def shown() -> None:
            self.refresh_state()
            act()

        self.owner.once_known(shown if self.owner.state.unknown else act)

    @on(Form.Refused)
    def _unread(self, event: Form.Refused) -> None:
        event.stop()
        self._say_unfit(event.form, event.text)

    @on(Form.Settled)
    def _settled(self, event: Form.Settled) -> None:
        event.stop()
        self.owner.forget_complaint()
        self.owner.redraw()

    def defaults(self, form: Form, course: Values, command: EngineCommand) -> None:
        """Go back to the `course`'s settings by `command`, asking first where others than these would be lost."""
        self._once_shown(partial(self._defaults, form, course, command))

    def _defaults(self, form: Form, course: Values, command: EngineCommand) -> None:
        now = form.values
        changed = [
            field
            for field in form.form_fields
            if now[field.name] != course[field.name] and (field.shown(now) or field.kind == "file")
        ]
        if changed:
            self.owner.start_work(partial(self._ask_for_defaults, form, changed, command), "dialogs", exclusive=True)
        else:
            self._take_defaults(form, command)

    async def _ask_for_defaults(self, form: Form, changed: list[Field], command: EngineCommand) -> None:
        if await self.app.push_screen_wait(confirm_defaults(changed, form.values)):
            self._take_defaults(form, command)

    def _take_defaults(self, form: Form, command: EngineCommand) -> None:
        form.put_back()
        form.restore()
        self.owner.send(command)

    @on(Form.Pending)
    def _pending(self, event: Form.Pending) -> None:
        event.stop()
        self.owner.redraw()

    def overtaken(self, form: Form) -> bool:
        """Does the form hold other values than those that the step was done with, for longer than a moment?"""
        return form.pending or (form.unsent and self.owner.link.patience() is not None)

    def restore_fields(self) -> None:
        """Show the engine's settings again, after it refused some; those of one's own file are kept to be mended."""
        for form in self.query(Form):
            if form.unsent and self.keeps(form.values):
                form.pending = True
            else:
                form.restore()

    def keeps(self, values: Values) -> bool:
        """Are these settings worth keeping when the engine refuses them, because another one may mend them?"""
        return False

    def unfit(self) -> Text | None:
        """Why what is marked in a form is not in effect, and the way out; None where nothing is."""
        fault = next((form.fault for form in self.query(Form) if form.fault), "")
        if not fault or (self.owner.state.busy and self.focused is None):  # how the training goes is worth more then
            return None
        way_out = " · escape takes it back"
        return Text.assemble(
            (f" {fitted_start(fault, self.size.width - len(way_out) - 1)}", f"bold {Ink(self)('bad')}"), way_out
        )

    def abandon(self, field: Widget) -> None:
        """Leave a field; what it holds and does not fit is taken back."""
        for form in self.query(Form):
            if form in field.ancestors and form.abandon(field, self.command_of):
                self._went_back(form)

    def put_back(self) -> None:
        """Take back what does not fit, in every form."""
        for form in self.query(Form):
            if form.put_back():
                self._went_back(form)

    def _went_back(self, form: Form) -> None:
        """What did not fit is gone; what had to wait for that goes on."""
        self.owner.forget_complaint()
        self.owner.redraw()
        if form.waits:
            self.apply(form)
