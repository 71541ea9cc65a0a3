"""The samples are the published data: certified digits, sums and famous lines come out of them."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest
import torch

from workflow_core import samples
from workflow_core.specs import SAMPLES, DataSpec, Sample, SplitSpec
from workflow_core.steps import data

ALL_ROWS = SplitSpec(train=1, validation=0, test=0)


def least_squares(name: Sample) -> tuple[float, float, float]:
    """Intercept, slope and R² of the line through all rows, in float64, from deviations from the means."""
    dataset = data.make(DataSpec(kind="sample", sample=name, split=ALL_ROWS, dtype="float64"))
    x, y = (part.flatten() for part in dataset.split("train"))
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy / (dx @ dx)).item()
    return (y.mean() - slope * x.mean()).item(), slope, (slope**2 * (dx @ dx) / (dy @ dy)).item()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_described_and_has_its_rows(name: Sample) -> None:
    info = samples.INFO[name]
    header, *lines = csv.reader(samples.text(name).splitlines())
    assert header == [*info.features, info.target]
    assert len(lines) == len(samples.rows(name)) == info.rows
    assert samples.rows(name)[0] == [float(cell) for cell in lines[0]]
    assert info.title
    assert info.source.endswith(".")
    view = data.view(data.make(DataSpec(kind="sample", sample=name)))
    assert view.formula == info.source
    assert (view.features, view.target, view.rows) == (info.features, info.target, info.rows)
    assert view.line == ()
    assert view.coefficients == {}


def test_norris_gives_its_certified_coefficients() -> None:
    intercept, slope, r2 = least_squares("norris")
    certified = samples.INFO["norris"].certified
    assert intercept == pytest.approx(certified["intercept"], rel=1e-11)
    assert slope == pytest.approx(certified["x"], rel=1e-13)
    assert r2 == pytest.approx(0.999993745883712, rel=1e-13)


def test_anscombes_four_share_one_line() -> None:
    for name in SAMPLES:
        if name.startswith("anscombe"):
            assert least_squares(name) == pytest.approx((3.0, 0.5, 0.6665), abs=3e-3)


def test_diabetes_gives_its_published_line() -> None:
    assert least_squares("diabetes_bmi") == pytest.approx((-117.7734, 10.2331, 0.3439), abs=5e-5)


def test_the_samples_are_told_of_without_torch() -> None:
    code = "import sys, workflow_core.samples as s; s.rows('norris'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sample_is_standardised_from_what_the_file_says_and_not_from_its_rounding() -> None:
    dataset = data.make(DataSpec(kind="sample", sample="norris", standardize=True))
    rows = torch.tensor(samples.rows("norris"), dtype=torch.float64)
    train = rows[dataset.indices["train"]]
    expected = (train - train.mean(0)) / train.std(0, correction=0)
    X, y = dataset.inputs("train")
    assert torch.equal(torch.cat([X, y], 1), expected.float())
