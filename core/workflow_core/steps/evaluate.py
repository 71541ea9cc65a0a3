"""Step 4: how good the model is on each split, and row by row."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workflow_core.protocol import Metrics, Prediction
from workflow_core.specs import SPLITS
from workflow_core.steps.build import inference
from workflow_core.steps.data import Dataset
from workflow_core.steps.tensors import device_of


def evaluate(model: nn.Module, dataset: Dataset) -> dict[str, Metrics | None]:
    """The metrics of every split, None where it has no rows.

    Predictions are the model's own float32 ones; the metrics are summed up in float64, so they do not depend on the
    order of the rows and do not overflow where the predictions did not.
    """
    return {name: _metrics(model, dataset, name) for name in SPLITS}


def predictions(model: nn.Module, dataset: Dataset, limit: int = 200) -> dict[str, tuple[Prediction, ...]]:
    """Of every split at most `limit` rows, evenly spread from first to last, with their predictions."""
    return {name: _predictions(model, dataset, name, limit) for name in SPLITS}


def _predict(model: nn.Module, X: Tensor) -> Tensor:
    with inference(model):
        return model(X.to(device_of(model))).cpu()  # type: ignore[no-any-return]


def _metrics(model: nn.Module, dataset: Dataset, name: str) -> Metrics | None:
    X, y = dataset.split(name)
    if not len(X):
        return None
    # float64 only after the move to the CPU: MPS has none
    y_true = y.cpu().double()
    error = _predict(model, X).double() - y_true
    squared = error.square()
    mse = squared.mean().item()
    spread = (y_true - y_true.mean()).square().sum().item()
    constant = bool((y_true == y_true[0]).all())
    return Metrics(
        count=len(X),
        mse=mse,
        mae=error.abs().mean().item(),
        rmse=math.sqrt(mse),
        r2=None if constant else 1 - squared.sum().item() / spread,
    )


def _predictions(model: nn.Module, dataset: Dataset, name: str, limit: int) -> tuple[Prediction, ...]:
    X, y = dataset.split(name)
    if len(X) > limit:
        rows = torch.arange(limit, device=X.device) * (len(X) - 1) // max(limit - 1, 1)
        X, y = X[rows], y[rows]
    if not len(X):
        return ()
    columns = (part.flatten().tolist() for part in (X, y, _predict(model, X)))
    return tuple(Prediction(*row) for row in zip(*columns, strict=True))
