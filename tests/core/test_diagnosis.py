"""What is said of a training that goes wrong is true, is said soon, and never of one that goes well."""

from __future__ import annotations

import math
from itertools import permutations
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from workflow_core import devices
from workflow_core.engine.runner import Runner
from workflow_core.engine.watch import Watch
from workflow_core.specs import LINES, DataSpec, InitSpec, Line, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, linear
from workflow_core.steps.diagnosis import Divergence, Figures, loop_mistake, round_below
from workflow_core.steps.train import Trainer

DATASET = data.make(DataSpec())
SHUFFLED = SplitSpec(order="shuffled")
MLP = ModelSpec(kind="mlp")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    devices.set_threads(50)


def ranged(low: float, high: float) -> DataSpec:
    return DataSpec(start=low, stop=high, step=(high - low) / 50)


def sample(name: Any, **settings: Any) -> DataSpec:
    return DataSpec(kind="sample", sample=name, **settings)


def without(*lines: Line) -> tuple[Line, ...]:
    return tuple(line for line in LINES if line not in lines)


class Case:
    """A training that is looked at every few epochs; `said` has what was found, each with the epochs done by then."""

    def __init__(
        self,
        spec: TrainSpec,
        data_spec: DataSpec | None = None,
        model_spec: ModelSpec | None = None,
        every: int = 11,
    ) -> None:
        self.dataset = data.make(data_spec or DataSpec())
        self.model_spec = model_spec or ModelSpec()
        model = build.build(self.model_spec, len(self.dataset.features), self.dataset.spec.dtype)
        self.trainer = Trainer(model, self.dataset, replace(spec, device="cpu"))
        self.watch = Watch(self.trainer, self.dataset, self.model_spec)
        self.view = Runner(self.trainer, self.dataset, self.model_spec, 1, None, lambda event: None).view
        self.said: list[tuple[int, str]] = []
        while self.trainer.done < spec.epochs and not self.trainer.ended:
            for _ in range(min(every, spec.epochs - self.trainer.done)):
                self.trainer.epoch()
            self.look(self.trainer.fetch())

    def look(self, series: dict[str, list[float]]) -> None:
        model = self.trainer.model
        line, pairs = build.line(model, self.dataset), build.pairs(model, self.dataset)
        self.view = replace(self.view, learning_rate=series["learning_rate"][-1], line=line, pairs=pairs)
        found = self.watch.note(series, self.view)
        if self.trainer.ended != "diverged":
            self.said += [(self.trainer.done, sentence) for sentence in found]

    @property
    def divergence(self) -> Divergence:
        assert self.trainer.ended == "diverged"
        return self.watch.divergence(self.view)

    @property
    def stable(self) -> float:
        rate = linear.stable_learning_rate(self.model_spec, self.dataset, self.trainer.spec)
        assert rate is not None
        return rate


