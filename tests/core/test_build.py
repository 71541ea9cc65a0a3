"""The models are what a learner would write, drawn with their own seed, and asking them changes nothing about them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import ACTIVATIONS, DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, models
from workflow_core.steps.losses import make_criterion
from workflow_core.steps.tracked import Tracked

COURSE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())
LINEAR = ModelSpec(kind="linear")
PLANE = DataSpec(kind="plane", weights=(0.7, -0.4, 2.0))


def parameters(model: nn.Module) -> dict[str, float]:
    return Tracked(model).read()


def given_line(weight: float, bias: float) -> nn.Module:
    return build.build(ModelSpec(init=InitSpec(values={"weight": weight, "bias": bias})))


def refused(spec: ModelSpec, features: int = 1) -> Problem:
    with pytest.raises(WorkflowError) as caught:
        build.build(spec, features)
    assert caught.value.problem.advice
    return caught.value.problem


def test_the_default_model_is_the_courses() -> None:
    reference = COURSE["02"]
    model = build.build(ModelSpec())
    assert list(model.state_dict()) == reference["state_dict_keys"]
    assert list(parameters(model).values()) == pytest.approx(reference["init"], rel=1e-5)
    assert sum(parameter.numel() for parameter in model.parameters()) == reference["n_params"]
    assert repr(model) == reference["repr"]
    assert build.predict(model, [0, 0.5, 1]) == pytest.approx(reference["pred_at_0_0.5_1"], abs=5e-5)


@pytest.mark.parametrize(("seed", "expected"), COURSE["init_by_seed"].items())
def test_every_seed_draws_weight_then_bias(seed: str, expected: list[float]) -> None:
    model = build.build(ModelSpec(init=InitSpec(seed=int(seed))))
    assert list(parameters(model).values()) == pytest.approx(expected, rel=1e-5)


def test_given_values_replace_draws_without_moving_the_others() -> None:
    drawn = parameters(build.build(ModelSpec()))
    model = build.build(ModelSpec(init=InitSpec(values={"weight": -2.5})))
    assert parameters(model) == {"weight": -2.5, "bias": drawn["bias"]}
    assert all(parameter.requires_grad for parameter in model.parameters())
    sequence = COURSE["randn1_sequence_seed42"]
    assert torch.randn(1).item() == pytest.approx(sequence[2], rel=1e-5)


# --- every kind is plain torch ---------------------------------------------------------------------


def plain(spec: ModelSpec, features: int) -> tuple[nn.Module, Any]:
    """A module with the same layers, made by hand, and how it predicts."""
    if spec.kind == "linear":
        layer = nn.Linear(features, 1)
        return layer, layer
    if spec.kind == "polynomial":
        layer = nn.Linear(features * spec.degree, 1)
        return layer, lambda x: layer(torch.cat([x.pow(p) for p in range(1, spec.degree + 1)], dim=1))
    made = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU}
    sequence = nn.Sequential()
    width = features
    for hidden in spec.hidden:
        sequence.append(nn.Linear(width, hidden))
        sequence.append(made.get(spec.activation, nn.LeakyReLU)())
        width = hidden
    sequence.append(nn.Linear(width, 1))
    return sequence, sequence


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        ModelSpec,
        kind=st.sampled_from(["linear", "polynomial", "mlp"]),
        degree=st.integers(1, 5),
        hidden=st.lists(st.integers(1, 8), max_size=3).map(tuple),
        activation=st.sampled_from(ACTIVATIONS),
        init=st.builds(InitSpec, seed=st.integers(0, 2**32)),
    ),
    st.integers(1, 4),
    st.sampled_from(["float32", "float64"]),
)
def test_every_kind_draws_and_predicts_as_plain_torch_does(spec: ModelSpec, features: int, dtype: Any) -> None:
    model = build.build(spec, features, dtype)
    torch.manual_seed(spec.init.seed)
    expected, predict = plain(spec, features)
    expected.to(getattr(torch, dtype))
    ours = list(model.state_dict().values())
    assert all(map(torch.equal, ours, expected.state_dict().values()))
    assert len(ours) == len(expected.state_dict())
    X = torch.rand(7, features, dtype=getattr(torch, dtype)) * 4 - 2
    with torch.no_grad():
        assert torch.equal(model(X), predict(X))
    assert {tensor.dtype for tensor in ours} == {getattr(torch, dtype)}
    assert models.shapes(spec, features) == {name: tuple(t.shape) for name, t in model.state_dict().items()}


def test_the_names_of_the_layers_are_those_of_the_scripts() -> None:
    assert list(build.build(LINEAR).state_dict()) == ["linear.weight", "linear.bias"]
    assert list(build.build(ModelSpec(kind="polynomial")).state_dict()) == ["linear.weight", "linear.bias"]
    mlp = build.build(ModelSpec(kind="mlp", hidden=(4,)))
    assert list(mlp.state_dict()) == ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]


def test_dropout_follows_every_activation_and_only_where_it_is_asked_for() -> None:
    spec = ModelSpec(kind="mlp", hidden=(4, 4), dropout=0.5)
    with_dropout = build.build(spec)
    kinds = [type(layer) for layer in with_dropout.get_submodule("layers").children()]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    without = build.build(msgspec.structs.replace(spec, dropout=0.0))
    assert all(map(torch.equal, with_dropout.state_dict().values(), without.state_dict().values()))
    assert build.predict(with_dropout, [0.5]) == build.predict(without, [0.5])


# --- initialisation --------------------------------------------------------------------------------


def test_zeros_and_values_of_every_shape() -> None:
    init = InitSpec(kind="zeros", values={"linear.weight": (1.0, 2.0, 3.0)})
    model = build.build(ModelSpec(kind="linear", init=init), 3)
    assert list(parameters(model).values()) == [1, 2, 3, 0]
    filled = build.build(ModelSpec(kind="linear", init=InitSpec(values={"linear.weight": 0.1})), 3, "float64")
    assert list(parameters(filled).values())[:3] == [0.1] * 3
    grid: dict[str, float | tuple[float, ...]] = {"layers.0.weight": (1.0, 2.0, 3.0, 4.0)}
    mlp = build.build(ModelSpec(kind="mlp", hidden=(2,), init=InitSpec(values=grid)), 2)
    assert mlp.get_parameter("layers.0.weight").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": 1.0}, "no parameter weight; it has linear.weight [1, 3], linear.bias [1]"),
        ({"linear.weight": (1.0, 2.0)}, "2 values are given for linear.weight, which holds 3"),
        ({"linear.bias": (1.0, 2.0)}, "which holds 1"),
        ({"\x1b[2J": 1.0}, "no parameter \N{REPLACEMENT CHARACTER}[2J"),
    ],
)
def test_values_that_do_not_fit_say_what_there_is(values: dict[str, Any], message: str) -> None:
    assert message in refused(ModelSpec(kind="linear", init=InitSpec(values=values)), 3).message


def test_a_line_over_several_features_is_refused_with_the_model_to_take() -> None:
    problem = refused(ModelSpec(), 3)
    assert "the data have 3" in problem.message
    assert "linear" in problem.advice


def test_a_model_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    assert "Too large" in refused(ModelSpec(kind="mlp", hidden=(65_536,) * 32)).title


# --- predictions -----------------------------------------------------------------------------------


class Moody(nn.Module):
    """Answers differently in train mode; one part of it is kept in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5).eval()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        return x * self.scale * (100 if self.training else 1)


