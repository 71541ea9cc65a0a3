"""Engine and screen end apart from each other: what the one still shows, and what the other goes on doing."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from tests.e2e.processes import processes_of, until_no_processes_of
from tests.e2e.program import engine_pid, epoch, go, ready, start
from tests.e2e.terminal import Terminal

NOTICE_LIMIT = 1.0
"""Seconds from the engine's death to the word of it: about 0.2 measured, a second promised."""
LOST = "The engine has ended"


def run_slowly(terminal: Terminal) -> int:
    """Start a training that takes 50 seconds and wait until it is under way; gives the epoch."""
    terminal.until(ready, timeout=30)
    go(terminal, "3")
    terminal.press("minus", "minus", "minus")
    terminal.until("space runs 100 epochs, 2 epochs/s")
    terminal.press("space")
    return epoch(terminal.until(lambda screen: epoch(screen) >= 2))


def test_a_killed_engine_is_noticed_within_a_second_and_can_be_started_again(workspace: Path) -> None:
    with start(workspace) as terminal:
        reached = run_slowly(terminal)
        first = engine_pid(workspace)
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        screen = terminal.until(LOST)
        assert time.monotonic() - killed < NOTICE_LIMIT
        assert "engine ended" in screen
        assert "SIGKILL" in screen
        # what was there stays there, as the last that was heard
        assert reached <= epoch(screen) < 100
        assert re.search(r"train 0\.\d{4} · val 0\.\d{4}", screen)
        go(terminal, "2")
        terminal.until("0.3367")

        terminal.press("a")
        screen = terminal.until(ready, timeout=30)
        assert engine_pid(workspace) != first
        # what it had done is told, and goes on
        screen = terminal.until("The engine was ended from outside")
        assert "while run 1 was training" in screen
        terminal.press("enter", "3")
        terminal.until("paused")
        terminal.press(" ", "g")
        terminal.until("train 0.0036 · val 0.0189")
        leave_without_saving(terminal)
    until_no_processes_of(workspace)


def test_a_training_outlives_the_screens_that_look_at_it(workspace: Path) -> None:
    with start(workspace) as terminal:
        reached = run_slowly(terminal)
        terminal.press("q")
        terminal.until("A training is running")
        terminal.press("d")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
        assert "The engine goes on" in terminal.screen
    engine = engine_pid(workspace)

    with start(workspace) as terminal:
        # a later screen opens where the training is
        reached = epoch(terminal.until(lambda screen: epoch(screen) > reached, timeout=30))
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit() == 128 + signal.SIGTERM
        terminal.assert_given_back()
        assert "Traceback" not in terminal.screen
        assert "of 100 epochs, running" in terminal.screen
        assert "The engine goes on without the screen" in terminal.screen
    assert set(processes_of(workspace)) == {engine}

    with start(workspace) as terminal:
        reached = epoch(terminal.until(lambda screen: epoch(screen) > reached, timeout=30))
        terminal.hang_up()
        assert terminal.wait_exit() == 128 + signal.SIGHUP
    assert set(processes_of(workspace)) == {engine}

    with start(workspace) as terminal:
        terminal.until(lambda screen: epoch(screen) > reached, timeout=30)
        terminal.press("g")
        terminal.until("finished.")
        terminal.until("train 0.0036 · val 0.0189")
        assert engine_pid(workspace) == engine
        leave_without_saving(terminal)
    until_no_processes_of(workspace)


def test_two_screens_on_one_engine_show_the_same(workspace: Path) -> None:
    with start(workspace) as first, start(workspace, size=(120, 40)) as second:
        second.until(ready, timeout=30)
        run_slowly(first)
        go(second, "3")
        second.until(lambda screen: epoch(screen) >= 2)
        second.press("space")
        paused = epoch(second.until("paused."))
        first.until("paused.")
        first.until(lambda screen: epoch(screen) == paused)
        first.press("full_stop")
        for terminal in (first, second):
            terminal.until(lambda screen: epoch(screen) == paused + 1)
        leave(first, "l")
        assert "another screen is attached" in first.screen
        assert epoch(second.screen) == paused + 1
        assert ready(second.screen)
        leave_without_saving(second)
    until_no_processes_of(workspace)


def leave_without_saving(terminal: Terminal) -> None:
    leave(terminal, "l")


def leave(terminal: Terminal, choice: str) -> None:
    """Leave a model that is in no file, by the key of one of the choices that the program then gives."""
    terminal.press("q")
    terminal.until("The model is in no file")
    terminal.press(choice)
    assert terminal.wait_exit() == 0
    terminal.assert_given_back()
