"""The criterion of a training, made with the settings of its spec, and the short way to its value."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from workflow_core.specs import Loss, TrainSpec
from workflow_core.steps.data import Scaling

LOSSES: dict[Loss, Callable[..., nn.Module]] = {
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "smooth_l1": nn.SmoothL1Loss,
}


def make_criterion(spec: TrainSpec) -> nn.Module:
    """The mean loss over all rows, of the settings that `spec` has for it."""
    if spec.loss == "huber":
        return nn.HuberLoss(delta=spec.delta)
    if spec.loss == "smooth_l1":
        return nn.SmoothL1Loss(beta=spec.delta)
    return LOSSES[spec.loss]()


def make_lean_criterion(spec: TrainSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """The same function of `y_pred` and `y` of one shape, called without what the module around it looks after.

    For a few rows that takes longer than the loss itself.
    """
    aten = torch.ops.aten
    if spec.loss == "huber":
        return functools.partial(aten.huber_loss.default, delta=spec.delta)
    if spec.loss == "smooth_l1":
        return functools.partial(aten.smooth_l1_loss.default, beta=spec.delta)
    plain: Callable[[Tensor, Tensor], Tensor] = aten.mse_loss.default if spec.loss == "mse" else aten.l1_loss.default
    return plain


def loss_scale(loss: Loss, scaling: Scaling | None) -> float:
    """What turns the criterion's loss of standardised y into the loss of y in the user's own units.

    With s the standard deviation of y, an error in own units is s times that of the model: mse and huber are s² times
    as large, l1 and smooth_l1 s times. That of huber is then huber's of delta · s, and that of smooth_l1 of beta · s.
    """
    if scaling is None:
        return 1.0
    return scaling.y_std**2 if loss in ("mse", "huber") else scaling.y_std
