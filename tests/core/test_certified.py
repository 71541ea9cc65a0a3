"""The command arrives at figures that others have published, and says so where it does not arrive."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from workflow_core import headless

NORRIS = {"intercept": -0.262323073774029, "x": 1.00211681802045}
"""Certified by NIST: Statistical Reference Datasets, linear least squares, Norris."""
NORRIS_R2 = 0.999993745883712
ALL_ROWS = ("--standardize", "--split", "100/0/0", "--device", "cpu")


def finished(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The last line of a training with these arguments."""
    assert headless.main(["train", "--json", *arguments]) == 0
    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    return line


def digits(found: float, certified: float) -> float:
    """How many significant decimal digits the two have in common."""
    return math.inf if found == certified else -math.log10(abs(found / certified - 1))


@pytest.mark.parametrize(("dtype", "correct"), [("float32", 4), ("float64", 12)])
@pytest.mark.parametrize("model", ["parameter", "linear"])
def test_norris_by_gradient_descent(capsys: pytest.CaptureFixture[str], model: str, dtype: str, correct: int) -> None:
    arguments = ("--sample", "norris", "--model", model, "--dtype", dtype, "--lr", "0.7", "--epochs", "500")
    line = finished(capsys, *arguments, *ALL_ROWS)
    for name, certified in NORRIS.items():
        assert digits(line["coefficients"][name], certified) >= correct
        assert digits(line["closed_form"][name], certified) >= 12
    assert digits(1 - line["train"]["r2"], 1 - NORRIS_R2) >= (3 if dtype == "float32" else 9)
    assert line["convergence"].startswith("Converged")
    # the mean of squares of a standardised column is 1, and its mean 0: the Hessian is twice the identity
    assert line["stable_learning_rate"] == pytest.approx(1, rel=1e-6)


def test_norris_in_its_own_units_diverges_and_the_advice_is_to_standardise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert headless.main(["train", "--sample", "norris", "--model", "linear", "--split", "100/0/0"]) == 1
    said = capsys.readouterr().err
    assert "below 3.4" in said
    assert "--standardize" in said


@pytest.mark.parametrize("number", ["I", "II", "III", "IV"])
def test_anscombes_four_are_the_same_line(capsys: pytest.CaptureFixture[str], number: str) -> None:
    arguments = ("--sample", f"anscombe_{number}", "--model", "linear", "--lr", "0.5", "--epochs", "50")
    line = finished(capsys, *arguments, *ALL_ROWS)
    assert line["coefficients"] == pytest.approx({"intercept": 3.0, "x": 0.5}, abs=5e-3)
    assert line["train"]["r2"] == pytest.approx(0.6665, abs=5e-4)
    assert line["convergence"].startswith("Converged")


def test_diabetes_by_body_mass_index(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--sample", "diabetes_bmi", "--model", "linear", "--lr", "0.5", "--epochs", "50")
    line = finished(capsys, *arguments, *ALL_ROWS)
    for form in ("coefficients", "closed_form"):
        assert line[form] == pytest.approx({"intercept": -117.7734, "bmi": 10.2331}, abs=1e-4)
    assert line["train"]["r2"] == pytest.approx(0.3439, abs=5e-5)


def test_a_badly_conditioned_polynomial_is_said_not_to_have_converged(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--sample", "norris", "--model", "polynomial", "--degree", "8", "--dtype", "float64")
    line = finished(capsys, *arguments, "--lr", "0.0005", "--epochs", "1000", *ALL_ROWS)
    assert line["train"]["r2"] > 0.9, "the curve looks good"
    said = line["convergence"]
    assert said.startswith("Not converged: ")
    assert "away from the closed form" in said
    assert "badly conditioned" in said
    farthest = said.split()[2]
    assert not math.isclose(line["coefficients"][farthest], line["closed_form"][farthest], rel_tol=0.1)


def test_the_same_problem_converges_where_it_is_well_conditioned(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--formula", "quadratic", "--start", "-1", "--model", "polynomial", "--dtype", "float64")
    line = finished(capsys, *arguments, "--lr", "0.3", "--epochs", "300", *ALL_ROWS)
    assert line["coefficients"] == pytest.approx({"intercept": 0.3, "x": 0.7, "x^2": 1.0}, abs=1e-6)
    assert line["convergence"].startswith("Converged")
