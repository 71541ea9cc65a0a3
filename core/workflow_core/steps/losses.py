"""The criterion of a training, made with the settings of its spec."""

from __future__ import annotations

from torch import nn

from workflow_core.specs import Loss, TrainSpec

LOSSES: dict[Loss, type[nn.Module]] = {
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "smooth_l1": nn.SmoothL1Loss,
}


def make_criterion(spec: TrainSpec) -> nn.Module:
    """The mean loss over all rows, in the units of y squared (mse), of y (l1), or of whichever holds beyond `delta`."""
    if spec.loss == "huber":
        return nn.HuberLoss(delta=spec.delta)
    if spec.loss == "smooth_l1":
        return nn.SmoothL1Loss(beta=spec.delta)
    return LOSSES[spec.loss]()
