"""The fields of the Data screen: where X and y come from, how they are dealt into splits, what the model sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_core.specs import (
    DATA_KINDS,
    DTYPES,
    MAX_SEED,
    MISSING,
    RANGE,
    SAMPLES,
    SPACINGS,
    USES,
    DataKind,
    DataSpec,
    Missing,
    Sample,
    SplitSpec,
)
from workflow_tui.settings import IncompleteError, convert, uses, whole_path
from workflow_tui.widgets.field import Field, Value, Values

KINDS: dict[DataKind, str] = {
    "line": "straight line",
    "quadratic": "quadratic",
    "polynomial": "polynomial",
    "sine": "sine",
    "step": "step",
    "plane": "plane",
    "sample": "sample data",
    "table": "your table",
}
SAMPLE_NAMES: dict[Sample, str] = {
    "norris": "NIST Norris",
    "anscombe_I": "Anscombe I",
    "anscombe_II": "Anscombe II",
    "anscombe_III": "Anscombe III",
    "anscombe_IV": "Anscombe IV",
    "diabetes_bmi": "diabetes BMI",
}
MISSING_NAMES: dict[Missing, str] = {"refuse": "refuse", "drop": "drop the row", "impute": "train's mean"}

SOURCE, RANGE_OF, SPLIT, SEEN = "Where they come from", "Range and noise", "Split", "What the model sees"


def _kind(name: str) -> Callable[[Values], bool]:
    return uses("kind", USES, name)


def _made(values: Values) -> bool:
    return values["kind"] not in ("sample", "table")


def _table(values: Values) -> bool:
    return values["kind"] == "table"


def _gridded(values: Values) -> bool:
    return _made(values) and values["kind"] != "plane"


def _x_drawn(values: Values) -> bool:
    return values["kind"] == "plane" or (_made(values) and values["spacing"] != "grid")


def _by_kind(otherwise: str, **hints: str) -> Callable[[Values], str]:
    return lambda values: hints.get(str(values["kind"]), otherwise)


FIELDS = (
    Field("kind", "data", "choice", choices=tuple((KINDS[kind], kind) for kind in DATA_KINDS), group=SOURCE),
    Field("curve", "curve", hint="times x²", step=0.1, when=_kind("curve"), group=SOURCE),
    Field(
        "weight",
        "weight",
        hint=_by_kind("slope", quadratic="times x", sine="height of a wave", step="height of the step"),
        step=0.1,
        when=_kind("weight"),
        group=SOURCE,
    ),
    Field("weights", "weights", "numbers", "one a feature", when=_kind("weights"), group=SOURCE),
    Field(
        "coefficients",
        "coefficients",
        "numbers",
        "of 1, x, x², …",
        when=_kind("coefficients"),
        group=SOURCE,
    ),
    Field("frequency", "frequency", hint="waves a unit of x", step=0.1, when=_kind("frequency"), group=SOURCE),
    Field("threshold", "threshold", hint="x of the step", step=0.1, when=_kind("threshold"), group=SOURCE),
    Field(
        "bias",
        "bias",
        hint=_by_kind("y at x = 0", sine="middle of the wave", step="y before it", plane="y at all x = 0"),
        step=0.1,
        when=_kind("bias"),
        group=SOURCE,
    ),
    Field(
        "sample",
        "data set",
        "choice",
        choices=tuple((SAMPLE_NAMES[name], name) for name in SAMPLES),
        when=_kind("sample"),
        group=SOURCE,
    ),
    Field("file", "file", "file", when=_table, group=SOURCE, empty="f chooses a file"),
    Field("features", "features", "names", when=_table, group=SOURCE, empty="all numbers; v lists them"),
    Field("target", "target", "text", when=_table, group=SOURCE, empty="the last column"),
    Field("header", "names on top", "flag", "first line", when=_table, group=SOURCE),
    Field(
        "missing",
        "missing",
        "choice",
        choices=tuple((MISSING_NAMES[name], name) for name in MISSING),
        when=_table,
        group=SOURCE,
    ),
    Field("start", "start", hint="least x", step=0.1, when=_made, group=RANGE_OF),
    Field("stop", "stop", hint="x ends below", step=0.1, when=_made, group=RANGE_OF),
    Field("step", "step", hint="between x; sets rows", low=0, step=0.01, when=_made, group=RANGE_OF),
    Field(
        "spacing",
        "spacing",
        "choice",
        choices=tuple((name, name) for name in SPACINGS),
        when=_gridded,
        group=RANGE_OF,
    ),
    Field("x_seed", "x seed", "int", "draws x", low=0, high=MAX_SEED, step=1, when=_x_drawn, group=RANGE_OF),
    Field("noise", "noise", hint="std, in units of y", low=0, step=0.01, when=_made, group=RANGE_OF),
    Field("seed", "noise seed", "int", low=0, high=MAX_SEED, step=1, when=_made, group=RANGE_OF),
    Field("split", "split", "text", hint="train/val/test in %", group=SPLIT),
    Field(
        "order",
        "order",
        "choice",
        choices=(("sequential", "sequential"), ("shuffled", "shuffled")),
        group=SPLIT,
    ),
    Field(
        "split_seed",
        "order seed",
        "int",
        low=0,
        high=MAX_SEED,
        step=1,
        when=lambda values: values["order"] == "shuffled",
        group=SPLIT,
    ),
    Field("standardize", "standardise", "flag", "mean 0, std 1", group=SEEN),
    Field("dtype", "dtype", "choice", choices=tuple((name, name) for name in DTYPES), group=SEEN),
)
PLAIN = tuple(field.name for field in FIELDS if field.name not in ("split", "order", "split_seed"))
"""Fields whose values are those of the spec's field of the same name."""
assert set(RANGE) <= set(PLAIN)


def values(spec: DataSpec) -> dict[str, Value]:
    """The form's values for `spec`."""
    plain: dict[str, Any] = {name: getattr(spec, name) for name in PLAIN}
    return plain | {"split": spec.split.text(), "order": spec.split.order, "split_seed": spec.split.seed}


def spec_of(form: Values) -> DataSpec:
    """The spec the form's values describe.

    Raises ValueError with what does not fit, IncompleteError where a table has no file yet.
    """
    if form["kind"] == "table" and not form["file"]:
        raise IncompleteError("Which table? f chooses its file, or type the path")
    plain: dict[str, Any] = {name: form[name] for name in PLAIN} | {"file": whole_path(str(form["file"]))}
    split = SplitSpec.parse(str(form["split"]), order=form["order"], seed=form["split_seed"])  # type: ignore[arg-type]
    return convert({**plain, "split": split}, DataSpec)
