"""The settings of a step: one labelled field a line, applied as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Select, Static

from workflow_tui.widgets.number_input import NumberInput

Value = float | int | str


@dataclass(frozen=True)
class Field:
    """One setting: its `name` in the spec, `label`, unit or hint, and either choices or the kind of number.

    `kind` is `float`, `int`, `text` or `choice` (with `choices` as (label, value) pairs).
    """

    name: str
    label: str
    kind: str = "float"
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None


class Form(VerticalScroll):
    """A column of fields. Posts `Form.Applied` when a person has finished with a field that changed."""

    can_focus = False

    class Applied(Message):
        """A field was changed: `values` of all of them, by name."""

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

    def __init__(self, fields: Sequence[Field], *, id: str | None = None, title: str = "Settings") -> None:  # noqa: A002
        super().__init__(id=id, classes="panel form")
        self.form_fields = tuple(fields)
        self.border_title = title
        self.border_subtitle = "enter edits"
        self._values: dict[str, Value] = {}
        self._told: dict[str, Value] = {}

    def compose(self) -> ComposeResult:
        """One line a field."""
        for field in self.form_fields:
            with Horizontal(classes="field"):
                yield Static(field.label, classes="label", markup=False)
                yield self._control(field)
                yield Static(field.hint, classes="hint", markup=False)

    def _control(self, field: Field) -> Input | Select[str]:
        if field.kind == "choice":
            return Select(
                [(label, value) for label, value in field.choices],
                id=f"field-{field.name}",
                allow_blank=False,
                compact=True,
            )
        if field.kind == "text":
            return Input(id=f"field-{field.name}", compact=True, max_length=40)
        return NumberInput(
            id=f"field-{field.name}",
            integer=field.kind == "int",
            minimum=field.low,
            maximum=field.high,
            step=field.step,
            label=field.label,
            compact=True,
        )

    def show(self, values: Mapping[str, Value]) -> None:
        """Show `values` where they changed; a field that is being edited is left alone.

        What a person has applied stands until other values are shown: the engine may take a while to answer.
        """
        for field in self.form_fields:
            value = values[field.name]
            if self._told.get(field.name) == value:
                continue
            self._told[field.name] = self._values[field.name] = value
            control = self.query_one(f"#field-{field.name}")
            if isinstance(control, Select):
                with control.prevent(Select.Changed):
                    control.value = value
            elif isinstance(control, Input) and not control.has_focus:
                with control.prevent(Input.Changed):
                    control.value = _text(value)

    def restore(self) -> None:
        """Put back what the engine has, after values it refused."""
        values, self._told = self._told, {}
        if values:
            self.show(values)

    def _read(self, field: Field, control: Input | Select[Any]) -> Value | None:
        if isinstance(control, Select):
            return str(control.value)
        if not isinstance(control, NumberInput):
            return control.value.strip()
        return control.number

    def _apply(self, control: Input | Select[Any]) -> None:
        """Tell of a field that was changed; what does not fit is said, and put back."""
        if not self._values:  # a Select announces its first choice before anything was shown
            return
        name = (control.id or "").removeprefix("field-")
        field = next(field for field in self.form_fields if field.name == name)
        value = self._read(field, control)
        if value is None:
            assert isinstance(control, NumberInput)
            self.post_message(self.Refused(self, control.error or f"{field.label}: not a number"))
            with control.prevent(Input.Changed):
                control.value = _text(self._values[name])
            return
        if value == self._values.get(name):
            self.post_message(self.Settled())
            return
        self._values[name] = value
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


def _text(value: Value) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
