"""A training stops between two batches: after so many steps, for a command, and what is then told and saved is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.core.test_session import Bench
from torch import nn

from workflow_core import devices
from workflow_core.engine import runner as runner_module
from workflow_core.engine.inbox import Inbox
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    Epochs,
    Evaluate,
    Load,
    MakeData,
    Pause,
    Reset,
    Run,
    Save,
    SetLearningRate,
    SetTraining,
    TrainingView,
    Update,
)
from workflow_core.scripts import script
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data

SPEC = TrainSpec(batch_size=10, epochs=6, momentum=0.9, learning_rate=0.05, device="cpu")
BATCHES = 4


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    devices.set_threads(50)
    bench = Bench(tmp_path)
    bench(SetTraining(spec=SPEC))
    return bench


class Waits(Inbox):
    """An inbox in which something waits from the `after`th look on."""

    def __init__(self, after: int) -> None:
        self._looks = 0
        self._after = after
        super().__init__()

    @property
    def waiting(self) -> bool:
        self._looks += 1
        return self._looks > self._after

    @waiting.setter
    def waiting(self, value: bool) -> None:
        pass


def steps(bench: Bench, count: int) -> TrainingView:
    bench(Run(steps=count))
    while bench.session.running:
        bench.session.advance(bench.inbox)
    return bench.view


def plain(count: int) -> list[float]:
    """The parameters after so many steps, by plain torch."""
    dataset = data.make(DataSpec())
    model = build.build(ModelSpec())
    X, y = dataset.inputs("train")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(42)
    dealt: list[torch.Tensor] = []
    for _ in range(count):
        dealt = dealt or list(torch.split(torch.randperm(35, generator=generator), 10))
        rows = dealt.pop(0)
        loss = nn.MSELoss()(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [parameter.item() for parameter in model.parameters()]


def figures(bench: Bench) -> dict[str, list[float]]:
    return {name: series.last for name, series in bench.history.series.items()}


def test_steps_stop_in_the_middle_of_an_epoch_and_go_on_to_the_same_end(bench: Bench, tmp_path: Path) -> None:
    whole = Bench(tmp_path)
    whole(SetTraining(spec=SPEC))
    end = whole.train()
    taken = 0
    for count in (1, 2, 1, 3, 4, 5):
        view = steps(bench, count)
        taken += count
        assert (view.state, view.epoch, view.batch, view.batches) == ("paused", *divmod(taken, BATCHES), BATCHES)
        assert list(view.parameters.values()) == plain(taken)
        assert bench.history.epochs == taken // BATCHES
    view = bench.train()
    assert (view.state, view.epoch, view.batch) == ("finished", 6, 0)
    assert view.parameters == end.parameters
    assert figures(bench) == figures(whole)


def test_the_epoch_under_way_counts_as_one(bench: Bench) -> None:
    steps(bench, 2)
    view = bench.train(1)
    assert (view.state, view.epoch, view.batch) == ("paused", 1, 0)
    assert (steps(bench, 1000).state, bench.view.epoch) == ("finished", 6)


def test_steps_of_the_full_batch_are_epochs(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=9, device="cpu")))
    view = steps(bench, 7)
    assert (view.state, view.epoch, view.batch, view.batches) == ("paused", 7, 0, 1)


@pytest.mark.parametrize("count", [0, -1])
def test_no_steps_are_refused(bench: Bench, count: int) -> None:
    with pytest.raises(WorkflowError, match=f"{count} steps cannot be run"):
        bench(Run(steps=count))


def test_a_command_is_taken_after_the_batch_under_way(bench: Bench) -> None:
    bench(Run())
    bench.session.advance(Waits(2))
    assert bench.session._runner is not None
    assert bench.session._runner.trainer.batch == 1
    bench(Pause())
    assert (bench.view.state, bench.view.epoch, bench.view.batch) == ("paused", 0, 1)
    assert list(bench.view.parameters.values()) == plain(1)
    assert bench.view.rate == 0.0


def test_a_long_epoch_is_shown_while_it_lasts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "CHUNK", 0.0)
    bench.train(1)
    shown: list[tuple[int, int, list[float]]] = []
    for event in bench.events:
        if isinstance(event, Epochs) or (isinstance(event, Update) and isinstance(event.training, TrainingView)):
            view = event.training
            assert isinstance(view, TrainingView)
            shown.append((view.epoch, view.batch, list(view.parameters.values())))
    places = [(epoch, batch) for epoch, batch, _ in shown]
    assert [place for at, place in enumerate(places) if place not in places[:at]] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
    ]
    assert all(parameters == plain(epoch * BATCHES + batch) for epoch, batch, parameters in shown)
    assert bench.view.rate == 0.0


def test_what_is_evaluated_and_saved_in_between_says_so(bench: Bench) -> None:
    steps(bench, 2 * BATCHES + 3)
    bench(Evaluate(), Save(path="m.pt", kind="checkpoint"))
    for view in (bench.state["evaluation"], bench.state["saved"]):
        assert (view.epoch, view.batch, view.batches) == (2, 3, BATCHES)
    values = bench.state["saved"].file.values
    assert [values[name] for name in ("epoch", "batch", "batches")] == ["2", "3", "4"]
    # the losses of epoch 1 are not those of these weights
    assert [values[name] for name in ("train_loss", "val_loss")] == ["none", "none"]
    assert not bench.session.unsaved
    bench(Load(path="m.pt"))
    assert list(bench.state["loaded"].after.values()) == plain(11)
    assert bench.state["loaded"].proof.equal
    steps(bench, 1)
    assert bench.session.unsaved
    assert bench.steps("evaluate", "save", "load") == ["stale"] * 3
    bench(Evaluate())
    assert (bench.state["evaluation"].epoch, bench.state["evaluation"].batch) == (3, 0)


def test_batches_of_the_first_epoch_are_a_training(bench: Bench) -> None:
    steps(bench, 1)
    assert bench.session.unsaved
    bench(MakeData(spec=DataSpec(weight=0.5)))
    assert bench.steps("train") == ["stale"]
    bench(Reset())
    assert (bench.view.epoch, bench.view.batch, bench.view.run) == (0, 0, 2)


def test_a_learning_rate_holds_from_the_next_epoch_on(bench: Bench, tmp_path: Path) -> None:
    """An epoch has one learning rate: so a script, which counts epochs, can follow the run."""
    steps(bench, 2)
    bench(SetLearningRate(learning_rate=0.2))
    assert (bench.view.learning_rate, bench.view.lr_changes) == (0.05, ((1, 0.2),))
    bench(SetLearningRate(learning_rate=0.1))
    assert bench.view.lr_changes == ((1, 0.1),)
    bench(Save(path="before.pt", kind="checkpoint"))
    assert bench.state["saved"].file.values["lr_changes"] == "[]"
    steps(bench, 2)
    bench(SetLearningRate(learning_rate=0.3), Run(epochs=1))
    assert (bench.view.learning_rate, bench.view.lr_changes) == (0.3, ((1, 0.3),))
    view = bench.train()
    assert figures(bench)["learning_rate"] == [0.05, *[0.3] * 5]
    spec = WorkflowSpec(train=SPEC)
    names: dict[str, Any] = {}
    text = script(spec, path=str(tmp_path / "s.pt"), lr_changes=view.lr_changes)
    exec(compile(text, "script.py", "exec"), names)
    assert {name: p.item() for name, p in names["model"].named_parameters()} == view.parameters
