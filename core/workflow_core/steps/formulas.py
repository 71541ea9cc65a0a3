"""The formulas that data can be made from: values, true coefficients, and how they are drawn and written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workflow_core.specs import MAX_DEGREE, DataSpec
from workflow_core.views import Point

CURVE_POINTS = 200
MAX_CURVE_POINTS = 1000
SHOWN_TERMS = 6

_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def features(spec: DataSpec) -> tuple[str, ...]:
    """The names of the features of a formula: `x`, of a plane `x1`, `x2` and so on."""
    if spec.kind == "plane":
        return tuple(f"x{number}" for number in range(1, len(spec.weights) + 1))
    return ("x",)


def values(spec: DataSpec, X: Tensor) -> Tensor:
    """y of shape [rows, 1] without noise, for X of shape [rows, features], computed in the dtype of X."""
    match spec.kind:
        case "line":
            return spec.weight * X + spec.bias
        case "quadratic":
            return spec.curve * X**2 + spec.weight * X + spec.bias
        case "polynomial":
            return _polynomial(spec.coefficients, X)
        case "sine":
            return spec.weight * torch.sin(2 * math.pi * spec.frequency * X) + spec.bias
        case "step":
            return spec.weight * X.ge(spec.threshold).to(X.dtype) + spec.bias
        case "plane":
            return X @ torch.tensor(spec.weights, dtype=X.dtype).unsqueeze(1) + spec.bias
        case _:
            raise ValueError(f"{spec.kind} has no formula")


def _polynomial(coefficients: tuple[float, ...], X: Tensor) -> Tensor:
    y = torch.full_like(X, coefficients[0])
    for power, coefficient in enumerate(coefficients[1:], 1):
        # 0 times a power that overflows would be no number
        if coefficient:
            y = y + coefficient * X**power
    return y


def truth(spec: DataSpec, rows: Sequence[Sequence[float]]) -> list[float] | None:
    """The formula without noise for `rows` of features, in float64; None for data that come from no formula."""
    if not spec.made:
        return None
    X = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(features(spec)))
    return values(spec, X).flatten().tolist()


def coefficients(spec: DataSpec) -> dict[str, float]:
    """The true coefficients: {"intercept": ..., "x": ..., "x^2": ...}, of a plane {"intercept": ..., "x1": ...}.

    Empty for what is not linear in its coefficients (sine, step) and for data that come from no formula.
    """
    match spec.kind:
        case "line":
            return {"intercept": spec.bias, "x": spec.weight}
        case "quadratic":
            return {"intercept": spec.bias, "x": spec.weight, "x^2": spec.curve}
        case "polynomial":
            return dict(
                zip(("intercept", "x", *map("x^{}".format, range(2, MAX_DEGREE + 1))), spec.coefficients, strict=False)
            )
        case "plane":
            return {"intercept": spec.bias, **dict(zip(features(spec), spec.weights, strict=True))}
        case _:
            return {}


def line(spec: DataSpec, low: float, high: float) -> tuple[Point, ...]:
    """The formula from `low` to `high`: 2 points where it is straight, a step as a jump; () for several features."""
    if not spec.made or spec.kind == "plane":
        return ()
    if spec.kind == "step" and low < spec.threshold <= high:
        return (
            (low, spec.bias),
            (spec.threshold, spec.bias),
            (spec.threshold, spec.bias + spec.weight),
            (high, spec.bias + spec.weight),
        )
    count = _points(spec, high - low)
    x = [low + (high - low) * index / (count - 1) for index in range(count - 1)] + [high]
    return tuple(zip(x, truth(spec, [[each] for each in x]) or (), strict=True))


def _points(spec: DataSpec, width: float) -> int:
    if spec.kind in ("line", "step") or (spec.kind == "polynomial" and len(spec.coefficients) <= 2):
        return 2
    waves = abs(spec.frequency) * width if spec.kind == "sine" else 0.0
    return int(min(max(CURVE_POINTS, 32 * waves), MAX_CURVE_POINTS))


def text(spec: DataSpec) -> str:
    """The formula in one line, for example `y = 0.7·x + 0.3`, with its noise."""
    match spec.kind:
        case "step":
            low, high = _number(spec.bias), _number(spec.bias + spec.weight)
            body = f"{low} for x < {_number(spec.threshold)}, else {high}"
            body = f"({body})" if spec.noise else body
        case "sine":
            turns = "" if spec.frequency == 1 else f"{_number(spec.frequency)}·"
            body = _sum([(spec.weight, f"sin(2π·{turns}x)"), (spec.bias, "")])
        case "plane":
            body = _sum([*zip(spec.weights, features(spec), strict=True), (spec.bias, "")])
        case _:
            found = [*coefficients(spec).items()]
            # a polynomial is written from its constant upwards, as its coefficients are given
            found = found if spec.kind == "polynomial" else found[::-1]
            body = _sum([(value, _power(name)) for name, value in found])
    noise = f" + {_number(spec.noise)}·noise" if spec.noise else ""
    return f"y = {body}{noise}"


def _power(name: str) -> str:
    base, _, power = name.partition("^")
    return "" if name == "intercept" else base + power.translate(_POWERS)


def _sum(terms: list[tuple[float, str]]) -> str:
    """The terms that are not 0, with their signs; of many the first ones and the last."""
    terms = [term for term in terms if term[0]] or [(0.0, "")]
    shown = terms if len(terms) <= SHOWN_TERMS + 1 else [*terms[:SHOWN_TERMS], (math.nan, ""), terms[-1]]
    parts: list[str] = []
    for value, name in shown:
        if math.isnan(value):
            parts.append(" + …")
            continue
        size = abs(value)
        factor = _number(size) if not name else "" if size == 1 else f"{_number(size)}·"
        sign = ("-" if value < 0 else "") if not parts else (" - " if value < 0 else " + ")
        parts.append(f"{sign}{factor}{name}")
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:.6g}"
