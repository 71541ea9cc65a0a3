"""The lanes of a race as a person types them: learning rates, or optimizers with a rate each; and what to propose."""

from __future__ import annotations

import math
import re
from typing import Literal

from msgspec.structs import replace

from workflow_core.specs import LOSS_NAMES, OPTIMIZER_NAMES, OPTIMIZERS, Optimizer, TrainSpec
from workflow_tui import figures, run_settings
from workflow_tui.settings.train import SCHEDULER_NAMES
from workflow_tui.widgets.number_input import parse

Differs = Literal["learning rates", "optimizers"]
DIFFERS: tuple[Differs, ...] = ("learning rates", "optimizers")
LEAST, MOST = 2, 6
"""Lanes of a race."""
HIGHEST = 1e6


def lanes(text: str, differs: Differs, spec: TrainSpec) -> tuple[TrainSpec, ...]:
    """The settings of each lane: those of `spec`, but for what `text` names. Raises ValueError with one sentence."""
    parts = [part.strip() for part in re.split(r"[,;]", text)]
    if not any(parts):
        raise ValueError(f"name {LEAST} to {MOST} {differs}, with commas between")
    if not all(parts):
        raise ValueError("there is nothing between two of the commas")
    if not LEAST <= len(parts) <= MOST:
        there = "this is 1" if len(parts) == 1 else f"these are {len(parts)}"
        raise ValueError(f"a race has {LEAST} to {MOST} lanes; {there}")
    found: list[TrainSpec] = []
    for part in parts:
        lane = _rate_lane(part, spec) if differs == "learning rates" else _optimizer_lane(part, spec)
        if lane in found:
            raise ValueError(f"{label(lane, differs)} stands there twice")
        found.append(lane)
    return tuple(found)


def _rate_lane(text: str, spec: TrainSpec) -> TrainSpec:
    return replace(spec, learning_rate=_rate(text))


def _rate(text: str) -> float:
    try:
        rate = float(parse(text))
    except ValueError as error:
        raise ValueError(f"{text[:30]!r} {error}") from None
    if not 0 < rate <= HIGHEST:
        raise ValueError(f"a learning rate lies above 0 and up to {figures.whole(int(HIGHEST))}; {text[:30]} does not")
    return rate


def _optimizer_lane(text: str, spec: TrainSpec) -> TrainSpec:
    name, *rates = text.split()
    optimizer = next((each for each in OPTIMIZERS if each == name.casefold()), None)
    if optimizer is None:
        known = ", ".join(OPTIMIZER_NAMES.values())
        raise ValueError(f"{name[:30]!r} is no optimizer here; there are {known}")
    if len(rates) > 1:
        raise ValueError(f"{OPTIMIZER_NAMES[optimizer]} takes one learning rate, such as {optimizer} 0.01")
    rate = _rate(rates[0]) if rates else spec.learning_rate
    # set for an optimizer that has no use for it, it must not be what refuses this one
    nesterov = spec.nesterov and bool(spec.momentum)
    return replace(spec, optimizer=optimizer, learning_rate=rate, nesterov=nesterov)


def label(spec: TrainSpec, differs: Differs) -> str:
    """What a lane is called: what it has that the others have not."""
    rate = f"lr {figures.short(spec.learning_rate)}"
    return rate if differs == "learning rates" else f"{OPTIMIZER_NAMES[spec.optimizer]} {rate}"


def proposal(differs: Differs, spec: TrainSpec, stable_lr: float | None) -> str:
    """What the field holds at first: the rate as set, a tenth and ten times of it, and the largest stable one.

    Or, of optimizers, the one that is set and others, all at the same rate.
    """
    rate = spec.learning_rate
    if differs == "optimizers":
        others = [name for name in ("sgd", "adam", "rmsprop", "adagrad") if name != spec.optimizer]
        names: list[Optimizer] = [spec.optimizer, *others[:3]]  # type: ignore[list-item]
        return ", ".join(f"{OPTIMIZER_NAMES[name]} {plain(rate)}" for name in names)
    rates = [each for each in (rate / 10, rate, rate * 10) if each <= HIGHEST]
    edge = stable(spec, stable_lr)
    if edge is not None and all(abs(edge - each) > 0.02 * edge for each in rates):
        rates.append(edge)
    return ", ".join(plain(each) for each in sorted(rates))


def stable(spec: TrainSpec, stable_lr: float | None) -> float | None:
    """The largest stable rate, rounded down to three digits; None where it is not known for these settings."""
    if spec.experiment or spec.optimizer != "sgd" or spec.batch_size:
        return None
    if stable_lr is None or not 0 < stable_lr <= HIGHEST:
        return None
    unit = 10.0 ** (math.floor(math.log10(stable_lr)) - 2)
    return float(f"{math.floor(stable_lr / unit) * unit:.3g}")


def shared(spec: TrainSpec, differs: Differs) -> str:
    """What all lanes have in common."""
    parts = [OPTIMIZER_NAMES[spec.optimizer]] if differs == "learning rates" else []
    parts += [LOSS_NAMES[spec.loss], figures.epochs(spec.epochs)]
    if spec.batch_size:
        parts.append(f"batch {figures.whole(spec.batch_size)}")
    if spec.scheduler != "none":
        parts.append(f"schedule {SCHEDULER_NAMES[spec.scheduler]}")
    if spec.experiment:
        parts.append(f"EXPERIMENT: {run_settings.loop_text(spec)}")
    return " · ".join(parts)


def plain(rate: float) -> str:
    """A rate as a person would type it: ten times 0.01 is 0.1, whatever binary fractions make of it."""
    return f"{rate:.6g}"


def remark(lane: TrainSpec, stable_lr: float | None) -> str:
    """What is known of a lane before it runs; empty where nothing is."""
    if stable_lr is None or lane.optimizer != "sgd" or lane.batch_size or lane.experiment:
        return ""
    if lane.learning_rate > stable_lr:
        return f"above {figures.figure(stable_lr)}, the largest stable rate: expect it to diverge"
    if lane.learning_rate > 0.98 * stable_lr:
        return "about the largest stable rate"
    return ""
