"""The one chart of the program: plain values in, at most ten drawings a second, only changed cells repainted."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from workflow_tui.theme import Role, ascii_only, role_colour
from workflow_tui.widgets.chart_layers import ChartSpec, Horizontal, Layer, Lines, Mark, Range, Scatter
from workflow_tui.widgets.chart_paint import Painter, Row

__all__ = ["Chart", "ChartSpec", "Horizontal", "Lines", "Mark", "Scatter"]

INTERVAL = 0.1


class _Caption:
    """A border title that takes plain text only, and repaints its border row instead of the whole chart."""

    def __init__(self, row: str) -> None:
        self.row = row

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, chart: Chart, owner: type | None = None) -> Any:
        return getattr(chart, f"_caption_{self.name}", None)

    def __set__(self, chart: Chart, text: str | None) -> None:
        text = "".join(char for char in text if char.isprintable()) if text else None
        before = self.__get__(chart)
        if text == before:
            return
        setattr(chart, f"_caption_{self.name}", text)
        setattr(chart, f"_{self.name}", None if text is None else Content(text))
        chart.refresh_border(self.row, max(cell_len(text or ""), cell_len(before or "")))


class Chart(Widget):
    """A chart of layers in data coordinates.

    `show` may be called as often as data comes; the chart draws at once when it has rested for a tenth of a second,
    else when that time is over. `stale` dims it, `hint` is written into it while there is nothing to draw.
    """

    DEFAULT_CSS = """
    Chart { height: 1fr; min-height: 1; }
    Chart.-stale { color: $role-stale; }
    """

    border_title = _Caption("top")
    border_subtitle = _Caption("bottom")

    stale: reactive[bool] = reactive(False)
    hint: reactive[str] = reactive("")

    def __init__(
        self,
        *,
        title: str = "",
        hint: str = "",
        use_ascii: bool | None = None,
        name: str | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        """`use_ascii` None draws in ASCII where the terminal's stream carries nothing else."""
        self.spec = ChartSpec()
        self.draws = 0
        self.painter = Painter()
        self._rows: list[Row] = []
        self._due: Timer | None = None
        self._drawn_at = -INTERVAL
        self._drawn: tuple[object, ...] = ()
        self.use_ascii = ascii_only() if use_ascii is None else use_ascii
        super().__init__(name=name, id=id, classes=classes, markup=False)
        self.border_title = title
        self.set_reactive(Chart.hint, hint)

    def show(
        self,
        layers: Sequence[Layer],
        *,
        x_range: Range,
        y_range: Range | None = None,
        x_label: str = "",
        log_y: bool = False,
    ) -> None:
        """Show these layers, later ones above earlier ones.

        `x_range` pins the x axis in data units; without `y_range` the chart chooses round limits for what is visible.
        """
        spec = ChartSpec(tuple(layers), x_range, y_range, x_label, log_y)
        if spec != self.spec:
            self.spec = spec
            self._request()

    def clear(self) -> None:
        """Show nothing but the hint, and choose the y axis anew for what comes next."""
        self.painter.forget_axis()
        self.spec = ChartSpec()
        self._request()

    def rows(self) -> list[str]:
        """The text of every row as last drawn, for tests and for the clipboard."""
        return ["".join(char for char, _ in row) for row in self._rows]

    def watch_stale(self, stale: bool) -> None:
        self.set_class(stale, "-stale")
        self.refresh()

    def watch_hint(self) -> None:
        self._request()

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _request(self) -> None:
        if not self.is_mounted or self._due is not None:
            return
        wait = self._drawn_at + INTERVAL - monotonic()
        if wait <= 0:
            self._draw()
        else:
            self._due = self.set_timer(wait, self._draw)

    def _draw(self) -> None:
        if self._due is not None:
            self._due.stop()
            self._due = None
        width, height = self.content_size
        wanted = (self.spec, width, height, self.hint, self.use_ascii)
        if wanted == self._drawn or not width or not height:
            return
        self._drawn = wanted
        self._drawn_at = monotonic()
        self.draws += 1
        rows = self.painter.paint(self.spec, width, height, use_ascii=self.use_ascii, hint=self.hint)
        before, self._rows = self._rows, rows
        if len(before) != len(rows) or len(before[0]) != width:
            self.refresh()
        elif regions := changed(before, rows):
            self.refresh(*regions)

    def refresh_border(self, row: str, width: int) -> None:
        """Repaint the `width` cells of the border's top or bottom row that its title may take."""
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

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        base = self.rich_style
        if not 0 <= y < len(self._rows):
            return Strip.blank(width, base)
        segments: list[Segment] = []
        text, current = "", None
        for char, role in self._rows[y]:
            # a blank looks the same in any colour: it joins its neighbour, which saves two escape sequences
            if role is not None and role != current:
                if current is not None:
                    segments.append(Segment(text, self._style(base, current)))
                    text = ""
                current = role
            text += char
        segments.append(Segment(text, self._style(base, current)))
        return Strip(segments, len(self._rows[y])).adjust_cell_length(width, base)

    def _style(self, base: Style, role: Role | None) -> Style:
        if role is None:
            return base
        red, green, blue = role_colour(self.app.theme, "stale" if self.stale and role != "muted" else role)
        return base + Style(color=f"#{red:02x}{green:02x}{blue:02x}")


def changed(before: Sequence[Sequence[object]], after: Sequence[Sequence[object]]) -> list[Region]:
    """What differs between two drawings of the same size, one span for each row that differs.

    Not several: Textual writes each span from the left edge of the widget.
    """
    regions = []
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old is new or old == new:
            continue
        columns = [x for x, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        regions.append(Region(columns[0], y, columns[-1] + 1 - columns[0], 1))
    return regions
