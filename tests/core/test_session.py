"""What each command does to the workflow, what it makes stale, and that nothing changes where it is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import UNSET
from msgspec.structs import replace

from workflow_core import devices
from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.library import Library
from workflow_core.engine.session import Session
from workflow_core.errors import WorkflowError
from workflow_core.history import History
from workflow_core.protocol import (
    BuildModel,
    Command,
    Epochs,
    Evaluate,
    FileAnswer,
    Inspect,
    Load,
    MakeData,
    Pause,
    Predict,
    Predictions,
    Reset,
    Run,
    RunState,
    Save,
    SetPace,
    SetTraining,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import train
from workflow_core.store import Store

COURSE = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())["04"]


class Bench:
    """A session without a process: commands in, what was published out."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self.library = Library(store, folder)
        self.session = Session(self.take, folder, self.library)
        self.inbox = Inbox()
        self.state: dict[str, Any] = {"training": None}
        self.history = History()
        self.events: list[Update | Epochs] = []

    def take(self, event: Update | Epochs) -> None:
        self.events.append(event)
        if isinstance(event, Epochs):
            assert event.start == self.history.epochs
            self.history.extend(event.series)
            self.state["training"] = event.training
            return
        for name in Update.__struct_fields__:
            if (value := getattr(event, name)) is not UNSET:
                self.state[name] = value
        if event.history is not UNSET:
            self.history = History.from_data(event.history) if event.history else History()

    def __call__(self, *commands: Command) -> Any:
        answer = None
        for command in commands:
            answer = self.session.handle(command)
        return answer

    def train(self, epochs: int | None = None) -> TrainingView:
        """Run, and go on to where that stops."""
        self(Run(epochs=epochs))
        while self.session.running:
            self.session.advance(self.inbox)
        return self.view

    @property
    def view(self) -> TrainingView:
        view = self.state["training"]
        assert isinstance(view, TrainingView)
        return view

    def steps(self, *names: str) -> list[str]:
        return [getattr(self.state["steps"], name) for name in names]

    def reason(self, step: str) -> str:
        return str(self.state["steps"].reasons.get(step, ""))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def whole(bench: Bench) -> None:
    """Walk through all six steps."""
    bench.train()
    bench(Evaluate(), Save(path="m.pt", kind="checkpoint"), Load(path="m.pt"))
    assert set(bench.steps("data", "build", "train", "evaluate", "save", "load")) == {"done"}


NEW_DATA = MakeData(spec=DataSpec(weight=0.5))
NEW_MODEL = BuildModel(spec=ModelSpec(init=InitSpec(values={"weight": 1.0})))


def test_a_run_makes_what_is_missing_and_gives_the_courses_numbers(bench: Bench) -> None:
    view = bench.train()
    assert bench.steps("data", "build", "train", "evaluate") == ["done", "done", "done", "open"]
    assert (view.state, view.epoch, view.run, view.rate) == ("finished", 100, 1, 0.0)
    assert list(view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)
    assert list(view.initial.values()) == pytest.approx(COURSE["init"], rel=1e-5)
    assert (view.train_loss, view.val_loss) == pytest.approx(COURSE["hist"]["99"], rel=1e-5)
    assert bench.history.epochs == 100
    for epoch, losses in COURSE["hist"].items():
        found = [bench.history.series[name].last[int(epoch)] for name in ("train_loss", "val_loss")]
        assert found == pytest.approx(losses, rel=1e-5)
    bench(Evaluate())
    assert bench.state["evaluation"].metrics["test"].mse == pytest.approx(COURSE["test"], rel=1e-5)


def test_stepping_pausing_and_going_on_is_one_run(bench: Bench) -> None:
    assert (bench.train(1).state, bench.view.epoch) == ("paused", 1)
    assert bench.steps("train") == ["open"]
    assert bench.train(30).epoch == 31
    assert bench.train().state == "finished"
    assert bench.view.run == 1
    assert list(bench.view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)


