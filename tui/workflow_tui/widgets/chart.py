"""The one chart of the program: plain values in, at most ten drawings a second, only changed cells repainted."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.timer import Timer

from workflow_tui.theme import ascii_only
from workflow_tui.widgets.chart_caption import Caption, Captioned
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_cursor import with_cursor
from workflow_tui.widgets.chart_frame import Frame, x_axis_of
from workflow_tui.widgets.chart_layers import (
    ChartSpec,
    Heat,
    Horizontal,
    Layer,
    Lines,
    Mark,
    Path,
    Range,
    Scatter,
    Spot,
)
from workflow_tui.widgets.chart_paint import Painter
from workflow_tui.widgets.chart_strips import changed, strip_of

__all__ = ["Chart", "ChartSpec", "Heat", "Horizontal", "Lines", "Mark", "Path", "Scatter", "Spot", "changed"]

INTERVAL = 0.1
ZOOM = 1.25
"""How much more a step of the mouse wheel shows, or less."""


class Chart(Captioned):
    """A chart of layers in data coordinates.

    `show` may be called as often as data comes; the chart draws at once when it has rested for a tenth of a second,
    else when that time is over. `stale` dims it, `hint` is written into it while there is nothing to draw. `cursor`
    (an x in data units) draws a line through it, at once and without drawing anything else anew.
    """

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    Chart { height: 1fr; min-height: 1; }
    Chart.-stale { color: $role-stale; }
    """

    border_title = Caption("top")
    border_subtitle = Caption("bottom")

    stale: reactive[bool] = reactive(False, repaint=False)
    hint: reactive[str] = reactive("", repaint=False)
    cursor: reactive[float | None] = reactive(None, repaint=False)

    class Picked(Message):
        """An x (data units, a whole number with `whole_x`) was clicked, or dragged to."""

        def __init__(self, chart: Chart, x: float) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

        @property
        def control(self) -> Chart:
            """The chart, for `on` with a selector."""
            return self.chart

    class Zoomed(Message):
        """The wheel asks to show `factor` times as much of the x axis, with `x` staying where it is."""

        def __init__(self, chart: Chart, x: float, factor: float) -> None:
            super().__init__()
            self.chart = chart
            self.x = x
            self.factor = factor

        @property
        def control(self) -> Chart:
            """The chart, for `on` with a selector."""
            return self.chart

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
        self._without_cursor: list[Row] = []
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
        whole_x: bool = False,
        plain_axis: str = "",
    ) -> None:
        """Show these layers, later ones above earlier ones.

        `x_range` pins the x axis in data units; without `y_range` the chart chooses round limits for what is visible.
        With `whole_x` the x axis counts. `plain_axis` says what to do where a logarithmic axis cannot show anything.
        """
        spec = ChartSpec(tuple(layers), x_range, y_range, x_label, log_y, whole_x, plain_axis)
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

    # --- where things are --------------------------------------------------------------------------

    @property
    def frame(self) -> Frame | None:
        """Where the plot lies and between which axes, as last drawn; None while there is nothing to see."""
        return self.painter.frame

    @property
    def window(self) -> Range:
        """The x axis from end to end, in data units."""
        axis = x_axis_of(self.spec.x_range)
        return axis.low, axis.high

    @property
    def plot_columns(self) -> int:
        """How many columns the plot has; 0 while there is none."""
        return self.frame.columns if self.frame else 0

    def x_at(self, column: int) -> float | None:
        """The x in the middle of a column of the plot, counted from 0, a whole number with `whole_x`."""
        return None if self.frame is None else self._rounded(self.frame.x_at(column))

    def _rounded(self, x: float) -> float:
        return float(round(x)) if self.spec.whole_x else x

    # --- the mouse, for those who have one ---------------------------------------------------------

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1 and (x := self._under(event)) is not None:
            self.capture_mouse()
            self.post_message(self.Picked(self, x))
            event.stop()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self and (x := self._under(event)) not in (None, self.cursor):
            self.post_message(self.Picked(self, x))

    def on_mouse_up(self) -> None:
        if self.app.mouse_captured is self:
            self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._zoom(event, 1 / ZOOM)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._zoom(event, ZOOM)

    def _zoom(self, event: events.MouseEvent, factor: float) -> None:
        if (x := self._under(event)) is not None:
            self.post_message(self.Zoomed(self, x, factor))
            event.stop()

    def _under(self, event: events.MouseEvent) -> float | None:
        """The x under the mouse; None beside the plot, but for what is dragged beyond its ends."""
        place, frame = event.get_content_offset_capture(self), self.frame
        if frame is None:
            return None
        column, row = place.x - frame.left, place.y - frame.top
        inside = 0 <= column < frame.columns and 0 <= row < frame.rows
        return self.x_at(column) if inside or self.app.mouse_captured is self else None

    # --- drawing -----------------------------------------------------------------------------------

    def watch_cursor(self) -> None:
        if self._without_cursor:
            self._paint(self._without_cursor)

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
        colour = not self.app.no_color
        self._paint(
            self.painter.paint(self.spec, width, height, use_ascii=self.use_ascii, hint=self.hint, colour=colour)
        )

    def _paint(self, rows: list[Row]) -> None:
        """Put these rows on the screen, with the cursor over them, as far as they differ from what stands there."""
        self._without_cursor = rows
        if self.cursor is not None and self.frame is not None:
            rows = with_cursor(
                rows, self.painter.spec, self.painter.runs, self.frame, self.cursor, use_ascii=self.use_ascii
            )
        before, self._rows = self._rows, rows
        if len(before) != len(rows) or len(before[0]) != len(rows[0]):
            self.refresh()
        elif regions := changed(before, rows):
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        base = self.rich_style
        if not 0 <= y < len(self._rows):
            return Strip.blank(width, base)
        return strip_of(self._rows[y], width, base, self.app.theme, self.stale)
