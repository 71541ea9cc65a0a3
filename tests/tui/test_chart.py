"""The chart draws what it is given, whatever that is, seldom, and sends only what changed."""

from __future__ import annotations

import math
from collections import Counter
from time import monotonic
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from workflow_tui.plots import told_apart
from workflow_tui.theme import ROLES, THEMES, Role, SpotKind, role_colour, role_marker, role_variables
from workflow_tui.widgets.chart import (
    INTERVAL,
    Chart,
    ChartSpec,
    Heat,
    Horizontal,
    Lines,
    Mark,
    Path,
    Scatter,
    Spot,
    changed,
)
from workflow_tui.widgets.chart_axes import Axis, clean
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_cursor import with_cursor
from workflow_tui.widgets.chart_paint import Painter
from workflow_tui.widgets.chart_points import decimate, dot, shared_cells
from workflow_tui.widgets.chart_strips import strip_of

anything = st.one_of(
    st.floats(),
    st.floats(-2, 2),
    st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.7e308, 0.0, -0.0, 1e16, 1e16 + 2]),
    st.integers(-(10**400), 10**400),
)
points = st.lists(st.tuples(anything, anything), max_size=30)
roles = st.sampled_from(ROLES)
label = st.text(max_size=12)
spans = st.tuples(anything, anything)
grids = st.lists(st.lists(st.floats(), max_size=6), max_size=6)
layer = st.one_of(
    st.builds(Lines, roles, label, points, label),
    st.builds(Scatter, roles, label, points),
    st.builds(Path, roles, label, points),
    st.builds(Spot, st.sampled_from(get_args(SpotKind)), roles, label, anything, anything),
    st.builds(Horizontal, roles, label, anything),
    st.builds(Mark, anything, roles, label),
    st.builds(Heat, grids, spans, spans, st.booleans(), label),
)
specs = st.builds(
    ChartSpec,
    st.lists(layer, max_size=4).map(tuple),
    st.one_of(st.just((0.0, 1.0)), spans),
    st.one_of(st.none(), spans),
    label,
    st.booleans(),
    st.booleans(),
    label,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(specs, min_size=1, max_size=3),
    st.integers(0, 70),
    st.integers(0, 25),
    st.booleans(),
    st.booleans(),
    label,
    anything,
)
def test_nothing_raises_or_leaves_the_box(
    many: list[ChartSpec], width: int, height: int, use_ascii: bool, colour: bool, hint: str, cursor: float
) -> None:
    painter = Painter()
    for spec in many:
        rows = painter.paint(spec, width, height, use_ascii=use_ascii, hint=hint, colour=colour)
        if painter.frame is not None:
            rows = with_cursor(rows, spec, painter.runs, painter.frame, cursor, use_ascii=use_ascii)
        assert len(rows) == (height if width else 0)
        for row in rows:
            assert len(row) == width
            assert all(cell_len(char) == 1 for char, _ in row)
            assert strip_of(row, width, Style(), THEMES[use_ascii].name, False).cell_length == width


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1e6, 1e6)), min_size=1, max_size=400), st.integers(1, 60))
def test_two_points_a_column_and_no_extreme_lost(series: list[tuple[float, float]], columns: int) -> None:
    axis = Axis(0.0, 1.0)
    kept = [point for run in decimate(series, axis, columns) for point in run]
    cleaned = [(clean(x), clean(y)) for x, y in series]
    assert set(kept) <= set(cleaned)
    assert min(y for _, y in kept) == min(y for _, y in cleaned)
    assert max(y for _, y in kept) == max(y for _, y in cleaned)
    for count in Counter(dot(axis.fraction(x), 2 * columns) // 2 for x, _ in kept).values():
        assert count <= 2


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.99)), min_size=2, max_size=400), st.booleans())
def test_the_drawn_least_and_greatest_value_are_those_of_the_data(
    series: list[tuple[float, float]], use_ascii: bool
) -> None:
    spec = ChartSpec((Lines("prediction", "", series),), (0, 1), (0, 1))
    painter = Painter()
    rows = painter.paint(spec, 60, 20, use_ascii=use_ascii, hint="")
    frame = painter.frame
    assert frame is not None
    drawn = [y - frame.top for y, row in enumerate(rows) if any(role == "prediction" for _, role in row)]
    values = [y for _, y in series]
    assert (drawn[-1], drawn[0]) == (frame.row(min(values)), frame.row(max(values)))


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    series = [(x / 100, math.nan if 40 <= x <= 60 else 1.0) for x in range(101)]
    assert len(decimate(series, Axis(0.0, 1.0), 50)) == 2
    rows = Painter().paint(ChartSpec((Lines("train", "", series),)), 60, 12, use_ascii=False, hint="")
    [drawn] = [row for row in rows if any(0x2800 < ord(char) < 0x2900 for char, _ in row)]
    line = "".join(char for char, _ in drawn)[6:]
    assert " " in line[:-1].strip()


