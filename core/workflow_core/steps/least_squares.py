"""The closed form of a fit that is linear in its coefficients, and the curvature of its loss, for any number of rows.

Columns are z, z², ... of every feature, z being the feature with mean 0 and deviation 1 over the training rows: that
is as well conditioned as powers can be. Rows are taken a slice at a time, so that no matrix of all of them is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SLICE = 8192
"""Rows at a time: few enough to stay in the cache of a core, where a QR factorisation takes half the time."""
MAX_WORK = 2e10
"""Rows times columns squared, of the order of the multiplications it takes: some seconds."""
RANK = 1e-12
"""Singular values below this part of the largest count as none: the columns depend on one another."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients `weights` [degree, features] and `intercept` for powers of (X - `mean`) / `std`, all float64.

    `rmse` is the root of the mean squared residual of the rows it was fitted on, in the units of y.
    """

    weights: Tensor
    intercept: float
    mean: Tensor
    std: Tensor
    rmse: float


def powers(X: Tensor, degree: int) -> Tensor:
    """[rows, degree * features]: X, then X², and so on, as PolynomialModel has them."""
    return torch.cat([X**power for power in range(1, degree + 1)], 1)


def too_large(rows: int, columns: int) -> bool:
    """Would it take too long beside everything else?"""
    return rows * (columns + 1) ** 2 > MAX_WORK


def fit(X: Tensor, y: Tensor, degree: int) -> Fit | None:
    """The least-squares polynomial, without mixed terms, for X of shape [n, features] and y of shape [n, 1].

    Solved in float64 by a QR factorisation, a slice of the rows at a time, and an SVD of its triangle, which tells the
    rank. None where the coefficients are not determined (too few rows, columns that depend on one another), too many,
    or not finite.
    """
    columns = degree * X.shape[1]
    solved = _solve(X, y, degree) if len(X) > columns else None
    return solved[0] if solved and solved[1] == columns else None


def least_rmse(X: Tensor, y: Tensor, degree: int) -> float | None:
    """The root of the least mean squared residual, also where many coefficients give it; None as in `fit`."""
    solved = _solve(X, y, degree)
    return solved[0].rmse if solved else None


def _solve(X: Tensor, y: Tensor, degree: int) -> tuple[Fit, int] | None:
    """The least-squares polynomial, of all that are as good the one of least norm, and the rank of its columns."""
    n, features = X.shape
    columns = degree * features
    if too_large(n, columns):
        return None
    mean, std = _moments(X, lambda part: part)

    def wide(part: Tensor) -> Tensor:
        return powers((part.double() - mean) / std, degree)

    center, spread = _moments(X, wide)
    y_center, y_spread = _moments(y, lambda part: part)
    triangle = torch.empty(0, columns + 1, dtype=torch.float64)
    for X_part, y_part in _slices(X, y):
        rows = torch.cat([(wide(X_part) - center) / spread, (y_part.double() - y_center) / y_spread], 1)
        triangle = torch.linalg.qr(torch.cat([triangle, rows]), mode="r").R
    if not bool(torch.isfinite(triangle).all()):
        return None
    A, b = triangle[:, :columns], triangle[:, columns:]
    solution = torch.linalg.lstsq(A, b, rcond=RANK, driver="gelsd")
    scaled = solution.solution.flatten()
    rmse = math.sqrt((A @ scaled.unsqueeze(1) - b).square().sum().item() / n) * y_spread.item()
    weights = scaled * y_spread / spread
    intercept = total([y_center.item(), *(-weights * center).tolist()])
    if not bool(torch.isfinite(weights).all()) or not math.isfinite(intercept) or not math.isfinite(rmse):
        return None
    return Fit(weights.reshape(degree, features), intercept, mean, std, rmse), int(solution.rank)


def total(terms: list[float]) -> float:
    """The sum, exactly rounded where it is one: of what a diverged model has it is NaN or infinite."""
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):  # beyond float64 on the way, or infinities of both signs
        return sum(terms)


def curvature(X: Tensor, degree: int) -> Tensor | None:
    """The eigenvalues, in ascending order, of AᵀA / n: A has the powers of X and a column of ones for the bias.

    None where there are too many columns, or the numbers are not finite.
    """
    n, features = X.shape
    columns = degree * features
    if too_large(n, columns):
        return None
    gram = torch.zeros(columns + 1, columns + 1, dtype=torch.float64)
    for part, _ in _slices(X, X):
        A = torch.cat([powers(part.double(), degree), torch.ones(len(part), 1, dtype=torch.float64)], 1)
        gram += A.T @ A
    if not bool(torch.isfinite(gram).all()):
        return None
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram / n)
    return eigenvalues


def root_mean_squares(X: Tensor, degree: int) -> Tensor:
    """The root mean square of each power of each feature, [degree, features]."""
    total = sum((powers(part.double(), degree).square().sum(0) for part, _ in _slices(X, X)), torch.zeros(()))
    return (total / len(X)).sqrt().reshape(degree, -1)


def substitute(weights: Tensor, shift: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The same polynomial in another variable: with z = shift + factor · x, the weights of x, x², ... and the constant.

    `weights` are those of z, z², ... of every feature, [degree, features]; `shift` and `factor` have shape [features].
    Gives [degree, features] and what each feature adds to the constant, [features].
    """
    degree = len(weights)
    terms = torch.zeros(degree + 1, weights.shape[1], dtype=torch.float64)
    for power in range(1, degree + 1):
        for lower in range(power + 1):
            # where a power of the shift is infinite, a weight of 0 takes no part in it
            term = weights[power - 1] * math.comb(power, lower) * shift ** (power - lower) * factor**lower
            terms[lower] += torch.where(weights[power - 1] == 0, 0.0, term)
    return terms[1:], terms[0]


def _slices(X: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(X, SLICE), torch.split(y, SLICE), strict=True)


def _moments(X: Tensor, wide: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column of `wide(X)`, float64; a constant column has 1."""
    n = len(X)
    parts = torch.split(X, SLICE)
    largest = torch.stack([wide(part.double()).abs().amax(0) for part in parts]).amax(0)
    # in units of a power of 2, which rounds nothing: squares of numbers beyond 1e±150 leave float64
    unit = torch.exp2(largest.clamp(torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max).log2().floor())
    mean = sum(((wide(part.double()) / unit).sum(0) for part in parts), torch.zeros(())) / n
    # a second pass: the squares of columns far from 0 would leave nothing of their spread
    squares = sum(((wide(part.double()) / unit - mean).square().sum(0) for part in parts), torch.zeros(()))
    std = (squares / n).sqrt() * unit
    return mean * unit, torch.where(std == 0, 1.0, std)
