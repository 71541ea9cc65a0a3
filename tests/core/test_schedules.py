"""The learning rate may be changed while a schedule runs; the schedule goes on from there."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_core import devices
from workflow_core.specs import SCHEDULERS, DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer

DATASET = data.make(DataSpec())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


def trainer_with(**settings: Any) -> Trainer:
    settings = {"epochs": 20, "scheduler_epochs": 4, "scheduler_factor": 0.5, "device": "cpu", **settings}
    return Trainer(build.build(ModelSpec()), DATASET, TrainSpec(**settings))


def rates(trainer: Trainer, epochs: int) -> list[float]:
    for _ in range(epochs):
        trainer.epoch()
    return trainer.fetch()["learning_rate"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("at", [0, 1, 3, 4, 5, 12])
def test_a_schedule_goes_on_from_the_new_learning_rate(scheduler: Any, at: int) -> None:
    """All later values are those of the undisturbed schedule, times what the change was."""
    undisturbed = rates(trainer_with(scheduler=scheduler), 20)
    trainer = trainer_with(scheduler=scheduler)
    first = rates(trainer, at)
    trainer.set_learning_rate(trainer.learning_rate * 3)
    assert trainer.learning_rate == pytest.approx(undisturbed[at] * 3)
    later = rates(trainer, 20 - at)
    assert first == undisturbed[:at]
    assert later == pytest.approx([rate * 3 for rate in undisturbed[at:]])


def test_without_a_schedule_it_stays_as_set() -> None:
    trainer = trainer_with()
    assert rates(trainer, 2) == [0.01, 0.01]
    trainer.set_learning_rate(0.2)
    assert rates(trainer, 2) == [0.2, 0.2]


def test_the_new_learning_rate_is_that_of_the_next_step() -> None:
    """SGD moves by lr times the gradient: the step shows which one was used."""
    trainer = trainer_with()
    rates(trainer, 1)
    before = [parameter.item() for parameter in trainer.model.parameters()]
    trainer.set_learning_rate(0.25)
    rates(trainer, 1)
    for parameter, old in zip(trainer.model.parameters(), before, strict=True):
        assert parameter.grad is not None
        assert parameter.item() == pytest.approx(old - 0.25 * parameter.grad.item())


def test_after_a_schedule_has_come_to_zero_a_new_rate_counts() -> None:
    trainer = trainer_with(scheduler="cosine", epochs=5)
    rates(trainer, 5)
    assert trainer.learning_rate == 0
    trainer.set_learning_rate(0.1)
    assert rates(trainer, 1) == [0.1]


def test_plateau_watches_the_validation_loss_and_waits_for_it() -> None:
    trainer = trainer_with(scheduler="plateau", learning_rate=0.5, momentum=0.9, epochs=60)
    for _ in range(60):
        trainer.epoch()
    columns = trainer.fetch()
    assert columns["learning_rate"][-1] < 0.5
    best, bad, rate = float("inf"), 0, 0.5
    for loss, used in zip(columns["val_loss"], columns["learning_rate"], strict=True):
        assert used == rate
        best, bad = (loss, 0) if loss < best * (1 - 1e-4) else (best, bad + 1)
        if bad > 4:
            rate, bad = rate * 0.5, 0


def test_a_factor_of_one_changes_nothing() -> None:
    for scheduler in ("plateau", "step", "warmup"):
        trainer = trainer_with(scheduler=scheduler, scheduler_factor=1.0, learning_rate=0.5, momentum=0.9)
        assert set(rates(trainer, 20)) == {0.5}
