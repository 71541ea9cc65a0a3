"""What comes over the socket and is no frame of today is refused with a word, and disturbs nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

from tests.core.conftest import engine
from tests.core.test_engine import Raw
from tests.soak.table import sizes, tell

from workflow_core.engine import peer
from workflow_core.protocol import (
    HEADER,
    MAX_FRAME,
    PROTOCOL_VERSION,
    Hello,
    Notice,
    Pause,
    Run,
    SetPace,
    SetTraining,
    encode,
)
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace

__all__ = ["engine"]
Attach = Callable[[Workspace], Any]
ANSWER = 2.0
"""Seconds that another screen may wait for an answer meanwhile, on a machine that has other things to do."""


async def served(ui: Any) -> float:
    """Ask the engine for something while it trains; the seconds it took, in which it has trained as well."""
    begun = time.monotonic()
    await ui.request(SetPace(pace=random.uniform(500, 1000)), timeout=10)
    took = time.monotonic() - begun
    epoch = ui.training.epoch
    await ui.until(lambda: ui.training.epoch > epoch)
    return took


async def training(attach: Attach, workspace: Workspace) -> Any:
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=TrainSpec(epochs=10**7, device="cpu")))
    await ui.request(Run(), timeout=60)
    return ui


async def raw(workspace: Workspace) -> Raw:
    """A connection of one's own; more may knock than are let in at once."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return Raw(workspace)
        await asyncio.sleep(0.01)


async def refusal(peer: Raw) -> str:
    """Why the engine has ended a connection; empty where it did without a word."""
    events = await asyncio.to_thread(peer.read_to_end)
    return events[-1].problem.message if events and isinstance(events[-1], Notice) else ""


@sizes(6, 600)
async def test_frames_of_other_versions_and_sizes_are_refused_with_a_word(
    count: int, engine: Workspace, attach: Attach
) -> None:
    """600 connections of another version, or with a frame just above the limit, at it and empty, or far above it."""
    ui = await training(attach, engine)
    rng = random.Random(11)
    at_limit = HEADER.pack(MAX_FRAME)
    kinds: list[tuple[int, bytes, int, str]] = [
        (PROTOCOL_VERSION + 1, b"", 0, f"not {PROTOCOL_VERSION + 1}"),
        (PROTOCOL_VERSION - 1, b"", 0, f"not {PROTOCOL_VERSION - 1}"),
        (2**31, b"", 0, f"not {2**31}"),
        (PROTOCOL_VERSION, HEADER.pack(MAX_FRAME + 1), rng.randrange(4096), "over the limit"),
        (PROTOCOL_VERSION, HEADER.pack(0xFFFFFFFF), 65536, "over the limit"),
        (PROTOCOL_VERSION, HEADER.pack(0), 0, ""),
        (PROTOCOL_VERSION, at_limit, MAX_FRAME, ""),
    ]
    wrong: list[str] = []
    slowest = 0.0
    for at in range(count):
        version, header, body, reason = kinds[at % 6] if at % 60 else kinds[-1]
        one = await raw(engine)
        one.hello(version)
        with contextlib.suppress(ConnectionError):  # refused while it still talks
            await asyncio.to_thread(one.socket.sendall, header + bytes(body))
        said = await refusal(one)
        if not said or reason not in said:
            wrong.append(f"{version} {header!r} {body}: {said!r}")
        slowest = max(slowest, await served(ui))
    tell("frames of other versions and sizes", count, len(wrong), f"others answered within {1000 * slowest:.0f} ms")
    assert not wrong
    assert slowest < ANSWER or count <= 100, "a short one runs beside other tests"
    assert not ui.lost
    await ui.request(Pause())


@sizes(40, 300)
async def test_many_that_stay_silent_or_stop_in_the_middle_keep_nobody_waiting(
    count: int, engine: Workspace, attach: Attach
) -> None:
    """300 at once: nothing said, half a header, half a hello, half of a large frame, and one that drips in slowly."""
    ui = await training(attach, engine)
    hello = encode(Hello(version=PROTOCOL_VERSION, name="slow"))
    starts = [b"", hello[:2], hello[:-3], hello + HEADER.pack(MAX_FRAME) + bytes(100_000), hello + HEADER.pack(99)[:1]]
    begun = time.monotonic()
    waiting: list[tuple[bool, Raw]] = []
    slowest = 0.0
    for at in range(count):
        one = await raw(engine)
        start = starts[at % len(starts)]
        await asyncio.to_thread(one.socket.sendall, start)
        waiting.append((start.startswith(hello), one))
        if at % 20 == 0:
            slowest = max(slowest, await served(ui))
    drip = await raw(engine)
    drip.hello()
    drip.socket.sendall(HEADER.pack(MAX_FRAME))
    # those that did not say hello are let go after a while; the others may take what time they like
    until = begun + peer.HELLO_TIMEOUT + 3 if count > 100 else begun
    while time.monotonic() < until:
        await asyncio.to_thread(drip.socket.sendall, b"\0")
        slowest = max(slowest, await served(ui))
    stayed = [attached for attached, one in waiting if not ended(one)]
    for _, one in [*waiting, (True, drip)]:
        one.socket.close()
    slowest = max(slowest, await served(ui))
    await ui.request(Pause(), timeout=10)
    wrong = 0 if count <= 100 else stayed.count(False) + sum(attached for attached, _ in waiting) - stayed.count(True)
    tell("silent, half and slow connections at once", count, wrong, f"others answered within {1000 * slowest:.0f} ms")
    assert slowest < ANSWER or count <= 100, "a short one runs beside other tests"
    assert not wrong
    assert not ui.lost


def ended(one: Raw) -> bool:
    """Has the engine ended the connection, whatever it said before?"""
    one.socket.setblocking(False)
    try:
        while one.socket.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
