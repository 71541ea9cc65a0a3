"""Titles in a chart's border, which change ten times a second: Textual repaints the whole widget for each."""

from __future__ import annotations

from typing import Any, Protocol

from rich.cells import cell_len
from textual.content import Content


class Captioned(Protocol):
    """What can repaint a part of its border."""

    def refresh_border(self, row: str, width: int) -> None:
        """Repaint the `width` cells of the border's `top` or `bottom` row that its title may take."""


class Caption:
    """A border title that takes plain text only, and repaints its border row instead of the whole chart."""

    def __init__(self, row: str) -> None:
        self.row = row

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, chart: Captioned, owner: type | None = None) -> Any:
        return getattr(chart, f"_caption_{self.name}", None)

    def __set__(self, chart: Captioned, text: str | None) -> None:
        text = "".join(char for char in text if char.isprintable()) if text else None
        before = self.__get__(chart)
        if text == before:
            return
        setattr(chart, f"_caption_{self.name}", text)
        setattr(chart, f"_{self.name}", None if text is None else Content(text))
        chart.refresh_border(self.row, max(cell_len(text or ""), cell_len(before or "")))
