"""Runs as the session keeps them: what is recorded of each, and how an earlier one's settings come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.test_session import Bench

from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    Evaluate,
    MakeData,
    Pause,
    Reset,
    RestoreRun,
    Run,
    SetLearningRate,
    SetTraining,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.store import Store
from workflow_core.views import RunView

MLP = ModelSpec(kind="mlp", hidden=(3,))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    own = Store(tmp_path / "workspace.sqlite")
    yield own
    own.close()


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    return Bench(tmp_path, store)


def runs(bench: Bench) -> dict[int, RunView]:
    return {view.run: view for view in bench.library.listing()}


def test_a_run_is_kept_from_its_first_epoch_on_as_it_stands(bench: Bench, store: Store) -> None:
    bench(Reset(), BuildModel(), Run(epochs=2), Pause(), Reset(), Reset())
    assert runs(bench) == {}
    assert bench.view.run == 2  # of the first one no epoch was trained
    bench.train(10)
    bench(SetLearningRate(learning_rate=0.5))
    bench.train(5)
    view = runs(bench)[2]
    assert view.lr_changes == ((10, 0.5),)
    assert (view.state, view.epochs, view.spec) == ("paused", 15, WorkflowSpec())
    shown = bench.view
    assert (view.train_loss, view.val_loss, view.parameters) == (shown.train_loss, shown.val_loss, shown.parameters)
    assert (view.best_epoch, view.best_loss) == (shown.best_epoch, shown.best_loss)
    assert 0 < view.elapsed <= shown.elapsed
    bench(SetTraining(spec=TrainSpec(epochs=150)))
    bench.train()
    view = runs(bench)[2]
    assert (view.state, view.epochs, view.spec.train.epochs) == ("finished", 150, 150)
    assert store.flush()
    assert store.find(2) == view


@pytest.mark.parametrize("running", [True, False])
def test_a_run_that_is_left_is_told_to_have_been_stopped(bench: Bench, running: bool) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=1_000_000)))
    bench.train(3)
    if running:
        bench(Run())
    bench(Reset())
    assert runs(bench)[1].state == "stopped"
    assert bench.view.run == 2
    bench(SetTraining(spec=TrainSpec(epochs=4)))
    bench.train()
    bench(Reset())
    assert {run: view.state for run, view in runs(bench).items()} == {1: "stopped", 2: "finished"}


def test_a_later_session_goes_on_counting(bench: Bench, store: Store, tmp_path: Path) -> None:
    bench.train(1)
    bench(Reset())
    bench.train(1)
    bench.library.forget([2])
    later = Bench(tmp_path, store)
    later.train(1)
    assert later.view.run == 3


def test_the_settings_of_a_run_come_back_with_its_data_and_model(bench: Bench) -> None:
    first = WorkflowSpec(data=DataSpec(noise=0.1), model=MLP, train=TrainSpec(epochs=20, optimizer="adam"))
    bench(MakeData(spec=first.data), BuildModel(spec=first.model), SetTraining(spec=first.train))
    trained = bench.train()
    bench(MakeData(spec=DataSpec(weight=0.1)), BuildModel(spec=ModelSpec()), SetTraining(spec=TrainSpec(epochs=5)))
    bench.train()
    bench(Evaluate())
    bench(RestoreRun(run=1))
    assert [bench.state[name] for name in ("data_spec", "model_spec", "train_spec")] == [
        first.data,
        first.model,
        first.train,
    ]
    assert (bench.state["data"].spec, bench.state["model"].spec) == (first.data, first.model)
    assert bench.steps("data", "build", "train", "evaluate") == ["done", "done", "stale", "stale"]
    assert "run 1 were restored" in bench.state["steps"].reasons["train"]
    again = bench.train()
    assert again.run == 3
    assert again.parameters == trained.parameters


def test_settings_that_are_there_already_leave_the_run_as_it_is(bench: Bench) -> None:
    view = bench.train()
    bench(Evaluate(), SetTraining(spec=TrainSpec(epochs=7)), RestoreRun(run=1))
    assert bench.state["train_spec"] == TrainSpec()
    assert bench.steps("train", "evaluate") == ["done", "done"]
    assert bench.view == view
    # and what was changed and is restored is no longer stale
    bench(MakeData(spec=DataSpec(weight=0.1)))
    assert bench.steps("train") == ["stale"]
    bench(RestoreRun(run=1))
    assert bench.steps("train") == ["done"]


def test_a_later_session_restores_what_an_earlier_one_trained(bench: Bench, store: Store, tmp_path: Path) -> None:
    trained = bench.train()
    assert store.flush()
    later = Bench(tmp_path, store)
    later(RestoreRun(run=1))
    assert later.steps("data", "build", "train") == ["done", "done", "open"]
    assert later.train().parameters == trained.parameters


@pytest.mark.parametrize("what", ["table", "model", "run"])
def test_what_cannot_be_restored_changes_nothing(bench: Bench, tmp_path: Path, what: str) -> None:
    table, code = tmp_path / "t.csv", tmp_path / "net.py"
    table.write_text("x,y\n" + "\n".join(f"{at},{at * 2}" for at in range(20)))
    code.write_text(
        "from torch import nn\n\n\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(1, 1)\n"
    )
    spec = DataSpec(kind="table", file=str(table), target="y", standardize=True)
    bench(MakeData(spec=spec), BuildModel(spec=ModelSpec(kind="custom", file=str(code), class_name="Net")))
    bench.train(3)
    bench(MakeData(spec=DataSpec()), BuildModel(spec=ModelSpec()))
    bench.train(3)
    (table if what == "table" else code).unlink()
    before, steps = dict(bench.state), bench.state["steps"]
    with pytest.raises(
        WorkflowError, match="no run 9" if what == "run" else r"t\.csv" if what == "table" else r"net\.py"
    ):
        bench(RestoreRun(run=9 if what == "run" else 1))
    assert bench.state == before
    assert bench.state["steps"] == steps
    bench.train(1)
    assert bench.view.epoch == 4


@pytest.mark.parametrize("command", [RestoreRun(run=1)])
def test_nothing_is_restored_under_a_training(bench: Bench, command: Command) -> None:
    bench.train(3)
    bench(Run())
    bench.events.clear()
    with pytest.raises(WorkflowError, match=r"settings cannot change while the model is trained.*Pause"):
        bench(command)
    assert [event for event in bench.events if isinstance(event, Update)] == []
