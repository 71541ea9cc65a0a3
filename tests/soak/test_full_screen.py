"""A person is told on the screen what the disk does not take, and a training goes on all the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from tests.e2e.processes import end_processes_of, until_no_processes_of
from tests.e2e.program import epoch, go, ready, start
from tests.e2e.terminal import Terminal
from tests.soak import disks
from tests.soak.table import sizes, tell

from workflow_core.workspace import Workspace


def fill_while_it_trains(terminal: Terminal, folder: Path) -> None:
    """It is told, and when that is read the training has gone on; it goes on to its end."""
    go(terminal, "3")
    terminal.press("minus")
    terminal.press(" ")
    terminal.until(lambda screen: epoch(screen) >= 2)
    with disks.full(folder, 0):
        terminal.until(re.compile("Epochs are not being recorded|The training is not being kept"), timeout=20)
        reached = epoch(terminal.until("disk is full"))
        terminal.press("enter")
        terminal.until(lambda screen: epoch(screen) > max(reached, 10), timeout=20)
    terminal.until("finished.", timeout=60)


@sizes(1, 5)
def test_a_full_disk_is_told_on_the_screen_at_the_start_and_while_it_trains(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 times: on a full disk no engine can start, which is said; with room it starts; it trains on when that ends."""
    monkeypatch.setenv("WORKFLOW_TUI_CHECKPOINT_SECONDS", "0.2")
    survived = 0
    with disks.disk(tmp_path / "disk", "4m") as folder, contextlib.ExitStack() as stack:
        try:
            for at in range(count):
                workspace = folder / str(at)
                stack.callback(end_processes_of, workspace)
                with contextlib.ExitStack() as before:
                    before.enter_context(disks.full(folder, 0))
                    terminal = stack.enter_context(start(workspace, size=(120, 40), cwd=tmp_path))
                    # one that finds room for its few bytes starts, and says what it has no room for
                    screen = terminal.until(re.compile("is full|no room left"), timeout=30)
                    assert "The engine did not start" in screen or "Epochs will not be recorded" in screen
                    assert "Traceback" not in screen
                    if (pid := Workspace(workspace).engine_pid()) is not None:
                        os.kill(pid, signal.SIGKILL)
                    terminal.until("engine ended")
                terminal.press("enter")
                terminal.until(lambda screen: "o  ok" not in screen)
                terminal.press("a")
                terminal.until(ready, timeout=30)
                if count > 1:
                    fill_while_it_trains(terminal, folder)
                terminal.close()
                end_processes_of(workspace)
                disks.remove(workspace)
                survived += 1
        finally:
            tell("full disks, told on the screen at the start and in a training", count, count - survived)
    until_no_processes_of(folder)
