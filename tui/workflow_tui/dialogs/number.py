"""A dialog for one number, such as the learning rate of a run that is under way."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workflow_tui.sturdy import SturdyScreen
from workflow_tui.widgets.number_input import NumberInput


class NumberDialog(SturdyScreen, ModalScreen[float | None]):
    """Asks for one number; None where it was left."""

    def __init__(
        self, title: str, text: str, label: str, value: float, *, low: float, high: float, integer: bool = False
    ) -> None:
        super().__init__()
        self.integer = integer
        self.dialog_title = title
        self.text = text
        self.label = label
        self.value = value
        self.limits = (low, high)

    def compose(self) -> ComposeResult:
        """What it is, the field, and how to leave."""
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self.dialog_title)
            box.border_subtitle = "enter applies · escape leaves it"
            yield Static(self.text, markup=False, classes="dialog-text")
            yield NumberInput(
                repr(self.value).removesuffix(".0"),
                minimum=self.limits[0],
                maximum=self.limits[1],
                label=self.label,
                integer=self.integer,
                compact=True,
                id="number",
            )
            yield Static("", markup=False, id="number-error")

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        field = self.query_one(NumberInput)
        if field.number is None:
            self.query_one("#number-error", Static).update(field.error)
        else:
            self.dismiss(field.number)

    def on_key(self, event: events.Key) -> None:
        """Escape leaves the number as it is."""
        if event.key == "escape":
            event.stop()
            self.dismiss(None)
