"""One column of a table: which of its cells are numbers, which are missing, and what the others are instead."""

from __future__ import annotations

import array
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from workflow_core.cells import DATES, FORMATTED, LENGTH, MISSING, SIGNS

if TYPE_CHECKING:
    import polars as pl

SLICE = 2**20
"""Values moved from polars to torch at a time: as Python numbers they need five times the room."""

_DATE = re.compile("|".join(DATES))
_FORMATTED = re.compile("|".join(FORMATTED))


@dataclass(frozen=True, eq=False)
class Column:
    """A column as numbers: `values` float64, null where one is missing or where `bad` says that it is no number.

    `kind` is `number`, or what else it holds: `text`, `date`, `formatted number` (1,5 or 5%), `mixed` (mostly
    numbers), `empty`, or what polars calls its type.
    """

    name: str
    kind: str
    values: pl.Series
    missing: pl.Series
    bad: pl.Series | None = None
    cells: pl.Series | None = None

    @property
    def wanted(self) -> bool:
        """Is it one of the columns that are features where nobody chose any? Numbers that are not clean are meant."""
        return self.kind in ("number", "mixed", "formatted number")


def from_numbers(name: str, column: pl.Series) -> Column:
    """A column of numbers or truth values, of any type; NaN counts as missing."""
    import polars as pl

    values = column.cast(pl.Float64).fill_nan(None)
    missing = values.is_null()
    return Column(name, "empty" if missing.all() else "number", values, missing)


def from_text(name: str, cells: pl.Series) -> Column:
    """A column of texts: the numbers in it, what is missing, and what is neither."""
    import polars as pl

    values = cells.cast(pl.Float64, strict=False)
    # the sum of numbers is NaN where one of them is: far quicker than to ask each of thousands of short columns
    if values.null_count() or math.isnan(values.sum() or 0.0):
        cells = cells.str.strip_chars()
        values = cells.cast(pl.Float64, strict=False).fill_nan(None)
    missing = values.is_null()
    if not missing.any():
        return Column(name, "number", values, missing)
    unread = cells.filter(missing).str.to_lowercase()
    gone = unread.is_null() | (unread == "") | unread.is_in(MISSING)
    bad = missing.clone().scatter(missing.arg_true(), ~gone)
    missing = missing & ~bad
    if not bad.any():
        return Column(name, "empty" if missing.all() else "number", values, missing)
    return Column(name, _kind(cells.filter(bad), values), values, missing, bad, cells)


def _kind(bad: pl.Series, values: pl.Series) -> str:
    if len(bad) <= len(values) - values.null_count():
        return "mixed"
    kinds = {kind_of(cell) for cell in bad.head(LENGTH)}
    return kinds.pop() if len(kinds) == 1 else "text"


def kind_of(cell: str) -> Literal["date", "formatted number", "text"]:
    """What a cell holds that is no number."""
    cell = cell[:LENGTH]
    if _DATE.fullmatch(cell):
        return "date"
    return "formatted number" if _FORMATTED.fullmatch(cell.strip(SIGNS)) else "text"


def tensor(values: pl.Series) -> Tensor:
    """The values as a float64 tensor [rows], NaN where one is missing; without NumPy, which polars would ask for."""
    values = values.fill_null(float("nan"))
    tensor = torch.empty(len(values), dtype=torch.float64)
    for start in range(0, len(values), SLICE):
        part = array.array("d", values.slice(start, SLICE).to_list())
        tensor[start : start + len(part)] = torch.frombuffer(part, dtype=torch.float64)
    return tensor
