"""Any part of the epochs can be looked at: a zoomed window gets an axis of its own, a moving one keeps it."""

from __future__ import annotations

import math
from itertools import pairwise

from workflow_tui.widgets.chart import ChartSpec, Lines
from workflow_tui.widgets.chart_axes import Axis
from workflow_tui.widgets.chart_frame import x_axis_of as axis_of
from workflow_tui.widgets.chart_paint import Painter

EPOCHS = 2000
LOSS = [(float(epoch), math.exp(-epoch / 100) + 0.01) for epoch in range(0, EPOCHS, 10)]


def axis(painter: Painter, window: tuple[float, float], y_range: tuple[float, float] | None = None) -> Axis:
    """The y axis of the loss as it is looked at through a window."""
    spec = ChartSpec((Lines("train", "train", LOSS),), window, y_range, "epoch", whole_x=True)
    painter.paint(spec, 60, 16, use_ascii=False, hint="")
    assert painter.frame is not None
    return painter.frame.y_axis


def test_a_zoomed_window_gets_the_axis_that_fits_it_best_whatever_stood_there_before() -> None:
    painter = Painter()
    assert axis(painter, (0, EPOCHS)).high >= 1
    zoomed = axis(painter, (300, 400))
    assert zoomed == axis(Painter(), (300, 400))
    assert zoomed.high < 0.1
    assert axis(painter, (0, EPOCHS)) == axis(Painter(), (0, EPOCHS))


def test_a_window_that_moves_along_changes_its_axis_rarely() -> None:
    painter = Painter()
    axes = [axis(painter, (start, start + 200)) for start in range(0, 1000, 5)]
    changes = sum(a != b for a, b in pairwise(axes))
    assert 1 <= changes <= 20, "from 1.01 down to 0.01 in two hundred drawings"


def test_a_pinned_axis_stays_pinned_and_the_chosen_one_is_remembered() -> None:
    painter = Painter()
    chosen = axis(painter, (0, EPOCHS))
    assert axis(painter, (300, 400), (0.0, 2.0)) == Axis(0.0, 2.0)
    assert axis(painter, (0, EPOCHS)) == chosen


def test_a_line_leaves_a_window_where_it_goes_on_beyond() -> None:
    painter = Painter()
    spec = ChartSpec((Lines("prediction", "", [(0.0, 0.0), (100.0, 1.0)]),), (40, 60), (0, 1))
    rows = painter.paint(spec, 60, 16, use_ascii=True, hint="")
    plot = ["".join(char for char, _ in row)[6:] for row in rows[:-2]]
    columns = {at for line in plot for at, char in enumerate(line) if char == "="}
    assert columns == set(range(54)), "from one end of the window to the other, though no point lies within"


def test_points_beyond_a_window_do_not_set_its_axis() -> None:
    points = [(0.0, 1e6), (10.0, 1.0), (11.0, 2.0), (12.0, 1.5), (100.0, -1e6)]
    spec = ChartSpec((Lines("train", "", points),), (10, 12))
    painter = Painter()
    painter.paint(spec, 60, 16, use_ascii=False, hint="")
    assert painter.frame is not None
    assert (painter.frame.y_axis.low, painter.frame.y_axis.high) == (1.0, 2.0)


def test_a_range_of_one_value_is_an_axis_however_large_it_is() -> None:
    for value in (0.0, -3.5, 4503599627370498.0, 1e300):
        found = axis_of((value, value))
        assert found.low < value < found.high
        Painter().paint(ChartSpec((Lines("train", "", ()),), (value, value)), 16, 5, use_ascii=False, hint="")
