"""What the Data screen shows of a dataset: ranges, points, first rows, and which rows lie outside the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workflow_core import samples
from workflow_core.protocol import DataView, Row, SplitView
from workflow_core.sanitize import sanitize
from workflow_core.specs import SPLITS
from workflow_core.steps import formulas
from workflow_core.steps.tensors import tensor_view
from workflow_core.threads import one_thread

if TYPE_CHECKING:
    from workflow_core.steps.data import Dataset

MAX_POINTS = 1000
HEAD = 10
SHOWN_NAMES = 4


@one_thread()
def view(dataset: Dataset) -> DataView:
    """What the Data screen shows of it, in the user's own units."""
    spec = dataset.spec
    return DataView(
        spec=spec,
        rows=len(dataset.X),
        features=dataset.features,
        target=dataset.target,
        X=tensor_view("X", dataset.X),
        y=tensor_view("y", dataset.y),
        splits=tuple(_split_view(dataset, name) for name in SPLITS),
        head=_head(dataset),
        line=formulas.line(spec, *dataset.x_range),
        formula=_formula(dataset),
        coefficients=formulas.coefficients(spec),
        scaling=dataset.scaling.columns() if dataset.scaling else (),
        notes=dataset.notes,
        extrapolation=_extrapolation(dataset),
    )


def _formula(dataset: Dataset) -> str:
    spec = dataset.spec
    if spec.made:
        return formulas.text(spec)
    if spec.kind == "sample":
        return samples.INFO[spec.sample].source
    shown = [sanitize(name, 40) for name in dataset.features[:SHOWN_NAMES]]
    more = len(dataset.features) - len(shown)
    names = ", ".join(shown) + (f" and {more} more" if more else "")
    file = sanitize(spec.file.rpartition("/")[2], 80)
    return f"{sanitize(dataset.target, 40)} from {names}, out of {file}"


def _split_view(dataset: Dataset, name: str) -> SplitView:
    X, y = (part[:, 0].cpu() for part in dataset.split(name))
    share = len(X) / len(dataset.X)
    if not len(X):
        return SplitView(name=name, count=0, share=share, x_range=None, y_range=None, points=())
    rows = _shown_rows(X, y)
    return SplitView(
        name=name,
        count=len(X),
        share=share,
        x_range=(X.min().item(), X.max().item()),
        y_range=(y.min().item(), y.max().item()),
        points=tuple(zip(X[rows].tolist(), y[rows].tolist(), strict=True)),
    )


def _shown_rows(X: Tensor, y: Tensor) -> Tensor:
    """At most MAX_POINTS rows, evenly spread, with the extremes of X and y among them."""
    if len(X) <= MAX_POINTS:
        return torch.arange(len(X))
    extremes = torch.stack([X.argmin(), X.argmax(), y.argmin(), y.argmax()])
    count = MAX_POINTS - len(extremes)
    rows: Tensor = torch.unique(torch.cat([torch.arange(count) * len(X) // count, extremes]))
    return rows


def _head(dataset: Dataset) -> tuple[Row, ...]:
    X, y = dataset.X[:HEAD].tolist(), dataset.y[:HEAD].flatten().tolist()
    went_to = {}
    for name, rows in dataset.indices.items():
        for row in rows[rows < HEAD].tolist():
            went_to[row] = name
    return tuple(Row(index, tuple(X[index]), y[index], went_to[index]) for index in range(len(X)))


def _extrapolation(dataset: Dataset) -> str:
    X_train = dataset.split("train")[0]
    low, high = X_train.amin(0), X_train.amax(0)
    parts = []
    for name in SPLITS[1:]:
        X = dataset.split(name)[0]
        outside = int((X.lt(low) | X.gt(high)).any(1).sum())
        if outside:
            parts.append(f"{outside} of {len(X)} {name} rows" if outside < len(X) else f"all {outside} {name} rows")
    if not parts:
        return ""
    where = " and ".join(parts)
    name = sanitize(dataset.features[0], 40)
    ranges = (
        f"of {name} ({low.item():.4g} to {high.item():.4g})"
        if len(dataset.features) == 1
        else f"of one of the {len(dataset.features)} features"
    )
    return f"{where[0].upper()}{where[1:]} lie outside the training range {ranges}: there the model extrapolates."
