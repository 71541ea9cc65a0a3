"""What charts cost a slow line: nothing while they stand still, a few hundred bytes a drawing while they grow."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.e2e.terminal import Terminal

PROGRAM = Path(__file__).with_name("chart_app.py")
DRAWINGS = 20


def test_two_growing_charts_stay_below_ten_kilobytes_a_second_and_still_ones_are_silent(tmp_path: Path) -> None:
    with Terminal([sys.executable, str(PROGRAM), str(tmp_path / "log")], size=(120, 40)) as terminal:
        terminal.until("epoch 204", 20)
        _quiet(terminal)
        begin = terminal.written
        for drawing in range(1, DRAWINGS + 1):
            terminal.press("n")
            terminal.until(f"epoch {204 + 4 * drawing}")
        _quiet(terminal)
        # a hundred drawings in ten seconds, at ten a second
        assert (terminal.written - begin) / DRAWINGS * 10 < 10_000
        terminal.press("q")
        assert terminal.wait_exit() == 0


def _quiet(terminal: Terminal, seconds: float = 0.5) -> None:
    """Wait until nothing has been written for so long; a chart that draws by itself never gets there."""
    end = time.monotonic() + 10
    written, since = terminal.written, time.monotonic()
    while time.monotonic() - since < seconds:
        assert time.monotonic() < end, "the charts are never still"
        time.sleep(0.02)
        if terminal.written != written:
            written, since = terminal.written, time.monotonic()
