"""Whatever the settings, a training is to the last bit what plain PyTorch gives, written as in a textbook."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from tests.core.textbook import Textbook
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.specs import LOSSES, OPTIMIZERS, SCHEDULERS, DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.data import Dataset
from workflow_core.steps.train import EpochRecord, Trainer, records


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


LINE = data.make(DataSpec(noise=0.05))
PLANE = data.make(DataSpec(kind="plane", step=0.01, noise=0.1, standardize=True))
UNVALIDATED = data.make(DataSpec(noise=0.05, split=SplitSpec(train=0.8, validation=0, test=0.2)))


class Careless(nn.Module):
    """A network of the user's own with all that can go wrong: dropout, batch norm, an unused and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x) * self.frozen
        return result


def careless() -> nn.Module:
    torch.manual_seed(1)
    return Careless()


def state(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def check(model: nn.Module, dataset: Dataset, spec: TrainSpec) -> tuple[Textbook, Trainer, list[EpochRecord]]:
    plain = copy.deepcopy(model)
    textbook = Textbook(plain, dataset.inputs("train"), dataset.inputs("validation"), spec)
    textbook.run()
    trainer = Trainer(model, dataset, spec)
    done = list(records(trainer))
    rows = [(record.train_loss, record.val_loss, record.learning_rate) for record in done]
    if trainer.ended == "diverged":  # which a textbook does not look at
        assert repr(rows) == repr(textbook.rows[: len(rows)])
    else:
        assert rows == textbook.rows
        assert state(model) == state(plain)
    return textbook, trainer, done


SETTINGS: dict[str, dict[str, Any]] = {
    "full batch": {},
    "batches": {"batch_size": 20},
    "batches, clipped": {"batch_size": 10, "clip": 0.05},
}


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "settings"),
    [
        pytest.param(optimizer, scheduler, SETTINGS[name], id=f"{optimizer}-{scheduler}-{name}")
        for optimizer, scheduler, name in itertools.product(OPTIMIZERS, SCHEDULERS, SETTINGS)
        if optimizer != "lbfgs" or name == "full batch"
    ],
)
def test_every_optimizer_with_every_scheduler(optimizer: Any, scheduler: Any, settings: dict[str, Any]) -> None:
    spec = TrainSpec(
        optimizer=optimizer,
        learning_rate=0.1,
        scheduler=scheduler,
        scheduler_epochs=2,
        scheduler_factor=0.5,
        epochs=3 if optimizer == "lbfgs" else 8,  # it takes 20 evaluations a step
        device="cpu",
        **settings,
    )
    _, trainer, done = check(build.build(ModelSpec()), LINE, spec)
    assert len({record.learning_rate for record in done}) == 1 or scheduler != "none"
    assert trainer.ended == ""


@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize(
    "settings",
    [
        *({"loss": loss, "delta": delta} for loss, delta in itertools.product(LOSSES, (0.01, 2.0))),
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.1},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "adamw"},
        {"optimizer": "adamw", "weight_decay": 0.0},
        {"optimizer": "adagrad", "weight_decay": 0.1},
        {"clip": 0.01, "momentum": 0.9},
        {"optimizer": "adam", "batch_seed": 7},
        # settings for which this optimizer, loss or scheduler has no use
        {"nesterov": True, "optimizer": "adam", "momentum": 0.9},
        {"optimizer": "lbfgs", "momentum": 0.9, "weight_decay": 1.0},
        {"scheduler": "plateau", "scheduler_epochs": 1, "scheduler_factor": 0.3, "loss": "l1"},
    ],
    ids=str,
)
def test_every_setting(settings: dict[str, Any], batch_size: int) -> None:
    epochs = 3 if settings.get("optimizer") == "lbfgs" else 10
    check(build.build(ModelSpec()), LINE, TrainSpec(epochs=epochs, batch_size=batch_size, device="cpu", **settings))


