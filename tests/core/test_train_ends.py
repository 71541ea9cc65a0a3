"""A training that diverges names its first bad epoch and leaves the last good weights, however large the model is."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, train
from workflow_core.steps.train import EpochRecord, Trainer, make_criterion, records

DATASET = data.make(DataSpec())
UNVALIDATED = data.make(DataSpec(split=SplitSpec(train=0.8, validation=0, test=0.2)))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


class Normed(nn.Module):
    """Few parameters, but running statistics beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1, affine=False)
        self.linear = nn.Linear(1, 1)
        self.passes: Tensor
        self.seen: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            self.seen = self.seen + x.mean()  # a new tensor in the old one's place
        result: Tensor = self.linear(self.norm(x))
        return result


def two_numbers() -> nn.Module:
    return build.build(ModelSpec())


def network() -> nn.Module:
    return build.build(ModelSpec(kind="mlp", hidden=(8,), activation="leaky_relu"))


def normed() -> nn.Module:
    torch.manual_seed(3)
    return Normed()


MODELS = {"two numbers": two_numbers, "a network": network, "with buffers": normed}


def contents(model: nn.Module) -> list[list[float]]:
    return [tensor.detach().flatten().tolist() for tensor in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize("dataset", [DATASET, UNVALIDATED])
@pytest.mark.parametrize("batch_size", [0, 10])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_last_good_weights_are_kept(make: Any, batch_size: int, dataset: data.Dataset) -> None:
    spec = TrainSpec(learning_rate=5.0, epochs=1000, batch_size=batch_size, device="cpu")
    trainer = Trainer(make(), dataset, spec)
    done: list[EpochRecord] = []
    before: list[Any] = [contents(trainer.model)]
    for record in records(trainer):
        done.append(record)
        before.append(contents(trainer.model))
    assert trainer.ended == "diverged"
    assert [record.finite for record in done] == [True] * (len(done) - 1) + [False]
    assert trainer.first_bad == done[-1].epoch == trainer.done - 1
    assert contents(trainer.model) == before[-2]
    assert all(math.isfinite(value) for values in before[-2] for value in values)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_first_epoch_that_is_bad_leaves_the_model_as_it_was(make: Any) -> None:
    model = make()
    before = contents(model)
    trainer = Trainer(model, DATASET, TrainSpec(learning_rate=1e6, epochs=3, batch_size=5, device="cpu"))
    (record,) = records(trainer)
    assert not record.finite
    assert trainer.first_bad == 0
    assert trainer.best is None
    assert contents(model) == before


def test_nothing_happens_after_the_end() -> None:
    model = two_numbers()
    trainer = Trainer(model, DATASET, TrainSpec(learning_rate=1.5, epochs=1000, device="cpu"))
    while not trainer.ended:
        trainer.epoch()
    done, kept = trainer.done, contents(model)
    for _ in range(3):
        trainer.epoch()
    assert trainer.done == done
    assert contents(model) == kept
    assert len(trainer.fetch()["train_loss"]) == done
    assert list(records(trainer)) == []


def test_the_best_epoch_is_known_without_early_stopping_and_the_last_weights_stay() -> None:
    spec = TrainSpec(learning_rate=0.4, momentum=0.9, epochs=40, device="cpu")
    trainer = Trainer(two_numbers(), DATASET, spec)
    done = list(records(trainer))
    least = min(done, key=lambda record: record.val_loss or 0.0)
    assert 0 < least.epoch < 39
    assert trainer.best == (least.epoch, least.val_loss)
    assert trainer.ended == ""
    assert trainer.tracked.read() == done[-1].parameters


def test_without_validation_rows_the_best_epoch_is_that_of_the_training_loss() -> None:
    trainer = Trainer(two_numbers(), UNVALIDATED, TrainSpec(learning_rate=0.4, momentum=0.9, epochs=15, device="cpu"))
    done = list(records(trainer))
    least = min(done, key=lambda record: record.train_loss)
    assert trainer.best == (least.epoch, least.train_loss)


def test_min_delta_does_nothing_without_early_stopping() -> None:
    spec = TrainSpec(epochs=20, device="cpu")
    plain = Trainer(two_numbers(), DATASET, spec)
    trainer = Trainer(two_numbers(), DATASET, TrainSpec(epochs=20, min_delta=1e3, device="cpu"))
    assert list(records(trainer)) == list(records(plain))
    assert trainer.best == plain.best
    assert trainer.best is not None
    assert trainer.best[0] == 19


def test_the_best_weights_are_a_copy() -> None:
    """They must not follow the model, nor the model them."""
    spec = TrainSpec(learning_rate=0.4, momentum=0.9, epochs=500, early_stop=6, device="cpu")
    trainer = Trainer(network(), DATASET, spec)
    kept: dict[int, Any] = {record.epoch: copy.deepcopy(contents(trainer.model)) for record in records(trainer)}
    assert trainer.best is not None
    assert contents(trainer.model) == kept[trainer.best[0]]
    again = copy.deepcopy(contents(trainer.model))
    trainer.epoch()
    assert contents(trainer.model) == again


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("learning_rate", [0.9, 0.2])
def test_without_validation_rows_the_model_that_is_put_back_has_the_best_training_loss(
    learning_rate: float, make: Any, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "reads_at_once", lambda device: on_host)
    spec = TrainSpec(learning_rate=learning_rate, momentum=0.9, epochs=400, early_stop=3, device="cpu")
    trainer = Trainer(make(), UNVALIDATED, spec)
    done = list(records(trainer))
    assert trainer.ended == "early stop"
    assert trainer.best is not None
    assert trainer.best[1] == min(record.train_loss for record in done)
    assert trainer.held_epochs == trainer.best[0] < trainer.done
    loss = make_criterion(spec)(trainer.model.train()(UNVALIDATED.inputs("train")[0]), UNVALIDATED.inputs("train")[1])
    assert loss.item() == trainer.best[1]


def test_a_first_epoch_that_stays_the_best_brings_back_the_initial_weights() -> None:
    model = network()
    before = contents(model)
    trainer = Trainer(model, UNVALIDATED, TrainSpec(learning_rate=1e-9, min_delta=1.0, early_stop=2, device="cpu"))
    assert len(list(records(trainer))) == 3
    assert trainer.held_epochs == 0
    assert contents(model) == before


def test_the_epochs_behind_the_weights_are_counted() -> None:
    trainer = Trainer(two_numbers(), DATASET, TrainSpec(learning_rate=1.5, epochs=1000, device="cpu"), epoch=5)
    assert trainer.held_epochs == 5
    trainer.epoch()
    assert trainer.held_epochs == 6
    list(records(trainer))
    assert trainer.ended == "diverged"
    assert trainer.held_epochs == trainer.first_bad == trainer.done - 1


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize(
    ("learning_rate", "early_stop", "ended"), [(0.4, 2, "early stop"), (5.0, 0, "diverged"), (0.01, 0, "")]
)
def test_weights_that_were_put_back_come_without_an_optimizers_state(
    learning_rate: float, early_stop: int, ended: str, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "reads_at_once", lambda device: on_host)
    spec = TrainSpec(learning_rate=learning_rate, momentum=0.9, early_stop=early_stop, epochs=800, device="cpu")
    trainer = Trainer(two_numbers(), DATASET, spec)
    assert trainer.optimizer_state() == trainer.optimizer.state_dict()
    list(records(trainer))
    assert trainer.ended == ended
    assert trainer.optimizer_state() == (None if ended else trainer.optimizer.state_dict())


def test_a_goes_on_trainer_counts_from_its_epoch() -> None:
    trainer = Trainer(two_numbers(), DATASET, TrainSpec(learning_rate=1.5, epochs=1000, device="cpu"), epoch=7)
    done = list(records(trainer))
    assert done[0].epoch == 7
    assert trainer.first_bad == done[-1].epoch