def test_a_line_that_leaves_the_box_is_cut_there() -> None:
    spec = ChartSpec((Lines("prediction", "", [(-1, -1), (2, 2)]),), (0, 1), (0, 1))
    rows = Painter().paint(spec, 46, 22, use_ascii=True, hint="")
    drawn = [("".join(char for char, _ in row)[6:].rstrip()) for row in rows[:20]]
    assert drawn[0].endswith("=")
    assert drawn[-1].startswith("=")
    assert len(drawn[0]) == 40


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_points_lie_where_the_axes_say(role: Role) -> None:
    spec = ChartSpec((Scatter(role, "", [(0, 0), (0.5, 0.5), (1, 1)]),))
    rows = Painter().paint(spec, 47, 23, use_ascii=False, hint="")
    text = ["".join(char for char, _ in row) for row in rows]
    found = {(x, y) for y, line in enumerate(text) for x, char in enumerate(line) if char == role_marker(role)}
    assert found == {(6, 20), (26, 10), (46, 0)}
    assert text[0].startswith(" 1.00┤")
    assert text[20].startswith(" 0.00┤")


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30), max_size=4))
def test_each_cell_of_points_shows_one_layer_that_has_points_there(layers: list[list[tuple[int, int]]]) -> None:
    seen = shared_cells(layers)
    assert sorted(cell for cells in seen for cell in cells) == sorted({cell for cells in layers for cell in cells})
    assert all(set(drawn) <= set(cells) for drawn, cells in zip(seen, layers, strict=True))


def test_splits_that_share_every_cell_are_all_seen_in_proportion() -> None:
    cells = [(column, 0) for column in range(40)]
    train, validation, test = shared_cells([cells * 6, cells * 2, cells * 2])
    assert (len(train), len(validation), len(test)) == (24, 8, 8)
    assert [len(seen) for seen in shared_cells([cells * 50, cells[:1]])] == [39, 1], "one row among many is not seen"
    assert shared_cells([[(0, 0), (1, 0)], [(0, 0)]]) == [[(1, 0)], [(0, 0)]], "the rarer takes a tie"


def test_training_points_are_seen_among_those_of_other_splits() -> None:
    places = [(x / 9, x / 9) for x in range(10)]
    names: tuple[Role, ...] = ("train", "validation", "test")
    layers = tuple(Scatter(name, name, places * (3 if name == "train" else 1)) for name in names)
    rows = Painter().paint(ChartSpec(layers), 60, 20, use_ascii=False, hint="")
    seen = Counter(role for row in rows[1:] for _, role in row if role in names)
    assert seen == {"train": 6, "validation": 2, "test": 2}


def test_ascii_charts_are_ascii() -> None:
    spec = ChartSpec(
        (
            Lines("train", "train", [(i / 9, i * i) for i in range(10)]),
            Lines("target", "true", [(0, 1), (1, 3)]),
            Horizontal("target", "", 2.0),
            Mark(0.5, "bad", "here"),
        )
    )
    rows = Painter().paint(spec, 50, 12, use_ascii=True, hint="")
    assert "".join(char for row in rows for char, _ in row).isascii()


