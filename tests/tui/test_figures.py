"""Numbers keep four digits and their width, whatever they are."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_tui import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.09224279224872589, "0.0922"),
        (-0.5894317626953125, "-0.5894"),
        (0.4398179352283478, "0.4398"),
        (0.0, "0.0000"),
        (1.2345e-5, "1.23e-05"),
        (0.00049, "4.90e-04"),
        (9.99999, "10.00"),
        (12.3456, "12.35"),
        (999.96, "1000"),
        (1234.5, "1234"),
        (99_999.0, "99999"),
        (123_456.0, "1.23e+05"),
        (math.nan, "NaN"),
        (-math.inf, "-inf"),
        (None, "–"),
    ],
)
def test_figure(value: float | None, text: str) -> None:
    assert figures.figure(value) == text


@given(st.floats(width=32))
def test_a_figure_fits_its_column_and_reads_back(value: float) -> None:
    text = figures.figure(value)
    assert len(text) <= figures.WIDTH
    if math.isfinite(value):
        assert float(text) == pytest.approx(value, rel=5e-3, abs=5e-5)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_full_loses_no_digit_of_a_float32(value: float) -> None:
    assert struct.pack("f", float(figures.full(value))) == struct.pack("f", value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (14.4, "0:14"), (59.6, "1:00"), (3600, "1:00:00"), (90_061, "1d 01:01"), (math.inf, "> 99 d")],
)
def test_duration(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


def test_sizes_and_shapes() -> None:
    assert figures.size(8) == "8 B"
    assert figures.size(2150) == "2.1 KiB"
    assert figures.size(5 * 1024**3) == "5.0 GiB"
    assert figures.shape((50, 1)) == "[50, 1]"
    assert figures.span((0.0, 0.68)) == "0 … 0.68"
    assert figures.span(None) == "–"
    assert figures.signed(0.06) == "+0.0600"
    assert figures.signed(-0.26) == "-0.2600"
