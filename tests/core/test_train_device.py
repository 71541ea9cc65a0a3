"""On an accelerator nothing waits for the device before `fetch`, and what comes out is what a CPU gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from workflow_core import devices
from workflow_core.specs import LOSSES, OPTIMIZERS, SCHEDULERS, DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data, train
from workflow_core.steps import records as records_module
from workflow_core.steps.train import Trainer, records

DATASET = data.make(DataSpec(noise=0.05, standardize=True))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device on which reading any number raises, as reading one from a GPU would wait."""
    device = torch.device("meta")
    monkeypatch.setattr(train, "pick_device", lambda *asked: device)
    return device


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU, treated as if reading a number from it took long."""
    monkeypatch.setattr(train, "reads_at_once", lambda device: False)


class Waiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what makes a program wait for its device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in ("_local_scalar_dense", "item", "nonzero", "equal.default", "is_nonzero")):
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


DESCENDING = [optimizer for optimizer in OPTIMIZERS if optimizer != "lbfgs"]
UNWATCHING = [scheduler for scheduler in SCHEDULERS if scheduler != "plateau"]


@pytest.mark.parametrize("settings", [{}, {"batch_size": 8, "clip": 0.1, "early_stop": 2}], ids=str)
@pytest.mark.parametrize(
    ("loss", "optimizer"), [*((loss, "sgd") for loss in LOSSES), *(("mse", optimizer) for optimizer in DESCENDING[1:])]
)
def test_an_epoch_reads_nothing_from_the_device(
    meta: torch.device, optimizer: Any, loss: Any, settings: dict[str, Any]
) -> None:
    model = build.build(ModelSpec())
    trainer = Trainer(model, DATASET, TrainSpec(optimizer=optimizer, loss=loss, **settings))
    for _ in range(3):
        trainer.epoch()
    assert trainer.done == 3
    assert {parameter.device for parameter in model.parameters()} == {meta}
    state = [item for values in trainer.optimizer.state.values() for item in values.values()]
    assert all(item.device == meta for item in state if isinstance(item, torch.Tensor) and item.dim())
    with pytest.raises((RuntimeError, NotImplementedError)):
        trainer.fetch()


# Adam counts its steps in a tensor, on the CPU whatever device the parameters are on: no wait, but the same operation
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("scheduler", UNWATCHING)
@pytest.mark.parametrize("kind", ["parameter", "mlp"])
def test_an_epoch_does_nothing_that_waits(
    remote: None, kind: Any, scheduler: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build.build(ModelSpec(kind=kind, dropout=0.1))
    spec = TrainSpec(optimizer=optimizer, scheduler=scheduler, batch_size=16, clip=1.0, early_stop=5, device="cpu")
    trainer = Trainer(model, DATASET, spec)
    with monkeypatch.context() as patch, Waiting() as waiting:
        patch.setattr(torch.Tensor, "tolist", None)
        for _ in range(3):
            trainer.epoch()
        trainer.set_learning_rate(0.02)
        trainer.epoch()
    assert waiting.waits == []
    assert len(trainer.fetch()["train_loss"]) == 4


def test_the_sizes_of_the_batches_are_taken_to_the_device_once(remote: None, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(batch_size=8, device="cpu"))
    trainer.epoch()
    monkeypatch.setattr(torch, "tensor", None)
    trainer.epoch()
    assert len(trainer.fetch()["train_loss"]) == 2


def test_on_a_cpu_the_same_epoch_reads_its_figures() -> None:
    trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(device="cpu"))
    with Waiting() as waiting:
        trainer.epoch()
    assert len(waiting.waits) == 6


def test_figures_come_over_in_one_transfer(meta: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(learning_rate=0.5))
    for _ in range(5):
        trainer.epoch()
    shapes: list[tuple[int, ...]] = []

    def tolist(tensor: torch.Tensor) -> list[list[float]]:
        shapes.append(tuple(tensor.shape))
        rows, columns = tensor.shape
        return [[float(row * columns + column) for column in range(columns)] for row in range(rows)]

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    columns = trainer.fetch()
    assert shapes == [(5, 5)]
    assert columns["val_loss"] == [1, 6, 11, 16, 21]
    assert columns["learning_rate"] == [0.5] * 5
    assert columns["grad_norm"] == [2, 7, 12, 17, 22]
    assert columns["bias"] == [4, 9, 14, 19, 24]


@pytest.mark.parametrize("kind", ["parameter", "mlp"])
@pytest.mark.parametrize("chunk", [7, 64])
@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 150},
        {"epochs": 20, "batch_size": 8, "scheduler": "plateau", "scheduler_epochs": 1, "scheduler_factor": 0.5},
        {"epochs": 400, "learning_rate": 0.3, "momentum": 0.9, "early_stop": 4},
        {"epochs": 400, "learning_rate": 0.3, "momentum": 0.9, "early_stop": 9, "min_delta": 0.01, "batch_size": 9},
        {"epochs": 400, "learning_rate": 6.0},
        {"epochs": 400, "learning_rate": 6.0, "batch_size": 16, "early_stop": 300},
        {"epochs": 3, "learning_rate": 1e6, "batch_size": 5},
        {"epochs": 5, "optimizer": "lbfgs", "learning_rate": 0.5},
    ],
    ids=str,
)
def test_records_and_weights_are_those_of_a_cpu(
    settings: dict[str, Any], chunk: int, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> tuple[Trainer, list[Any]]:
        model = build.build(ModelSpec(kind=kind, hidden=(4,), activation="leaky_relu"))
        trainer = Trainer(model, DATASET, TrainSpec(device="cpu", **settings))
        return trainer, list(records(trainer))

    expected, expected_records = run()
    monkeypatch.setattr(train, "reads_at_once", lambda device: False)
    monkeypatch.setattr(records_module, "CHUNK", chunk)
    trainer, done = run()
    assert [r.epoch for r in done] == [r.epoch for r in expected_records]
    for record, other in zip(done, expected_records, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, rel=1e-6, nan_ok=True)
        assert record.val_loss == pytest.approx(other.val_loss, nan_ok=True)
        assert record.learning_rate == other.learning_rate
        # its square does not fit into float32 any more, which is what an accelerator adds it up in
        too_large = other.grad_norm > 1.8e19 and record.grad_norm == math.inf
        assert too_large or record.grad_norm == pytest.approx(other.grad_norm, rel=1e-5, nan_ok=True)
        assert record.parameters == pytest.approx(other.parameters, nan_ok=True)
    ends = (trainer.ended, trainer.first_bad, trainer.done)
    assert ends == (expected.ended, expected.first_bad, expected.done)
    assert (trainer.best is None) == (expected.best is None)
    if trainer.best is not None and expected.best is not None:
        assert trainer.best[0] == expected.best[0]
        assert trainer.best[1] == pytest.approx(expected.best[1])
    assert [p.tolist() for p in trainer.model.parameters()] == [p.tolist() for p in expected.model.parameters()]


def test_models_of_mixed_precision_are_recorded_too(remote: None) -> None:
    model = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))
    model.register_parameter("scale", nn.Parameter(torch.ones(3, dtype=torch.float16)))
    trainer = Trainer(model, DATASET, TrainSpec(device="cpu", epochs=3))
    done = list(records(trainer))
    assert done[-1].parameters["scale norm"] == pytest.approx(math.sqrt(3), rel=1e-3)


@pytest.mark.parametrize("batch_size", [0, 8])
def test_adam_waits_for_nothing_but_its_own_count(meta: torch.device, batch_size: int) -> None:
    model = build.build(ModelSpec(kind="mlp"))
    trainer = Trainer(model, DATASET, TrainSpec(optimizer="adam", batch_size=batch_size))
    trainer.epoch()
    steps = [values["step"] for values in trainer.optimizer.state.values()]
    assert {step.device.type for step in steps} == {"cpu"}
