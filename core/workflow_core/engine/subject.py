"""What evaluation, saving and prediction are about: a model together with what it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps.data import Dataset


@dataclass(frozen=True)
class Subject:
    """A model with its data and settings, and the run that trained it so far (0 and None where none did).

    `epoch` epochs are behind it, and `batch` of the `batches` of another one. The losses are those of its last epoch,
    None in the middle of one: they would be those of other weights.
    """

    model: nn.Module
    model_spec: ModelSpec
    dataset: Dataset
    train_spec: TrainSpec
    run: int = 0
    epoch: int = 0
    batch: int = 0
    batches: int = 1
    train_loss: float | None = None
    val_loss: float | None = None
    optimizer_state: dict[str, Any] | None = None
    lr_changes: tuple[tuple[int, float], ...] = ()
