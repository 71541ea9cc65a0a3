"""A run as a file of the user's own, CSV or JSON: every figure reads back exactly, however many there are.

Run as `python -m workflow_core.store.export STORE RUN KIND PATH [--overwrite]`, in a process of its own: to write out
ten million epochs takes a minute of Python, in which no thread beside it would train. A Problem goes to standard
output as JSON.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import signal
import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from workflow_core import atomic
from workflow_core.errors import WorkflowError
from workflow_core.store import schema
from workflow_core.store.reading import Recorded
from workflow_core.views import RunView

ROWS = 10_000
"""Epochs that are turned into text at a time."""
AT_ONCE = 64 * 1024 * 1024
"""Bytes of series that are held at a time: JSON has each series as a whole, the store some epochs of all."""
NOTE = (
    "The figure of epoch N, counted from 0, is at place N of each series. JSON knows neither NaN nor infinity: they "
    "are the texts NaN, Infinity and -Infinity. null is a figure that there is not, or that could not be recorded."
)

RESULT = (
    *("state", "reason", "epochs", "elapsed", "train_loss", "val_loss", "best_epoch", "best_loss", "loss_scale"),
    *("parameters", "lr_changes", "parent", "parent_epoch", "race"),
)


def main(arguments: Sequence[str]) -> int:
    """Export; the exit status, 0 where the file is written."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    store, run, kind, path, *more = arguments
    try:
        export(Path(store), int(run), kind, path, overwrite="--overwrite" in more, ended=ended)
    except WorkflowError as error:
        sys.stdout.buffer.write(msgspec.json.encode(error.problem))
        return 1
    return 0


def export(store: Path, run: int, kind: str, path: str, *, overwrite: bool, ended: Sequence[int] = ()) -> Path:
    """Write what is on disk of `run` to `path`, whole or not at all, as `csv` or `json`. Raises WorkflowError.

    As soon as a signal's number stands in `ended`, the process is left with 128 + N.
    """
    try:
        with contextlib.closing(schema.connect_to_read(store)) as db:
            # one look at all of it, whatever is recorded, or deleted, meanwhile
            db.execute("BEGIN")
            record = Recorded(db, run)
            parts = _csv(record) if kind == "csv" else _json(record, *schema.select(db, "id = ?", (run,)))
            return atomic.write_parts(path, _unless(ended, parts), overwrite=overwrite)
    except KeyError as error:
        raise schema.no_run(run) from error
    except sqlite3.Error as error:
        raise WorkflowError("Cannot read the record", f"{store} cannot be read: {error}.") from error


def _unless(ended: Sequence[int], parts: Iterable[bytes]) -> Iterator[bytes]:
    """`parts`, left between two of them: the signal itself could come while the unfinished file is not yet known."""
    for part in parts:
        if ended:
            sys.exit(128 + ended[0])
        yield part


def _csv(record: Recorded) -> Iterator[bytes]:
    """A line an epoch; Python writes a float so that it reads back as the same, NaN and infinity as nan and inf."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", *record.names))
    yield _taken(text)
    for start, columns in record.values(0, record.epochs, record.names):
        for at in range(0, len(columns[0]), ROWS):
            epochs = range(start + at, start + at + min(ROWS, len(columns[0]) - at))
            writer.writerows(zip(epochs, *(column[at : at + ROWS] for column in columns), strict=True))
            yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    found = text.getvalue().encode(errors="replace")
    text.seek(0)
    text.truncate()
    return found


def _json(record: Recorded, view: RunView) -> Iterator[bytes]:
    """One object, whose last member are the series."""
    head = json.dumps(_head(view), indent=2, allow_nan=False)
    yield f'{head.removesuffix("}").rstrip()},\n  "series": {{'.encode()
    each = max(1, AT_ONCE // (8 * max(1, record.epochs)))
    for first in range(0, len(record.names), each):
        names = record.names[first : first + each]
        pieces: Iterable[tuple[int, list[array[float]]]] = record.values(0, record.epochs, names)
        if len(names) > 1:
            pieces = list(pieces)
        for at, name in enumerate(names):
            yield f"{',' if first + at else ''}\n    {json.dumps(name)}: [".encode()
            yield from _figures((start, columns[at]) for start, columns in pieces)
            yield b"]"
    yield b"\n  }\n}\n"


def _head(view: RunView) -> dict[str, Any]:
    return {
        "format": "workflow-tui run",
        "version": 1,
        "note": NOTE,
        "run": view.run,
        "name": view.name,
        "begun": datetime.fromtimestamp(view.begun, UTC).isoformat(timespec="milliseconds"),
        "settings": msgspec.to_builtins(view.spec),
        "result": {name: _plain(getattr(view, name)) for name in RESULT},
    }


def _plain(value: Any) -> Any:
    """`value` with what JSON has no number for as text."""
    if isinstance(value, float):
        return schema.json_number(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _figures(pieces: Iterable[tuple[int, array[float]]]) -> Iterator[bytes]:
    epoch = 0
    for start, values in pieces:
        if start > epoch:
            yield _joined(["null"] * (start - epoch), epoch)
        for at in range(0, len(values), ROWS):
            numbers = map(schema.json_number, values[at : at + ROWS])
            yield _joined([json.dumps(list(numbers))[1:-1]], start + at)
        epoch = start + len(values)


def _joined(texts: list[str], epoch: int) -> bytes:
    return ((", " if epoch else "") + ", ".join(texts)).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