def test_plotext_is_asked_only_when_the_picture_changes() -> None:
    painter = Painter()
    series = [(i / 50, math.sin(i)) for i in range(50)]
    for shift in (0.0, 1e-9, 2e-9):
        spec = ChartSpec((Lines("train", "", [(x, y + shift) for x, y in series]),), y_range=(-2, 2))
        painter.paint(spec, 40, 12, use_ascii=False, hint="")
    assert painter.builds == 1


def test_a_legend_names_every_layer_above_the_data() -> None:
    spec = ChartSpec((Lines("train", "train", [(0, 0), (1, 1)]), Scatter("test", "wide 漢字", [(0.5, 0.5)])))
    rows = Painter().paint(spec, 60, 12, use_ascii=False, hint="")
    top = "".join(char for char, _ in rows[0])
    assert top.split() == ["●", "train", "◆", "wide", "??"]
    assert {role for _, role in rows[0]} == {None, "train", "test"}


def test_a_legend_moves_together_before_it_leaves_anything_out() -> None:
    layers = tuple(
        Scatter(role, label, [(0, 0)]) for role, label in zip(ROLES, ["model", "train", "test"], strict=False)
    )
    for width, text in (
        (60, "      ● model   ▲ train   ◆ test"),
        (24, "● model  ▲ train  ◆ test"),
        (22, "● model ▲ train ◆ test"),
    ):
        rows = Painter().paint(ChartSpec(layers), width, 12, use_ascii=False, hint="")
        assert "".join(char for char, _ in rows[0]).rstrip() == text


@pytest.mark.parametrize(("width", "count"), [(38, 3), (38, 2), (46, 4), (62, 5), (80, 6)])
def test_a_legend_names_every_series_that_a_chart_of_its_width_draws(width: int, count: int) -> None:
    names = [f"layers.{index // 2}.{('weight', 'bias')[index % 2]} norm" for index in range(count)]
    roles = told_apart([*names, "layers.9.bias mean"], width)
    assert len(roles) >= count
    spec = ChartSpec(tuple(Lines(role, name, [(0, 0), (1, 1)]) for name, role in roles.items()))
    for use_ascii in (False, True):
        top = Painter().paint(spec, width, 12, use_ascii=use_ascii, hint="")[0]
        text = "".join(char for char, _ in top)
        assert {role for _, role in top} == {None, *roles.values()}
        assert text.count("orm") + text.count("ean") == len(roles), text


def test_only_what_differs_is_a_region() -> None:
    before: list[Row] = [tuple((char, None) for char in line) for line in ("abcd", "efgh", "ijkl")]
    after: list[Row] = [tuple((char, None) for char in line) for line in ("abcd", "eXYh", "ijkZ")]
    assert changed(before, after) == [Region(1, 1, 2, 1), Region(3, 2, 1, 1)]
    assert changed(before, list(before)) == []
    # far apart, what lies between is left alone
    row: Row = tuple((char, None) for char in "." * 40)
    other: Row = ((("x", None)), *row[1:-1], ("x", None))
    assert changed([row], [other]) == [Region(0, 0, 1, 1), Region(39, 0, 1, 1)]


class Charts(App[None]):
    CSS = "Chart { border: round $border-blurred; height: 1fr; }"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return role_variables(dark=True)

    def compose(self) -> ComposeResult:
        yield Chart(title="Loss [/] · MSE", hint="Press space to train", use_ascii=False)

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name


async def settle(pilot: Pilot[None], draws: int) -> Chart:
    """Wait until the chart has been drawn that often."""
    chart = pilot.app.query_one(Chart)
    end = monotonic() + 5
    while chart.draws < draws:
        assert monotonic() < end, f"{chart.draws} of {draws} drawings"
        await pilot.pause(0.01)
    await pilot.pause()
    return chart


def grown(count: int) -> list[Lines]:
    return [Lines("train", "train", [(i, 1 / (1 + i)) for i in range(count)])]


async def test_the_hint_stands_until_there_is_data() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        assert any("Press space to train" in row for row in chart.rows())
        chart.show(grown(50), x_range=(0, 100))
        chart = await settle(pilot, 2)
        assert not any("Press" in row for row in chart.rows())
        chart.clear()
        chart = await settle(pilot, 3)
        assert any("Press space to train" in row for row in chart.rows())


