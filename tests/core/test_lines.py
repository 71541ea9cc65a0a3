"""The loop one line at a time shows what torch makes, and leaves what it would have left in one go."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.test_experiments import BROKEN
from tests.core.test_train_state import PLANE, careless, dropped, kept, plain, two_numbers
from torch import nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.specs import LINES, OPTIMIZERS, DataSpec, Line, ModelSpec, TrainSpec
from workflow_core.steps import build, data, train
from workflow_core.steps.lines import MAX_SHOWN
from workflow_core.steps.train import Trainer
from workflow_core.views import LoopView, MadeView

COURSE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())
LINE = data.make(DataSpec(noise=0.05))
Mixture = list[tuple[str, int]]
WAYS = st.lists(st.tuples(st.sampled_from(["lines", "steps", "epochs", "kept"]), st.integers(1, 6)), max_size=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


def trainer_of(dataset: data.Dataset = LINE, make: Any = two_numbers, **settings: Any) -> Trainer:
    return Trainer(make(), dataset, TrainSpec(device="cpu", **settings))


def watched(trainer: Trainer, lines: int) -> LoopView:
    view = trainer.loop
    for _ in range(lines):
        view = trainer.next_line()
    return view


def made(view: LoopView, line: Line) -> dict[str, MadeView]:
    (found,) = [each for each in view.lines if each.line == line]
    assert found.done
    return {each.label: each for each in found.made}


def over(trainer: Trainer) -> bool:
    """Has the training come to its end? An accelerator is asked each time: it would train on beyond an early stop."""
    return trainer.done >= trainer.spec.epochs or bool(trainer.state()["ledger"]["ended"])


def end(trainer: Trainer) -> Any:
    while not over(trainer):
        trainer.epoch()
    return plain([trainer.fetch(), trainer.state()])


@settings(max_examples=25, deadline=None)
@given(
    ways=WAYS,
    make=st.sampled_from([two_numbers, dropped, careless]),
    optimizer=st.sampled_from(OPTIMIZERS),
    batch_size=st.sampled_from([0, 10, 14]),
    clip=st.sampled_from([0.0, 0.05]),
    experiment=st.sampled_from([{}, *BROKEN.values()]),
    early_stop=st.sampled_from([0, 2]),
    on_host=st.booleans(),
)
@example(
    ways=[("lines", 15)],
    make=dropped,
    optimizer="rmsprop",
    batch_size=0,
    clip=0.0,
    experiment={},
    early_stop=2,
    on_host=False,
)
def test_whatever_mixture_of_lines_steps_and_epochs_gives_the_same(
    ways: Mixture,
    make: Any,
    optimizer: Any,
    batch_size: int,
    clip: float,
    experiment: Any,
    early_stop: int,
    on_host: bool,
) -> None:
    if optimizer == "lbfgs":
        clip, experiment = 0.0, {}
    dataset = PLANE if make is careless else LINE
    spec = TrainSpec(
        optimizer=optimizer,
        batch_size=batch_size,
        clip=clip,
        early_stop=early_stop,
        scheduler="step",
        scheduler_epochs=2,
        epochs=4,
        device="cpu",
        **experiment,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "reads_at_once", lambda device: on_host)
        expected = end(Trainer(make(), dataset, spec))
        trainer = Trainer(make(), dataset, spec)
        for way, count in ways:
            for _ in range(count):
                if over(trainer):
                    break
                if way == "lines":
                    trainer.next_line()
                    torch.rand(1)  # what others draw between two lines is nothing to the model
                elif way == "steps":
                    trainer.advance(batches=1)
                elif way == "epochs":
                    trainer.epoch()
                else:
                    trainer = Trainer.resumed(make(), dataset, spec, kept(trainer))
        assert end(trainer) == expected


def test_the_courses_first_step_line_by_line() -> None:
    reference = COURSE["03_one_step"]
    dataset = data.make(DataSpec())
    trainer = Trainer(build.build(ModelSpec()), dataset, TrainSpec(device="cpu"))
    near = pytest.approx
    view = watched(trainer, 1)
    assert [line.line for line in view.lines] == list(LINES)
    assert [line.code for line in view.lines] == [
        "y_pred = model(X_train)",
        "loss = criterion(y_pred, y_train)",
        "optimizer.zero_grad()",
        "loss.backward()",
        "optimizer.step()",
    ]
    assert (view.epoch, view.batch, view.batches, view.rows, view.next, view.off, view.fault) == (
        *(0, 0, 1, 35, 1),
        *((), ""),
    )
    model = build.build(ModelSpec())
    X, y = dataset.inputs("train")
    y_pred = model(X)
    first = y_pred.flatten()[:8].tolist()
    assert made(view, "forward") == {
        "y_pred": MadeView(label="y_pred", shape=(35, 1), dtype="float32", before=None, after=tuple(first)),
        "residual": MadeView(
            label="residual",
            shape=(35, 1),
            dtype="float32",
            before=None,
            after=tuple((y_pred - y).flatten()[:8].tolist()),
        ),
    }
    assert [line.done for line in view.lines] == [True, False, False, False, False]

    loss = made(watched(trainer, 1), "loss")["loss"]
    assert (loss.shape, loss.before) == ((), None)
    assert loss.after == near((reference["loss"],))
    cleared = made(watched(trainer, 1), "zero_grad")
    assert {name: (each.before, each.after) for name, each in cleared.items()} == {
        "weight.grad": (None, None),
        "bias.grad": (None, None),
    }
    gradients = made(watched(trainer, 1), "backward")
    assert [each.before for each in gradients.values()] == [None, None]
    assert [each.after for each in gradients.values()] == [near((grad,)) for grad in reference["grad"]]
    assert (trainer.done, trainer.batch) == (0, 0)
    view = watched(trainer, 1)
    moved = made(view, "step")
    assert [each.before for each in moved.values()] == [near((value,)) for value in COURSE["04"]["init"]]
    assert [each.after for each in moved.values()] == [near((value,)) for value in reference["after"]]
    assert (view.epoch, view.next, trainer.done) == (0, 5, 1)
    assert trainer.fetch()["train_loss"] == near([reference["loss"]])

    view = watched(trainer, 3)
    assert (view.epoch, view.next) == (1, 3)
    assert [each.before for each in made(view, "zero_grad").values()] == [near((grad,)) for grad in reference["grad"]]
    assert [line.done for line in view.lines] == [True, True, True, False, False]


def test_batches_one_after_the_other() -> None:
    trainer = trainer_of(batch_size=10, epochs=3)
    order = torch.randperm(35, generator=torch.Generator().manual_seed(42))
    X, y = LINE.inputs("train")
    model = two_numbers()
    for batch, rows in enumerate(torch.split(order, 10)):
        view = watched(trainer, 1)
        assert (view.epoch, view.batch, view.batches, view.rows) == (0, batch, 4, len(rows))
        assert view.lines[0].code == "y_pred = model(X_batch)"
        with torch.no_grad():
            for parameter, live in zip(model.parameters(), trainer.model.parameters(), strict=True):
                parameter.copy_(live)
        y_pred = model(X[rows])
        assert made(view, "forward")["y_pred"].after == tuple(y_pred.flatten()[:8].tolist())
        assert made(view, "forward")["y_pred"].shape == (len(rows), 1)
        loss = made(watched(trainer, 1), "loss")["loss"].after
        assert loss == (nn.MSELoss()(y_pred, y[rows]).item(),)
        watched(trainer, 3)
    assert (trainer.done, trainer.batch) == (1, 0)


def test_clipped_gradients_are_shown_where_they_are_clipped() -> None:
    view = watched(trainer_of(clip=0.01), 5)
    raw = [each.after for each in made(view, "backward").values()]
    step = made(view, "step")
    assert list(step) == ["weight.grad, clipped", "bias.grad, clipped", "weight", "bias"]
    clipped = [step[name] for name in list(step)[:2]]
    assert [each.before for each in clipped] == raw
    assert math.hypot(*(each.after[0] for each in clipped if each.after)) == pytest.approx(0.01, rel=1e-3)
    for name, each in zip(("weight", "bias"), clipped, strict=True):
        before, after = step[name].before, step[name].after
        assert before is not None
        assert after is not None
        assert each.after is not None
        assert after[0] == pytest.approx(before[0] - 0.01 * each.after[0])


def test_without_zero_grad_the_gradient_doubles_before_the_eyes() -> None:
    trainer = trainer_of(loop=("forward", "loss", "backward", "step"), learning_rate=1e-9)
    first = made(watched(trainer, 4), "backward")["weight.grad"]
    view = watched(trainer, 4)
    second = made(view, "backward")["weight.grad"]
    assert view.off == ("zero_grad",)
    assert second.before == first.after
    assert first.after is not None
    assert second.after == pytest.approx([2 * first.after[0]])


def test_of_a_large_model_little_is_shown_and_the_rest_counted() -> None:
    trainer = trainer_of(make=lambda: build.build(ModelSpec(kind="mlp", hidden=(64,) * 12)), clip=1.0)
    tensors = len(list(trainer.model.parameters()))
    assert tensors > MAX_SHOWN
    view = watched(trainer, 5)
    for line in LINES[2:4]:
        assert len(made(view, line)) == MAX_SHOWN
    assert len(made(view, "step")) == 2 * MAX_SHOWN
    hidden = tensors - MAX_SHOWN
    assert [line.left_out for line in view.lines] == [0, 0, hidden, hidden, 2 * hidden]
    assert max(len(each.after or ()) for line in view.lines for each in line.made) == 8
    assert made(view, "backward")["layers.2.weight.grad"].shape == (64, 64)


def test_an_optimizer_that_searches_runs_all_lines_in_one_call() -> None:
    trainer = trainer_of(optimizer="lbfgs", learning_rate=0.5, epochs=2)
    view = watched(trainer, 1)
    assert [line.code for line in view.lines] == [
        "    y_pred = model(X_train)",
        "    loss = criterion(y_pred, y_train)",
        "    optimizer.zero_grad()",
        "    loss.backward()",
        "loss = optimizer.step(closure)",
    ]
    assert all(line.done for line in view.lines)
    assert (view.next, trainer.done) == (5, 1)
    plain_view = watched(trainer_of(), 4)
    for line in LINES[:-1]:  # those of its first evaluation, at the weights from before
        assert made(view, line) == made(plain_view, line)
    step = made(view, "step")
    assert list(step) == ["evaluations", "weight", "bias"]
    calls: list[int] = []
    model = two_numbers()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)
    X, y = LINE.inputs("train")

    def closure() -> Any:
        calls.append(1)
        optimizer.zero_grad()
        loss = nn.MSELoss()(model(X), y)
        loss.backward()
        return loss

    search: Any = optimizer.step
    search(closure)
    assert step["evaluations"].after == (float(len(calls)),)
    assert [step[name].after for name in ("weight", "bias")] == [(p.item(),) for p in model.parameters()]


@pytest.mark.parametrize(
    ("loop", "lines", "fault"),
    [
        (("loss", "forward"), 1, "loss = criterion(y_pred, y_train) gives NameError: name 'y_pred' is not defined"),
        (("forward", "backward"), 2, "loss.backward() gives NameError: name 'loss' is not defined"),
        (("forward", "step"), 2, "loss.item() gives NameError: name 'loss' is not defined"),
        ((), 1, "loss.item() gives NameError: name 'loss' is not defined"),
    ],
)
def test_a_line_that_lacks_something_says_so_where_it_stands(loop: Any, lines: int, fault: str) -> None:
    trainer = trainer_of(loop=loop)
    watched(trainer, lines - 1)
    with pytest.raises(WorkflowError) as caught:
        trainer.next_line()
    assert caught.value.problem.message.startswith(fault)
    view = trainer.loop
    assert view.fault == caught.value.problem.message
    assert view.next == (lines - 1 if len(loop) >= lines and loop[lines - 1] != "step" else len(loop))
    assert set(view.off) == set(LINES) - set(loop)


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        if self.calls == 4:
            raise ZeroDivisionError("division by zero")
        return self.linear(x)


def test_what_torch_or_a_model_says_is_kept_too() -> None:
    trainer = trainer_of(make=Failing, batch_size=8)
    watched(trainer, 15)
    with pytest.raises(ZeroDivisionError):
        trainer.next_line()
    assert trainer.loop.fault == "ZeroDivisionError: division by zero"
    assert (trainer.loop.batch, trainer.loop.next) == (3, 0)


def test_a_learning_rate_set_between_two_lines_holds_from_the_next_epoch_on() -> None:
    trainer = trainer_of(epochs=3)
    watched(trainer, 2)
    trainer.set_learning_rate(0.5)
    assert trainer.learning_rate == 0.01
    watched(trainer, 3)
    assert trainer.learning_rate == 0.5
    trainer.epoch()
    assert trainer.fetch()["learning_rate"] == [0.01, 0.5]


def test_nothing_happens_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for on_host in (True, False):
        monkeypatch.setattr(train, "reads_at_once", lambda device, on_host=on_host: on_host)
        trainer = trainer_of(learning_rate=1.6, epochs=900)
        for _ in range(900):
            trainer.epoch()
        before = trainer.next_line()
        assert trainer.ended == "diverged"
        state = plain(trainer.state())
        assert trainer.next_line() == before
        assert plain(trainer.state()) == state


@pytest.mark.parametrize("batch_size", [0, 10])
def test_gradients_are_those_before_clipping_whichever_line_ran_last(batch_size: int) -> None:
    trainer = trainer_of(clip=0.05, batch_size=batch_size, epochs=3)
    known: dict[str, float] = {}
    for _ in range(3 * len(LINES) * trainer.batches.count):
        view = trainer.next_line()
        last = view.lines[view.next - 1].line
        if last == "backward":
            known = {f"{name}": each.grad.item() for name, each in trainer.model.named_parameters()}  # type: ignore[union-attr]
        if last in ("backward", "step"):
            assert trainer.gradients() == pytest.approx(known, rel=1e-5)
