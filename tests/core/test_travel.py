"""Back to any epoch of a run, and on from there: as it was to the last bit, whatever model, optimizer and schedule."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_session import Bench

from workflow_core import devices
from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.slow import Slow
from workflow_core.engine.travel import Kept
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    Branch,
    BuildModel,
    Command,
    LookBack,
    MakeData,
    PastAnswer,
    PastView,
    Pause,
    Reset,
    Run,
    SetLearningRate,
    SetTraining,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build
from workflow_core.store import Store

MLP = ModelSpec(kind="mlp", hidden=(8,), dropout=0.3)
SPECS: dict[str, tuple[ModelSpec, TrainSpec]] = {
    "line": (ModelSpec(), TrainSpec(epochs=40)),
    "line, momentum": (ModelSpec(), TrainSpec(epochs=40, momentum=0.9, learning_rate=0.05)),
    "adam, batches, cosine": (
        ModelSpec(kind="polynomial", degree=3),
        TrainSpec(epochs=40, optimizer="adam", batch_size=8, scheduler="cosine"),
    ),
    "network, dropout, batches": (MLP, TrainSpec(epochs=40, optimizer="adamw", batch_size=16, scheduler="step")),
    "network, early stop": (MLP, TrainSpec(epochs=40, learning_rate=0.3, early_stop=6)),
    "network, lbfgs": (ModelSpec(kind="mlp", hidden=(4,)), TrainSpec(epochs=12, optimizer="lbfgs")),
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Store(tmp_path / "store.sqlite")) as store:
        yield Bench(tmp_path, store)


def ask(bench: Bench, command: Command, slice_seconds: float = 0.002) -> Any:
    """The answer to a command, its slices worked off."""
    result = bench(command)
    if not hasattr(result, "advance"):
        return result
    slow: Slow = result
    while not slow.advance(time.monotonic() + slice_seconds):
        pass
    return slow.answer()


def past(bench: Bench, epoch: int) -> PastView:
    answer = ask(bench, LookBack(epoch=epoch))
    assert isinstance(answer, PastAnswer)
    return answer.past


def prepared(bench: Bench, name: str) -> Bench:
    model, spec = SPECS[name]
    bench(MakeData(spec=DataSpec(noise=0.1)), BuildModel(spec=model), SetTraining(spec=spec))
    return bench


@pytest.mark.parametrize("name", SPECS)
def test_every_epoch_that_is_looked_at_is_what_it_was(bench: Bench, name: str) -> None:
    prepared(bench, name)
    seen: dict[int, dict[str, Any]] = {}
    view = bench.train(epochs=1)
    while view.state == "paused":
        runner = bench.session._runner
        assert runner is not None
        seen[view.epoch - 1] = {
            "line": build.line(runner.trainer.model, runner.dataset),
            "parameters": view.parameters,
            "figures": (view.train_loss, view.val_loss, view.grad_norm),
        }
        view = bench.train(epochs=1)
    assert len(seen) > 5
    for epoch in (0, 1, len(seen) // 2, len(seen) - 1):
        was = past(bench, epoch)
        assert was.equal
        assert was.line == seen[epoch]["line"]
        assert was.parameters == seen[epoch]["parameters"]
        assert (was.train_loss, was.val_loss, was.grad_norm) == seen[epoch]["figures"]
        assert was.replayed == (SPECS[name][0].kind == "mlp")
    first = past(bench, -1)
    assert first.parameters == view.initial
    assert first.train_loss is None


def test_looking_back_changes_nothing_and_goes_on_beside_the_training(bench: Bench) -> None:
    prepared(bench, "network, dropout, batches")
    bench.train(epochs=20)
    slow = bench(LookBack(epoch=17))
    other = Bench(Path("/"), None)
    prepared(other, "network, dropout, batches")
    other.train(epochs=20)
    while not slow.advance(time.monotonic() + 0.001):
        if bench.state["training"].epoch < 30:
            bench.train(epochs=1)
            other.train(epochs=1)
    assert slow.answer().past.equal
    bench.train()
    other.train()
    assert bench.state["training"].parameters == other.state["training"].parameters
    assert repr(bench.history.to_data()) == repr(other.history.to_data())


@pytest.mark.parametrize("name", ["line, momentum", "adam, batches, cosine", "network, dropout, batches"])
def test_a_branch_goes_on_as_the_run_did_and_is_another_run(bench: Bench, name: str) -> None:
    prepared(bench, name)
    whole = bench.train()
    record = repr(bench.history.to_data())
    ask(bench, Branch(epoch=14))
    view = bench.state["training"]
    assert (view.run, view.parent, view.parent_epoch) == (whole.run + 1, whole.run, 15)
    assert (view.state, view.epoch, bench.history.epochs) == ("paused", 15, 15)
    assert view.initial == whole.initial
    after = bench.train()
    assert after.parameters == whole.parameters
    assert repr(bench.history.to_data()) == record
    runner = bench.session._runner
    assert runner is not None
    assert runner.recorded(20) == {name: series.first[20] for name, series in bench.history.series.items()}


def test_a_branch_with_another_learning_rate_leaves_the_run_it_came_from_as_it_was(bench: Bench) -> None:
    prepared(bench, "line")
    whole = bench.train()
    ask(bench, Branch(epoch=9))
    bench(SetLearningRate(learning_rate=0.1))
    changed = bench.train()
    assert changed.lr_changes == ((10, 0.1),)
    assert changed.train_loss is not None
    assert whole.train_loss is not None
    assert changed.train_loss < whole.train_loss
    assert past(bench, 9).learning_rate == 0.01
    assert past(bench, 10).learning_rate == 0.1


def test_rates_set_by_hand_are_followed_when_it_is_trained_again(bench: Bench) -> None:
    model, spec = MLP, TrainSpec(epochs=60, batch_size=16)
    bench(BuildModel(spec=model), SetTraining(spec=spec))
    bench.train(epochs=5)
    for rate in (0.05, 0.002):
        bench(SetLearningRate(learning_rate=rate))
        bench.train(epochs=7)
    runner = bench.session._runner
    assert runner is not None
    runner.kept = runner.kept.until(0)  # as if no state had been kept since the start
    for epoch in (4, 5, 11, 12, 18):
        was = past(bench, epoch)
        assert was.replayed
        assert was.equal


def test_an_epoch_that_blew_up_shows_what_was_recorded_and_nothing_goes_on_from_there(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=5000, learning_rate=1.5)))
    view = bench.train()
    assert view.first_bad is not None
    bad = past(bench, view.first_bad)
    assert bad.train_loss is not None
    assert bad.val_loss is not None
    assert not math.isfinite(bad.train_loss + bad.val_loss)
    assert past(bench, view.first_bad - 1).line
    with pytest.raises(WorkflowError, match="NaN or infinite"):
        ask(bench, Branch(epoch=view.first_bad))
    ask(bench, Branch(epoch=view.first_bad - 10))
    assert bench.state["training"].state == "paused"


def test_weights_of_an_epoch_that_blew_up_are_not_those_put_back_after_it(bench: Bench) -> None:
    model = ModelSpec(kind="mlp", hidden=(16,), activation="relu")
    bench(BuildModel(spec=model), SetTraining(spec=TrainSpec(epochs=5000, learning_rate=1e6)))
    view = bench.train()
    assert view.first_bad is not None
    assert past(bench, view.first_bad).line == ()


def test_what_cannot_be_looked_at_is_refused_in_a_sentence(bench: Bench) -> None:
    with pytest.raises(WorkflowError, match="no run"):
        ask(bench, LookBack(epoch=0))
    with pytest.raises(WorkflowError, match="no run"):
        ask(bench, Branch(epoch=0))
    bench.train(epochs=3)
    for epoch in (-2, 3, 10**12):
        with pytest.raises(WorkflowError, match=r"No such epoch|cannot be looked at"):
            ask(bench, LookBack(epoch=epoch))


def test_the_last_epoch_of_an_early_stop_is_seen_but_not_gone_on_from(bench: Bench) -> None:
    prepared(bench, "network, early stop")
    view = bench.train()
    assert view.reason.startswith("stopped early")
    last = past(bench, view.epoch - 1)
    assert last.equal, "the weights of then, not those put back"
    with pytest.raises(WorkflowError, match="ended with this epoch"):
        ask(bench, Branch(epoch=view.epoch - 1))


def test_without_a_store_epochs_are_trained_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.train()
    was = past(bench, 50)
    assert was.replayed
    assert was.train_loss == bench.history.series["train_loss"].first[50]
    with pytest.raises(WorkflowError, match="record"):
        ask(bench, Branch(epoch=50))


def test_states_are_kept_between_epochs_however_often_commands_come_between_batches(bench: Bench) -> None:
    spec = TrainSpec(epochs=400, batch_size=2)
    bench(BuildModel(spec=MLP), SetTraining(spec=spec), Run())
    for _ in range(60):
        waiting = Inbox()
        timer = threading.Timer(0.01, waiting.put, [Job(Pause(), lambda problem, answer: None)])
        timer.start()
        bench.session.advance(waiting)
        timer.join()
    bench(Pause())
    runner = bench.session._runner
    assert runner is not None
    done = runner.view.epoch
    assert done > 5
    for epoch in range(max(done - 12, 0), done):
        assert past(bench, epoch).equal
    ask(bench, Branch(epoch=done - 2))
    assert (bench.state["training"].epoch, bench.state["training"].batch) == (done - 1, 0)


def test_a_branch_has_the_settings_and_the_past_of_the_run_it_came_from(bench: Bench) -> None:
    prepared(bench, "line, momentum")
    bench.train(epochs=10)
    first = bench.history.series["train_loss"].first[0]
    bench(SetTraining(spec=TrainSpec(learning_rate=0.5)))
    ask(bench, Branch(epoch=4))
    assert bench.state["train_spec"] == SPECS["line, momentum"][1]
    view = bench.train(epochs=1)
    assert (view.run, view.epoch) == (2, 6), "it goes on, and no third run begins"
    runner = bench.session._runner
    assert runner is not None
    assert runner.watch._figures.epochs == 6
    assert runner.watch._figures.first_loss == first
    assert view.capacity < 1e6
    walked = runner.watch.walked.span("weight")
    assert walked is not None
    assert walked[0] == view.initial["weight"]
    assert walked[1] < max(bench.library.figures(1, 0, 10)["weight"])  # type: ignore[index]


def test_after_a_reset_the_states_are_those_of_the_new_run(bench: Bench) -> None:
    prepared(bench, "network, dropout, batches")
    bench.train()
    bench(Reset())
    bench(Run(epochs=3))
    bench.train(epochs=3)
    assert past(bench, 2).equal


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(2, 20), st.integers(1, 40))
def test_kept_states_are_few_spread_and_never_without_the_first(steps: list[int], most: int, states: int) -> None:
    kept = Kept(budget=states * 500, most=most)
    epochs = [0]
    for step in steps:
        epochs.append(epochs[-1] + step)
    for epoch in epochs:
        kept._not_before = 0.0
        kept.offer(epoch, lambda epoch=epoch: {"epoch": epoch, "weights": torch.zeros(40)})  # type: ignore[misc]
    held = [epoch for epoch, _ in kept]
    assert held[0] == 0
    assert held == sorted(set(held))
    assert len(held) <= max(most, 2)
    for epoch in range(0, epochs[-1] + 1, max(epochs[-1] // 50, 1)):
        at, state = kept.before(epoch)
        assert at <= epoch
        assert state["epoch"] == at
    until = kept.until(epochs[len(epochs) // 2])
    assert all(epoch <= epochs[len(epochs) // 2] for epoch, _ in until)


def test_it_is_trained_again_with_as_many_threads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this many rows so few are for training that one thread would do: the run had two, which give other sums."""
    monkeypatch.setattr(devices, "_all_threads", 2)
    before = torch.get_num_threads()
    try:
        bench(MakeData(spec=DataSpec(step=1 / 60_000, noise=0.1)), SetTraining(spec=TrainSpec(epochs=4, device="cpu")))
        bench(BuildModel(spec=ModelSpec(kind="mlp", hidden=(30,))))
        bench.train()
        runner = bench.session._runner
        assert runner is not None
        runner.kept = runner.kept.until(0)
        assert past(bench, 2).equal
    finally:
        torch.set_num_threads(before)