def test_reset_gives_the_same_initial_parameters_and_the_same_run(bench: Bench) -> None:
    first = bench.train()
    figures = bench.history.to_data()
    bench(Reset())
    assert (bench.view.state, bench.view.epoch, bench.view.run) == ("ready", 0, 2)
    assert bench.view.parameters == bench.view.initial == first.initial
    assert bench.history.epochs == 0
    assert bench.steps("train") == ["open"]
    second = bench.train()
    assert second.parameters == first.parameters
    assert bench.history.to_data() == figures
    assert second.run == 2


def test_a_finished_run_goes_on_only_for_more_epochs(bench: Bench) -> None:
    bench.train()
    with pytest.raises(WorkflowError, match="reset") as caught:
        bench(Run())
    assert "more epochs" in caught.value.problem.advice
    bench(SetTraining(spec=TrainSpec(epochs=150)))
    assert bench.steps("train") == ["done"]
    view = bench.train()
    assert (view.state, view.epoch, view.run) == ("finished", 150, 1)
    straight = Bench(Path())
    straight(SetTraining(spec=TrainSpec(epochs=150)))
    assert straight.train().parameters == view.parameters


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"epochs": 5}])
def test_changed_settings_start_a_new_run(bench: Bench, paused: bool, change: dict[str, Any]) -> None:
    bench.train(10 if paused else None)
    spec = replace(TrainSpec(), **change)
    bench(SetTraining(spec=spec))
    assert bench.view.spec == TrainSpec()
    initial = bench.view.initial
    view = bench.train(1)
    assert (view.run, view.epoch, view.spec, view.initial) == (2, 1, spec, initial)
    assert bench.history.epochs == 1


@pytest.mark.parametrize(("command", "what"), [(NEW_DATA, "data"), (NEW_MODEL, "model")])
def test_an_earlier_step_makes_later_ones_stale(bench: Bench, command: Command, what: str) -> None:
    whole(bench)
    trained, figures = bench.view, bench.history.to_data()
    bench(command)
    assert bench.steps("data", "build") == ["done", "done"]
    assert bench.steps("train", "evaluate", "save", "load") == ["stale"] * 4
    assert bench.reason("train") == f"the {what} changed after this training"
    # what was learnt stays to be seen until there is something newer, but is not passed off as new
    assert bench.view == trained
    assert bench.history.to_data() == figures
    for refused in (Evaluate(), Predict(x=((1.0,),))):
        with pytest.raises(WorkflowError, match="changed after this training"):
            bench(refused)
    bench(Predict(x=((1.0,),), source="loaded"))
    view = bench.train()
    assert (view.run, view.epoch, bench.history.epochs) == (2, 100, 100)
    assert bench.steps("train", "evaluate") == ["done", "stale"]
    bench(Evaluate())
    assert bench.steps("evaluate", "save") == ["done", "stale"]


@pytest.mark.parametrize("command", [NEW_DATA, NEW_MODEL])
def test_a_stale_training_can_still_be_saved_as_what_it_was(bench: Bench, command: Command) -> None:
    bench.train()
    trained = bench.view
    bench(command, Save(path="kept.pt", kind="checkpoint"))
    saved = bench.state["saved"]
    assert (saved.run, saved.epoch) == (1, 100)
    values = saved.file.values
    assert float(values["workflow.data.weight"]) == 0.7, "the data it was trained on, not those there are now"
    assert values["workflow.model.init.seed"] == "42"
    tensors = {tensor.name.rpartition(".")[2]: tensor.values[0] for tensor in saved.file.tensors if tensor.values}
    assert tensors["weight"] == trained.parameters["weight"]
    assert tensors["bias"] == trained.parameters["bias"]


