"""What a training says is valid JSON or calm lines, whatever numbers and names it has to say."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from workflow_core.report import Fit, JsonReport, PlainReport, Result, Start, ascii_formula, prediction_line
from workflow_core.specs import SplitSpec, TrainSpec, WorkflowSpec
from workflow_core.steps.train import EpochRecord
from workflow_core.views import Metrics

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
START = Start(
    spec=WorkflowSpec(),
    device="cpu",
    torch="2.0",
    rows={"train": 35, "validation": 7, "test": 8},
    source="y = 0.7·x² + 0.3",
    notes=(),
    scaled=False,
    model="Line",
    count=2,
    tracked={"weight": 0.5, "bias": 0.25},
    parameters={"weight": 0.5, "bias": 0.25},
)
RECORD = EpochRecord(99, 0.1, 0.2, 0.01, 1.5, {"weight": 0.5, "bias": 0.25})
METRICS = Metrics(count=35, mse=0.25, mae=0.5, rmse=0.5, r2=None)
FIT = Fit({"intercept": 0.3, "x": 0.7}, {"intercept": 0.25, "x": 0.5}, {"intercept": 0.31, "x": 0.71}, "Not converged.")
RESULT = Result(
    last=RECORD,
    elapsed=0.5,
    reason="epochs",
    best=(99, 0.2),
    parameters={"weight": [[0.5]], "bias": math.nan},
    metrics={"train": METRICS, "validation": None, "test": None},
    fit=FIT,
    stable_learning_rate=0.8,
    path=None,
)


def changed(item: Any, **changes: Any) -> Any:
    return type(item)(**{**vars(item), **changes})


def said(capsys: pytest.CaptureFixture[str], start: Start = START, result: Result = RESULT) -> list[str]:
    """The lines about a training with one epoch shown."""
    report = PlainReport(None)
    report.started(start)
    if result.last is not None:
        report.last(result.last)
    report.finished(result)
    return capsys.readouterr().out.splitlines()


def words(text: str) -> list[str]:
    return text.split()


def table(lines: list[str], first: str) -> list[list[str]]:
    """The rows of the table whose heading begins with `first`, split where columns are."""
    at = next(index for index, line in enumerate(lines) if line.startswith(first))
    rows = []
    for line in lines[at:]:
        if not line or line.endswith("."):
            break
        rows.append([cell for cell in line.split("  ") if cell.strip()])
    return [[cell.strip() for cell in row] for row in rows]


def finished(capsys: pytest.CaptureFixture[str], result: Result) -> dict[str, Any]:
    JsonReport(None).finished(result)
    line: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return line


def test_the_finished_line_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert finished(capsys, changed(RESULT, path="/m.pt")) == {
        "event": "finished",
        "reason": "epochs",
        "epochs": 100,
        "batch": 0,
        "batches": 1,
        "elapsed": 0.5,
        "epochs_per_second": 200.0,
        "train_loss": 0.1,
        "val_loss": 0.2,
        "best_epoch": 99,
        "best_loss": 0.2,
        "stable_learning_rate": 0.8,
        "train": {"mse": 0.25, "mae": 0.5, "rmse": 0.5, "r2": None},
        "validation": {"mse": None, "mae": None, "rmse": None, "r2": None},
        "test": {"mse": None, "mae": None, "rmse": None, "r2": None},
        "parameters": {"weight": [[0.5]], "bias": None},
        "coefficients": FIT.learnt,
        "closed_form": FIT.closed_form,
        "convergence": "Not converged.",
        "path": "/m.pt",
    }


def test_of_a_model_that_is_not_linear_no_coefficients_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    line = finished(capsys, changed(RESULT, fit=None, best=None, parameters=None))
    assert not {"coefficients", "closed_form", "convergence"} & set(line)
    assert (line["parameters"], line["best_epoch"]) == (None, None)
    assert not any(text.startswith("coefficient") for text in said(capsys, result=changed(RESULT, fit=None)))


def test_without_a_single_answer_the_closed_form_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    fit = changed(FIT, closed_form={}, true={})
    assert finished(capsys, changed(RESULT, fit=fit))["closed_form"] is None
    assert table(said(capsys, result=changed(RESULT, fit=fit)), "coefficient") == [
        ["coefficient", "learnt"],
        ["intercept", "0.2500000"],
        ["x", "0.5000000"],
    ]


def test_coefficients_stand_side_by_side_with_as_many_digits_as_the_dtype_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit = changed(FIT, learnt={**FIT.learnt, "x^2": -0.125}, closed_form={**FIT.closed_form, "x^2": 0.0})
    assert table(said(capsys, result=changed(RESULT, fit=fit)), "coefficient") == [
        ["coefficient", "true", "learnt", "closed form"],
        ["intercept", "0.3000000", "0.2500000", "0.3100000"],
        ["x", "0.7000000", "0.5000000", "0.7100000"],
        ["x^2", "0.000000", "-0.1250000", "0.000000"],
    ]
    double = replace(START.spec, data=replace(START.spec.data, dtype="float64"))
    assert "0.3000000000000" in "\n".join(said(capsys, changed(START, spec=double)))


def test_a_coefficient_that_the_model_lacks_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fit = changed(FIT, true={**FIT.true, "x^2": 2.0})
    assert table(said(capsys, result=changed(RESULT, fit=fit)), "coefficient")[-1] == ["x^2", "2.000000", "-", "-"]


def test_of_many_coefficients_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"x{number}": 1.0 for number in range(50)}
    lines = said(capsys, result=changed(RESULT, fit=changed(FIT, true={}, learnt=many, closed_form=many)))
    assert len(table(lines, "coefficient")) == 22
    assert "and 30 more" in lines


def test_the_columns_of_plain_lines_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    report = PlainReport(1)
    report.started(START)
    capsys.readouterr()
    for epoch, value in ((0, 1.0), (12, -0.00012345), (34567, 1.5e-30), (9, math.nan)):
        report.last(EpochRecord(epoch, abs(value), None, 0.1, 1.0, {"weight": value, "bias": value}))
    lines = capsys.readouterr().out.splitlines()
    assert len({(line.index("val"), line.index("weight"), line.index("bias")) for line in lines}) == 1


def test_an_epoch_tells_its_learning_rate_where_a_scheduler_changes_it(capsys: pytest.CaptureFixture[str]) -> None:
    plain = next(line for line in said(capsys) if line.startswith("epoch"))
    assert plain.split() == words("epoch 99 train 0.1000 val 0.2000 weight 0.5000 bias 0.2500")
    spec = replace(START.spec, train=TrainSpec(scheduler="cosine"))
    scheduled = next(line for line in said(capsys, changed(START, spec=spec)) if line.startswith("epoch"))
    assert scheduled.split() == words("epoch 99 train 0.1000 val 0.2000 lr 0.01000 weight 0.5000 bias 0.2500")


def test_a_large_models_epochs_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    tracked = {"layers.0.weight norm": 1.0, "layers.0.weight mean": 0.0}
    start = changed(START, count=300, tracked=tracked)
    result = changed(RESULT, last=replace(RECORD, parameters=tracked))
    epoch = next(line for line in said(capsys, start, result) if line.startswith("epoch"))
    assert epoch.split() == words("epoch 99 train 0.1000 val 0.2000 gradient 1.500")


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        (RESULT, ["100 epochs in 0.5 s (200 a second)"]),
        (
            changed(RESULT, reason="interrupted", batch=60, batches=120),
            ["interrupted, 100 epochs and 60 of 120 batches in 0.5 s (201 a second)"],
        ),
        (
            changed(RESULT, reason="interrupted", last=None, best=None, batch=1, batches=4),
            ["interrupted, 0 epochs and 1 of 4 batches in 0.5 s (0.5 a second)"],
        ),
        (changed(RESULT, reason="interrupted"), ["interrupted, 100 epochs"]),
        (
            changed(RESULT, reason="early stop", best=(80, 0.15)),
            ["early stop, 100 epochs", "validation loss was least at epoch 80, whose weights the model has: 0.1500"],
        ),
        (changed(RESULT, best=(80, 0.15)), ["the validation loss was least at epoch 80: 0.1500"]),
        (
            changed(RESULT, best=(80, 0.05), last=replace(RECORD, val_loss=None)),
            ["the training loss was least at epoch 80: 0.05000"],
        ),
        (
            changed(RESULT, reason="diverged at epoch 99"),
            ["diverged at epoch 99, 100 epochs", "of the weights from before that epoch"],
        ),
    ],
)
def test_why_it_ended_is_said(capsys: pytest.CaptureFixture[str], result: Result, parts: list[str]) -> None:
    text = "\n".join(said(capsys, result=result))
    assert all(part in text for part in parts)


def test_a_best_epoch_that_was_no_better_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any("was least" in line for line in said(capsys, result=changed(RESULT, best=(80, 0.1999))))


def test_the_settings_are_told_as_far_as_they_matter(capsys: pytest.CaptureFixture[str]) -> None:
    train = TrainSpec(
        momentum=0.9,
        nesterov=True,
        weight_decay=0.1,
        scheduler="cosine",
        batch_size=32,
        clip=1,
        deterministic=True,
        early_stop=20,
    )
    data = replace(START.spec.data, split=SplitSpec(order="shuffled", seed=7))
    start = changed(START, spec=WorkflowSpec(data=data, train=train), notes=("3 rows were dropped.",), scaled=True)
    text = "\n".join(said(capsys, start))
    assert "50 rows, y = 0.7*x^2 + 0.3, split 35/7/8 shuffled with seed 7\n          3 rows were dropped." in text
    assert "standardised" in text
    assert (
        "mse, sgd (momentum 0.9, nesterov, weight decay 0.1), lr 0.01 (cosine), batches of 32, gradients clipped at 1, "
        "repeatable, 100 epochs, early stop after 20 without progress, cpu" in text
    )
    adam = changed(START, spec=WorkflowSpec(train=TrainSpec(optimizer="adam", momentum=0.9)))
    assert "mse, adam, lr 0.01, 100 epochs, cpu" in "\n".join(said(capsys, adam))
    broken = TrainSpec(loop=("forward", "loss", "backward", "step"), optimizer_over="another")
    text = "\n".join(said(capsys, changed(START, spec=WorkflowSpec(train=broken))))
    assert "lr 0.01, an experiment (forward loss backward step, optimizer over another model), 100 epochs" in text


def test_hostile_names_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31mred\n"
    start = changed(START, tracked={name: 1.0}, count=1, notes=(name,), model=name)
    values = {name: 1.0}
    result = changed(RESULT, fit=Fit(values, values, values, ""), last=replace(RECORD, parameters=values), path=name)
    lines = said(capsys, start, result)
    assert not any("\x1b" in line for line in lines)
    assert not any(line.startswith("red") for line in lines)
    assert list(finished(capsys, result)["coefficients"]) == [name]


@given(st.recursive(st.floats() | st.none() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_a_parameter_holds_the_line_is_json(value: Any) -> None:
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflow_core.report.say", printed.append)
        JsonReport(None).finished(changed(RESULT, parameters={"weight": value}))
    json.loads(printed[0], parse_constant=pytest.fail)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.lists(FLOATS, min_size=1, max_size=4))
def test_every_prediction_of_a_float32_reads_back_to_the_last_bit(y_pred: float, x: list[float]) -> None:
    features, figure = prediction_line(x, y_pred, "float32", json=False).split()
    assert [*map(float, features.split(","))] == x
    assert struct.pack("f", float(figure)) == struct.pack("f", y_pred)
    line = json.loads(prediction_line(x, y_pred, "float32", json=True))
    assert line == {"x": x[0] if len(x) == 1 else x, "y_pred": y_pred}


@given(st.floats(allow_nan=False))
def test_every_prediction_of_a_float64_reads_back_to_the_last_bit(y_pred: float) -> None:
    assert float(prediction_line([1.0], y_pred, "float64", json=False).split()[1]) == y_pred


def test_a_formula_is_ascii() -> None:
    assert ascii_formula("y = 0.5·x¹² − sin(2π·3·x) + …") == "y = 0.5*x^12 - sin(2*pi*3*x) + ..."
