"""A program that its shell has stopped, and takes to the foreground again, stands on the screen as it was."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.program import SCREENS, go, ready, start


def test_what_was_stopped_is_drawn_again_whenever_it_goes_on(workspace: Path) -> None:
    with start(workspace) as terminal:
        terminal.until(ready, timeout=30)
        go(terminal, "2")
        terminal.until("LinearRegressionModel built")
        for _ in range(3):
            terminal.stop()
            assert 1049 not in terminal.modes
            terminal.signal(signal.SIGCONT)
            terminal.until(lambda screen: 1049 in terminal.modes and SCREENS["2"] in screen)
            terminal.until("LinearRegressionModel built")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
