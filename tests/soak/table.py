"""What the soak has tried, as a table at the end, and how each of its tests is also run in short."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

PART = float(os.environ.get("SOAK_PART", "1"))
"""Of the full numbers, for a first look."""


class Row(NamedTuple):
    """One line of the table: what was tried how often, how often it was lost, and what was measured meanwhile."""

    what: str
    tried: int
    lost: int
    more: str


ROWS: list[Row] = []


def sizes(short: int, full: int) -> pytest.MarkDecorator:
    """The test gets `count`: a few where all tests are run, the `full` number in the soak."""
    return pytest.mark.parametrize(
        "count",
        [
            pytest.param(short, id="short"),
            pytest.param(max(short, round(full * PART)), id="full", marks=pytest.mark.soak),
        ],
    )


def tell(what: str, tried: int, lost: int, more: str = "") -> None:
    """A line for the table; before anything is asserted, so that it stands there where something was lost, too."""
    ROWS.append(Row(what, tried, lost, more))
    print(_line(what, f"{tried:,}", f"{tried - lost:,}", f"{lost:,}", more))


def table() -> list[str]:
    """The lines of the table."""
    return [
        _line("", "tried", "survived", "lost", ""),
        *(_line(row.what, f"{row.tried:,}", f"{row.tried - row.lost:,}", f"{row.lost:,}", row.more) for row in ROWS),
    ]


def _line(what: str, tried: str, survived: str, lost: str, more: str) -> str:
    return f"{what:<62} {tried:>8} {survived:>9} {lost:>5}  {more}".rstrip()
