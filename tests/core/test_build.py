"""The model is the course's, drawn with its own seed, and asking it for numbers changes nothing about it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from workflow_core.specs import DataSpec, InitSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data

COURSE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "course_runs.json").read_text())


def test_the_default_model_is_the_courses() -> None:
    reference = COURSE["02"]
    model = build.build(ModelSpec())
    assert list(model.state_dict()) == reference["state_dict_keys"]
    assert list(build.scalars(model).values()) == pytest.approx(reference["init"], rel=1e-5)
    assert sum(parameter.numel() for parameter in model.parameters()) == reference["n_params"]
    assert repr(model) == reference["repr"]
    assert build.predict(model, [0, 0.5, 1]) == pytest.approx(reference["pred_at_0_0.5_1"], abs=5e-5)


@pytest.mark.parametrize(("seed", "expected"), COURSE["init_by_seed"].items())
def test_every_seed_draws_weight_then_bias(seed: str, expected: list[float]) -> None:
    model = build.build(ModelSpec(init=InitSpec(seed=int(seed))))
    assert list(build.scalars(model).values()) == pytest.approx(expected, rel=1e-5)


def test_given_values_replace_draws_without_moving_the_others() -> None:
    drawn = build.scalars(build.build(ModelSpec()))
    model = build.build(ModelSpec(init=InitSpec(values={"weight": -2.5})))
    assert build.scalars(model) == {"weight": -2.5, "bias": drawn["bias"]}
    assert all(parameter.requires_grad for parameter in model.parameters())
    sequence = COURSE["randn1_sequence_seed42"]
    assert torch.randn(1).item() == pytest.approx(sequence[2], rel=1e-5)


class Moody(nn.Module):
    """Answers differently in train mode; one part of it is kept in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5).eval()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        return x * self.scale * (100 if self.training else 1)


def test_predict_is_in_eval_mode_and_restores_every_modules_own() -> None:
    model = Moody()
    assert build.predict(model, [1.0, -2.0]) == [1.0, -2.0]
    assert model.training
    assert not model.inner.training


def test_predict_takes_any_number_of_any_size() -> None:
    model = build.build(ModelSpec(init=InitSpec(values={"weight": 2, "bias": 1})))
    assert build.predict(model, []) == []
    assert build.predict(model, [1e300, -1e300]) == [math.inf, -math.inf]
    assert math.isnan(build.predict(model, [math.nan])[0])


def test_line_spans_the_range_of_the_data() -> None:
    dataset = data.make(DataSpec(start=-3, stop=5, step=1))
    model = build.build(ModelSpec(init=InitSpec(values={"weight": 2, "bias": 1})))
    assert build.line(model, dataset) == ((-3.0, -5.0), (4.0, 9.0))
    assert [x for x, _ in build.line(model, dataset, points=8)] == [-3, -2, -1, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("loss", "expected"), [("mse", 0.09224279224872589), ("l1", 0.29471588134765625)])
def test_view_shows_the_untrained_model(loss: Any, expected: float) -> None:
    view = build.view(build.build(ModelSpec()), ModelSpec(), data.make(DataSpec()), TrainSpec(loss=loss))
    assert view.untrained_loss == pytest.approx(expected, rel=1e-5)
    assert (view.class_name, view.count, view.size) == ("LinearRegressionModel", 2, 8)
    weight, bias = view.parameters
    assert (weight.name, weight.shape, weight.requires_grad) == ("weight", (1,), True)
    assert bias.values == pytest.approx([0.12880940735340118], rel=1e-5)
    assert len(view.line) == 2


def test_view_without_data_has_no_line_and_no_loss() -> None:
    view = build.view(build.build(ModelSpec()), ModelSpec(), None, TrainSpec())
    assert view.line == ()
    assert view.untrained_loss is None
