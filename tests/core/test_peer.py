"""The engine's end of a connection: what goes wrong in it is told or ends it, and is never silence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workflow_core.engine.board import Board
from workflow_core.engine.peer import OUTSTANDING, Peer
from workflow_core.protocol import (
    HEADER,
    PROTOCOL_VERSION,
    EngineView,
    Event,
    Hello,
    Notice,
    Pause,
    Request,
    Update,
    body_length,
    decode_event,
    encode,
)

HELLO = encode(Hello(version=PROTOCOL_VERSION, name="a test"))


class Line:
    """A peer and the other end of its connection; requests that arrive are kept unanswered in `asked`."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.asked: list[Request] = []

    async def open(self) -> None:
        near, far = socket.socketpair()
        self.reader, self.writer = await asyncio.open_unix_connection(sock=near)
        self.peer = Peer(*await asyncio.open_unix_connection(sock=far), self.board)
        self.talk = asyncio.create_task(self.peer.talk(lambda: None, self.asked.append))
        self.writer.write(HELLO)

    async def read(self) -> Event:
        header = await self.reader.readexactly(HEADER.size)
        return decode_event(await self.reader.readexactly(body_length(header)))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line(Board(EngineView(log=str(Path("caf\udce9", "engine.log")))))
    await line.open()
    yield line
    line.writer.close()
    line.talk.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await line.talk


async def test_what_cannot_be_sent_is_told(line: Line) -> None:
    async with asyncio.timeout(5):
        assert isinstance(await line.read(), Hello)
        event = await line.read()
        assert isinstance(event, Notice)
        assert "cannot be sent" in event.problem.message
        line.board.fold(Update(engine=EngineView(state="ready")))
        line.peer.events.note(Update(engine=EngineView(state="ready")))
        line.peer.wake()
        event = await line.read()
        assert isinstance(event, Update)
        assert event.engine == EngineView(state="ready")


async def test_a_fault_ends_the_connection_even_where_all_requests_wait(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[Event]:
        raise ZeroDivisionError

    async with asyncio.timeout(5):
        await line.read()
        await line.read()
        line.writer.write(b"".join(encode(Request(id=number, command=Pause())) for number in range(OUTSTANDING + 5)))
        while len(line.asked) < OUTSTANDING:
            await asyncio.sleep(0)
        monkeypatch.setattr(line.peer.events, "take", fail)
        line.peer.wake()
        with contextlib.suppress(ConnectionError):
            assert await line.reader.read() == b""
        await line.talk
    assert not line.peer.attached
    assert "ZeroDivisionError" in caplog.text
