"""A training that is kept, ended and resumed is to the last bit the one that never stopped, wherever it was stopped."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.specs import OPTIMIZERS, SCHEDULERS, DataSpec, Line, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, train
from workflow_core.steps.train import Trainer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


LINE = data.make(DataSpec(noise=0.05))
PLANE = data.make(DataSpec(kind="plane", step=0.02, noise=0.1, standardize=True))
UNVALIDATED = data.make(DataSpec(noise=0.05, split=SplitSpec(train=0.8, validation=0, test=0.2)))
ROWS = 35


class Careless(nn.Module):
    """Draws from torch's generator and from one of its own, and has a buffer that no state_dict knows."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64), persistent=False)
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            x = x + torch.randn(x.shape, generator=self.generator) * 0.1
        result: Tensor = self.body(x) * self.frozen + float(self.passes) * 0.001
        return result


def two_numbers() -> nn.Module:
    return build.build(ModelSpec())


def careless() -> nn.Module:
    torch.manual_seed(1)
    return Careless()


def dropped() -> nn.Module:
    return build.build(ModelSpec(kind="mlp", hidden=(6,), dropout=0.2))


def plain(item: Any) -> Any:
    """The same with tensors as bytes, so that NaN equals itself and -0.0 does not equal 0.0."""
    if isinstance(item, Tensor):
        return str(item.dtype), tuple(item.shape), item.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(item, dict):
        return {key: plain(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return list(map(plain, item))
    return repr(item) if isinstance(item, float) else item


def kept(trainer: Trainer) -> dict[str, Any]:
    """The trainer's state, by way of a file."""
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def end(trainer: Trainer, change: tuple[int, float] | None = None) -> tuple[dict[str, list[float]], Any]:
    """Train to the end; all figures not fetched so far, and all that there is at the end."""
    while trainer.done < trainer.spec.epochs and not trainer.ended:
        if change is not None and trainer.done == change[0] and not trainer.batch:
            trainer.set_learning_rate(change[1])
        trainer.epoch()
    figures = trainer.fetch()
    return figures, plain(trainer.state())


def stop_at(trainer: Trainer, epochs: int, batches: int) -> None:
    for _ in range(epochs):
        trainer.epoch()
    if batches:
        assert not trainer.advance(batches=batches)
    assert (trainer.done, trainer.batch) == (epochs, batches)


def check(make: Callable[[], nn.Module], dataset: data.Dataset, spec: TrainSpec, epochs: int, batches: int) -> None:
    expected_figures, expected = end(Trainer(make(), dataset, spec))
    first = Trainer(make(), dataset, spec)
    stop_at(first, epochs, batches)
    state = kept(first)
    end(first)  # whatever the first one does afterwards, and whoever draws, is nothing to what was kept
    torch.manual_seed(99)
    other = make()
    for parameter in other.parameters():
        parameter.data.fill_(0.5)
    second = Trainer.resumed(other, dataset, spec, state)
    assert (second.done, second.batch) == (epochs, batches)
    figures, found = end(second)
    assert plain(figures) == plain(expected_figures)
    assert found == expected


MODES: dict[str, tuple[dict[str, Any], int]] = {
    "full batch": ({}, 0),
    "mini-batches": ({"batch_size": 14}, 2),
    "between epochs, clipped": ({"batch_size": 10, "clip": 0.05}, 0),
}


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "mode"),
    [
        (optimizer, scheduler, mode)
        for optimizer, scheduler, mode in itertools.product(OPTIMIZERS, SCHEDULERS, MODES)
        if optimizer != "lbfgs" or "clipped" not in mode
    ],
)
def test_every_optimizer_with_every_scheduler_and_mode(optimizer: Any, scheduler: Any, mode: str) -> None:
    settings, batches = MODES[mode]
    spec = TrainSpec(
        optimizer=optimizer,
        learning_rate=0.1,
        momentum=0.9 if optimizer in ("sgd", "rmsprop") else 0,
        scheduler=scheduler,
        scheduler_epochs=2,
        scheduler_factor=0.5,
        epochs=3 if optimizer == "lbfgs" else 5,
        device="cpu",
        **settings,
    )
    check(two_numbers, LINE, spec, 2, batches)


