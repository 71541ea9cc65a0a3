"""What a training loses to a terminal that stops reading, and what becomes of the screen on it: nothing."""

from __future__ import annotations

import contextlib
import math
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.conftest import end_engine
from tests.e2e.program import epoch, go, ready, start
from tests.e2e.terminal import Terminal
from tests.soak.machine import Stopwatch, busiest_thread
from tests.soak.runs import ask
from tests.soak.table import PART, sizes, tell

from workflow_core.protocol import Run, SetPace, SetTraining
from workflow_core.specs import TrainSpec
from workflow_core.views import TrainingView
from workflow_core.workspace import Workspace

MINUTE = 60.0
TURNS = 8
ALLOWED = 0.02
"""The part of its speed that a training may lose."""
FULL_WITHIN = 30.0
BACK_WITHIN = 5.0
"""Seconds in which a screen that can write again shows the training as it is now."""


def training(workspace: Workspace) -> TrainingView:
    """The training as it is now."""
    found: TrainingView = ask(workspace, see=lambda told: told.state.get("training")).training
    return found


def flat_out(path: Path) -> Workspace:
    """A workspace whose engine trains as fast as it can."""
    workspace = Workspace.open(path)
    spec = TrainSpec(epochs=10_000_000, device="cpu")
    ask(workspace, SetTraining(spec=spec), SetPace(pace=None), Run())
    return workspace


@contextlib.contextmanager
def screen_on(workspace: Workspace) -> Iterator[Terminal]:
    """A screen that shows the training."""
    with start(workspace.path, size=(120, 40)) as terminal:
        terminal.until(lambda screen: epoch(screen) > 0 and ready(screen), 30)
        yield terminal


@contextlib.contextmanager
def stalled(terminal: Terminal) -> Iterator[None]:
    """It stops reading, and has no more room."""
    with terminal.not_reading():
        until_full(terminal)
        yield
        until_full(terminal)  # what lies in a buffer of the system's may have made some room before the next frame


def until_full(terminal: Terminal) -> None:
    """Wait until the terminal takes nothing more."""
    deadline = time.monotonic() + FULL_WITHIN
    while has_room(terminal):
        assert time.monotonic() < deadline, "the terminal is never full"
        time.sleep(0.05)


def has_room(terminal: Terminal) -> bool:
    """Would the terminal take a byte?"""
    room = select.poll()
    room.register(terminal._slave, select.POLLOUT)
    return bool(room.poll(0))


def there_again(terminal: Terminal, reached: int, within: float) -> None:
    """The screen shows the training as it is, and answers."""
    terminal.until(lambda screen: epoch(screen) >= reached, within)
    go(terminal, "2")
    go(terminal, "3")
    terminal.press("space")
    terminal.until("paused.", within)
    assert "\ufffd" not in terminal.screen


@sizes(2, 60)
def test_a_terminal_that_does_not_read_is_drawn_on_again(count: int, tmp_path: Path) -> None:
    """A minute in which nobody takes what the screen writes: the training goes on, and then the screen does."""
    workspace = flat_out(tmp_path / "w")
    try:
        with screen_on(workspace) as terminal:
            with stalled(terminal):
                before = training(workspace).epoch
                time.sleep(count)
                after = training(workspace).epoch
            begun, wrong = time.monotonic(), "" if after > before else "the training stood"
            try:
                there_again(terminal, after, BACK_WITHIN if count > 10 else 60)  # where it runs beside other tests
            except AssertionError as error:
                wrong = str(error)
            took = time.monotonic() - begun
    finally:
        end_engine(workspace)
    rate = (after - before) / count
    told = f"{rate:,.0f} epochs a second, back in {took:.1f} s"
    tell("seconds of a terminal that does not read", count, count if wrong else 0, told)
    assert not wrong, wrong


class Lap:
    """Epochs by the time that the training of a workspace took for them, other load left out."""

    def __init__(self, workspace: Workspace) -> None:
        pid = workspace.engine_pid()
        assert pid is not None
        self.workspace = workspace
        self.first = training(workspace).epoch
        self.watch = Stopwatch(pid, busiest_thread(pid))

    def rate(self) -> float:
        """Epochs a second so far."""
        seconds = self.watch.own()
        return (training(self.workspace).epoch - self.first) / seconds


@pytest.mark.soak
def test_a_terminal_that_does_not_read_costs_the_training_nothing(tmp_path: Path) -> None:
    """Two engines flat out side by side, in turns with a screen that cannot write and without any, a minute each.

    One turn differs from the next by some percent on a machine that others use, too: their mean is what counts.

    What is compared are the rates of both at the same time, so that the load of the machine weighs on both, and each of
    the two is the one with the screen as often as the other. The time in which a training could run and had no
    processor is left out: two of them and a screen are more than two processors.
    """
    both = [flat_out(tmp_path / name) for name in "ab"]
    ratios: list[float] = []
    try:
        for turn in range(TURNS):
            watched, free = both[turn % 2], both[1 - turn % 2]
            with screen_on(watched) as terminal, stalled(terminal):
                laps = Lap(watched), Lap(free)
                time.sleep(MINUTE * PART)
                ratios.append(laps[0].rate() / laps[1].rate())
    finally:
        for workspace in both:
            end_engine(workspace)
    loss = 1 - math.exp(sum(map(math.log, ratios)) / len(ratios))
    each = " ".join(f"{100 * (1 - ratio):.1f}" for ratio in ratios)
    more = f"{100 * loss:.2f}% of the speed without a screen (in turns: {each})"
    tell("minutes of a terminal that does not read", len(ratios), len(ratios) if loss > ALLOWED else 0, more)
    assert loss <= ALLOWED