async def test_a_hundred_updates_are_few_drawings() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        start, before = monotonic(), chart.draws
        for count in range(2, 102):
            chart.show(grown(count), x_range=(0, 100))
            await pilot.pause()
        assert chart.draws - before <= 2 + (monotonic() - start) / INTERVAL
        end = monotonic() + 5
        while chart._due is not None:
            assert monotonic() < end
            await pilot.pause(0.01)
        assert chart.rows() == _text(chart, 101)


def _text(chart: Chart, count: int) -> list[str]:
    size = chart.content_size
    spec = ChartSpec(tuple(grown(count)), (0, 100))
    painter = Painter()
    painter.axis, painter._axis_intervals = chart.painter.axis, chart.painter._axis_intervals
    rows = painter.paint(spec, size.width, size.height, use_ascii=False, hint="")
    return ["".join(char for char, _ in row) for row in rows]


async def test_the_same_picture_is_not_drawn_twice() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(50), x_range=(0, 100))
        await settle(pilot, 2)
        for _ in range(5):
            chart.show(grown(50), x_range=(0, 100))
        await pilot.pause(2 * INTERVAL)
        assert chart.draws == 2


async def test_growth_repaints_a_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Charts().run_test(size=(120, 40)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(40), x_range=(0, 100), y_range=(0, 1))
        await settle(pilot, 2)
        repainted: list[Region] = []
        refresh = Chart.refresh

        def watch(self: Chart, *regions: Region, **kwargs: Any) -> Chart:
            assert regions, "the whole chart was repainted"
            repainted.extend(regions)
            return refresh(self, *regions, **kwargs)

        monkeypatch.setattr(Chart, "refresh", watch)
        chart.show(grown(43), x_range=(0, 100), y_range=(0, 1))
        await settle(pilot, 3)
        assert 0 < sum(region.area for region in repainted) < 20
        repainted.clear()
        chart.border_subtitle = "train 0.0011"
        assert [region.height for region in repainted] == [1]
        repainted.clear()
        chart.border_subtitle = "train 0.0011"
        assert repainted == []


async def test_titles_are_plain_text() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        chart.border_subtitle = "[@click=app.quit]no link[/]\x1b[31m"
        await pilot.pause()
        screen = pilot.app.export_screenshot().replace("&#160;", " ")
        assert "Loss [/] · MSE" in screen
        assert "[@click=app.quit]no link[/][31m" in screen


def colours(chart: Chart, role: Role) -> set[tuple[int, int, int]]:
    """The colours in which the marker of a role stands on the chart."""
    found = set()
    for y in range(chart.content_size.height):
        for segment in chart.render_line(y):
            if role_marker(role) in segment.text and segment.style and segment.style.color:
                triplet = segment.style.color.triplet
                assert triplet
                found.add((triplet.red, triplet.green, triplet.blue))
    return found


async def test_themes_and_staleness_change_colours_without_a_new_drawing() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        chart.show([Scatter("train", "", [(0.5, 0.5)])], x_range=(0, 1))
        await settle(pilot, 2)
        for theme in THEMES:
            pilot.app.theme = theme.name
            await pilot.pause()
            assert colours(chart, "train") == {role_colour(theme.name, "train")}
        chart.stale = True
        await pilot.pause()
        assert chart.has_class("-stale")
        assert colours(chart, "train") == {role_colour(THEMES[-1].name, "stale")}
        assert chart.painter.builds == 1


async def test_a_resize_is_followed_down_to_nothing() -> None:
    async with Charts().run_test(size=(60, 16)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(grown(50), x_range=(0, 100))
        await settle(pilot, 2)
        for width, height in ((100, 30), (30, 9), (12, 5), (3, 3), (2, 2), (1, 1), (80, 24)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert [len(row) for row in chart.rows()] in (
                [chart.content_size.width] * chart.content_size.height,
                [1],
            ) or not chart.content_size.area
        assert chart.content_size.width == 78
        assert len(chart.rows()) == chart.content_size.height == 22
