"""A loop whose lines are left out or moved does what torch does with them, in the step and in the script alike."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.core.test_session import Bench
from tests.core.textbook import Textbook, optimizer_of, scheduler_of
from torch import Tensor, nn

from workflow_core import devices
from workflow_core.errors import WorkflowError
from workflow_core.protocol import BuildModel, Run, SetTraining
from workflow_core.scripts import lines, script
from workflow_core.specs import LINES, OPTIMIZERS, DataSpec, Line, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data
from workflow_core.steps.train import Trainer, records

DATA = Path(__file__).parents[1] / "data"
EXPERIMENTS: dict[str, Any] = json.loads((DATA / "experiments.json").read_text())
LINE = data.make(DataSpec())
BROKEN: dict[str, dict[str, Any]] = {
    "no_zero_grad": {"loop": ("forward", "loss", "backward", "step")},
    "no_backward": {"loop": ("forward", "loss", "zero_grad", "step")},
    "no_step": {"loop": ("forward", "loss", "zero_grad", "backward")},
    "step_before_backward": {"loop": ("forward", "loss", "zero_grad", "step", "backward")},
    "zero_between": {"loop": ("forward", "loss", "backward", "zero_grad", "step")},
    "wrong_optimizer": {"optimizer_over": "another"},
}
CODE: dict[Line, str] = {
    "forward": "y_pred = model(X)",
    "loss": "loss = criterion(y_pred, y)",
    "zero_grad": "optimizer.zero_grad()",
    "backward": "loss.backward()",
    "step": "optimizer.step()",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


class Executed(Textbook):
    """The textbook with other lines, run by Python itself."""

    def __init__(self, model: nn.Module, train: Any, validation: Any, spec: TrainSpec) -> None:
        super().__init__(model, train, validation, spec)
        if spec.optimizer_over == "another":
            self.optimizer = optimizer_of(spec, copy.deepcopy(model))
            self.scheduler = scheduler_of(spec, self.optimizer)
        clip = "clip_grad_norm_(model.parameters(), clip)\n" if spec.clip else ""
        self.text = "\n".join((clip if line == "step" else "") + CODE[line] for line in spec.loop)
        self.names: dict[str, Any] = {
            "model": model,
            "criterion": self.criterion,
            "optimizer": self.optimizer,
            "clip": spec.clip,
            "clip_grad_norm_": nn.utils.clip_grad_norm_,
        }

    def step(self, X: Tensor, y: Tensor) -> float:
        self.names.update(X=X, y=y)
        exec(f"{self.text}\nfigure = loss.item()", self.names)
        return float(self.names["figure"])


def gradients(model: nn.Module) -> list[float]:
    return [abs(parameter.grad.item()) for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_loop_of_the_course(name: str) -> None:
    reference = EXPERIMENTS[f"break:{name}"]
    trainer = Trainer(build.build(ModelSpec()), LINE, TrainSpec(device="cpu", **BROKEN[name]))
    weight = trainer.model.get_parameter("weight")
    largest: list[float] = []
    done = []
    for record in records(trainer):
        done.append(record)
        if weight.grad is not None:
            largest.append(abs(weight.grad.item()))
    assert len(done) == 100
    near = pytest.approx
    assert list(done[-1].parameters.values()) == near([reference["w"], reference["b"]], rel=1e-5)
    assert (done[0].train_loss, done[0].val_loss) == near((reference["train0"], reference["val0"]), rel=1e-5)
    assert (done[-1].train_loss, done[-1].val_loss) == near((reference["trainN"], reference["valN"]), rel=1e-5)
    assert max(record.train_loss for record in done) == near(reference["trainMax"], rel=1e-5)
    if reference["maxabsgrad"] is None:
        assert largest == []
    else:
        assert max(largest) == near(reference["maxabsgrad"], rel=1e-5)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # as torch warns the textbook
@settings(max_examples=60, deadline=None)
@given(
    loop=st.permutations(LINES).flatmap(lambda order: st.integers(2, 5).map(lambda count: tuple(order[:count]))),
    optimizer=st.sampled_from([each for each in OPTIMIZERS if each != "lbfgs"]),
    over=st.sampled_from(["model", "another"]),
    batch_size=st.sampled_from([0, 16]),
    clip=st.sampled_from([0.0, 0.05]),
    kind=st.sampled_from(["parameter", "mlp"]),
)
def test_any_lines_in_any_order_do_what_python_does(
    loop: tuple[Line, ...], optimizer: Any, over: Any, batch_size: int, clip: float, kind: Any
) -> None:
    spec = TrainSpec(
        loop=loop,
        optimizer=optimizer,
        optimizer_over=over,
        batch_size=batch_size,
        clip=clip,
        momentum=0.9 if optimizer == "sgd" else 0.0,
        weight_decay=0.1,
        scheduler="step",
        scheduler_epochs=2,
        epochs=4,
        device="cpu",
    )
    model = build.build(ModelSpec(kind=kind, hidden=(4,)))
    textbook = Executed(copy.deepcopy(model), LINE.inputs("train"), LINE.inputs("validation"), spec)
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, LINE, spec)
    fault = ""
    try:
        textbook.run()
    except NameError as error:
        fault = f"NameError: {error}"
    except RuntimeError as error:
        fault = f"RuntimeError: {error}".partition(":  [")[0].partition(": [")[0]
    if fault:
        with pytest.raises(WorkflowError) as caught:
            list(records(trainer))
        assert fault in caught.value.problem.message
        trainer.break_off()
        assert trainer.done > 0 or all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
        return
    done = list(records(trainer))
    assert [(record.train_loss, record.val_loss, record.learning_rate) for record in done] == textbook.rows
    expected = dict(textbook.model.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name])
        found, wanted = parameter.grad, expected[name].grad
        assert (found is None) == (wanted is None)
        assert found is None or wanted is None or torch.equal(found, wanted)


@pytest.mark.parametrize("loop", [loop for count in range(6) for loop in itertools.permutations(LINES, count)])
def test_only_lines_in_a_possible_order_run(loop: tuple[Line, ...]) -> None:
    """What comes after what it needs runs; the loss must be there to be recorded."""

    def comes(first: Line, second: Line) -> bool:
        return first in loop and loop.index(first) < loop.index(second)

    possible = "loss" in loop and comes("forward", "loss") and ("backward" not in loop or comes("loss", "backward"))
    trainer = Trainer(build.build(ModelSpec()), LINE, TrainSpec(loop=loop, device="cpu"))
    if possible:
        trainer.epoch()
        assert trainer.done == 1
    else:
        with pytest.raises(WorkflowError, match=r"NameError: name '(loss|y_pred)' is not defined"):
            trainer.epoch()


def test_what_torch_says_to_weights_that_changed_under_a_backward_is_one_sentence(tmp_path: Path) -> None:
    loop: tuple[Line, ...] = ("forward", "loss", "step", "backward")
    bench = Bench(tmp_path)
    bench(BuildModel(spec=ModelSpec(kind="mlp")), SetTraining(spec=TrainSpec(loop=loop, device="cpu")))
    view = bench.train()
    # the first step finds no gradients yet, and the second one those of the first pass
    assert (view.state, view.epoch) == ("failed", 1)
    assert "modified by an inplace operation, because optimizer.step() has changed the parameters" in view.reason
    # a line does not need its weights to go back through
    assert len(list(records(Trainer(build.build(ModelSpec()), LINE, TrainSpec(loop=loop, device="cpu"))))) == 100


def test_an_optimizer_that_searches_may_hold_another_model_too() -> None:
    spec = TrainSpec(optimizer="lbfgs", optimizer_over="another", epochs=3, device="cpu")
    trainer = Trainer(build.build(ModelSpec()), LINE, spec)
    before = trainer.tracked.read()
    done = list(records(trainer))
    assert trainer.tracked.read() == before
    # the gradients are cleared in that other model, and add up in this one
    assert [record.grad_norm for record in done] == pytest.approx([n * done[0].grad_norm for n in (1, 2, 3)])


@pytest.mark.parametrize(
    ("loop", "norms"),
    [
        (("forward", "loss", "backward", "step"), [1, 2]),
        (("forward", "loss", "backward", "step", "zero_grad"), [1, 1]),
        (("forward", "loss", "zero_grad", "backward"), [1, 1]),
        (("forward", "loss", "backward", "zero_grad", "step"), [0, 0]),
        (("forward", "loss", "step", "zero_grad", "backward"), [0, 1]),
    ],
)
def test_the_gradient_norm_is_what_the_step_found(loop: tuple[Line, ...], norms: list[int]) -> None:
    trainer = Trainer(build.build(ModelSpec()), LINE, TrainSpec(loop=loop, epochs=2, learning_rate=1e-6, device="cpu"))
    (first,) = records(Trainer(build.build(ModelSpec()), LINE, TrainSpec(epochs=1, device="cpu")))
    found = [record.grad_norm for record in records(trainer)]
    assert found == pytest.approx([times * first.grad_norm for times in norms], rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(BROKEN)),
    epochs=st.integers(0, 3),
    batches=st.integers(0, 3),
    clip=st.sampled_from([0.0, 0.05]),
    optimizer=st.sampled_from(["sgd", "adam"]),
)
def test_a_resumed_experiment_is_the_one_that_never_stopped(
    name: str, epochs: int, batches: int, clip: float, optimizer: Any
) -> None:
    """The gradients that have added up are part of its state."""
    assume(epochs or batches)
    spec = TrainSpec(epochs=5, batch_size=10, clip=clip, optimizer=optimizer, device="cpu", **BROKEN[name])
    expected = list(records(Trainer(build.build(ModelSpec()), LINE, spec)))
    first = Trainer(build.build(ModelSpec()), LINE, spec)
    for _ in range(epochs):
        first.epoch()
    if batches:
        first.advance(batches=batches)
    state = first.state()
    list(records(first))
    second = Trainer.resumed(build.build(ModelSpec()), LINE, spec, state)
    assert list(records(second)) == expected
    assert gradients(second.model) == gradients(first.model)


SCRIPTED: dict[str, dict[str, Any]] = {
    **BROKEN,
    "clipped": {"loop": ("forward", "loss", "backward", "step"), "clip": 0.05},
    "cleared last": {"loop": ("forward", "loss", "backward", "step", "zero_grad"), "early_stop": 3},
    "the loss alone": {"loop": ("forward", "loss")},
    "another for lbfgs": {"optimizer": "lbfgs", "optimizer_over": "another"},
}


@pytest.mark.parametrize("batch_size", [0, 16])
@pytest.mark.parametrize("name", SCRIPTED)
def test_the_script_is_the_same_experiment(name: str, batch_size: int, tmp_path: Path) -> None:
    spec = WorkflowSpec(train=TrainSpec(epochs=8, batch_size=batch_size, device="cpu", **SCRIPTED[name]))
    names: dict[str, Any] = {}
    text = script(spec, path=str(tmp_path / "model.pt"))
    exec(compile(text, "script.py", "exec"), names)
    trainer = Trainer(build.build(ModelSpec()), LINE, spec.train)
    done = list(records(trainer))
    assert {key: parameter.item() for key, parameter in names["model"].named_parameters()} == trainer.tracked.read()
    assert (names["train_loss"], names["val_loss"]) == (done[-1].train_loss, done[-1].val_loss)
    assert gradients(names["model"]) == gradients(trainer.model)
    assert "# an experiment" in text


def test_the_script_of_an_impossible_order_fails_alike(tmp_path: Path) -> None:
    spec = WorkflowSpec(train=TrainSpec(device="cpu", loop=("forward", "zero_grad", "step")))
    with pytest.raises(NameError, match="name 'loss' is not defined"):
        exec(compile(script(spec, path=str(tmp_path / "model.pt")), "script.py", "exec"), {})


@pytest.mark.parametrize(
    ("settings", "comment"),
    [
        ({"loop": ("forward", "loss", "backward")}, "without optimizer.zero_grad(), optimizer.step()"),
        ({"loop": ("loss", "zero_grad", "backward", "step")}, "without model()"),
        ({"loop": (*LINES[:2], "backward", "zero_grad", "step")}, "these lines in another order"),
        ({"optimizer_over": "another"}, "the optimizer gets the parameters of another model"),
    ],
)
def test_the_code_says_what_is_not_as_it_belongs(settings: dict[str, Any], comment: str) -> None:
    text = lines("train", WorkflowSpec(train=TrainSpec(**settings)))
    assert text.count("an experiment") == 1
    assert comment in text
    assert "experiment" not in lines("train", WorkflowSpec())


def test_a_run_of_an_impossible_order_fails_with_one_sentence(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    loop: tuple[Line, ...] = ("forward", "zero_grad", "backward", "loss", "step")
    bench(SetTraining(spec=TrainSpec(loop=loop, device="cpu")))
    view = bench.train()
    assert view.state == "failed"
    assert view.reason == (
        "the run failed: loss.backward() gives NameError: name 'loss' is not defined, "
        "because loss = criterion(y_pred, y_train) comes later"
    )
    assert (view.epoch, view.parameters) == (0, view.initial)
    bench(SetTraining(spec=TrainSpec(device="cpu")), Run())
    assert bench.train().state == "finished"
