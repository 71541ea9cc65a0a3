"""How an engine ends: what is under way is given its time, and nobody is left without an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workflow_core.client import EngineClient
from workflow_core.engine import server, session
from workflow_core.errors import WorkflowError
from workflow_core.protocol import Answer, Command, Ending, Event, Pause, Save, Shutdown, Update
from workflow_core.workspace import Workspace


class Slow:
    """A session whose every command takes until it is told to end."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def handle(self, command: Command) -> Answer:
        self.begun.set()
        assert self.over.wait(20)
        return None


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(session.Session, "handle", lambda self, command: slow.handle(command))
    return slow


@pytest.fixture
async def client(tmp_path: Path, slow: Slow) -> AsyncIterator[EngineClient]:
    """A client of an engine that lives in this process."""
    workspace = Workspace.open(tmp_path / "w")
    assert workspace.lock() is not None
    served = asyncio.create_task(server.Server(workspace, 600).serve())
    ready = asyncio.Event()

    def take(event: Event) -> None:
        if isinstance(event, Update) and event.engine and event.engine.state == "ready":
            ready.set()

    client = EngineClient(workspace, take)
    async with asyncio.timeout(20):
        while not workspace.socket.exists():
            await asyncio.sleep(0)
        await client.connect()
        await ready.wait()
    yield client
    slow.over.set()
    await client.close()
    async with asyncio.timeout(20):
        await served


async def test_a_save_under_way_is_done_and_reported_before_the_end(client: EngineClient, slow: Slow) -> None:
    saving = asyncio.create_task(client.request(Save(path="m.pt"), 20))
    queued = asyncio.create_task(client.request(Save(path="n.pt"), 20))
    await asyncio.to_thread(slow.begun.wait, 20)
    assert await client.request(Shutdown(if_idle=True), 20) == Ending(ends=True)
    assert not saving.done()
    slow.over.set()
    assert await saving is None
    with pytest.raises(WorkflowError, match="before the file was known to be written"):
        await queued


async def test_a_save_that_hangs_is_not_passed_off_as_done(
    client: EngineClient, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.05)
    saving = asyncio.create_task(client.request(Save(path="m.pt"), 20))
    other = asyncio.create_task(client.request(Pause(), 20))
    await asyncio.to_thread(slow.begun.wait, 20)
    assert await client.request(Shutdown(), 20) == Ending(ends=True)
    for request in (saving, other):
        with pytest.raises(WorkflowError, match="the engine ended before"):
            await request


async def test_an_engine_that_stays_says_so(client: EngineClient) -> None:
    second = EngineClient(client.workspace)
    await second.connect()
    assert await client.request(Shutdown(if_idle=True), 20) == Ending(ends=False)
    assert await second.request(Shutdown(), 20) == Ending(ends=True)
    await second.close()
