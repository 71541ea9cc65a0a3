"""The lines of step 1: make or read X and y, deal the rows to the splits, standardise them where the spec asks."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from workflow_core import samples
from workflow_core.scripts.tables import table
from workflow_core.scripts.text import WIDTH, comment, filled, listed, number
from workflow_core.specs import DataSpec, Sample, SplitSpec

MEAN_AND_STD = """
def mean_and_std(columns):
    constant = columns.amin(0) == columns.amax(0)
    mean = torch.where(constant, columns[0], columns.mean(0))
    std = torch.where(constant, 1.0, columns.std(0, correction=0))
    return mean, std
"""
MEAN_AND_STD_OF_ANY_SIZE = """
def mean_and_std(columns):
    constant = columns.amin(0) == columns.amax(0)
    largest = columns.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
    unit = largest / (2 * largest.frexp().mantissa)  # a power of 2, which rounds nothing
    mean = torch.where(constant, columns[0], (columns / unit).mean(0) * unit)
    std = (columns / unit).std(0, correction=0) * unit
    return mean, torch.where(constant | (std == 0), 1.0, std)
"""
OF_THE_TRAINING_ROWS = """
X_mean, X_std = mean_and_std(X[train])  # of the training rows alone
y_mean, y_std = mean_and_std(y[train])

"""


def rows(spec: DataSpec) -> int | None:
    """How many rows the data have; None where only the table can tell."""
    if spec.kind == "sample":
        return samples.INFO[spec.sample].rows
    return spec.rows if spec.made else None


def features(spec: DataSpec) -> int | None:
    """How many features the data have; None where only the table can tell."""
    match spec.kind:
        case "plane":
            return len(spec.weights)
        case "sample":
            return len(samples.INFO[spec.sample].features)
        case "table":
            return len(spec.features) or None
        case _:
            return 1


def columns(spec: DataSpec) -> dict[str, str]:
    """The expressions for the names of the `features` and the `target`; a table's lines have variables for them."""
    match spec.kind:
        case "table":
            return {"features": "features", "target": "target"}
        case "sample":
            info = samples.INFO[spec.sample]
            return {"features": repr(list(info.features)), "target": repr(info.target)}
        case "plane":
            return {"features": f'[f"x{{number + 1}}" for number in range({len(spec.weights)})]', "target": "'y'"}
        case _:
            return {"features": "['x']", "target": "'y'"}


def splits(spec: DataSpec) -> tuple[str, ...]:
    """Those of `train`, `val` and `test` that have rows; of a table, those that have a share."""
    count = rows(spec)
    counts = spec.split.shares() if count is None else spec.split.counts(count)
    return tuple(name for name, count in zip(("train", "val", "test"), counts, strict=True) if count)


def read(spec: DataSpec) -> str:
    """The lines up to X and y in their unsplit order: in the spec's dtype, or float64 where they are standardised."""
    if spec.kind == "table":
        return table(spec)
    if spec.kind == "sample":
        return _sample(spec)
    text = _formula(spec)
    if spec.noise:
        text += f"torch.manual_seed({spec.seed})\ny = y + {number(spec.noise)} * torch.randn(len(X), 1{_dtype(spec)})\n"
    if spec.standardize and spec.dtype == "float32":
        text += "X, y = X.double(), y.double()\n"
    return text


def deal(spec: DataSpec) -> str:
    """The lines that deal the rows to the splits, as the model is going to see them."""
    first, second = _borders(spec.split, rows(spec))
    sliced = spec.made and spec.split.order == "sequential"
    if sliced and not spec.standardize:
        parts = {"train": f":{first}", "val": f"{first}:{second}", "test": f"{second}:"}
        return "".join(f"X_{name}, y_{name} = X[{parts[name]}], y[{parts[name]}]\n" for name in splits(spec))
    if sliced:
        text = f"train, val, test = slice({first}), slice({first}, {second}), slice({second}, None)\n"
    else:
        order = f"torch.manual_seed({spec.split.seed})\norder = torch.randperm(len(X))\n"
        text = order if spec.split.order == "shuffled" else "order = torch.arange(len(X))\n"
        text += f"train, val, test = order.tensor_split([{first}, {second}])\n"
    if spec.kind == "table":
        lengths = " and ".join(f"len({name})" for name in splits(spec))
        text += f'assert {lengths}, "too few rows for these shares"\n'
    if spec.kind == "table" and spec.missing == "impute":
        text += "X = torch.where(X.isnan(), X[train].nanmean(0), X)  # the mean of the training rows alone\n"
        text += 'assert not X.isnan().any(), "no value in any training row"\n'
        if spec.dtype == "float32" and not spec.standardize:
            text += "X, y = X.float(), y.float()\n"
    if not spec.standardize:
        return text + "".join(f"X_{name}, y_{name} = X[{name}], y[{name}]\n" for name in splits(spec))
    X, y = "(X - X_mean) / X_std", "(y - y_mean) / y_std"
    if spec.dtype == "float32":
        X, y = f"({X}).float()", f"({y}).float()"
    # float32 holds none whose squares would leave float64
    any_size = spec.kind == "table" or (spec.made and spec.dtype == "float64")
    text += (MEAN_AND_STD_OF_ANY_SIZE if any_size else MEAN_AND_STD) + OF_THE_TRAINING_ROWS
    text += f"def standardize(X, y):\n    return {X}, {y}\n\n"
    if spec.kind == "table":
        text += 'assert all(part.isfinite().all() for part in standardize(X, y)), "too far from the training rows"\n'
    seen = [name for name in splits(spec) if name != "test"]
    return text + "".join(f"X_{name}, y_{name} = standardize(X[{name}], y[{name}])\n" for name in seen)


