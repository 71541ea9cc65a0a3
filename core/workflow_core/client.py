"""The one class that knows the socket and the engine process, for whatever stands in front of a person."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable

from workflow_core import __version__, sockets
from workflow_core.errors import WorkflowError
from workflow_core.launcher import child_of, last_word, launch
from workflow_core.protocol import (
    HEADER,
    PROTOCOL_VERSION,
    Answer,
    Command,
    Event,
    Hello,
    Notice,
    ProtocolError,
    Reply,
    Request,
    Unsendable,
    body_length,
    decode_event,
    encode,
)
from workflow_core.workspace import Workspace

__all__ = ["EngineClient", "launch"]

_RETRY = 0.02
_RELAUNCH = 0.5
_RESTART = "Restart the engine: what it had kept last comes back."


class EngineClient:
    """A UI's end of the connection; all its methods belong to one asyncio event loop.

    `on_event` gets every event but the replies, in order, from inside the event loop; `on_lost` gets one sentence
    when the connection ends without `close` having been called. Neither may block or raise. One that is `quiet` has
    no screen for notices, which wait for another UI as well.
    """

    def __init__(
        self,
        workspace: Workspace,
        on_event: Callable[[Event], None] = lambda event: None,
        on_lost: Callable[[str], None] = lambda reason: None,
        *,
        quiet: bool = False,
    ) -> None:
        self.workspace = workspace
        self._quiet = quiet
        self.engine: Hello | None = None
        self._on_event = on_event
        self._on_lost = on_lost
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._farewell = ""

    @property
    def connected(self) -> bool:
        """Is there an engine at the other end?"""
        return self._writer is not None

    async def connect(self, timeout: float = 10.0) -> Hello:
        """Connect to the workspace's engine, which is started where there is none, and exchange hellos.

        Waits up to `timeout` seconds for the socket to answer. Raises WorkflowError: the engine did not start (with the
        last line of its log), is of another version, belongs to another user, or did not answer in time.
        """
        assert self._writer is None, "already connected"
        launch(self.workspace)
        deadline = time.monotonic() + timeout
        relaunch = time.monotonic() + _RELAUNCH
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                return await self._attach(deadline)
            self._check_child()
            if time.monotonic() >= deadline:
                raise self._silent(timeout)
            child = child_of(self.workspace)
            if time.monotonic() >= relaunch and (child is None or child.poll() is not None):
                # the engine that answered a moment ago, or that held the lock against ours, has ended since
                launch(self.workspace)
                relaunch = time.monotonic() + _RELAUNCH
            await asyncio.sleep(_RETRY)

    async def find(self, timeout: float = 1.0) -> Hello | None:
        """Connect to the engine that is there; None where there is none, or it does not answer in time.

        Raises WorkflowError as `connect` does.
        """
        assert self._writer is None, "already connected"
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            return await self._attach(time.monotonic() + timeout)
        return None

    async def request(self, command: Command, timeout: float | None = None) -> Answer:
        """Send a command and wait for its reply: the value it carries, or None.

        Raises WorkflowError: what the engine found wrong, the engine lost, or no reply within `timeout` seconds (the
        command may still be carried out then).
        """
        if self._writer is None:
            raise WorkflowError("No engine", "there is no engine to ask.", _RESTART)
        number = next(self._ids)
        try:
            frame = encode(Request(id=number, command=command))
        except Unsendable as error:
            raise WorkflowError(
                "A name that cannot be sent",
                "the name holds characters that cannot be sent to the engine.",
                "Choose another name, or rename the file.",
            ) from error
        except ProtocolError as error:
            raise WorkflowError("Too much at once", f"{error}.") from error
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._writer.write(frame)
            reply = await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise WorkflowError(
                "No answer yet",
                f"the engine did not answer within {timeout:g} seconds.",
                "It may be busy; wait for it.",
            ) from None
        finally:
            self._pending.pop(number, None)
        if reply.problem is not None:
            raise WorkflowError(reply.problem.title, reply.problem.message, reply.problem.advice)
        return reply.value

    async def close(self) -> None:
        """End the connection; the engine lives on. `on_lost` is not called; pending requests fail."""
        reader, self._reader = self._reader, None
        self._drop("the connection was closed")
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def restart(self, timeout: float = 10.0) -> Hello:
        """Connect anew, to an engine that is started again where the old one has ended or does not answer.

        An engine that does not answer is ended first. Raises WorkflowError as `connect` does.
        """
        await self.close()
        if not sockets.answers(self.workspace.socket):
            await self._end_leftover()
        return await self.connect(timeout)

    async def _attach(self, deadline: float) -> Hello:
        socket = sockets.connect(self.workspace.socket, timeout=0.2)
        try:
            if sockets.peer_uid(socket) != os.getuid():
                raise WorkflowError(
                    "Not our engine",
                    f"the engine of {self.workspace.path} belongs to another user.",
                    "Name another --workspace.",
                )
            socket.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=socket)
        except BaseException:
            socket.close()
            raise
        try:
            name = f"workflow-tui {__version__}"
            writer.write(encode(Hello(version=PROTOCOL_VERSION, name=name, pid=os.getpid(), quiet=self._quiet)))
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                hello = await _read(reader)
            self.engine = self._checked(hello)
        except ProtocolError as error:
            writer.close()
            raise WorkflowError(
                "Not an engine", f"what answers in {self.workspace.path} is no engine: {error}."
            ) from error
        except BaseException:
            writer.close()
            raise
        self._writer, self._farewell = writer, ""
        self._reader = asyncio.create_task(self._read_all(reader), name="engine events")
        return self.engine

    def _checked(self, hello: Event) -> Hello:
        if not isinstance(hello, Hello):
            raise ProtocolError(f"its first frame is a {type(hello).__name__}, not a Hello")
        if hello.version != PROTOCOL_VERSION:
            raise WorkflowError(
                "Another version's engine",
                f"the engine of this workspace (pid {hello.pid}) is {hello.name} and speaks protocol {hello.version}; "
                f"this program speaks {PROTOCOL_VERSION}.",
                f"End that engine (kill {hello.pid}) and start again, or name another --workspace.",
            )
        return hello

    async def _read_all(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                event = await _read(reader)
                if isinstance(event, Reply):
                    future = self._pending.get(event.id)
                    if future is not None and not future.done():
                        future.set_result(event)
                    continue
                if isinstance(event, Notice) and event.last:
                    self._farewell = event.problem.message
                self._on_event(event)
        except ProtocolError as error:
            reason = f"the engine sent something that is not of this protocol: {error}"
        except (EOFError, OSError):
            reason = await self._cause()
        self._reader = None
        self._drop(reason)
        self._on_lost(reason)

    async def _cause(self) -> str:
        """Why the socket ended, in one sentence: what the engine said last, or what its process died of."""
        child = child_of(self.workspace)
        if child is not None and self.engine is not None and child.pid == self.engine.pid:
            for _ in range(10):  # the socket closes a moment before the process can be waited for
                if child.poll() is not None:
                    break
                await asyncio.sleep(_RETRY)
            if child.returncode:
                return self._fate(child.returncode)
        return self._farewell.rstrip(".") or "the engine process has ended"

    def _drop(self, reason: str) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(WorkflowError("The engine is lost", f"{reason}.", _RESTART))

    def _check_child(self) -> None:
        """Raise WorkflowError where the engine that was started from here ended in failure."""
        child = child_of(self.workspace)
        # status 0 is an engine that found another one holding the workspace: that one will answer
        if child is not None and child.poll():
            raise WorkflowError(
                "The engine did not start",
                f"{self._fate(child.returncode)}.",
                f"The whole story is in {self.workspace.log}.",
            )

    def _silent(self, timeout: float) -> WorkflowError:
        pid = self.workspace.engine_pid()
        return WorkflowError(
            "The engine does not answer",
            f"no engine answered in {self.workspace.path} within {timeout:g} seconds.",
            f"End the one that hangs (kill -9 {pid}) and start again." if pid else f"See {self.workspace.log}.",
        )

    def _fate(self, status: int) -> str:
        """How a child of this process ended, by its exit status and its log, as one clause."""
        if status < 0:
            return f"the engine process was killed by {_signal_name(-status)}"
        word = last_word(self.workspace)
        return f"the engine process ended with status {status}" + (f": {word}" if word else " and left no word")

    async def _end_leftover(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.workspace.engine_pid()
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            for _ in range(75):
                if self.workspace.engine_pid() is None:
                    return
                await asyncio.sleep(_RETRY)


async def _read(reader: asyncio.StreamReader) -> Event:
    """The next event. Raises ProtocolError, EOFError (asyncio.IncompleteReadError is one) or OSError."""
    header = await reader.readexactly(HEADER.size)
    return decode_event(await reader.readexactly(body_length(header)))


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
