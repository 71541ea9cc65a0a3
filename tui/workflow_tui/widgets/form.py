"""The settings of a step: one labelled field a line, applied as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Select, Static

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
        """A field was changed: its `name`, and the `values` of all of them."""

        def __init__(self, form: Form, name: str, values: dict[str, Value]) -> None:
            super().__init__()
            self.form = form
            self.name = name
            self.values = values

        @property
        def control(self) -> Form:
            """The form itself."""
            return self.form

    class Settled(Message):
        """A field was left with the value it had: what was said about another one no longer holds."""

    class Refused(Message):
        """What was typed does not fit: one sentence."""

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
        self._sign = ""

    def compose(self) -> ComposeResult:
        """One line a field, and one for the title of each group."""
        group = ""
        for field in self.form_fields:
            if field.group and field.group != group:
                group = field.group
                heading = Static(group, classes="group", markup=False, name=group)
                heading.set_class(not self._has(group), "-empty")
                yield heading
            yield FieldRow(
                field,
                self._values[field.name],
                shown=field.shown(self._values),
                hint=field.hint_for(self._values),
            )

    def on_mount(self) -> None:
        """Say what the keys are from the start."""
        self._say_how_many()

    @property
    def values(self) -> dict[str, Value]:
        """What the fields hold, those included that nobody has been able to make use of yet."""
        return dict(self._values)

    @property
    def unsent(self) -> bool:
        """Do the fields hold anything that the engine has not said it has?"""
        return bool(self._told) and self._values != self._told

    def show(self, values: Mapping[str, Value]) -> None:
        """Show `values` where they changed; a field that is being edited is left alone.

        What a person has applied stands until other values are shown: the engine may take a while to answer.
        """
        changed = [row for row in self._rows() if self._told.get(row.field.name, ...) != values[row.field.name]]
        if not changed:
            return
        for row in changed:
            self._told[row.field.name] = self._values[row.field.name] = values[row.field.name]
            row.show(values[row.field.name])
        self.pending = False
        self._arrange()

    def watch_pending(self, pending: bool) -> None:
        """Say in the frame that these settings are not those of the step."""
        if self.form_title:
            self.border_title = f"{self.form_title} · not in effect yet" if pending else self.form_title

    def restore(self) -> None:
        """Put back what the engine has, after values it refused."""
        self.pending = False
        values, self._told = self._told, {}
        if values:
            self.show(values)

    def put(self, values: Mapping[str, Value]) -> None:
        """Fill in several fields as if they had been typed, and tell of them at once."""
        self._values |= values
        for row in self._rows():
            if row.field.name in values:
                row.value = values[row.field.name]
                row.put_back() if isinstance(row.control, Input) else row.show(row.value)
        self._arrange()
        self.post_message(self.Applied(self, next(iter(values)), dict(self._values)))

    def _rows(self) -> list[FieldRow]:
        return list(self.query(FieldRow))

    def _has(self, group: str) -> bool:
        return any(field.shown(self._values) for field in self.form_fields if field.group == group)

    def _arrange(self) -> None:
        """Show the fields that mean something beside the values of the others."""
        for row in self._rows():
            row.reveal(shown=row.field.shown(self._values), hint=row.field.hint_for(self._values))
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
        """Tell of a field that was changed; what does not fit is said, and put back."""
        row = control.parent
        if not self._told or not isinstance(row, FieldRow):  # nothing was shown yet: nobody has typed anything
            return
        name = row.field.name
        try:
            value = row.read()
        except ValueError as error:
            self.post_message(self.Refused(self, str(error)))
            row.put_back()
            return
        if value == self._values[name]:
            if isinstance(control, Input):  # a choice tells of its first value too
                self.post_message(self.Settled())
            return
        self._values[name] = row.value = value
        self._arrange()
        self.post_message(self.Applied(self, name, dict(self._values)))

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
