"""A run that is stopped, and kept or discarded; and one that gets more epochs than were planned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.core.test_session import Bench

from workflow_core.errors import WorkflowError
from workflow_core.protocol import Evaluate, Extend, MakeData, NextLine, Run, SetTraining, Stop
from workflow_core.specs import MAX_EPOCHS, DataSpec, TrainSpec
from workflow_core.store import Store


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Store(tmp_path / "store.sqlite")) as store:
        yield Bench(tmp_path, store)


def test_a_run_that_is_stopped_and_kept_is_finished_as_it_stands(bench: Bench) -> None:
    view = bench.train(epochs=7)
    bench(Stop(keep=True))
    stopped = bench.state["training"]
    assert (stopped.state, stopped.reason, stopped.epoch) == ("finished", "stopped by hand", 7)
    assert stopped.parameters == view.parameters
    assert bench.state["steps"].train == "done"
    bench(Evaluate())
    assert bench.state["evaluation"].epoch == 7
    with pytest.raises(WorkflowError, match="stopped by hand"):
        bench(Run())
    with pytest.raises(WorkflowError, match="stopped by hand"):
        bench(Stop())


def test_a_run_that_is_discarded_is_gone_with_its_record_and_the_model_untrained(bench: Bench, tmp_path: Path) -> None:
    first = bench.train(epochs=5)
    figures = bench.library.figures(first.run, 0, 5)
    assert figures is not None
    assert len(figures["train_loss"]) == 5
    bench(Stop(keep=False))
    assert bench.state["training"] is None
    assert bench.history.epochs == 0
    with pytest.raises(WorkflowError, match="no run"):
        bench.library.figures(first.run, 0, 5)
    assert bench.library.listing() == ()
    again = bench.train(epochs=5)
    assert again.parameters == first.parameters
    assert again.initial == first.initial


def test_a_stale_run_can_be_discarded_too(bench: Bench) -> None:
    bench.train(epochs=5)
    bench(MakeData(spec=DataSpec(weight=2.0)))
    assert bench.state["steps"].train == "stale"
    bench(Stop(keep=False))
    assert bench.state["training"] is None
    assert bench.state["steps"].train == "open"


def test_a_stale_run_that_is_kept_stays_stale(bench: Bench) -> None:
    bench.train(epochs=5)
    bench(MakeData(spec=DataSpec(weight=2.0)), Stop(keep=True))
    assert bench.state["training"].state == "finished"
    assert bench.state["steps"].train == "stale"
    with pytest.raises(WorkflowError, match="the data changed after this training"):
        bench(Evaluate())


def test_a_run_in_its_first_epoch_can_be_discarded_and_leaves_no_line_of_the_loop(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(batch_size=2)), NextLine())
    for _ in range(7):
        bench(NextLine())
    assert bench.state["training"].epoch == 0
    assert bench.state["loop"] is not None
    bench(Stop(keep=False))
    assert bench.state["training"] is None
    assert bench.state["loop"] is None


@pytest.mark.parametrize("done", [30, 100])
def test_more_epochs_are_trained_as_if_they_had_been_asked_for(bench: Bench, tmp_path: Path, done: int) -> None:
    bench.train(epochs=done)
    bench(Extend(epochs=20))
    view = bench.state["training"]
    assert (view.state, view.spec.epochs) == ("running", 120)
    assert bench.state["train_spec"].epochs == 120
    inbox = bench.inbox
    while bench.session.running:
        bench.session.advance(inbox)
    alone = Bench(tmp_path)
    alone(SetTraining(spec=TrainSpec(epochs=120)))
    assert bench.state["training"].parameters == alone.train().parameters
    assert bench.history.epochs == 120


def test_a_run_that_was_stopped_goes_on_from_where_it_stands(bench: Bench) -> None:
    bench.train(epochs=7)
    bench(Stop(keep=True), Extend(epochs=3))
    assert bench.state["training"].spec.epochs == 10


def test_settings_of_the_next_run_that_differ_are_left_alone(bench: Bench) -> None:
    bench.train(epochs=7)
    other = TrainSpec(learning_rate=0.5)
    bench(SetTraining(spec=other), Extend(epochs=3))
    assert bench.session._train_spec == other


def test_what_takes_no_more_epochs_says_why(bench: Bench) -> None:
    for command in (Extend(epochs=5), Stop()):
        with pytest.raises(WorkflowError, match="there is no run"):
            bench(command)
    bench(SetTraining(spec=TrainSpec(scheduler="cosine", epochs=10)))
    bench.train()
    with pytest.raises(WorkflowError, match="cosine"):
        bench(Extend(epochs=5))
    bench(SetTraining(spec=TrainSpec(epochs=10)))
    bench.train()
    for epochs in (0, -3, MAX_EPOCHS):
        with pytest.raises(WorkflowError, match="cannot be run"):
            bench(Extend(epochs=epochs))
    bench(SetTraining(spec=TrainSpec(learning_rate=1.5, epochs=3000)))
    bench.train()
    with pytest.raises(WorkflowError, match="diverged"):
        bench(Extend(epochs=5))
    bench(SetTraining(spec=replace(TrainSpec(), learning_rate=0.8, early_stop=1, epochs=500)))
    view = bench.train()
    assert view.held is not None
    with pytest.raises(WorkflowError, match="stopped early"):
        bench(Extend(epochs=5))
