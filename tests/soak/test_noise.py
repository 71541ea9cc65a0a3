"""What the screen survives of random input: no crash, and no freeze of more than two seconds."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import pytest
from tests.e2e.monkey import drive
from tests.e2e.processes import end_processes_of
from tests.e2e.program import PROGRAM
from tests.e2e.terminal import Terminal
from tests.soak.machine import Stopwatch
from tests.soak.table import PART, tell

EVENTS = round(100_000 * PART)
SEEDS = 10
FREEZE = 2.0
"""Seconds in which something must come back."""
LOOK = 0.25


class Watched(Terminal):
    """A terminal whose patience does not count the time that the machine kept the program waiting for a processor."""

    slowest = 0.0

    def until_written(self, since: int, timeout: float = 5.0) -> None:
        """Wait for a sign of life."""
        watch = Stopwatch(self.pid)
        while True:
            try:
                super().until_written(since, LOOK)
                break
            except AssertionError:
                if self.poll() is not None or watch.own() > timeout:
                    raise
        Watched.slowest = max(Watched.slowest, watch.own())

    def send(self, data: bytes, timeout: float = 5.0) -> None:
        """Send it; what a program that does not read is guilty of, the next sign of life tells."""
        super().send(data, 5 * timeout)


@pytest.mark.soak
def test_random_events_neither_crash_nor_freeze_it(tmp_path: Path) -> None:
    """100,000 events by ten seeds: keys, bytes, mouse, pastes, sizes, in sessions of 2,000."""
    first = random.randrange(10**6)
    wrong: list[str] = []
    ends = sent = 0
    Watched.slowest = 0.0
    for seed in range(first, first + SEEDS):
        # names are typed and lists of files are walked: so far down that no number of steps up leads out of it
        home = tmp_path.joinpath(str(seed), *"d" * 100)
        home.mkdir(parents=True)
        workspace = tmp_path / f"w{seed}"
        start = functools.partial(
            Watched,
            [PROGRAM, "--workspace", workspace],
            env={"HOME": str(home), "XDG_STATE_HOME": str(home)},
            cwd=home,
            flow_control=False,
        )
        try:
            journey = drive(start, seed, EVENTS // SEEDS, patience=FREEZE, session=2000, log=workspace / "ui.log")
            ends += journey.ends
            sent += journey.events.total()
        except AssertionError as error:
            wrong.append(str(error))
        finally:
            end_processes_of(workspace)
        engine = workspace / "engine.log"
        if engine.exists() and "Traceback" in (log := engine.read_text(errors="replace")):
            wrong.append(f"seed {seed}: the engine says\n{log[-4000:]}")
    what = f"random events, seeds {first} to {first + SEEDS - 1}"
    tell(what, EVENTS, len(wrong), f"{sent:,} sent, left {ends} times; a probe answered within {Watched.slowest:.2f} s")
    assert not wrong, "\n\n".join(wrong)
    assert sent == EVENTS // SEEDS * SEEDS
