"""Lines of text that change often: only the cells that changed are written to the terminal."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.message import Message
from textual.strip import Strip

from workflow_tui.widgets.chart_caption import Caption, Captioned
from workflow_tui.widgets.chart_strips import changed

Cells = list[tuple[str, Style]]


class CellText(Captioned):
    """Styled lines, each cut at the width; what does not change is not written again."""

    DEFAULT_CSS = "CellText { height: 1fr; }"

    border_title = Caption("top")
    border_subtitle = Caption("bottom")

    class Resized(Message):
        """It has another width or height: what was aligned for the last one is to be shown anew."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes, markup=False)
        self.text = Text()
        self._rows: list[Cells] = []

    def show(self, text: Text, *, stale: bool = False) -> None:
        """Show `text`; in one colour where it is `stale`, as a chart is then."""
        self.set_class(stale, "-stale")
        self.text = Text(text.plain) if stale else text
        before, self._rows = self._rows, self._laid_out()
        if [len(row) for row in before] != [len(row) for row in self._rows]:
            self.refresh()
        elif regions := changed(before, self._rows):
            self.refresh(*regions)

    def on_resize(self) -> None:
        """Cut at the new width."""
        self._rows = self._laid_out()
        self.refresh()
        self.post_message(self.Resized())

    def _laid_out(self) -> list[Cells]:
        width, height = self.size
        lines = self.text.split("\n", allow_blank=True)
        return [self._cells(lines[row] if row < len(lines) else Text(), width) for row in range(height)]

    def _cells(self, text: Text, width: int) -> Cells:
        text = text.copy()
        text.truncate(width, overflow="ellipsis", pad=True)
        cells: Cells = []
        for segment in text.render(self.app.console):
            for char in segment.text:
                size = cell_len(char)
                if size:  # an entry a cell: a wide character is followed by an empty one
                    cells += [(char, segment.style or Style.null()), *[("", Style.null())] * (size - 1)]
                elif cells:
                    cells[-1] = (cells[-1][0] + char, cells[-1][1])
        return cells[:width]

    def render_line(self, y: int) -> Strip:
        """The cells as they stand."""
        base, width = self.rich_style, self.size.width
        if not 0 <= y < len(self._rows):
            return Strip.blank(width, base)
        segments = [Segment(char, base + style) for char, style in self._rows[y]]
        return Strip(Segment.simplify(segments), len(self._rows[y])).adjust_cell_length(width, base)