@pytest.mark.parametrize("batches", [0, 2])
def test_gradients_that_were_clipped_and_kept_are_told_as_they_were(batches: int) -> None:
    loop: tuple[Line, ...] = ("forward", "loss", "backward", "step", "zero_grad")
    for spec in (
        TrainSpec(epochs=4, batch_size=10, clip=0.01, loop=loop[:4], device="cpu"),
        TrainSpec(epochs=4, batch_size=10, clip=0.01, loop=loop, device="cpu"),
    ):
        first = Trainer(two_numbers(), LINE, spec)
        stop_at(first, 2, batches)
        second = Trainer.resumed(two_numbers(), LINE, spec, kept(first))
        assert second.gradients() == first.gradients()
        assert max(map(abs, second.gradients().values()), default=1.0) > 0.02, "before they were clipped"
        assert plain(end(second)) == plain(end(first))


@settings(max_examples=20, deadline=None)
@given(
    make=st.sampled_from([two_numbers, dropped, careless]),
    optimizer=st.sampled_from(OPTIMIZERS),
    scheduler=st.sampled_from(SCHEDULERS),
    batch_size=st.sampled_from([0, 10, 14, 35, 1000]),
    early_stop=st.sampled_from([0, 2]),
    validated=st.booleans(),
    learning_rate=st.sampled_from([0.01, 0.4, 5.0]),
    where=st.data(),
)
def test_wherever_it_is_stopped(
    make: Any,
    optimizer: Any,
    scheduler: Any,
    batch_size: int,
    early_stop: int,
    validated: bool,
    learning_rate: float,
    where: st.DataObject,
) -> None:
    dataset = PLANE if make is careless else LINE
    if not validated:
        dataset = data.make(replace(dataset.spec, split=SplitSpec(train=0.7, validation=0, test=0.3)))
    spec = TrainSpec(
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_epochs=2,
        batch_size=batch_size,
        early_stop=early_stop,
        learning_rate=learning_rate,
        epochs=4,
        device="cpu",
    )
    whole = Trainer(make(), dataset, spec)
    end(whole)
    epochs = where.draw(st.integers(0, whole.done - bool(whole.ended)), label="epochs")
    batches = where.draw(st.integers(0, whole.batches.count - 1), label="batches")
    if epochs < 4:
        check(make, dataset, spec, epochs, batches)


@pytest.mark.parametrize("batches", [0, 3])
def test_a_learning_rate_set_by_hand_is_kept(batches: int) -> None:
    """In the middle of an epoch it waits for the next one, in what is resumed as well."""
    spec = TrainSpec(batch_size=8, scheduler="step", scheduler_epochs=2, epochs=7, device="cpu", momentum=0.9)
    expected = end(Trainer(two_numbers(), LINE, spec), change=(3 + bool(batches), 0.3))
    first = Trainer(two_numbers(), LINE, spec)
    stop_at(first, 3, batches)
    first.set_learning_rate(0.3)
    assert first.learning_rate == (0.3 if not batches else pytest.approx(0.001))
    second = Trainer.resumed(two_numbers(), LINE, spec, kept(first))
    figures, found = end(second)
    assert (plain(figures), found) == (plain(expected[0]), expected[1])
    assert figures["learning_rate"][3 + bool(batches)] == 0.3


@pytest.mark.parametrize("dataset", [LINE, UNVALIDATED])
@pytest.mark.parametrize("make", [two_numbers, dropped])
def test_what_was_trained_and_not_fetched_is_kept(make: Any, dataset: data.Dataset) -> None:
    spec = TrainSpec(learning_rate=0.3, momentum=0.9, early_stop=3, epochs=500, device="cpu")
    trainer = Trainer(make(), dataset, spec)
    end(trainer)
    assert trainer.ended == "early stop"
    expected = Trainer(make(), dataset, spec)
    end_figures, end_state = end(expected)
    for stop in (1, expected.done - 1, expected.done):
        first = Trainer(make(), dataset, spec)
        stop_at(first, stop, 0)
        second = Trainer.resumed(make(), dataset, spec, kept(first))
        assert end(second) == (end_figures, end_state)
        assert (second.ended, second.best, second.held_epochs) == (
            expected.ended,
            expected.best,
            expected.held_epochs,
        )
        assert second.optimizer_state() is None


