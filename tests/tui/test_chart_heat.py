"""A map behind a chart: contour bands in order, with and without colours, and what lies on it stays legible."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tui.test_chart import Charts, settle
from textual.geometry import Region

from workflow_tui.theme import HEAT_LEVELS, role_marker, spot_marker
from workflow_tui.widgets.chart import Chart, ChartSpec, Heat, Path, Spot
from workflow_tui.widgets.chart_cells import ASCII, UNICODE, Row, Tone
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_heat import positions
from workflow_tui.widgets.chart_paint import Painter

SIZE = 31


def bowl(minimum: tuple[float, float] = (0.7, 0.3)) -> list[list[float]]:
    """A loss over [0, 1] x [0, 1] that spans decades."""
    places = [index / (SIZE - 1) for index in range(SIZE)]
    return [[(x - minimum[0]) ** 2 + 4 * (y - minimum[1]) ** 2 + 1e-6 for x in places] for y in places]


def surface(*layers: Path | Spot) -> ChartSpec:
    return ChartSpec((Heat(bowl(), (0, 1), (0, 1), True, "train MSE"), *layers), (0, 1), None, "weight")


def painted(spec: ChartSpec, *, use_ascii: bool = False, colour: bool = True) -> tuple[list[Row], Frame]:
    painter = Painter()
    rows = painter.paint(spec, 58, 17, use_ascii=use_ascii, hint="", colour=colour)
    assert painter.frame is not None
    return rows, painter.frame


def plot(rows: list[Row], frame: Frame) -> list[Row]:
    return [row[frame.left :] for row in rows[frame.top : frame.top + frame.rows]]


def level(row: Row, column: int) -> int:
    ink = row[column][1]
    assert isinstance(ink, Tone)
    return ink.upper


@given(
    st.lists(st.lists(st.floats(), min_size=3, max_size=3), min_size=1, max_size=6),
    st.booleans(),
)
def test_a_greater_value_is_never_shown_as_a_lesser_one(grid: list[list[float]], log: bool) -> None:
    places = positions(Heat(grid, (0, 1), (0, 1), log))
    pairs = sorted(
        (value, place)
        for values, row in zip(grid, places, strict=True)
        for value, place in zip(values, row, strict=True)
        if math.isfinite(value)
    )
    assert all(0 <= place <= 1 for _, place in pairs)
    assert all(a[1] <= b[1] + 1e-12 for a, b in pairwise(pairs))
    if pairs and pairs[-1][0] / 2 - pairs[0][0] / 2 > max(1e-6 * abs(pairs[-1][0]), 1e-300):
        assert pairs[0][1] == 0
        assert pairs[-1][1] == pytest.approx(1)
    bad = sum(not math.isfinite(value) for values in grid for value in values)
    assert sum(math.isnan(place) for row in places for place in row) == bad


def test_every_level_is_seen_and_they_rise_away_from_the_minimum() -> None:
    rows, frame = painted(surface())
    cells = plot(rows, frame)
    tones = [cell[1] for row in cells for cell in row]
    assert all(isinstance(tone, Tone) for tone in tones)
    assert {half for tone in tones if isinstance(tone, Tone) for half in tone[1:]} == set(range(HEAT_LEVELS))
    across = cells[frame.row(0.3)]
    middle = frame.nearest_column(0.7)
    away = [level(across, column) for column in range(middle, -1, -1)]
    assert away == sorted(away)


def test_the_first_row_of_the_grid_is_the_lowest() -> None:
    grid = [[1.0, 1.0], [9.0, 9.0]]
    rows, frame = painted(ChartSpec((Heat(grid, (0, 1), (0, 1)),), (0, 1)))
    cells = plot(rows, frame)
    assert level(cells[-1], 0) == 0
    assert level(cells[0], 0) == HEAT_LEVELS - 1


def test_without_colours_the_same_map_is_drawn_in_characters() -> None:
    for use_ascii, chars in ((False, UNICODE), (True, ASCII)):
        rows, frame = painted(surface(), use_ascii=use_ascii, colour=False)
        cells = plot(rows, frame)
        inks = {ink for row in cells for _, ink in row}
        assert inks == {"muted"}
        seen = {char for row in cells for char, _ in row}
        assert seen == set(chars.ramp)
        across = [char for char, _ in cells[frame.row(0.3)]]
        middle = frame.nearest_column(0.7)
        places = [chars.ramp.index(char) for char in reversed(across[: middle + 1])]
        assert places == sorted(places)
    assert "".join(char for row in rows for char, _ in row).isascii()


@pytest.mark.parametrize("use_ascii", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_path_and_places_are_seen_on_any_map(use_ascii: bool, colour: bool) -> None:
    walk = [(0.05, 0.95), (0.2, 0.9), (0.5, 0.5), (0.6, 0.4)]
    spots = (Spot("minimum", "target", "minimum", 0.7, 0.3), Spot("start", "prediction", "start", *walk[0]))
    rows, frame = painted(surface(Path("prediction", "path", walk), *spots), use_ascii=use_ascii, colour=colour)
    cells = plot(rows, frame)
    for spot in spots:
        char, ink = cells[frame.row(spot.y)][frame.nearest_column(spot.x)]
        assert char == spot_marker(spot.kind, use_ascii=use_ascii)
        assert (ink.role if isinstance(ink, Tone) else ink) in ("target", "prediction")
    row, column = frame.row(0.5), frame.nearest_column(0.5)
    char, ink = cells[row][column]
    assert char not in ASCII.ramp + UNICODE.ramp
    if use_ascii or not colour:  # between characters, what lies on the map has room around it
        assert cells[row][column + 1][0] == " "
    top = "".join(char for char, _ in rows[0])
    assert all(word in top for word in ("path", "minimum", "start"))


def test_a_walk_goes_wherever_its_points_lead() -> None:
    square = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)]
    rows, frame = painted(surface(Path("prediction", "path", square)))
    cells = plot(rows, frame)
    for x, y in [*square, (0.5, 0.2), (0.5, 0.8), (0.2, 0.5), (0.8, 0.5)]:
        assert 0x2800 < ord(cells[frame.row(y)][frame.nearest_column(x)][0]) < 0x2900, (x, y)
    assert not 0x2800 < ord(cells[frame.row(0.5)][frame.nearest_column(0.5)][0]) < 0x2900


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_marked_as_such_and_changes_nothing_else(bad: float) -> None:
    grid = bowl()
    whole = plot(*painted(ChartSpec((Heat(grid, (0, 1), (0, 1)),), (0, 1))))
    for row in grid[-5:]:
        row[-5:] = [bad] * 5
    rows, frame = painted(ChartSpec((Heat(grid, (0, 1), (0, 1)),), (0, 1)))
    cells = plot(rows, frame)
    assert cells[0][-1] == (role_marker("bad"), "bad")
    assert cells[frame.row(0.3)][frame.nearest_column(0.7)] == whole[frame.row(0.3)][frame.nearest_column(0.7)]
    nothing = painted(ChartSpec((Heat([[bad, bad]] * 2, (0, 1), (0, 1)),), (0, 1)))[0]
    assert "not finite" in "".join(char for char, _ in nothing[0])


def test_the_axes_are_those_of_the_map_and_the_scale_says_its_ends() -> None:
    rows, frame = painted(surface())
    assert (frame.y_axis.low, frame.y_axis.high) == (0, 1)
    text = ["".join(char for char, _ in row) for row in rows]
    assert "train MSE 1.00e-06" in text[0]
    assert text[0].endswith("2.4500")
    assert "─ weight ─" in text[-2]


async def test_a_step_of_the_walk_repaints_a_few_cells_and_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = [(0.01 * step, 1 - 0.007 * step) for step in range(60)]
    heat = Heat(bowl(), (0, 1), (0, 1), True, "train MSE")

    def layers(count: int) -> list[Heat | Path | Spot]:
        return [heat, Path("prediction", "path", walk[:count]), Spot("now", "prediction", "now", *walk[count - 1])]

    async with Charts().run_test(size=(60, 18)) as pilot:
        chart = await settle(pilot, 1)
        chart.show(layers(20), x_range=(0, 1))
        await settle(pilot, 2)
        repainted: list[Region] = []
        refresh = Chart.refresh

        def watch(self: Chart, *regions: Region, **kwargs: object) -> Chart:
            assert regions, "the whole chart was repainted"
            repainted.extend(regions)
            return refresh(self, *regions)

        monkeypatch.setattr(Chart, "refresh", watch)
        ground = chart.painter._map
        chart.show(layers(22), x_range=(0, 1))
        await settle(pilot, 3)
        assert 0 < sum(region.area for region in repainted) < 10
        assert chart.painter._map is ground
