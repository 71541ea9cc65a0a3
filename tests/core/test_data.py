"""The data are the course's, every random act has its own seed, and every row goes to exactly one split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_core.errors import WorkflowError
from workflow_core.specs import SPLITS, DataSpec, SplitSpec
from workflow_core.steps import data

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