HEALTHY: dict[str, tuple[Any, ...]] = {
    **{f"lr {rate}": (TrainSpec(learning_rate=rate),) for rate in (1e-4, 1e-3, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.8)},
    "slow but moving": (TrainSpec(learning_rate=1e-6, epochs=300),),
    "just below the edge": (TrainSpec(learning_rate=0.89, epochs=600),),
    "converged": (TrainSpec(learning_rate=0.5, epochs=1500),),
    "converged, noisy": (TrainSpec(learning_rate=0.5, epochs=1500), DataSpec(noise=0.05)),
    "stalled near the end": (TrainSpec(learning_rate=0.05, epochs=4000), DataSpec(noise=0.1)),
    **{f"adam {rate}": (TrainSpec(optimizer="adam", learning_rate=rate, epochs=400),) for rate in (0.01, 0.1, 1.0)},
    **{f"momentum {rate}": (TrainSpec(momentum=0.9, learning_rate=rate, epochs=300),) for rate in (0.01, 0.1, 1.0)},
    "momentum, every epoch": (TrainSpec(momentum=0.9, learning_rate=0.5, epochs=120), None, None, 1),
    "rmsprop": (TrainSpec(optimizer="rmsprop", learning_rate=0.1, epochs=400),),
    "adagrad": (TrainSpec(optimizer="adagrad", learning_rate=0.1, epochs=400),),
    "lbfgs": (TrainSpec(optimizer="lbfgs", learning_rate=1.0, epochs=50),),
    "l1 that oscillates": (TrainSpec(loss="l1", epochs=500),),
    "huber": (TrainSpec(loss="huber", learning_rate=0.1, epochs=800),),
    "noise": (TrainSpec(learning_rate=0.1, epochs=800), DataSpec(noise=0.1)),
    "noise, shuffled": (TrainSpec(learning_rate=0.1, epochs=800), DataSpec(noise=0.1, split=SHUFFLED)),
    "underfitted": (TrainSpec(learning_rate=0.1, epochs=500), DataSpec(kind="quadratic")),
    "x up to 10": (TrainSpec(), ranged(0, 10)),
    "x from -10": (TrainSpec(), ranged(-10, 10)),
    "batches": (TrainSpec(batch_size=8, learning_rate=0.1, epochs=300), DataSpec(noise=0.1)),
    "cosine": (TrainSpec(scheduler="cosine", epochs=200),),
    "plateau": (TrainSpec(scheduler="plateau", scheduler_epochs=5, learning_rate=0.1, epochs=200),),
    "standardised": (TrainSpec(learning_rate=0.1, epochs=300), sample("norris", standardize=True)),
    "network": (TrainSpec(optimizer="adam", epochs=150), DataSpec(kind="sine", split=SHUFFLED), MLP),
    "from zeros": (TrainSpec(learning_rate=0.1), None, ModelSpec(init=InitSpec(kind="zeros"))),
    "to zeros": (TrainSpec(learning_rate=0.1, epochs=600), DataSpec(weight=0.0, bias=0.0)),
    "a network to a constant": (TrainSpec(learning_rate=0.1, epochs=600), DataSpec(weight=0.0, split=SHUFFLED), MLP),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_a_training_that_goes_well(name: str) -> None:
    case = Case(*HEALTHY[name])
    assert case.trainer.ended == ""
    assert case.said == []


DEAD = ModelSpec(kind="mlp", hidden=(4,), init=InitSpec(values={"layers.0.bias": -100.0}))
NO_TANH = ModelSpec(kind="mlp", activation="tanh", init=InitSpec(kind="zeros"))
SINE = DataSpec(kind="sine", noise=0.1, split=SHUFFLED)

WRONG: dict[str, tuple[tuple[Any, ...], str, int]] = {
    "no step": ((TrainSpec(loop=without("step")),), "no optimizer.step()", 11),
    "no backward": ((TrainSpec(loop=without("backward")),), "no loss.backward()", 11),
    "no zero_grad": ((TrainSpec(loop=without("zero_grad")),), "gradients add up", 11),
    "zero_grad too late": (
        (TrainSpec(loop=("forward", "loss", "backward", "zero_grad", "step")),),
        "finds no gradients",
        11,
    ),
    "step too early": (
        (TrainSpec(loop=("forward", "loss", "zero_grad", "step", "backward")),),
        "finds no gradients",
        11,
    ),
    "another's parameters": ((TrainSpec(optimizer_over="another"),), "holds no parameter of this model", 11),
    "adam on another's": ((TrainSpec(optimizer_over="another", optimizer="adam"),), "holds no parameter", 11),
    "tiny steps": ((TrainSpec(learning_rate=1e-9),), "at a learning rate of 1e-09, steps are too small", 22),
    "tiny steps, batches": ((TrainSpec(learning_rate=1e-9, batch_size=8),), "steps are too small for float32", 22),
    "tiny steps, network": ((TrainSpec(learning_rate=1e-9), SINE, MLP), "steps are too small for float32", 22),
    "tiny steps, float64": (
        (TrainSpec(learning_rate=1e-18), DataSpec(dtype="float64")),
        "steps are too small for float64 to add to the weights. Try a larger one.",
        22,
    ),
    "a schedule to nothing": (
        (TrainSpec(scheduler="step", scheduler_epochs=10, epochs=150),),
        "to which the schedule has taken it",
        120,
    ),
    "above the edge": ((TrainSpec(learning_rate=0.9),), "above 0.8929, the largest that is stable", 22),
    "far above": ((TrainSpec(learning_rate=1.0),), "The training loss rises", 11),
    "rising in batches": ((TrainSpec(learning_rate=0.95, batch_size=16),), "The training loss rises", 44),
    "dead relus": ((TrainSpec(learning_rate=0.1, epochs=200), SINE, DEAD), "ReLUs are probably dead", 150),
    "no way through": ((TrainSpec(learning_rate=0.1, epochs=200), SINE, NO_TANH), "nothing of the features", 150),
    "overfitting": (
        (TrainSpec(optimizer="adam", epochs=700), SINE, ModelSpec(kind="mlp", hidden=(32, 32))),
        "while the training loss has fallen further",
        700,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_said_soon_and_until_the_end(name: str) -> None:
    arguments, words, latest = WRONG[name]
    case = Case(*arguments)
    assert case.said, "nothing was said"
    first = case.said[0][0]
    assert first <= latest
    assert all(words in sentence for _, sentence in case.said)
    assert case.said[-1][0] == case.trainer.done
    assert all(sentence.isprintable() and sentence.endswith(".") for _, sentence in case.said)


ORDERS = [
    order
    for order in permutations(LINES)
    if [line for line in order if line not in ("zero_grad", "step")] == ["forward", "loss", "backward"]
]


@pytest.mark.parametrize("order", [*ORDERS, *map(without, LINES[2:])])
def test_what_is_said_of_a_loop_is_what_torch_does_with_it(order: tuple[Line, ...]) -> None:
    def weights(loop: tuple[Line, ...]) -> list[float]:
        trainer = Trainer(build.build(ModelSpec()), DATASET, TrainSpec(loop=loop, device="cpu"))
        for _ in range(8):
            trainer.epoch()
        return trainer.fetch()["weight"]

    said, found, textbook = loop_mistake(order), weights(order), weights(LINES)
    if any(words in said for words in ("moves nothing", "no parameter moves")):
        assert len(set(found)) == 1
        return
    assert len(set(found)) >= 7
    # a step that stands first belongs to the pass before
    assert (textbook in (found, [*found[1:], textbook[-1]])) == (not said)


# divergence


@pytest.mark.parametrize(
    ("spec", "data_spec"),
    [
        (TrainSpec(learning_rate=1.5), None),
        (TrainSpec(learning_rate=1.5, momentum=0.0, weight_decay=0.5), None),
        (TrainSpec(learning_rate=25.0, momentum=0.9), None),
        (TrainSpec(learning_rate=3.0, momentum=0.9, nesterov=True), None),
        (TrainSpec(learning_rate=4.0, loss="mse"), sample("norris", standardize=True)),
        (TrainSpec(), ranged(0, 100)),
        (TrainSpec(), sample("norris")),
    ],
    ids=["plain", "decay", "momentum", "nesterov", "standardised", "large x", "Norris"],
)
def test_a_rate_above_the_largest_stable_one_is_named_and_the_one_to_try_is_stable(
    spec: TrainSpec, data_spec: DataSpec | None
) -> None:
    spec = replace(spec, epochs=1500)
    case = Case(spec, data_spec)
    found = case.divergence
    assert f"{spec.learning_rate:g}" in found.cause
    assert f"{case.stable:.4g}" in found.cause
    assert f"{case.stable:.4g}" in found.advice
    assert ("not standardised" in found.cause) == ("Standardise" in found.advice) == (case.stable < 0.01)
    assert found.try_lr is not None
    assert case.stable / 4 < found.try_lr < case.stable
    tried = Case(replace(spec, learning_rate=found.try_lr), data_spec)
    assert tried.trainer.ended == ""
    assert tried.said == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TrainSpec(learning_rate=3.0), DataSpec(kind="sine"), MLP), "the gradient norm grew from"),
        ((TrainSpec(learning_rate=6e-4, batch_size=1, epochs=500), ranged(0, 100)), "batches of 1 rows can be steeper"),
        ((TrainSpec(learning_rate=1e6, optimizer="lbfgs"), DataSpec(kind="sine"), MLP), "a step of lbfgs was too long"),
    ],
)
def test_where_no_bound_is_known_a_tenth_is_tried(arguments: tuple[Any, ...], words: str) -> None:
    case = Case(*arguments)
    found = case.divergence
    rate = case.trainer.spec.learning_rate
    assert words in found.cause
    assert found.try_lr is not None
    assert rate / 25 < found.try_lr <= rate / 10
    assert f"{found.try_lr:g}" in found.advice
    assert ("clip" in found.advice) == (case.trainer.spec.optimizer != "lbfgs")


