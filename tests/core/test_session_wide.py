"""The session on tables, other models and other ways of training: what each step shows, and what it refuses."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from tests.core.test_session import Bench

from workflow_core.errors import WorkflowError
from workflow_core.history import RECORDED
from workflow_core.protocol import (
    BuildModel,
    Evaluate,
    InspectTable,
    Load,
    MakeData,
    Predict,
    Predictions,
    Reset,
    Run,
    Save,
    SetLearningRate,
    SetTraining,
    TableAnswer,
)
from workflow_core.specs import DataSpec, ModelSpec, SplitSpec, TrainSpec, WorkflowSpec
from workflow_core.store import Store

PLANE = DataSpec(kind="plane", weights=(0.7, -0.4), bias=0.3, noise=0.05)
LINEAR = ModelSpec(kind="linear")
WORDS = "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, width: int = 4):\n"
NET = WORDS + (
    "        super().__init__()\n"
    "        self.layers = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))\n\n"
    "    def forward(self, x):\n"
    "        return self.layers(x)\n"
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def table(folder: Path, text: str = "") -> DataSpec:
    rows = "\n".join(f"{at},{at * at % 7},{2 * at - (at * at % 7) + 1}" for at in range(40))
    (folder / "rows.csv").write_text(text or f"length,width,price\n{rows}\n")
    return DataSpec(kind="table", file="rows.csv", target="price", standardize=True)


def test_a_table_of_two_features_goes_through_all_six_steps(bench: Bench, tmp_path: Path) -> None:
    spec = table(tmp_path)
    answer = bench(InspectTable(path="rows.csv"))
    assert isinstance(answer, TableAnswer)
    assert (answer.rows, [column.name for column in answer.columns]) == (40, ["length", "width", "price"])
    bench(MakeData(spec=spec))
    assert bench.state["data"].features == ("length", "width")
    with pytest.raises(WorkflowError, match="linear"):
        bench(Run())  # the course's model is a line of one feature
    assert bench.steps("data", "build", "train") == ["done", "open", "open"]
    bench(BuildModel(spec=LINEAR), SetTraining(spec=TrainSpec(learning_rate=0.3, epochs=400)))
    view = bench.train()
    assert view.state == "finished"
    assert view.coefficients == pytest.approx({"intercept": 1.0, "length": 2.0, "width": -1.0}, abs=1e-3)
    assert view.line == ()
    assert len(view.pairs) == 28
    scale = bench.state["data"].scaling[-1].std ** 2
    assert view.loss_scale == pytest.approx(scale)
    assert set(bench.history.series) == {*RECORDED, "linear.weight[0]", "linear.weight[1]", "linear.bias"}
    bench(Evaluate())
    evaluation = bench.state["evaluation"]
    assert evaluation.metrics["test"].r2 == pytest.approx(1.0, abs=1e-4)
    assert evaluation.convergence.startswith("Converged")
    answer = bench(Predict(x=((10.0, 3.0), (0.0, 0.0))))
    assert isinstance(answer, Predictions)
    assert [y for _, y in answer.points] == pytest.approx([18.0, 1.0], abs=1e-2)
    assert answer.truth is None
    with pytest.raises(WorkflowError, match="2 features"):
        bench(Predict(x=((10.0,),)))
    bench(Save(path="table.pt", kind="checkpoint"), Load(path="table.pt"))
    loaded = bench.state["loaded"]
    assert loaded.proof.equal
    assert (loaded.features, loaded.target) == (("length", "width"), "price")
    again = bench(Predict(x=((10.0, 3.0),), source="loaded"))
    assert again.points[0] == answer.points[0]
    fresh = Bench(tmp_path)
    fresh(Load(path="table.pt"))
    assert fresh(Predict(x=((10.0, 3.0),), source="loaded")).points[0] == answer.points[0]


def test_data_that_a_model_cannot_take_leave_the_next_step_to_be_done(bench: Bench, tmp_path: Path) -> None:
    bench.train(3)
    bench(MakeData(spec=PLANE))
    assert bench.state["model"] is None
    assert bench.steps("data", "build", "train") == ["done", "open", "stale"]
    bench(MakeData(spec=DataSpec()))
    assert bench.steps("data", "train") == ["done", "open"]
    assert bench.train(1).epoch == 4, "the run is what it was, and so are its data"


def test_a_file_that_was_written_anew_is_read_anew_when_that_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    spec = table(tmp_path)
    bench(MakeData(spec=spec), BuildModel(spec=LINEAR))
    bench.train(5)
    bench.events.clear()
    bench(MakeData(spec=spec))
    assert bench.events == []
    table(tmp_path, "length,width,price\n" + "1,2,3\n2,1,4\n5,5,5\n4,7,9\n" * 10)
    bench(Evaluate())  # of the training that was, on the data it had
    assert bench.steps("train", "evaluate") == ["open", "done"]
    bench(MakeData(spec=spec))
    assert bench.steps("train", "evaluate") == ["stale", "stale"]
    assert bench.state["data"].rows == 40
    assert bench.state["data"].head[0].y == 3.0


def test_a_model_of_ones_own_is_read_anew_and_its_errors_name_their_line(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NET)
    spec = ModelSpec(kind="custom", file="mine.py", class_name="Net", arguments={"width": 3})
    bench(BuildModel(spec=spec))
    assert bench.state["model"].count == 10
    assert "class Net" in bench.state["model"].source
    assert set(bench.train(3).parameters) == {
        f"layers.{at}.{name} {figure}" for at in (0, 2) for name in ("weight", "bias") for figure in ("norm", "mean")
    }
    file.write_text(NET.replace("return self.layers(x)", "return self.layers(x) / self.nothing"))
    bench(BuildModel(spec=spec.__class__()))
    with pytest.raises(WorkflowError, match=r"mine\.py, line 11"):
        bench(BuildModel(spec=spec))
    late = "if self.training and x.grad_fn is None and torch.is_grad_enabled(): self.n = getattr(self, 'n', 0) + 1"
    late += "\n        assert getattr(self, 'n', 0) < 5, 'had enough'\n        return self.layers(x)"
    file.write_text(NET.replace("return self.layers(x)", late))
    bench(BuildModel(spec=spec))
    view = bench.train()
    assert view.state == "failed"
    assert "mine.py, line 12" in view.reason
    assert "had enough" in view.reason
    file.write_text(NET)
    bench(BuildModel(spec=spec))
    assert bench.train().state == "finished"
    bench(Save(path="mine.pt", kind="checkpoint"), Load(path="mine.pt"))
    assert bench.state["loaded"].proof.equal
    stranger = Bench(tmp_path)
    with pytest.raises(WorkflowError, match="Net"):
        stranger(Load(path="mine.pt"))  # nobody named this code here


def test_an_early_stop_says_why_and_shows_the_weights_that_were_kept(bench: Bench) -> None:
    bench(MakeData(spec=DataSpec(noise=0.3, split=SplitSpec(order="shuffled"))))
    bench(BuildModel(spec=ModelSpec(kind="mlp", hidden=(32,))))
    bench(SetTraining(spec=TrainSpec(optimizer="adam", learning_rate=0.05, epochs=5000, early_stop=20)))
    view = bench.train()
    assert view.state == "finished"
    assert view.epoch < 5000
    assert view.best_epoch is not None
    assert view.epoch == view.best_epoch + 20 + 1
    assert "stopped early" in view.reason
    assert f"epoch {view.best_epoch}" in view.reason
    assert bench.reason("train") == view.reason
    kept = {name: series.last[view.best_epoch] for name, series in bench.history.series.items()}
    assert view.parameters == {name: kept[name] for name in view.parameters}
    assert view.best_loss == kept["val_loss"]
    bench(Evaluate(), Save(path="best.pt", kind="checkpoint"))
    assert bench.state["evaluation"].epoch == bench.state["saved"].epoch == view.best_epoch + 1
    assert view.held == view.best_epoch + 1, "the same number as on every other screen"
    values = bench.state["saved"].file.values
    assert (float(values["train_loss"]), float(values["val_loss"])) == (kept["train_loss"], kept["val_loss"])
    with pytest.raises(WorkflowError, match="stopped early"):
        bench(Run())
    bench(SetTraining(spec=TrainSpec(optimizer="adam", learning_rate=0.05, epochs=6000, early_stop=20)))
    assert bench.train(1).run == 2, "what has stopped cannot go on as if it had not"


def test_the_learning_rate_changes_while_it_runs_and_is_remembered(bench: Bench) -> None:
    with pytest.raises(WorkflowError, match="no run"):
        bench(SetLearningRate(learning_rate=0.1))
    bench.train(10)
    for wrong in (0.0, -1.0, math.nan, math.inf, 1e9):
        with pytest.raises(WorkflowError):
            bench(SetLearningRate(learning_rate=wrong))
    bench(SetLearningRate(learning_rate=0.2))
    view = bench.train(5)
    assert (view.learning_rate, view.lr_changes) == (0.2, ((10, 0.2),))
    assert bench.history.series["learning_rate"].last == [0.01] * 10 + [0.2] * 5
    bench(Save(path="changed.pt", kind="checkpoint"))
    contents = torch.load(bench.state["saved"].file.path, weights_only=True)
    assert contents["lr_changes"] == [[10, 0.2]]
    bench(Load(path="changed.pt"))
    bench(Reset())
    assert (bench.view.learning_rate, bench.view.lr_changes) == (0.01, ())


def test_a_diverged_run_keeps_its_last_good_weights_and_says_what_is_stable(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(learning_rate=1.5, epochs=100_000)))
    view = bench.train()
    assert view.state == "diverged"
    assert all(map(math.isfinite, view.parameters.values()))
    stable = bench.state["model"].reference.stable_lr
    assert stable is not None
    assert f"{stable:.4g}" in view.advice
    bench(Evaluate(), Save(path="good.pt", kind="checkpoint"))
    assert view.first_bad is not None
    assert bench.state["saved"].epoch == view.first_bad
    good = bench.history.series["val_loss"].last[view.first_bad - 1]
    assert float(bench.state["saved"].file.values["val_loss"]) == good
    bench(SetTraining(spec=TrainSpec(learning_rate=stable * 0.99, epochs=1000)))
    assert bench.train().state == "finished"
    bench(SetTraining(spec=TrainSpec(learning_rate=stable * 1.01, epochs=100_000)))
    assert bench.train().state == "diverged"


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": "cosine"},
        {"batch_size": 8},
        {"optimizer": "lbfgs"},
        {"clip": 0.1},
        {"deterministic": True},
        {"scheduler": "plateau", "scheduler_epochs": 3},
    ],
)
def test_paused_and_straight_runs_are_the_same(bench: Bench, change: dict[str, object]) -> None:
    spec = TrainSpec(epochs=9 if "optimizer" in change else 30, **change)  # type: ignore[arg-type]
    bench(SetTraining(spec=spec))
    for epochs in (1, 6, None):
        bench.train(epochs)
    straight = Bench(Path())
    straight(SetTraining(spec=spec))
    assert straight.train().parameters == bench.view.parameters
    assert straight.history.to_data() == bench.history.to_data()


def test_every_epoch_is_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace.sqlite")
    bench = Bench(tmp_path, store)
    bench.train(3)
    bench.train()
    bench(SetTraining(spec=TrainSpec(learning_rate=1.5, epochs=10_000)))
    bench.train()
    assert bench.view.state == "diverged"
    assert store.flush()
    first = store.read(1, 0, 1000)
    assert {name: len(column) for name, column in first.items()} == dict.fromkeys([*RECORDED, "weight", "bias"], 100)
    second = store.read(2, 0, 100_000)
    assert len(second["train_loss"]) == bench.view.epoch
    assert not math.isfinite(sum(column[-1] for column in second.values()))
    assert second["weight"].tolist()[-50:-1] == bench.history.series["weight"].last[-50:-1]
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        rows = db.execute("SELECT id, state, reason, settings FROM runs").fetchall()
    assert [row[:2] for row in rows] == [(1, "finished"), (2, "diverged")]
    assert rows[1][2] == bench.view.reason
    assert WorkflowSpec.from_toml(rows[0][3]) == WorkflowSpec()
    store.close()


def test_float64_and_its_model_go_together(bench: Bench) -> None:
    bench(MakeData(spec=replace(PLANE, dtype="float64")), BuildModel(spec=LINEAR))
    assert {tensor.dtype for tensor in bench.state["model"].parameters} == {"float64"}
    bench.train(2)
    runner = bench.session._runner
    assert runner is not None
    assert next(runner.trainer.model.parameters()).dtype == torch.float64


def test_a_reset_takes_the_file_of_the_model_as_it_is_by_then_and_shows_it(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NET)
    bench(BuildModel(spec=ModelSpec(kind="custom", file="mine.py", class_name="Net")))
    assert bench.state["model"].count == 13
    bench.train(2)
    file.write_text(NET.replace("nn.Linear(width, 1)", "nn.Linear(width, 1, bias=False)"))
    bench(SetTraining(spec=TrainSpec(loss="l1")))  # a setting runs none of the user's code
    assert (bench.state["model"].count, bench.state["model"].untrained_loss) == (13, None)
    bench(Reset())
    assert bench.state["model"].count == 12
    assert bench.train(2).epoch == 2
    file.write_text("this is no Python")
    bench(SetTraining(spec=TrainSpec()))
    with pytest.raises(WorkflowError, match=r"mine\.py, line 1"):
        bench(Reset())


def test_what_is_known_before_a_training_follows_all_settings_that_it_depends_on(bench: Bench) -> None:
    bench(MakeData(spec=DataSpec(kind="sample", standardize=True)), BuildModel(spec=LINEAR))
    before = bench.state["model"].reference
    assert before.targets_are == "closed form"
    bench(SetTraining(spec=TrainSpec(weight_decay=100.0)))
    after = bench.state["model"].reference
    assert after.targets == {}
    assert after.stable_lr < before.stable_lr


def test_a_stale_run_is_unsaved_until_it_is_saved(bench: Bench) -> None:
    assert not bench.session.unsaved
    bench.train(5)
    assert bench.session.unsaved
    bench(MakeData(spec=DataSpec(noise=0.1)))
    assert bench.session.unsaved
    bench(Save(path="stale.pt"))
    assert not bench.session.unsaved
    bench.train(1)
    assert bench.session.unsaved


def test_rates_set_over_and_over_in_one_pause_are_one_change(bench: Bench) -> None:
    bench.train(10)
    for rate in (0.2, 0.3, 0.3):
        bench(SetLearningRate(learning_rate=rate))
    assert bench.view.lr_changes == ((10, 0.3),)
    bench.train(1)
    bench(SetTraining(spec=TrainSpec(epochs=11)))
    assert bench.train().state == "finished"
    with pytest.raises(WorkflowError, match="cannot change any more"):
        bench(SetLearningRate(learning_rate=0.1))
    bench(Reset())
    bench.train(10)
    bench(SetTraining(spec=TrainSpec(epochs=100_000)))
    bench.train(1)
    bench(SetLearningRate(learning_rate=1.5))
    assert bench.train().state == "diverged"
    with pytest.raises(WorkflowError, match="Reset"):
        bench(Run())


def test_the_store_knows_how_a_run_stands(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace.sqlite")
    bench = Bench(tmp_path, store)

    def state() -> str:
        assert store.flush()
        return store.runs(1)[0].state

    bench.train(1)
    assert state() == "paused"
    bench(SetTraining(spec=TrainSpec(epochs=1)))
    bench.train()
    assert state() == "finished"
    bench(SetTraining(spec=TrainSpec(epochs=10_000_000)))
    bench(Run())
    bench.inbox.waiting = False
    bench.session._runner._next(bench.inbox)  # type: ignore[union-attr]
    bench.session._runner._flush()  # type: ignore[union-attr]
    assert state() == "running"
    store.close()
    again = Store(store.path)
    store = again
    assert state() == "interrupted"
    again.close()


def test_epochs_that_were_complete_before_a_failure_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.train(1)
    runner = bench.session._runner
    assert runner is not None
    advance, calls = runner.trainer.advance, iter(range(100))

    def fails_later(*limits: Any) -> bool:
        if next(calls) == 7:
            raise RuntimeError("CUDA error")
        return advance(*limits)

    monkeypatch.setattr(runner.trainer, "advance", fails_later)
    view = bench.train()
    assert (view.state, view.epoch, bench.history.epochs) == ("failed", 8, 8)
    bench(Save(path="kept.pt", kind="checkpoint"))
    assert bench.state["saved"].epoch == 8
    assert float(bench.state["saved"].file.values["train_loss"]) == bench.history.series["train_loss"].last[-1]


def test_a_run_that_fails_in_the_middle_of_an_epoch_holds_the_weights_from_before_it(
    bench: Bench, tmp_path: Path
) -> None:
    tired = "        self.calls = getattr(self, 'calls', 0) + self.training\n"
    tired += "        assert self.calls != 40 or not self.training\n"
    (tmp_path / "mine.py").write_text(NET.replace("        return self", tired + "        return self"))
    bench(BuildModel(spec=ModelSpec(kind="custom", file="mine.py", class_name="Net")))
    bench(SetTraining(spec=TrainSpec(batch_size=8, optimizer="adam")))
    view = bench.train()
    assert view.state == "failed"
    done = view.epoch
    assert 0 < done < 10
    assert bench.history.epochs == done
    last = {name: series.last[-1] for name, series in bench.history.series.items()}
    assert view.parameters == {name: last[name] for name in view.parameters}
    bench(Save(path="kept.pt", kind="checkpoint"))
    saved = bench.state["saved"]
    assert saved.epoch == done
    assert saved.file.values["optimizer_state_dict"] == "none"