@pytest.mark.parametrize(
    ("command", "back"), [(NEW_DATA, MakeData(spec=DataSpec())), (NEW_MODEL, BuildModel(spec=ModelSpec()))]
)
def test_a_change_that_is_taken_back_leaves_the_training_as_good_as_it_was(
    bench: Bench, command: Command, back: Command
) -> None:
    whole(bench)
    trained = bench.state["evaluation"].metrics
    bench(command, back)
    assert bench.steps("train") == ["done"]
    bench(Evaluate())
    assert bench.state["evaluation"].metrics == trained


@pytest.mark.parametrize("command", [MakeData(), MakeData(spec=DataSpec()), BuildModel(), BuildModel(spec=ModelSpec())])
def test_the_same_again_changes_nothing(bench: Bench, command: Command) -> None:
    whole(bench)
    bench.events.clear()
    bench(command)
    assert bench.events == []


def test_new_data_gives_the_model_view_a_new_line_over_the_same_values(bench: Bench) -> None:
    bench(BuildModel())
    before = bench.state["model"]
    bench(MakeData(spec=DataSpec(stop=2.0)))
    after = bench.state["model"]
    assert after.parameters == before.parameters
    assert after.line[-1][0] > 1.9 > before.line[-1][0]
    assert after.untrained_loss != before.untrained_loss
    assert bench.steps("build", "train") == ["done", "open"]


def test_a_run_that_has_not_begun_goes_with_its_data(bench: Bench) -> None:
    bench.train(3)
    bench(Reset(), NEW_DATA)
    assert bench.state["training"] is None
    assert bench.history.epochs == 0
    assert bench.steps("train") == ["open"]


def test_new_data_makes_a_paused_run_stale(bench: Bench) -> None:
    bench.train(3)
    bench(NEW_DATA)
    assert (bench.view.state, bench.steps("train")) == ("paused", ["stale"])
    assert (bench.train(1).run, bench.view.epoch, bench.steps("train")) == (2, 1, ["open"])


@pytest.mark.parametrize("command", [NEW_DATA, NEW_MODEL])
def test_data_and_model_stand_while_training_runs(bench: Bench, command: Command) -> None:
    bench(Run())
    with pytest.raises(WorkflowError) as caught:
        bench(command)
    assert caught.value.problem.advice == "Pause or reset first."
    bench(MakeData(), BuildModel())
    assert bench.train().state == "finished"


def test_training_further_makes_results_stale(bench: Bench) -> None:
    bench.train(5)
    bench(Evaluate(), Save(path="m.pt"), Load(path="m.pt"))
    assert bench.steps("evaluate", "save", "load") == ["done"] * 3
    bench.train(1)
    assert bench.steps("evaluate", "save", "load") == ["stale"] * 3
    assert bench.reason("evaluate") == "the model was trained further after this evaluation"
    assert bench.state["evaluation"].epoch == 5


def test_a_diverging_run_ends_at_its_first_bad_epoch(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(learning_rate=1.5, epochs=100_000)))
    view = bench.train()
    assert view.state == "diverged"
    assert view.first_bad is not None
    assert view.epoch == view.first_bad + 1 == bench.history.epochs
    assert bench.history.first_bad == view.first_bad
    assert f"epoch {view.first_bad}" in view.reason
    assert bench.steps("train") == ["done"]
    assert bench.reason("train") == view.reason
    with pytest.raises(WorkflowError, match="learning rate"):
        bench(Run())
    bench(SetTraining(spec=TrainSpec()))
    assert bench.train().state == "finished"
    assert list(bench.view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)


def test_another_loss_changes_what_the_untrained_model_loses(bench: Bench) -> None:
    bench.train()
    before = bench.state["model"]
    bench(SetTraining(spec=TrainSpec(loss="l1")))
    after = bench.state["model"]
    assert after.untrained_loss == pytest.approx(math.sqrt(before.untrained_loss), rel=0.1)
    assert after.parameters == before.parameters


@pytest.mark.parametrize("pace", [0.0, 0.5, -1.0, math.nan, math.inf])
def test_impossible_paces_are_refused(bench: Bench, pace: float) -> None:
    with pytest.raises(WorkflowError):
        bench(SetPace(pace=pace))