def _borders(split: SplitSpec, count: int | None) -> tuple[str, str]:
    """Where the validation and the test rows begin, in exact whole numbers as SplitSpec.counts has them."""
    if count is not None:
        train, validation, _ = split.counts(count)
        return str(train), str(train + validation)
    train_share, validation_share, _ = split.shares()
    return _part(train_share), _part(train_share + validation_share)


def _part(share: Fraction) -> str:
    return "len(X)" if share == 1 else f"len(X) * {share.numerator} // {share.denominator}"


def _dtype(spec: DataSpec) -> str:
    return ", dtype=torch.float64" if spec.dtype == "float64" else ""


def _formula(spec: DataSpec) -> str:
    w, b = number(spec.weight), number(spec.bias)
    match spec.kind:
        case "line":
            return f"weight, bias = {w}, {b}\n{_x(spec)}y = weight * X + bias\n"
        case "quadratic":
            names = f"curve, weight, bias = {number(spec.curve)}, {w}, {b}\n"
            return f"{names}{_x(spec)}y = curve * X**2 + weight * X + bias\n"
        case "sine":
            names = f"weight, frequency, bias = {w}, {number(spec.frequency)}, {b}\n"
            return f"{names}{_x(spec)}y = weight * torch.sin(2 * math.pi * frequency * X) + bias\n"
        case "step":
            names = f"weight, threshold, bias = {w}, {number(spec.threshold)}, {b}\n"
            return f"{names}{_x(spec)}y = weight * (X >= threshold).to(X.dtype) + bias\n"
        case "plane":
            weights = listed("weights", "torch.tensor([", map(number, spec.weights), f"]{_dtype(spec)})")
            return f"{weights}bias = {b}\n{_x(spec)}y = X @ weights.unsqueeze(1) + bias\n"
        case _:
            return _x(spec) + _polynomial(spec.coefficients)


def _x(spec: DataSpec) -> str:
    if spec.kind == "plane" or spec.spacing == "uniform":
        return (
            f"start, stop = {number(spec.start)}, {number(spec.stop)}\n"
            f"torch.manual_seed({spec.x_seed})\n"
            f"X = torch.rand({spec.rows}, {features(spec)}{_dtype(spec)}) * (stop - start) + start\n"
        )
    text = f"torch.arange({number(spec.start)}, {number(spec.stop)}, {number(spec.step)}{_dtype(spec)}).unsqueeze(1)"
    if spec.spacing == "shuffled":
        return f"X = {text}\ntorch.manual_seed({spec.x_seed})\nX = X[torch.randperm(len(X))]\n"
    return f"X = {text}\n"


def _polynomial(coefficients: tuple[float, ...]) -> str:
    terms = [number(coefficients[0])]
    for power, coefficient in enumerate(coefficients[1:], 1):
        if coefficient:
            sign = "-" if coefficient < 0 else "+"
            terms.append(f"{sign} {number(abs(coefficient))} * X" + (f"**{power}" if power > 1 else ""))
    if len(terms) == 1:
        return f"y = torch.full_like(X, {terms[0]})\n"
    text = " ".join(terms)
    # broken before its signs, not after them
    return f"y = {text}\n" if len(text) < WIDTH - 4 else "y = (\n    " + "\n    ".join(terms) + "\n)\n"


def _sample(spec: DataSpec) -> str:
    # the model sees columns that were standardised in full precision
    wide = spec.dtype == "float64" or spec.standardize
    closing = "], dtype=torch.float64)" if wide else "])"
    source = comment(samples.INFO[spec.sample].source)
    table = f"table = torch.tensor([\n{_literals(spec.sample)}\n{closing}\n"
    return f"{source}\n{table}X, y = table[:, :-1], table[:, -1:]\n"


@cache
def _literals(name: Sample) -> str:
    return filled(f"[{', '.join(map(number, row))}]" for row in samples.rows(name))
