"""What a training costs a slow line, metered on a real terminal: little while it runs, nothing once it is still."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.e2e.program import epoch, go, ready, start
from tests.e2e.terminal import Terminal

from workflow_core.client import EngineClient
from workflow_core.protocol import Command, Pause, Run, SetPace, SetTraining
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace

LIMIT = 10_000
"""Bytes a second that a steady training may write at 120x40."""
STILL = 2.0


def tell(workspace: Path, *commands: Command) -> None:
    """Have the engine do something without touching the screen."""

    async def send() -> None:
        client = EngineClient(Workspace(workspace))
        await client.connect()
        try:
            for command in commands:
                await client.request(command, 10)
        finally:
            await client.close()

    asyncio.run(send())


def rate(terminal: Terminal, epochs: int) -> float:
    """Bytes a second written while so many more epochs are trained."""
    begun = epoch(terminal.screen)
    terminal.meter()
    since = time.monotonic()
    terminal.until(lambda screen: epoch(screen) >= begun + epochs, 60)
    return terminal.meter() / (time.monotonic() - since)


def silence(terminal: Terminal, seconds: float) -> int:
    """Bytes written in so many seconds, once half a second has passed without any."""
    deadline = time.monotonic() + 10
    while (written := terminal.written) >= 0:
        assert time.monotonic() < deadline, "the screen is never still"
        time.sleep(0.5)
        if terminal.written == written:
            break
    time.sleep(seconds)
    return terminal.written - written


def metered(workspace: Path, seconds: float, paces: tuple[int, ...]) -> tuple[dict[int, float], int]:
    """Bytes a second of a training that is looked at for so long at each pace, and the bytes of a paused one."""
    rates = {}
    with start(workspace, size=(120, 40)) as terminal:
        terminal.until(ready, timeout=30)
        go(terminal, "3")
        planned = int(2 * seconds * sum(paces)) + 500
        tell(workspace, SetTraining(spec=TrainSpec(epochs=planned)), SetPace(pace=paces[0]), Run())
        for pace in paces:
            tell(workspace, SetPace(pace=pace))
            rate(terminal, pace // 2)  # the axes find their limits
            rates[pace] = rate(terminal, int(seconds * pace))
        tell(workspace, Pause())
        return rates, silence(terminal, STILL)


def test_a_steady_training_writes_little_and_a_paused_one_nothing(workspace: Path) -> None:
    rates, still = metered(workspace, 1.5, (20, 100))
    assert max(rates.values()) <= LIMIT, rates
    assert still == 0


@pytest.mark.soak
def test_a_long_training_writes_little_at_any_pace(workspace: Path) -> None:
    rates, still = metered(workspace, 20, (20, 50, 100))
    assert max(rates.values()) <= LIMIT, rates
    assert still == 0