@pytest.mark.parametrize("epochs", [0, -1])
def test_impossible_numbers_of_epochs_are_refused(bench: Bench, epochs: int) -> None:
    with pytest.raises(WorkflowError):
        bench(Run(epochs=epochs))
    assert bench.state["training"] is None


def test_a_device_that_is_not_there_changes_nothing(bench: Bench) -> None:
    finished = bench.train()
    bench(SetTraining(spec=TrainSpec(device="cuda:99")))
    with pytest.raises(WorkflowError):
        bench(Run())
    assert bench.view == finished
    bench(SetTraining(spec=TrainSpec()), Evaluate())
    assert bench.state["evaluation"].metrics["test"].mse == pytest.approx(COURSE["test"], rel=1e-5)


def test_without_a_validation_split_there_are_no_validation_figures(bench: Bench) -> None:
    split = SplitSpec(train=0.5, validation=0.0, test=0.5)
    bench(MakeData(spec=DataSpec(split=split)))
    assert bench.train().val_loss is None
    assert "val_loss" not in bench.history.series
    bench(Evaluate())
    assert bench.state["evaluation"].metrics["validation"] is None


def test_predictions_with_the_true_values_beside_them(bench: Bench) -> None:
    bench.train()
    answer = bench(
        Predict(
            x=(
                (0.5,),
                (2.0,),
            )
        )
    )
    assert isinstance(answer, Predictions)
    weight, bias = bench.view.parameters.values()
    assert [y for _, y in answer.points] == pytest.approx([weight * 0.5 + bias, weight * 2 + bias], rel=1e-6)
    assert answer.truth == pytest.approx((0.65, 1.7))
    with pytest.raises(WorkflowError, match="step 6"):
        bench(Predict(x=((1.0,),), source="loaded"))
    with pytest.raises(WorkflowError):
        bench(Predict(x=((math.nan,),)))


def test_saving_and_loading_go_through_the_workspaces_folder(bench: Bench, tmp_path: Path) -> None:
    bench.train()
    bench(Save(path="m.pt", kind="checkpoint"))
    assert Path(bench.state["saved"].file.path) == tmp_path / "m.pt"
    with pytest.raises(WorkflowError):
        bench(Save(path="m.pt", kind="checkpoint"))
    answer = bench(Inspect(path="m.pt"))
    assert isinstance(answer, FileAnswer)
    assert answer.file == bench.state["saved"].file
    bench(Load(path=str(tmp_path / "m.pt")))
    loaded = bench.state["loaded"]
    assert loaded.after == bench.view.parameters
    assert loaded.proof.equal
    torch_says = torch.load(tmp_path / "m.pt", weights_only=True)
    assert (torch_says["epoch"], torch_says["train_loss"]) == (100, bench.view.train_loss)
    for path in ("", "a\0b", "missing.pt"):
        with pytest.raises(WorkflowError):
            bench(Load(path=path))
    assert bench.state["loaded"] == loaded


def test_a_good_checkpoint_is_proved_by_its_own_record_where_nothing_was_trained_here(
    bench: Bench, tmp_path: Path
) -> None:
    bench.train()
    bench(Save(path="whole.pt", kind="checkpoint"), Save(path="weights.pt"))
    fresh = Bench(tmp_path)
    for prepare in ((), (BuildModel(),), (Run(epochs=1), Reset())):
        fresh(*prepare, Load(path="whole.pt"))
        proof = fresh.state["loaded"].proof
        assert (proof.against, proof.equal) == ("the saved record", True)
        fresh(Load(path="weights.pt"))
        assert fresh.state["loaded"].proof is None
    fresh.train(1)
    fresh(Load(path="whole.pt"))
    assert (fresh.state["loaded"].proof.against, fresh.state["loaded"].proof.equal) == ("this model", False)


