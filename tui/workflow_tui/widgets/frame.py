"""The lines below every screen: what has just happened, and which keys do what now."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from workflow_tui.commands import Command
from workflow_tui.widgets.cell_text import CellText

EDITING: tuple[tuple[str, str], ...] = (
    ("enter", "apply"),
    ("tab", "next field"),
    ("↑ ↓", "change"),
    ("escape", "back to the keys"),
)
LOST: tuple[tuple[str, str], ...] = (
    ("a", "start the engine again"),
    ("1-6", "screens"),
    ("c", "code"),
    ("?", "help"),
    ("q", "leave"),
)


class KeyBar(Static):
    """The keys of this screen in one line; those that do not fit are left to the help."""

    editing: reactive[bool] = reactive(False)
    lost: reactive[bool] = reactive(False)
    instead: reactive[tuple[tuple[str, str], ...]] = reactive(())
    """Keys and words in place of the screen's own, while others matter more."""

    def __init__(self, commands: Sequence[Command]) -> None:
        super().__init__("", id="keys", markup=False)
        self.commands = commands

    def render(self) -> Text:
        """As many `key label` pairs as fit, help and leave always among them."""
        pairs = [(command.shown, command.label) for command in self.commands if command.bar]
        if self.instead:
            pairs = list(self.instead)
        if self.lost:
            pairs = list(LOST)
        if self.editing:
            pairs = list(EDITING)
        room = self.size.width
        while pairs and sum(len(key) + len(label) + 4 for key, label in pairs) > room:
            pairs.pop(-3 if len(pairs) > 2 else 0)
        accent = self.app.theme_variables.get("accent", "default")
        text = Text(no_wrap=True, overflow="ellipsis")
        for key, label in pairs:
            text.append(f" {key}", f"bold {accent}").append(f" {label}  ")
        return text


class Readout(Static):
    """Aligned text that writes nothing to the terminal when it is shown again unchanged."""

    Resized = CellText.Resized

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id, classes=classes, markup=False)
        self._text: object = None
        self._caption = ""

    def on_resize(self) -> None:
        """A panel has no size until it has been laid out, and then another one than its text was made for."""
        self.post_message(self.Resized())

    def show(self, text: Text, *, stale: bool = False) -> None:
        """Show `text`; in one colour where it is `stale`, as a chart is then."""
        self.set_class(stale, "-stale")
        if stale:
            text = Text(text.plain)
        text.no_wrap, text.overflow = not self.has_class("-wrap"), "ellipsis"
        key = (text.plain, tuple(text.spans), text.style)
        if key != self._text:
            self._text = key
            self.update(text, layout=False)

    def tell(self, text: str, *, most: int, stale: bool = False) -> None:
        """Show sentences that wrap, in as many lines as they take and `most` at most."""
        lines = len(wrap(text, self.size.width)) if self.size.width else 1
        self.styles.height = max(min(lines, most), 1)
        self.show(Text(text), stale=stale)

    def caption(self, text: str) -> None:
        """Put plain `text` in the border; setting one repaints the whole widget, an equal one does not."""
        if text != self._caption:
            self._caption = text
            self.border_subtitle = Content(text)


class LongReadout(VerticalScroll):
    """Aligned text of any length: tab goes to it, arrow keys scroll it."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes="panel")
        self.inner = Readout()
        self._caption = ""

    def compose(self) -> ComposeResult:
        """The text."""
        yield self.inner

    def show(self, text: Text, *, stale: bool = False) -> None:
        """Show `text`; in one colour where it is `stale`."""
        self.set_class(stale, "-stale")
        self.inner.styles.height = max(text.plain.rstrip("\n").count("\n") + 1, 1)
        self.inner.show(text, stale=stale)

    def caption(self, text: str) -> None:
        """Put plain `text` in the border."""
        if text != self._caption:
            self._caption = text
            self.border_subtitle = Content(text)


class StatusLine(CellText):
    """One line: the latest result or fault of this screen, and what to press next.

    It changes ten times a second while a training runs, so only the cells that changed are written.
    """

    DEFAULT_CSS = "StatusLine { height: 1; }"

    def __init__(self, *, id: str = "status") -> None:  # noqa: A002
        super().__init__(id=id)
