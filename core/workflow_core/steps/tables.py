"""The user's own table: which columns are numbers, and X and y out of those chosen, or the cell that is in the way."""

from __future__ import annotations

import array
import difflib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workflow_core import files
from workflow_core.atomic import expand
from workflow_core.errors import WorkflowError
from workflow_core.protocol import TableAnswer, TableColumn
from workflow_core.sanitize import sanitize
from workflow_core.specs import MAX_FEATURES, MAX_ROWS, DataSpec
from workflow_core.steps import delimited
from workflow_core.steps.delimited import MAX_COLUMNS, TITLE, broken, check_names

if TYPE_CHECKING:
    import polars as pl

MAX_BYTES = 8 * 2**30
SLICE = 2**20
"""Values moved from polars to torch at a time: as Python numbers they need five times the room."""

# what pandas takes as missing; see pandas.read_csv, na_values
MISSING = (
    *("na", "n/a", "nan", "null", "none", "<na>", "#na", "#n/a", "#n/a n/a"),
    *("+nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4}))([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)
_DRESSED = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?|[-+]?\d{1,3}([ '’.,\u00a0\u202f]\d{3})+([.,]\d+)?|[-+]?\d+(\.\d+)?")
_DRESS = "%$€£¥ \u00a0"


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


@dataclass(frozen=True, eq=False)
class Table:
    """A table of which a column is only looked at when it is asked for; `where` tells of a row where it stands."""

    name: str
    names: tuple[str, ...]
    rows: int
    column: Callable[[str], Column]
    where: Callable[[int], str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Chosen:
    """What the data are made of: X [rows, features] and y [rows, 1], float64; NaN in X is still to be imputed."""

    X: Tensor
    y: Tensor
    features: tuple[str, ...]
    target: str
    notes: tuple[str, ...]


def inspect(path: str | os.PathLike[str], header: bool = True) -> TableAnswer:
    """The columns of a table and what they hold. Raises WorkflowError for what is no table."""
    table = read(path, header)
    columns = (table.column(name) for name in table.names)
    return TableAnswer(
        rows=table.rows,
        columns=tuple(TableColumn(each.name, each.kind, int(each.missing.sum())) for each in columns),
    )


def read(path: str | os.PathLike[str], header: bool = True) -> Table:
    """The table in a CSV, TSV or Parquet file, told by its content. Raises WorkflowError for what is no table."""
    name = expand(path, TITLE)
    data = files.read(name, MAX_BYTES, TITLE)
    table = _parquet(name, data) if data.startswith(b"PAR1") else _delimited(name, data, header)
    if table.rows > MAX_ROWS:
        raise broken(name, f"it has more than {MAX_ROWS:,} rows", "Choose fewer of them.")
    if not table.rows:
        what = "it has a header but no rows" if header else "it has no rows"
        raise broken(name, what, "Choose a table with a row for each observation.")
    return table


def choose(spec: DataSpec, folder: Path | None = None) -> Chosen:
    """Features and target of the table that `spec` names, rows dropped where it says so.

    A relative file is looked for in `folder`. Raises WorkflowError that names column and line of what is in the way.
    """
    path = Path(expand(spec.file, TITLE))
    table = read(folder / path if folder else path, spec.header)
    target, features, notes = _columns(spec, table)
    for column in (*features, target):
        _check_numbers(table, column)
    keep, dropped = _rows(spec, table, features, target)
    X = torch.stack([_tensor(column.values.filter(keep)) for column in features], 1)
    y = _tensor(target.values.filter(keep)).unsqueeze(1)
    names = tuple(column.name for column in features)
    return Chosen(X, y, names, target.name, (*table.notes, *notes, *dropped))


def _delimited(name: str, data: bytes, header: bool) -> Table:
    found = delimited.read(name, data, header)

    def column(wanted: str) -> Column:
        return _from_text(wanted, found.cells.to_series(found.names.index(wanted)))

    return Table(name, found.names, found.cells.height, column, found.where, found.notes)


def _parquet(name: str, data: bytes) -> Table:
    import polars as pl

    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
        rows = int(pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise _damaged(name) from error
    names = list(schema)
    if not names or len(names) > MAX_COLUMNS:
        raise broken(name, f"it has {len(names):,} columns", f"Choose a table with 1 to {MAX_COLUMNS:,}.")
    check_names(name, names)

    def column(wanted: str) -> Column:
        if not (schema[wanted].is_numeric() or schema[wanted] in (pl.Boolean, pl.String, pl.Null)):
            kind = "date" if schema[wanted].is_temporal() else str(schema[wanted]).lower()
            nothing = pl.repeat(None, rows, dtype=pl.Float64, eager=True)
            return Column(wanted, sanitize(kind, 40), nothing, pl.repeat(False, rows, eager=True))
        try:
            values = pl.read_parquet(io.BytesIO(data), columns=[wanted]).to_series()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            raise _damaged(name) from error
        return _from_text(wanted, values) if values.dtype == pl.String else _from_numbers(wanted, values)

    return Table(name, tuple(names), rows, column, lambda row: f"row {row + 1:,}")


def _damaged(name: str) -> WorkflowError:
    return broken(name, "its Parquet data are damaged", "Write it again, or export the table as CSV.")


def _from_numbers(name: str, column: pl.Series) -> Column:
    import polars as pl

    values = column.cast(pl.Float64).fill_nan(None)
    missing = values.is_null()
    return Column(name, "empty" if missing.all() else "number", values, missing)


def _from_text(name: str, cells: pl.Series) -> Column:
    import polars as pl

    values = cells.cast(pl.Float64, strict=False)
    if values.null_count() or values.is_nan().any():
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
    if len(bad) < len(values) - values.null_count():
        return "mixed"
    kinds = {_kind_of(cell) for cell in bad.head(100)}
    return kinds.pop() if len(kinds) == 1 else "text"


def _kind_of(cell: str) -> str:
    cell = cell[:100]
    if _DATE.fullmatch(cell):
        return "date"
    return "formatted number" if _DRESSED.fullmatch(cell.strip(_DRESS)) else "text"


def _columns(spec: DataSpec, table: Table) -> tuple[Column, list[Column], list[str]]:
    """Target, features, and a note of what was left out."""
    if len(table.names) == 1:
        raise broken(
            table.name,
            f"it has one column only, '{sanitize(table.names[0], 60)}'",
            "Separate columns by comma, semicolon or tab, and give it a feature and a target.",
        )
    for name in (*spec.features, *([spec.target] if spec.target else [])):
        if name not in table.names:
            raise _no_such(table, name)
    target = spec.target or next((name for name in reversed(table.names) if name not in spec.features), "")
    if not target:
        raise WorkflowError("No target", "Every column is named as a feature.", "Leave out the one to predict.")
    if spec.features:
        return table.column(target), [table.column(name) for name in spec.features], []
    columns = [table.column(name) for name in table.names if name != target]
    features = [column for column in columns if column.wanted]
    left = [f"{sanitize(column.name, 40)} ({column.kind})" for column in columns if not column.wanted]
    if not features:
        message = f"{sanitize(table.name)} holds no column of numbers beside the target '{sanitize(target, 60)}'."
        raise WorkflowError("No features", message, f"It holds {_listing(left)}; choose another table or target.")
    if len(features) > MAX_FEATURES:
        message = f"{sanitize(table.name)} has {len(features):,} columns of numbers; {MAX_FEATURES:,} is the most."
        raise WorkflowError("Too many features", message, "Choose the features by their names.")
    return table.column(target), features, [f"Not used as features: {_listing(left)}."] if left else []


def _no_such(table: Table, name: str) -> WorkflowError:
    near = difflib.get_close_matches(name, table.names[:1000], 1, 0.6)
    advice = f"Did you mean '{sanitize(near[0], 60)}'? " if near else ""
    listing = _listing([sanitize(each, 40) for each in table.names])
    message = f"{sanitize(table.name)} has no column '{sanitize(name, 60)}'."
    return WorkflowError("No such column", message, f"{advice}It has {listing}.")


def _listing(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _check_numbers(table: Table, column: Column) -> None:
    name = sanitize(column.name, 60)
    if column.bad is not None and column.cells is not None:
        row = column.bad.arg_true()[0]
        raise _no_number(table, column, column.cells[row], table.where(row))
    if column.kind == "empty":
        raise WorkflowError("An empty column", f"'{name}' holds no values.", "Leave the column out.")
    if column.kind != "number":
        raise WorkflowError(
            "Not a column of numbers",
            f"'{name}' holds {column.kind} values, from {table.where(0)} on, and a model needs numbers.",
            "Leave the column out, or turn it into numbers.",
        )
    if (infinite := column.values.is_infinite().fill_null(False)).any():
        where = table.where(infinite.arg_true()[0])
        raise WorkflowError(
            "Infinite values",
            f"'{name}' is infinite, or too large for float64, in {where}.",
            "Mend it, or measure the column in a larger unit.",
        )


def _no_number(table: Table, column: Column, cell: str, where: str) -> WorkflowError:
    kind = _kind_of(cell)
    what, advice = {
        "date": ("a date or time", "Turn it into a number, such as days since the first one, or leave the column out."),
        "formatted number": (
            "not a plain number",
            "Write numbers as 1234.5: a point before the decimals, nothing between the thousands, no unit.",
        ),
        "text": ("text", "Leave the column out, or turn its texts into numbers."),
    }[kind]
    if column.kind == "mixed" and kind == "text":
        advice = "Mend it; or leave the cell empty, and drop rows with missing values or impute them."
    if where == "line 1" and column.bad is not None and column.bad.sum() == 1:
        advice = "If the first line holds the names of the columns, say that the table has a header."
    message = f"'{sanitize(column.name, 60)}' holds '{sanitize(cell, 40)}' in {where}, which is {what}."
    return WorkflowError("Not a number", message, advice)


def _rows(spec: DataSpec, table: Table, features: list[Column], target: Column) -> tuple[pl.Series, list[str]]:
    """Which rows are kept, and a note of those that are not. Raises WorkflowError for missing values to be refused."""
    gaps = [column for column in (*features, target) if column.missing.any()]
    if gaps and spec.missing == "refuse":
        parts = list(_gaps(table, gaps))
        raise WorkflowError(
            "Missing values",
            f"{sanitize(table.name)} has missing values: {_listing(parts, 4)}.",
            "Drop rows with missing values, or impute them (the mean of the training rows is put in).",
        )
    keep = ~target.missing
    if spec.missing == "drop":
        for column in gaps:
            keep = keep & ~column.missing
    dropped = table.rows - int(keep.sum())
    if dropped == table.rows:
        what = "its target or a feature" if spec.missing == "drop" else "the target"
        raise WorkflowError("No rows left", f"Every row misses a value of {what}.", "Choose other columns.")
    if not dropped:
        return keep, []
    of = "a value" if spec.missing == "drop" else f"the target '{sanitize(target.name, 60)}'"
    verb = "was" if dropped == 1 else "were"
    return keep, [f"{dropped:,} of {table.rows:,} rows {verb} dropped, because {of} is missing there."]


def _gaps(table: Table, gaps: list[Column]) -> Iterator[str]:
    for column in gaps:
        count = int(column.missing.sum())
        more = f" and in {count - 1:,} more row{'s' * (count > 2)}" if count > 1 else ""
        yield f"'{sanitize(column.name, 60)}' in {table.where(column.missing.arg_true()[0])}{more}"


def _tensor(values: pl.Series) -> Tensor:
    """The values as a float64 tensor [rows], NaN where one is missing; without NumPy, which polars would ask for."""
    values = values.fill_null(float("nan"))
    tensor = torch.empty(len(values), dtype=torch.float64)
    for start in range(0, len(values), SLICE):
        part = array.array("d", values.slice(start, SLICE).to_list())
        tensor[start : start + len(part)] = torch.frombuffer(part, dtype=torch.float64)
    return tensor
