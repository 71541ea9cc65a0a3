"""How near a training came to the closed form, in one honest sentence."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import nn

from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import least_squares, linear
from workflow_core.steps.build import forward
from workflow_core.steps.data import Dataset
from workflow_core.steps.losses import make_criterion
from workflow_core.views import Reference

NEAR = 1e-3
"""A coefficient this part of the closed form's away from it, and a loss this part of the least above it, count as near.

For what is 0 there, the part is that of 1e-3 of the spread of y (for the loss 1e-2 of its variance) instead.
"""
SAME = 1e-5
"""Predictions this part of the spread of y from those of the closed form, on average, are the same for a learner."""
SETTLED = 1e-3
"""A gradient this part of the one at zero coefficients counts as none."""
BAD_CONDITION = 1e4
ASTRAY = 100
"""A loss so many times that of predicting 0 everywhere is none that a training passes on its way."""


def convergence(
    model: nn.Module, spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec, reference: Reference | None = None
) -> str:
    """How far coefficients (in the user's own units) and training loss are from the closed form, and if that is near.

    Where coefficients are not unique the loss alone tells; where the training need not lead to least squares, the
    gradient of what it does lead to. Empty for a model that is not linear in its parameters. `reference` saves
    computing it again where it is known.
    """
    if not linear.degree_of(spec):
        return ""
    reference = reference or linear.reference(spec, dataset, train_spec)
    held = linear.coefficients(model, spec, dataset.features, dataset.scaling)
    if not all(map(math.isfinite, held.values())):
        if all(bool(parameter.isfinite().all()) for parameter in linear.weights_of(model)):
            return "The coefficients lie beyond float64 in the units of the data: measure them in others."
        return "Not converged: the training has diverged, parameters are NaN or infinite."
    if train_spec.loss != "mse" or linear.decay(train_spec):
        return _neighbour(model, spec, dataset, train_spec, held, reference)
    if not reference.closed_form:
        return _by_loss(model, spec, dataset, train_spec, reference)
    if reference.loss is None:
        return "No verdict: the squares of y, and with them the loss, lie beyond float64; standardise the data."
    far, name, relative = max(_distances(held, spec, dataset, reference))
    exact = reference.closed_form[name]
    apart = f"{abs(held[name] - exact):.2g}" + (f" ({abs(held[name] / exact - 1):.2g} of it)" if relative else "")
    excess = max(_loss(model, dataset) - reference.loss, 0.0)
    above = _above(dataset, excess, reference.loss)
    # for least squares the excess is the mean square of how far the predictions are from the best
    same = excess <= _same(dataset, reference.loss)
    if same or (far <= 1 and excess <= NEAR * max(reference.loss, 1e-2 * _variance(dataset))):
        return f"Converged: {name}, the farthest from the closed form, is {apart} away from it, and {above}."
    advice = _advice(spec, dataset, train_spec, reference, excess)
    return f"Not converged: {name} is {apart} away from the closed form, {exact:.4g}, and {above}. {advice}"


def _by_loss(model: nn.Module, spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec, reference: Reference) -> str:
    """The verdict where coefficients are not unique: any of them that give the least loss will do."""
    why = "there is no closed form, as the columns depend on one another or there are too few training rows"
    X, y = dataset.inputs("train")
    rmse = least_squares.least_rmse(X.cpu(), y.cpu(), linear.degree_of(spec))
    if rmse is None:
        return "There is no closed form to compare with: it lies beyond float64, or takes too long to compute."
    least = rmse * rmse
    excess = max(_loss(model, dataset) - least, 0.0)
    above = _above(dataset, excess, least)
    if excess <= _same(dataset, least) or excess <= NEAR * max(least, 1e-2 * _variance(dataset)):
        return f"Converged: {above}. Other coefficients give the same loss: {why}."
    advice = _unstable(train_spec, reference) or _further(dataset, train_spec, excess)
    return f"Not converged: {above}. {advice} Of the coefficients nothing is said: {why}."


def _neighbour(
    model: nn.Module,
    spec: ModelSpec,
    dataset: Dataset,
    train_spec: TrainSpec,
    held: dict[str, float],
    reference: Reference,
) -> str:
    """What can be said where the training leads elsewhere than to least squares: is it still on its way?"""
    what = "weight decay" if train_spec.loss == "mse" else f"the {train_spec.loss} loss"
    said = f"There is no closed form of what {what} leads to"
    if reference.closed_form:
        _, name, _ = max(_distances(held, spec, dataset, reference))
        apart = abs(held[name] - reference.closed_form[name])
        said = f"{name} is {apart:.2g} away from the closed form of least squares, which {what} need not lead to"
    if train_spec.loss == "l1":
        return f"{said}; the gradient of l1 is as large near its least value as far from it, and tells nothing."
    part = _gradient(model, dataset, train_spec)
    rest = f"{said}; the gradient of the training loss is {part:.2g} of what it is at zero coefficients"
    if not part <= SETTLED:
        return f"{rest}: it has not settled, more epochs or a smaller learning rate would change the coefficients."
    condition = _condition(spec, dataset)
    if condition >= BAD_CONDITION:
        return f"{rest}, but in a badly conditioned problem even that may be a long way: standardise the data."
    return f"{rest}: the training has settled."


def _gradient(model: nn.Module, dataset: Dataset, train_spec: TrainSpec) -> float:
    """The norm of the gradient that the optimizer follows, as a part of that at zero coefficients."""
    X, y = (part.cpu().double() for part in dataset.inputs("train"))
    wide = copy.deepcopy(model).cpu().double()
    # AdamW shrinks the weights beside its steps, whose gradient is that of the loss alone
    decay = 0.0 if train_spec.optimizer == "adamw" else linear.decay(train_spec)
    criterion, parameters, norms = make_criterion(train_spec), linear.weights_of(wide), []
    for _ in range(2):
        gradients = torch.autograd.grad(criterion(wide(X), y), parameters)
        parts = [g + decay * p.detach() for g, p in zip(gradients, parameters, strict=True)]
        norms.append(math.hypot(*(part.norm().item() for part in parts)))
        with torch.no_grad():
            for parameter in parameters:
                parameter.zero_()
    here, zero = norms
    return here / zero if zero else 0.0 if here == 0 else math.inf


def _distances(
    held: dict[str, float], spec: ModelSpec, dataset: Dataset, reference: Reference
) -> Iterator[tuple[float, str, bool]]:
    """For each coefficient its distance from the closed form, where 1 is as far as still counts as near.

    The last is whether that is a part of the closed form's coefficient: of one that is 0 but for rounding it cannot be.
    """
    X, y = dataset.exact("train")
    spread = y.double().std(correction=0).item()
    sizes = [1.0, *least_squares.root_mean_squares(X, linear.degree_of(spec)).flatten().tolist()]
    for (name, value), size in zip(held.items(), sizes, strict=True):
        exact = reference.closed_form[name]
        least = NEAR * spread / size if size else 0.0
        near = NEAR * max(abs(exact), least)
        yield abs(value - exact) / (near or 1.0), name, abs(exact) > least


def _loss(model: nn.Module, dataset: Dataset) -> float:
    """The mean squared error of the training rows as the model sees them, summed in float64."""
    X, y = dataset.inputs("train")
    return (forward(model, X).cpu().double() - y.cpu().double()).square().mean().item()


def _same(dataset: Dataset, least: float) -> float:
    """How far above the least a loss may be of predictions that no learner would tell apart, or the dtype cannot."""
    y = dataset.inputs("train")[1].cpu()
    eps = torch.finfo(y.dtype).eps
    rounding = 4 * eps * y.double().square().mean().sqrt().item()
    apart = max(SAME * math.sqrt(_variance(dataset)), rounding)
    return apart * apart + 4 * eps * least


def _variance(dataset: Dataset) -> float:
    return dataset.inputs("train")[1].cpu().double().var(correction=0).item()


def _above(dataset: Dataset, excess: float, least: float) -> str:
    """How far the loss, as the model sees it, is above the least there is."""
    which = "the training loss (standardised)" if dataset.scaling else "the training loss"
    return f"{which} is {excess:.2g} above the least possible, {least:.4g}"


def _unstable(train_spec: TrainSpec, reference: Reference, better: str = "start again with a smaller one") -> str:
    """What a training says whose steps are too long to arrive, however many there are; empty where they are not.

    A schedule may shorten them in time.
    """
    rate, stable = train_spec.learning_rate, reference.stable_lr
    if stable is None or rate <= stable or train_spec.scheduler not in ("none", "warmup"):
        return ""
    return f"The learning rate, {rate:g}, is above the largest stable one, {stable:.4g}: {better}."


def _further(dataset: Dataset, train_spec: TrainSpec, excess: float) -> str:
    """What is to be done of a problem that more of the same would solve, unless the training has gone astray."""
    y = dataset.inputs("train")[1]
    if excess > ASTRAY * y.cpu().double().square().mean().item():
        return "It has gone astray: train from the start, with a smaller learning rate."
    if 0 < train_spec.batch_size < len(y):
        return "More epochs would bring it nearer, as far as the noise of the batches lets them."
    return "More epochs would bring it nearer."


def _advice(spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec, reference: Reference, excess: float) -> str:
    condition = _condition(spec, dataset)
    if condition < BAD_CONDITION:
        return _unstable(train_spec, reference) or _further(dataset, train_spec, excess)
    how = f"{condition:.1g}" if math.isfinite(condition) else "more than 1e+15"
    if dataset.scaling:
        better, unstable = "take a lower degree, or very many epochs", _unstable(train_spec, reference)
    else:
        better = "standardise the data"
        unstable = _unstable(train_spec, reference, f"the problem is badly conditioned (λmax/λmin is {how}), {better}")
    return unstable or f"The problem is badly conditioned, λmax/λmin of its Hessian is {how}: {better}."


def _condition(spec: ModelSpec, dataset: Dataset) -> float:
    """λmax/λmin of the Hessian; 1 where that would take too long to compute."""
    eigenvalues = least_squares.curvature(dataset.inputs("train")[0].cpu(), linear.degree_of(spec))
    if eigenvalues is None:
        return 1.0
    low, high = eigenvalues[0].item(), eigenvalues[-1].item()
    # what is smaller cannot be told from 0 beside the largest in float64
    return high / low if low > high * 1e-15 else math.inf
