"""Step 5: write the model to a file that plain PyTorch can read, whole or not at all, sealed by a SHA-256."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from workflow_core import atomic
from workflow_core.archive import seal
from workflow_core.specs import SaveKind, WorkflowSpec
from workflow_core.steps import custom
from workflow_core.steps.build import predict, spread
from workflow_core.steps.data import Dataset
from workflow_core.steps.tensors import on_cpu

FORMAT_VERSION = 2
"""1 had one feature `x`, and neither scaling nor the text of a class."""
PROOF_ROWS = 16


def save(
    path: str | os.PathLike[str],
    kind: SaveKind,
    model: nn.Module,
    *,
    workflow: WorkflowSpec,
    epoch: int,
    train_loss: float | None,
    val_loss: float | None,
    optimizer_state: dict[str, Any] | None,
    dataset: Dataset | None,
    overwrite: bool,
    lr_changes: Sequence[tuple[int, float]] = (),
    batch: int = 0,
    batches: int = 1,
) -> Path:
    """Write `model` to `path` and return the real file; `epoch` counts the epochs it has been trained for.

    Where it was left in the middle of another one, `batch` of that one's `batches` are behind it as well.

    `lr_changes` are learning rates that were set by hand on the way, each with the epoch that used it first: with them
    the settings alone do not give this model again.

    `state_dict` is the plain state_dict. `checkpoint` also holds the optimizer's state, the losses, all settings, what
    the model predicts from and how that is scaled, the text of a class of the user's own (to read, never to run), and a
    record of predictions, by which a fresh process can prove that it predicts the same.
    Everything is a plain value or a CPU tensor, so that torch.load(path) reads both with its safe defaults on any
    machine. Raises WorkflowError; then a file that was there is as it was.
    """
    weights = on_cpu(model.state_dict())
    contents = weights
    if kind == "checkpoint":
        contents = {
            "format_version": FORMAT_VERSION,
            "torch_version": str(torch.__version__),
            "epoch": epoch,
            "batch": batch,
            "batches": batches,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "model_state_dict": weights,
            "optimizer_state_dict": on_cpu(optimizer_state),
            "workflow": msgspec.to_builtins(workflow),
            "lr_changes": [list(change) for change in lr_changes],
            **_columns(dataset),
            "class_text": custom.source(model),
            "proof": _proof(model, dataset),
        }
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return atomic.write(path, seal(buffer.getvalue()), overwrite=overwrite)


def _columns(dataset: Dataset | None) -> dict[str, Any]:
    if dataset is None:
        return {}
    scaling = dataset.scaling.to_builtins() if dataset.scaling else None
    return {"features": list(dataset.features), "target": dataset.target, "scaling": scaling}


def _proof(model: nn.Module, dataset: Dataset | None) -> dict[str, Any] | None:
    """Some rows of features (numbers over the range of a single one) with y_pred, in the user's own units."""
    if dataset is None:
        return None
    x: list[Any]
    if len(dataset.features) == 1:
        x = torch.linspace(*dataset.x_range, PROOF_ROWS, dtype=torch.float64).tolist()
    else:
        x = dataset.X[spread(len(dataset.X), PROOF_ROWS).to(dataset.X.device)].tolist()
    return {"x": x, "y_pred": predict(model, x, dataset.scaling)}
