"""The keys of a dialog in as many lines as they take, made from the same commands as the keys themselves."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from workflow_tui.commands import Command

GAP = 2


class KeyLines(Widget):
    """Every key with its word or two; none is left out, and none is broken between two lines."""

    DEFAULT_CSS = "KeyLines { width: 100%; height: auto; }"

    def __init__(self, commands: Sequence[Command], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self.commands = commands

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines that the keys take in `width` columns."""
        return len(self._lines(width))

    def render(self) -> Text:
        """The keys and what they do."""
        accent = self.app.theme_variables.get("accent", "default")
        muted = self.app.theme_variables.get("role-muted", "default")
        text = Text(no_wrap=True)
        for number, line in enumerate(self._lines(self.size.width)):
            text.append("\n" * bool(number))
            for at, command in enumerate(line):
                text.append(" " * (GAP * bool(at))).append(command.shown, f"bold {accent}")
                text.append(f" {command.label}", muted)
        return text

    def _lines(self, width: int) -> list[list[Command]]:
        lines: list[list[Command]] = []
        left = 0
        for command in self.commands:
            size = len(command.shown) + 1 + len(command.label)
            if not lines or left < GAP + size:
                lines.append([])
                left = width + GAP
            lines[-1].append(command)
            left -= GAP + size
        return lines