def test_predict_is_in_eval_mode_and_restores_every_modules_own() -> None:
    model = Moody()
    assert build.predict(model, [1.0, -2.0]) == [1.0, -2.0]
    assert model.training
    assert not model.inner.training


def test_predict_takes_any_number_of_any_size() -> None:
    model = given_line(2, 1)
    assert build.predict(model, []) == []
    assert build.predict(model, [1e300, -1e300]) == [math.inf, -math.inf]
    assert math.isnan(build.predict(model, [math.nan])[0])
    assert build.predict(model, [[1.0], [2.0]]) == build.predict(model, torch.tensor([[1.0], [2.0]])) == [3.0, 5.0]


def test_predictions_are_in_the_users_own_units() -> None:
    dataset = data.make(DataSpec(kind="plane", weights=(3.0, -2.0), bias=50.0, standardize=True, dtype="float64"))
    scaling = dataset.scaling
    assert scaling is not None
    model = build.build(LINEAR, 2, "float64")
    rows = [[0.25, 0.5], [0.75, 1.5]]
    with torch.no_grad():
        seen = (torch.tensor(rows, dtype=torch.float64) - scaling.X_mean) / scaling.X_std
        expected = model(seen) * scaling.y_std + scaling.y_mean
    assert build.predict(model, rows, scaling) == pytest.approx(expected.flatten().tolist(), rel=1e-14)


def test_rows_predicted_in_slices_are_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build.build(ModelSpec(kind="mlp"))
    x = torch.linspace(-1, 1, 20).tolist()
    whole = build.predict(model, x)
    monkeypatch.setattr(build, "SLICE", 7)
    assert build.predict(model, x) == pytest.approx(whole, rel=1e-6)


def test_line_spans_the_range_of_the_data() -> None:
    dataset = data.make(DataSpec(start=-3, stop=5, step=1))
    model = given_line(2, 1)
    assert build.line(model, dataset) == ((-3.0, -5.0), (4.0, 9.0))
    assert [x for x, _ in build.line(model, dataset, points=8)] == [-3, -2, -1, 0, 1, 2, 3, 4]


def test_a_curve_has_many_points_and_several_features_have_pairs() -> None:
    dataset = data.make(DataSpec())
    assert len(build.line(build.build(LINEAR), dataset)) == 2
    curve = build.line(build.build(ModelSpec(kind="mlp")), dataset)
    assert (curve[0][0], curve[-1][0]) == dataset.x_range
    assert 90 <= len(curve) <= 200
    assert build.pairs(build.build(LINEAR), dataset) == ()


