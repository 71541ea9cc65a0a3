"""The data are the course's, every random act has its own seed, and every row goes to exactly one split."""

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

from workflow_core.errors import WorkflowError
from workflow_core.specs import DATA_KINDS, DTYPES, SPLITS, DataKind, DataSpec, Order, SplitSpec
from workflow_core.steps import data
from workflow_core.views import ColumnScale

COURSE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())
SHUFFLED = SplitSpec(order="shuffled")


def test_the_default_data_are_the_courses() -> None:
    dataset = data.make(DataSpec())
    assert torch.equal(dataset.X, torch.arange(0, 1, 0.02).unsqueeze(1))
    assert torch.equal(dataset.y, 0.7 * dataset.X + 0.3)
    assert dataset.X.shape == dataset.y.shape == (50, 1)
    assert dataset.X.dtype == dataset.y.dtype == torch.float32
    ranges = COURSE["split_ranges"]
    for name, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        X, y = dataset.split(name)
        assert [X.min().item(), X.max().item()] == pytest.approx(ranges[key], rel=1e-5)
        assert [y.min().item(), y.max().item()] == pytest.approx(ranges[f"y_{key}"], rel=1e-5)
    assert [len(dataset.split(name)[0]) for name in SPLITS] == [35, 7, 8]


def test_noise_and_order_are_those_of_torch_manual_seed_set_just_before() -> None:
    dataset = data.make(DataSpec(noise=0.5, seed=7, split=SplitSpec(order="shuffled", seed=9)))
    torch.manual_seed(7)
    expected = 0.7 * dataset.X + 0.3 + 0.5 * torch.randn(50, 1)
    torch.manual_seed(9)
    order = torch.randperm(50)
    assert torch.equal(dataset.y, expected)
    assert torch.equal(torch.cat(list(dataset.indices.values())), order)
    X, y = dataset.split("validation")
    assert torch.equal(X, dataset.X[order[35:42]])
    assert torch.equal(y, expected[order[35:42]])


def test_making_data_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    data.make(DataSpec(noise=1.0, split=SHUFFLED))
    assert torch.equal(torch.randn(3), expected)


def test_each_seed_moves_its_own_thing_only() -> None:
    spec = DataSpec(noise=0.1, split=SHUFFLED)
    base = data.make(spec)
    noise = data.make(msgspec.structs.replace(spec, seed=43))
    order = data.make(msgspec.structs.replace(spec, split=msgspec.structs.replace(SHUFFLED, seed=43)))
    assert not torch.equal(noise.y, base.y)
    assert torch.equal(noise.indices["train"], base.indices["train"])
    assert torch.equal(order.y, base.y)
    assert not torch.equal(order.indices["train"], base.indices["train"])
    assert torch.equal(noise.X, base.X)


def test_every_formula_is_what_its_spec_says() -> None:
    x = torch.arange(-1, 1, 0.25).unsqueeze(1)
    span: dict[str, Any] = {"start": -1.0, "stop": 1.0, "step": 0.25}
    expected = {
        DataSpec(kind="line", **span): 0.7 * x + 0.3,
        DataSpec(kind="quadratic", curve=-2.0, **span): -2.0 * x**2 + 0.7 * x + 0.3,
        DataSpec(kind="polynomial", **span): 0.3 + 0.7 * x - x**2 + 0.5 * x**3,
        DataSpec(kind="polynomial", coefficients=(2.0,), **span): torch.full_like(x, 2.0),
        DataSpec(kind="sine", frequency=2.0, **span): 0.7 * torch.sin(2 * math.pi * 2.0 * x) + 0.3,
        DataSpec(kind="step", threshold=0.25, **span): torch.where(x >= 0.25, torch.tensor(1.0), torch.tensor(0.3)),
    }
    for spec, y in expected.items():
        dataset = data.make(spec)
        assert torch.equal(dataset.X, x), spec.kind
        assert torch.allclose(dataset.y, y, rtol=0, atol=1e-6), spec.kind
        truth = data.truth(spec, dataset.X.tolist())
        assert truth == pytest.approx(y.flatten().tolist(), abs=1e-6)


