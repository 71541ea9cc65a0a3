"""A dialog for a name that a person gives to something."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workflow_tui.sturdy import SturdyScreen


class NameInput(Input):
    """One line of text that can be seen."""

    def replace(self, text: str, start: int, end: int) -> None:
        """Put `text` in place of a part, as much of it as there is room for; what cannot be seen is left out."""
        room = None if self.max_length is None else self.max_length - len(self.value) + abs(end - start)
        super().replace("".join(char for char in text if char.isprintable())[:room], start, end)


class NameDialog(SturdyScreen, ModalScreen[str | None]):
    """Asks for a name, an empty one taking it away; None where it was left."""

    def __init__(self, title: str, text: str, value: str, *, most: int) -> None:
        super().__init__()
        self.dialog_title = title
        self.text = text
        self.value = value
        self.most = most

    def compose(self) -> ComposeResult:
        """What it is, the field, and how to leave."""
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self.dialog_title)
            box.border_subtitle = "enter keeps it · escape leaves it"
            yield Static(self.text, markup=False, classes="dialog-text")
            yield NameInput(self.value, max_length=self.most, compact=True, id="name")

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)

    def on_key(self, event: events.Key) -> None:
        """Escape leaves the name as it is."""
        if event.key == "escape":
            event.stop()
            self.dismiss(None)
