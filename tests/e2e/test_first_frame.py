"""The screen never waits for torch, and never has it: both are looked up in the running processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.e2e.program import SCREENS, engine_pid, ready, start

HEAVY = ("libtorch", "libc10", "/torch/", "numpy")
pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")


def loaded(pid: int) -> list[str]:
    """What of torch and numpy the process has mapped."""
    return re.findall("|".join(map(re.escape, HEAVY)), Path(f"/proc/{pid}/maps").read_text())


def test_the_first_frame_stands_before_the_engine_has_torch_and_the_screen_never_has_it(workspace: Path) -> None:
    log = workspace / "engine.log"
    with start(workspace) as terminal:
        terminal.until(lambda screen: "2 Build" in screen and "Settings" in screen)
        told = log.read_text()
        assert re.search(r"torch .* loaded", told) is None, "the frame came after torch"
        assert "engine starting" in terminal.screen
        terminal.until(ready, timeout=30)
        terminal.until(lambda _: re.search(r"torch .* loaded", log.read_text()) is not None)
        for key, content in list(SCREENS.items())[1:]:
            terminal.press(key)
            terminal.until(content)
        assert loaded(terminal.pid) == []
        assert "libtorch" in loaded(engine_pid(workspace))
        terminal.press("q")
        assert terminal.wait_exit() == 0
