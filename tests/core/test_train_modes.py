"""train(), eval() and inference_mode stand where a careful textbook has them, and the process is left as it was."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data, surroundings, train
from workflow_core.steps.modes import Modes, draws
from workflow_core.steps.train import Trainer, records

DATASET = data.make(DataSpec())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


class Watched(nn.Module):
    """Notes in which mode it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1), nn.Dropout(0.5))
        self.asked: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append((self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        assert {module.training for module in self.modules()} == {self.training}
        result: Tensor = self.inner(x)
        return result


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_batch_is_seen_in_train_mode_and_validation_in_eval_mode(optimizer: Any) -> None:
    model = Watched().eval()
    Trainer(model, DATASET, TrainSpec(optimizer=optimizer, batch_size=20, device="cpu")).epoch()
    assert model.asked[0] == (True, True, False)
    assert set(model.asked[:-1]) == {(True, True, False)}
    assert model.asked[-1] == (False, False, True)
    assert {module.training for module in model.modules()} == {True}
    if optimizer == "sgd":
        assert len(model.asked) == 3


def test_validation_leaves_the_running_statistics_alone() -> None:
    model = Watched()
    Trainer(model, DATASET, TrainSpec(device="cpu")).epoch()
    statistics = dict(model.named_buffers())
    X_train, _ = DATASET.inputs("train")
    assert statistics["inner.0.num_batches_tracked"] == 1
    assert statistics["inner.0.running_mean"].item() == pytest.approx(0.1 * X_train.mean().item())


class Frozen(nn.Module):
    """Keeps a part of itself in eval mode whatever is asked: a habit of fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.linear = nn.Linear(1, 1)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(self.norm(x))
        return result


def test_a_train_method_of_the_users_own_is_called() -> None:
    model = Frozen()
    list(records(Trainer(model, DATASET, TrainSpec(epochs=3, batch_size=10, device="cpu"))))
    assert model.training
    assert not model.norm.training
    assert model.norm.num_batches_tracked == 0


class OnlyInTraining(nn.Module):
    """Gives what it should in eval mode, which is how a model is tried when it is built."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        y_pred = self.linear(x)
        return self.change(y_pred) if self.training else y_pred


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("batch_size", [0, 10])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y_pred: y_pred.squeeze(1), "a tensor of shape [n]"),
        (lambda y_pred: (y_pred, y_pred), "a tuple, not a tensor"),
        (lambda y_pred: y_pred.mean(), "a tensor of shape []"),
        (lambda y_pred: y_pred[:-1], "a tensor of shape ["),
    ],
)
def test_a_wrong_output_while_training_is_one_clear_error(
    change: Any, said: str, batch_size: int, optimizer: Any
) -> None:
    model = OnlyInTraining(change)
    before = model.linear.weight.item()
    trainer = Trainer(model, DATASET, TrainSpec(batch_size=batch_size, optimizer=optimizer, device="cpu"))
    with pytest.raises(WorkflowError) as caught:
        trainer.epoch()
    assert f"its forward gives {said}" in caught.value.problem.message
    assert trainer.done == 0
    assert model.linear.weight.item() == before


def test_the_output_is_looked_at_in_the_first_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(train, "check_output", lambda y_pred, rows: looked.append(rows))
    trainer = Trainer(Watched(), DATASET, TrainSpec(batch_size=20, device="cpu"))
    trainer.epoch()
    assert looked == [20, 15]
    trainer.epoch()
    assert looked == [20, 15]


MODELS = {
    "parameter": (build.build(ModelSpec()), False),
    "linear": (build.build(ModelSpec(kind="linear")), False),
    "polynomial": (build.build(ModelSpec(kind="polynomial")), False),
    "mlp": (build.build(ModelSpec(kind="mlp", activation="leaky_relu")), False),
    "dropout": (build.build(ModelSpec(kind="mlp", dropout=0.5)), True),
    "batch norm": (nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1)), True),
    "of the user's own": (Watched(), True),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_short_way_to_train_and_eval_does_what_theirs_do(name: str) -> None:
    model, may_draw = MODELS[name]
    assert draws(model) is may_draw
    modes = Modes(model)
    for switch, expected in ((modes.eval, False), (modes.train, True), (modes.eval, False)):
        switch()
        assert {module.training for module in model.modules()} == {expected}
    model.train()


class Unrepeatable(nn.Module):
    """Uses an operation for which torch has no algorithm that repeats, on a CPU neither."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x.clone().put_(torch.tensor([0]), x[0]))
        return result


@pytest.mark.parametrize("before", ["default", "warn", "error"])
def test_the_repeatable_mode_is_on_in_epochs_only(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    model = build.build(ModelSpec())
    model.register_forward_hook(lambda *_: modes.append(torch.are_deterministic_algorithms_enabled()))
    torch.set_deterministic_debug_mode(before)
    mode = torch.get_deterministic_debug_mode()
    try:
        done = list(records(Trainer(model, DATASET, TrainSpec(epochs=2, deterministic=True, device="cpu"))))
        assert torch.get_deterministic_debug_mode() == mode
    finally:
        torch.set_deterministic_debug_mode("default")
    assert modes == [True] * 4
    assert done == list(records(Trainer(build.build(ModelSpec()), DATASET, TrainSpec(epochs=2, device="cpu"))))


def test_an_operation_that_does_not_repeat_is_one_clear_error() -> None:
    trainer = Trainer(Unrepeatable(), DATASET, TrainSpec(deterministic=True, device="cpu"))
    with pytest.raises(WorkflowError) as caught:
        trainer.epoch()
    assert "put_" in caught.value.problem.message
    assert "repeatable mode" in caught.value.problem.advice
    assert not torch.are_deterministic_algorithms_enabled()
    assert trainer.done == 0
    Trainer(Unrepeatable(), DATASET, TrainSpec(device="cpu")).epoch()


def test_other_errors_are_not_taken_for_it() -> None:
    model = Watched()
    model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    trainer = Trainer(model, DATASET, TrainSpec(deterministic=True, device="cpu"))
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        trainer.epoch()
    assert not torch.are_deterministic_algorithms_enabled()


def test_cublas_gets_the_workspace_it_needs_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    surroundings.Repeatable(torch.device("cpu"))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    surroundings.Repeatable(torch.device("cuda"))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    surroundings.Repeatable(torch.device("cuda"))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_accelerators_random_numbers_are_kept_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        state = torch.tensor([0])

        @classmethod
        def get_rng_state(cls, device: torch.device) -> Tensor:
            assert device == torch.device("cuda", 1)
            return cls.state

        @classmethod
        def set_rng_state(cls, state: Tensor, device: torch.device) -> None:
            cls.state = state

    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    numbers = surroundings.RandomNumbers(torch.device("cuda", 1), nn.Module())
    with numbers:
        Module.state = torch.tensor([5])
        expected = torch.rand(1)
        torch.rand(1)
    Module.state = torch.tensor([9])
    torch.manual_seed(0)
    with numbers:
        assert Module.state.item() == 5
        assert torch.rand(1) != expected
