"""One setting of a form: what is shown of its value, what is read out of what was typed, and its line on the screen."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Select, Static

from workflow_core.sanitize import sanitize
from workflow_tui.widgets.number_input import NumberInput, parse

Value = float | int | str | bool | tuple[float, ...] | tuple[str, ...] | None
Values = Mapping[str, Value]

LONG = 4096
"""Characters that a text may have: no path is longer."""
FLAGS = (("off", "off"), ("on", "on"))
TYPED = ("text", "file", "names", "numbers", "wholes", "optional")
"""Kinds that are typed into a plain field; those that can be long take the room of the hint where there is none."""


@dataclass(frozen=True)
class Field:
    """One setting: its `name` in the form's values, `label`, unit or hint, and what kind of value it has.

    `kind` is `float`, `int`, `choice` (with `choices` as (label, value) pairs), `flag` (on or off), `text`, `file` (a
    path), `names` and `numbers` and `wholes` (several with commas between), or `optional` (a number, or None for what
    `empty` says). `when` tells from all values of the form whether the field is shown; a hidden one keeps its value.
    `hint` may depend on the values too. A `group` is a title above the first of the fields that name it.
    """

    name: str
    label: str
    kind: str = "float"
    hint: str | Callable[[Values], str] = ""
    choices: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    when: Callable[[Values], bool] | None = None
    group: str = ""
    empty: str = ""

    def shown(self, values: Values) -> bool:
        """Does this setting do anything beside these others?"""
        return self.when is None or self.when(values)

    def hint_for(self, values: Values) -> str:
        """The unit or hint beside these other values."""
        return self.hint if isinstance(self.hint, str) else self.hint(values)

    def text(self, value: Value) -> str:
        """`value` as a person would type it; `read` gives it back."""
        if value is None:
            return ""
        if isinstance(value, tuple):
            return ", ".join(_quoted(part) if isinstance(part, str) else _plain(part) for part in value)
        return _plain(value)

    def said(self, value: Value) -> str:
        """`value` as the field shows it: the label of a choice, what stands for an empty one."""
        if self.kind == "flag":
            return "on" if value else "off"
        return dict((stored, label) for label, stored in self.choices).get(str(value)) or self.text(value) or "empty"

    def read(self, text: str) -> Value:
        """The value of what was typed. Raises ValueError with one sentence."""
        if self.kind == "names":
            return tuple(name for name in _listed(text) if name)
        if self.kind in ("numbers", "wholes"):
            parts = text.replace(",", " ").split()
            return tuple(self._number(part, integer=self.kind == "wholes") for part in parts)
        if self.kind == "optional":
            return self._number(text) if text.strip() else None
        return text.strip()

    def _number(self, text: str, *, integer: bool = False) -> float:
        try:
            return parse(text, integer=integer)
        except ValueError as error:
            raise ValueError(f"{self.label}: {text[:30]!r} {error}") from None


def _plain(value: float | int | str | bool) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"') or name != name.strip() else name


def _listed(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"these are no names with commas between: {error}") from None
    return rows[0] if rows else []


class FieldRow(Horizontal):
    """The line of one field. What it is made of is mounted when it is first to be seen: most forms hide many."""

    def __init__(self, field: Field, value: Value, *, shown: bool, hint: str) -> None:
        long = field.kind in TYPED and not field.hint
        super().__init__(classes="field -long" if long else "field")
        self.field = field
        self.value = value
        self.hint = hint
        self.fault = ""
        self.unread = False
        self.display = shown
        self._built = shown

    def compose(self) -> ComposeResult:
        """Label, control and hint; nothing while the field is hidden."""
        if self._built:
            yield from self._parts()

    def _parts(self) -> ComposeResult:
        yield Static(self.field.label, classes="label", markup=False)
        yield self._control()
        yield Static(self.hint, classes="hint", markup=False)

    def _control(self) -> Input | Select[str]:
        field, name = self.field, f"field-{self.field.name}"
        if field.kind in ("choice", "flag"):
            return Select(
                FLAGS if field.kind == "flag" else field.choices,
                id=name,
                value=self._chosen(),
                allow_blank=False,
                compact=True,
            )
        text = field.text(self.value)
        if field.kind in TYPED:
            return Input(text, placeholder=field.empty, id=name, compact=True, max_length=LONG)
        return NumberInput(
            text,
            id=name,
            integer=field.kind == "int",
            minimum=field.low,
            maximum=field.high,
            step=field.step,
            label=field.label,
            compact=True,
        )

    def _chosen(self) -> str:
        return str(self.value) if self.field.kind == "choice" else FLAGS[bool(self.value)][1]

    @property
    def control(self) -> Input | Select[Any] | None:
        """The field itself; None while it was never shown."""
        return next(iter(self.query("Input, Select")), None)  # type: ignore[return-value]

    def reveal(self, *, shown: bool, hint: str) -> None:
        """Show or hide the field, with this hint."""
        if shown and not self._built:
            self._built, self.hint = True, hint
            self.mount(*self._parts())
        elif hint != self.hint:
            self.hint = hint
            self._write_hint()
        if shown != self.display:
            self.display = shown

    def mark(self, fault: str, *, unread: bool = False) -> None:
        """Keep what the field holds and mark it as not in effect, with the reason; empty takes the mark away.

        `unread` says that it is no value at all, whatever the other fields hold.
        """
        self.unread = unread
        if fault != self.fault:
            self.fault = fault
            self.set_class(bool(fault), "-bad")
            self._write_hint()

    def _write_hint(self) -> None:
        text = f"× {self.fault.removeprefix(self.field.label).lstrip(': ')}" if self.fault else self.hint
        text = sanitize(text, 200)
        for static in self.query(".hint").results(Static):
            static.update(text)

    def show(self, value: Value) -> None:
        """Show `value`, without telling anyone; a field that is being edited is left alone."""
        self.value = value
        self.mark("")
        control = self.control
        if isinstance(control, Select):
            with control.prevent(Select.Changed):
                control.value = self._chosen()
        elif control is not None and not control.has_focus:
            self._write(control)

    def put_back(self) -> None:
        """Show the value again, whatever was typed or chosen."""
        self.mark("")
        if isinstance(control := self.control, Input):
            self._write(control)
        else:
            self.show(self.value)

    def _write(self, control: Input) -> None:
        with control.prevent(Input.Changed):
            control.value = text = self.field.text(self.value)
        if self.field.kind == "file":
            control.cursor_position = len(text)  # the end of a path says more than its beginning

    def read(self) -> Value:
        """The value that the control holds. Raises ValueError with one sentence."""
        control = self.control
        if control is None:
            return self.value
        if isinstance(control, Select):
            return str(control.value) if self.field.kind == "choice" else control.value == "on"
        if not isinstance(control, NumberInput):
            return self.field.read(control.value)
        if (number := control.number) is None:
            raise ValueError(control.error or f"{self.field.label}: not a number")
        return number
