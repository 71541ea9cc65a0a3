"""Step 4: how good the model is on each split, and row by row."""

from __future__ import annotations

import math

from torch import Tensor, nn

from workflow_core.specs import SPLITS
from workflow_core.steps.build import forward, spread
from workflow_core.steps.data import Dataset
from workflow_core.views import Metrics, Prediction


def evaluate(model: nn.Module, dataset: Dataset) -> dict[str, Metrics | None]:
    """The metrics of every split in the user's own units, None where it has no rows.

    Predictions are made in the model's own dtype; they are brought to the user's units and the metrics summed up in
    float64, so that these do not depend on the order of the rows and do not overflow where the predictions did not.
    Raises WorkflowError for what goes wrong in a model of the user's own.
    """
    return {name: _metrics(model, dataset, name) for name in SPLITS}


def predictions(model: nn.Module, dataset: Dataset, limit: int = 200) -> dict[str, tuple[Prediction, ...]]:
    """Of every split at most `limit` rows, evenly spread from first to last, with all features and y_pred.

    In the user's own units. Raises WorkflowError as `evaluate` does.
    """
    return {name: _predictions(model, dataset, name, limit) for name in SPLITS}


def _predict(model: nn.Module, dataset: Dataset, name: str, rows: Tensor | None = None) -> Tensor:
    """y_pred of a split, or of some of its rows, in the user's own units: [rows, 1], float64 on the CPU."""
    X = dataset.inputs(name)[0]
    # float64 only after the move to the CPU: MPS has none
    y_pred = forward(model, X if rows is None else X[rows.to(X.device)]).cpu().double()
    return dataset.scaling.unscale_y(y_pred) if dataset.scaling else y_pred


def _metrics(model: nn.Module, dataset: Dataset, name: str) -> Metrics | None:
    y_true = dataset.truth(name)
    if not len(y_true):
        return None
    error = _predict(model, dataset, name) - y_true
    mse = error.square().mean().item()
    centered = y_true - y_true.mean()
    # in units of the widest: squares of numbers beyond 1e±150 leave float64
    unit = centered.abs().max()
    rest = (error / unit).square().sum() / (centered / unit).square().sum()
    constant = bool((y_true == y_true[0]).all())
    return Metrics(
        count=len(y_true),
        mse=mse,
        mae=error.abs().mean().item(),
        rmse=math.sqrt(mse),
        r2=None if constant else 1 - rest.item(),
    )


def _predictions(model: nn.Module, dataset: Dataset, name: str, limit: int) -> tuple[Prediction, ...]:
    X = dataset.split(name)[0]
    if not len(X):
        return ()
    rows = spread(len(X), limit)
    columns = X[rows.to(X.device)].tolist(), dataset.truth(name)[rows].flatten().tolist()
    y_pred = _predict(model, dataset, name, rows).flatten().tolist()
    return tuple(Prediction(tuple(x), y, y_pred) for x, y, y_pred in zip(*columns, y_pred, strict=True))
