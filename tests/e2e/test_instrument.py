"""The Train screen as an instrument, by keys alone on a real engine: a line at a time, any epoch, a branch, a race."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.processes import until_no_processes_of
from tests.e2e.program import go, ready, start


def test_line_by_line_back_in_time_on_as_another_run_and_into_a_race(workspace: Path) -> None:
    with start(workspace, size=(120, 40)) as terminal:
        terminal.until(ready, timeout=30)
        terminal.until("50 rows")
        go(terminal, "3")
        for line in (
            "y_pred [35, 1] 0.1288",
            "loss 0.0922",
            "weight.grad None",
            "weight.grad None → -0.2301",
            "weight 0.3367 → 0.3390 (+0.0023)",
        ):
            terminal.press("s")
            terminal.until(line, timeout=20)
        terminal.until("1 / 100 epochs")
        terminal.press("g")
        terminal.until("flat out")
        terminal.press("space")
        terminal.until("finished. 4 or n")
        terminal.until("weight 0.4398 gap -0.2602 · bias 0.3607 gap +0.0607")

        terminal.press("home")
        terminal.until("epoch 0: train 0.0922 · val 0.1935")
        terminal.until("as after epoch 0")
        terminal.press("semicolon", "semicolon")
        terminal.until("looking at epoch 2 of 0–99")
        terminal.press("k")
        terminal.until("from run 1, epoch 2")
        terminal.until("3 / 100 epochs")
        terminal.press("space")
        terminal.until("weight 0.4398 gap -0.2602 · bias 0.3607 gap +0.0607")

        terminal.press("tab", "tab", "f")
        terminal.until("Loss surface · MSE over weight → and bias ↑")
        terminal.until("least 0.0000 at 0.7000, 0.3000")

        terminal.press("R")
        terminal.until("Several trainings at once")
        terminal.press("enter")
        terminal.until("over. enter takes a lane on", timeout=20)
        terminal.until(re.compile(r"1 . lr 0\.1 +100 +0\.0028"))
        terminal.press("enter")
        terminal.until("The lanes of the race")
        terminal.press("enter")  # the best one stands first
        terminal.until(re.compile(r"run 5 +finished"))
        terminal.until("train 0.0007 · val 0.0028")

        terminal.press("u")
        terminal.until("Runs · 6 runs")
        terminal.press("u")
        terminal.until("q leave")
        terminal.press("q")
        terminal.until("The model is in no file")
        terminal.press("l")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
    until_no_processes_of(workspace)
