"""A training as records, one an epoch: what a script that trains without the engine goes over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from workflow_core.steps.train import Trainer

CHUNK = 64
"""Epochs whose figures stay on an accelerator before they are fetched: every fetch waits for the device."""


class EpochRecord(msgspec.Struct, frozen=True):
    """The figures of one epoch, counted from 0.

    `train_loss` is that of the forward passes, each before its update, as the mean over the rows; `val_loss` (None
    without validation rows) and the tracked `parameters` are those after the epoch. `learning_rate` is the one that its
    steps used, `grad_norm` the L2 norm of all gradients at the last of them, before clipping.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    grad_norm: float
    parameters: dict[str, float]

    @property
    def finite(self) -> bool:
        """False where any figure is NaN or infinite."""
        figures = (self.train_loss, self.val_loss or 0.0, self.learning_rate, self.grad_norm)
        return all(map(math.isfinite, (*figures, *self.parameters.values())))


def records(trainer: Trainer, interrupted: Callable[[], bool] | None = None) -> Iterator[EpochRecord]:
    """The records of `trainer` from where it stands to the end of its spec, as `train` yields them.

    Ends early, perhaps in the middle of an epoch, after the batch by which it is `interrupted`.
    """
    chunk = 1 if trainer.reads_at_once else CHUNK
    while trainer.done < trainer.spec.epochs and not trainer.ended:
        for _ in range(min(chunk, trainer.spec.epochs - trainer.done)):
            if not trainer.advance(interrupted) or (interrupted is not None and interrupted()):
                break
        columns = trainer.fetch()
        yield from _rows(trainer.done - len(columns["train_loss"]), columns)
        if interrupted is not None and interrupted():
            return


def _rows(start: int, columns: dict[str, list[float]]) -> Iterator[EpochRecord]:
    train_loss, learning_rate, grad_norm = (columns.pop(name) for name in ("train_loss", "learning_rate", "grad_norm"))
    val_loss = columns.pop("val_loss", None)
    for at, loss in enumerate(train_loss):
        parameters = {name: column[at] for name, column in columns.items()}
        yield EpochRecord(
            start + at, loss, val_loss[at] if val_loss else None, learning_rate[at], grad_norm[at], parameters
        )
