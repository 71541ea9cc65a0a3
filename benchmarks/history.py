"""Recording the thousandth and the ten-millionth epoch: what a run's length costs its loop, its memory and its disk."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from harness import Result, table

from workflow_core.history import RECORDED, History
from workflow_core.specs import WorkflowSpec
from workflow_core.store import Store
from workflow_core.views import RunView

CHUNK = 300
"""Epochs between two fetches of an engine that does 6,000 a second."""
SERIES = (*RECORDED, "weight", "bias")


def record(history: History, store: Store, view: RunView, start: int) -> float:
    """Seconds to fold a chunk of epochs into the history and to hand it to the store."""
    columns = {name: [0.5 + epoch * 1e-9 for epoch in range(start, start + CHUNK)] for name in SERIES}
    begun = time.perf_counter()
    history.extend(columns)
    store.append(view, start, columns)
    return time.perf_counter() - begun


def main(millions: int = 10) -> str:
    """The table: epochs recorded a second at the start, and after so many millions; the memory and disk they took."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "workspace.sqlite")
        view = RunView(
            run=store.number(), name="", begun=time.time(), elapsed=0.0, spec=WorkflowSpec(), state="running"
        )
        store.begin(view, SERIES)
        history = History()
        marks = {10_000: "the first 10,000 epochs", 1_000_000: "up to 1,000,000", millions * 1_000_000: f"{millions} M"}
        results: list[Result] = []
        sizes: list[str] = []
        seconds: deque[float] = deque(maxlen=300)
        for start in range(0, millions * 1_000_000 + CHUNK, CHUNK):
            seconds.append(record(history, store, view, start))
            if start % (200 * CHUNK) == 0:
                store.flush(60)
            for mark in [mark for mark in marks if start + CHUNK >= mark]:
                recent = sorted(seconds)
                rate = CHUNK / recent[len(recent) // 2]
                ratio = rate / results[0].rate if results else 1.0
                results.append(Result(marks.pop(mark), rate, ratio, ratio, ratio))
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
                sizes.append(f"{peak:.0f} MB")
        store.flush(60)
        disk = (Path(folder) / "workspace.sqlite").stat().st_size / 1e6
        store.close()
    text = table("Recording epochs (history and store, six series)", "epochs/s", results)
    return f"{text}\n  memory of the process at its most, after each: {', '.join(sizes)}; {disk:,.0f} MB on disk"


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
