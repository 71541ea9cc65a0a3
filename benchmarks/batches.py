"""Mini-batches of 256 out of 100,000 rows with 10 features: whole batches fetched beside a DataLoader's row by row."""

from __future__ import annotations

import sys
import warnings

import torch
from harness import compare, promise, table
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from workflow_core import devices
from workflow_core.specs import DataSpec, SplitSpec, TrainSpec
from workflow_core.steps import data
from workflow_core.steps.train import Trainer

BATCH = 256
TRAINER = "Trainer, everything recorded"
WEIGHTS = tuple(0.1 * (at + 1) for at in range(10))
ROWS = SplitSpec(train=1, validation=0, test=0)
DATASET = data.make(DataSpec(kind="plane", weights=WEIGHTS, start=-1, stop=1, step=2 / 100_000, noise=0.1, split=ROWS))


def model() -> nn.Module:
    """The same model for both, drawn anew."""
    torch.manual_seed(42)
    return nn.Linear(len(WEIGHTS), 1)


def loaded() -> float:
    """An epoch as most programs write it."""
    X_train, y_train = DATASET.split("train")
    net, criterion = model(), nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(X_train, y_train), batch_size=BATCH, shuffle=True)
    total = 0.0
    for X, y in loader:
        loss = criterion(net(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(X)
    return 1


def trained() -> float:
    """The same epoch by a Trainer, everything recorded."""
    trainer = Trainer(model(), DATASET, TrainSpec(batch_size=BATCH, device="cpu"))
    trainer.epoch()
    return len(trainer.fetch()["train_loss"])


def main(rounds: int = 15) -> None:
    """Print the table; `rounds` of about a second each. Exit status 1 below five times a DataLoader's rate."""
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    assert len(DATASET.split("train")[0]) == 100_000
    devices.set_threads(BATCH)
    contestants = {"DataLoader(TensorDataset, shuffle=True)": loaded, TRAINER: trained}
    results = compare(contestants, rounds)
    print(table(f"Mini-batch epochs, 100,000 rows x 10 features, batch {BATCH}", "epochs/s", results))
    promise(results, TRAINER, 5.0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
