"""What is said of a run's speed adds up, and asking for it changes nothing."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_session import Bench
from tests.core.test_surface import drained
from tests.core.test_travel import ask

from workflow_core import devices
from workflow_core.engine import speed
from workflow_core.engine.pace import Rates
from workflow_core.engine.speed import resident, time_lines
from workflow_core.errors import WorkflowError
from workflow_core.protocol import BuildModel, MakeData, ReadSpeed, Reset, SetTraining, SpeedAnswer
from workflow_core.specs import LINES, DataSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def timed(trainer: Trainer) -> Any:
    return drained(time_lines(trainer))[0]


MLP = ModelSpec(kind="mlp", hidden=(64, 64), dropout=0.2)
LARGE = data.make(DataSpec(kind="sine", step=0.0005))


def test_the_lines_are_about_what_an_epoch_takes() -> None:
    """Of a training so large that what is around the lines does not matter."""
    trainer = Trainer(build.build(MLP), LARGE, TrainSpec(optimizer="adam", epochs=1000, device="cpu"))
    trainer.epoch()
    epochs = []
    for _ in range(20):
        begun = time.perf_counter()
        trainer.epoch()
        epochs.append(1000 * (time.perf_counter() - begun))
    lines = timed(trainer)
    assert list(lines) == [*LINES, "validation"]
    assert all(value > 0 for value in lines.values())
    assert max(lines, key=lambda name: lines[name]) in ("forward", "backward")
    epoch = statistics.median(epochs)  # as the lines are: a machine that does other things stretches some of them
    assert epoch / 3 < sum(lines.values()) < epoch * 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {*LINES, "validation"}),
        ({"clip": 0.1, "batch_size": 8}, {*LINES, "validation"}),
        ({"loop": ("forward", "loss", "backward")}, {"forward", "loss", "backward", "validation"}),
        ({"optimizer_over": "another"}, {*LINES, "validation"}),
        ({"loop": ("loss", "forward", "backward")}, set()),
        ({"optimizer": "lbfgs"}, set()),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_the_lines_that_run_are_timed(settings: dict[str, Any], expected: set[str]) -> None:
    trainer = Trainer(build.build(ModelSpec()), data.make(DataSpec()), TrainSpec(device="cpu", **settings))
    assert set(timed(trainer)) == expected


def test_without_validation_rows_none_is_timed() -> None:
    dataset = data.make(DataSpec(split=SplitSpec(train=0.5, validation=0, test=0.5)))
    assert set(timed(Trainer(build.build(ModelSpec()), dataset, TrainSpec(device="cpu")))) == set(LINES)


@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_timing_leaves_the_training_as_it_was(optimizer: Any, batch_size: int) -> None:
    spec = TrainSpec(optimizer=optimizer, batch_size=batch_size, epochs=9, device="cpu")
    dataset = data.make(DataSpec(kind="sine"))

    def trained(looks: bool) -> dict[str, list[float]]:
        trainer = Trainer(build.build(MLP), dataset, spec)
        for _ in range(9):
            trainer.epoch()
            before = torch.get_rng_state()
            if looks:
                timed(trainer)
            assert torch.equal(torch.get_rng_state(), before)
        return trainer.fetch()

    assert trained(True) == trained(False)


def test_of_a_model_that_cannot_be_copied_no_lines_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build.build(ModelSpec())
    model.lock = (at for at in range(3))  # type: ignore[assignment]
    trainer = Trainer(model, data.make(DataSpec()), TrainSpec(device="cpu"))
    assert timed(trainer) == {}
    monkeypatch.setattr(speed, "MAX_NUMBERS", 1)
    assert timed(Trainer(build.build(ModelSpec()), data.make(DataSpec()), TrainSpec(device="cpu"))) == {}


# the answer


def test_a_run_tells_its_speed(bench: Bench) -> None:
    with pytest.raises(WorkflowError, match="no run"):
        bench(ReadSpeed())
    bench(SetTraining(spec=TrainSpec(epochs=2000, device="cpu")))
    view = bench.train()
    answer = ask(bench, ReadSpeed())
    assert isinstance(answer, SpeedAnswer)
    assert answer.run == view.run
    assert answer.epoch_ms == pytest.approx(1000 / view.capacity)
    spent = [end - start for start, end in zip((0.0, *answer.seconds), answer.seconds, strict=False)]
    assert sum(rate * length for rate, length in zip(answer.rates, spent, strict=True)) == pytest.approx(2000)
    assert answer.rows == pytest.approx(35 * answer.rates[-1])
    assert set(answer.line_ms) == {*LINES, "validation"}
    assert answer.threads == 1
    assert answer.device_memory is None
    assert 50e6 < answer.memory < 20e9


def test_the_lines_are_not_timed_at_every_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Trainer] = []
    real = speed.time_lines

    def counting(trainer: Trainer) -> Any:
        times.append(trainer)
        return real(trainer)

    monkeypatch.setattr(speed, "time_lines", counting)
    bench.train(5)
    assert ask(bench, ReadSpeed()).line_ms == ask(bench, ReadSpeed()).line_ms
    assert len(times) == 1
    bench(Reset())
    bench.train(5)
    ask(bench, ReadSpeed())
    assert len(times) == 2
    monkeypatch.setattr(speed, "FRESH", 0.0)
    ask(bench, ReadSpeed())
    assert len(times) == 3


def test_speed_can_be_asked_for_before_the_first_epoch_and_of_a_stale_run(bench: Bench) -> None:
    bench.train(1)
    bench(Reset())
    answer = ask(bench, ReadSpeed())
    assert (answer.rates, answer.epoch_ms, answer.rows) == ((), None, 0.0)
    bench.train(3)
    bench(MakeData(spec=DataSpec(weight=0.1)), BuildModel())
    assert ask(bench, ReadSpeed()).run == bench.view.run


def test_memory_is_that_of_this_process() -> None:
    before = resident()
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert resident() - before > 40 * 2**20
    del block
    if Path("/proc/self/status").exists():
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        assert resident() == pytest.approx(int(status["VmRSS"].split()[0]) * 1024, rel=0.2)


# the rates


@given(
    st.lists(st.tuples(st.just(0.0) | st.floats(1e-6, 30.0), st.floats(0.0, 1e4)), max_size=60),
    st.floats(0.0, 1e6),
    st.sampled_from([4, 10, 240]),
)
def test_rates_cover_all_the_time_and_all_the_epochs(steps: list[tuple[float, float]], start: float, most: int) -> None:
    rates = Rates(start, most)
    elapsed, position = 0.0, start
    for seconds, epochs in [*steps, (0.5, 0.0)]:
        elapsed += seconds
        position += epochs
        rates.note(elapsed, position)
    ends, found = rates.series()
    assert len(ends) <= most
    assert list(ends) == sorted(set(ends))
    assert ends[-1] == elapsed
    lengths = [end - begin for begin, end in zip((0.0, *ends), ends, strict=False)]
    total = sum(rate * length for rate, length in zip(found, lengths, strict=True))
    assert total == pytest.approx(position - start, rel=1e-6, abs=1e-6)


def test_a_steady_training_has_a_steady_rate() -> None:
    rates = Rates()
    for at in range(1, 20_000):
        rates.note(at * 0.05, at * 5.0)
    ends, found = rates.series()
    assert 120 <= len(ends) <= 240
    assert found == pytest.approx([100.0] * len(found))