@pytest.mark.parametrize("standardize", [False, True])
def test_pairs_are_training_rows_in_the_users_own_units(standardize: bool) -> None:
    dataset = data.make(msgspec.structs.replace(PLANE, standardize=standardize, step=0.002))
    model = build.build(LINEAR, 3)
    assert build.line(model, dataset) == ()
    pairs = build.pairs(model, dataset, limit=50)
    X, y = dataset.split("train")
    assert len(pairs) == 50
    assert (pairs[0][0], pairs[-1][0]) == (y[0].item(), y[-1].item())
    ends = build.predict(model, X[[0, -1]], dataset.scaling)
    assert [pairs[0][1], pairs[-1][1]] == pytest.approx(ends, rel=1e-4)


@pytest.mark.parametrize("kind", ["parameter", "linear", "polynomial", "mlp"])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_diverged_model_is_shown(kind: Any, standardize: bool) -> None:
    spec = ModelSpec(kind=kind)
    for dataset in (data.make(DataSpec(standardize=standardize)), data.make(PLANE)):
        features = len(dataset.features)
        if kind == "parameter" and features > 1:
            continue
        model = build.build(spec, features)
        for value in (math.nan, math.inf):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(value)
            view = build.view(model, spec, dataset, TrainSpec())
            assert view.untrained_loss is not None
            assert not math.isfinite(view.untrained_loss)
            assert not any(math.isfinite(y_pred) for _, y_pred in view.line + view.pairs)
            assert not any(map(math.isfinite, view.coefficients.values()))


# --- what the Build screen shows -------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "expected"), [("mse", 0.09224279224872589), ("l1", 0.29471588134765625)])
def test_view_shows_the_untrained_model(loss: Any, expected: float) -> None:
    view = build.view(build.build(ModelSpec()), ModelSpec(), data.make(DataSpec()), TrainSpec(loss=loss))
    assert view.untrained_loss == pytest.approx(expected, rel=1e-5)
    assert (view.class_name, view.count, view.size) == ("LinearRegressionModel", 2, 8)
    weight, bias = view.parameters
    assert (weight.name, weight.shape, weight.requires_grad) == ("weight", (1,), True)
    assert bias.values == pytest.approx([0.12880940735340118], rel=1e-5)
    assert len(view.line) == 2
    assert view.coefficients == {"intercept": bias.values[0], "x": weight.values[0]}
    assert view.reference.targets == {"weight": 0.7, "bias": 0.3}
    assert view.source == ""


def test_view_of_a_larger_model_counts_what_is_trained() -> None:
    spec = ModelSpec(kind="mlp", hidden=(5,))
    model = build.build(spec, 3, "float64")
    model.get_parameter("layers.0.bias").requires_grad_(False)
    view = build.view(model, spec, data.make(PLANE), TrainSpec(loss="huber", delta=0.5))
    assert (view.count, view.size) == (3 * 5 + 5 + 1, 26 * 8)
    assert [parameter.shape for parameter in view.parameters] == [(5, 3), (5,), (1, 5), (1,)]
    assert view.coefficients == {}
    assert view.line == ()
    assert len(view.pairs) == 35
    X, y = data.make(PLANE).split("train")
    with torch.no_grad():
        expected = make_criterion(TrainSpec(loss="huber", delta=0.5))(model(X.double()), y.double())
    assert view.untrained_loss == pytest.approx(expected.item(), rel=1e-6)


def test_the_untrained_loss_is_that_of_what_the_model_sees() -> None:
    dataset = data.make(DataSpec(standardize=True, split=SplitSpec.parse("100/0/0")))
    zero = build.build(ModelSpec(init=InitSpec(kind="zeros")))
    assert build.view(zero, ModelSpec(), dataset, TrainSpec()).untrained_loss == pytest.approx(1.0, rel=1e-6)


def test_view_without_data_has_no_line_and_no_loss() -> None:
    view = build.view(build.build(ModelSpec()), ModelSpec(), None, TrainSpec())
    assert view.line == ()
    assert view.untrained_loss is None


@pytest.mark.parametrize(("dtype", "fits"), [("float32", True), ("float64", False)])
def test_a_model_is_made_only_where_all_that_training_holds_of_it_fits(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, fits: bool
) -> None:
    """Seven numbers a parameter: 7 * 4 * 10_198 bytes are 70 pages of 4096, and twice as many for float64."""
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 75}.__getitem__)
    spec = ModelSpec(kind="mlp", hidden=(99, 99))
    if fits:
        build.build(spec, 1, dtype)
    else:
        with pytest.raises(WorkflowError, match="to train them takes"):
            build.build(spec, 1, dtype)
    with pytest.raises(WorkflowError):
        build.build(ModelSpec(kind="mlp", hidden=(110, 110)), 1, dtype)
