"""Step 3: the training loop, the five lines of it as in any textbook, as fast as its bare form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import torch
from torch import Tensor, nn, optim

from workflow_core.devices import available_devices, pick_device
from workflow_core.specs import Loss, Optimizer, TrainSpec
from workflow_core.steps.data import Dataset

__all__ = [
    "CHUNK",
    "LOSSES",
    "OPTIMIZERS",
    "EpochRecord",
    "Trainer",
    "available_devices",
    "pick_device",
    "records",
    "train",
]

CHUNK = 64
"""Epochs whose figures stay on an accelerator before they are fetched: every fetch waits for the device."""

LOSSES: dict[Loss, Callable[[], nn.Module]] = {
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "smooth_l1": nn.SmoothL1Loss,
}
OPTIMIZERS: dict[Optimizer, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


class EpochRecord(msgspec.Struct, frozen=True):
    """The figures of one epoch, counted from 0.

    `train_loss` is that of the forward pass, before the update; `val_loss` (None without validation rows) and the
    scalar `parameters` are those after it.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    parameters: dict[str, float]

    @property
    def finite(self) -> bool:
        """False where a loss or a parameter is NaN or infinite."""
        # float32 figures cannot overflow a float64 sum, and a sum with a NaN or infinity in it is not finite
        return math.isfinite(self.train_loss + (self.val_loss or 0.0) + sum(self.parameters.values()))


class Trainer:
    """A model in training on the device that `spec` names; it moves `model` there and changes it in place.

    `epoch` is how many epochs the model has behind it already. `done` counts completed epochs. The figures of an epoch
    stay on the device until `fetch`, so that `epoch()` never waits for an accelerator.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, spec: TrainSpec, epoch: int = 0) -> None:
        self.spec = spec
        self.device = pick_device(spec.device)
        self.model = model.to(self.device).train()
        dataset = dataset.to(self.device)
        self.X_train, self.y_train = dataset.split("train")
        self.X_val, self.y_val = dataset.split("validation")
        self.validates = len(self.X_val) > 0
        self.criterion = LOSSES[spec.loss]()
        # one kernel for each of a few tiny tensors is faster than gathering them first
        self.optimizer = OPTIMIZERS[spec.optimizer](self.model.parameters(), lr=spec.learning_rate, foreach=False)
        self.done = epoch
        self._scalars = {name: p for name, p in self.model.named_parameters() if p.numel() == 1}
        self._names = ["train_loss", *(["val_loss"] if self.validates else []), *self._scalars]
        # a CPU figure is there at once; elsewhere reading it would wait for the device, so a copy stays there
        self._on_cpu = self.device.type == "cpu"
        self._keep: Callable[[Tensor], Any] = Tensor.item if self._on_cpu else Tensor.clone
        self._pending: list[Any] = []

    def epoch(self) -> None:
        """One pass over all training rows: five lines, then validation. Does not wait for the device."""
        model, criterion, optimizer = self.model, self.criterion, self.optimizer

        y_pred = model(self.X_train)
        loss = criterion(y_pred, self.y_train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        keep, figures = self._keep, self._pending
        with torch.inference_mode():
            figures.append(keep(loss))
            if self.validates:
                model.eval()
                figures.append(keep(criterion(model(self.X_val), self.y_val)))
                model.train()
            figures.extend(map(keep, self._scalars.values()))
        self.done += 1

    def fetch(self) -> dict[str, list[float]]:
        """The figures of all epochs since the last fetch, in one transfer: a column each, oldest first.

        The columns are `train_loss`, `val_loss` (absent without validation rows) and the scalar parameters by name.
        """
        pending, self._pending = self._pending, []
        if pending and not self._on_cpu:
            values = torch.cat([figure.reshape(1) for figure in pending]).tolist()
        else:
            values = pending
        return {name: values[at :: len(self._names)] for at, name in enumerate(self._names)}


def train(model: nn.Module, dataset: Dataset, spec: TrainSpec) -> Iterator[EpochRecord]:
    """Train `model` in place and yield the record of every epoch.

    Ends after `spec.epochs` epochs, or after the first whose record is not finite. On an accelerator records come
    in chunks, so the model may be up to CHUNK - 1 epochs ahead of the record last yielded. Raises WorkflowError for a
    device that is not there.
    """
    yield from records(Trainer(model, dataset, spec))


def records(trainer: Trainer) -> Iterator[EpochRecord]:
    """The records of `trainer` from where it stands to the end of its spec, as `train` yields them."""
    chunk = 1 if trainer.device.type == "cpu" else CHUNK
    while trainer.done < trainer.spec.epochs:
        start = trainer.done
        for _ in range(min(chunk, trainer.spec.epochs - start)):
            trainer.epoch()
        for record in _rows(start, trainer.fetch()):
            yield record
            if not record.finite:
                return


def _rows(start: int, columns: dict[str, list[float]]) -> Iterator[EpochRecord]:
    train_loss = columns.pop("train_loss")
    val_loss = columns.pop("val_loss", None)
    for at, loss in enumerate(train_loss):
        parameters = {name: column[at] for name, column in columns.items()}
        yield EpochRecord(start + at, loss, val_loss[at] if val_loss else None, parameters)
