"""Step 2: build the model a spec describes, and ask any model for its numbers and predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.sanitize import sanitize
from workflow_core.specs import Dtype, InitSpec, ModelSpec, TrainSpec
from workflow_core.steps import custom, linear
from workflow_core.steps.data import Dataset, Scaling
from workflow_core.steps.losses import make_criterion
from workflow_core.steps.models import STRAIGHT, LinearRegressionModel, construct
from workflow_core.steps.own import undisturbed
from workflow_core.steps.tensors import DTYPES, device_of, dtype_of, tensor_view
from workflow_core.views import ModelView, Point

__all__ = ["LinearRegressionModel", "build", "inference", "line", "outputs", "pairs", "predict", "view"]

CURVE_POINTS = 101
MAX_TEXT = 20_000
SLICE = 2**18
"""Rows predicted at a time: the hidden layers of all of them together could fill the memory."""


def build(spec: ModelSpec, features: int = 1, dtype: Dtype = "float32") -> nn.Module:
    """A fresh model for so many features, on the CPU, with all its floating point numbers of `dtype`.

    Its parameters are drawn in float32 with torch's global generator seeded just before, and then converted; zeros and
    given values are put in afterwards, so that they never move what is drawn. Raises WorkflowError.
    """
    if spec.kind == "custom":
        return custom.build(spec, features, dtype, lambda model: initialise(model, spec.init))
    torch.manual_seed(spec.init.seed)
    model = construct(spec, features, dtype).to(DTYPES[dtype])
    initialise(model, spec.init)
    return model


def initialise(model: nn.Module, init: InitSpec) -> None:
    """Put zeros and given values into a model that was drawn. Raises WorkflowError for names and counts it has not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        if init.kind == "zeros":
            for parameter in parameters.values():
                parameter.zero_()
        for name, value in init.values.items():
            if name not in parameters:
                raise _misfit(f"The model has no parameter {sanitize(name, 60)}", parameters)
            parameter = parameters[name]
            if not isinstance(value, tuple):
                parameter.fill_(value)
            elif len(value) == parameter.numel():
                parameter.copy_(torch.tensor(value, dtype=torch.float64).reshape(parameter.shape))
            else:
                given = f"{len(value)} values are given" if len(value) != 1 else "1 value is given"
                raise _misfit(f"{given} for {sanitize(name, 60)}, which holds {parameter.numel():,}", parameters)


def _misfit(what: str, parameters: dict[str, nn.Parameter]) -> WorkflowError:
    has = [f"{sanitize(name, 60)} {list(parameter.shape)}" for name, parameter in list(parameters.items())[:8]]
    more = f" and {len(parameters) - 8} more" if len(parameters) > 8 else ""
    return WorkflowError(
        "Initial values that do not fit",
        f"{what}; it has {', '.join(has)}{more}.",
        "A single number fills a parameter, a list gives each of its elements.",
    )


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Eval mode under inference_mode; afterwards the model is as it was, and every module in the mode it was in.

    Raises WorkflowError for what a model of the user's own raises inside.
    """
    with undisturbed(model), custom.evaluating(model), torch.inference_mode(), custom.explained():
        yield


def forward(model: nn.Module, X: Tensor) -> Tensor:
    """Predictions of shape [n, 1] for inputs [n, features] as the model sees them, on its device.

    Raises WorkflowError where a model of the user's own gives something else.
    """
    X = X.to(device_of(model), dtype_of(model))
    with inference(model):
        parts = [model(part) for part in torch.split(X, SLICE)]
        for part, rows in zip(parts, torch.split(X, SLICE), strict=True):
            custom.check_output(part, len(rows))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def outputs(model: nn.Module, X: Tensor, scaling: Scaling | None = None) -> Tensor:
    """y_pred, float64 on the CPU, for X of shape [n, features], both in the user's own units."""
    # scaled in float64 on the CPU: MPS has none
    X = X.detach().to("cpu", torch.float64)
    y_pred = forward(model, scaling.scale_X(X) if scaling else X).cpu().double()
    return scaling.unscale_y(y_pred) if scaling else y_pred


def predict(
    model: nn.Module, rows: Tensor | Sequence[Sequence[float]] | Sequence[float], scaling: Scaling | None = None
) -> list[float]:
    """y_pred for every row of features (for one feature also plain numbers), both in the user's own units.

    In eval mode under inference_mode; the model's mode is as it was afterwards.
    """
    X = rows if isinstance(rows, Tensor) else torch.tensor(rows, dtype=torch.float64)
    if not len(X):
        return []
    return outputs(model, X.unsqueeze(1) if X.ndim == 1 else X, scaling).flatten().tolist()


def line(model: nn.Module, dataset: Dataset, points: int | None = None) -> tuple[Point, ...]:
    """The prediction over the range of the only feature as (x, y_pred) in the user's own units; () for several.

    A straight line has two points, any other model about 100, where `points` says nothing else.
    """
    if len(dataset.features) != 1:
        return ()
    count = points or (2 if isinstance(model, STRAIGHT) else CURVE_POINTS)
    x = torch.linspace(*dataset.x_range, count, dtype=torch.float64).tolist()
    return tuple(zip(x, predict(model, x, dataset.scaling), strict=True))


def pairs(model: nn.Module, dataset: Dataset, limit: int = 200) -> tuple[Point, ...]:
    """(y, y_pred) of evenly spread training rows in the user's own units; () for one feature, which has a line."""
    if len(dataset.features) == 1:
        return ()
    y, X = dataset.truth("train"), dataset.inputs("train")[0]
    rows = spread(len(y), limit)
    y_pred = forward(model, X[rows.to(X.device)]).cpu().double()
    if dataset.scaling is not None:
        y_pred = dataset.scaling.unscale_y(y_pred)
    return tuple(zip(y[rows].flatten().tolist(), y_pred.flatten().tolist(), strict=True))


def spread(count: int, limit: int) -> Tensor:
    """At most `limit` of `count` row numbers, evenly spread from first to last."""
    if count <= limit:
        return torch.arange(count)
    return torch.arange(limit) * (count - 1) // max(limit - 1, 1)


def view(model: nn.Module, spec: ModelSpec, dataset: Dataset | None, train_spec: TrainSpec) -> ModelView:
    """What the Build screen shows of a fresh model; without data there are no predictions and no reference."""
    parameters = tuple(tensor_view(sanitize(name), parameter) for name, parameter in model.named_parameters())
    shown = ModelView(
        spec=spec,
        class_name=type(model).__name__,
        text=str(model)[:MAX_TEXT],
        parameters=parameters,
        count=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        size=sum(parameter.size for parameter in parameters),
        line=(),
        untrained_loss=None,
        source=custom.source(model),
    )
    if dataset is None:
        return shown
    return msgspec.structs.replace(
        shown,
        line=line(model, dataset),
        pairs=pairs(model, dataset),
        untrained_loss=_untrained_loss(model, dataset, train_spec),
        coefficients=linear.coefficients(model, spec, dataset.features, dataset.scaling),
        reference=linear.reference(spec, dataset, train_spec),
    )


def _untrained_loss(model: nn.Module, dataset: Dataset, train_spec: TrainSpec) -> float:
    X_train, y_train = dataset.inputs("train")
    y_pred = forward(model, X_train)
    with torch.inference_mode():
        return float(make_criterion(train_spec)(y_pred, y_train.to(y_pred.device)).item())
