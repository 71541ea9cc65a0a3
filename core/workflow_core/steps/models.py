"""The models that need no file of the user's, each written as a learner would write it by hand."""

from __future__ import annotations

import os
from itertools import pairwise

import torch
from torch import Tensor, nn

from workflow_core.errors import WorkflowError
from workflow_core.specs import Activation, Dtype, ModelSpec

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


class LinearRegressionModel(nn.Module):
    """The course's straight line: y = weight · x + bias, both drawn from a standard normal distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1))
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of shape [n, 1] for `x` of shape [n, 1]."""
        return self.weight * x + self.bias


class LinearModel(nn.Module):
    """A weight for every feature and a bias, as nn.Linear draws them."""

    def __init__(self, features: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of shape [n, 1] for `x` of shape [n, features]."""
        return self.linear(x)  # type: ignore[no-any-return]


class PolynomialModel(nn.Module):
    """A weight for every power of every feature, x, x², ... up to `degree`, and a bias; no mixed terms."""

    def __init__(self, degree: int = 2, features: int = 1) -> None:
        super().__init__()
        self.degree = degree
        self.linear = nn.Linear(degree * features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of shape [n, 1] for `x` of shape [n, features]."""
        powers = torch.cat([x**power for power in range(1, self.degree + 1)], 1)
        return self.linear(powers)  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Linear layers of the `hidden` widths, each with `activation` and `dropout` after it, then one to y."""

    def __init__(
        self,
        features: int = 1,
        hidden: tuple[int, ...] = (16, 16),
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((features, *hidden)):
            layers += [nn.Linear(inputs, outputs), activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear((features, *hidden)[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of shape [n, 1] for `x` of shape [n, features]."""
        return self.layers(x)  # type: ignore[no-any-return]


STRAIGHT = (LinearRegressionModel, LinearModel)
"""Models whose prediction over one feature is a straight line."""


ITEMSIZE: dict[Dtype, int] = {"float32": 4, "float64": 8}
COPIES = 7
"""Numbers held for a parameter in training: itself, its gradient, two of Adam's, those of the best and of the last good
weights, and those of the fresh model that a session keeps to begin anew from."""


def construct(spec: ModelSpec, features: int, dtype: Dtype = "float32") -> nn.Module:
    """A model of any kind but `custom`, drawn by torch's global generator as it stands, in float32.

    Raises WorkflowError where the kind cannot take so many features, or to train it in `dtype` would fill the memory.
    """
    match spec.kind:
        case "linear":
            return LinearModel(features)
        case "polynomial":
            return PolynomialModel(spec.degree, features)
        case "mlp":
            _check_size((features, *spec.hidden, 1), dtype)
            return MLP(features, spec.hidden, ACTIVATIONS[spec.activation], spec.dropout)
        case _:
            if features != 1:
                raise WorkflowError(
                    "One feature only",
                    f"This model is a line over one feature, weight · x + bias, and the data have {features}.",
                    "Choose the model linear (--model linear), which has a weight for each of them, "
                    "or a single feature (--features).",
                )
            return LinearRegressionModel()


def shapes(spec: ModelSpec, features: int, dtype: Dtype = "float32") -> dict[str, tuple[int, ...]]:
    """The names and shapes of the state_dict that `construct` gives, found without any memory. Raises WorkflowError."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in construct(spec, features, dtype).state_dict().items()}


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_size(widths: tuple[int, ...], dtype: Dtype) -> None:
    """Before it is made: Linux grants memory that it has not, and kills the process that then uses it."""
    count = sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))
    need = count * COPIES * ITEMSIZE[dtype]
    memory = machine_memory()
    if need > memory:
        raise WorkflowError(
            "Too large a model",
            f"The hidden layers hold {count:,} parameters; to train them takes about {need / 2**30:,.0f} GiB, "
            f"and this machine has {memory / 2**30:,.0f}.",
            "Choose fewer or narrower layers.",
        )
