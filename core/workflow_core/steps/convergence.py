"""How near a training came to the closed form, in one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import least_squares, linear
from workflow_core.steps.build import forward
from workflow_core.steps.data import Dataset
from workflow_core.views import Reference

NEAR = 1e-3
"""A coefficient this part of the closed form's away from it, and a loss this part of the least above it, count as near.

For what is 0 there, the part is that of 1e-3 of the spread of y (for the loss 1e-2 of its variance) instead.
"""
BAD_CONDITION = 1e4


def convergence(
    model: nn.Module, spec: ModelSpec, dataset: Dataset, train_spec: TrainSpec, reference: Reference | None = None
) -> str:
    """How far coefficients (in the user's own units) and training loss are from the closed form, and if that is near.

    Empty where there is no closed form because the model is not linear in its parameters. `reference` saves computing
    it again where it is known.
    """
    if not linear.degree_of(spec):
        return ""
    reference = reference or linear.reference(spec, dataset, train_spec)
    held = linear.coefficients(model, spec, dataset.features, dataset.scaling)
    if not all(map(math.isfinite, held.values())):
        return "Not converged: the training has diverged, parameters are NaN or infinite."
    if not reference.closed_form:
        return (
            "There is no closed form to compare with: the columns depend on one another, there are fewer training rows "
            "than coefficients, or it would take too long to compute."
        )
    far, name = max(_distances(held, spec, dataset, reference))
    exact = reference.closed_form[name]
    apart = f"{abs(held[name] - exact):.2g}" + (f" ({abs(held[name] / exact - 1):.2g} of it)" if exact else "")
    if reference.loss is None or linear.decay(train_spec):
        what = f"the {train_spec.loss} loss" if reference.loss is None else "weight decay"
        return f"{name} is {apart} away from the closed form of least squares, which {what} need not lead to."
    excess = max(_loss(model, dataset) - reference.loss, 0.0)
    above = f"the training loss is {excess:.2g} above the least possible, {reference.loss:.4g}"
    if far <= 1 and excess <= NEAR * max(reference.loss, 1e-2 * _variance(dataset)):
        return f"Converged: {name}, the farthest from the closed form, is {apart} away from it, and {above}."
    return f"Not converged: {name} is {apart} away from the closed form, {exact:.4g}, and {above}. " + _advice(
        spec, dataset
    )


def _distances(
    held: dict[str, float], spec: ModelSpec, dataset: Dataset, reference: Reference
) -> Iterator[tuple[float, str]]:
    """For each coefficient its distance from the closed form, where 1 is as far as still counts as near."""
    X, y = dataset.exact("train")
    spread = y.double().std(correction=0).item()
    sizes = [1.0, *least_squares.root_mean_squares(X, linear.degree_of(spec)).flatten().tolist()]
    for (name, value), size in zip(held.items(), sizes, strict=True):
        exact = reference.closed_form[name]
        near = NEAR * max(abs(exact), NEAR * spread / size if size else 0.0)
        yield abs(value - exact) / (near or 1.0), name


def _loss(model: nn.Module, dataset: Dataset) -> float:
    """The mean squared error of the training rows as the model sees them, summed in float64."""
    X, y = dataset.inputs("train")
    return (forward(model, X).cpu().double() - y.cpu().double()).square().mean().item()


def _variance(dataset: Dataset) -> float:
    return dataset.inputs("train")[1].cpu().double().var(correction=0).item()


def _advice(spec: ModelSpec, dataset: Dataset) -> str:
    eigenvalues = least_squares.curvature(dataset.inputs("train")[0].cpu(), linear.degree_of(spec))
    if eigenvalues is None:
        return "More epochs would bring it nearer."
    low, high = eigenvalues[0].item(), eigenvalues[-1].item()
    # what is smaller cannot be told from 0 beside the largest in float64
    condition = high / low if low > high * 1e-15 else math.inf
    if condition < BAD_CONDITION:
        return "More epochs would bring it nearer."
    how = f"{condition:.1g}" if math.isfinite(condition) else "more than 1e+15"
    better = "take a lower degree, or very many epochs" if dataset.scaling else "standardise the data"
    return f"The problem is badly conditioned, λmax/λmin of its Hessian is {how}: {better}."
