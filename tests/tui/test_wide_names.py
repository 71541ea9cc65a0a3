"""Names are counted in columns of the terminal, not in characters: what stands beside a wide one is in its column."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from workflow_core.protocol import Predictions
from workflow_tui import tables

NAMES = ("width", "幅広い名前", "e\u0301\u0301", "ｗ" * 60, "👍🏽 🇩🇪", "\x1b[31m", "한글")
WIDGET: Any = SimpleNamespace(size=SimpleNamespace(width=60, height=20), app=SimpleNamespace(theme_variables={}))


@given(st.text(st.sampled_from("a幅e\u0301👍🏽🇩\x1b한ｗ "), max_size=30), st.integers(1, 20))
def test_what_is_fitted_takes_no_more_columns_than_there_are(text: str, room: int) -> None:
    for fitted in (tables.fitted(text, room), tables.fitted_start(text, room), *tables.labels([text], room).values()):
        assert cell_len(fitted) <= room


def test_the_end_of_a_name_stays_and_the_beginning_of_a_sentence() -> None:
    assert tables.fitted("名前の幅", 5) == "…の幅"
    assert tables.fitted_start("名前の幅", 5) == "名前…"
    assert tables.fitted("x" * 300 + "end", 4) == "…end"


@pytest.mark.parametrize(
    "text",
    [
        tables.gaps_text(WIDGET, dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, 2.0)),
        tables.coefficients_text(WIDGET, dict.fromkeys(NAMES, 1.0), {}, dict.fromkeys(NAMES, 2.0)),
    ],
    ids=["gaps", "coefficients"],
)
def test_figures_beside_wide_names_stand_in_their_columns(text: Any) -> None:
    lines = text.plain.splitlines()
    assert len(lines) == 1 + len(NAMES)
    assert {cell_len(line) for line in lines} == {cell_len(lines[0])}


def test_the_head_of_predictions_has_their_width() -> None:
    for name in NAMES:
        lines = tables.predictions_text(
            WIDGET, Predictions(source="trained", points=(((1.0,), 2.0),), truth=(2.5,)), [name], name
        )
        head, row = lines.plain.splitlines()
        assert cell_len(head) == cell_len(row)
