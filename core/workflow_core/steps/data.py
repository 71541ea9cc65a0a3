"""Step 1: make the data a spec describes and deal its rows to the three splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workflow_core.errors import WorkflowError
from workflow_core.protocol import DataView, Row, SplitView
from workflow_core.specs import SPLITS, DataSpec
from workflow_core.steps.tensors import tensor_view

MAX_POINTS = 1000
HEAD = 10


@dataclass(frozen=True, eq=False)
class Dataset:
    """The data of one run: `X` and `y` of shape [n, 1], float32, in their unsplit order.

    `indices` holds for each split the rows it was dealt, int64, in the order the split has them.
    """

    spec: DataSpec
    X: Tensor
    y: Tensor
    indices: dict[str, Tensor]
    _parts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """(X, y) of the split `train`, `validation` or `test`, each of shape [rows, 1]; the same tensors every time."""
        if name not in self._parts:
            rows = self.indices[name]
            self._parts[name] = self.X[rows], self.y[rows]
        return self._parts[name]

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on `device`; this very object where it is there already."""
        if self.X.device == torch.device(device):
            return self
        indices = {name: rows.to(device) for name, rows in self.indices.items()}
        return replace(self, X=self.X.to(device), y=self.y.to(device), indices=indices)

    @property
    def x_range(self) -> tuple[float, float]:
        """The least and greatest X."""
        low, high = self.X.aminmax()
        return low.item(), high.item()


def make(spec: DataSpec) -> Dataset:
    """The data of `spec`, on the CPU whatever trains on it later, so that every device sees the same numbers.

    The noise and the shuffled order have a generator of their own, seeded just before; the numbers are those that
    torch.manual_seed(seed) before torch.randn(n, 1) or torch.randperm(n) gives. Raises WorkflowError where float32
    cannot hold the values or tell them apart.
    """
    X = torch.arange(spec.start, spec.stop, spec.step, dtype=torch.float32, device="cpu").unsqueeze(1)
    if bool((X[1:] <= X[:-1]).any()):
        raise WorkflowError(
            "Steps too small",
            f"From {spec.start:g} to {spec.stop:g}, float32 cannot tell values apart that differ by {spec.step:g}.",
            "Choose a larger step, or a range nearer to 0.",
        )
    y = spec.weight * X + spec.bias
    if spec.noise:
        y = y + spec.noise * torch.randn(len(X), 1, generator=_seeded(spec.seed))
    if not bool(torch.isfinite(y).all()):
        raise WorkflowError(
            "Values too large", "Some y are too large for float32.", "Choose a smaller weight, bias, noise or range."
        )
    return Dataset(spec=spec, X=X, y=y, indices=_deal(spec, len(X)))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _deal(spec: DataSpec, n: int) -> dict[str, Tensor]:
    shuffled = spec.split.order == "shuffled"
    order = torch.randperm(n, generator=_seeded(spec.split.seed)) if shuffled else torch.arange(n)
    return dict(zip(SPLITS, torch.split(order, list(spec.split.counts(n))), strict=True))


def view(dataset: Dataset) -> DataView:
    """What the Data screen shows of it."""
    spec, low_high = dataset.spec, dataset.x_range
    return DataView(
        spec=spec,
        rows=len(dataset.X),
        X=tensor_view("X", dataset.X),
        y=tensor_view("y", dataset.y),
        splits=tuple(_split_view(dataset, name) for name in SPLITS),
        head=_head(dataset),
        line=tuple((x, spec.weight * x + spec.bias) for x in low_high),
        truth={"weight": spec.weight, "bias": spec.bias},
        extrapolation=_extrapolation(dataset),
    )


def _split_view(dataset: Dataset, name: str) -> SplitView:
    X, y = (part.flatten().cpu() for part in dataset.split(name))
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
    X, y = dataset.X[:HEAD].flatten().tolist(), dataset.y[:HEAD].flatten().tolist()
    went_to = {}
    for name, rows in dataset.indices.items():
        for row in rows[rows < HEAD].tolist():
            went_to[row] = name
    return tuple(Row(index, X[index], y[index], went_to[index]) for index in range(len(X)))


def _extrapolation(dataset: Dataset) -> str:
    X_train = dataset.split("train")[0]
    low, high = X_train.min(), X_train.max()
    parts = []
    for name in SPLITS[1:]:
        X = dataset.split(name)[0]
        outside = int((X.lt(low) | X.gt(high)).sum())
        if outside:
            parts.append(f"{outside} of {len(X)} {name} rows" if outside < len(X) else f"all {outside} {name} rows")
    if not parts:
        return ""
    where = " and ".join(parts)
    return (
        f"{where[0].upper()}{where[1:]} lie outside the training range of x ({low.item():.4g} to {high.item():.4g}): "
        "there the model extrapolates."
    )
