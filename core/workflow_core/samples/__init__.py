"""Small data sets inside the package, each with where it comes from: something true to learn on before one's own table.

Torch is not needed here, so that whatever only wants to name or print a sample need not load it.
"""

from __future__ import annotations

import csv
from importlib import resources

import msgspec

from workflow_core.specs import Sample

_NIST = "NIST Statistical Reference Datasets (StRD), linear least squares, Norris; public domain of the US government."
_ANSCOMBE = "F. J. Anscombe, Graphs in Statistical Analysis, The American Statistician 27 (1973), pages 17 to 21"
_DIABETES = (
    "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of Statistics 32 (2004), "
    "pages 407 to 499: body mass index and disease progression after one year of 442 patients."
)


class SampleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a sample is: a `title` of a few words, its `source` in one sentence, and its columns.

    `certified` are the coefficients of the least-squares line over all rows, as published, in the form
    {"intercept": ..., "x": ...}; empty where nobody certifies any.
    """

    name: Sample
    title: str
    source: str
    features: tuple[str, ...]
    target: str
    rows: int
    certified: dict[str, float] = {}


def _anscombe(name: Sample, number: str, about: str) -> SampleInfo:
    return SampleInfo(
        name=name,
        title=f"Anscombe {number}",
        source=f"{_ANSCOMBE}: {about}",
        features=("x",),
        target="y",
        rows=11,
    )


INFO: dict[Sample, SampleInfo] = {
    "norris": SampleInfo(
        name="norris",
        title="NIST Norris",
        source=f"{_NIST} Calibration of ozone monitors.",
        features=("x",),
        target="y",
        rows=36,
        certified={"intercept": -0.262323073774029, "x": 1.00211681802045},
    ),
    "anscombe_I": _anscombe("anscombe_I", "I", "a line with noise."),
    "anscombe_II": _anscombe("anscombe_II", "II", "a curve that a line does not fit."),
    "anscombe_III": _anscombe("anscombe_III", "III", "a line and one outlier."),
    "anscombe_IV": _anscombe("anscombe_IV", "IV", "one single row decides the line."),
    "diabetes_bmi": SampleInfo(
        name="diabetes_bmi",
        title="Diabetes, BMI",
        source=_DIABETES,
        features=("bmi",),
        target="progression",
        rows=442,
    ),
}
"""Every sample by the name that a DataSpec gives it."""


def text(name: Sample) -> str:
    """The sample as the CSV text that it is kept as: a header of the columns' names, then a line for each row."""
    return resources.files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8")


def rows(name: Sample) -> list[list[float]]:
    """The rows of the sample, in the order of its source: the features, then the target."""
    lines = csv.reader(text(name).splitlines())
    next(lines)
    return [[float(cell) for cell in line] for line in lines]
