"""What the data of a run are: made from a formula, a sample data set of the package, or a table of the user's."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, get_args

import msgspec

from workflow_core.specs.checks import check_number, check_seed, check_text

Order = Literal["sequential", "shuffled"]
DataKind = Literal["line", "quadratic", "polynomial", "sine", "step", "plane", "sample", "table"]
Spacing = Literal["grid", "shuffled", "uniform"]
Sample = Literal["norris", "anscombe_I", "anscombe_II", "anscombe_III", "anscombe_IV", "diabetes_bmi"]
Missing = Literal["refuse", "drop", "impute"]
Dtype = Literal["float32", "float64"]

DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
SAMPLES: tuple[Sample, ...] = get_args(Sample)
MISSING: tuple[Missing, ...] = get_args(Missing)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
SPLITS = ("train", "validation", "test")

MAX_ROWS = 10_000_000
MAX_FEATURES = 1000
MAX_DEGREE = 20

USES: dict[DataKind, tuple[str, ...]] = {
    "line": ("weight", "bias"),
    "quadratic": ("curve", "weight", "bias"),
    "polynomial": ("coefficients",),
    "sine": ("weight", "frequency", "bias"),
    "step": ("weight", "threshold", "bias"),
    "plane": ("weights", "bias"),
    "sample": ("sample",),
    "table": ("file", "features", "target", "header", "missing"),
}
"""The settings that each kind of data has for itself."""
RANGE = ("start", "stop", "step", "spacing", "x_seed", "noise", "seed")
"""The settings that all kinds made from a formula share."""


class SplitSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the three splits, each from 0 to 1 and together 1, and the order rows are dealt in.

    Raises ValueError where the shares do not add up or the training share is 0.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    order: Order = "sequential"
    seed: int = 42

    def __post_init__(self) -> None:
        for name in SPLITS:
            check_number(f"the {name} share", getattr(self, name), 0.0, 1.0)
        if self.train == 0:
            raise ValueError("the training share is 0; a model cannot be trained on no rows")
        if (total := sum(self.shares())) != 1:
            raise ValueError(f"the shares {self.text()} add up to {float(total) * 100:g}%; they must add up to 100%")
        check_seed("the shuffle seed", self.seed)

    def shares(self) -> tuple[Fraction, Fraction, Fraction]:
        """The shares as the exact decimals they were written as."""
        # repr gives the shortest decimal that reads back as this float: 0.7 is exactly 7/10 here
        return Fraction(repr(self.train)), Fraction(repr(self.validation)), Fraction(repr(self.test))

    def counts(self, n: int) -> tuple[int, int, int]:
        """Rows of the training, validation and test split out of `n`.

        The borders lie at int(train·n) and int((train + validation)·n), as in the course, in exact
        arithmetic: 70/15/15 of 50 rows is 35/7/8, and 70/10/20 is 35/5/10.
        """
        train, validation, _ = self.shares()
        first, second = int(train * n), int((train + validation) * n)
        return first, second - first, n - second

    def check_rows(self, n: int, advice: str) -> None:
        """Raises ValueError where none of `n` rows would be left for training."""
        if self.counts(n)[0] == 0:
            raise ValueError(
                f"there {'is' if n == 1 else 'are'} {n} row{'s' * (n != 1)}, of which a split of {self.text()} leaves "
                f"none for training; {advice}"
            )

    def text(self) -> str:
        """The shares in percent, for example `70/15/15`."""
        return "/".join(f"{float(share * 100):.15g}" for share in self.shares())

    @classmethod
    def parse(cls, text: str, *, order: Order = "sequential", seed: int = 42) -> SplitSpec:
        """Read `70/15/15` or `0.7/0.15/0.15` (train/validation/test).

        Raises ValueError with what is wrong with the text.
        """
        parts = text.strip().split("/")
        if len(parts) != 3 or len(text) > 100:
            raise ValueError(
                f"the split {text[:100]!r} is not three numbers with slashes between them, such as 70/15/15"
            )
        try:
            numbers = [_decimal(part) for part in parts]
        except ValueError:
            raise ValueError(
                f"the split {text!r} holds something that is not a plain number; write it as 70/15/15"
            ) from None
        total = sum(numbers)
        if total not in (1, 100):
            raise ValueError(f"the shares {text.strip()} add up to {float(total):g}; they must add up to 100 (or to 1)")
        train, validation, test = (float(number / total) for number in numbers)
        return cls(train=train, validation=validation, test=test, order=order, seed=seed)


def _decimal(text: str) -> Fraction:
    text = text.strip().removesuffix("%")
    # twelve characters keep the share exact in a float's shortest decimal
    if not text or len(text) > 12 or set(text) - set("0123456789."):
        raise ValueError(text)
    return Fraction(text)


class DataSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where X and y come from; `kind` says which of the settings below are used, the others are kept and do nothing.

    Made from a formula, over n = ceil((stop - start) / step) values of x, with `noise`·randn added to y:

    - `line`: y = weight·x + bias
    - `quadratic`: y = curve·x² + weight·x + bias
    - `polynomial`: y = coefficients[0] + coefficients[1]·x + coefficients[2]·x² + ...
    - `sine`: y = weight·sin(2π·frequency·x) + bias
    - `step`: y = bias, from x = threshold on bias + weight
    - `plane`: y = weights[0]·x1 + weights[1]·x2 + ... + bias, each feature drawn uniformly from start to stop

    `spacing` says how x lies: on the `grid` arange(start, stop, step), the same values `shuffled`, or drawn
    `uniform`ly; the last two with `x_seed`. `noise` is the standard deviation of the noise, in units of y, `seed` its
    seed.

    Read: `sample` data sets of the package, or the `table` in `file` (CSV, TSV or Parquet) with the columns `features`
    (empty: all numeric ones but the target) and `target` (empty: the last column). `header` False names the columns
    column_1, column_2 and so on. `missing` values are refused, their rows dropped, or the mean of the column's
    training rows put in.

    `standardize` lets the model see features and target with mean 0 and standard deviation 1 over the training rows.
    Raises ValueError for values that give no data, or more than 10 million rows.
    """

    kind: DataKind = "line"
    weight: float = 0.7
    bias: float = 0.3
    curve: float = 1.0
    coefficients: tuple[float, ...] = (0.3, 0.7, -1.0, 0.5)
    frequency: float = 1.0
    threshold: float = 0.5
    weights: tuple[float, ...] = (0.7, -0.4)
    start: float = 0.0
    stop: float = 1.0
    step: float = 0.02
    spacing: Spacing = "grid"
    x_seed: int = 42
    noise: float = 0.0
    seed: int = 42
    sample: Sample = "norris"
    file: str = ""
    features: tuple[str, ...] = ()
    target: str = ""
    header: bool = True
    missing: Missing = "refuse"
    standardize: bool = False
    dtype: Dtype = "float32"
    split: SplitSpec = SplitSpec()

    def __post_init__(self) -> None:
        for name in ("weight", "bias", "curve", "frequency", "threshold", "start", "stop", "step"):
            check_number(name, getattr(self, name))
        check_number("noise", self.noise, 0.0)
        for name, values, most in (
            ("coefficients", self.coefficients, MAX_DEGREE + 1),
            ("weights", self.weights, MAX_FEATURES),
        ):
            if not 1 <= len(values) <= most:
                raise ValueError(f"{name} holds {len(values)} numbers; it must hold from 1 to {most}")
            for value in values:
                check_number(f"one of the {name}", value)
        check_seed("the noise seed", self.seed)
        check_seed("the seed of x", self.x_seed)
        self._check_range()
        self._check_table()

    def _check_range(self) -> None:
        if self.step <= 0:
            raise ValueError(f"step is {self.step:g}; it must be greater than 0")
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop:g}) is not above start ({self.start:g}); the range holds no points")
        if (self.stop - self.start) / self.step > MAX_ROWS:
            raise ValueError(
                f"a step of {self.step:g} from {self.start:g} to {self.stop:g} makes more than "
                f"{MAX_ROWS:,} rows; choose a larger step"
            )
        if self.made:
            self.split.check_rows(self.rows, "choose a smaller step or a larger training share")

    def _check_table(self) -> None:
        for name in ("file", "target"):
            check_text(name, getattr(self, name))
        for feature in self.features:
            check_text("the name of a feature", feature)
        if len(self.features) > MAX_FEATURES:
            raise ValueError(f"there are {len(self.features):,} features; {MAX_FEATURES:,} is the most")
        if len(set(self.features)) < len(self.features):
            raise ValueError("a feature is named twice")
        if self.target and self.target in self.features:
            raise ValueError(f"{self.target!r} is both the target and a feature; a model would only have to copy it")
        if self.kind == "table" and not self.file:
            raise ValueError("no file is named; choose the CSV, TSV or Parquet file that holds the table")

    @property
    def made(self) -> bool:
        """Are the data made from a formula, and not read?"""
        return self.kind not in ("sample", "table")

    @property
    def rows(self) -> int:
        """How many rows a formula gives: ceil((stop - start) / step), as torch.arange computes it."""
        return math.ceil((self.stop - self.start) / self.step)
