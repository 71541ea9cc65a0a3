"""The client says clearly what is wrong with an engine, and never leaves a request waiting for a dead one."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from workflow_core import sockets
from workflow_core.client import EngineClient
from workflow_core.errors import WorkflowError
from workflow_core.launcher import LOG_LIMIT, last_word, launch
from workflow_core.protocol import (
    HEADER,
    MAX_FRAME,
    PROTOCOL_VERSION,
    Event,
    Hello,
    Notice,
    Pause,
    Reply,
    Request,
    Save,
    body_length,
    decode_message,
    encode,
)
from workflow_core.workspace import Workspace

HELLO = encode(Hello(version=PROTOCOL_VERSION, name="fake", pid=4711))
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Fake = Callable[[Talk], Awaitable[None]]


@pytest.fixture
async def fake(workspace: Workspace) -> AsyncIterator[Fake]:
    """An engine that says what a test makes it say, then closes the connection."""
    servers: list[asyncio.Server] = []

    async def serve(talk: Talk) -> None:
        async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(EOFError, OSError):
                await talk(reader, writer)
            writer.close()

        servers.append(await asyncio.start_unix_server(welcome, sock=sockets.listen(workspace.socket)))

    yield serve
    for server in servers:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> Request:
    while True:
        message = decode_message(await reader.readexactly(body_length(await reader.readexactly(HEADER.size))))
        if isinstance(message, Request):
            return message


async def test_another_version_is_named_with_what_to_do(workspace: Workspace, fake: Fake) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Hello(version=PROTOCOL_VERSION + 1, name="workflow-tui 9.9", pid=4711)))
        await reader.read()

    await fake(talk)
    with pytest.raises(WorkflowError, match=r"workflow-tui 9\.9") as caught:
        await EngineClient(workspace).connect(2)
    assert "kill 4711" in caught.value.problem.advice


@pytest.mark.parametrize(
    "frame",
    [encode(Notice(problem=WorkflowError("t", "m").problem)), HEADER.pack(3) + b"abc", HEADER.pack(MAX_FRAME + 1)],
)
async def test_what_is_no_engine_is_refused(workspace: Workspace, fake: Fake, frame: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame)
        await reader.read()

    await fake(talk)
    with pytest.raises(WorkflowError, match="is no engine"):
        await EngineClient(workspace).connect(2)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (b"", "the engine process has ended"),
        (encode(Notice(problem=WorkflowError("t", "it was told to end.").problem, last=True)), "it was told to end"),
        (encode(Notice(problem=WorkflowError("t", "the disk is full.").problem)), "the engine process has ended"),
        (HEADER.pack(2) + b"\xc1\xc1", "not of this protocol"),
        (HEADER.pack(MAX_FRAME + 1), "limit"),
        (HEADER.pack(100) + b"half", "the engine process has ended"),
    ],
)
async def test_a_lost_engine_ends_every_request(workspace: Workspace, fake: Fake, end: bytes, reason: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await read_request(reader)
        await read_request(reader)
        writer.write(end)

    await fake(talk)
    lost: list[str] = []
    client = EngineClient(workspace, on_lost=lost.append)
    await client.connect(2)
    results = await asyncio.gather(client.request(Pause()), client.request(Pause()), return_exceptions=True)
    for result in results:
        assert isinstance(result, WorkflowError)
        assert reason in str(result)
    assert len(lost) == 1
    assert reason in lost[0]
    assert not client.connected
    with pytest.raises(WorkflowError, match="no engine"):
        await client.request(Pause())


async def test_replies_find_their_requests_in_any_order(workspace: Workspace, fake: Fake) -> None:
    problem = WorkflowError("No", "this cannot be done.").problem

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        first, second = await read_request(reader), await read_request(reader)
        for event in (Reply(id=99), Reply(id=second.id), Reply(id=first.id, problem=problem)):
            writer.write(encode(event))
        await reader.read()

    await fake(talk)
    client = EngineClient(workspace)
    await client.connect(2)
    first, second = await asyncio.gather(client.request(Pause()), client.request(Pause()), return_exceptions=True)
    assert second is None
    assert isinstance(first, WorkflowError)
    assert first.problem == problem
    await client.close()


async def test_closing_is_no_loss(workspace: Workspace, fake: Fake) -> None:
    seen: list[Event] = []
    lost: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await reader.read()

    await fake(talk)
    client = EngineClient(workspace, seen.append, lost.append)
    await client.connect(2)
    with pytest.raises(WorkflowError, match="did not answer within"):
        await client.request(Pause(), timeout=0.01)
    pending = asyncio.ensure_future(client.request(Pause()))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(WorkflowError, match="closed"):
        await pending
    assert (seen, lost) == ([], [])


async def test_a_name_that_cannot_be_sent_is_refused_and_the_connection_stays(workspace: Workspace, fake: Fake) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        request = await read_request(reader)
        writer.write(encode(Reply(id=request.id)))
        await reader.read()

    await fake(talk)
    client = EngineClient(workspace)
    await client.connect(2)
    with pytest.raises(WorkflowError, match="the name holds characters that cannot be sent"):
        await client.request(Save(path="caf\udce9.pt"))
    assert await client.request(Pause(), timeout=5) is None
    await client.close()


async def test_an_engine_that_says_nothing_is_given_up(workspace: Workspace, fake: Fake) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    await fake(talk)
    with pytest.raises(WorkflowError, match="no engine answered"):
        await EngineClient(workspace).connect(0.3)


async def test_an_engine_that_cannot_start_says_why(workspace: Workspace) -> None:
    workspace.lock_file.mkdir()
    with pytest.raises(WorkflowError) as caught:
        await EngineClient(workspace).connect(20)
    assert "engine.lock in it is a link, or not a file of yours" in caught.value.problem.message
    assert str(workspace.log) in caught.value.problem.advice


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("kill -SEGV $$", "was killed by SIGSEGV."),
        ("exit 3", "ended with status 3 and left no word."),
        ("echo a last word. >&2; exit 3", "ended with status 3: a last word."),
    ],
)
async def test_an_engine_that_fails_is_not_blamed_for_what_another_said(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, said: str
) -> None:
    workspace.log.write_text("the word of an older engine\n")
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{end}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(WorkflowError) as caught:
        await EngineClient(workspace).connect(10)
    assert caught.value.problem.message == f"the engine process {said}"


def test_the_last_word_is_found_in_a_log_that_was_set_aside(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.log.write_text("x\n" * 5_000)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    launch(workspace)
    assert last_word(workspace) == ""
    workspace.log.write_text("newer.\n")
    assert last_word(workspace) == "newer"


def test_a_log_that_has_grown_is_set_aside(workspace: Workspace) -> None:
    workspace.lock_file.mkdir()
    workspace.log.write_bytes(b"x" * (LOG_LIMIT + 1))
    launch(workspace)
    assert workspace.log.stat().st_size < LOG_LIMIT
    assert workspace.log.with_suffix(".log.1").stat().st_size == LOG_LIMIT + 1


def test_launching_needs_next_to_nothing() -> None:
    code = "import sys, workflow_core.launcher; print(*(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "msgspec" in loaded
    assert not {"asyncio", "torch", "numpy", "textual", "platformdirs", "tomllib", "logging"} & set(loaded)