def test_a_plane_draws_every_feature_over_the_range() -> None:
    spec = DataSpec(kind="plane", weights=(2.0, 0.0, -1.0), bias=5.0, start=-3.0, stop=7.0, step=0.01, x_seed=3)
    dataset = data.make(spec)
    torch.manual_seed(3)
    assert torch.equal(dataset.X, torch.rand(1000, 3) * 10 - 3)
    assert dataset.features == ("x1", "x2", "x3")
    x1, _, x3 = dataset.X.T
    assert dataset.y.flatten().tolist() == pytest.approx((2 * x1 - x3 + 5).tolist(), abs=1e-5)
    assert data.truth(spec, [[1.0, 9.0, 2.0]]) == [5.0]
    assert data.coefficients(spec) == {"intercept": 5.0, "x1": 2.0, "x2": 0.0, "x3": -1.0}


def test_spacing_orders_x_and_draws_it_with_a_seed_of_its_own() -> None:
    grid = data.make(DataSpec(start=-2.0))
    shuffled = data.make(DataSpec(start=-2.0, spacing="shuffled", x_seed=5))
    torch.manual_seed(5)
    assert torch.equal(shuffled.X, grid.X[torch.randperm(150)])
    assert torch.equal(shuffled.y, 0.7 * shuffled.X + 0.3)
    uniform = data.make(DataSpec(start=-2.0, spacing="uniform", x_seed=5))
    torch.manual_seed(5)
    assert torch.equal(uniform.X, torch.rand(150, 1) * 3 - 2)
    noisy = data.make(DataSpec(start=-2.0, spacing="uniform", x_seed=6, noise=0.1))
    again = data.make(DataSpec(start=-2.0, spacing="uniform", x_seed=7, noise=0.1))
    assert not torch.equal(noisy.X, again.X)
    assert torch.allclose(noisy.y - 0.7 * noisy.X, again.y - 0.7 * again.X, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in DATA_KINDS if kind != "table"])
def test_both_dtypes_and_standardising_fit_every_kind(kind: DataKind) -> None:
    for dtype in DTYPES:
        dataset = data.make(DataSpec(kind=kind, dtype=dtype, standardize=True, noise=0.01, split=SHUFFLED))
        own, seen = dataset.split("train"), dataset.inputs("train")
        assert {part.dtype for part in (*own, *seen)} == {getattr(torch, dtype)}
        for part in seen:
            assert part.double().mean(0).tolist() == pytest.approx([0.0] * part.shape[1], abs=1e-5)
            assert part.double().std(0, correction=0).tolist() == pytest.approx([1.0] * part.shape[1], abs=1e-5)
        assert dataset.scaling
        assert torch.allclose(dataset.scaling.unscale_y(seen[1]), own[1], rtol=1e-4, atol=1e-5)
        assert torch.allclose(dataset.scaling.scale_X(own[0]), seen[0], rtol=1e-4, atol=1e-5)
        plain = data.make(DataSpec(kind=kind, dtype=dtype))
        assert plain.inputs("test") is plain.split("test")


def test_the_dtype_is_that_of_every_computation() -> None:
    exact = data.make(DataSpec(dtype="float64", noise=0.5))
    torch.manual_seed(42)
    expected = torch.arange(0, 1, 0.02, dtype=torch.float64).unsqueeze(1)
    assert torch.equal(exact.X, expected)
    assert torch.equal(exact.y, 0.7 * expected + 0.3 + 0.5 * torch.randn(50, 1, dtype=torch.float64))


def test_training_sees_nothing_of_validation_and_test_rows(tmp_path: Path) -> None:
    def made(rest: tuple[str, str], order: Order) -> data.Dataset:
        split = SplitSpec(train=0.5, validation=0.25, test=0.25, order=order)
        spec = DataSpec(kind="table", file="t.csv", standardize=True, missing="impute", split=split)
        training = set(data.deal(spec, 40)["train"].tolist())
        cells = ((f"{row}.5", str(row * row)) if row in training else rest for row in range(40))
        # a value is missing in a training row and, where the rest are 'nothing', in all of the others
        lines = [f"{'' if row == min(training) else a},{b}" for row, (a, b) in enumerate(cells)]
        (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(lines))
        return data.make(spec, tmp_path)

    for order in ("sequential", "shuffled"):
        base = made(("1", "2"), order)
        assert base.scaling
        for rest in (("1e6", "-1e6"), ("", "3")):
            other = made(rest, order)
            assert other.scaling
            assert other.scaling.to_builtins() == base.scaling.to_builtins()
            for one, two in zip(base.inputs("train"), other.inputs("train"), strict=True):
                assert torch.equal(one, two)
            assert not torch.equal(base.inputs("test")[1], other.inputs("test")[1])


