"""A loss of standardised y, and the same errors in the user's own units."""

from __future__ import annotations

import pytest
import torch

from workflow_core.specs import LOSSES, Loss, TrainSpec
from workflow_core.steps.data import Scaling
from workflow_core.steps.losses import loss_scale, make_criterion


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("std", [0.25, 1.0, 40.0])
def test_a_loss_times_its_scale_is_the_loss_in_own_units(loss: Loss, std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    # errors on both sides of delta
    y, y_pred = (torch.randn(64, dtype=torch.float64, generator=generator) for _ in range(2))
    scaling = Scaling(("x",), "y", torch.zeros(1), torch.ones(1), y_mean=7.0, y_std=std)
    model = make_criterion(TrainSpec(loss=loss, delta=0.8))(y_pred, y).item()
    own = make_criterion(TrainSpec(loss=loss, delta=0.8 * std))(y_pred * std + 7.0, y * std + 7.0).item()
    assert model * loss_scale(loss, scaling) == pytest.approx(own, rel=1e-12)
    assert loss_scale(loss, None) == 1.0
