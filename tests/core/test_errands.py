"""Long work is done beside a training: both get on, commands are answered at once, and no bit is another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_session import Bench

from workflow_core.engine import errands
from workflow_core.engine.errands import Errand, Errands, Turn
from workflow_core.engine.inbox import Inbox, Job
from workflow_core.engine.worker import Worker
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    EngineView,
    Epochs,
    MakeData,
    Pause,
    ReadSurface,
    Run,
    SetPace,
    SetTraining,
    SurfaceAnswer,
    TrainingView,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.store import Store

FAULT = Problem(title="A fault", message="something broke.")


def counting(pieces: int, done: list[str], name: str) -> Generator[None, None, Any]:
    for _ in range(pieces):
        done.append(name)
        yield
    return name


def failing(error: Exception) -> Errand:
    yield
    raise error


def test_errands_take_turns_and_each_is_answered_once() -> None:
    under_way, done, answers = Errands(lambda error: FAULT), list[str](), list[Any]()
    for name, pieces in (("a", 3), ("b", 1)):
        under_way.add(counting(pieces, done, name), lambda problem, answer: answers.append((problem, answer)))
    inbox = Inbox()
    while under_way:
        under_way.work(inbox)
    assert done == ["a", "b", "a", "a"]
    assert answers == [(None, "b"), (None, "a")]


@pytest.mark.parametrize(
    ("error", "problem"),
    [(WorkflowError("T", "m", "a"), Problem(title="T", message="m", advice="a")), (ZeroDivisionError(), FAULT)],
)
def test_one_that_fails_is_answered_and_the_others_go_on(error: Exception, problem: Problem) -> None:
    under_way, answers = Errands(lambda error: FAULT), list[Any]()
    under_way.add(failing(error), lambda *answer: answers.append(answer))
    under_way.add(counting(5, [], "b"), lambda *answer: answers.append(answer))
    while under_way:
        under_way.work(Inbox())
    assert answers == [(problem, None), (None, "b")]


def test_a_command_comes_before_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, done = Inbox(), list[str]()
    under_way = Errands(lambda error: FAULT)

    def calling() -> Generator[None, None, Any]:
        inbox.put(Job(Pause(), lambda problem, answer: None))
        yield
        done.append("too early")
        return None

    under_way.add(calling(), lambda *answer: None)
    monkeypatch.setattr(errands, "SLICE", 100.0)
    under_way.work(inbox)
    assert not done
    assert under_way


def test_a_training_gets_its_turn_and_leaves_its_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "TURN", 1000.0)
    inbox = Inbox()
    turn = Turn(inbox)
    assert not turn.waiting
    turn.wait(5.0)
    assert turn.waiting
    turn = Turn(inbox)
    inbox.close()
    assert turn.waiting
    monkeypatch.setattr(errands, "TURN", 0.0)
    assert Turn(Inbox()).waiting


# the surface, as a UI asks for it

MLP = ModelSpec(kind="mlp", hidden=(64, 64))
NAMES = "layers.0.weight[3]", "layers.2.weight[5,6]"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def surface(x: str = "weight", y: str = "bias", **settings: Any) -> ReadSurface:
    wanted: dict[str, Any] = {"x": x, "y": y, "columns": 30, "rows": 20} | settings
    return ReadSurface(**wanted)


def test_a_surface_can_be_looked_at_before_during_and_after_a_training(bench: Bench) -> None:
    before = bench(surface())
    assert isinstance(before, SurfaceAnswer)
    assert bench.steps("data", "build", "train") == ["done", "done", "open"]
    assert (before.run, before.x, before.y) == (0, "weight", "bias")
    assert before.now_loss == bench.state["model"].untrained_loss
    bench.train(40)
    during = bench(surface())
    assert (during.run, during.now) == (1, tuple(bench.view.parameters.values()))
    after = bench.train()
    found = bench(surface())
    assert found.now == tuple(after.parameters.values())
    assert found.now_loss < during.now_loss < before.now_loss
    assert bench(surface()) == found
    assert found.minimum == pytest.approx((0.7, 0.3))
    for at, (low, high) in enumerate((found.x_range, found.y_range)):
        series = bench.history.series[("weight", "bias")[at]]
        assert low < min(series.low)
        assert max(series.high) < high


def test_a_surface_is_seen_from_the_epoch_that_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "w.sqlite")
    bench = Bench(tmp_path, store)
    bench(MakeData(spec=DataSpec(kind="quadratic")), BuildModel(spec=ModelSpec(kind="polynomial")))
    bench.train()
    assert store.flush()
    names = "linear.weight[0]", "linear.bias"
    now, then = bench(surface(*names)), bench(surface(*names, epoch=10))
    recorded = {name: bench.history.series[name].last[10] for name in bench.view.parameters}
    assert then.now == (recorded[names[0]], recorded[names[1]])
    assert then.now_loss == bench.history.series["train_loss"].last[11]
    assert then.loss != now.loss, "the third number was another one"
    first = bench(surface(*names, epoch=-1))
    assert first.now_loss == bench.history.series["train_loss"].last[0]
    for epoch in (100, -2, 10**12):
        with pytest.raises(WorkflowError, match="kept"):
            bench(surface(*names, epoch=epoch))
    store.close()


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


def test_of_a_larger_model_no_epoch_but_the_present_is_known(bench: Bench) -> None:
    bench(BuildModel(spec=MLP))
    bench.train(3)
    assert len(bench(surface(*NAMES)).loss) == 20
    with pytest.raises(WorkflowError, match="not every weight is kept"):
        bench(surface(*NAMES, epoch=1))


class Engine:
    """A worker in this process, with its inbox."""

    def __init__(self, folder: Path) -> None:
        self.inbox = Inbox()
        self.seen = threading.Condition()
        self.training: TrainingView | None = None
        self.worker = Worker(self.inbox, EngineView(log="engine.log"), self.take, folder)
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
LARGE = surface(*NAMES, columns=60, rows=40)


def test_flat_out_the_training_goes_on_and_commands_are_answered_at_once(engine: Engine) -> None:
    engine.ask(MakeData(spec=DataSpec(kind="sine", step=0.01)), BuildModel(spec=MLP), ENDLESS, Run())
    engine.until(20)
    answer = engine.send(LARGE)
    begun_at = engine.epochs
    waits = []
    for _ in range(12):
        begun = time.perf_counter()
        engine.ask(SetPace())
        waits.append(time.perf_counter() - begun)
    found = answer()
    assert engine.epochs > begun_at
    engine.ask(Pause())
    assert (len(found.loss), len(found.loss[0])) == (40, 60)
    assert sorted(waits)[-2] < 0.05


def test_a_slow_pace_leaves_its_time_to_the_surface(engine: Engine) -> None:
    engine.ask(MakeData(spec=DataSpec(kind="sine")), BuildModel(spec=MLP), ENDLESS, SetPace(pace=1.0), Run())
    engine.until(1)
    begun = time.perf_counter()
    engine.ask(surface(*NAMES))
    assert time.perf_counter() - begun < 2.0
    engine.ask(Pause())


def test_a_training_has_the_same_bits_with_surfaces_and_without(tmp_path: Path, engine: Engine) -> None:
    spec = TrainSpec(epochs=300, batch_size=8, device="cpu")
    model = ModelSpec(kind="mlp", hidden=(16,), dropout=0.2)
    plain = Bench(tmp_path)
    plain(BuildModel(spec=model), SetTraining(spec=spec))
    expected = plain.train()
    engine.ask(BuildModel(spec=model), SetTraining(spec=spec), Run())
    while engine.epochs < 300:
        engine.ask(surface("layers.0.weight[3]", "layers.3.bias"))
    view = engine.training
    assert view is not None
    assert (view.train_loss, view.val_loss, view.parameters) == (
        expected.train_loss,
        expected.val_loss,
        expected.parameters,
    )