def test_a_constant_column_is_standardised_to_nothing_and_said() -> None:
    split = SplitSpec(train=0.5, validation=0.5, test=0)
    dataset = data.make(DataSpec(kind="sample", sample="anscombe_IV", standardize=True, split=split))
    assert data.view(dataset).scaling[0] == ColumnScale("x", 8.0, 1.0)
    assert dataset.inputs("train")[0].tolist() == [[0.0]] * 5
    assert dataset.notes == ("The same in every training row, so that nothing is learnt from it: x.",)
    # the mean of equal numbers need not be that number, in binary
    flat = data.make(DataSpec(weight=0.0, bias=0.1, standardize=True, dtype="float64"))
    assert flat.scaling
    assert (flat.scaling.y_mean, flat.scaling.y_std) == (0.1, 1.0)


def test_scaling_survives_the_largest_and_smallest_numbers() -> None:
    column = torch.tensor([[1.0], [-1.0], [3.0]], dtype=torch.float64)
    for size in (1e307, 1e-150, 1e-200, 1e-300):
        scaled = data.Scaling.fit(("x",), "y", column * size, column * size).scale_X(column * size)
        assert scaled.std(correction=0).item() == pytest.approx(1, rel=1e-9)
        assert scaled.mean().item() == pytest.approx(0, abs=1e-9)
    spec = DataSpec(weight=1e30, start=0.0, stop=1e8, step=1e7, standardize=True)
    _, y = data.make(spec).inputs("train")
    assert y.std(correction=0).item() == pytest.approx(1)


def test_rows_that_standardising_throws_out_of_the_dtype_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1e-30,1\n2e-30,2\n1e30,3\n")
    spec = DataSpec(kind="table", file="t.csv", standardize=True, split=SplitSpec(train=0.7, validation=0, test=0.3))
    with pytest.raises(WorkflowError, match="Some test rows lie so far from the training rows"):
        data.make(spec, tmp_path)
    assert data.make(msgspec.structs.replace(spec, dtype="float64"), tmp_path).scaling


def test_a_scaling_goes_into_a_file_and_comes_back() -> None:
    scaling = data.make(DataSpec(kind="plane", standardize=True)).scaling
    assert scaling
    item = json.loads(json.dumps(scaling.to_builtins()))
    back = data.Scaling.from_builtins(item)
    assert back.to_builtins() == scaling.to_builtins()
    assert back.columns() == scaling.columns()
    assert [each.name for each in back.columns()] == ["x1", "x2", "y"]


@pytest.mark.parametrize(
    "change",
    [
        {"features": []},
        {"features": ["x1"]},
        {"features": "x1"},
        {"features": [1, 2]},
        {"target": None},
        {"X_mean": [1.0]},
        {"X_mean": None},
        {"X_std": [1.0, 0.0]},
        {"X_std": [1.0, -1.0]},
        {"X_std": [1.0, float("inf")]},
        {"y_mean": "0"},
        {"y_mean": True},
        {"y_std": 0},
        {"y_std": float("nan")},
        {"y_std": 10**400},
    ],
)
def test_what_is_no_scaling_is_refused(change: dict[str, Any]) -> None:
    scaling = data.make(DataSpec(kind="plane", standardize=True)).scaling
    assert scaling
    with pytest.raises(ValueError, match="the scaling"):
        data.Scaling.from_builtins(scaling.to_builtins() | change)
    with pytest.raises(ValueError, match="the scaling"):
        data.Scaling.from_builtins(list(change))


@st.composite
def specs(draw: st.DrawFn) -> DataSpec:
    start = draw(st.floats(-1000, 1000))
    rows = draw(st.integers(1, 3000))
    step = draw(st.floats(0.001, 10))
    train = draw(st.integers(1, 100))
    validation = draw(st.integers(0, 100 - train))
    order = draw(st.sampled_from(["sequential", "shuffled"]))
    split = SplitSpec.parse(f"{train}/{validation}/{100 - train - validation}", order=order)  # type: ignore[arg-type]
    try:
        return DataSpec(start=start, stop=start + rows * step, step=step, split=split, noise=draw(st.floats(0, 2)))
    except ValueError:
        return DataSpec(
            start=start, stop=start + rows * step, step=step, split=SplitSpec(train=1, validation=0, test=0)
        )


