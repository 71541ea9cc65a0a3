"""The 2-parameter model, full batch, in one thread: recording everything beside a bare training loop."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from harness import compare, promise, table
from torch import nn

from workflow_core import devices
from workflow_core.engine.inbox import Inbox
from workflow_core.engine.library import Library
from workflow_core.engine.runner import CHUNK, Runner
from workflow_core.history import History
from workflow_core.protocol import Epochs, Update, encode
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer
from workflow_core.store import Store

EPOCHS = 3000
ENGINE = "engine, everything recorded and stored"
DATASET = data.make(DataSpec())


def bare(foreach: bool | None) -> float:
    """The five lines, both losses, and the four figures that one looks at: nothing else."""
    model = build.build(ModelSpec())
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, foreach=foreach)
    X_train, y_train = DATASET.split("train")
    X_val, y_val = DATASET.split("validation")
    weight, bias = model.parameters()
    figures = []
    for _ in range(EPOCHS):
        y_pred = model(X_train)
        loss = criterion(y_pred, y_train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.inference_mode():
            val_loss = criterion(model(X_val), y_val)
        figures.append((loss.item(), val_loss.item(), weight.item(), bias.item()))
    return len(figures)


def trained() -> float:
    """The same by a Trainer, whose figures are fetched as often as the engine does."""
    trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(epochs=EPOCHS, device="cpu"))
    epochs, fetch_at = 0, time.monotonic() + CHUNK
    while trainer.done < EPOCHS and not trainer.ended:
        trainer.epoch()
        if time.monotonic() >= fetch_at:
            epochs += len(trainer.fetch()["train_loss"])
            fetch_at = time.monotonic() + CHUNK
    return epochs + len(trainer.fetch()["train_loss"])


def engine(library: Library) -> float:
    """The same by the engine's own loop: flat out, every epoch handed to the store, folded and encoded for a screen.

    In the engine folding and encoding are another thread's work; both hold the interpreter's one lock all the same.
    """
    trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(epochs=EPOCHS, device="cpu"))
    history = History()

    def publish(event: Epochs | Update) -> None:
        if isinstance(event, Epochs):
            history.extend(event.series)
        encode(event)

    number = library.number()
    runner = Runner(trainer, DATASET, ModelSpec(), number, None, publish)
    runner.record(library.record(number, DATASET.spec, ModelSpec()))
    runner.begin(None)
    runner.advance(Inbox())
    return history.epochs


def main(rounds: int = 30) -> None:
    """Print the table; `rounds` of about two seconds each. Status 1 where the engine is slower than a bare loop."""
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    devices.set_threads(len(DATASET.X))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "workspace.sqlite")
        library = Library(store, Path(folder))
        contestants = {
            "bare loop": lambda: bare(None),
            "bare loop, foreach=False": lambda: bare(False),
            "Trainer, everything recorded": trained,
            ENGINE: lambda: engine(library),
        }
        try:
            results = compare(contestants, rounds)
        finally:
            library.close()
            store.close()
    print(table("Epochs of the 2-parameter model, full batch", "epochs/s", results))
    promise(results, ENGINE, 1.0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
