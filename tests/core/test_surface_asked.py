"""The loss surface and the speed of a run as a UI asks for them: true, beside a training, and at no cost to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_session import Bench
from tests.core.test_travel import ask

from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.library import Library
from workflow_core.engine.worker import Worker
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    EngineView,
    Epochs,
    MakeData,
    Pause,
    ReadSpeed,
    ReadSurface,
    Reset,
    Run,
    SetPace,
    SetTraining,
    SurfaceAnswer,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.store import Store

MLP = ModelSpec(kind="mlp", hidden=(64, 64))
NAMES = "layers.0.weight[3]", "layers.2.weight[5,6]"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Store(tmp_path / "store.sqlite")) as store:
        yield Bench(tmp_path, store)


def surface(x: str = "weight", y: str = "bias", **settings: Any) -> ReadSurface:
    wanted: dict[str, Any] = {"x": x, "y": y, "columns": 30, "rows": 20} | settings
    return ReadSurface(**wanted)


def test_a_surface_can_be_looked_at_before_during_and_after_a_training(bench: Bench) -> None:
    before = ask(bench, surface())
    assert isinstance(before, SurfaceAnswer)
    assert bench.steps("data", "build", "train") == ["done", "done", "open"]
    assert (before.run, before.x, before.y, before.path) == (0, "weight", "bias", ())
    assert before.now_loss == bench.state["model"].untrained_loss
    bench.train(40)
    during = ask(bench, surface())
    assert (during.run, during.now) == (bench.view.run, tuple(bench.view.parameters.values()))
    after = bench.train()
    found = ask(bench, surface())
    assert found.now == tuple(after.parameters.values())
    assert found.now_loss < during.now_loss < before.now_loss
    assert found.minimum == pytest.approx((0.7, 0.3))
    for at, (low, high) in enumerate((found.x_range, found.y_range)):
        series = bench.history.series[("weight", "bias")[at]]
        assert low < min(series.low)
        assert max(series.high) < high
    assert found.path == (), "the path of tracked values is in their series"
    bench(MakeData(spec=DataSpec(weight=0.1)))
    assert ask(bench, surface()) == found, "that of a stale run is that of its own data"
    bench(MakeData(spec=DataSpec()), Reset())
    assert ask(bench, surface()).now == tuple(bench.view.initial.values())


def test_a_surface_is_seen_from_the_epoch_that_is_asked_for(bench: Bench) -> None:
    bench(MakeData(spec=DataSpec(kind="quadratic")), BuildModel(spec=ModelSpec(kind="polynomial")))
    bench.train()
    names = "linear.weight[0]", "linear.bias"
    now, then = ask(bench, surface(*names)), ask(bench, surface(*names, epoch=10))
    recorded = {name: bench.history.series[name].last[10] for name in bench.view.parameters}
    assert then.now == (recorded[names[0]], recorded[names[1]])
    assert then.now_loss == bench.history.series["train_loss"].last[11]
    assert then.loss != now.loss, "the third number was another one"
    assert (then.x_range, then.y_range) == (now.x_range, now.y_range), "scrubbing does not move the map"
    first = ask(bench, surface(*names, epoch=-1))
    assert first.now_loss == bench.history.series["train_loss"].last[0]
    for epoch in (100, -2, 10**12):
        with pytest.raises(WorkflowError):
            ask(bench, surface(*names, epoch=epoch))


def test_the_path_of_what_is_not_tracked_is_that_of_the_states_that_are_kept(bench: Bench) -> None:
    bench(MakeData(spec=DataSpec(kind="sine")), BuildModel(spec=MLP), SetTraining(spec=TrainSpec(learning_rate=0.1)))
    for _ in range(10):
        bench.train(5)
        time.sleep(0.001)
    found = ask(bench, surface(*NAMES))
    epochs = [epoch for epoch, _, _ in found.path]
    assert epochs == sorted(set(epochs))
    assert epochs[0] == 0
    assert len(epochs) > 1
    for _, x, y in (*found.path, (50, *found.now)):
        assert found.x_range[0] < x < found.x_range[1]
        assert found.y_range[0] < y < found.y_range[1]
    then = ask(bench, surface(*NAMES, epoch=epochs[1] - 1))
    assert then.now == found.path[1][1:]
    assert (then.run, then.minimum_is) == (bench.view.run, found.minimum_is)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (surface("weights"), "no single number 'weights'"),
        (surface("bias", "bias"), "the same"),
        (surface(columns=0), "cannot be shown"),
        (surface(x_range=(1.0, 0.0)), "no range"),
        (surface(epoch=3), "no run"),
    ],
)
def test_what_is_no_surface_is_refused(bench: Bench, command: ReadSurface, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        bench(command)


# beside a training


class Engine:
    """A worker in this process, with its inbox."""

    def __init__(self, folder: Path) -> None:
        self.inbox = Inbox()
        self.seen = threading.Condition()
        self.training: TrainingView | None = None
        self.worker = Worker(self.inbox, EngineView(log="engine.log"), self.take, folder, Library(None, folder))
        self.worker.start()

    def take(self, event: Update | Epochs) -> None:
        if isinstance(event, Epochs):
            with self.seen:
                self.training = event.training
                self.seen.notify_all()

    @property
    def epochs(self) -> int:
        return self.training.epoch if self.training is not None else 0

    def send(self, command: Command) -> Callable[[], Any]:
        """What waits for the answer."""
        answered = threading.Event()
        answers: list[tuple[Problem | None, Any]] = []

        def reply(problem: Problem | None, answer: Any) -> None:
            answers.append((problem, answer))
            answered.set()

        def wait() -> Any:
            assert answered.wait(30)
            problem, answer = answers[0]
            assert problem is None
            return answer

        self.inbox.put(Job(command, reply))
        return wait

    def ask(self, *commands: Command) -> Any:
        return [self.send(command)() for command in commands][-1]

    def until(self, epochs: int) -> None:
        with self.seen:
            assert self.seen.wait_for(lambda: self.epochs >= epochs, 30)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.inbox.close()
    engine.worker.join(10)


ENDLESS = SetTraining(spec=TrainSpec(epochs=1_000_000, device="cpu"))


@pytest.mark.parametrize("question", [surface(*NAMES, columns=60, rows=40), ReadSpeed()])
def test_flat_out_the_training_goes_on_and_commands_are_answered_at_once(engine: Engine, question: Command) -> None:
    engine.ask(MakeData(spec=DataSpec(kind="sine", step=0.01)), BuildModel(spec=MLP), ENDLESS, Run())
    engine.until(20)
    answer = engine.send(question)
    begun_at = engine.epochs
    waits = []
    for _ in range(12):
        begun = time.perf_counter()
        engine.ask(SetPace())
        waits.append(time.perf_counter() - begun)
    assert answer() is not None
    engine.until(begun_at + 1)
    engine.ask(Pause())
    assert sorted(waits)[-2] < 0.05


def test_a_slow_pace_leaves_its_time_to_what_is_asked(engine: Engine) -> None:
    engine.ask(MakeData(spec=DataSpec(kind="sine")), BuildModel(spec=MLP), ENDLESS, SetPace(pace=1.0), Run())
    engine.until(1)
    begun = time.perf_counter()
    engine.ask(surface(*NAMES), ReadSpeed())
    assert time.perf_counter() - begun < 2.0
    engine.ask(Pause())


def test_a_training_has_the_same_bits_however_often_it_is_looked_at(tmp_path: Path, engine: Engine) -> None:
    spec = TrainSpec(epochs=300, batch_size=8, optimizer="adam", device="cpu")
    model = ModelSpec(kind="mlp", hidden=(16,), dropout=0.2)
    plain = Bench(tmp_path)
    plain(BuildModel(spec=model), SetTraining(spec=spec))
    expected = plain.train()
    engine.ask(BuildModel(spec=model), SetTraining(spec=spec), Run())
    while engine.epochs < 300:
        engine.ask(surface("layers.0.weight[3]", "layers.3.bias"), ReadSpeed())
    view = engine.training
    assert view is not None
    assert (view.train_loss, view.val_loss, view.parameters) == (
        expected.train_loss,
        expected.val_loss,
        expected.parameters,
    )
