"""The cursor of a chart: a line that moves without a new drawing, says where it is, and finds its column back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tui.test_chart import Charts, grown, settle
from textual import on
from textual.events import MouseScrollUp
from textual.geometry import Region

from workflow_tui.theme import role_marker
from workflow_tui.widgets.chart import Chart, ChartSpec, Lines, Mark
from workflow_tui.widgets.chart_axes import Axis
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_cursor import with_cursor
from workflow_tui.widgets.chart_frame import Frame, x_axis_of
from workflow_tui.widgets.chart_paint import Painter

windows = st.tuples(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(windows, st.integers(1, 300))
def test_the_x_of_a_column_lies_in_that_column_and_columns_go_up(window: tuple[float, float], columns: int) -> None:
    frame = Frame(x_axis_of(window), Axis(0, 1), columns, 10, 6, 1)
    xs = [frame.x_at(column) for column in range(columns)]
    if window[1] - window[0] < 1e-9 * columns * max(map(abs, window)):
        return  # a column is narrower than what floats can tell apart
    assert [frame.column(x) for x in xs] == list(range(columns))
    assert xs == sorted(xs)
    assert window[0] <= xs[0]
    assert xs[-1] <= window[1] * (1 + 1e-12) or xs[-1] <= window[1] + 1e-9
    assert frame.x_at(-5) == xs[0]
    assert frame.x_at(columns + 5) == xs[-1]


@given(windows, st.floats(allow_nan=True, allow_infinity=True), st.integers(1, 300))
def test_only_what_is_within_the_axis_has_a_column(window: tuple[float, float], x: float, columns: int) -> None:
    frame = Frame(x_axis_of(window), Axis(0, 1), columns, 10, 6, 1)
    column = frame.column(x)
    if column is None:
        assert not window[0] < x < window[1]
    else:
        assert 0 <= column < columns
        within = 1e-12 * (window[1] - window[0])  # what floats cannot tell apart at this scale
        assert window[0] - within <= x <= window[1] + within


def painted(spec: ChartSpec, x: float, *, use_ascii: bool = False, size: tuple[int, int] = (60, 16)) -> list[str]:
    painter = Painter()
    rows = painter.paint(spec, *size, use_ascii=use_ascii, hint="")
    assert painter.frame is not None
    rows = with_cursor(rows, spec, painter.runs, painter.frame, x, use_ascii=use_ascii)
    return ["".join(char for char, _ in row) for row in rows]


def test_it_marks_where_each_series_crosses_it_and_says_where_it_is() -> None:
    layers = (Lines("train", "train", [(0, 0), (100, 1)]), Lines("weight", "weight", [(0, 1), (100, 0)]))
    spec = ChartSpec(layers, (0, 100), (0, 1), whole_x=True)
    text = painted(spec, 25)
    column = text[-1].index("25")
    plot = text[1:-2]
    assert {line[column] for line in plot} == {"│", role_marker("train"), role_marker("weight")}
    # a quarter of the way up, and a quarter of the way down
    assert plot[9][column] == role_marker("train")
    assert plot[3][column] == role_marker("weight")


def test_it_has_no_crossing_in_a_gap_and_none_beyond_the_ends() -> None:
    points = [(0.0, 0.5), (20.0, 0.5), (21.0, math.nan), (79.0, math.nan), (80.0, 0.5), (90.0, 0.5)]
    spec = ChartSpec((Lines("train", "train", points),), (0, 100), (0, 1))
    for x, crosses in ((10.0, True), (50.0, False), (85.0, True), (95.0, False)):
        text = painted(spec, x)
        frame = Frame(x_axis_of((0, 100)), Axis(0, 1), 54, 13, 6, 1)
        column = 6 + (frame.column(x) or 0)
        assert (role_marker("train") in [line[column] for line in text[1:-2]]) is crosses, x


def test_out_of_sight_it_is_not_drawn() -> None:
    spec = ChartSpec((Lines("train", "train", [(0, 0), (100, 1)]),), (0, 100), (0, 1))
    without = ["".join(char for char, _ in row) for row in Painter().paint(spec, 60, 16, use_ascii=False, hint="")]
    for x in (-1.0, 101.0, math.nan, math.inf):
        assert painted(spec, x) == without


def test_labels_it_would_touch_are_left_out_whole() -> None:
    spec = ChartSpec((Lines("train", "train", [(0, 0), (1000, 1)]),), (0, 1000), (0, 1), "epoch", whole_x=True)
    for x in range(0, 1001, 7):
        labels = painted(spec, x)[-1].split()
        assert str(x) in labels
        assert set(labels) <= {"epoch", "0", "200", "400", "600", "800", "1000", str(x)}, labels


def test_in_ascii_it_is_ascii_and_leaves_the_text_of_a_mark_alone() -> None:
    spec = ChartSpec((Lines("train", "train", [(0, 0), (100, 1)]), Mark(30, "bad", "NaN or infinite")), (0, 100))
    text = painted(spec, 45, use_ascii=True)
    assert "".join(text).isascii()
    assert any("NaN or infinite" in line for line in text)


class Pointed(Charts):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Chart.Picked | Chart.Zoomed] = []

    @on(Chart.Picked)
    def picked(self, event: Chart.Picked) -> None:
        self.heard.append(event)
        event.chart.cursor = event.x

    @on(Chart.Zoomed)
    def zoomed(self, event: Chart.Zoomed) -> None:
        self.heard.append(event)


async def test_moving_it_draws_nothing_anew_and_repaints_a_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Charts().run_test(size=(120, 40)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(80), x_range=(0, 100), whole_x=True)
        await settle(pilot, 2)
        without = chart.rows()
        chart.cursor = 40.0
        await pilot.pause()
        assert any("40" in row for row in chart.rows()[-1:])
        repainted: list[Region] = []
        refresh = Chart.refresh

        def watch(self: Chart, *regions: Region, **kwargs: object) -> Chart:
            assert regions, "the whole chart was repainted"
            repainted.extend(regions)
            return refresh(self, *regions)

        monkeypatch.setattr(Chart, "refresh", watch)
        chart.cursor = 41.0
        await pilot.pause()
        assert {region.height for region in repainted} == {1}
        assert 0 < sum(region.area for region in repainted) < 4 * len(chart.rows())
        chart.cursor = None
        await pilot.pause()
        assert chart.rows() == without
        assert (chart.draws, chart.painter.builds) == (2, 1)


async def test_it_stays_while_the_data_grows() -> None:
    async with Charts().run_test(size=(80, 24)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(50), x_range=(0, 100), whole_x=True)
        await settle(pilot, 2)
        chart.cursor = 20.0
        chart.show(grown(60), x_range=(0, 100), whole_x=True)
        await settle(pilot, 3)
        assert "20" in chart.rows()[-1].split()


async def test_it_moves_over_what_is_drawn_while_something_else_is_about_to_be() -> None:
    async with Charts().run_test(size=(80, 24)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(50), x_range=(0, 100), whole_x=True)
        await settle(pilot, 2)
        chart.show([*grown(50), Mark(10, "bad", "here"), *grown(30)], x_range=(0, 50), whole_x=True)
        chart.cursor = 70.0
        assert chart.draws == 2
        assert "70" in chart.rows()[-1].split()
        await settle(pilot, 3)
        assert "70" not in chart.rows()[-1].split()


async def test_columns_tell_a_screen_where_to_move() -> None:
    async with Charts().run_test(size=(80, 24)) as pilot:
        chart = await settle(pilot, 1)
        assert chart.plot_columns == 0
        assert chart.x_at(0) is None
        chart.show(grown(9), x_range=(2, 8), whole_x=True)
        await settle(pilot, 2)
        assert chart.window == (2, 8)
        assert chart.plot_columns == 72
        assert chart.x_at(0) == 2.0
        assert chart.x_at(71) == 8.0


async def test_the_mouse_picks_drags_and_zooms_within_the_plot() -> None:
    app = Pointed()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(50), x_range=(0, 72), whole_x=True)
        await settle(pilot, 2)
        assert chart.frame is not None
        left = 1 + chart.frame.left
        await pilot.click(Chart, offset=(left, 8))
        assert [event.x for event in app.heard] == [0.0]
        assert chart.cursor == 0.0
        await pilot.mouse_down(Chart, offset=(left + 10, 8))
        await pilot.hover(Chart, offset=(left + 30, 8))
        await pilot.mouse_up(Chart, offset=(left + 30, 8))
        assert [event.x for event in app.heard[1:]] == [chart.x_at(10), chart.x_at(30)]
        await pilot.hover(Chart, offset=(left + 40, 8))
        await pilot.click(Chart, offset=(2, 8))
        assert len(app.heard) == 3, "neither a mere movement nor a click beside the plot picks anything"
        await pilot._post_mouse_events([MouseScrollUp], Chart, offset=(left + 20, 8), button=0)
        event = app.heard[-1]
        assert isinstance(event, Chart.Zoomed)
        assert event.x == chart.x_at(20)
        assert event.factor < 1


def test_rows_that_are_not_touched_stay_the_same_objects() -> None:
    spec = ChartSpec((Lines("train", "train", [(0, 0), (100, 1)]),), (0, 100), (0, 1))
    painter = Painter()
    rows: list[Row] = painter.paint(spec, 60, 16, use_ascii=False, hint="")
    assert painter.frame is not None
    moved = with_cursor(rows, spec, painter.runs, painter.frame, 50, use_ascii=False)
    assert moved[0] is rows[0]
    for old, new in zip(rows[1:-1], moved[1:-1], strict=True):
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
