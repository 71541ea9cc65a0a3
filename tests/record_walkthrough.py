"""Records tests/data/walkthrough.frames from a real engine: run it again when the protocol changes.

python tests/record_walkthrough.py
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from workflow_core.client import EngineClient
from workflow_core.protocol import (
    BuildModel,
    Command,
    Epochs,
    Evaluate,
    Event,
    Load,
    MakeData,
    Predict,
    Reply,
    Run,
    Save,
    Shutdown,
    Update,
    encode,
)
from workflow_core.workspace import Workspace

TARGET = Path(__file__).parent / "data" / "walkthrough.frames"


async def record(folder: Path) -> list[tuple[str, bytes]]:
    """Every command of the walkthrough, with what the engine said because of it."""
    heard: list[Event] = []
    client = EngineClient(Workspace.open(str(folder / "ws")), heard.append)
    await client.connect(60)
    while not any(isinstance(e, Update) and getattr(e.engine, "state", "") == "ready" for e in heard):
        await asyncio.sleep(0.05)
    chapters = [("", _frames(heard, folder))]
    path = str(folder / "model.pt")
    commands: list[Command] = [
        MakeData(),
        BuildModel(),
        Run(),
        Evaluate(),
        Predict(x=(0.25, 0.5, 0.75)),
        Save(path=path),
        Load(path=path),
    ]
    for command in commands:
        heard.clear()
        value = await client.request(command, 60)
        while isinstance(command, Run) and not _finished(heard):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        chapters.append((type(command).__name__, _frames([*heard, Reply(id=1, value=value)], folder)))
    await client.request(Shutdown())
    await client.close()
    return chapters


def _finished(heard: list[Event]) -> bool:
    trainings = [event.training for event in heard if isinstance(event, Epochs | Update)]
    return any(getattr(training, "state", "") == "finished" for training in trainings)


def _frames(events: list[Event], folder: Path) -> bytes:
    """The events as frames, with the temporary folder's name left out."""
    frames = b""
    for event in events:
        text = msgspec.json.encode(event).decode().replace(str(folder), "/home/learner")
        frames += encode(msgspec.json.decode(text, type=Event))
    return frames


def main() -> None:
    """Record and write."""
    with tempfile.TemporaryDirectory() as folder:
        TARGET.write_bytes(msgspec.msgpack.encode(asyncio.run(record(Path(folder)))))
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