def test_gradients_that_add_up_are_the_cause_and_no_rate_is_the_remedy() -> None:
    found = Case(TrainSpec(learning_rate=2.0, loop=without("zero_grad"), epochs=3000)).divergence
    assert "gradients add up" in found.cause
    assert "loop" in found.advice
    assert found.try_lr is None


def test_a_loss_that_was_never_finite_is_not_put_down_to_the_rate() -> None:
    found = Case(TrainSpec(), DataSpec(weight=1e25)).divergence
    assert "untrained" in found.cause
    assert "float64" in found.advice
    assert found.try_lr is None


def test_under_a_schedule_the_rate_to_set_is_that_of_the_settings() -> None:
    spec = TrainSpec(learning_rate=20.0, scheduler="warmup", scheduler_factor=0.01, scheduler_epochs=100, epochs=300)
    case = Case(spec)
    found = case.divergence
    assert case.view.learning_rate < 10
    assert found.try_lr is not None
    at_most = found.try_lr * case.view.learning_rate / spec.learning_rate
    assert case.stable / 6 < at_most < case.stable


# figures

SERIES = ("train_loss", "val_loss", "learning_rate", "grad_norm", "weight", "bias")


@given(st.floats(1e-30, 1e30))
def test_a_round_rate_is_the_next_one_below(rate: float) -> None:
    found = round_below(rate)
    assert rate / 2.5001 <= found <= rate * 1.0001
    assert f"{found:.0e}"[0] in "125"
    assert float(f"{found:.0e}") == found


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_it_does_not_matter_how_the_epochs_are_dealt_out(count: int, random: Random) -> None:
    columns = {name: random.choices((0.0, 1.0, math.nan), (8, 2, 1), k=count) for name in SERIES}
    whole = Figures()
    whole.note(columns)
    dealt = Figures()
    at = 0
    while at < count:
        size = random.randint(1, count - at)
        dealt.note({name: column[at : at + size] for name, column in columns.items()})
        at += size
    assert repr(dealt) == repr(whole)
    run = 0
    for value in reversed(columns["train_loss"]):
        if value != columns["train_loss"][-1]:
            break
        run += 1
    assert whole.same_loss == run


def test_torch_is_not_asked_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are numbers by then; the prediction was made for the screen."""
    case = Case(TrainSpec(epochs=30))
    series = {name: [1.0 / (at + 1) for at in range(300)] for name in SERIES}

    def asked(*arguments: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(torch.Tensor, "item", asked)
    monkeypatch.setattr(torch.Tensor, "tolist", asked)
    assert case.watch.note(series, case.view) == ()
