"""Standardising: what makes columns of any size learnable, fitted where nothing of validation and test can leak in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workflow_core.views import ColumnScale


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of every column over the training rows: float64, on the CPU.

    `X_mean` and `X_std` have shape [features]. The standard deviation is that of the rows themselves (divided by n,
    not n - 1); a constant column has 1, so that it becomes 0 everywhere and is never divided by 0.
    """

    features: tuple[str, ...]
    target: str
    X_mean: Tensor
    X_std: Tensor
    y_mean: float
    y_std: float

    @classmethod
    def fit(cls, features: tuple[str, ...], target: str, X_train: Tensor, y_train: Tensor) -> Scaling:
        """The scaling that gives these training rows, [rows, features] and [rows, 1], mean 0 and deviation 1."""
        X_mean, X_std = _mean_and_std(X_train)
        y_mean, y_std = _mean_and_std(y_train)
        return cls(features, target, X_mean, X_std, y_mean.item(), y_std.item())

    def scale_X(self, X: Tensor) -> Tensor:
        """Features in their own units, [rows, features], as the model sees them; dtype and device stay the same."""
        return _in_float64(X, lambda wide: (wide - self.X_mean.to(wide.device)) / self.X_std.to(wide.device))

    def scale_y(self, y: Tensor) -> Tensor:
        """The target in its own units as the model sees it; dtype and device stay the same."""
        return _in_float64(y, lambda wide: (wide - self.y_mean) / self.y_std)

    def unscale_y(self, y_pred: Tensor) -> Tensor:
        """What the model predicts, in the target's own units; dtype and device stay the same."""
        return _in_float64(y_pred, lambda wide: wide * self.y_std + self.y_mean)

    def columns(self) -> tuple[ColumnScale, ...]:
        """The features in their order, then the target."""
        means, stds = self.X_mean.tolist(), self.X_std.tolist()
        return tuple(
            ColumnScale(name, mean, std)
            for name, mean, std in zip(
                (*self.features, self.target), (*means, self.y_mean), (*stds, self.y_std), strict=True
            )
        )

    def to_builtins(self) -> dict[str, Any]:
        """Plain lists and numbers, as a checkpoint holds them."""
        return {
            "features": list(self.features),
            "target": self.target,
            "X_mean": self.X_mean.tolist(),
            "X_std": self.X_std.tolist(),
            "y_mean": self.y_mean,
            "y_std": self.y_std,
        }

    @classmethod
    def from_builtins(cls, item: Any) -> Scaling:
        """What `to_builtins` gave, out of a file that need not be honest. Raises ValueError where it is no scaling."""
        if not isinstance(item, dict):
            raise ValueError("the scaling is no table of numbers")
        features, target = item.get("features"), item.get("target")
        if not isinstance(features, list) or not features or not isinstance(target, str):
            raise ValueError("the scaling does not name its features and its target")
        if not all(isinstance(name, str) for name in features):
            raise ValueError("the scaling does not name its features and its target")
        means, stds = _numbers(item.get("X_mean")), _numbers(item.get("X_std"))
        (y_mean,), (y_std,) = _numbers([item.get("y_mean")]), _numbers([item.get("y_std")])
        if not len(features) == len(means) == len(stds):
            raise ValueError("the scaling does not hold one mean and one standard deviation for each feature")
        if min(*stds, y_std) <= 0:
            raise ValueError("the scaling holds a standard deviation that is not above 0")
        X_mean, X_std = torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)
        return cls(tuple(features), target, X_mean, X_std, y_mean, y_std)


def _mean_and_std(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Of each column of [rows, columns], in float64."""
    wide = columns.to("cpu", torch.float64)
    low, high = wide.amin(0), wide.amax(0)
    # squares of numbers beyond 1e±150 leave float64; measured in a power of two nothing is rounded
    largest = torch.maximum(low.abs(), high.abs()).clamp(min=torch.finfo(torch.float64).tiny)
    unit = largest / (2 * largest.frexp().mantissa)
    scaled = wide / unit
    mean, std = scaled.mean(0) * unit, scaled.std(0, correction=0) * unit
    # rounding leaves a constant column a mean beside its value, and a deviation that is not 0
    constant = (low == high) | (std == 0)
    return torch.where(low == high, low, mean), torch.where(constant, torch.ones_like(std), std)


def _in_float64(columns: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    # MPS has no float64
    device = "cpu" if columns.device.type == "mps" else columns.device
    return change(columns.to(device, torch.float64)).to(columns.device, columns.dtype)


def _numbers(item: object) -> list[float]:
    if not isinstance(item, list):
        raise ValueError("the scaling holds something else than numbers")
    numbers = []
    for number in item:
        if type(number) is not float or not math.isfinite(number):
            raise ValueError("the scaling holds something else than finite numbers")
        numbers.append(number)
    return numbers