@pytest.mark.parametrize("make", [two_numbers, dropped])
def test_a_divergence_after_it_was_resumed_puts_back_the_same_weights(make: Any) -> None:
    spec = TrainSpec(learning_rate=1.6, epochs=900, device="cpu", batch_size=12)
    expected = Trainer(make(), LINE, spec)
    figures, state = end(expected)
    assert expected.ended == "diverged"
    assert expected.first_bad is not None
    first = Trainer(make(), LINE, spec)
    stop_at(first, expected.first_bad, 1)
    second = Trainer.resumed(make(), LINE, spec, kept(first))
    assert plain(end(second)) == plain((figures, state))
    assert second.first_bad == expected.first_bad


def test_a_state_is_a_copy() -> None:
    spec = TrainSpec(optimizer="adam", batch_size=8, epochs=9, early_stop=5, scheduler="plateau", device="cpu")
    trainer = Trainer(careless(), PLANE, spec)
    stop_at(trainer, 2, 2)
    state = trainer.state()
    before = plain(state)
    end(trainer)
    assert plain(state) == before
    end(Trainer.resumed(careless(), PLANE, spec, state))
    assert plain(state) == before


def test_a_state_can_be_taken_as_often_as_one_likes() -> None:
    spec = TrainSpec(optimizer="lbfgs", batch_size=8, epochs=3, device="cpu")
    expected = end(Trainer(careless(), PLANE, spec))
    trainer = Trainer(careless(), PLANE, spec)
    while trainer.done < 3:
        trainer.advance(batches=1)
        trainer = Trainer.resumed(careless(), PLANE, spec, trainer.state())
    assert plain(end(trainer)) == plain(expected)


@pytest.mark.parametrize("batches", [0, 2])
def test_from_an_accelerator_to_a_cpu_and_back(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the last bit, but whole: what is judged where differs, what is kept does not."""
    spec = TrainSpec(learning_rate=0.1, early_stop=2, min_delta=3e-3, batch_size=10, epochs=400, device="cpu")
    on_host, on_device = (lambda device: True), (lambda device: False)
    expected = Trainer(dropped(), LINE, spec)
    rows = end(expected)[0]["val_loss"]
    for first_is, second_is in ((on_device, on_host), (on_host, on_device), (on_device, on_device)):
        monkeypatch.setattr(train, "reads_at_once", first_is)
        first = Trainer(dropped(), LINE, spec)
        stop_at(first, expected.done - 2, batches)
        state = kept(first)
        monkeypatch.setattr(train, "reads_at_once", second_is)
        second = Trainer.resumed(dropped(), LINE, spec, state)
        assert end(second)[0]["val_loss"] == pytest.approx(rows)
        assert (second.ended, second.best[0], second.done) == (expected.ended, expected.best[0], expected.done)  # type: ignore[index]
        assert [p.tolist() for p in second.model.parameters()] == [p.tolist() for p in expected.model.parameters()]


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (dropped, TrainSpec(device="cpu")),
        (lambda: build.build(ModelSpec(kind="mlp", hidden=(7,))), TrainSpec(device="cpu")),
        (two_numbers, TrainSpec(device="cpu", batch_size=10, early_stop=3)),
    ],
)
def test_a_state_of_something_else_is_refused(make: Any, spec: TrainSpec) -> None:
    state = Trainer(careless(), PLANE, TrainSpec(device="cpu")).state()
    if make is two_numbers:  # the right model, with a part missing
        state = Trainer(two_numbers(), LINE, spec).state()
        del state["ledger"]["good"]
    with pytest.raises(WorkflowError, match="what was kept of the run does not fit its settings") as caught:
        Trainer.resumed(make(), LINE, spec, state)
    assert "Reset" in caught.value.problem.advice
