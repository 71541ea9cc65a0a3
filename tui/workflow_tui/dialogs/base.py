"""What all dialogs share: a title, a text, and buttons that keys press as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import fitted_start
from workflow_tui.widgets.field import Field, Values

Answer = TypeVar("Answer")
SHOWN = 6
"""Settings that a question names at most."""


@dataclass(frozen=True)
class Choice(Generic[Answer]):
    """One way out of a dialog: its `key` is the first letter of `label` or stands before it."""

    key: str
    label: str
    answer: Answer
    variant: str = "default"


class Dialog(SturdyScreen, ModalScreen[Answer]):
    """A question with a few answers, each on a key of its own; the first is what `enter` presses."""

    AUTO_FOCUS = "Button"
    BINDINGS = [  # noqa: RUF012
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: Text | str, choices: tuple[Choice[Answer], ...], *, cancel: Answer) -> None:
        super().__init__()
        self.dialog_title = title
        self.text = Text(text) if isinstance(text, str) else text
        self.choices = choices
        self.cancel = cancel

    def compose(self) -> ComposeResult:
        """Title, text, buttons."""
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self.dialog_title)  # a string would be read as markup
            yield Static(self.text, markup=False, classes="dialog-text")
            with Horizontal(classes="dialog-buttons"):
                for index, choice in enumerate(self.choices):
                    label = Text.assemble((choice.key, "bold underline"), f"  {choice.label}")
                    yield Button(label, id=f"choice-{index}", variant=choice.variant, compact=True)  # type: ignore[arg-type]

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self._leave(self.choices[int((event.button.id or "").removeprefix("choice-"))].answer)

    def on_key(self, event: Any) -> None:
        """A choice's key presses it; escape cancels."""
        if event.key == "escape":
            event.stop()
            self._leave(self.cancel)
            return
        for choice in self.choices:
            if choice.key == (event.character or event.key):
                event.stop()
                self._leave(choice.answer)
                return

    def _leave(self, answer: Answer) -> None:
        if self.is_current:
            self.dismiss(answer)


def error_dialog(title: str, message: str, advice: str) -> Dialog[None]:
    """A problem as a dialog: what happened, and what to do next."""
    text = Text(message[:1].upper() + message[1:])
    if advice:
        text.append("\n\n").append(advice, "bold")
    return Dialog(title, text, (Choice("o", "ok", None, "primary"),), cancel=None)


def confirm_replace(path: str) -> Dialog[bool]:
    """May this existing file be replaced?"""
    return Dialog(
        "Replace the file?",
        Text.assemble((path, "bold"), " exists already. Its content will be gone."),
        (Choice("c", "cancel", False, "primary"), Choice("r", "replace it", True, "error")),
        cancel=False,
    )


def confirm_defaults(changed: Sequence[Field], values: Values) -> Dialog[bool]:
    """May these settings of a person's own be replaced by the course's?"""
    shown = [f"{field.label} {fitted_start(field.said(values[field.name]), 48)}" for field in changed[:SHOWN]]
    more = f"\nand {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    files = "\n\nNo file is touched." if any(field.kind == "file" for field in changed) else ""
    return Dialog(
        "Back to the course's settings?",
        Text.assemble("These are yours and would be lost:\n\n", ("\n".join(shown) + more, "bold"), files),
        (Choice("c", "cancel", False, "primary"), Choice("r", "the course's settings", True, "error")),
        cancel=False,
    )
