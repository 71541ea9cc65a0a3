"""One attached UI: reads its requests, and tells it what changed at the pace at which it listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable

from workflow_core import __version__, sockets
from workflow_core.engine.board import Board, Subscription
from workflow_core.errors import Problem
from workflow_core.protocol import (
    HEADER,
    PROTOCOL_VERSION,
    Answer,
    Event,
    Hello,
    Message,
    Notice,
    ProtocolError,
    Reply,
    Request,
    body_length,
    decode_message,
    encode,
    request_id,
)

FLUSH = 0.1
"""Seconds between two flushes of events: as many as a screen draws, whatever the epoch rate. Replies do not wait."""
SLACK = FLUSH / 5
"""Seconds by which a flush may come early, rather than have a timer made for it."""
OUTSTANDING = 32
"""Requests of one UI that may be without a delivered reply; it is not read any further until then."""
HELLO_TIMEOUT = 10.0

log = logging.getLogger(__name__)


class Peer:
    """The engine's end of one connection.

    `attached` is true from its hello until it has gone; what one that is `quiet` is told is also told to the next.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, board: Board) -> None:
        self.attached = False
        self.quiet = False
        self.name = "a peer"
        self._reader = reader
        self._writer = writer
        self._events = Subscription(board)
        self._notices: deque[Notice] = deque(maxlen=16)
        self._replies: deque[Reply] = deque()
        self._room = asyncio.Semaphore(OUTSTANDING)
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle = asyncio.Event()

    async def talk(self, on_attached: Callable[[], None], on_request: Callable[[Request], None]) -> None:
        """Exchange hellos, then hand on requests until the peer has gone or broke the protocol."""
        try:
            if sockets.peer_uid(self._writer.get_extra_info("socket")) != os.getuid():
                log.warning("refused a connection of another user")
                return
            self._writer.write(
                encode(Hello(version=PROTOCOL_VERSION, name=f"workflow-tui {__version__}", pid=os.getpid()))
            )
            await self._greet()
            self.attached = True
            on_attached()
            pump = asyncio.create_task(self._tell())
            try:
                while not pump.done():
                    await self._room.acquire()
                    if (request := await self._request()) is not None:
                        on_request(request)
            finally:
                pump.cancel()
        except ProtocolError as error:
            log.warning("dropped %s: %s", self.name, error)
            await self._refuse(str(error))
        except TimeoutError:
            log.warning("dropped %s, which did not say hello", self.name)
        except (EOFError, OSError):
            pass
        finally:
            self.attached = False
            self._writer.close()

    def note(self, event: Notice) -> None:
        """Tell the peer something that no request asked for."""
        self._notices.append(event)
        self.wake()

    def answer(self, number: int, problem: Problem | None, value: Answer) -> None:
        """Reply to request `number`; everything that changed before goes out ahead of it."""
        self._replies.append(Reply(id=number, problem=problem, value=value))
        self._urgent.set()
        self.wake()

    def wake(self) -> None:
        """There is something to send."""
        self._idle.clear()
        self._wake.set()

    @property
    def events(self) -> Subscription:
        """What the peer has yet to be told."""
        return self._events

    async def flushed(self) -> None:
        """Wait until everything has gone out."""
        self._urgent.set()
        self.wake()
        await self._idle.wait()

    def drop(self) -> None:
        """End the connection now, whatever is still on its way."""
        self._writer.transport.abort()

    async def _greet(self) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT):
            message = await self._message()
        if not isinstance(message, Hello):
            raise ProtocolError("the first frame is not a hello")
        self.name = f"{message.name[:80]!r} (pid {message.pid})"
        self.quiet = message.quiet
        if message.version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"this engine (workflow-tui {__version__}) speaks protocol {PROTOCOL_VERSION}, not {message.version}"
            )

    async def _request(self) -> Request | None:
        """The next request; None where it was none that can be carried out, and was answered so."""
        message = await self._message()
        if isinstance(message, Hello):
            raise ProtocolError("a second hello")
        return message

    async def _message(self) -> Message | None:
        body = await self._reader.readexactly(body_length(await self._reader.readexactly(HEADER.size)))
        try:
            return decode_message(body)
        except ProtocolError as error:
            number = request_id(body)
            if number is None or not self.attached:
                raise
            problem = Problem(title="A request that does not fit", message=f"{error}.")
            self.answer(number, problem, None)
            return None

    async def _tell(self) -> None:
        try:
            await self._pump()
        except Exception:
            # a peer that is told nothing any more would wait for ever; one that is cut off can come back
            log.exception("telling %s what changed failed", self.name)
            self.drop()
            self._room.release()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        self.wake()
        flushed = 0.0
        while True:
            await self._wake.wait()
            early = flushed + FLUSH - loop.time()
            if early > SLACK and not self._urgent.is_set():
                # not by wait_for, which takes four turns of the event loop: for each a training gives up the GIL
                timer = loop.call_later(early, self._urgent.set)
                await self._urgent.wait()
                timer.cancel()
            self._wake.clear()
            self._urgent.clear()
            replies = len(self._replies)
            for event in [*self._notices, *self._events.take()]:
                self._send(event)
            self._notices.clear()
            for _ in range(replies):
                self._send(self._replies.popleft())
            flushed = loop.time()
            with contextlib.suppress(OSError):  # a peer that has gone ends talk(), not this task
                await self._writer.drain()
            for _ in range(replies):
                self._room.release()
            if not self._wake.is_set():
                self._idle.set()

    def _send(self, event: Event) -> None:
        try:
            self._writer.write(encode(event))
        except ProtocolError as error:
            log.warning("%s for %s cannot be sent: %s", type(event).__name__, self.name, error)
            problem = Problem(title="This cannot be shown", message=f"the engine's answer cannot be sent: {error}.")
            self._writer.write(
                encode(Reply(id=event.id, problem=problem) if isinstance(event, Reply) else Notice(problem=problem))
            )

    async def _refuse(self, reason: str) -> None:
        problem = Problem(title="The engine refused this connection", message=f"{reason}.")
        self._writer.write(encode(Notice(problem=problem)))
        with contextlib.suppress(OSError, TimeoutError):
            # closing with unread bytes would reset the connection before the peer has read why
            self._writer.write_eof()
            async with asyncio.timeout(0.5):
                while await self._reader.read(65536):
                    pass
