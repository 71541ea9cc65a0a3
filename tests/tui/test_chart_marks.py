"""What a chart says beside its lines: marks, earlier runs, what a logarithmic axis cannot show, which line is which."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_tui.theme import TRACKED, Role, role_marker, spot_marker
from workflow_tui.widgets.chart import ChartSpec, Heat, Lines, Mark, Scatter, Spot
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_layers import Layer
from workflow_tui.widgets.chart_paint import NOTHING_ON_LOG, Painter

FALLING = [(float(epoch), math.exp(-epoch / 20)) for epoch in range(101)]


def painted(
    *layers: Layer, size: tuple[int, int] = (60, 16), use_ascii: bool = False, **options: bool | str
) -> list[Row]:
    spec = ChartSpec(tuple(layers), (0, 100), None, "epoch", **options)  # type: ignore[arg-type]
    return Painter().paint(spec, *size, use_ascii=use_ascii, hint="nothing yet")


def text(rows: list[Row]) -> list[str]:
    return ["".join(char for char, _ in row) for row in rows]


def words(rows: list[Row]) -> str:
    """All of it in one line, for messages that may wrap."""
    return " ".join(" ".join(text(rows)).split())


# --- a logarithmic axis ----------------------------------------------------------------------------


def test_a_zero_on_a_logarithmic_axis_stands_on_its_lower_edge_and_the_legend_says_so() -> None:
    points = [(x, y if x < 50 else 0.0) for x, y in FALLING]
    rows = painted(Lines("train", "train", points), log_y=True)
    lines = text(rows)
    assert lines[0].rstrip().endswith("▁ zero, below the axis")
    edge = rows[-3]
    columns = [at for at, cell in enumerate(edge) if cell == ("▁", "train")]
    assert columns
    # from epoch 50 to epoch 100, without a gap
    assert columns == list(range(columns[0], columns[-1] + 1))
    assert (columns[0], columns[-1]) == (6 + 27, 59)
    assert "▁" in text(painted(Scatter("test", "", points), log_y=True))[-3]
    assert "_" in text(painted(Lines("train", "train", points), log_y=True, use_ascii=True))[-3]
    assert not any("▁" in line for line in text(painted(Lines("train", "train", points))))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, -1.0], "values below 0 not shown"),
        ([1.0, 0.0], "▁ zero, below the axis"),
        ([1.0, 0.0, -2.0], "▁ zero, below the axis, values below 0 not shown"),
        ([1.0, math.nan, math.inf], ""),
        ([1.0, 2.0], ""),
    ],
)
def test_what_a_logarithmic_axis_cannot_show_is_said(values: list[float], said: str) -> None:
    points = [(float(at), value) for at, value in enumerate(values)]
    top = text(painted(Lines("train", "train", points), log_y=True, size=(80, 16)))[0]
    assert top.removeprefix("      ● train").strip() == said


def test_it_is_said_in_short_where_there_is_little_room_and_labels_give_way() -> None:
    points = [(1.0, 1.0), (2.0, 0.0), (3.0, -1.0)]
    lines = [Lines(role, f"a long name of {role}", points) for role in ("train", "validation")]
    top = text(painted(*lines, log_y=True, size=(50, 16)))[0]
    assert "▁ 0, < 0 left out" in top
    assert role_marker("train") in top
    assert role_marker("validation") in top


def test_what_lies_beyond_the_window_is_not_spoken_of() -> None:
    points = [(-5.0, 0.0), (10.0, 1.0), (20.0, 0.5), (101.0, -1.0)]
    assert text(painted(Lines("train", "train", points), log_y=True))[0].split() == ["●", "train"]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_logarithmic_axis_that_can_show_nothing_says_so_and_what_to_do(value: float) -> None:
    line = Lines("train", "train", [(1.0, value), (2.0, value)])
    assert words(painted(line, log_y=True)) == NOTHING_ON_LOG
    told = words(painted(line, log_y=True, plain_axis="y shows a plain axis"))
    assert told == f"{NOTHING_ON_LOG}; y shows a plain axis"
    narrow = painted(line, log_y=True, plain_axis="y shows a plain axis", size=(30, 12))
    assert words(narrow) == told, "a long message wraps"
    assert words(painted(Lines("train", "train", [(1.0, math.nan)]), log_y=True)) == "nothing yet"


# --- marks -----------------------------------------------------------------------------------------


WORDS = [letter * length for length, letter in enumerate("abcdefghij", 2)]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), st.integers(0, 100), max_size=8), st.booleans())
def test_texts_of_marks_never_touch_each_other(places: dict[str, int], use_ascii: bool) -> None:
    layers = [Mark(float(x), "muted", word) for word, x in places.items()]
    data = Scatter("train", "", [(float(x), float(x % 7)) for x in range(0, 100, 12)])
    rows = painted(data, *layers, use_ascii=use_ascii)
    signs = str.maketrans(dict.fromkeys("┊:│┤|+●o", " "))
    found = " ".join(line[5:] for line in text(rows)[:-2]).translate(signs).split()
    assert {word for word in found if word[0].isalpha()} <= set(places)


def test_the_text_of_a_mark_gives_way_to_data_and_a_bad_one_is_always_there() -> None:
    high = Lines("train", "train", [(float(x), 1.0) for x in range(101)])
    falling = Lines("validation", "val", [(float(x), 1.0 - x / 100) for x in range(101)])
    marks = [Mark(30, "muted", "lr 0.01"), Mark(35, "bad", "NaN or infinite")]
    rows = painted(high, falling, *marks)
    assert any("NaN or infinite" in line for line in text(rows))
    assert any("lr 0.01" in line for line in text(rows))
    silent = painted(high, falling, *[Mark(mark.x, mark.role) for mark in marks])
    for row, plain in zip(rows, silent, strict=True):
        assert all(cell == other for cell, other in zip(row, plain, strict=True) if other[1] in ("train", "validation"))
    crowded = [Lines(role, "", [(float(x), y / 12) for x in range(101)]) for y, role in enumerate(TRACKED * 2)]
    marked = text(painted(*crowded, Mark(40, "bad", "NaN or infinite"), size=(40, 9)))
    assert any("NaN or infinite" in line for line in marked), "where there is no room beside the data, over it"


@pytest.mark.parametrize("width", [16, 24, 40])
def test_a_text_that_is_too_long_keeps_both_ends(width: int) -> None:
    rows = text(painted(Lines("train", "t", FALLING), Mark(50, "bad", "NaN or infinite in the bias"), size=(width, 9)))
    assert any("…" in line or "NaN or infinite in the bias" in line for line in rows[1:])


def test_a_run_that_is_bad_from_the_start_shows_its_mark_and_no_invented_figures() -> None:
    never = Lines("train", "train", [(float(x), math.nan) for x in range(100)])
    rows = text(painted(never, Mark(0, "bad", "NaN or infinite"), log_y=True))
    assert any("NaN or infinite" in line for line in rows)
    assert not any(char.isdigit() for line in rows[:-1] for char in line)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("log", [False, True])
def test_values_that_are_not_finite_change_no_axis(bad: float, log: bool) -> None:
    line = [(x, bad if 40 < x < 60 or x > 90 else y) for x, y in FALLING]
    painter, other = Painter(), Painter()
    for points, chosen in ((FALLING, painter), (line, other)):
        chosen.paint(ChartSpec((Lines("train", "", points),), (0, 100), log_y=log), 60, 16, use_ascii=False, hint="")
    assert painter.frame is not None
    assert other.frame is not None
    assert painter.frame.x_axis == other.frame.x_axis
    if not log:
        assert painter.frame.y_axis == other.frame.y_axis


# --- which line is which ---------------------------------------------------------------------------


def test_several_lines_carry_their_markers_on_the_way_each_in_columns_of_its_own() -> None:
    roles: tuple[Role, ...] = TRACKED
    lines = [Lines(role, role, [(float(x), level + x / 400) for x in range(101)]) for level, role in enumerate(roles)]
    rows = painted(*lines, size=(64, 24))
    places = {
        role: {at for row in rows[1:-2] for at, (char, ink) in enumerate(row) if ink == role and char == sign}
        for role in roles
        for sign in [role_marker(role)]
    }
    assert all(len(columns) >= 3 for columns in places.values()), "two on the way and one at the end"
    for a, b in combinations(places.values(), 2):
        assert (a & b) <= {63}, "but for the last column they do not hide each other"


def test_markers_do_not_walk_as_a_line_grows() -> None:
    def signs(count: int) -> set[tuple[int, int]]:
        lines = [Lines("train", "", FALLING[:count]), Lines("validation", "", [(x, y + 1) for x, y in FALLING[:count]])]
        spec = ChartSpec(tuple(lines), (0, 100), (0, 2))
        rows = Painter().paint(spec, 60, 16, use_ascii=False, hint="")
        return {(y, x) for y, row in enumerate(rows) for x, (char, _) in enumerate(row) if char in "●▲"}

    few, many = signs(60), signs(80)
    heads = 2
    assert len(few - many) <= heads
    assert len(many) >= len(few)


def test_a_single_line_has_its_marker_at_the_end_only() -> None:
    rows = painted(Lines("train", "", FALLING), Lines("earlier", "", FALLING))
    assert sum(char == role_marker("train") for row in rows for char, _ in row) == 1


def test_earlier_runs_are_thin_below_everything_and_named_where_they_end() -> None:
    same = Lines("train", "train", FALLING)
    alone = painted(same, log_y=True)
    rows = painted(same, Lines("earlier", "", FALLING), log_y=True)
    assert [row for row in rows if any(ink == "train" for _, ink in row)] == [
        row for row in alone if any(ink == "train" for _, ink in row)
    ], "what is drawn over an earlier run looks as if that were not there"
    higher = [(x, 50 * y) for x, y in FALLING[:81]]
    rows = painted(same, Lines("earlier", "run 3", higher, "3"), log_y=True)

    def dots(role: Role) -> int:
        drawn = (ord(char) - 0x2800 for row in rows for char, ink in row if ink == role)
        return sum(code.bit_count() for code in drawn if 0 < code < 256)

    assert 0 < dots("earlier") < 0.7 * dots("train")
    assert ("3", "earlier") in [cell for row in rows for cell in row]
    assert "┄ run 3" in text(rows)[0]


def test_single_places_are_pointed_out_above_the_data() -> None:
    rows = painted(Lines("validation", "val", FALLING), Spot("best", "validation", "best epoch", 50, FALLING[50][1]))
    assert sum(char == spot_marker("best") for row in rows for char, _ in row) == 2, "on the line and in the legend"
    beside = painted(Lines("validation", "val", FALLING), Spot("best", "validation", "best epoch", 500, 0.5))
    assert sum(char == spot_marker("best") for row in beside for char, _ in row) == 1


@pytest.mark.parametrize("size", [(16, 6), (30, 9), (58, 14), (160, 45)])
@pytest.mark.parametrize("use_ascii", [False, True])
def test_a_legend_has_a_row_of_its_own_at_every_size(size: tuple[int, int], use_ascii: bool) -> None:
    width, height = size
    full, bare = (
        painted(*[Lines(role, label, FALLING) for role in TRACKED], size=(width, rows), use_ascii=use_ascii)
        for label, rows in (("a long label " * 4, height), ("", height - 1))
    )
    assert full[1:] == bare, "the plot below it is that of a chart without labels"
    assert all(len(row) == size[0] for row in full)


def test_a_map_and_its_scale_share_the_row_with_labels() -> None:
    heat = Heat([[1.0, 2.0], [3.0, 4.0]], (0, 100), (0, 1), True, "train MSE")
    spots = [Spot("start", "prediction", "start", 1, 0.1), Spot("now", "prediction", "now", 50, 0.5)]
    for width in (20, 30, 40, 60, 80):
        top = text(painted(heat, *spots, size=(width, 12)))[0]
        assert "start" in top or width < 30
    assert top.split()[:4] == ["○", "start", "◉", "now"]
    assert "train MSE 1.0000" in top
