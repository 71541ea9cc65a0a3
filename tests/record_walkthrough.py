"""Records tests/data/*.frames from a real engine: run it again when the protocol changes.

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
    InspectTable,
    Load,
    MakeData,
    Predict,
    Reply,
    Run,
    Save,
    SetTraining,
    Shutdown,
    Update,
    encode,
)
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.workspace import Workspace

DATA = Path(__file__).parent / "data"
WAIT = 60.0
"""Seconds that anything here may take."""


def walkthrough(folder: Path) -> list[Command]:
    """The course's own way: all defaults."""
    path = str(folder / "model.pt")
    return [
        MakeData(),
        BuildModel(),
        Run(),
        Evaluate(),
        Predict(x=((0.25,), (0.5,), (0.75,))),
        Save(path=path),
        Load(path=path),
    ]


def table(folder: Path) -> list[Command]:
    """A table of one's own, three features, standardised, to a linear model."""
    path, file = str(folder / "table.pt"), str(folder / "patients.csv")
    rows = [(20 + (7 * i) % 50, 18 + (5 * i) % 17 + 0.5, 70 + (11 * i) % 40) for i in range(40)]
    lines = [f"{a},{b},{p},p{i},{2 * a + 9 * b - p + (i * i) % 13}" for i, (a, b, p) in enumerate(rows)]
    Path(file).write_text("age,bmi,pressure,name,progress\n" + "\n".join(lines) + "\n")
    features = ("age", "bmi", "pressure")
    data = DataSpec(kind="table", file=file, features=features, standardize=True, split=SplitSpec(order="shuffled"))
    return [
        InspectTable(path=file),
        MakeData(spec=data),
        BuildModel(spec=ModelSpec(kind="linear")),
        SetTraining(spec=TrainSpec(learning_rate=0.1, momentum=0.5, epochs=60, early_stop=20)),
        Run(),
        Evaluate(),
        Predict(x=((30.0, 25.0, 80.0), (60.0, 30.0, 90.0))),
        Save(path=path, kind="checkpoint"),
        Load(path=path),
    ]


def mlp(folder: Path) -> list[Command]:
    """A network with more numbers than can be shown one by one, on a noisy sine."""
    path = str(folder / "mlp.pt")
    return [
        MakeData(spec=DataSpec(kind="sine", noise=0.05, split=SplitSpec(order="shuffled"))),
        BuildModel(spec=ModelSpec(kind="mlp", hidden=(8, 8), activation="tanh")),
        SetTraining(spec=TrainSpec(optimizer="adam", epochs=60, batch_size=8, scheduler="cosine", clip=1.0)),
        Run(),
        Evaluate(),
        Predict(x=((0.5,),)),
        Save(path=path),
        Load(path=path),
    ]


WALKS = (walkthrough, table, mlp)


async def record(folder: Path, commands: list[Command]) -> list[tuple[str, bytes]]:
    """Every command of a walk, with what the engine said because of it."""
    heard: list[Event] = []
    client = EngineClient(Workspace.open(str(folder / "ws")), heard.append)
    await client.connect(WAIT)
    try:
        async with asyncio.timeout(WAIT):
            while not any(isinstance(e, Update) and getattr(e.engine, "state", "") == "ready" for e in heard):
                await asyncio.sleep(0.05)
            chapters = [("", _frames(heard, folder))]
            for command in commands:
                heard.clear()
                value = await client.request(command, WAIT)
                while isinstance(command, Run) and not _finished(heard):
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
                chapters.append((type(command).__name__, _frames([*heard, Reply(id=1, value=value)], folder)))
    finally:
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
    for walk in WALKS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            target = DATA / f"{walk.__name__}.frames"
            target.write_bytes(msgspec.msgpack.encode(asyncio.run(record(folder, walk(folder)))))
            print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
