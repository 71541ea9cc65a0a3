"""The settings of a step: one labelled field a line, applied as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Select, Static

from workflow_tui.settings import IncompleteError
from workflow_tui.widgets.field import Field, FieldRow, Value, Values
from workflow_tui.widgets.number_input import NumberInput

__all__ = ["Field", "Form", "Value", "Values"]

EDITS = "enter edits"


class Form(VerticalScroll):
    """A column of fields. Posts `Form.Applied` when a person has finished with a field that changed.

    The frame says how many fields lie below those that can be seen.
    """

    can_focus = False

    pending: reactive[bool] = reactive(False)
    """Do the fields hold what is not in effect, and wait for something?"""

    class Applied(Message):
        """Fields were changed: what they hold now, and the `name` of the one that is to be marked if it is refused."""

        def __init__(self, form: Form, changes: Mapping[str, Value]) -> None:
            super().__init__()
            self.form = form
            self.name = next(iter(changes))
            self.changes = dict(changes)

        @property
        def control(self) -> Form:
            """The form itself."""
            return self.form

    class Settled(Message):
        """A field was left with the value it had: what was said about another one no longer holds."""

    class Pending(Message):
        """The fields began or ceased to hold what is not in effect: what was made of others looks old meanwhile."""

    class Refused(Message):
        """What was typed does not fit, and is kept to be mended: one sentence."""

        def __init__(self, form: Form, text: str) -> None:
            super().__init__()
            self.form = form
            self.text = text

    def __init__(
        self,
        fields: Sequence[Field],
        start: Values,
        *,
        id: str | None = None,  # noqa: A002
        title: str = "Settings",
    ) -> None:
        """`start` are the values until others are shown; an empty `title` leaves the frame to what the form lies in."""
        super().__init__(id=id, classes="form panel" if title else "form")
        self.form_fields = tuple(fields)
        self.form_title = title
        self.border_title = title or None
        self._values: dict[str, Value] = {field.name: start[field.name] for field in self.form_fields}
        self._told: dict[str, Value] = {}
        self._sent: dict[str, Value] = {}
        self._sign = ""
        self._rows: list[FieldRow] = []

    def compose(self) -> ComposeResult:
        """One line a field, and one for the title of each group."""
        group = ""
        for field in self.form_fields:
            if field.group and field.group != group:
                group = field.group
                heading = Static(group, classes="group", markup=False, name=group)
                heading.set_class(not self._has(group), "-empty")
                yield heading
            row = FieldRow(
                field,
                self._values[field.name],
                shown=field.shown(self._values),
                hint=field.hint_for(self._values),
            )
            self._rows.append(row)
            yield row

    def on_mount(self) -> None:
        """Say what the keys are from the start."""
        self._say_how_many()

    @property
    def values(self) -> dict[str, Value]:
        """What the fields hold, those included that nobody has been able to make use of yet."""
        return dict(self._values)

    @property
    def sign(self) -> str:
        """What the frame says of the fields below those that can be seen."""
        return self._sign

    @property
    def unsent(self) -> bool:
        """Do the fields hold anything that the engine has not said it has?"""
        return bool(self._told) and self._values != self._told

    @property
    def waits(self) -> bool:
        """Do the fields hold anything that was not even asked for?"""
        return bool(self._told) and self._values != self._sent

    @property
    def fault(self) -> str:
        """Why what a field holds is not in effect, in one sentence; empty where every field fits."""
        return next((row.fault for row in self._rows if row.fault), "")

    def show(self, values: Mapping[str, Value]) -> None:
        """Show `values` where they changed; a field that is being edited is left alone.

        What a person has applied stands until other values are shown: the engine may take a while to answer.
        """
        changed = [row for row in self._rows if self._told.get(row.field.name, ...) != values[row.field.name]]
        if not changed:
            return
        for row in changed:
            self._told[row.field.name] = self._values[row.field.name] = values[row.field.name]
            self._sent[row.field.name] = values[row.field.name]
            row.show(values[row.field.name])
        self.pending = bool(self.fault)
        self._arrange()

    def watch_pending(self, pending: bool) -> None:
        """Say in the frame that these settings are not those of the step."""
        if self.form_title:
            self.border_title = f"{self.form_title} · not in effect" if pending else self.form_title
        self.post_message(self.Pending())

    def restore(self) -> None:
        """Put back what the engine has, after values it refused; what is marked was never sent, and is kept."""
        if not self._told:
            return
        self._sent = dict(self._told)
        for row in self._rows:
            if not row.fault:
                self._values[row.field.name] = self._told[row.field.name]
                row.show(self._told[row.field.name])
        self.pending = bool(self.fault)
        self._arrange()

    def refuse(self, name: str, reason: str) -> None:
        """These values do not go together: mark the field `name`, unless another one is marked for this `reason`."""
        for row in self._rows:
            if row.field.name == name and reason not in [other.fault for other in self._rows]:
                row.mark(reason)
        self.pending = True

    def accept(self) -> None:
        """These values go together and are asked for: what is no value at all is still to be mended."""
        self._sent = dict(self._values)
        for row in self._rows:
            if not row.unread:
                row.mark("")
        self.pending = bool(self.fault)

    def put_back(self) -> bool:
        """Put back what is in effect into every field that is marked; False where none is."""
        marked = [row for row in self._rows if row.fault]
        for row in marked:
            self._undo(row)
        return bool(marked)

    def abandon(self, control: Widget, check: Callable[[Values], object]) -> bool:
        """Leave a field: where what it holds does not fit, what is in effect is put back, and this is True.

        `check` raises ValueError for values that do not go together.
        """
        row = control.parent
        if not isinstance(row, FieldRow):
            return False
        if isinstance(control, Input):
            others = [other.fault for other in self._rows if other is not row]
            try:
                check(self._values | {row.field.name: row.read()})
            except IncompleteError:
                return False
            except ValueError as error:
                if str(error) in others:
                    return False
            else:
                return False
        elif not row.fault:
            return False
        self._undo(row)
        return True

    def _undo(self, row: FieldRow) -> None:
        name = row.field.name
        self._values[name] = row.value = self._sent.get(name, row.value)
        row.put_back()
        self.pending = bool(self.fault) or self.waits
        self._arrange()

    def put(self, values: Mapping[str, Value]) -> None:
        """Fill in several fields as if they had been typed, and tell of them at once."""
        self._values |= values
        for row in self._rows:
            if row.field.name in values:
                row.value = values[row.field.name]
                row.put_back()
        self._arrange()
        self.post_message(self.Applied(self, values))

    def _has(self, group: str) -> bool:
        return any(field.shown(self._values) for field in self.form_fields if field.group == group)

    def _arrange(self) -> None:
        """Show the fields that mean something beside the values of the others."""
        for row in self._rows:
            shown = row.field.shown(self._values)
            row.reveal(shown=shown, hint=row.field.hint_for(self._values))
            if row.fault and not shown:  # nobody could mend it there
                self._values[row.field.name] = row.value = self._sent.get(row.field.name, row.value)
                row.put_back()
        for heading in self.query(".group"):
            heading.set_class(not self._has(heading.name or ""), "-empty")
        self.call_after_refresh(self._say_how_many)

    def on_resize(self) -> None:
        """Other fields may lie below what can be seen."""
        self.call_after_refresh(self._say_how_many)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scroll, and count anew what lies below."""
        super().watch_scroll_y(old_value, new_value)
        self._say_how_many()

    def _say_how_many(self) -> None:
        bottom = self.scroll_offset.y + self.scrollable_content_region.height
        lines = [child for child in self.children if child.display]  # a line each
        below = sum(isinstance(child, FieldRow) for child in lines[max(bottom, 0) :])
        sign = f"↓ {below} more · {EDITS}" if below and self.is_mounted else EDITS
        frame = self if self.form_title else self.parent
        if sign != self._sign and isinstance(frame, Widget):
            self._sign = sign
            frame.border_subtitle = sign

    def _apply(self, control: Widget) -> None:
        """Tell of a field that was changed; what does not fit is said, and kept to be mended."""
        row = control.parent
        if not self._told or not isinstance(row, FieldRow):  # nothing was shown yet: nobody has typed anything
            return
        name = row.field.name
        try:
            value = row.read()
        except ValueError as error:
            row.mark(str(error), unread=True)
            self.pending = True
            self.post_message(self.Refused(self, str(error)))
            return
        if value == self._values[name]:
            if isinstance(control, Input):  # a choice tells of its first value too
                self._reread(row)
            return
        row.mark("")
        self._values[name] = row.value = value
        self._arrange()
        self.post_message(self.Applied(self, {name: value}))

    def _reread(self, row: FieldRow) -> None:
        """A field was left with the value that is known of it: where it held none before, that is mended."""
        if row.unread:
            row.mark("")
            self.pending = bool(self.fault) or self.waits
        if not row.fault:
            self.post_message(self.Settled())

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.set_focus(None)  # which applies it

    @on(Input.Blurred)
    def _blurred(self, event: Input.Blurred) -> None:
        event.stop()
        self._apply(event.input)

    @on(NumberInput.Stepped)
    def _stepped(self, event: NumberInput.Stepped) -> None:
        event.stop()
        self._apply(event.control)

    @on(Select.Changed)
    def _chosen(self, event: Select.Changed) -> None:
        event.stop()
        self._apply(event.select)

    def on_click(self, event: events.Click) -> None:
        """A click beside a field is no click on what lies under the form."""
        event.stop()
