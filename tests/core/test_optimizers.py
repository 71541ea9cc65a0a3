"""The short ways to an optimizer's step and to a loss do what the long ones do, and fall back where they cannot."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from workflow_core.specs import LOSSES, OPTIMIZERS, TrainSpec
from workflow_core.steps.losses import make_criterion, make_lean_criterion
from workflow_core.steps.optimizers import LeanOptimizer, make_optimizer, total_norm

SETTINGS = [
    TrainSpec(optimizer=optimizer, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    for optimizer in OPTIMIZERS
    for momentum, decay in ((0.0, None), (0.9, 0.1))
]


@pytest.mark.parametrize("spec", SETTINGS, ids=lambda spec: f"{spec.optimizer} {spec.momentum}")
def test_a_lean_step_is_a_step(spec: TrainSpec) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    other = copy.deepcopy(model)
    optimizer, plain = make_optimizer(spec, model), make_optimizer(spec, other)
    lean = LeanOptimizer(optimizer)
    X, y = torch.randn(10, 3), torch.randn(10, 1)

    def closure(net: nn.Module, zero: Any) -> Any:
        zero()
        loss = nn.functional.mse_loss(net(X), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(5):
        if spec.optimizer == "lbfgs":
            lean.step(lambda: closure(model, lean.zero_grad))
            plain.step(lambda: closure(other, plain.zero_grad))
        else:
            closure(model, lean.zero_grad)
            lean.step()
            closure(other, plain.zero_grad)
            plain.step()
        assert [p.tolist() for p in model.parameters()] == [p.tolist() for p in other.parameters()]
        assert torch.is_grad_enabled()
    assert repr(optimizer.state_dict()) == repr(plain.state_dict())
    lean.zero_grad()
    assert [parameter.grad for parameter in model.parameters()] == [None, None]


def test_what_a_spec_leaves_open_is_the_optimizers_own() -> None:
    model = nn.Linear(1, 1)
    assert make_optimizer(TrainSpec(optimizer="adamw"), model).defaults["weight_decay"] == 0.01
    assert make_optimizer(TrainSpec(optimizer="adamw", weight_decay=0.0), model).defaults["weight_decay"] == 0
    assert make_optimizer(TrainSpec(optimizer="sgd"), model).defaults["weight_decay"] == 0


@pytest.mark.parametrize("lean", [False, True])
def test_the_label_for_the_profiler_is_what_is_left_out(lean: bool) -> None:
    model = nn.Linear(1, 1)
    optimizer = make_optimizer(TrainSpec(), model)
    step = LeanOptimizer(optimizer).step if lean else optimizer.step
    with torch.profiler.profile() as profile:
        model(torch.ones(1, 1)).backward()
        step()
    assert any("Optimizer.step" in event.key for event in profile.key_averages()) is not lean


def test_a_scheduler_sees_every_step() -> None:
    """It warns where it saw none, and warnings are errors here."""
    optimizer = make_optimizer(TrainSpec(), nn.Linear(1, 1))
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    LeanOptimizer(optimizer).step()
    scheduler.step()


def test_an_optimizer_whose_step_is_not_wrapped_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    class Plain(optim.SGD):
        pass

    optimizer = Plain(nn.Linear(1, 1).parameters(), lr=0.1)
    monkeypatch.setattr(Plain, "step", lambda self: steps.append(self))
    LeanOptimizer(optimizer).step()
    assert steps == [optimizer]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [1e-6, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_lean_criterion_is_the_criterion(loss: Any, delta: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    spec = TrainSpec(loss=loss, delta=delta)
    y = torch.randn(37, 1, dtype=dtype)
    values, gradients = [], []
    for criterion in (make_criterion(spec), make_lean_criterion(spec)):
        y_pred = (y + torch.linspace(-2, 2, 37, dtype=dtype)[:, None]).requires_grad_()
        value = criterion(y_pred, y)
        value.backward()
        assert y_pred.grad is not None
        values.append(value.item())
        gradients.append(y_pred.grad.tolist())
    assert values[0] == values[1]
    assert gradients[0] == gradients[1]


def test_huber_and_smooth_l1_take_delta_and_the_others_do_not() -> None:
    y_pred, y = torch.tensor([[3.0]]), torch.tensor([[0.0]])
    values = {loss: make_criterion(TrainSpec(loss=loss, delta=2.0))(y_pred, y).item() for loss in LOSSES}
    assert values == {"mse": 9.0, "l1": 3.0, "huber": 2 * (3 - 1), "smooth_l1": 3 - 1}


def test_the_norm_is_over_all_gradients_that_there_are() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.tensor([3.0, 4.0])
    parameters[1].grad = torch.tensor([12.0])
    assert total_norm(parameters).item() == 13
    assert math.isclose(total_norm(parameters[2:]).item(), 0)
