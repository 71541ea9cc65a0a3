"""How soon an engine process answers a command while it trains flat out: the time from a request to its reply."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

from workflow_core.client import EngineClient
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    BuildModel,
    Command,
    MakeData,
    NextLine,
    Pause,
    Run,
    SetLearningRate,
    SetPace,
    SetTraining,
    Shutdown,
)
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.workspace import Workspace

PROMISED = 50.0
"""Milliseconds within which 95 of 100 commands are answered."""
ENDLESS = 1_000_000_000
WEIGHTS = tuple(0.1 * (at + 1) for at in range(10))
ROWS = SplitSpec(train=1, validation=0, test=0)
LARGE = DataSpec(kind="plane", weights=WEIGHTS, start=-1, stop=1, step=2 / 100_000, noise=0.1, split=ROWS)
TRAININGS: dict[str, tuple[DataSpec, ModelSpec, TrainSpec]] = {
    "2 parameters, full batch": (DataSpec(), ModelSpec(), TrainSpec(epochs=ENDLESS, device="cpu")),
    "100,000 rows, mini-batches of 1": (
        LARGE,
        ModelSpec(kind="linear"),
        TrainSpec(epochs=ENDLESS, batch_size=1, device="cpu"),
    ),
}
COMMANDS: dict[str, Command] = {
    "pause": Pause(),
    "one step": Run(steps=1),
    "one epoch": Run(epochs=1),
    "one line": NextLine(),
    "pace": SetPace(),
    "learning rate": SetLearningRate(learning_rate=0.001),
}


async def answers(client: EngineClient, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each command, sent at moments that have nothing to do with where the training is."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    waits = itertools.cycle([0.011 + 0.0073 * at for at in range(17)])
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            await client.request(Run())
            await asyncio.sleep(next(waits))
            start = time.perf_counter()
            await client.request(command)
            taken[name].append((time.perf_counter() - start) * 1000)
    await client.request(Pause())
    return taken


async def measure(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """All trainings, one after the other, by an engine of their own."""
    workspace = Workspace.open(folder)
    client = EngineClient(workspace)
    await client.connect(60)
    try:
        found = {}
        for title, (data, model, training) in TRAININGS.items():
            await client.request(SetTraining(spec=training))
            await client.request(MakeData(spec=data))
            await client.request(BuildModel(spec=model))
            found[title] = await answers(client, rounds)
        return found
    finally:
        await client.request(Shutdown())
        await client.close()
        if (child := child_of(workspace)) is not None:
            child.wait(30)


def percentile(values: list[float], percent: int) -> float:
    """Of 100 of them so many are no greater."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main(rounds: int = 40) -> None:
    """Print the table; exit status 1 where a command is answered too late."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), rounds))
    late = []
    for title, taken in found.items():
        print(f"Answers while training flat out: {title}")
        everything = [value for values in taken.values() for value in values]
        for name, values in {**taken, "all of them": everything}.items():
            half, most, worst = percentile(values, 50), percentile(values, 95), max(values)
            print(f"  {name:<14} {half:7.1f} ms   95% within {most:7.1f} ms   slowest {worst:7.1f} ms")
            late += [f"{title}: {name}, {most:.1f} ms"] if most > PROMISED else []
    if late:
        sys.exit(f"  NOT KEPT: 95% are to be answered within {PROMISED:.0f} ms; {'; '.join(late)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
