"""Metrics are those of the textbook, also where they hardly exist."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from workflow_core.engine import results
from workflow_core.engine.subject import Subject
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, SplitSpec, TrainSpec
from workflow_core.steps import build, data, evaluate


def model(weight: float, bias: float) -> torch.nn.Module:
    return build.build(ModelSpec(init=InitSpec(values={"weight": weight, "bias": bias})))


def test_metrics_by_hand() -> None:
    """y = 2x for x = 0, 1, 2, 3 against y_pred = x + 1: errors 1, 0, -1, -2; the mean of y is 3, its spread 20."""
    dataset = data.make(DataSpec(weight=2, bias=0, stop=4, step=1, split=SplitSpec(train=1, validation=0, test=0)))
    metrics = evaluate.evaluate(model(1, 1), dataset)
    assert metrics["validation"] is metrics["test"] is None
    train = metrics["train"]
    assert train is not None
    assert (train.count, train.mse, train.mae, train.rmse) == (4, 1.5, 1.0, math.sqrt(1.5))
    assert train.r2 == pytest.approx(1 - 6 / 20)


def test_r2_does_not_exist_for_constant_y_or_one_row() -> None:
    constant = data.make(DataSpec(weight=0, bias=0.1, stop=3, step=1, split=SplitSpec.parse("100/0/0")))
    single = data.make(DataSpec(stop=3, step=1, split=SplitSpec.parse("34/33/33")))
    for metrics in (evaluate.evaluate(model(1, 1), constant), evaluate.evaluate(model(1, 1), single)):
        assert metrics["train"] is not None
        assert metrics["train"].r2 is None
        assert metrics["train"].mse > 0


def test_a_perfect_model_has_no_error() -> None:
    dataset = data.make(DataSpec())
    for metrics in evaluate.evaluate(model(0.7, 0.3), dataset).values():
        assert metrics is not None
        assert (metrics.mse, metrics.mae, metrics.rmse) == pytest.approx((0, 0, 0), abs=1e-7)
        assert metrics.r2 == pytest.approx(1)


def test_errors_too_large_for_float32_when_squared_are_still_right() -> None:
    metrics = evaluate.evaluate(model(0, 1e30), data.make(DataSpec()))["test"]
    assert metrics is not None
    assert metrics.mse == pytest.approx(1e60, rel=1e-5)


def test_a_diverged_model_has_nan_metrics() -> None:
    broken = model(1, 1)
    with torch.no_grad():
        broken.get_parameter("weight").fill_(math.nan)
    metrics = evaluate.evaluate(broken, data.make(DataSpec()))["test"]
    assert metrics is not None
    assert math.isnan(metrics.mse)
    assert metrics.r2 is not None
    assert math.isnan(metrics.r2)


def test_predictions_are_at_most_so_many_from_first_to_last() -> None:
    dataset = data.make(DataSpec(step=0.0005))
    rows = evaluate.predictions(model(2, 1), dataset, limit=50)
    for name, found in rows.items():
        X, y = (part.flatten().tolist() for part in dataset.split(name))
        assert len(found) == 50
        assert (found[0].x, found[0].y, found[-1].x, found[-1].y) == ((X[0],), y[0], (X[-1],), y[-1])
        for row in found:
            assert row.y_pred == pytest.approx(2 * row.x[0] + 1)
    everything = evaluate.predictions(model(2, 1), dataset, limit=10_000)["test"]
    assert [row.x[0] for row in everything] == dataset.split("test")[0].flatten().tolist()


def test_predictions_of_a_split_without_rows_are_none() -> None:
    dataset = data.make(DataSpec(split=SplitSpec.parse("100/0/0")))
    assert evaluate.predictions(model(1, 1), dataset)["test"] == ()


def test_evaluating_leaves_the_mode_alone() -> None:
    fresh = model(1, 1)
    evaluate.evaluate(fresh, data.make(DataSpec()))
    assert fresh.training
    evaluate.evaluate(fresh.eval(), data.make(DataSpec()))
    assert not fresh.training


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_metrics_and_predictions_of_standardised_data_are_in_the_users_own_units(dtype: Any, noise: float) -> None:
    spec = DataSpec(kind="plane", weights=(30.0, -20.0), bias=400.0, noise=noise, standardize=True, dtype=dtype)
    dataset = data.make(spec)
    fitted = build.build(ModelSpec(kind="linear"), 2, dtype)
    found, rows = evaluate.evaluate(fitted, dataset), evaluate.predictions(fitted, dataset)
    for name, metrics in found.items():
        X, y = (part.double() for part in dataset.split(name))
        y_pred = torch.tensor(build.predict(fitted, X, dataset.scaling), dtype=torch.float64).unsqueeze(1)
        assert metrics is not None
        assert metrics.mse == pytest.approx((y_pred - y).square().mean().item(), rel=1e-5)
        assert metrics.mae == pytest.approx((y_pred - y).abs().mean().item(), rel=1e-5)
        assert metrics.r2 == pytest.approx(1 - ((y_pred - y).square().sum() / (y - y.mean()).square().sum()).item())
        assert [row.x for row in rows[name]] == [tuple(x) for x in X.tolist()]
        assert [row.y_pred for row in rows[name]] == pytest.approx(y_pred.flatten().tolist(), rel=1e-5)


def test_standardised_predictions_are_measured_against_y_as_it_was_read_not_as_float32_rounds_it() -> None:
    """float32 holds numbers about 1e9 to the nearest 64; the model never saw them so."""
    spec = DataSpec(kind="table", file="any.csv", standardize=True, split=SplitSpec.parse("100/0/0"))
    x = torch.linspace(0, 1, 50, dtype=torch.float64).unsqueeze(1)
    y = 1e9 + x
    for X, names in ((x, ("a",)), (torch.cat([x, x.square()], 1), ("a", "b"))):
        plain = data.from_columns(spec, X, y, names, "y")
        dataset = replace(plain, scaling=data.Scaling.fit(names, "y", X, y))
        fitted = build.build(ModelSpec(kind="linear", init=InitSpec(kind="zeros")), len(names))
        with torch.no_grad():
            fitted.get_parameter("linear.weight")[0, 0] = 1.0
        metrics = evaluate.evaluate(fitted, dataset)["train"]
        assert metrics is not None
        assert metrics.mse < 1e-10
        assert metrics.r2 == pytest.approx(1)
        rows = evaluate.predictions(fitted, dataset)["train"]
        assert [row.y for row in rows] == y.flatten().tolist()
        assert [seen for seen, _ in build.pairs(fitted, dataset)] in ([], y.flatten().tolist())
        # without standardising, the rounded y is what the model learns from, and what Train's loss is about
        assert plain.truth("train").tolist() == plain.split("train")[1].double().tolist()


def test_the_verdict_goes_by_the_rate_that_was_set_by_hand() -> None:
    """The settings' 0.9 is above the largest stable rate, 0.8929; the run has left it."""
    subject = Subject(model(0.5, 0.3), ModelSpec(), data.make(DataSpec()), TrainSpec(learning_rate=0.9), run=1, epoch=9)
    assert "0.9, is above the largest stable one, 0.8929" in results.evaluation(subject).convergence
    lowered = replace(subject, lr_changes=((3, 2.0), (5, 0.5)))
    assert results.evaluation(lowered).convergence.endswith("More epochs would bring it nearer.")
