"""From a run's history to what a chart draws: few points, and none that never was."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_core.history import History
from workflow_core.protocol import SurfaceAnswer
from workflow_tui.plots import COLUMNS, column_points, path_points, surface_layers
from workflow_tui.widgets.chart import ChartSpec, Heat, Lines
from workflow_tui.widgets.chart_paint import Painter

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)


def history(*columns: list[float], cap: int = 16) -> History:
    made = History(cap)
    made.extend({name: column for name, column in zip("xyz", columns, strict=False)})
    return made


@given(values)
def test_points_of_a_series_keep_its_extremes_however_often_it_was_folded(column: list[float]) -> None:
    points = column_points(history(column).series["x"].columns(COLUMNS, 0, len(column)))
    assert len(points) <= 2 * COLUMNS
    assert min(y for _, y in points) == min(column)
    assert max(y for _, y in points) == max(column)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[-1] == (len(column) - 1, column[-1]), "it ends as it stands now, not at an extreme"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=300), st.integers(16, 90))
def test_what_a_chart_draws_of_a_folded_history_reaches_its_extremes(column: list[float], width: int) -> None:
    points = column_points(history(column).series["x"].columns(COLUMNS, 0, len(column)))
    painter = Painter()
    spec = ChartSpec((Lines("prediction", "", points),), (0, len(column)), (0, 1))
    rows = painter.paint(spec, width, 12, use_ascii=False, hint="")
    assert painter.frame is not None
    drawn = [y - painter.frame.top for y, row in enumerate(rows) if any(role == "prediction" for _, role in row)]
    assert (drawn[0], drawn[-1]) == (painter.frame.row(max(column)), painter.frame.row(min(column)))


def test_epochs_without_a_finite_value_are_a_gap() -> None:
    column = [1.0] * 10 + [math.nan] * 10 + [2.0] * 10
    painter = Painter()
    spec = ChartSpec(
        (Lines("train", "", column_points(history(column, cap=64).series["x"].columns(COLUMNS, 0, 30))),), (0, 30)
    )
    painter.paint(spec, 60, 12, use_ascii=False, hint="")
    assert [len(parts) for parts in painter.runs] == [2]


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=200), st.integers(0, 250))
def test_a_path_leads_through_places_that_were(walk: list[tuple[float, float]], stop: int) -> None:
    made = history([x for x, _ in walk], [y for _, y in walk])
    points = path_points(made, "x", "y")
    assert set(points) <= set(walk)
    assert (points[0], points[-1]) == (walk[0], walk[-1])
    before = path_points(made, "x", "y", stop)
    assert set(before) <= set(walk[:stop])
    assert path_points(made, "x", "absent") == []


def test_a_surface_is_a_map_with_the_walk_over_it() -> None:
    surface = SurfaceAnswer(
        run=1,
        x="weight",
        y="bias",
        x_range=(0, 1),
        y_range=(0, 2),
        loss=((1.0, 2.0), (3.0, 4.0)),
        now=(0.5, 0.5),
        now_loss=1.5,
        minimum=(0.7, 0.3),
        minimum_loss=0.0,
        minimum_is="closed form",
    )
    for path in ([], [(0.1, 0.1), (0.2, 0.2)]):
        layers = surface_layers(surface, path)
        assert isinstance(layers[0], Heat)
        painter = Painter()
        rows = painter.paint(ChartSpec(tuple(layers), surface.x_range), 70, 16, use_ascii=False, hint="")
        assert painter.frame is not None
        assert (painter.frame.y_axis.low, painter.frame.y_axis.high) == (0, 2)
        top = "".join(char for char, _ in rows[0])
        assert "╋ minimum" in top
        assert "◉ now" in top
        assert ("○ start" in top) == bool(path)
