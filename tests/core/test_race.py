"""A race: lanes that are what each would have been alone, side by side, and a lane that is taken on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.test_session import Bench

from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.race import labels
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    Adopt,
    BuildModel,
    Evaluate,
    MakeData,
    NextLine,
    Pause,
    RaceView,
    Reset,
    Run,
    SetPace,
    SetTraining,
    StartRace,
    Stop,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.store import Store

RATES = (0.001, 0.01, 0.1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Store(tmp_path / "store.sqlite")) as store:
        yield Bench(tmp_path, store)


def lanes(spec: TrainSpec | None = None, rates: tuple[float, ...] = RATES) -> tuple[TrainSpec, ...]:
    return tuple(replace(spec or TrainSpec(epochs=30), learning_rate=rate) for rate in rates)


def race(bench: Bench) -> RaceView:
    view = bench.state["race"]
    assert isinstance(view, RaceView)
    return view


def run_on(bench: Bench) -> RaceView:
    """Until the race stands still."""
    while bench.session.running:
        bench.session.advance(bench.inbox)
    return race(bench)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (ModelSpec(), TrainSpec(epochs=30)),
        (ModelSpec(kind="mlp", hidden=(8,), dropout=0.4), TrainSpec(epochs=20, batch_size=16, optimizer="adam")),
        (ModelSpec(kind="polynomial", degree=2), TrainSpec(epochs=25, scheduler="cosine", momentum=0.9)),
    ],
)
def test_every_lane_ends_where_it_would_have_alone(
    bench: Bench, tmp_path: Path, model: ModelSpec, spec: TrainSpec
) -> None:
    bench(MakeData(spec=DataSpec(noise=0.05)), BuildModel(spec=model), StartRace(lanes=lanes(spec)))
    ended = run_on(bench)
    assert ended.state == "finished"
    for lane in ended.lanes:
        alone = Bench(tmp_path)
        alone(MakeData(spec=DataSpec(noise=0.05)), BuildModel(spec=model), SetTraining(spec=lane.spec))
        view = alone.train()
        assert (lane.parameters, lane.train_loss, lane.val_loss) == (view.parameters, view.train_loss, view.val_loss)
        assert (lane.epoch, lane.best_epoch, lane.best_loss) == (view.epoch, view.best_epoch, view.best_loss)
    assert len({lane.run for lane in ended.lanes}) == 3


def test_lanes_have_the_same_epochs_behind_them_whenever_they_are_seen(bench: Bench) -> None:
    bench(SetPace(pace=None), StartRace(lanes=lanes(TrainSpec(epochs=3000))))
    run_on(bench)
    seen = [
        {lane.epoch for lane in event.race.lanes}
        for event in bench.events
        if isinstance(event, Update) and isinstance(event.race, RaceView)
    ]
    assert len(seen) > 2
    assert all(len(epochs) == 1 for epochs in seen)


def test_a_lane_that_blows_up_ends_alone(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=4000), (0.1, 2.0))))
    good, bad = run_on(bench).lanes
    assert (good.state, good.epoch) == ("finished", 4000)
    assert bad.state == "diverged"
    assert bad.first_bad is not None
    assert bad.epoch < 4000


def test_a_command_comes_between_and_the_lanes_that_are_behind_come_first(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=100_000))))
    inbox = Inbox()
    inbox.put(Job(Pause(), lambda problem, answer: None))
    bench.session.advance(inbox)
    bench(Pause())
    assert race(bench).state == "paused"
    before = race(bench).epoch
    assert not bench.session.running
    bench(Run())
    assert race(bench).state == "running"
    bench.session.advance(Inbox(), until=time.monotonic() + 0.1)
    bench(Stop())
    assert race(bench).state == "finished"
    assert race(bench).epoch > before
    assert {lane.reason for lane in race(bench).lanes} == {"stopped by hand"}


def test_a_lane_is_taken_on_as_the_run_of_all_steps(bench: Bench) -> None:
    bench(StartRace(lanes=lanes()))
    ended = run_on(bench)
    best = min(ended.lanes, key=lambda lane: lane.val_loss or 0)
    bench(Adopt(run=best.run))
    assert bench.state["race"] is None
    view = bench.state["training"]
    assert (view.run, view.epoch, view.parameters) == (best.run, 30, best.parameters)
    assert bench.state["train_spec"] == best.spec
    assert bench.history.epochs == 30
    bench(Evaluate())
    assert bench.state["evaluation"].run == best.run
    bench(SetTraining(spec=replace(best.spec, epochs=40)))
    assert bench.train().epoch == 40
    assert bench.history.epochs == 40


def test_what_would_change_a_race_is_refused_while_it_is_under_way_and_ends_it_afterwards(bench: Bench) -> None:
    bench.train(epochs=2)
    bench(StartRace(lanes=lanes()))
    for command in (Reset(), NextLine(), BuildModel(spec=ModelSpec(kind="linear"))):
        with pytest.raises(WorkflowError, match="race is under way"):
            bench(command)
    run_on(bench)
    bench(Evaluate())
    assert bench.state["evaluation"].run == 1, "the run from before the race is still there"
    assert race(bench).state == "finished"
    bench(Reset())
    assert bench.state["race"] is None
    assert bench.state["training"].epoch == 0


def test_a_race_that_is_discarded_leaves_nothing(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=100_000))))
    bench.session.advance(Inbox(), until=time.monotonic() + 0.05)
    assert race(bench).epoch > 0
    bench(Stop(keep=False))
    assert bench.state["race"] is None
    assert not bench.session.running


def test_races_of_no_or_of_too_many_lanes_are_refused_and_so_is_a_lane_of_another(bench: Bench) -> None:
    for specs in ((), lanes()[:1], lanes(rates=tuple(0.01 * i for i in range(1, 8)))):
        with pytest.raises(WorkflowError, match="are no race"):
            bench(StartRace(lanes=specs))
    bench(StartRace(lanes=lanes()))
    run_on(bench)
    with pytest.raises(WorkflowError, match="no lane"):
        bench(Adopt(run=12345))


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (lanes(), ("lr 0.001", "lr 0.01", "lr 0.1")),
        ((TrainSpec(), TrainSpec(optimizer="adam")), ("sgd", "adam")),
        ((TrainSpec(), TrainSpec(optimizer="adam", learning_rate=0.1)), ("sgd lr 0.01", "adam lr 0.1")),
        ((TrainSpec(batch_size=8), TrainSpec()), ("batch 8", "batch 0")),
        ((TrainSpec(), TrainSpec()), ("the same", "the same")),
    ],
)
def test_lanes_are_called_what_they_differ_in(specs: Any, names: tuple[str, ...]) -> None:
    assert labels(specs) == names
