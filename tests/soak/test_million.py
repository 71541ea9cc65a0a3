"""The screen is back within a second, however long the training it comes back to has been."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.core.conftest import end_engine
from tests.e2e.program import PROGRAM
from tests.e2e.terminal import Terminal
from tests.soak.table import sizes, tell

from workflow_core.protocol import Run, SetPace, SetTraining
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace

STARTS = 10


def shows(screen: str, epochs: int) -> bool:
    """Does the screen have the training, beyond so many epochs, and a line from their beginning?"""
    found = re.search(r"The loop · epoch ([\d,]+)", screen)
    return found is not None and int(found[1].replace(",", "")) >= epochs and "│epoch 0 " in screen


@sizes(3000, 1_000_000)
async def test_a_long_training_is_on_the_screen_within_a_second(
    count: int, workspace: Workspace, attach: Callable[[Workspace], Any]
) -> None:
    """From the command on the command line to its training on the screen, which goes on flat out meanwhile."""
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=TrainSpec(epochs=20_000_000, device="cpu")))
    await ui.request(SetPace(pace=None))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.history.epochs > count, 600)
    await ui.client.close()
    took = []
    for _ in range(STARTS if count > 10_000 else 1):
        begun = time.monotonic()
        with Terminal([PROGRAM, "--workspace", str(workspace.path)], size=(120, 40)) as terminal:
            terminal.until(lambda screen: shows(screen, count), timeout=20)
            took.append(time.monotonic() - begun)
    slow = sum(seconds > 1 for seconds in took)
    middle, longest = statistics.median(took), max(took)
    what = f"starts of the screen on a training of {count:,} epochs"
    tell(what, len(took), slow, f"there after {middle:.2f} s, at most {longest:.2f}")
    end_engine(workspace)
    assert count < 10_000 or not slow