@settings(max_examples=60, deadline=None)
@given(specs())
def test_every_row_goes_to_exactly_one_split(spec: DataSpec) -> None:
    dataset = data.make(spec)
    assert len(dataset.X) == len(dataset.y) == spec.rows
    dealt = torch.cat([dataset.indices[name] for name in SPLITS])
    assert torch.equal(dealt.sort().values, torch.arange(spec.rows))
    assert tuple(len(dataset.indices[name]) for name in SPLITS) == spec.split.counts(spec.rows)
    view = data.view(dataset)
    assert sum(split.count for split in view.splits) == view.rows == spec.rows
    assert sum(split.share for split in view.splits) == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        (DataSpec(start=1e8, stop=1e8 + 1, step=0.001), "Steps too small"),
        (DataSpec(start=0, stop=1e-300, step=1e-302), "Steps too small"),
        (DataSpec(weight=1e30, start=0, stop=1e10, step=1e9), "Values too large"),
        (DataSpec(kind="polynomial", coefficients=(0.0,) * 20 + (1.0,), stop=1e5, step=1e3), "Values too large"),
        (DataSpec(noise=1e30, weight=1e30, stop=1e9, step=1e8), "Values too large"),
    ],
)
def test_what_float32_cannot_hold_is_refused(spec: DataSpec, title: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        data.make(spec)
    assert caught.value.problem.title == title


def test_view_shows_the_first_rows_and_where_they_went() -> None:
    dataset = data.make(DataSpec(split=SHUFFLED))
    view = data.view(dataset)
    assert [row.index for row in view.head] == list(range(10))
    for row in view.head:
        assert row.index in dataset.indices[row.split].tolist()
        assert row.x == tuple(dataset.X[row.index].tolist())
        assert row.y == dataset.y[row.index].item()
    assert {row.split for row in view.head} > {"train"}
    assert [number for point in view.line for number in point] == pytest.approx([0.0, 0.3, 0.98, 0.986])
    assert view.X.shape == (50, 1)
    assert view.X.size == 200
    assert view.X.values == tuple(dataset.X[:8].flatten().tolist())


def test_a_sequential_split_is_named_extrapolation() -> None:
    assert data.view(data.make(DataSpec())).extrapolation == (
        "All 7 validation rows and all 8 test rows lie outside the training range of x (0 to 0.68): "
        "there the model extrapolates."
    )
    assert data.view(data.make(DataSpec(split=SplitSpec(train=1, validation=0, test=0)))).extrapolation == ""


def test_extrapolation_counts_only_rows_outside() -> None:
    dataset = data.make(DataSpec(split=SHUFFLED))
    text = data.view(dataset).extrapolation
    low, high = (f(dataset.split("train")[0]).item() for f in (torch.min, torch.max))
    for name in SPLITS[1:]:
        X = dataset.split(name)[0]
        outside = int((X.lt(low) | X.gt(high)).sum())
        assert (f"{outside} of {len(X)} {name} rows" in text.lower()) == (outside > 0)


def test_points_are_thinned_without_losing_an_extreme() -> None:
    dataset = data.make(DataSpec(step=1e-5, noise=1, split=SHUFFLED))
    for split in data.view(dataset).splits:
        X, y = dataset.split(split.name)
        assert 900 < len(split.points) <= 1000
        assert min(point[1] for point in split.points) == y.min().item()
        assert max(point[1] for point in split.points) == y.max().item()
        assert min(point[0] for point in split.points) == X.min().item()
        assert set(split.points) <= set(zip(X.flatten().tolist(), y.flatten().tolist(), strict=True))


def test_splits_without_rows_have_no_ranges() -> None:
    dataset = data.make(DataSpec(split=SplitSpec(train=1, validation=0, test=0)))
    train, validation, test = data.view(dataset).splits
    assert (train.count, validation.count, test.count) == (50, 0, 0)
    assert validation.x_range is None
    assert test.y_range is None
    assert test.points == ()


def test_a_dataset_moves_as_a_whole_and_splits_are_made_once() -> None:
    dataset = data.make(DataSpec())
    assert dataset.to("cpu") is dataset
    moved = dataset.to("meta")
    assert {part.device.type for name in SPLITS for part in moved.split(name)} == {"meta"}
    assert {part.device.type for name in SPLITS for part in dataset.split(name)} == {"cpu"}
    assert dataset.split("train")[0] is dataset.split("train")[0]


def test_standardised_data_are_computed_in_one_place_and_moved() -> None:
    dataset = data.make(DataSpec(standardize=True))
    assert dataset.inputs("train")[0] is dataset.inputs("train")[0]
    assert not torch.equal(dataset.inputs("train")[0], dataset.split("train")[0])
    moved = dataset.to("meta")
    assert {part.device.type for name in SPLITS for part in moved.inputs(name)} == {"meta"}
    assert moved.to("cpu") is dataset
    assert moved.to("meta") is moved


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (DataSpec(), "y = 0.7·x + 0.3"),
        (DataSpec(weight=-0.7, bias=-0.3), "y = -0.7·x - 0.3"),
        (DataSpec(weight=1.0, bias=0.0, noise=0.1), "y = x + 0.1·noise"),
        (DataSpec(weight=0.0, bias=0.0), "y = 0"),
        (DataSpec(kind="quadratic", weight=-1.0), "y = x² - x + 0.3"),
        (DataSpec(kind="polynomial"), "y = 0.3 + 0.7·x - x² + 0.5·x³"),
        (DataSpec(kind="polynomial", coefficients=(0.0,) * 12 + (-2.0,)), "y = -2·x¹²"),
        (DataSpec(kind="sine", frequency=0.5), "y = 0.7·sin(2π·0.5·x) + 0.3"),
        (DataSpec(kind="sine"), "y = 0.7·sin(2π·x) + 0.3"),
        (DataSpec(kind="step", noise=0.2), "y = (0.3 for x < 0.5, else 1) + 0.2·noise"),
        (DataSpec(kind="plane"), "y = 0.7·x1 - 0.4·x2 + 0.3"),
        (
            DataSpec(kind="plane", weights=(1.0, 2.0) * 10),
            "y = x1 + 2·x2 + x3 + 2·x4 + x5 + 2·x6 + … + 0.3",
        ),
    ],
)
def test_the_formula_is_one_line_with_the_right_signs(spec: DataSpec, text: str) -> None:
    assert data.view(data.make(spec)).formula == text


