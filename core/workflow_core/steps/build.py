"""Step 2: build the model a spec describes, and ask any model for its numbers and predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from workflow_core.protocol import ModelView, Point
from workflow_core.specs import ModelKind, ModelSpec, TrainSpec
from workflow_core.steps.data import Dataset
from workflow_core.steps.tensors import device_of, tensor_view
from workflow_core.steps.train import LOSSES


class LinearRegressionModel(nn.Module):
    """The course's straight line: y = weight · x + bias, both drawn from a standard normal distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of shape [n, 1] for `x` of shape [n, 1]."""
        return self.weight * x + self.bias


MODELS: dict[ModelKind, Callable[[], nn.Module]] = {"parameter": LinearRegressionModel}


def build(spec: ModelSpec) -> nn.Module:
    """A fresh model on the CPU: all parameters are drawn with the seed set just before, then given values put in."""
    torch.manual_seed(spec.init.seed)
    model = MODELS[spec.kind]()
    with torch.no_grad():
        for name, value in spec.init.values.items():
            model.get_parameter(name).fill_(value)
    return model


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Eval mode under inference_mode; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def scalars(model: nn.Module) -> dict[str, float]:
    """The parameters that are a single number each, by name, in one transfer from their device."""
    single = {name: parameter for name, parameter in model.named_parameters() if parameter.numel() == 1}
    if not single:
        return {}
    values = torch.cat([parameter.detach().reshape(1) for parameter in single.values()]).tolist()
    return dict(zip(single, values, strict=True))


def predict(model: nn.Module, x: Sequence[float]) -> list[float]:
    """y_pred for every x, in eval mode under inference_mode; the model's mode is as it was afterwards."""
    X = torch.tensor(x, dtype=torch.float64).to(torch.float32).reshape(-1, 1)
    with inference(model):
        y_pred = model(X.to(device_of(model)))
    return list(map(float, y_pred.flatten().tolist()))


def line(model: nn.Module, dataset: Dataset, points: int = 2) -> tuple[Point, ...]:
    """The prediction over the range of the data as `points` (x, y_pred) pairs; a straight line needs only two."""
    x = torch.linspace(*dataset.x_range, points).tolist()
    return tuple(zip(x, predict(model, x), strict=True))


def view(model: nn.Module, spec: ModelSpec, dataset: Dataset | None, train_spec: TrainSpec) -> ModelView:
    """What the Build screen shows of a fresh model; without data there is no line and no loss."""
    parameters = tuple(tensor_view(name, parameter) for name, parameter in model.named_parameters())
    return ModelView(
        spec=spec,
        class_name=type(model).__name__,
        text=str(model),
        parameters=parameters,
        count=sum(parameter.numel() for parameter in model.parameters()),
        size=sum(parameter.size for parameter in parameters),
        line=line(model, dataset) if dataset else (),
        untrained_loss=_untrained_loss(model, dataset, train_spec) if dataset else None,
    )


def _untrained_loss(model: nn.Module, dataset: Dataset, train_spec: TrainSpec) -> float:
    X_train, y_train = dataset.to(device_of(model)).split("train")
    criterion = LOSSES[train_spec.loss]()
    with inference(model):
        return float(criterion(model(X_train), y_train).item())