def test_the_truth_beside_a_loaded_model_is_that_of_the_data_it_was_trained_on(bench: Bench) -> None:
    bench.train()
    bench(Save(path="whole.pt", kind="checkpoint"), Save(path="weights.pt"))
    bench(MakeData(spec=DataSpec(weight=100.0)), Load(path="whole.pt"))
    assert bench(Predict(x=((0.5,),), source="loaded")).truth == pytest.approx((0.65,))
    bench(Load(path="weights.pt"))
    assert bench(Predict(x=((0.5,),), source="loaded")).truth is None


def test_control_overtakes_only_work_it_does_not_depend_on() -> None:
    inbox = Inbox()
    for command in (Run(), Evaluate(), Save(path="m.pt"), Pause(), SetPace(pace=2.0), Reset(), Pause()):
        inbox.put(Job(command, lambda problem, value: None))
    order = []
    while (job := inbox.get(block=False)) is not None:
        order.append(type(job.command))
    assert order == [Run, Pause, SetPace, Evaluate, Save, Reset, Pause]
    assert not inbox.waiting


def test_a_fault_in_an_epoch_ends_the_run_and_not_the_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.train(2)

    def fail(*_: Any) -> None:
        raise RuntimeError("CUDA error")

    runner = bench.session._runner
    assert runner is not None
    monkeypatch.setattr(runner.trainer, "advance", fail)
    states: list[RunState] = [bench.train().state]
    assert bench.view.reason == "the run failed: PyTorch could not carry out an operation"
    states.append(bench.train().state)
    assert states == ["failed", "finished"]
    assert list(bench.view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)


@pytest.mark.parametrize("command", [Run(), Reset()])
@pytest.mark.parametrize("culprit", ["session.train.Trainer", "runner.build.line"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. \x1b[31m Tried to allocate"), "too little free memory"),
        (RuntimeError("\x1b]0;CUDA error: unspecified launch failure"), "could not carry out an operation"),
    ],
)
def test_a_run_that_cannot_begin_leaves_the_one_there_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, command: Command, culprit: str, error: Exception, words: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    bench.train()
    bench(SetTraining(spec=TrainSpec(learning_rate=0.1)), Evaluate())
    before, figures = dict(bench.state), bench.history.to_data()
    with monkeypatch.context() as patch:
        patch.setattr(f"workflow_core.engine.{culprit}", fail)
        with pytest.raises(WorkflowError, match=words) as caught:
            bench(command)
    assert caught.value.problem.line().isprintable()
    assert "CUDA" not in caught.value.problem.line()
    assert bench.state | {"steps": None} == before | {"steps": None}
    assert bench.history.to_data() == figures
    assert bench.steps("train", "evaluate") == ["done", "done"]
    (point,) = bench(Predict(x=((0.5,),))).points
    assert point[1] == pytest.approx(before["training"].parameters["weight"] * 0.5 + bench.view.parameters["bias"])
    bench(command)
    assert bench.view.run == 2


def test_threads_and_bits_are_those_without_a_ui(bench: Bench) -> None:
    """At this size two threads give other sums than one."""
    spec, training = DataSpec(step=1 / 49_991, noise=0.1), TrainSpec(epochs=5, optimizer="adam")
    assert spec.rows == 49_991
    before = torch.get_num_threads()
    try:
        dataset = data.make(spec)
        devices.set_threads(len(dataset.X))
        model = build.build(ModelSpec())
        *_, last = train(model, dataset, training)
        torch.set_num_threads(2)
        bench(MakeData(spec=spec), SetTraining(spec=training))
        assert torch.get_num_threads() == 1
        view = bench.train()
        assert (view.train_loss, view.val_loss, view.parameters) == (last.train_loss, last.val_loss, last.parameters)
        bench(MakeData(spec=DataSpec(step=1 / 60_000)))
        assert torch.get_num_threads() == devices.set_threads(60_000)
    finally:
        torch.set_num_threads(before)
