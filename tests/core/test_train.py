"""Training gives the course's numbers, never waits for the device, and goes where the device says."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.scripts import script
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data, evaluate, train
from workflow_core.steps.tracked import Tracked
from workflow_core.steps.train import EpochRecord, Trainer

DATA = Path(__file__).parents[1] / "data"
COURSE: dict[str, Any] = json.loads((DATA / "course_runs.json").read_text())
EXPERIMENTS: dict[str, Any] = json.loads((DATA / "experiments.json").read_text())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


def run(
    spec: TrainSpec, data_spec: DataSpec | None = None, init: dict[str, Any] | None = None
) -> tuple[list[EpochRecord], nn.Module, data.Dataset]:
    dataset = data.make(data_spec or DataSpec())
    model = build.build(ModelSpec(init=InitSpec(values=init or {})))
    return list(train.train(model, dataset, spec)), model, dataset


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-5)


def test_a_single_step_is_the_courses() -> None:
    reference = COURSE["03_one_step"]
    model = build.build(ModelSpec())
    trainer = Trainer(model, data.make(DataSpec()), TrainSpec(device="cpu"))
    trainer.epoch()
    figures = trainer.fetch()
    assert figures["train_loss"] == near([reference["loss"]])
    assert [parameter.grad.item() for parameter in model.parameters() if parameter.grad is not None] == near(
        reference["grad"]
    )
    assert [figures["weight"][0], figures["bias"][0]] == near(reference["after"])
    assert trainer.done == 1


RUNS = {
    "03_loop": COURSE["03_loop"],
    "04": COURSE["04"],
    **{f"unseeded lr {run['lr']}": run for run in COURSE["05_lr_sweep_as_scripted_unseeded"]},
    **{f"fair lr {run['lr']}": run for run in COURSE["05_lr_sweep_fair"]},
}


@pytest.mark.parametrize("name", RUNS)
def test_every_run_of_the_course(name: str) -> None:
    reference = RUNS[name]
    init = dict(zip(("weight", "bias"), reference["init"], strict=True))
    records, model, dataset = run(TrainSpec(learning_rate=reference["lr"], epochs=reference["epochs"]), init=init)
    for epoch, (train_loss, val_loss) in reference["hist"].items():
        record = records[int(epoch)]
        assert record.epoch == int(epoch)
        assert [record.train_loss, record.val_loss] == near([train_loss, val_loss])
    assert list(records[-1].parameters.values()) == near(reference["final"])
    assert [records[-1].train_loss, records[-1].val_loss] == near([reference["last_train"], reference["last_val"]])
    test = evaluate.evaluate(model, dataset)["test"]
    assert test is not None
    assert test.mse == near(reference["test"])
    assert Tracked(model).read() == records[-1].parameters


def test_the_courses_predictions_after_100_epochs() -> None:
    _, model, dataset = run(TrainSpec())
    first = [row.y_pred for row in evaluate.predictions(model, dataset)["test"][:5]]
    assert first == pytest.approx(COURSE["04"]["test_preds_first5"], abs=5e-5)
    assert build.predict(model, [[0.25], [0.5], [0.75]]) == pytest.approx(
        COURSE["04"]["pred_0.25_0.5_0.75"], abs=5.1e-5
    )


def ranged(low: float, high: float) -> DataSpec:
    return DataSpec(start=low, stop=high, step=(high - low) / 50)


OTHERS: dict[str, tuple[TrainSpec, DataSpec]] = {
    **{
        f"lr={rate}": (TrainSpec(learning_rate=float(rate)), DataSpec())
        for rate in ("0.0001", "0.001", "0.01", "0.05", "0.1", "0.3", "0.5", "0.7", "0.8", "0.85", "0.9", "1.0")
    },
    "lr=0.01 x1000": (TrainSpec(epochs=1000), DataSpec()),
    "lr=0.1 x500": (TrainSpec(learning_rate=0.1, epochs=500), DataSpec()),
    "adam lr=0.01 x100": (TrainSpec(optimizer="adam"), DataSpec()),
    "adam lr=0.01 x300": (TrainSpec(optimizer="adam", epochs=300), DataSpec()),
    "adam lr=0.1 x100": (TrainSpec(optimizer="adam", learning_rate=0.1), DataSpec()),
    "l1 lr=0.01 x100": (TrainSpec(loss="l1"), DataSpec()),
    "l1 lr=0.01 x200": (TrainSpec(loss="l1", epochs=200), DataSpec()),
    "X[0,2) lr.01": (TrainSpec(), ranged(0, 2)),
    "X[0,10) lr.01": (TrainSpec(), ranged(0, 10)),
    "X[-1,1) lr.01": (TrainSpec(), ranged(-1, 1)),
    "X[-10,10) lr.01": (TrainSpec(), ranged(-10, 10)),
    "noise=0.02 shuffle=False lr.1x2000": (TrainSpec(learning_rate=0.1, epochs=2000), DataSpec(noise=0.02)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_experiments(name: str) -> None:
    reference = EXPERIMENTS[name]
    spec, data_spec = OTHERS[name]
    records, model, dataset = run(spec, data_spec)
    check(reference, records, model, dataset, spec)


def check(
    reference: dict[str, Any], records: list[EpochRecord], model: nn.Module, dataset: data.Dataset, spec: TrainSpec
) -> None:
    # a loss that has nearly vanished is the difference of nearly equal numbers: float32 leaves fewer digits of it
    def near_loss(expected: float) -> Any:
        return pytest.approx(expected, rel=1e-5, abs=1e-10)

    assert len(records) == spec.epochs
    assert list(records[-1].parameters.values()) == near([reference["w"], reference["b"]])
    assert records[0].train_loss == near(reference["train0"])
    assert records[0].val_loss == near(reference["val0"])
    assert records[-1].train_loss == near_loss(reference["trainN"])
    assert records[-1].val_loss == near_loss(reference["valN"])
    assert max(record.train_loss for record in records) == near(reference["trainMax"])
    metrics = evaluate.evaluate(model, dataset)
    criterion = train.make_criterion(spec)
    X_test, y_test = dataset.split("test")
    assert criterion(model(X_test), y_test).item() == near_loss(reference["test"])
    assert metrics["test"] is not None
    assert (metrics["test"].mse if spec.loss == "mse" else metrics["test"].mae) == near_loss(reference["test"])


def test_experiment_whose_order_went_on_with_the_noises_generator() -> None:
    """Our own specs cannot say this on purpose: there the order has a seed of its own."""
    spec = TrainSpec(learning_rate=0.1, epochs=2000)
    dataset = data.make(DataSpec(noise=0.05, split=SplitSpec(order="shuffled")))
    torch.manual_seed(42)
    torch.randn(50, 1)
    train_rows, val_rows, test_rows = torch.split(torch.randperm(50), [35, 7, 8])
    dataset = replace(dataset, indices={"train": train_rows, "validation": val_rows, "test": test_rows})
    model = build.build(ModelSpec())
    records = list(train.train(model, dataset, spec))
    check(EXPERIMENTS["noise=0.05 shuffle=True lr.1x2000"], records, model, dataset, spec)


@pytest.mark.parametrize(
    ("name", "spec", "data_spec"),
    [
        ("lr=1.5", TrainSpec(learning_rate=1.5), DataSpec()),
        ("X[0,100) lr.01", TrainSpec(), ranged(0, 100)),
    ],
)
def test_a_run_that_blows_up_ends_with_its_first_bad_epoch(name: str, spec: TrainSpec, data_spec: DataSpec) -> None:
    records, model, _ = run(spec, data_spec)
    assert records[0].train_loss == near(EXPERIMENTS[name]["train0"])
    assert len(records) < 100
    assert [record.finite for record in records] == [True] * (len(records) - 1) + [False]
    assert Tracked(model).read() == records[-2].parameters


@pytest.mark.parametrize(
    ("record", "finite"),
    [
        (EpochRecord(0, 1.0, None, 0.1, 1.0, {"weight": 1.0}), True),
        (EpochRecord(0, 1e308, 1e308, 0.1, 1e308, {"weight": 1e308, "bias": 1e308}), True),
        (EpochRecord(0, math.nan, 1.0, 0.1, 1.0, {}), False),
        (EpochRecord(0, 1.0, math.inf, 0.1, 1.0, {}), False),
        (EpochRecord(0, 1.0, 1.0, 0.1, -math.inf, {}), False),
        (EpochRecord(0, 1.0, None, 0.1, 1.0, {"weight": math.inf, "bias": -math.inf}), False),
    ],
)
def test_what_counts_as_finite(record: EpochRecord, finite: bool) -> None:
    assert record.finite is finite


def test_without_validation_rows_there_is_no_validation_loss() -> None:
    spec = DataSpec(split=SplitSpec(train=0.8, validation=0, test=0.2))
    records, model, dataset = run(TrainSpec(epochs=3), spec)
    assert [record.val_loss for record in records] == [None] * 3
    trainer = Trainer(model, dataset, TrainSpec())
    trainer.epoch()
    assert list(trainer.fetch()) == ["train_loss", "learning_rate", "grad_norm", "weight", "bias"]


def test_fetch_gives_each_figure_once() -> None:
    expected, _, _ = run(TrainSpec(epochs=7))
    trainer = Trainer(build.build(ModelSpec()), data.make(DataSpec()), TrainSpec(epochs=7))
    names = ["train_loss", "val_loss", "learning_rate", "grad_norm", "weight", "bias"]
    assert trainer.fetch() == {name: [] for name in names}
    columns: dict[str, list[float]] = {}
    for epochs in (3, 1, 3):
        for _ in range(epochs):
            trainer.epoch()
        for name, column in trainer.fetch().items():
            columns.setdefault(name, []).extend(column)
    assert columns["train_loss"] == [record.train_loss for record in expected]
    assert columns["val_loss"] == [record.val_loss for record in expected]
    assert columns["grad_norm"] == [record.grad_norm for record in expected]
    assert columns["weight"] == [record.parameters["weight"] for record in expected]
    assert trainer.done == 7


def test_a_trainer_goes_on_where_it_was() -> None:
    """Optimizers with a memory must keep it: two halves are the whole, bit for bit."""
    spec = TrainSpec(optimizer="adam", learning_rate=0.1, epochs=40)
    expected, _, _ = run(spec)
    trainer = Trainer(build.build(ModelSpec()), data.make(DataSpec()), spec)
    first = list(itertools.islice(train.records(trainer), 15))
    assert trainer.done == 15
    assert first + list(train.records(trainer)) == expected


def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in (
        (("cuda", "mps", "cpu"), torch.device("cuda", 0)),
        (("mps", "cpu"), torch.device("mps")),
        (("cpu",), torch.device("cpu")),
    ):
        monkeypatch.setattr(devices, "available_devices", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        assert train.pick_device("auto") == expected


def test_mps_is_not_taken_for_float64_which_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ("mps", "cpu"))
    assert train.pick_device("auto", "float64") == torch.device("cpu")
    wide = data.make(DataSpec(dtype="float64"))
    trainer = Trainer(build.build(ModelSpec(), 1, "float64"), wide, TrainSpec(device="auto"))
    assert trainer.device == torch.device("cpu")
    with pytest.raises(WorkflowError, match="'mps' has no float64"):
        Trainer(build.build(ModelSpec(), 1, "float64"), wide, TrainSpec(device="mps"))
    for dtype, has in (("float32", True), ("float64", False)):
        text = script(WorkflowSpec(data=DataSpec(dtype=dtype), train=TrainSpec(device="auto")))  # type: ignore[arg-type]
        assert ('"mps"' in text) == has


def test_devices_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert train.available_devices() == ("cuda", "cuda:0", "cuda:1", "mps", "cpu")
    assert train.pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert train.available_devices() == ("cuda", "mps", "cpu")
    assert train.pick_device("cuda:0") == torch.device("cuda:0")


def test_a_missing_device_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ("mps", "cpu"))
    with pytest.raises(WorkflowError) as caught:
        train.train(build.build(ModelSpec()), data.make(DataSpec()), TrainSpec(device="cuda:3")).__next__()
    assert caught.value.problem.message == "The device 'cuda:3' is not there; this machine has mps and cpu."
