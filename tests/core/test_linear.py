"""The references that a training is measured by hold against certified values, plain torch and gradient descent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, evaluate, least_squares, linear, train
from workflow_core.steps.convergence import convergence
from workflow_core.steps.data import Dataset
from workflow_core.steps.losses import make_criterion
from workflow_core.steps.tracked import Tracked

LINE = ModelSpec(kind="linear")
ALL = SplitSpec.parse("100/0/0")
NORRIS = {"intercept": -0.262323073774029, "x": 1.00211681802045}  # NIST StRD, certified


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The fastest for so few numbers, and the same bits wherever this runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sample(name: Any, **settings: Any) -> Dataset:
    return data.make(DataSpec(kind="sample", sample=name, split=ALL, **settings))


def dataset_of(X: Tensor, y: Tensor, spec: DataSpec | None = None) -> Dataset:
    """Any numbers as a data set that comes from no formula."""
    made = msgspec.structs.replace(spec or DataSpec(), kind="table", file="any.csv", dtype="float64", split=ALL)
    return data.from_columns(made, X, y, tuple(f"c{at}" for at in range(X.shape[1])), "target")


def standardized(dataset: Dataset) -> Dataset:
    scaling = data.Scaling.fit(dataset.features, dataset.target, dataset.X.double(), dataset.y.double())
    return replace(dataset, scaling=scaling)


def put(model: nn.Module, values: dict[str, float]) -> None:
    """Give a linear model its tracked values."""
    weight, bias = linear.weights_of(model)
    *weights, last = values.values()
    with torch.no_grad():
        weight.copy_(torch.tensor(weights, dtype=torch.float64).reshape(weight.shape))
        bias.fill_(last)


def digits(found: float, certified: float) -> float:
    return 16.0 if found == certified else -math.log10(abs(found / certified - 1))


# --- true on data nobody here made ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", ["parameter", "linear"])
def test_norris_to_twelve_certified_digits(dtype: Any, standardize: bool, kind: Any) -> None:
    reference = linear.reference(
        ModelSpec(kind=kind), sample("norris", dtype=dtype, standardize=standardize), TrainSpec()
    )
    assert list(reference.closed_form) == ["intercept", "x"]
    for name, certified in NORRIS.items():
        assert digits(reference.closed_form[name], certified) >= 12
    if not standardize:
        assert reference.loss == pytest.approx(26.61739852942236 / 36, rel=1e-9)
        assert reference.stable_lr == pytest.approx(3.4e-6, rel=0.01)


@pytest.mark.parametrize("name", ["anscombe_I", "anscombe_II", "anscombe_III", "anscombe_IV"])
def test_anscombes_four_give_one_line(name: Any) -> None:
    dataset = sample(name, dtype="float64", standardize=True)
    reference = linear.reference(LINE, dataset, TrainSpec())
    assert list(reference.closed_form.values()) == pytest.approx([3.0, 0.5], abs=3e-3)
    model = build.build(LINE, 1, "float64")
    put(model, reference.targets)
    metrics = evaluate.evaluate(model, dataset)["train"]
    assert metrics is not None
    assert metrics.r2 == pytest.approx(0.6665, abs=5e-4)
    if name == "anscombe_I":
        assert reference.closed_form["x"] == pytest.approx(0.50009090909, rel=1e-10)
        assert reference.closed_form["intercept"] == pytest.approx(3.00009090909, rel=1e-10)
        assert metrics.r2 == pytest.approx(0.66654245950, rel=1e-9)


def test_diabetes() -> None:
    dataset = sample("diabetes_bmi", standardize=True)
    reference = linear.reference(LINE, dataset, TrainSpec())
    assert reference.closed_form == pytest.approx({"intercept": -117.7734, "bmi": 10.2331}, abs=5e-5)
    model = build.build(LINE)
    put(model, reference.targets)
    metrics = evaluate.evaluate(model, dataset)["train"]
    assert metrics is not None
    assert metrics.r2 == pytest.approx(0.3439, abs=5e-5)


# --- closed form, coefficients and targets ----------------------------------------------------------

columns = st.integers(1, 3)
seeds = st.integers(0, 2**31)


@settings(max_examples=40, deadline=None)
@given(seeds, columns, st.integers(1, 4), st.booleans(), st.floats(-3, 3), st.floats(0.3, 5))
def test_the_closed_form_is_where_the_gradient_vanishes(
    seed: int, features: int, degree: int, standardize: bool, shift: float, spread: float
) -> None:
    degree = min(degree, 7 // features)  # up to 8 parameters the targets are those of every one of them
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(60, features, generator=generator, dtype=torch.float64) * spread + shift
    y = torch.randn(60, 1, generator=generator, dtype=torch.float64) * 2 + 7
    dataset = dataset_of(X, y)
    if standardize:
        dataset = standardized(dataset)
    spec = ModelSpec(kind="polynomial", degree=degree)
    reference = linear.reference(spec, dataset, TrainSpec())
    assert reference.targets_are == "closed form"
    model = build.build(spec, features, "float64")
    put(model, reference.targets)
    X_train, y_train = dataset.inputs("train")
    loss = nn.MSELoss()(model(X_train), y_train)
    loss.backward()
    assert reference.loss == pytest.approx(loss.item(), rel=1e-9)
    size = max(X_train.abs().max().item() ** degree, 1) * y_train.abs().max().item()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max().item() < 1e-8 * size
    # what it has learnt, told in the user's own units, is the closed form and predicts the same
    told = linear.coefficients(model, spec, dataset.features, dataset.scaling)
    assert told.keys() == reference.closed_form.keys()
    rows = X[:5].tolist()
    predicted = build.predict(model, rows, dataset.scaling)
    for row, y_pred in zip(rows, predicted, strict=True):
        for held in (told, reference.closed_form):
            terms = [held["intercept"]]
            for at, x in enumerate(row):
                terms += [held[f"c{at}" + (f"^{p}" if p > 1 else "")] * x**p for p in range(1, degree + 1)]
            assert math.fsum(terms) == pytest.approx(y_pred, rel=1e-6, abs=1e-6)
    assert "onverged: " in convergence(model, spec, dataset, TrainSpec(), reference)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["line", "quadratic", "polynomial", "plane"]),
    st.sampled_from(["parameter", "linear", "polynomial"]),
    st.integers(1, 4),
    st.booleans(),
)
def test_true_targets_predict_the_formula(kind: Any, model_kind: Any, degree: int, standardize: bool) -> None:
    spec = ModelSpec(kind=model_kind, degree=degree)
    made = DataSpec(kind=kind, standardize=standardize, dtype="float64", noise=0.3, start=-1, stop=2)
    dataset = data.make(made)
    if kind == "plane" and model_kind == "parameter":
        assert linear.reference(spec, dataset, TrainSpec()).closed_form == {}
        return
    reference = linear.reference(spec, dataset, TrainSpec())
    needs = {"line": 1, "plane": 1, "quadratic": 2, "polynomial": 3}[kind]
    if needs > linear.degree_of(spec):
        assert reference.targets_are == "closed form"
        return
    assert reference.targets_are == "true"
    model = build.build(spec, len(dataset.features), "float64")
    if len(reference.targets) == sum(parameter.numel() for parameter in model.parameters()):
        put(model, reference.targets)
        rows = dataset.X[:7].tolist()
        assert build.predict(model, rows, dataset.scaling) == pytest.approx(data.truth(made, rows), rel=1e-9)
    assert reference.targets.keys() == set(Tracked(model).names)


def test_a_large_model_has_targets_for_norm_and_mean() -> None:
    dataset = data.make(DataSpec(kind="plane", weights=tuple(range(1, 10)), noise=0.1))
    targets = linear.reference(LINE, dataset, TrainSpec()).targets
    assert targets["linear.weight norm"] == pytest.approx(math.sqrt(285))
    assert targets["linear.weight mean"] == 5


@pytest.mark.parametrize(
    ("settings", "are"),
    [
        ({}, "closed form"),
        ({"weight_decay": 0.1}, ""),
        ({"optimizer": "adamw"}, ""),
        ({"optimizer": "adamw", "weight_decay": 0.0}, "closed form"),
        ({"loss": "l1"}, ""),
        ({"loss": "huber"}, ""),
    ],
)
def test_targets_are_only_what_the_training_leads_to(settings: dict[str, Any], are: str) -> None:
    train_spec = TrainSpec(**settings)
    reference = linear.reference(LINE, sample("norris"), train_spec)
    assert reference.targets_are == are
    assert bool(reference.targets) == bool(are)
    assert reference.closed_form
    assert (reference.loss is None) == ("loss" in settings)
    assert linear.reference(LINE, data.make(DataSpec()), train_spec).targets_are == "true"


@pytest.mark.parametrize("standardize", [False, True])
def test_rank_deficiency_leaves_it_empty(standardize: bool) -> None:
    x = torch.linspace(0, 1, 20, dtype=torch.float64).unsqueeze(1)
    twins, constant = torch.cat([x, 3 * x - 1], 1), torch.cat([x, torch.full_like(x, 7)], 1)
    for X in (twins, constant, torch.rand(20, 25, dtype=torch.float64), constant[:, 1:]):
        dataset = dataset_of(X, x**2)
        dataset = standardized(dataset) if standardize else dataset
        reference = linear.reference(LINE, dataset, TrainSpec())
        assert (reference.closed_form, reference.targets, reference.loss) == ({}, {}, None)
        assert reference.stable_lr is not None
        model = build.build(LINE, X.shape[1], "float64")
        assert "no closed form" in convergence(model, LINE, dataset, TrainSpec(), reference)


def test_names_never_collide() -> None:
    spec = ModelSpec(kind="polynomial", degree=3)
    for features in (("x", "x^2"), ("intercept", "y"), ("intercept", "intercept (column)", "x^3", "x")):
        found = linear.names(spec, features)
        assert len(set(found)) == len(found) == 1 + 3 * len(features)
    assert linear.names(spec, ("bmi",)) == ("intercept", "bmi", "bmi^2", "bmi^3")
    assert linear.names(ModelSpec(kind="polynomial"), ("a", "b")) == ("intercept", "a", "b", "a^2", "b^2")


def test_rows_are_taken_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data.make(DataSpec(kind="plane", noise=0.2, dtype="float64"))
    whole = linear.reference(LINE, dataset, TrainSpec())
    monkeypatch.setattr(least_squares, "SLICE", 7)
    sliced = linear.reference(LINE, dataset, TrainSpec())
    assert sliced.closed_form == pytest.approx(whole.closed_form, rel=1e-12)
    assert sliced.stable_lr == pytest.approx(whole.stable_lr, rel=1e-12)


def test_what_would_take_too_long_or_overflow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = dataset_of(torch.linspace(1, 2, 30, dtype=torch.float64).unsqueeze(1) * 1e30, torch.ones(30, 1).double())
    assert linear.reference(ModelSpec(kind="polynomial", degree=20), huge, TrainSpec()).stable_lr is None
    monkeypatch.setattr(least_squares, "MAX_WORK", 100)
    reference = linear.reference(LINE, data.make(DataSpec()), TrainSpec())
    assert (reference.closed_form, reference.stable_lr, reference.targets_are) == ({}, None, "true")


def test_asking_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    linear.reference(LINE, sample("norris"), TrainSpec())
    assert torch.equal(torch.get_rng_state(), state)


# --- the largest stable learning rate ---------------------------------------------------------------


def descend(dataset: Dataset, spec: ModelSpec, train_spec: TrainSpec, learning_rate: float, steps: int) -> list[float]:
    """The training losses of plain gradient descent, from far away."""
    model = build.build(spec, len(dataset.features), "float64")
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=learning_rate,
        momentum=train_spec.momentum,
        nesterov=train_spec.nesterov,
        weight_decay=train_spec.weight_decay or 0.0,
        foreach=False,
    )
    criterion = make_criterion(train_spec)
    losses = []
    X, y = dataset.inputs("train")
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.5, True), (0.9, True)])
@pytest.mark.parametrize(("decay", "standardize"), [(None, False), (0.7, True)])
def test_just_below_it_descends_and_just_above_it_diverges(
    momentum: float, nesterov: bool, decay: float | None, standardize: bool
) -> None:
    dataset = data.make(DataSpec(kind="plane", noise=0.3, standardize=standardize, dtype="float64"))
    train_spec = TrainSpec(momentum=momentum, nesterov=nesterov, weight_decay=decay)
    stable = linear.stable_learning_rate(LINE, dataset, train_spec)
    assert stable is not None
    below = descend(dataset, LINE, train_spec, 0.95 * stable, 400)
    above = descend(dataset, LINE, train_spec, 1.05 * stable, 400)
    assert below[-1] < 2 * min(below)
    assert above[-1] > 1e3 * above[0]


def test_polynomials_too() -> None:
    dataset = data.make(DataSpec(kind="quadratic", start=-2, stop=3, dtype="float64"))
    spec = ModelSpec(kind="polynomial", degree=3)
    stable = linear.stable_learning_rate(spec, dataset, TrainSpec())
    assert stable is not None
    assert descend(dataset, spec, TrainSpec(), 0.95 * stable, 500)[-1] < 1
    assert descend(dataset, spec, TrainSpec(), 1.05 * stable, 500)[-1] > 1e3


@pytest.mark.parametrize(("loss", "delta"), [("huber", 0.5), ("huber", 50.0), ("smooth_l1", 0.5), ("smooth_l1", 50.0)])
def test_losses_that_are_straight_far_out_are_stable_below_it(loss: Any, delta: float) -> None:
    dataset = data.make(DataSpec(kind="plane", noise=0.3, dtype="float64"))
    train_spec = TrainSpec(loss=loss, delta=delta)
    stable = linear.stable_learning_rate(LINE, dataset, train_spec)
    assert stable is not None
    losses = descend(dataset, LINE, train_spec, 0.95 * stable, 300)
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(losses))
    if delta == 50:
        # all residuals are in the quadratic part: there it is no bound but the limit itself
        assert descend(dataset, LINE, train_spec, 1.05 * stable, 300)[-1] > 1e2 * losses[0]


def test_where_there_is_none() -> None:
    dataset = data.make(DataSpec())
    assert linear.stable_learning_rate(LINE, dataset, TrainSpec(loss="l1")) is None
    assert linear.stable_learning_rate(LINE, dataset, TrainSpec(optimizer="adam")) is None
    assert linear.stable_learning_rate(ModelSpec(kind="mlp"), dataset, TrainSpec()) is None
    assert linear.reference(ModelSpec(kind="mlp"), dataset, TrainSpec()).closed_form == {}


# --- convergence ------------------------------------------------------------------------------------


def trained(dataset: Dataset, epochs: int, learning_rate: float, dtype: Any, spec: ModelSpec = LINE) -> nn.Module:
    model = build.build(spec, len(dataset.features), dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, foreach=False)
    X, y = dataset.inputs("train")
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.MSELoss()(model(X), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("dtype", "least"), [("float32", 4), ("float64", 12)])
def test_norris_standardised_is_learnt_to_certified_digits(dtype: Any, least: int) -> None:
    dataset = sample("norris", standardize=True, dtype=dtype)
    model = trained(dataset, 150, 0.4, dtype)
    told = linear.coefficients(model, LINE, dataset.features, dataset.scaling)
    assert min(digits(told[name], certified) for name, certified in NORRIS.items()) >= least
    assert convergence(model, LINE, dataset, TrainSpec()).startswith("Converged: ")


def test_a_badly_conditioned_problem_is_said_not_to_have_converged() -> None:
    dataset = sample("norris")
    model = trained(dataset, 500, 3e-6, "float32")
    said = convergence(model, LINE, dataset, TrainSpec())
    assert said.startswith("Not converged: intercept is ")
    assert "badly conditioned" in said
    assert "standardise" in said
    # the slope has long arrived: the loss alone would not tell
    told = linear.coefficients(model, LINE, dataset.features, None)
    assert told["x"] == pytest.approx(NORRIS["x"], rel=2e-3)
    high = data.make(DataSpec(kind="polynomial", start=-1, stop=1, noise=0.1, standardize=True))
    spec = ModelSpec(kind="polynomial", degree=8)
    slow = TrainSpec(learning_rate=1e-4)
    assert "take a lower degree" in convergence(trained(high, 100, 1e-4, "float32", spec), spec, high, slow)


def test_a_training_that_blew_up_is_not_told_to_go_on() -> None:
    dataset = data.make(DataSpec(standardize=True))
    model = trained(dataset, 20, 5.0, "float32")
    said = convergence(model, LINE, dataset, TrainSpec())
    assert "the training loss (standardised) is" in said
    assert said.endswith("It has gone astray: train from the start, with a smaller learning rate.")


def test_too_few_epochs_are_said_to_be_too_few() -> None:
    dataset = data.make(DataSpec())
    said = convergence(build.build(ModelSpec()), ModelSpec(), dataset, TrainSpec())
    assert said.startswith("Not converged: ")
    assert "More epochs" in said
    easy = data.make(DataSpec(standardize=True))
    assert convergence(trained(easy, 100, 0.5, "float32"), LINE, easy, TrainSpec()).startswith("Converged: ")


def test_more_epochs_are_no_advice_above_the_largest_stable_rate() -> None:
    """It is 0.8929: at 0.9 thirty epochs are too few to have gone astray, but each makes it worse."""
    dataset = data.make(DataSpec())
    for learning_rate, scheduler, end in (
        (0.89, "none", "More epochs would bring it nearer."),
        (
            0.9,
            "none",
            "The learning rate, 0.9, is above the largest stable one, 0.8929: start again with a smaller one.",
        ),
        # takes it below in time
        (0.9, "cosine", "More epochs would bring it nearer."),
    ):
        settings: dict[str, Any] = {"learning_rate": learning_rate, "scheduler": scheduler, "device": "cpu"}
        model = build.build(LINE)
        list(train.train(model, dataset, TrainSpec(**settings, epochs=10)))
        assert convergence(model, LINE, dataset, TrainSpec(**settings)).endswith(end)


def test_a_badly_conditioned_training_with_too_long_steps_is_told_of_both() -> None:
    dataset = sample("norris")
    said = convergence(build.build(LINE), LINE, dataset, TrainSpec())
    assert "The learning rate, 0.01, is above the largest stable one, 3.4" in said
    assert said.endswith("standardise the data.")
    assert len(said) < 4 * 75, "the Evaluate screen has four lines for it at 80 columns"


def test_batches_come_no_nearer_than_their_noise_lets_them() -> None:
    dataset = data.make(DataSpec(noise=0.1))
    model = build.build(LINE)
    noisy, whole = (convergence(model, LINE, dataset, TrainSpec(batch_size=size)) for size in (8, 35))
    assert noisy.endswith("as far as the noise of the batches lets them.")
    assert whole.endswith("More epochs would bring it nearer.")


def test_a_distance_is_no_part_of_a_coefficient_that_is_zero_but_for_rounding() -> None:
    x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    dataset = dataset_of(x, 2 * x)
    init = InitSpec(values={"linear.weight": 2.0, "linear.bias": 0.5})
    said = convergence(build.build(ModelSpec(kind="linear", init=init), 1, "float64"), LINE, dataset, TrainSpec())
    assert said.startswith("Not converged: intercept is 0.5 away from the closed form, ")


def test_a_coefficient_that_should_be_zero_may_be_nearly_zero() -> None:
    dataset = data.make(DataSpec(bias=0.0, split=ALL, dtype="float64"))
    init = InitSpec(values={"weight": 0.7, "bias": 1e-9})
    near = build.build(ModelSpec(init=init), 1, "float64")
    assert convergence(near, ModelSpec(), dataset, TrainSpec()).startswith("Converged: ")
    constant = data.make(DataSpec(weight=0.0, bias=0.0, split=ALL))
    flat = build.build(ModelSpec(init=InitSpec(kind="zeros")))
    assert convergence(flat, ModelSpec(), constant, TrainSpec()).startswith("Converged: ")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_diverged_model_has_not_converged(value: float, standardize: bool) -> None:
    dataset = data.make(DataSpec(standardize=standardize))
    model = build.build(ModelSpec())
    with torch.no_grad():
        model.get_parameter("weight").fill_(value)
    assert "diverged" in convergence(model, ModelSpec(), dataset, TrainSpec())


def test_other_losses_have_no_verdict_but_the_distance() -> None:
    dataset = sample("norris", standardize=True)
    model = trained(dataset, 100, 0.4, "float32")
    for train_spec, word in ((TrainSpec(loss="l1"), "l1 loss"), (TrainSpec(weight_decay=0.1), "weight decay")):
        said = convergence(model, LINE, dataset, train_spec)
        assert word in said
        assert "onverged" not in said
    assert convergence(build.build(ModelSpec(kind="mlp")), ModelSpec(kind="mlp"), dataset, TrainSpec()) == ""


def test_the_courses_line() -> None:
    reference = linear.reference(ModelSpec(), data.make(DataSpec()), TrainSpec())
    assert reference.targets == {"weight": 0.7, "bias": 0.3}
    assert reference.closed_form == {"intercept": pytest.approx(0.3, rel=1e-6), "x": pytest.approx(0.7, rel=1e-6)}


# --- numbers of extreme size ------------------------------------------------------------------------

exponents = st.integers(-300, 300) | st.sampled_from([-300, -200, -155, 0, 155, 200, 300])


@settings(max_examples=40, deadline=None)
@given(exponents, exponents, st.booleans(), st.integers(1, 3), seeds)
def test_data_of_any_size_go_through_every_step(x_size: int, y_size: int, scale: bool, degree: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.rand(2, 30, 1, generator=generator, dtype=torch.float64)
    dataset = dataset_of(x * float(f"1e{x_size}"), (2 * x + 1 + 0.1 * noise) * float(f"1e{y_size}"))
    dataset = standardized(dataset) if scale else dataset
    spec, train_spec = ModelSpec(kind="polynomial", degree=degree), TrainSpec(epochs=3, device="cpu")
    model = build.build(spec, 1, "float64")
    build.view(model, spec, dataset, train_spec)
    data.view(dataset)
    list(train.train(model, dataset, train_spec))
    evaluate.predictions(model, dataset)
    metrics = evaluate.evaluate(model, dataset)["train"]
    assert metrics is not None
    assert metrics.r2 is not None
    reference = linear.reference(spec, dataset, train_spec)
    assert convergence(model, spec, dataset, train_spec, reference)
    assert all(map(math.isfinite, (*reference.closed_form.values(), reference.loss or 0.0)))
    if scale and degree == 1 and abs(x_size - y_size) < 300:
        # standardising takes all of the size away
        assert metrics.r2 > -20
        assert reference.loss == pytest.approx(linear.reference(spec, unit(x, noise), train_spec).loss, rel=1e-6)
        slope = linear.reference(spec, unit(x, noise), train_spec).closed_form["c0"]
        assert reference.closed_form["c0"] == pytest.approx(slope * float(f"1e{y_size - x_size}"), rel=1e-6)


def unit(x: Tensor, noise: Tensor) -> Dataset:
    return standardized(dataset_of(x, 2 * x + 1 + 0.1 * noise))


def test_there_is_no_stable_learning_rate_where_the_loss_is_infinite_whatever_it_is() -> None:
    x = torch.linspace(0, 1, 20, dtype=torch.float64).unsqueeze(1)
    large = dataset_of(x, 1e200 * (2 * x + 1))
    assert linear.reference(LINE, large, TrainSpec()).stable_lr is None
    assert linear.reference(LINE, standardized(large), TrainSpec()).stable_lr is not None
    assert linear.reference(LINE, large, TrainSpec(loss="huber")).stable_lr is not None


def test_r2_of_numbers_whose_squares_leave_float64() -> None:
    for size in (1e-300, 1e-200, 1.0, 1e200, 1e300):
        dataset = dataset_of(
            torch.tensor([[0.0], [1], [2], [3]]).double(), torch.tensor([[0.0], [2], [4], [6]]).double() * size
        )
        model = build.build(ModelSpec(), 1, "float64")
        put(model, {"weight": size, "bias": size})
        metrics = evaluate.evaluate(model, dataset)["train"]
        assert metrics is not None
        assert metrics.r2 == pytest.approx(1 - 6 / 20)


def test_the_names_of_many_coefficients_take_no_time() -> None:
    """They are told with every update of a running training."""
    spec = ModelSpec(kind="polynomial", degree=20)
    start = time.perf_counter()
    found = [linear.names(spec, tuple(f"column {number}" for number in range(2000))) for _ in range(3)]
    assert time.perf_counter() - start < 5  # a list that is searched for each name takes minutes
    assert len(set(found[0])) == 40_001
    assert found[1] is found[2]


def test_where_coefficients_are_not_unique_the_loss_tells() -> None:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).unsqueeze(1)
    few = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for X in (torch.cat([x, 3 * x - 1], 1), few):
        dataset = dataset_of(X, X[:, :1] ** 2)
        start = convergence(build.build(LINE, X.shape[1], "float64"), LINE, dataset, TrainSpec())
        end = convergence(trained(dataset, 1500, 0.1, "float64"), LINE, dataset, TrainSpec())
        assert start.startswith("Not converged: the training loss is ")
        assert end.startswith("Converged: the training loss is ")
        assert "no closed form" in end


def test_a_float32_fit_has_converged_though_a_coefficient_near_zero_is_not_to_a_thousandth_right() -> None:
    x = torch.linspace(1e3 - 1, 1e3 + 1, 50, dtype=torch.float64).unsqueeze(1)
    spec = DataSpec(kind="table", file="any.csv", split=ALL)
    A, bent = torch.cat([x, torch.ones_like(x)], 1), (x - 1e3) ** 2
    bent = bent - A @ torch.linalg.lstsq(A, bent).solution  # moves no coefficient
    plain = data.from_columns(spec, x, 0.7 * x + bent, ("x",), "y")
    scaling = data.Scaling.fit(("x",), "y", x, 0.7 * x + bent)
    dataset = replace(plain, scaling=scaling)
    said = convergence(trained(dataset, 100, 0.4, "float32"), LINE, dataset, TrainSpec())
    assert said.startswith("Converged: intercept"), said


@pytest.mark.parametrize("settings", [{"optimizer": "adamw"}, {"weight_decay": 0.1}, {"loss": "huber", "delta": 0.1}])
def test_a_training_that_leads_elsewhere_is_told_whether_it_is_on_its_way(settings: dict[str, Any]) -> None:
    dataset = sample("norris", standardize=True, dtype="float64")
    train_spec = TrainSpec(learning_rate=0.1, epochs=600, device="cpu", scheduler="cosine", **settings)
    model = build.build(LINE, 1, "float64")
    assert "has not settled" in convergence(model, LINE, dataset, train_spec)
    list(train.train(model, dataset, train_spec))
    assert convergence(model, LINE, dataset, train_spec).endswith("the training has settled.")


def test_a_gradient_that_has_nearly_gone_says_little_of_a_badly_conditioned_problem() -> None:
    plain = sample("norris", dtype="float64")
    model = trained(plain, 2000, 3e-6, "float64")
    said = convergence(model, LINE, plain, TrainSpec(optimizer="adamw"))
    assert said.endswith("badly conditioned problem even that may be a long way: standardise the data.")
