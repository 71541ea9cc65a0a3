"""Text from outside on its way to a widget: sanitized, and never read as markup."""

from __future__ import annotations

from rich.text import Text
from textual.visual import VisualType
from textual.widgets import Static

from workflow_core.sanitize import sanitize


def text(value: object, style: str = "", *, limit: int = 200) -> Text:
    """Any value as one harmless line that a table cell, a label or a list takes as it is."""
    return Text(sanitize(str(value), limit), style=style, end="")


def lines(value: str, *, limit: int = 400) -> str:
    """A text of several lines, each made harmless and at most `limit` characters long."""
    return "\n".join(sanitize(line, limit) for line in value.split("\n"))


class Plain(Static):
    """A Static that shows strings as they are: `[/]` is four characters, `[@click=...]` no link, ESC no escape."""

    def __init__(
        self,
        content: VisualType = "",
        *,
        name: str | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(_harmless(content), markup=False, name=name, id=id, classes=classes)

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        """Show another text; `layout` False where its size is sure to be the same."""
        super().update(_harmless(content), layout=layout)


def _harmless(content: VisualType) -> VisualType:
    return lines(content) if isinstance(content, str) else content
