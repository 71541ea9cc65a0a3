"""A recorded engine: a client that answers commands with what a real engine once said, without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    Answer,
    Command,
    EngineView,
    Event,
    Hello,
    Reply,
    Request,
    Steps,
    Update,
    body_length,
    decode_event,
    encode,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec

DATA = Path(__file__).parent.parent / "data"
RECORDING = DATA / "walkthrough.frames"
"""Frames of one session, as they went over the socket: each request followed by what the engine said because of it."""
TABLE, MLP = DATA / "table.frames", DATA / "mlp.frames"
"""The same of three standardised features of a table, and of a network with too many numbers to show each."""


class Recorded(msgspec.Struct, frozen=True):
    """What one command led to."""

    reply: Reply
    events: tuple[Event, ...]


class Chapter(msgspec.Struct, frozen=True, array_like=True):
    """A command's name, its reply and the events that came before the next command, as frames."""

    command: str
    frames: bytes


def load(path: Path = RECORDING) -> tuple[list[Event], dict[str, Recorded]]:
    """The events before the first command, and what each kind of command led to."""
    chapters = msgspec.msgpack.decode(path.read_bytes(), type=list[Chapter])
    start = list(_events(chapters[0].frames))
    answers = {}
    for chapter in chapters[1:]:
        events = list(_events(chapter.frames))
        reply = next(event for event in events if isinstance(event, Reply))
        answers[chapter.command] = Recorded(reply, tuple(event for event in events if event is not reply))
    return start, answers


def _events(frames: bytes) -> Iterator[Event]:
    while frames:
        end = 4 + body_length(frames[:4])
        yield decode_event(frames[4:end])
        frames = frames[end:]


class ReplayClient:
    """Says what the recording says. `asked` keeps the commands, `held` holds back the events of a kind of command."""

    def __init__(
        self, on_event: Callable[[Event], None], on_lost: Callable[[str], None], recording: Path = RECORDING
    ) -> None:
        self.on_event = on_event
        self.on_lost = on_lost
        self.start, self.answers = load(recording)
        self.asked: list[Command] = []
        self.problems: dict[str, WorkflowError] = {}
        self.restarts = 0
        self.closed = False

    async def connect(self, timeout: float = 10.0) -> Hello:
        """The recorded start."""
        for event in self.start:
            self.on_event(event)
        return Hello(version=1, name="replay")

    async def request(self, command: Command, timeout: float | None = None) -> Answer:
        """The recorded events of this kind of command, then its value."""
        encode(Request(id=1, command=command))  # what cannot be sent must not pass here either
        self.asked.append(command)
        name = type(command).__name__
        if name in self.problems:
            raise self.problems[name]
        if name not in self.answers:
            return None
        for event in self.answers[name].events:
            self.on_event(event)
        return self.answers[name].reply.value

    async def close(self) -> None:
        """Nothing to end."""
        self.closed = True

    async def restart(self, timeout: float = 10.0) -> Hello:
        """A fresh engine, which is ready at once."""
        self.restarts += 1
        self.on_event(
            Update(
                engine=EngineView(state="ready", torch_version="2.13.0", devices=("cpu",)),
                steps=Steps(),
                data_spec=DataSpec(),
                model_spec=ModelSpec(),
                train_spec=TrainSpec(),
                data=None,
                model=None,
                training=None,
                history=None,
                loop=None,
                race=None,
                evaluation=None,
                saved=None,
                loaded=None,
            )
        )
        return Hello(version=1, name="replay")

    def commands(self, kind: type) -> list[Command]:
        """The commands of one kind that were asked."""
        return [command for command in self.asked if isinstance(command, kind)]
