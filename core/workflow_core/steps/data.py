"""Step 1: make or read the data that a spec describes and deal their rows to the three splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from workflow_core import samples
from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import SPLITS, DataSpec
from workflow_core.steps import formulas, tables
from workflow_core.steps.data_view import view
from workflow_core.steps.formulas import coefficients, truth
from workflow_core.steps.scaling import Scaling
from workflow_core.threads import one_thread

__all__ = ["Dataset", "Scaling", "coefficients", "make", "truth", "view"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
SHOWN_NOTES = 8


@dataclass(frozen=True, eq=False)
class Dataset:
    """The data of one run: `X` [rows, features] and `y` [rows, 1], in the user's own units and unsplit order.

    `indices` holds for each split the rows it was dealt, int64, in the order the split has them. `features` and
    `target` name the columns. `scaling` is set where the model sees standardised columns; `notes` say in a sentence
    each what was done to the rows.
    """

    spec: DataSpec
    X: Tensor
    y: Tensor
    indices: dict[str, Tensor]
    features: tuple[str, ...] = ("x",)
    target: str = "y"
    scaling: Scaling | None = None
    notes: tuple[str, ...] = ()
    source: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    """X and y before they were rounded to the spec's dtype: float64 on the CPU; None where that changed nothing."""
    home: Dataset | None = field(default=None, repr=False)
    """The dataset on the CPU that this one was moved from."""
    _parts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)
    _inputs: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """(X, y) of the split `train`, `validation` or `test` in the user's own units; the same tensors every time."""
        if name not in self._parts:
            rows = self.where(name)
            self._parts[name] = self.X[rows], self.y[rows]
        return self._parts[name]

    def exact(self, name: str) -> tuple[Tensor, Tensor]:
        """(X, y) of a split in the user's own units, on the CPU, as exactly as they are known: before any rounding."""
        home = self.home or self
        if home.source is None:
            return home.split(name)
        rows = home.where(name)
        return home.source[0][rows], home.source[1][rows]

    def truth(self, name: str) -> Tensor:
        """The y of a split that predictions are measured against: [rows, 1], float64 on the CPU, in the user's units.

        A model of standardised columns was never shown the rounded y; any other model was shown nothing else.
        """
        y = (self.exact(name) if self.scaling else self.split(name))[1]
        return y.cpu().double()

    def where(self, name: str) -> Tensor | slice:
        """What picks the rows of a split out of X and y: a slice where that is how one would write it, else indices.

        The columns of what was read are strided; picked by indices they lie in memory as those of a formula do.
        """
        known = (self.home or self).indices
        start = sum(len(known[other]) for other in SPLITS[: SPLITS.index(name)])
        stop = start + len(known[name])
        if self.spec.made and torch.equal(known[name], torch.arange(start, stop)):
            return slice(start, stop)
        return self.indices[name]

    def inputs(self, name: str) -> tuple[Tensor, Tensor]:
        """(X, y) of a split as the model sees them, standardised where the spec asks; the same tensors every time."""
        if self.scaling is None:
            return self.split(name)
        if name not in self._inputs:
            self._inputs[name] = self._scaled(name)
        return self._inputs[name]

    def _scaled(self, name: str) -> tuple[Tensor, Tensor]:
        assert self.scaling is not None
        if self.home is not None:
            # computed in one place, so that every device sees the same numbers
            X, y = self.home.inputs(name)
            return X.to(self.X.device), y.to(self.y.device)
        rows = self.where(name)
        X, y = self.source or (self.X.double(), self.y.double())
        return self.scaling.scale_X(X[rows]).to(self.X.dtype), self.scaling.scale_y(y[rows]).to(self.y.dtype)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on `device`; this very object where it is there already."""
        if self.X.device == torch.device(device):
            return self
        home = self.home or self
        if home.X.device == torch.device(device):
            return home
        indices = {name: rows.to(device) for name, rows in home.indices.items()}
        return replace(self, X=home.X.to(device), y=home.y.to(device), indices=indices, source=None, home=home)

    @property
    def x_range(self) -> tuple[float, float]:
        """The least and greatest value of the first feature."""
        low, high = self.X[:, 0].aminmax()
        return low.item(), high.item()


@one_thread()
def make(spec: DataSpec, folder: Path | None = None) -> Dataset:
    """The data of `spec`, on the CPU whatever trains on it later, so that every device sees the same numbers.

    A relative `spec.file` is looked for in `folder` (the current one where there is none). x, noise and the shuffled
    order have a generator each, seeded just before; the numbers are those that torch.manual_seed(seed) before
    torch.rand(n, features), torch.randperm(n) or torch.randn(n, 1) gives. Raises WorkflowError where the table cannot
    be read, a value is missing, or the dtype cannot hold the values or tell them apart.
    """
    if spec.kind == "table":
        dataset = _table(spec, folder)
    else:
        dataset = _sample(spec) if spec.kind == "sample" else _formula(spec)
    dataset = replace(dataset, notes=(*dataset.notes, *_constant(dataset)))
    if not spec.standardize:
        return dataset
    X, y = dataset.source or (dataset.X, dataset.y)
    rows = dataset.where("train")
    scaled = replace(dataset, scaling=Scaling.fit(dataset.features, dataset.target, X[rows], y[rows]))
    for name in SPLITS:
        if not all(bool(torch.isfinite(part).all()) for part in scaled.inputs(name)):
            raise WorkflowError(
                "Values too large",
                f"Some {name} rows lie so far from the training rows that {spec.dtype} cannot hold them standardised.",
                "Shuffle the rows before they are split, choose float64, or do not standardise.",
            )
    return scaled


def _constant(dataset: Dataset) -> list[str]:
    """A note for every column that is the same in all training rows: nothing can be learnt from it."""
    same = [held for part in dataset.split("train") for held in (part.amin(0) == part.amax(0)).tolist()]
    names = [sanitize(name, 40) for name, held in zip((*dataset.features, dataset.target), same, strict=True) if held]
    if not names:
        return []
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return [f"The same in every training row, so that nothing is learnt from it: {shown}."]


def _formula(spec: DataSpec) -> Dataset:
    X = _x(spec)
    y = formulas.values(spec, X)
    if spec.noise:
        y = y + spec.noise * torch.randn(len(X), 1, generator=_seeded(spec.seed), dtype=X.dtype)
    if not bool(torch.isfinite(y).all()):
        raise WorkflowError(
            "Values too large",
            f"Some y are too large for {spec.dtype}.",
            "Choose smaller coefficients, less noise or a smaller range.",
        )
    return Dataset(spec=spec, X=X, y=y, indices=deal(spec, len(X)), features=formulas.features(spec))


def _x(spec: DataSpec) -> Tensor:
    dtype = DTYPES[spec.dtype]
    if spec.kind == "plane" or spec.spacing == "uniform":
        shape = spec.rows, len(formulas.features(spec))
        X = torch.rand(shape, generator=_seeded(spec.x_seed), dtype=dtype)
        return X * (spec.stop - spec.start) + spec.start
    X = torch.arange(spec.start, spec.stop, spec.step, dtype=dtype, device="cpu").unsqueeze(1)
    if bool((X[1:] <= X[:-1]).any()):
        raise WorkflowError(
            "Steps too small",
            f"From {spec.start:g} to {spec.stop:g}, {spec.dtype} cannot tell values apart "
            f"that differ by {spec.step:g}.",
            "Choose a larger step, or a range nearer to 0.",
        )
    if spec.spacing == "shuffled":
        X = X[torch.randperm(len(X), generator=_seeded(spec.x_seed))]
    return X


def _sample(spec: DataSpec) -> Dataset:
    info = samples.INFO[spec.sample]
    table = torch.tensor(samples.rows(spec.sample), dtype=torch.float64)
    return from_columns(spec, table[:, :-1], table[:, -1:], info.features, info.target)


def _table(spec: DataSpec, folder: Path | None) -> Dataset:
    chosen = tables.choose(spec, folder)
    X, notes = _imputed(chosen, deal(spec, len(chosen.X))["train"])
    return from_columns(spec, X, chosen.y, chosen.features, chosen.target, (*chosen.notes, *notes))


def _imputed(chosen: tables.Chosen, rows: Tensor) -> tuple[Tensor, list[str]]:
    """X with the mean of a column's training `rows` where its values are missing, and notes of it."""
    gaps = torch.isnan(chosen.X)
    counts = gaps.sum(0).tolist()
    if not any(counts):
        return chosen.X, []
    means = torch.nanmean(chosen.X[rows], 0)
    notes = []
    for name, count, mean in zip(chosen.features, counts, means.tolist(), strict=True):
        if count and math.isnan(mean):
            raise WorkflowError(
                "Nothing to impute",
                f"'{sanitize(name, 60)}' has no value in any training row, so there is no mean to put in.",
                "Leave the column out, shuffle the rows, or drop those with missing values.",
            )
        if count:
            which = f"{count:,} missing value{'s' * (count > 1)} of {sanitize(name, 40)}"
            notes.append(f"{which} imputed: {mean:.6g}, the mean of its training rows.")
    if len(notes) > SHOWN_NOTES:
        notes = [*notes[:SHOWN_NOTES], f"Values of {len(notes) - SHOWN_NOTES:,} more columns were imputed."]
    return torch.where(gaps, means, chosen.X), notes


