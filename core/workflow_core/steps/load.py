"""Step 6: read a file back without trusting it, put it into a fresh model, and prove that it predicts the same.

No file makes code run, makes a model larger than itself, or changes a model that it does not fit.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import Dtype, ModelSpec, WorkflowSpec
from workflow_core.steps import custom, models
from workflow_core.steps.build import build, outputs, spread
from workflow_core.steps.data import Dataset, Scaling
from workflow_core.steps.reading import read
from workflow_core.steps.tensors import device_of, dtype_name
from workflow_core.steps.tracked import Tracked
from workflow_core.views import FileView, Proof

SAMPLES = 8
SLICE = 2**20
"""Rows compared at a time: the comparison needs several numbers of 8 bytes for each."""


@dataclass(frozen=True)
class Loaded:
    """A file in a fresh model: `before` and `after` are the tracked values without and with the file's weights.

    `contents` is the whole file as plain values and CPU tensors; `workflow` the settings it was made with, where it
    holds them. The model predicts `target` from `features`, scaled by `scaling` where that is set.
    """

    file: FileView
    model: nn.Module
    before: dict[str, float]
    after: dict[str, float]
    contents: dict[str, Any]
    workflow: WorkflowSpec | None
    features: tuple[str, ...] = ("x",)
    target: str = "y"
    scaling: Scaling | None = None

    @property
    def epoch(self) -> int | None:
        """The completed epochs that the file tells of."""
        epoch = self.contents.get("epoch") if self.file.kind == "checkpoint" else None
        return epoch if type(epoch) is int else None


def inspect(path: str | os.PathLike[str]) -> FileView:
    """What a file holds, whatever model it is of. Raises WorkflowError for anything but a file of weights."""
    return read(path)[0]


def load(path: str | os.PathLike[str], model_spec: ModelSpec | None = None, dataset: Dataset | None = None) -> Loaded:
    """Read a file into a fresh model of the kind it was saved from.

    A file that does not say, such as a plain state_dict, is put into a model of `model_spec` (the default one where
    there is none) for the features, dtype and scaling of `dataset`. A checkpoint of a class of the user's own needs
    `model_spec` to name that class in a file of the same name: no file makes code run by itself.

    Raises WorkflowError for a file that cannot be read, holds anything but weights, or does not fit; keys, shapes and
    types are all compared before the first number is put in.
    """
    file, contents = read(path)
    checkpoint = file.kind == "checkpoint"
    workflow = _workflow(path, contents) if checkpoint else None
    weights = contents["model_state_dict"] if checkpoint else contents
    features, target, scaling = _columns(path, contents if checkpoint else {}, dataset if workflow is None else None)
    spec = _model_spec(path, workflow.model, model_spec) if workflow else model_spec or ModelSpec()
    if spec.kind == "custom" and (model_spec is None or spec.arguments != model_spec.arguments):
        _check_arguments(path, spec, weights)
    model = _fresh(path, spec, len(features), weights, _dtype(workflow, dataset, weights))
    tracked = Tracked(model)
    before = tracked.read()
    with custom.explained():
        model.load_state_dict(dict(weights))
    return Loaded(file, model, before, tracked.read(), contents, workflow, features, target, scaling)


def _dtype(workflow: WorkflowSpec | None, dataset: Dataset | None, weights: dict[str, Tensor]) -> Dtype:
    if workflow is not None:
        return workflow.data.dtype
    if dataset is not None:
        return dataset.spec.dtype
    return "float64" if any(tensor.dtype == torch.float64 for tensor in weights.values()) else "float32"


def _model_spec(path: str | os.PathLike[str], saved: ModelSpec, named: ModelSpec | None) -> ModelSpec:
    """The model that the file was saved from, with the user's own file in place of the one that the file names."""
    if saved.kind != "custom":
        return saved
    name = Path(saved.file).name
    if named is None or (named.kind, named.class_name, Path(named.file).name) != ("custom", saved.class_name, name):
        wanted = sanitize(f"{name}:{saved.class_name}", 120)
        raise WorkflowError(
            "A model of somebody's own",
            f"{sanitize(os.fspath(path))} holds the weights of {wanted}, whose code is not in it.",
            f"Choose this class as the model (--model path/to/{wanted}), from a file that you trust.",
        )
    return msgspec.structs.replace(saved, file=named.file, arguments=named.arguments or saved.arguments)


def _check_arguments(path: str | os.PathLike[str], spec: ModelSpec, weights: dict[str, Tensor]) -> None:
    """Arguments out of a file could ask for any amount of memory: what they give must have the shapes of the weights.

    Raises WorkflowError where it has others, or where that cannot be told without the memory.
    """
    made = custom.shapes(spec)
    if made is None or len(made) < len(weights):
        wanted = sanitize(", ".join(f"{name}={value!r}" for name, value in spec.arguments.items()), 120)
        raise WorkflowError(
            "Arguments that were not asked for",
            f"{sanitize(os.fspath(path))} wants its class made with {wanted}, which cannot be tried out safely.",
            "Give these arguments with the model (--model-arg NAME=VALUE), if you trust the file.",
        )
    has = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if has != made:
        told = ({name: str(list(shape)) for name, shape in each.items()} for each in (has, made))
        raise _another_model(path, *told)


