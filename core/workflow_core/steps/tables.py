"""The user's own table: which columns are numbers, and X and y out of those chosen, or the cell that is in the way."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import math
import os
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
from workflow_core.steps.columns import Column, from_numbers, from_text, kind_of, tensor
from workflow_core.steps.delimited import MAX_COLUMNS, TITLE, broken, check_names

if TYPE_CHECKING:
    import polars as pl

MAX_BYTES = 8 * 2**30
BYTES = 40
"""What a value takes up at most: as polars reads it, in float64, in the spec's dtype, in its split, standardised."""
CHUNK = 2**24
"""Values of a Parquet file read at a time."""
_EMPTY_IT = (
    "leave the cell empty, and drop rows with missing values (--missing drop) or impute them (--missing impute)."
)
LARGEST = {"float32": torch.finfo(torch.float32).max, "float64": torch.finfo(torch.float64).max}


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
    # parsing takes about twice the room of the text itself
    data = files.read(name, min(MAX_BYTES, _memory() // 3), TITLE)
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
    _check_memory(table, len(spec.features) + 1 if spec.features else len(table.names))
    target, features, notes = _columns(spec, table)
    for column in (*features, target):
        _check_numbers(spec, table, column, "choose another target" if column is target else "leave the column out")
    keep, dropped = _rows(spec, table, features, target)
    X = torch.stack([tensor(column.values.filter(keep)) for column in features], 1)
    y = tensor(target.values.filter(keep)).unsqueeze(1)
    names = tuple(column.name for column in features)
    return Chosen(X, y, names, target.name, (*table.notes, *notes, *dropped))


def _delimited(name: str, data: bytes, header: bool) -> Table:
    found = delimited.read(name, data, header)
    place = {each: index for index, each in enumerate(found.names)}

    def column(wanted: str) -> Column:
        return from_text(wanted, found.cells.to_series(place[wanted]))

    return Table(name, found.names, found.cells.height, column, found.where, found.notes)


def _parquet(name: str, data: bytes) -> Table:
    import polars as pl

    with _parquet_faults(name):
        schema = pl.read_parquet_schema(io.BytesIO(data))
        rows = int(pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item())
    names = list(schema)
    if not names or len(names) > MAX_COLUMNS:
        raise broken(name, f"it has {len(names):,} columns", f"Choose a table with 1 to {MAX_COLUMNS:,}.")
    check_names(name, names)
    plain = (pl.Boolean, pl.String, pl.Null)
    readable = [at for at, each in enumerate(names) if schema[each].is_numeric() or schema[each] in plain]
    size = max(1, CHUNK // max(rows, 1))
    place = {names[at]: divmod(index, size) for index, at in enumerate(readable)}

    # a file with thousands of columns is opened once a chunk: its schema alone takes long to read
    @functools.lru_cache(maxsize=1)
    def chunk(index: int) -> pl.DataFrame:
        with _parquet_faults(name):
            # polars would take a name like * or ^a$ for a pattern, here and wherever a series goes by it
            return pl.read_parquet(io.BytesIO(data), columns=readable[index * size : (index + 1) * size])

    def column(wanted: str) -> Column:
        if wanted not in place:
            kind = "date" if schema[wanted].is_temporal() else str(schema[wanted]).lower()
            nothing = pl.repeat(None, rows, dtype=pl.Float64, eager=True)
            return Column(wanted, sanitize(kind, 40), nothing, pl.repeat(False, rows, eager=True))
        index, at = place[wanted]
        values = chunk(index).to_series(at).alias("")
        return from_text(wanted, values) if values.dtype == pl.String else from_numbers(wanted, values)

    return Table(name, tuple(names), rows, column, lambda row: f"row {row + 1:,}")


@contextlib.contextmanager
def _parquet_faults(name: str) -> Iterator[None]:
    """Whatever polars raises over a damaged file becomes one WorkflowError, and what it prints goes nowhere."""
    import polars as pl

    try:
        with _silent():
            yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, MemoryError) as error:
        reason = "its Parquet data are damaged"
        raise broken(name, reason, "Write it again, or export the table as CSV.") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches stderr: a panic in Rust prints a backtrace there before it becomes an exception."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            kept = os.dup(2)
            stack.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            stack.callback(os.dup2, kept, 2)
        yield


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
    target = spec.target or next((name for name in reversed(table.names) if name not in spec.features), None)
    if target is None:
        raise WorkflowError("No target", "Every column is named as a feature.", "Leave out the one to predict.")
    if spec.features:
        return table.column(target), [table.column(name) for name in spec.features], []
    columns = [table.column(name) for name in table.names if name != target]
    features = [column for column in columns if column.wanted]
    left = [f"{sanitize(column.name, 40)} ({_held(table, column)})" for column in columns if not column.wanted]
    if not features:
        message = f"{sanitize(table.name)} holds no column of numbers beside the target '{sanitize(target, 60)}'."
        raise WorkflowError("No features", message, f"It holds {_listing(left)}; choose another table or target.")
    if len(features) > MAX_FEATURES:
        message = f"{sanitize(table.name)} has {len(features):,} columns of numbers; {MAX_FEATURES:,} is the most."
        raise WorkflowError("Too many features", message, "Choose the features by their names.")
    return table.column(target), features, [f"Left out: {_listing(left)}."] if left else []


def _held(table: Table, column: Column) -> str:
    """What a column holds instead of numbers, and where first: `text in line 2`."""
    return column.kind if column.bad is None else f"{column.kind} in {table.where(column.bad.arg_true()[0])}"


def _no_such(table: Table, name: str) -> WorkflowError:
    near = difflib.get_close_matches(name, table.names[:1000], 1, 0.6)
    advice = f"Did you mean '{sanitize(near[0], 60)}'? " if near else ""
    listing = _listing([sanitize(each, 40) for each in table.names])
    message = f"{sanitize(table.name)} has no column '{sanitize(name, 60)}'."
    return WorkflowError("No such column", message, f"{advice}It has {listing}.")


def _listing(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _check_numbers(spec: DataSpec, table: Table, column: Column, other: str) -> None:
    """Raises WorkflowError for a column that is not numbers of the dtype throughout; missing ones may be."""
    name = sanitize(column.name, 60)
    if column.bad is not None and column.cells is not None:
        raise _no_number(spec, table, column, other)
    if column.kind == "empty":
        raise WorkflowError("An empty column", f"'{name}' holds no values.", f"{other.capitalize()}.")
    if column.kind != "number":
        raise WorkflowError(
            "Not a column of numbers",
            f"'{name}' holds {column.kind} values, from {table.where(0)} on, and a model needs numbers.",
            f"Turn it into numbers, or {other}.",
        )
    large = column.values.abs() > LARGEST[spec.dtype]
    if large.any():
        row = large.arg_true()[0]
        if math.isinf(column.values[row]):
            message = f"'{name}' holds {column.values[row]:g} in {table.where(row)}, which is no finite number."
            raise WorkflowError("Values too large", message, f"Mend it; or {_EMPTY_IT}")
        raise WorkflowError(
            "Values too large",
            f"'{name}' holds {column.values[row]:g} in {table.where(row)}, which is too large for {spec.dtype}.",
            "Mend it, or measure the column in a larger unit"
            + ("." if spec.dtype == "float64" else ", or choose float64."),
        )


def _no_number(spec: DataSpec, table: Table, column: Column, other: str) -> WorkflowError:
    assert column.bad is not None
    assert column.cells is not None
    row = column.bad.arg_true()[0]
    cell = column.cells[row]
    kind = kind_of(cell)
    what, advice = {
        "date": ("a date or time", f"Turn it into a number, such as days since the first one, or {other}."),
        "formatted number": (
            "not a plain number",
            "Write numbers as 1234.5: a point before the decimals, nothing between the thousands, no unit.",
        ),
        "text": ("text", f"Turn its texts into numbers, or {other}."),
    }[kind]
    if column.kind == "mixed" and kind == "text":
        advice = f"Mend it; or {_EMPTY_IT}"
    if row == 0 and not spec.header:
        advice = "If this row holds the names of the columns, say that the table has a header (--header)."
    message = f"'{sanitize(column.name, 60)}' holds '{sanitize(cell, 40)}' in {table.where(row)}, which is {what}."
    return WorkflowError("Not a number", message, advice)


def _check_memory(table: Table, columns: int) -> None:
    """Raises WorkflowError for a table that this machine cannot hold: a few bytes of Parquet may stand for millions."""
    need, have = table.rows * columns * BYTES, _memory()
    if need > have:
        raise WorkflowError(
            "Too large for this machine",
            f"{table.rows:,} rows of {columns:,} columns need about {need / 2**30:.1f} GiB; it has {have / 2**30:.1f}.",
            "Choose fewer columns, or a part of the rows.",
        )


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _rows(spec: DataSpec, table: Table, features: list[Column], target: Column) -> tuple[pl.Series, list[str]]:
    """Which rows are kept, and a note of those that are not. Raises WorkflowError for missing values to be refused."""
    gaps = [column for column in (*features, target) if column.missing.any()]
    if gaps and spec.missing == "refuse":
        parts = list(_gaps(table, gaps))
        raise WorkflowError(
            "Missing values",
            f"{sanitize(table.name)} has missing values: {_listing(parts, 4)}.",
            "Drop their rows (--missing drop), or put in the mean of the training rows (--missing impute).",
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
