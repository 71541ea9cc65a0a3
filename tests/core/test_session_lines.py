"""The engine runs the loop one line at a time, between whatever else it is asked for, and tells gradients and speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.core.test_session import COURSE, Bench

from workflow_core import devices
from workflow_core.engine.pace import Capacity
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    Epochs,
    Evaluate,
    LoopView,
    MakeData,
    NextLine,
    Pause,
    Reset,
    Run,
    SetLearningRate,
    SetPace,
    SetTraining,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    devices.set_threads(50)
    return Bench(tmp_path)


def lines(bench: Bench, count: int) -> LoopView:
    for _ in range(count):
        bench(NextLine())
    return shown(bench)


def shown(bench: Bench) -> LoopView:
    view = bench.state["loop"]
    assert isinstance(view, LoopView)
    return view


def test_lines_make_what_is_missing_and_add_up_to_the_course(bench: Bench) -> None:
    view = lines(bench, 3)
    assert bench.steps("data", "build", "train") == ["done", "done", "open"]
    assert (view.epoch, view.next, bench.view.state, bench.view.epoch) == (0, 3, "paused", 0)
    assert bench.view.parameters == bench.view.initial
    view = lines(bench, 2)
    assert (view.next, bench.view.epoch, bench.history.epochs) == (5, 1, 1)
    assert bench.view.gradients.keys() == {"weight", "bias"}
    assert lines(bench, 7).epoch == 2
    # the rest of the pass runs first, and the pass is no longer shown
    assert bench.train().state == "finished"
    assert bench.state["loop"] is None
    assert list(bench.view.parameters.values()) == pytest.approx(COURSE["final"], rel=1e-5)
    for epoch, losses in COURSE["hist"].items():
        found = [bench.history.series[name].last[int(epoch)] for name in ("train_loss", "val_loss")]
        assert found == pytest.approx(losses, rel=1e-5)


def test_the_epoch_is_told_before_the_line_that_ended_it(bench: Bench) -> None:
    lines(bench, 4)
    bench.events.clear()
    lines(bench, 1)
    kinds = [type(event) for event in bench.events]
    assert kinds.index(Epochs) < max(at for at, event in enumerate(bench.events) if isinstance(event, Update))
    assert isinstance(bench.events[-1], Update)
    assert bench.events[-1].training == bench.view
    assert bench.view.rate == 0.0


def test_a_line_pauses_what_runs(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(batch_size=10, device="cpu")), Run())
    view = lines(bench, 1)
    assert (view.epoch, view.batch, bench.view.state) == (0, 0, "paused")
    assert not bench.session.running
    view = lines(bench, 5)
    assert (view.batch, view.next, bench.view.batch) == (1, 1, 1)
    bench(Run(steps=1))
    while bench.session.running:
        bench.session.advance(bench.inbox)
    # the rest of the pass that was begun is the step
    assert (bench.view.epoch, bench.view.batch) == (0, 2)


@pytest.mark.parametrize(
    "command", [Reset(), MakeData(spec=DataSpec(weight=0.1)), Run(), Run(steps=1)], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("count", [2, 7])
def test_a_pass_is_shown_as_long_as_it_applies(bench: Bench, command: Command, count: int) -> None:
    lines(bench, count)
    bench(SetPace(pace=2.0), SetLearningRate(learning_rate=0.1), Pause(), Evaluate())
    assert shown(bench).next == count % 5
    bench(command)
    assert bench.state["loop"] is None


def test_lines_end_a_run_as_epochs_do(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=2, device="cpu")))
    lines(bench, 10)
    assert (bench.view.state, bench.view.epoch) == ("finished", 2)
    assert bench.steps("train") == ["done"]
    assert shown(bench).next == 5
    with pytest.raises(WorkflowError, match="all 2 epochs are done"):
        bench(NextLine())
    bench(Evaluate(), SetTraining(spec=TrainSpec(epochs=3, device="cpu")))
    lines(bench, 5)
    assert (bench.view.state, bench.view.epoch, bench.view.run) == ("finished", 3, 1)
    assert bench.steps("evaluate") == ["stale"]


def test_a_divergence_and_an_early_stop_put_back_weights_after_the_last_line_too(bench: Bench) -> None:
    for settings, state in (({"learning_rate": 1e6}, "diverged"), ({"early_stop": 1, "min_delta": 9.0}, "finished")):
        bench(SetTraining(spec=TrainSpec(device="cpu", **settings)))  # type: ignore[arg-type]
        while bench.view.state in ("ready", "paused") if bench.state["training"] else True:
            bench(NextLine())
        assert bench.view.state == state
        expected = bench.view
        bench(Reset())
        again = bench.train()
        assert (again.parameters, again.held, again.epoch) == (expected.parameters, expected.held, expected.epoch)
        bench(Reset())


def test_a_line_that_cannot_run_ends_the_run_with_its_sentence(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(loop=("forward", "backward"), device="cpu")))
    view = lines(bench, 2)
    assert bench.view.state == "failed"
    assert view.fault in bench.view.reason
    assert "NameError: name 'loss' is not defined" in view.fault
    assert (view.next, view.off) == (1, ("loss", "zero_grad", "step"))
    assert bench.view.parameters == bench.view.initial


@pytest.mark.parametrize("settings", [{}, {"clip": 0.01}, {"batch_size": 10, "clip": 0.01}, {"optimizer": "adam"}])
def test_the_gradients_are_those_of_the_last_batch_before_clipping(bench: Bench, settings: dict[str, Any]) -> None:
    bench(SetTraining(spec=TrainSpec(device="cpu", **settings)))
    view = bench.train(3)
    assert list(view.gradients) == ["weight", "bias"]
    assert view.grad_norm == pytest.approx(sum(value**2 for value in view.gradients.values()) ** 0.5, rel=1e-5)
    assert view.gradients["weight"] < 0
    bench(Run(steps=1))
    bench.session.advance(bench.inbox)
    assert bench.view.gradients != view.gradients


def test_of_a_larger_model_they_are_norms_and_where_there_are_none_nothing(bench: Bench) -> None:
    bench(BuildModel(spec=ModelSpec(kind="mlp", hidden=(4,) * 32)))
    view = bench.train(1)
    assert bench.session._runner is not None
    parameters = dict(bench.session._runner.trainer.model.named_parameters())
    assert len(parameters) == 66
    assert list(view.gradients) == list(parameters)[:64]
    for name, norm in view.gradients.items():
        grad = parameters[name].grad
        assert grad is not None
        assert norm == pytest.approx(grad.norm().item())
    bench(SetTraining(spec=TrainSpec(loop=("forward", "loss", "zero_grad"), device="cpu")))
    assert bench.train(1).gradients == {}


def test_the_capacity_is_what_it_does_flat_out_whatever_the_pace(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=2000, device="cpu")))
    flat_out = bench.train().capacity
    assert flat_out > 100
    bench(Reset(), SetPace(pace=50.0))
    view = bench.train(5)
    assert view.capacity > 3 * 50
    lines(bench, 5)
    assert bench.view.capacity == view.capacity


def test_a_capacity_is_a_median_of_stretches() -> None:
    capacity = Capacity()
    assert capacity.mark(0.0, 0) == 0.0
    assert capacity.mark(1.0, 10) == 10.0
    for _ in range(20):
        capacity.mark(0.5, 50)
    assert capacity.mark(9.0, 0.5) == 100.0
    assert capacity.mark(1.0, 0) == 100.0