def _columns(
    path: str | os.PathLike[str], contents: dict[str, Any], dataset: Dataset | None
) -> tuple[tuple[str, ...], str, Scaling | None]:
    """Features, target and scaling that the file tells of, else those of `dataset`, else one feature x."""
    features, target, scaling = contents.get("features"), contents.get("target", "y"), contents.get("scaling")
    if features is None:
        return (dataset.features, dataset.target, dataset.scaling) if dataset else (("x",), "y", None)
    try:
        if not isinstance(features, list) or not features or not all(isinstance(name, str) for name in features):
            raise ValueError("the features have no names")
        if not isinstance(target, str):
            raise ValueError("the target has no name")
        scale = None if scaling is None else Scaling.from_builtins(scaling)
        if scale is not None and scale.features != tuple(features):
            raise ValueError("the scaling is that of other features")
    except ValueError as error:
        raise WorkflowError(
            "Settings that do not fit",
            f"{sanitize(os.fspath(path))} does not say what the model predicts from: {error}.",
            "Load it with the version that saved it.",
        ) from error
    return tuple(features), target, scale


def _fresh(
    path: str | os.PathLike[str], spec: ModelSpec, features: int, weights: dict[str, Tensor], dtype: Dtype
) -> nn.Module:
    """A fresh model that the weights fit into; a model larger than they are is not even made."""
    if spec.kind != "custom":
        shapes = models.shapes(spec, features, dtype).items()
        _check_fit(path, weights, {name: f"{list(shape)} {dtype}" for name, shape in shapes})
    model = build(spec, features, dtype)
    _check_fit(path, weights, {name: _describe(tensor) for name, tensor in model.state_dict().items()})
    return model


def prove(loaded: Loaded, reference_model: nn.Module | None, dataset: Dataset | None) -> Proof | None:
    """Compare predictions of the loaded model bit for bit, in the user's own units, NaN being equal to NaN.

    With `reference_model` and a `dataset` of the same features it is compared with that model over all rows, on the
    device where that model is (devices differ in the last bits), else with the record of predictions in the file; None
    where there is neither.
    """
    if reference_model is not None and dataset is not None and dataset.features == loaded.features:
        model = copy.deepcopy(loaded.model).to(device_of(reference_model))
        expected = outputs(reference_model, dataset.X, dataset.scaling)
        return _compare("this model", dataset.X, expected, outputs(model, dataset.X, loaded.scaling))
    record = loaded.contents.get("proof") if loaded.file.kind == "checkpoint" else None
    if not isinstance(record, Mapping):
        return None
    x, expected = _rows(record.get("x"), len(loaded.features)), _rows(record.get("y_pred"), 1)
    if not len(x) or len(x) != len(expected):
        return None
    return _compare("the saved record", x, expected, outputs(loaded.model, x, loaded.scaling))


def _rows(column: Any, width: int) -> Tensor:
    """[rows, width], float64, of a list of numbers or of rows of them; no rows where it is something else."""
    rows = [row if isinstance(row, list) else [row] for row in column] if isinstance(column, list) else []
    if not all(len(row) == width and all(type(number) is float for number in row) for row in rows):
        rows = []
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, width)


def _compare(against: str, x: Tensor, expected: Tensor, found: Tensor) -> Proof:
    """Rows of equal number, compared as tensors: millions of them as lists would take seconds."""
    expected, found = expected.flatten(), found.flatten()
    worst = torch.zeros((), dtype=torch.float64)
    for a, b in zip(torch.split(expected, SLICE), torch.split(found, SLICE), strict=True):
        same = (a == b) | (a.isnan() & b.isnan())
        if not bool(same.all()):
            difference = (a - b).abs().masked_fill(same, 0.0)
            worst = torch.maximum(worst, difference.max())  # NaN, a number against none, stays the worst of all
    rows = spread(len(x), SAMPLES)
    features = map(tuple, x[rows.to(x.device)].tolist())
    return Proof(
        against=against,
        rows=len(x),
        equal=worst.item() == 0,
        max_difference=worst.item(),
        samples=tuple(zip(features, expected[rows].tolist(), found[rows].tolist(), strict=True)),
    )


def _workflow(path: str | os.PathLike[str], contents: dict[str, Any]) -> WorkflowSpec | None:
    settings = contents.get("workflow")
    if settings is None:
        return None
    try:
        return WorkflowSpec.from_builtins(settings)
    except WorkflowError as error:
        raise WorkflowError(
            "Settings that do not fit",
            f"{sanitize(os.fspath(path))} holds settings that this version cannot use: "
            f"{sanitize(error.problem.message)}",
            "Load it with the version that saved it.",
        ) from error


def _check_fit(path: str | os.PathLike[str], weights: dict[str, Tensor], wants: dict[str, str]) -> None:
    has = {name: _describe(tensor) for name, tensor in weights.items()}
    if has != wants:
        raise _another_model(path, has, wants)


def _another_model(path: str | os.PathLike[str], has: dict[str, str], wants: dict[str, str]) -> WorkflowError:
    return WorkflowError(
        "Another model",
        f"{sanitize(os.fspath(path))} does not fit: it has {_listing(has)}; this model wants {_listing(wants)}.",
        "Choose a file that was saved from this model.",
    )


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {dtype_name(tensor.dtype)}"


def _listing(tensors: dict[str, str]) -> str:
    shown = [f"{sanitize(name, 60)} {what}" for name, what in list(tensors.items())[:6]]
    more = len(tensors) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
