"""Reading a kept run for a chart: the same columns of a thousand epochs and of ten million, and epochs one by one."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from harness import Contestant, compare, table

from workflow_core.engine.library import Library
from workflow_core.history import CAP, RECORDED
from workflow_core.protocol import ReadSeries, SeriesAnswer
from workflow_core.specs import WorkflowSpec
from workflow_core.store import Store
from workflow_core.views import RunView

CHUNK = 3000
"""Epochs of a transaction of an engine that does 6,000 a second."""
SERIES = (*RECORDED, "weight", "bias")
COLUMNS = 240
PROMISED = 0.5
"""Seconds that the slowest of them may take."""


def filled(store: Store, epochs: int) -> int:
    """A run of so many epochs."""
    run = store.number()
    view = RunView(run=run, name="", begun=time.time(), elapsed=0.0, spec=WorkflowSpec(), state="running")
    store.begin(view, SERIES)
    for start in range(0, epochs, CHUNK):
        figures = [0.5 + epoch * 1e-9 for epoch in range(start, min(start + CHUNK, epochs))]
        store.append(view, start, dict.fromkeys(SERIES, figures))
        store.flush(60)
    return run


def reader(library: Library, command: ReadSeries) -> Contestant:
    """Asks for columns once."""

    def read() -> float:
        answer = library.answer(command)
        assert isinstance(answer, SeriesAnswer)
        assert answer.series
        return 1

    return read


def main(millions: int = 10, rounds: int = 20) -> str:
    """The table, in answers a second; exit status 1 where the slowest takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "workspace.sqlite")
        library = Library(store)
        short, long = filled(store, 1000), filled(store, millions * 1_000_000)
        everything = ReadSeries(run=long, start=0, stop=sys.maxsize, columns=COLUMNS)
        losses = RECORDED[:2]
        middle = millions * 500_000
        commands = {
            "1,000 epochs": ReadSeries(run=short, start=0, stop=1000, columns=COLUMNS),
            f"{millions} M epochs": everything,
            f"{millions} M epochs, the losses": ReadSeries(
                run=long, start=0, stop=sys.maxsize, columns=COLUMNS, names=losses
            ),
            f"100,000 of {millions} M epochs": ReadSeries(
                run=long, start=middle, stop=middle + 100_000, columns=COLUMNS
            ),
            f"{CAP:,} of {millions} M epochs, each": ReadSeries(run=long, start=middle, stop=middle + CAP, columns=CAP),
        }
        results = compare({name: reader(library, command) for name, command in commands.items()}, rounds)
        store.close()
    text = table(f"Reading a kept run in {COLUMNS} columns (six series)", "answers/s", results)
    slowest = 1 / min(result.rate for result in results)
    if slowest > PROMISED:
        sys.exit(f"{text}\n  NOT KEPT: an answer is to take {PROMISED:g} s at most; the slowest takes {slowest:.2f} s")
    return f"{text}\n  the slowest takes {1000 * slowest:.0f} ms"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