def from_columns(
    spec: DataSpec, X: Tensor, y: Tensor, features: tuple[str, ...], target: str, notes: tuple[str, ...] = ()
) -> Dataset:
    """A dataset of columns that were read: float64, [rows, features] and [rows, 1], without missing values.

    Raises WorkflowError where none of the rows is left for training.
    """
    narrow = [part.to(DTYPES[spec.dtype]) for part in (X, y)]
    return Dataset(
        spec=spec,
        X=narrow[0],
        y=narrow[1],
        indices=deal(spec, len(X)),
        features=features,
        target=target,
        notes=notes,
        source=(X, y) if spec.dtype == "float32" else None,
    )


def deal(spec: DataSpec, n: int) -> dict[str, Tensor]:
    """For each split the rows, out of `n`, that it is dealt. Raises WorkflowError where none is left for training."""
    try:
        spec.split.check_rows(n, "choose a larger training share")
    except ValueError as error:
        message, _, advice = str(error).rpartition("; ")
        sentences = (f"{part[0].upper()}{part[1:]}." for part in (message, advice))
        raise WorkflowError("No rows to train on", *sentences) from error
    shuffled = spec.split.order == "shuffled"
    order = torch.randperm(n, generator=_seeded(spec.split.seed)) if shuffled else torch.arange(n)
    return dict(zip(SPLITS, torch.split(order, list(spec.split.counts(n))), strict=True))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)
