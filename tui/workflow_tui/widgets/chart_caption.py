"""Titles in a border, which change ten times a second: Textual repaints the whole widget for each."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget


class Captioned(Widget):
    """A widget that can repaint a part of its border."""

    def refresh_border(self, row: str, width: int) -> None:
        """Repaint the `width` cells of the border's `top` or `bottom` row that its title may take."""
        if not self.is_mounted:
            self.refresh()
            return
        outer, styles = self.outer_size, self.styles
        width = min(width + 4, outer.width)  # a corner, a dash and a blank; the blank at the other end
        y, align = (0, styles.border_title_align) if row == "top" else (outer.height - 1, styles.border_subtitle_align)
        if align == "center":
            width = outer.width
        x = outer.width - width if align == "right" else 0
        self.refresh(Region(x, y, width, 1).translate(-self.content_offset))


class Caption:
    """A border title that takes plain text only, and repaints its border row instead of all of the widget."""

    def __init__(self, row: str) -> None:
        self.row = row

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, widget: Captioned, owner: type | None = None) -> Any:
        return getattr(widget, f"_caption_{self.name}", None)

    def __set__(self, widget: Captioned, text: str | None) -> None:
        text = "".join(char for char in text if char.isprintable()) if text else None
        before = self.__get__(widget)
        if text == before:
            return
        setattr(widget, f"_caption_{self.name}", text)
        setattr(widget, f"_{self.name}", None if text is None else Content(text))
        widget.refresh_border(self.row, max(cell_len(text or ""), cell_len(before or "")))
