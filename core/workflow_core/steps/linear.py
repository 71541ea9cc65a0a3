"""Models that are linear in their parameters: what they have learnt in the user's own units, and where they should end.

The closed form is least squares on the training rows. The largest stable learning rate of gradient descent on a
quadratic loss is 2/λmax of its Hessian (LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.5), with
momentum β it is 2(1 + β)/λmax (Polyak, "Some methods of speeding up the convergence of iteration methods", 1964).
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import data, least_squares
from workflow_core.steps.data import Dataset, Scaling
from workflow_core.steps.least_squares import Fit, substitute, total
from workflow_core.steps.models import LinearRegressionModel, construct
from workflow_core.steps.tracked import Tracked
from workflow_core.views import Reference

KINDS = ("parameter", "linear", "polynomial")


def degree_of(spec: ModelSpec) -> int:
    """The highest power that the model has a weight for; 0 where it is not linear in its parameters."""
    return spec.degree if spec.kind == "polynomial" else int(spec.kind in KINDS)


def names(spec: ModelSpec, features: tuple[str, ...]) -> tuple[str, ...]:
    """The names of all coefficients: `intercept`, the features, then `x^2` and so on, power by power.

    A feature that is called as another coefficient has ` (column)` appended.
    """
    return _names(degree_of(spec), features)


@functools.lru_cache(maxsize=32)
def _names(degree: int, features: tuple[str, ...]) -> tuple[str, ...]:
    # asked for at every update of a screen
    found = {"intercept": None}  # keeps its order
    columns = set(features)
    for power in range(1, degree + 1):
        for feature in features:
            name = feature if power == 1 else f"{feature}^{power}"
            while name in found or (name in columns and power > 1):
                name += " (column)" if power == 1 else " (power)"
            found[name] = None
    return tuple(found)


def coefficients(
    model: nn.Module, spec: ModelSpec, features: tuple[str, ...], scaling: Scaling | None
) -> dict[str, float]:
    """What the model has learnt in the user's own units, by name; empty where it is not linear in its parameters.

    Of a model that has diverged they are NaN or infinite.
    """
    if not degree_of(spec):
        return {}
    weights, bias = _held(model, len(features))
    if scaling is None:
        return _named(spec, features, weights, bias)
    # the model sees (X - mean) / std
    shift, factor = -scaling.X_mean / scaling.X_std, 1 / scaling.X_std
    weights, constants = substitute(weights, shift, factor)
    intercept = total([scaling.y_mean, scaling.y_std * bias, *(scaling.y_std * constants).tolist()])
    return _named(spec, features, weights * scaling.y_std, intercept)


def reference(spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec) -> Reference:
    """Where a training of this model on these data should arrive.

    The targets are the coefficients that the data were made with, where the model has one for each of them; else,
    for a mean squared error without weight decay, the closed form.
    """
    degree = degree_of(spec)
    if not degree or (spec.kind == "parameter" and len(dataset.features) != 1):
        return Reference()
    fit = _fit(dataset, degree)
    true = _true(spec, dataset)
    found: dict[str, float] = {}
    if true is not None:
        found = _targets(spec, dataset, *true)
    elif fit is not None and train_spec.loss == "mse" and not decay(train_spec):
        found = _targets(spec, dataset, fit.weights, fit.intercept, fit)
    return Reference(
        targets=found,
        targets_are="" if not found else "true" if true is not None else "closed form",
        closed_form=_in_own_units(spec, dataset, fit) if fit else {},
        loss=_least(dataset, fit) if fit and train_spec.loss == "mse" else None,
        stable_lr=stable_learning_rate(spec, dataset, train_spec),
    )


def stable_learning_rate(spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec) -> float | None:
    """The learning rate above which gradient descent on all training rows diverges, for SGD on these models.

    With A the model's inputs (their powers, and a column of ones) the Hessian is 2/n AᵀA for the mean squared error.
    Huber's loss is r²/2 and smooth L1 r²/(2 beta) where the residual r is small, and straight beyond: their Hessian is
    never more than AᵀA/n and AᵀA/(n beta), so below the rate given here they are stable, above it they may be. L1 has
    no curvature and gives None, and so do the other optimizers, which scale every step.

    Weight decay adds to every eigenvalue. Momentum β allows 2(1 + β)/λmax; Nesterov's, as torch computes it,
    2(1 + β)/((1 + 2β) λmax): for an eigenvalue λ and a = lr·λ a step multiplies (velocity, parameter) by a matrix of
    trace 1 + β - a(1 + β) and determinant β(1 - a), and both its eigenvalues lie in the unit circle exactly below that.
    Batches of fewer rows may diverge earlier. None, too, where y is so large that its squares leave its dtype: then
    the loss is infinite whatever the rate is.
    """
    if train_spec.optimizer != "sgd" or train_spec.loss == "l1" or not degree_of(spec):
        return None
    X, y = (part.cpu() for part in dataset.inputs("train"))
    if train_spec.loss == "mse" and not bool(torch.isfinite(y.square().mean())):
        return None
    eigenvalues = least_squares.curvature(X, degree_of(spec))
    if eigenvalues is None:
        return None
    factor = {"mse": 2.0, "huber": 1.0, "smooth_l1": 1 / train_spec.delta}[train_spec.loss]
    largest = factor * eigenvalues[-1].item() + decay(train_spec)
    momentum = train_spec.momentum
    allowed = 2 * (1 + momentum) / (1 + 2 * momentum) if train_spec.nesterov else 2 * (1 + momentum)
    return allowed / largest


def decay(train_spec: TrainSpec) -> float:
    """The weight decay that the optimizer applies."""
    if train_spec.optimizer == "lbfgs":
        return 0.0
    if train_spec.weight_decay is None:
        return 0.01 if train_spec.optimizer == "adamw" else 0.0
    return train_spec.weight_decay


def weights_of(model: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """The parameters of a linear model: the weights, power by power, and the bias."""
    layer = model if isinstance(model, LinearRegressionModel) else model.get_submodule("linear")
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return weight, bias


def _held(model: nn.Module, features: int) -> tuple[Tensor, float]:
    """Weights [degree, features] and bias, float64 on the CPU, in one transfer."""
    weight, bias = weights_of(model)
    both = torch.cat([weight.detach().flatten(), bias.detach().flatten()]).cpu().double()
    return both[:-1].reshape(-1, features), both[-1].item()


def _named(spec: ModelSpec, features: tuple[str, ...], weights: Tensor, intercept: float) -> dict[str, float]:
    return dict(zip(names(spec, features), (intercept, *weights.flatten().tolist()), strict=True))


def _fit(dataset: Dataset, degree: int) -> Fit | None:
    return least_squares.fit(*dataset.exact("train"), degree)


def _in_own_units(spec: ModelSpec, dataset: Dataset, fit: Fit) -> dict[str, float]:
    weights, constants = substitute(fit.weights, -fit.mean / fit.std, 1 / fit.std)
    found = _named(spec, dataset.features, weights, total([fit.intercept, *constants.tolist()]))
    return found if all(map(math.isfinite, found.values())) else {}


def _least(dataset: Dataset, fit: Fit) -> float | None:
    """The least training loss, of what the model sees; None where its squares leave float64."""
    rmse = fit.rmse / dataset.scaling.y_std if dataset.scaling else fit.rmse
    return rmse * rmse if math.isfinite(rmse * rmse) else None


def _true(spec: ModelSpec, dataset: Dataset) -> tuple[Tensor, float] | None:
    """Weights [degree, features] and intercept that the data were made with, where the model has all of them."""
    made = data.coefficients(dataset.spec)
    has = names(spec, dataset.features)
    if not made or any(value for name, value in made.items() if name not in has):
        return None
    intercept, *weights = (made.get(name, 0.0) for name in has)
    return torch.tensor(weights, dtype=torch.float64).reshape(-1, len(dataset.features)), intercept


def _targets(
    spec: ModelSpec, dataset: Dataset, weights: Tensor, intercept: float, fit: Fit | None = None
) -> dict[str, float]:
    """The tracked values of the model that has these coefficients, for the features or for those of `fit`."""
    features = len(dataset.features)
    zeros, ones = torch.zeros(features, dtype=torch.float64), torch.ones(features, dtype=torch.float64)
    scaling = dataset.scaling
    mean, std = (scaling.X_mean, scaling.X_std) if scaling else (zeros, ones)
    # the features are mean + std · (what the model sees)
    shift, factor = ((mean - fit.mean) / fit.std, std / fit.std) if fit else (mean, std)
    weights, constants = substitute(weights, shift, factor)
    bias = total([intercept, *constants.tolist(), -scaling.y_mean if scaling else 0.0])
    y_std = scaling.y_std if scaling else 1.0
    with torch.random.fork_rng(devices=[]):
        model = construct(spec, features).double()
    weight_parameter, bias_parameter = weights_of(model)
    with torch.no_grad():
        weight_parameter.copy_((weights / y_std).reshape(weight_parameter.shape))
        bias_parameter.fill_(bias / y_std)
    return Tracked(model).read()
