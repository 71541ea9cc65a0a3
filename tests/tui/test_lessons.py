"""What the lessons teach must be true: every figure in them comes from the reference runs or the defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from workflow_core.protocol import StepName
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_tui.lessons import lesson

DATA = Path(__file__).parents[1] / "data"
STEPS: tuple[StepName, ...] = get_args(StepName)
MOTTOS = (
    "If in doubt, run the code!",
    "Experiment, experiment, experiment!",
    "Visualize, visualize, visualize!",
)


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / name).read_text())
    return document


def figures() -> dict[StepName, list[str]]:
    """The phrases with figures that each lesson must hold, made from the specs and the reference runs."""
    runs, more = read("course_runs.json"), read("experiments.json")
    data, rows = DataSpec(), DataSpec().rows
    train, validation, test = data.split.counts(rows)
    shares = [f"{100 * count / rows:.0f}%" for count in (train, validation, test)]
    default, step, build = runs["04"], runs["03_one_step"], runs["02"]
    (weight, bias), (start_weight, start_bias) = default["final"], build["init"]
    by_rate = {run["lr"]: run for run in runs["05_lr_sweep_fair"]}
    rates = ", ".join(f"{by_rate[rate]['test']:.4f} at {rate}" for rate in (0.001, 0.01, 0.1))
    other, forgotten = runs["init_by_seed"]["0"], more["break:no_zero_grad"]
    return {
        "data": [
            f"{rows} points on the line y = {data.weight}·X + {data.bias}",
            f"{data.split.text()} of {rows} rows is {train}, {validation} and {test} rows, "
            f"in truth {shares[0]}, {shares[1]} and {shares[2]}",
            f"train ends at x = {runs['split_ranges']['train'][1]}",
            "Set the noise to 0.05",
        ],
        "build": [
            f"With seed {ModelSpec().init.seed} they start at {start_weight:.4f} and {start_bias:.4f}",
            f"its train MSE is {step['loss']:.4f}",
            f"Change the init seed to 0. The line now starts with weight {other[0]:.4f} and bias {other[1]:.4f}",
            "Put 42 back",
        ],
        "train": [
            f"named from 0: the last of {TrainSpec().epochs} epochs is epoch {TrainSpec().epochs - 1}",
            f"after {TrainSpec().epochs} epochs at rate {TrainSpec().learning_rate}, "
            f"train MSE is {default['last_train']:.4f} and validation MSE {default['last_val']:.4f}",
            f"weight is {weight:.4f} on its way to {data.weight}, "
            f"bias has overshot to {bias:.4f} and will come back to {data.bias}",
            f"Learning rate 0.1. Test MSE after {TrainSpec().epochs} epochs: {rates}",
            f"Learning rate 0.9. Above {more['hessian_train35']['lr_max']:.4f} the steps grow",
            f"after {TrainSpec().epochs} epochs weight is {forgotten['w']:.4f}, train MSE {forgotten['trainN']:.4f}",
        ],
        "evaluate": [
            f"MSE is {default['test']:.4f} on test and {default['last_val']:.4f} on validation",
            "R² is 1 for perfect predictions, 0 for a model no better than the mean of y, and "
            "below 0 for one that is worse, as here on test",
            f"Predict x = 0.5. The model says {weight * 0.5 + bias:.4f}, "
            f"the true line {data.weight * 0.5 + data.bias:.4g}",
        ],
        "save": ["tensors have shape [1] and take 4 bytes each"],
        "load": [],
    }


def text(step: StepName) -> str:
    return " ".join(lesson(step).split())


@pytest.mark.parametrize("step", STEPS)
def test_every_figure_is_the_reference_runs(step: StepName) -> None:
    left = text(step)
    for phrase in figures()[step]:
        assert phrase in left
        left = left.replace(phrase, "")
    left = re.sub(r"`[^`]*`", "", left)  # code, such as torch.randn(1)
    assert not re.search(r"\d", left), "a figure that no reference vouches for"


def test_claims_about_the_runs_hold() -> None:
    runs, more = read("course_runs.json"), read("experiments.json")
    losses = [val for _, val in runs["04"]["hist"].values()]
    assert losses == sorted(losses, reverse=True), "validation loss never turns upwards"
    assert runs["04"]["last_val"] > runs["04"]["last_train"], "validation is higher than training"
    assert runs["04"]["test"] > runs["04"]["last_val"], "test lies farther out"
    assert runs["04"]["final"][1] > DataSpec().bias > more["lr=0.01 x5000"]["b"] - 0.01, "bias overshoots, then returns"
    assert more["lr=0.9"]["trainN"] > more["lr=0.9"]["train0"], "0.9 diverges"
    assert more["lr=0.85"]["trainN"] < more["lr=0.85"]["train0"], "0.85 does not"
    X = [0.84 + 0.02 * row for row in range(8)]
    y = [0.7 * x + 0.3 for x in X]
    variance = sum((value - sum(y) / len(y)) ** 2 for value in y) / len(y)
    assert 1 - runs["04"]["test"] / variance < 0, "R² on test is below 0"
    assert runs["02"]["repr"] == "LinearRegressionModel()"


@pytest.mark.parametrize("step", STEPS)
def test_a_lesson_is_short_plain_and_fits_a_narrow_column(step: StepName) -> None:
    markdown = lesson(step)
    assert markdown.startswith(f"# {step.capitalize()}\n")
    assert 100 <= len(markdown.split()) <= 230
    assert any(motto in markdown for motto in MOTTOS)
    assert markdown.partition("**Try**")[2].count("\n- ") == 2
    assert max(len(word) for word in markdown.split()) <= 30, "a word must fit the width it is shown in"
    assert all(cell_len(word) == len(word) for word in markdown.split()), "every character is one cell wide"
    plain = {"heading", "paragraph", "bullet_list", "list_item", "inline"}
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in MarkdownIt().parse(markdown)} <= plain


def test_the_lessons_use_every_motto() -> None:
    whole = "\n".join(lesson(step) for step in STEPS)
    for motto in MOTTOS:
        assert motto in whole
