"""CSV and TSV as people really have them: separators, encodings and line ends are found out, what is broken is said."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import MAX_ROWS

if TYPE_CHECKING:
    import polars as pl

TITLE = "Cannot read the table"
MAX_COLUMNS = 10_000
MAX_NAME = 200
SAMPLE = 2**16
SAMPLE_LINES = 100

_SEPARATORS = "\t;|,"
_QUOTED = re.compile(r'"[^"]*"')
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_FOREIGN = (
    (b"PK\x03\x04", "it is a ZIP archive or a spreadsheet", "Export the sheet as CSV."),
    (b"\xd0\xcf\x11\xe0", "it is a spreadsheet or another Office document", "Export the sheet as CSV."),
    (b"\x1f\x8b", "it is compressed", "Unpack it first."),
    (b"BZh", "it is compressed", "Unpack it first."),
    (b"\xfd7zXZ", "it is compressed", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "it is compressed", "Unpack it first."),
    (b"ARROW1", "it is an Arrow or Feather file", "Write it as Parquet or CSV."),
    (b"\x89HDF", "it is an HDF5 file", "Write it as Parquet or CSV."),
    (b"SQLite format 3", "it is a database", "Export the table as CSV."),
    (b"%PDF", "it is a PDF document", "Export the table as CSV."),
)


@dataclass(frozen=True, eq=False)
class Delimited:
    """A table of texts: `cells` has one String column for each of `names`, null where a cell is empty.

    `first` is the line of the file that its first record begins in, and `skipped` how many records stand before the
    first row; `blank` lines are left out, and `kept` tells of each row which record it is (None: all of them).
    """

    names: tuple[str, ...]
    cells: pl.DataFrame
    records: pl.DataFrame
    first: int
    skipped: int
    kept: pl.Series | None
    notes: tuple[str, ...]

    def where(self, row: int) -> str:
        """Where the row with this index stands in the file, for example `line 17`."""
        import polars as pl

        record = (int(self.kept[row]) if self.kept is not None else row) + self.skipped
        # a quoted cell may hold line breaks of its own
        breaks = self.records.head(record).select(pl.all().str.count_matches("\n", literal=True).sum())
        return f"line {self.first + record + int(sum(count or 0 for count in breaks.row(0))):,}"


def read(name: str, data: bytes, header: bool) -> Delimited:
    """The table in the bytes of the file `name`. Raises WorkflowError for whatever is no table."""
    notes: list[str] = []
    data = _utf8(name, data, notes)
    body = data.lstrip(b"\r\n")
    if not body.strip():
        raise broken(name, "it is empty", "Choose a file with a row for each observation.")
    first = data[: len(data) - len(body)].count(b"\n") + 1
    separator = _separator(body)
    records = _records(name, body, separator, first)
    names = _names(name, records, header)
    cells, kept = _without_blank(records.slice(1) if header else records)
    if kept is not None:
        blank = len(records) - header - len(cells)
        notes.append(f"{blank:,} empty row{'s were' if blank > 1 else ' was'} left out.")
    if header and all(_is_number(each) for each in names):
        shown = ", ".join(sanitize(each, 20) for each in names[:4])
        notes.append(f"The first line ({shown}) was taken as the names of the columns, though it holds numbers.")
    return Delimited(names, cells, records, first, int(header), kept, tuple(notes))


def broken(name: str, reason: str, advice: str) -> WorkflowError:
    """The error to raise where the file `name` is no table because of `reason`."""
    return WorkflowError(TITLE, f"{sanitize(name)} cannot be read as a table: {reason}.", advice)


def _utf8(name: str, data: bytes, notes: list[str]) -> bytes:
    """The text of the file as UTF-8 with line feeds. Raises WorkflowError where it is no text."""
    for magic, reason, advice in _FOREIGN:
        if data.startswith(magic):
            raise broken(name, reason, advice)
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            data = data.decode("utf-16").encode()
        data = data.removeprefix(b"\xef\xbb\xbf")
        # the whole text, not just its head, must be free of NUL: it is what most binary files give away first
        if b"\0" in data or _CONTROL.search(data[:SAMPLE]):
            raise UnicodeError
    except UnicodeError:
        raise broken(name, "it holds bytes that no text has", "Choose a CSV, TSV or Parquet file.") from None
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("cp1252", "replace").encode()
        notes.append("The file is not UTF-8; its text was read as Windows-1252 (Latin-1).")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _separator(data: bytes) -> str:
    """The sign that stands equally often in every line; else the one that most lines have as often as the first."""
    # no sign takes more than four bytes
    text = data[: 4 * SAMPLE].decode("utf-8", "replace")[:SAMPLE]
    # of a line whose cells are all quoted only tabs may be left
    lines = [line for line in _QUOTED.sub("", text).splitlines() if line.strip(" ")][:SAMPLE_LINES]
    return max(_SEPARATORS, key=lambda sign: sum(line.count(sign) == lines[0].count(sign) > 0 for line in lines))


def _records(name: str, data: bytes, separator: str, first: int) -> pl.DataFrame:
    import polars as pl

    head = data[: data.find(b"\n") + 1 or len(data)]
    if head.count(separator.encode()) >= MAX_COLUMNS:
        raise broken(name, f"it has more than {MAX_COLUMNS:,} columns", "Choose a table with fewer.")
    try:
        records = pl.read_csv(
            data, separator=separator, has_header=False, infer_schema=False, n_rows=MAX_ROWS + 2, glob=False
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _fault(name, data, separator, first) from error
    except MemoryError as error:
        raise broken(name, "it does not fit into the memory of this machine", "Choose fewer rows.") from error
    return records


def _fault(name: str, data: bytes, separator: str, first: int) -> WorkflowError:
    """What is wrong with a text that is no table: looked for line by line, slowly, as this happens once."""
    text = data.decode("utf-8", "replace")
    if text.count('"') % 2:
        odd = (number for number, line in enumerate(text.split("\n"), first) if line.count('"') % 2)
        return broken(name, f"a quote in line {next(odd):,} is never closed", 'Close it, or write "" for a quote.')
    try:
        wanted = 0
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        for cells in lines:
            wanted = wanted or len(cells)
            if len(cells) > wanted:
                reason = f"line {first + lines.line_num - 1:,} has {len(cells):,} cells, the first line {wanted:,}"
                return broken(name, reason, "Give every line as many; numbers must not hold commas, as in 1.5.")
    except csv.Error:
        pass
    return broken(name, "its quotes or line ends are damaged", "Export it again as CSV.")


def _names(name: str, records: pl.DataFrame, header: bool) -> tuple[str, ...]:
    """The columns' names: from the first record, or column_1, column_2 ... Raises WorkflowError for what names none."""
    if not header:
        return tuple(f"column_{number}" for number in range(1, records.width + 1))
    found = [(cell or "").strip() or f"column_{number}" for number, cell in enumerate(records.row(0), 1)]
    if len(longest := max(found, key=len)) > MAX_NAME:
        reason = f"the name of a column has {len(longest):,} characters"
        raise broken(name, reason, "Shorten it; where the first line holds no names, say that there is no header.")
    check_names(name, found)
    return tuple(found)


def check_names(name: str, names: list[str]) -> None:
    """Raises WorkflowError where two columns have one name."""
    seen: set[str] = set()
    for each in names:
        if each in seen:
            raise broken(name, f"two columns are called '{sanitize(each, 60)}'", "Rename one of them.")
        seen.add(each)


def _without_blank(cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
    import polars as pl

    blank = cells.select(pl.all_horizontal(pl.all().is_null() | (pl.all().str.strip_chars() == ""))).to_series()
    if not blank.any():
        return cells, None
    kept = (~blank).arg_true()
    return cells[kept], kept


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