@pytest.mark.parametrize("model", [ModelSpec(kind="polynomial", degree=3), ModelSpec(kind="mlp", dropout=0.2)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("batch_size", [0, 16])
def test_float64_and_other_models(model: ModelSpec, optimizer: Any, batch_size: int) -> None:
    dataset = data.make(DataSpec(kind="quadratic", dtype="float64", standardize=True))
    built = build.build(model, 1, "float64")
    _, _, done = check(built, dataset, TrainSpec(optimizer=optimizer, epochs=2, batch_size=batch_size, device="cpu"))
    assert {parameter.dtype for parameter in built.parameters()} == {torch.float64}
    assert len({record.train_loss for record in done}) == 2


@pytest.mark.parametrize("batch_size", [0, 20, 69, 70, 71, 1000])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_network_with_dropout_and_batch_norm(optimizer: Any, batch_size: int) -> None:
    spec = TrainSpec(optimizer=optimizer, epochs=10, batch_size=batch_size, weight_decay=0.1, device="cpu")
    if batch_size == 69:  # a last batch of one row, over which batch norm has no variance
        with pytest.raises(ValueError, match="more than 1 value"):
            check(careless(), PLANE, spec)
        return
    model = careless()
    before = state(model)
    check(model, PLANE, spec)
    assert state(model)["body.1.num_batches_tracked"] == 10 * max(1, math.ceil(70 / batch_size) if batch_size else 1)
    assert state(model)["unused"] == before["unused"]
    assert state(model)["frozen"] == before["frozen"]


@pytest.mark.parametrize("dataset", [LINE, UNVALIDATED])
@pytest.mark.parametrize(
    "settings",
    [
        {"early_stop": 1, "momentum": 0.9},
        {"early_stop": 5, "min_delta": 1e-4},
        {"early_stop": 3, "optimizer": "adam", "learning_rate": 0.3, "batch_size": 5},
        {"early_stop": 4, "optimizer": "lbfgs", "learning_rate": 1.0},
        {"early_stop": 8, "momentum": 0.95, "learning_rate": 0.2, "scheduler": "plateau", "scheduler_epochs": 2},
    ],
    ids=str,
)
def test_early_stopping(settings: dict[str, Any], dataset: Dataset) -> None:
    spec = TrainSpec(epochs=3000, device="cpu", **settings)
    textbook, trainer, done = check(build.build(ModelSpec()), dataset, spec)
    assert trainer.best == (textbook.best_epoch, textbook.best)
    assert len(done) < 3000
    assert trainer.ended == "early stop"
    assert done[-1].epoch - textbook.best_epoch == spec.early_stop
    held = textbook.best_epoch + trainer.validates
    assert trainer.held_epochs == held
    assert held == 0 or trainer.tracked.read() == done[held - 1].parameters


@pytest.mark.parametrize("shares", ["70/15/15", "70/0/30"])
def test_early_stopping_puts_back_buffers_too(shares: str) -> None:
    dataset = data.make(replace(PLANE.spec, split=SplitSpec.parse(shares)))
    spec = TrainSpec(epochs=500, early_stop=2, batch_size=16, learning_rate=0.2, device="cpu")
    _, trainer, done = check(careless(), dataset, spec)
    assert trainer.ended == "early stop"
    assert trainer.best is not None
    steps_an_epoch = math.ceil(70 / 16)
    assert state(trainer.model)["body.1.num_batches_tracked"] == trainer.held_epochs * steps_an_epoch
    assert len(done) == trainer.best[0] + 1 + 2


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize("kind", ["parameter", "mlp"])
def test_the_gradient_norm_is_that_of_the_last_step_before_clipping(kind: Any, batch_size: int, clip: float) -> None:
    model = build.build(ModelSpec(kind=kind))
    plain = copy.deepcopy(model)
    spec = TrainSpec(epochs=1, batch_size=batch_size, clip=clip, device="cpu")
    (record,) = records(Trainer(model, LINE, spec))
    X, y = LINE.inputs("train")
    batches = [torch.arange(len(X))]
    if batch_size:
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(42))
        batches = list(torch.split(order, batch_size))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    for rows in batches:
        optimizer.zero_grad()
        nn.MSELoss()(plain(X[rows]), y[rows]).backward()
        squares = sum(float((p.grad.double() ** 2).sum()) for p in plain.parameters() if p.grad is not None)
        if clip:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimizer.step()
    assert record.grad_norm == pytest.approx(math.sqrt(squares), rel=1e-6)
    assert state(model) == state(plain)


def test_lbfgs_records_loss_and_gradient_from_before_its_step() -> None:
    first, second = records(
        Trainer(build.build(ModelSpec()), LINE, TrainSpec(optimizer="lbfgs", learning_rate=1, epochs=2, device="cpu"))
    )
    (sgd,) = records(Trainer(build.build(ModelSpec()), LINE, TrainSpec(epochs=1, device="cpu")))
    assert (first.train_loss, first.grad_norm) == (sgd.train_loss, sgd.grad_norm)
    assert second.train_loss < 0.1 * first.train_loss
    assert second.grad_norm < 0.1 * first.grad_norm


def test_dropout_does_not_depend_on_what_is_drawn_in_between() -> None:
    spec = TrainSpec(epochs=6, batch_size=16, device="cpu")
    expected = list(records(Trainer(careless(), PLANE, spec)))
    trainer = Trainer(careless(), PLANE, spec)
    done = []
    for record in records(trainer):
        done.append(record)
        build.build(ModelSpec())
        torch.rand(5)
    assert done == expected
    other = list(records(Trainer(careless(), PLANE, TrainSpec(epochs=6, batch_size=16, batch_seed=43, device="cpu"))))
    assert other != expected
