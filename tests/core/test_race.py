"""A race: lanes that are what each would have been alone, side by side, and a lane that is taken on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.test_session import Bench

from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.lane_labels import labels
from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    Adopt,
    BuildModel,
    Evaluate,
    LeaveRace,
    MakeData,
    NextLine,
    Pause,
    RaceView,
    ReadSeries,
    Reset,
    Run,
    SeriesAnswer,
    SetPace,
    SetTraining,
    StartRace,
    Stop,
    Update,
)
from workflow_core.specs import LINES, LOSSES, OPTIMIZERS, SCHEDULERS, DataSpec, ModelSpec, TrainSpec
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
    go_on(bench)
    return race(bench)


def go_on(bench: Bench) -> None:
    while bench.session.running:
        bench.session.advance(bench.inbox)


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
    bench(SetPace(pace=None), StartRace(lanes=lanes(TrainSpec(epochs=1200))))
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


def test_a_lane_of_a_race_that_is_not_over_goes_on_by_itself(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=50_000))))
    bench.session.advance(Inbox(), until=time.monotonic() + 0.05)
    chosen = race(bench).lanes[1]
    bench(Adopt(run=chosen.run))
    view = bench.state["training"]
    assert (view.run, view.state) == (chosen.run, "paused")
    assert bench.state["train_spec"] == chosen.spec
    bench(Run(epochs=1))
    before = view.epoch
    while bench.session.running:
        bench.session.advance(bench.inbox)
    assert bench.state["training"].epoch == before + 1


def test_a_refused_race_leaves_the_training_running(bench: Bench) -> None:
    bench(Run())
    with pytest.raises(WorkflowError, match="cuda"):
        bench(StartRace(lanes=lanes(TrainSpec(device="cuda:7"))))
    assert bench.state["training"].state == "running"


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
    bench(LeaveRace())
    assert bench.state["race"] is None
    assert (bench.view.run, bench.view.epoch) == (1, 2), "the run from before the race is there as it was"
    with pytest.raises(WorkflowError, match="no race"):
        bench(LeaveRace())
    bench(StartRace(lanes=lanes()))
    with pytest.raises(WorkflowError, match="race is under way"):
        bench(LeaveRace())
    bench(Stop(), Reset())
    assert (bench.state["race"], bench.view.epoch) == (None, 0)


def test_what_only_goes_on_begins_nothing_new(bench: Bench) -> None:
    with pytest.raises(WorkflowError, match="no run to go on with"):
        bench(Run(go_on=True))
    bench(SetTraining(spec=TrainSpec(epochs=50)))
    bench.train(epochs=5)
    bench(SetTraining(spec=TrainSpec(epochs=9, learning_rate=0.5)), Run(go_on=True, epochs=2))
    go_on(bench)
    assert (bench.view.run, bench.view.epoch, bench.view.spec.learning_rate) == (1, 7, 0.01), "by its own settings"
    assert bench.state["train_spec"].learning_rate == 0.5, "which those of the next run are left alone by"
    bench(MakeData(spec=DataSpec(weight=0.1)))
    with pytest.raises(WorkflowError, match="the data changed"):
        bench(Run(go_on=True))
    bench(MakeData(spec=DataSpec()), StartRace(lanes=lanes()), Pause(), Run(go_on=True))
    assert race(bench).state == "running"
    bench(Stop())
    with pytest.raises(WorkflowError, match="race is over"):
        bench(Run(go_on=True))
    assert race(bench).state == "finished", "it is still there"
    bench(LeaveRace(), Run(go_on=True))
    go_on(bench)
    assert (bench.view.run, bench.view.epoch) == (1, 50)
    with pytest.raises(WorkflowError, match="all 50 epochs are done"):
        bench(Run(go_on=True))


def test_every_lane_is_kept_as_a_run_of_its_race_and_read_while_it_goes_on(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=50))), Pause(), Run(epochs=20))
    paused = run_on(bench)
    kept = {view.run: view for view in bench.library.listing()}
    for lane in paused.lanes:
        view = kept[lane.run]
        assert (view.race, view.epochs, view.spec.train) == (paused.race, 20, lane.spec)
        answer = bench.library.answer(ReadSeries(run=lane.run, start=0, stop=100, columns=100))
        assert isinstance(answer, SeriesAnswer)
        assert answer.epochs == 20
        assert answer.series["train_loss"][-1].last == lane.train_loss
        assert {name: answer.series[name][-1].last for name in lane.parameters} == lane.parameters
    bench(Stop())
    assert {view.state for view in bench.library.listing() if view.race == paused.race} == {"finished"}


def test_a_race_that_is_discarded_leaves_nothing(bench: Bench) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=100_000))))
    bench.session.advance(Inbox(), until=time.monotonic() + 0.05)
    assert race(bench).epoch > 0
    bench(Stop(keep=False))
    assert bench.state["race"] is None
    assert not bench.session.running
    assert bench.library.listing() == ()


def test_races_of_no_or_of_too_many_lanes_are_refused_and_so_is_a_lane_of_another(bench: Bench) -> None:
    for specs in ((), lanes()[:1], lanes(rates=tuple(0.01 * i for i in range(1, 8)))):
        with pytest.raises(WorkflowError, match="are no race"):
            bench(StartRace(lanes=specs))
    bench(StartRace(lanes=lanes()))
    run_on(bench)
    with pytest.raises(WorkflowError, match="no lane"):
        bench(Adopt(run=12345))


def interrupted(bench: Bench, turns: int) -> RaceView:
    """The race as it stands where a command comes after so many looks whether there is one."""

    class Interrupting(Inbox):
        looks = 0

        @property
        def waiting(self) -> bool:
            self.looks += 1
            return self.looks > turns

        @waiting.setter
        def waiting(self, value: bool) -> None:
            pass

    bench.session.advance(Interrupting())
    bench(Pause())
    return race(bench)


@pytest.mark.parametrize("batch_size", [0, 8])
def test_lanes_are_never_more_than_an_epoch_apart(bench: Bench, batch_size: int) -> None:
    bench(StartRace(lanes=lanes(TrainSpec(epochs=100_000, batch_size=batch_size))), Pause())
    seen = set()
    for turns in range(1, 60):
        bench(Run())
        epochs = [lane.epoch for lane in interrupted(bench, turns).lanes]
        assert max(epochs) - min(epochs) <= 1
        assert epochs == sorted(epochs, reverse=True), "each round begins with the first lane"
        seen.add(max(epochs) - min(epochs))
    assert seen == {0, 1}
    bench(Run(epochs=3))
    ended = run_on(bench)
    assert ended.state == "paused"
    assert {lane.epoch for lane in ended.lanes} == {min(epochs) + 3}


def test_it_runs_as_many_epochs_as_are_asked_for(bench: Bench) -> None:
    bench(StartRace(lanes=lanes()), Pause(), Run(epochs=7))
    assert (run_on(bench).state, race(bench).epoch) == ("paused", 7)
    for command in (Run(steps=3), Run(epochs=0)):
        with pytest.raises(WorkflowError):
            bench(command)
    bench(Run())
    assert (run_on(bench).state, race(bench).epoch) == ("finished", 30)


@pytest.mark.parametrize("kind", ["parameter", "mlp"])
def test_however_a_race_is_interrupted_its_lanes_end_the_same(bench: Bench, kind: Any) -> None:
    """Each has random numbers of its own, whatever is drawn in between."""
    model = ModelSpec(kind=kind, dropout=0.3)
    specs = (
        TrainSpec(epochs=12, batch_size=8, optimizer="adam"),
        TrainSpec(epochs=9, batch_size=0, momentum=0.9),
        TrainSpec(epochs=12, batch_size=16, batch_seed=7, scheduler="plateau", scheduler_epochs=1),
    )
    bench(BuildModel(spec=model), StartRace(lanes=specs))
    straight = run_on(bench)
    bench(StartRace(lanes=specs), Pause())
    turns = 0
    while race(bench).state != "finished":
        turns += 1
        bench(Run())
        interrupted(bench, turns % 5)
        torch.rand(3)
        bench(SetTraining(spec=TrainSpec(loss="huber", delta=1 + turns)))  # which builds a model
    for first, second in zip(straight.lanes, race(bench).lanes, strict=True):
        assert (first.parameters, first.train_loss, first.val_loss, first.epoch) == (
            second.parameters,
            second.train_loss,
            second.val_loss,
            second.epoch,
        )


def test_each_lane_has_the_threads_that_it_would_have_alone(bench: Bench, tmp_path: Path) -> None:
    """Of so many rows two threads give other sums than one."""
    before = torch.get_num_threads()
    rows, model = DataSpec(step=1 / 75_000, noise=0.1), ModelSpec(kind="linear")
    specs = (TrainSpec(epochs=3), TrainSpec(epochs=3, batch_size=20_000))
    try:
        for order in (specs, specs[::-1]):
            bench(MakeData(spec=rows), BuildModel(spec=model), StartRace(lanes=order))
            for lane in run_on(bench).lanes:
                alone = Bench(tmp_path)
                alone(MakeData(spec=rows), BuildModel(spec=model), SetTraining(spec=lane.spec))
                assert alone.train().parameters == lane.parameters
    finally:
        torch.set_num_threads(before)


def test_a_lane_that_fails_or_stops_early_ends_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench(StartRace(lanes=(TrainSpec(epochs=50), TrainSpec(epochs=2000, learning_rate=0.5, early_stop=2))))
    assert bench.session._race is not None
    first = bench.session._race.lanes[0].trainer

    def broken(*arguments: object) -> bool:
        raise RuntimeError("\x1b[31m a device gave out")

    monkeypatch.setattr(first, "advance", broken)
    failed, stopped = run_on(bench).lanes
    assert (failed.state, failed.epoch) == ("failed", 0)
    assert "PyTorch could not carry out an operation" in failed.reason
    assert stopped.state == "finished"
    assert stopped.reason.startswith("stopped early")
    assert race(bench).state == "finished"
    with pytest.raises(WorkflowError, match="no epoch"):
        bench(Adopt(run=failed.run))
    bench(Adopt(run=stopped.run))
    assert bench.view.best_epoch is not None
    assert bench.view.held == bench.view.best_epoch + 1


def test_it_keeps_its_pace_and_tells_of_itself_seldom(bench: Bench) -> None:
    bench(SetPace(pace=100.0), StartRace(lanes=lanes(TrainSpec(epochs=40))))
    bench.events.clear()
    begun = time.monotonic()
    ended = run_on(bench)
    taken = time.monotonic() - begun
    assert 0.38 < taken < 1.5
    assert ended.elapsed == pytest.approx(taken, abs=0.05)
    for lane in ended.lanes:
        assert bench.library.find(lane.run).elapsed == pytest.approx(taken, abs=0.1), "as if it ran alone"
    told = [event.race for event in bench.events if isinstance(event, Update) and isinstance(event.race, RaceView)]
    assert 4 < len(told) <= taken * 20 + 3
    assert told[len(told) // 2].rate == pytest.approx(100, rel=0.3)
    bench(StartRace(lanes=lanes(TrainSpec(epochs=40))), SetPace(pace=1.0))
    bench.session.advance(bench.inbox, until=time.monotonic() + 0.01)
    bench.events.clear()
    for _ in range(5):
        bench.session.advance(bench.inbox, until=time.monotonic() + 0.01)
    assert bench.events == [], "nothing was done meanwhile"


def test_what_was_learnt_in_a_race_counts_as_unsaved_until_it_is_over(bench: Bench) -> None:
    bench(StartRace(lanes=lanes()))
    assert not bench.session.unsaved
    run_on(bench)
    assert bench.session.unsaved
    bench(Stop(keep=False))
    assert not bench.session.unsaved


def test_a_fault_of_our_own_ends_a_race(bench: Bench) -> None:
    bench(StartRace(lanes=lanes()))
    bench.session.abandon()
    assert not bench.session.running
    assert {lane.state for lane in race(bench).lanes} == {"failed"}


def test_a_race_that_does_not_fit_into_memory_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.train(3)
    monkeypatch.setattr("workflow_core.engine.race.machine_memory", lambda: 2 * 4 * 7 * 3 - 1)
    with pytest.raises(WorkflowError, match="3 trainings of this model"):
        bench(StartRace(lanes=lanes()))
    assert "race" not in bench.state
    bench(StartRace(lanes=lanes()[:2]))


def test_a_training_that_runs_is_paused_for_a_race_and_goes_on_after_it(bench: Bench) -> None:
    bench(SetTraining(spec=TrainSpec(epochs=5000)), Run())
    bench.session.advance(bench.inbox, until=time.monotonic() + 0.01)
    bench(StartRace(lanes=lanes()))
    assert bench.view.state == "paused"
    before = bench.view.epoch
    run_on(bench)
    assert bench.view.epoch == before
    view = bench.train()
    assert (view.run, view.state, view.epoch) == (1, "finished", 5000)
    assert bench.state["race"] is None


def test_data_and_model_end_a_race_that_is_over_only_where_they_change(bench: Bench) -> None:
    bench(StartRace(lanes=lanes()))
    run_on(bench)
    bench(MakeData(), BuildModel())
    assert race(bench).state == "finished"
    bench(MakeData(spec=DataSpec(weight=0.1)))
    assert bench.state["race"] is None


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (lanes(), ("lr 0.001", "lr 0.01", "lr 0.1")),
        ((TrainSpec(), TrainSpec(optimizer="adam")), ("SGD", "Adam")),
        ((TrainSpec(), TrainSpec(optimizer="adam", learning_rate=0.1)), ("SGD lr 0.01", "Adam lr 0.1")),
        ((TrainSpec(momentum=0.9), TrainSpec(optimizer="adam")), ("SGD momentum 0.9", "Adam")),
        ((TrainSpec(batch_size=8), TrainSpec()), ("batches of 8", "all rows at once")),
        ((TrainSpec(loss="huber", delta=2.0), TrainSpec()), ("Huber delta 2", "MSE")),
        ((TrainSpec(scheduler="cosine"), TrainSpec(clip=1.0)), ("cosine schedule no clip", "no schedule clip 1")),
        (
            (TrainSpec(loop=("forward", "loss", "backward", "step")), TrainSpec()),
            ("without zero_grad", "textbook loop"),
        ),
        ((TrainSpec(), TrainSpec(), TrainSpec(epochs=7)), ("100 epochs (1)", "100 epochs (2)", "7 epochs")),
        ((TrainSpec(), TrainSpec()), ("SGD (1)", "SGD (2)")),
    ],
)
def test_lanes_are_called_what_they_differ_in(specs: Any, names: tuple[str, ...]) -> None:
    assert labels(specs) == names


@given(st.data())
def test_every_setting_has_a_name_and_every_lane_one_of_its_own(draw: st.DataObject) -> None:
    changes: dict[str, list[Any]] = {
        "loss": list(LOSSES),
        "optimizer": [name for name in OPTIMIZERS if name != "lbfgs"],
        "scheduler": list(SCHEDULERS),
        "loop": [LINES, LINES[::-1], LINES[:4]],
        "optimizer_over": ["model", "another"],
        "device": ["cpu", "cuda:1"],
        "deterministic": [True, False],
        "weight_decay": [None, 0.0, 0.1],
        "batch_size": [0, 8],
        "epochs": [1, 2000],
        "clip": [0.0, 0.5],
        "early_stop": [0, 3],
        "scheduler_epochs": [1, 3],
        "momentum": [0.0, 0.9],
    }
    found = []
    for _ in range(draw.draw(st.integers(2, 6))):
        names = draw.draw(st.sets(st.sampled_from(sorted(changes))))
        found.append(TrainSpec(**{name: draw.draw(st.sampled_from(changes[name])) for name in names}))
    called = labels(found)
    assert len(set(called)) == len(found)
    assert all(label and label.isprintable() for label in called)


def test_what_is_done_between_two_turns_is_no_time_of_a_lane(bench: Bench) -> None:
    bench(SetPace(pace=50.0), StartRace(lanes=lanes(TrainSpec(epochs=1000))))
    begun = time.monotonic()
    bench.session.advance(bench.inbox, until=begun + 0.2)
    took = time.monotonic() - begun
    time.sleep(0.5)
    begun = time.monotonic()
    bench.session.advance(bench.inbox, until=begun + 0.2)
    took += time.monotonic() - begun
    bench(Pause())
    view = race(bench)
    assert view.elapsed == pytest.approx(took, abs=0.1)
    for lane in view.lanes:
        assert bench.library.find(lane.run).elapsed == pytest.approx(view.elapsed, abs=0.1)
    bench(Adopt(run=view.lanes[0].run))
    assert bench.view.elapsed == pytest.approx(view.elapsed, abs=0.1)
