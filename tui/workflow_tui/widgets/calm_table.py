"""Textual's table, made to follow data that change: the cursor stays on its row, only changed cells are repainted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Self

from rich.text import Text
from textual.geometry import Region
from textual.widgets import DataTable

from workflow_tui.runs_table import Cell, Head


class CalmTable(DataTable[Text]):
    """Rows under keys, cells that are plain texts with a style; `show` brings it up to what they are now."""

    _quiet = False

    def __init__(self, *, id: str, fixed: int) -> None:  # noqa: A002
        """The first `fixed` columns stay in sight."""
        super().__init__(id=id, cursor_type="row", cell_padding=0, header_height=2)
        self._fixed = fixed
        self._heads: tuple[Head, ...] = ()
        self._shown: dict[str, Sequence[Cell]] = {}
        self._styles: Mapping[str, str] = {}

    def refresh(self, *regions: Region, **options: Any) -> Self:
        """Repaint; not all of the table where a single cell was put."""
        if not self._quiet:
            super().refresh(*regions, **options)
        return self

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        keys = list(self._shown)
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def show(self, heads: tuple[Head, ...], rows: Mapping[str, Sequence[Cell]], styles: Mapping[str, str]) -> None:
        """Show these rows in this order; `styles` are those of the cells' roles."""
        chosen, at = self.chosen, self.cursor_row
        before, self._shown = self._shown, dict(rows)
        old, self._heads = self._heads, heads
        keys = list(rows)
        if _widths(heads) != _widths(old) or styles != self._styles or set(rows) != set(before):
            self._styles = styles
            self._build()
        else:
            self._put_changed(before)
            if heads != old or keys != list(before):
                self._put_in_order(keys)
        row = keys.index(chosen) if chosen is not None and chosen in rows else min(at, len(keys) - 1)
        if keys and row != self.cursor_row:
            self.move_cursor(row=row)

    def _edges(self) -> list[int]:
        """How far to scroll for each column to stand right beside those that stay."""
        return list(accumulate((head.width for head in self._heads[self._fixed : -1]), initial=0))

    def reveal(self, column: str) -> None:
        """Scroll so far to the side that a column is in sight, and no column is cut on the left."""
        keys = [head.key for head in self._heads[self._fixed :]]
        if column not in keys:
            return
        edges, at = self._edges(), keys.index(column)
        still = sum(head.width for head in self._heads[: self._fixed])
        least = edges[at] + self._heads[self._fixed + at].width + still - self.scrollable_content_region.width
        fitting = [edge for edge in edges[: at + 1] if edge >= least]
        now = min(self.scroll_x, edges[at])
        self.scroll_to(x=now if now >= least else min(fitting, default=edges[at]), animate=False)

    def action_cursor_right(self) -> None:
        """A column further to the right."""
        self.scroll_to(x=min((edge for edge in self._edges() if edge > self.scroll_x), default=None), animate=False)

    def action_cursor_left(self) -> None:
        """A column further to the left."""
        self.scroll_to(x=max((edge for edge in self._edges() if edge < self.scroll_x), default=0), animate=False)

    def action_scroll_home(self) -> None:
        """The first row: there is no first cell to go to."""
        self.move_cursor(row=0)

    def action_scroll_end(self) -> None:
        """The last row."""
        self.move_cursor(row=self.row_count - 1)

    def _build(self) -> None:
        x, y = self.scroll_offset
        self.clear(columns=True)
        for head in self._heads:
            self.add_column(self._label(head), key=head.key, width=head.width)
        for key, cells in self._shown.items():
            self.add_row(*(_text(cell, self._styles) for cell in cells), key=key)
        self.fixed_columns = min(self._fixed, len(self._heads))
        self.call_after_refresh(self.scroll_to, x, y, animate=False)

    def _label(self, head: Head) -> Text:
        ink = f"bold {self._styles.get('accent', '')}" if head.sorted_by else "bold"
        label = Text(no_wrap=True).append(head.lines[0], ink)
        return label.append(f"\n{head.lines[1]}", self._styles.get("muted", ""))

    def _put_changed(self, before: Mapping[str, Sequence[Cell]]) -> None:
        for key, cells in self._shown.items():
            old = before[key]
            if old == cells:
                continue
            for head, was, cell in zip(self._heads, old, cells, strict=True):
                if was != cell:
                    self._put(key, head.key, _text(cell, self._styles))

    def _put(self, row: str, column: str, text: Text) -> None:
        self._quiet = True
        try:
            self.update_cell(row, column, text)
        finally:
            self._quiet = False
        self.refresh_coordinate(self.get_cell_coordinate(row, column))

    def _put_in_order(self, keys: Sequence[str]) -> None:
        for head, column in zip(self._heads, self.ordered_columns, strict=True):
            column.label = self._label(head)
        # the first cell of a row finds its place: Textual sorts by what the cells hold, not by the keys
        at = {id(self.get_cell(key, self._heads[0].key)): index for index, key in enumerate(keys)}
        self.sort(self._heads[0].key, key=lambda cell: at[id(cell)])


def _widths(heads: Sequence[Head]) -> list[tuple[str, int]]:
    return [(head.key, head.width) for head in heads]


def _text(cell: Cell, styles: Mapping[str, str]) -> Text:
    text, role = cell
    return Text(text, styles.get(role, role), no_wrap=True, end="")