def test_a_table_is_told_by_its_file_and_columns(tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_text("area,rooms,age,floor,price\n1,2,3,4,5\n2,3,4,5,6\n")
    view = data.view(data.make(DataSpec(kind="table", file="houses.csv"), tmp_path))
    assert view.formula == "price from area, rooms, age, floor, out of houses.csv"
    assert view.features == ("area", "rooms", "age", "floor")
    assert view.head[1].x == (2.0, 3.0, 4.0, 5.0)
    assert view.X.shape == (2, 4)
    assert view.coefficients == {}
    assert data.truth(DataSpec(kind="table", file="houses.csv"), [[1.0]]) is None


def test_curves_are_drawn_with_enough_points_and_a_step_as_a_jump() -> None:
    def drawn(spec: DataSpec) -> tuple[tuple[float, float], ...]:
        return data.view(data.make(spec)).line

    assert len(drawn(DataSpec(noise=1.0))) == len(drawn(DataSpec(kind="polynomial", coefficients=(1.0, 2.0)))) == 2
    curve = drawn(DataSpec(kind="quadratic"))
    assert len(curve) == 200
    assert curve[-1] == pytest.approx((0.98, 0.98**2 + 0.7 * 0.98 + 0.3))
    assert 200 < len(drawn(DataSpec(kind="sine", frequency=20.0))) <= 1000
    assert len(drawn(DataSpec(kind="sine", frequency=1e9))) <= 1000
    assert drawn(DataSpec(kind="step", noise=0.1))[1:3] == ((0.5, 0.3), (0.5, 1.0))
    assert [y for _, y in drawn(DataSpec(kind="step", threshold=9.0))] == [0.3, 0.3]
    assert drawn(DataSpec(kind="plane")) == ()


def test_several_features_extrapolate_where_any_is_outside(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n0,0,1\n1,1,1\n0.5,0.5,1\n0.5,2,1\n")
    spec = DataSpec(kind="table", file="t.csv", split=SplitSpec(train=0.5, validation=0.5, test=0))
    assert data.view(data.make(spec, tmp_path)).extrapolation == (
        "1 of 2 validation rows lie outside the training range of one of the 2 features: there the model extrapolates."
    )


def test_threads_are_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        data.view(data.make(DataSpec()))
        with pytest.raises(WorkflowError):
            data.make(DataSpec(start=1e8, stop=1e8 + 1, step=0.001))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
