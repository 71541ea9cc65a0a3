"""What lies on a chart hides nothing else on it: lines and points take turns in the cells that they share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_tui.theme import Role
from workflow_tui.widgets.chart_axes import Axis
from workflow_tui.widgets.chart_frame import Frame
from workflow_tui.widgets.chart_layers import ChartSpec, Lines, Scatter
from workflow_tui.widgets.chart_strokes import DASH, Sketch, Stroke, _line, share

PLACES = st.tuples(st.integers(0, 12), st.integers(0, 3))
LINE = st.dictionaries(PLACES, st.integers(1, 255).map(lambda mask: chr(0x2800 + mask)), max_size=30)
POINTS = st.sets(PLACES, max_size=30).map(lambda places: dict.fromkeys(places, "●"))
ROLES: tuple[Role, ...] = ("weight", "bias", "train", "validation")


@st.composite
def strokes(draw: st.DrawFn) -> list[Stroke]:
    """Some points that share no cell with each other, and lines over them."""
    points, free = draw(st.lists(POINTS, max_size=2)), set[tuple[int, int]]()
    single = []
    for role, cells in zip(ROLES, points, strict=False):
        single.append(Stroke(role, {place: sign for place, sign in cells.items() if place not in free}, single=True))
        free |= cells.keys()
    lines = [Stroke(role, cells) for role, cells in zip(ROLES, draw(st.lists(LINE, max_size=4)), strict=False)]
    return single + lines


@given(strokes())
def test_every_cell_shows_one_thing_as_it_was(before: list[Stroke]) -> None:
    after = share(before)
    assert [(stroke.role, stroke.single) for stroke in after] == [(stroke.role, stroke.single) for stroke in before]
    shown = [place for stroke in after for place in stroke.cells]
    assert len(shown) == len(set(shown))
    assert set(shown) == {place for stroke in before for place in stroke.cells}
    for old, new in zip(before, after, strict=True):
        assert new.cells.items() <= old.cells.items()


@given(strokes())
def test_a_point_gives_way_only_beside_one_that_stays_and_none_vanish_as_a_whole(before: list[Stroke]) -> None:
    after = share(before)
    for old, new in zip(before, after, strict=True):
        if old.single:
            assert bool(new.cells) == bool(old.cells)
            for column, row in old.cells.keys() - new.cells.keys():
                assert any((column - 1, row) in stroke.cells for stroke in after if stroke.single)
                assert any((column, row) in other.cells for other in before if not other.single)


@given(st.integers(2, 5), st.integers(4, 40))
def test_lines_that_run_along_each_other_are_all_seen(count: int, columns: int) -> None:
    cells = {(column, 1): "⣀" for column in range(columns)}
    after = share([Stroke("weight", dict(cells)) for _ in range(count)])
    counts = [len(stroke.cells) for stroke in after]
    assert max(counts) - min(counts) <= DASH
    assert min(counts) > 0 or columns < count * DASH


@pytest.mark.parametrize("use_ascii", [False, True])
def test_a_model_on_its_data_and_a_loss_on_another_are_seen(use_ascii: bool) -> None:
    points = [(x / 10, 1.0) for x in range(11)]
    frame = Frame(Axis(0, 1), Axis(0, 2), 11, 5, 6, 1)
    spec = ChartSpec((Scatter("train", "train", points), Lines("prediction", "model", points)), (0, 1))
    sketch = Sketch()
    data, model = sketch.strokes(spec, sketch.runs(spec, frame), frame, use_ascii)
    assert (sorted(column for column, _ in data.cells), sorted(column for column, _ in model.cells)) == (
        [0, 2, 4, 6, 8, 10],
        [1, 3, 5, 7, 9],
    )


def test_a_model_that_has_arrived_leaves_the_true_line_to_be_seen() -> None:
    points = [(x / 10, 1.0) for x in range(11)]
    frame = Frame(Axis(0, 1), Axis(0, 2), 40, 5, 6, 1)
    spec = ChartSpec((Lines("target", "true", points), Lines("prediction", "model", points)), (0, 1))
    sketch = Sketch()
    true, model = sketch.strokes(spec, sketch.runs(spec, frame), frame, False)
    assert len(true.cells) == 20
    assert len(model.cells) == 20


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=12), st.lists(st.floats(-3, 3), min_size=4, max_size=12))
def test_markers_stand_on_their_lines_and_the_last_one_at_the_end(first: list[float], second: list[float]) -> None:
    one = Lines("train", "train", [(10.0 * at, y) for at, y in enumerate(first)])
    other = Lines("bias", "bias", [(10.0 * at, y) for at, y in enumerate(second)])
    spec = ChartSpec((one, other))
    frame = Frame(Axis(0, 10 * max(len(first), len(second))), Axis(-3, 3), 60, 12, 6, 1)
    sketch = Sketch()
    runs = sketch.runs(spec, frame)
    *_, train, bias = sketch.strokes(spec, runs, frame, False)
    for layer, parts, markers in zip((one, other), runs, (train, bias), strict=True):
        x, y = layer.points[-1]
        end = frame.nearest_column(x), frame.rows - 1 - frame.row(y)
        assert end in markers.cells
        assert markers.cells.keys() <= _line(markers.role, parts, frame, False).cells.keys() | {end}


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=90))
def test_the_last_marker_stands_at_the_last_value_where_many_share_its_column(values: list[float]) -> None:
    line = Lines("bias", "bias", [(float(at), y) for at, y in enumerate(values)])
    spec = ChartSpec((line,))
    frame = Frame(Axis(0, 1000), Axis(-3, 3), 20, 12, 6, 1)
    sketch = Sketch()
    *_, markers = sketch.strokes(spec, sketch.runs(spec, frame), frame, False)
    x, y = line.points[-1]
    assert list(markers.cells) == [(frame.nearest_column(x), frame.rows - 1 - frame.row(y))]


@pytest.mark.parametrize("bad", [(math.inf, 1.0), (math.nan, 1.0), (4.0, math.nan), (4.0, -1.0)])
def test_what_cannot_be_drawn_has_no_marker(bad: tuple[float, float]) -> None:
    spec = ChartSpec((Lines("bias", "bias", [(0.0, 1.0), (3.0, 10.0), bad]),), log_y=True)
    frame = Frame(Axis(0, 10), Axis(0, 2, log=True), 20, 12, 6, 1)
    sketch = Sketch()
    *_, markers = sketch.strokes(spec, sketch.runs(spec, frame), frame, False)
    assert [column for column, _ in markers.cells] == [frame.nearest_column(3)]
