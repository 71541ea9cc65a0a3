"""Runs side by side as plain values: results, then the settings that differ, then those that are equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workflow_core.protocol import RunView
from workflow_core.sanitize import sanitize
from workflow_tui import figures, runs_text
from workflow_tui.run_settings import settings_of

Kind = Literal["result", "differs", "equal", "heading"]
NOTHING = "–"
"""Stands for what a run does not have, such as the momentum of Adam."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure or setting: a value for each run; `least` are the runs whose value is the least of comparable ones."""

    kind: Kind
    label: str
    values: tuple[str, ...]
    least: frozenset[int] = frozenset()


def lines(runs: Sequence[RunView], now: datetime) -> list[Line]:
    """All lines of a comparison, those that differ before those that are equal."""
    settings = [settings_of(run.spec) for run in runs]
    differ: list[Line] = []
    equal: list[Line] = []
    for key in settings[0]:
        found = [each[key] for each in settings]
        if not any(setting.used for setting in found):
            continue
        values = tuple(setting.value if setting.used else NOTHING for setting in found)
        label = found[0].label
        # what some have no use for, and is the same in all, comes with another setting that differs
        same = len({setting.value for setting in found}) == 1
        (equal if same else differ).append(Line("equal" if same else "differs", label, values))
    by_hand = tuple(_by_hand(run) for run in runs)
    if any(by_hand):
        values = tuple(text or "never" for text in by_hand)
        differ.insert(0, Line("differs" if len(set(values)) > 1 else "equal", "rate set by hand", values))
    return [*_results(runs, now), *differ, *equal]


def _by_hand(run: RunView) -> str:
    return ", ".join(f"{figures.short(rate)} from {figures.whole(epoch)}" for epoch, rate in run.lr_changes)


def _results(runs: Sequence[RunView], now: datetime) -> list[Line]:
    found = [
        Line("result", "state", tuple(map(runs_text.state_text, runs))),
        Line("result", "epochs done/planned", tuple(map(runs_text.epochs_text, runs))),
        _losses("train {}", runs, lambda run: run.train_loss),
        _losses("val {}", runs, lambda run: run.val_loss),
        _losses("best {}", runs, lambda run: run.best_loss, val=[run.val_loss is not None for run in runs]),
        Line("result", "best epoch", tuple(_whole(run.best_epoch) for run in runs)),
    ]
    for name in dict.fromkeys(name for run in runs for name in run.parameters):
        values = tuple(figures.figure(run.parameters.get(name)) for run in runs)
        found.append(Line("result", sanitize(name, 60), values))
    if any(run.parent for run in runs):
        found.append(Line("result", "goes on from", tuple(map(_parent, runs))))
    found.append(Line("result", "time (m:ss)", tuple(figures.duration(run.elapsed) for run in runs)))
    found.append(Line("result", "begun", tuple(runs_text.when_text(run.begun, now) for run in runs)))
    return found


def _parent(run: RunView) -> str:
    return f"run {run.parent}, epoch {figures.whole(run.parent_epoch - 1)}" if run.parent else NOTHING


def _whole(value: int | None) -> str:
    return NOTHING if value is None else figures.whole(value)


def _losses(
    label: str, runs: Sequence[RunView], of: Callable[[RunView], float | None], val: Sequence[bool] = ()
) -> Line:
    """A line of losses, with what they are of in the label, or beside each where they are not all of the same."""
    kinds = [runs_text.unit(run) for run in runs]
    if val:
        kinds = [f"{'val' if has else 'train'} {kind}" for has, kind in zip(val, kinds, strict=True)]
    numbers = [of(run) for run in runs]
    if len(set(kinds)) > 1:
        each = zip(numbers, kinds, strict=True)
        texts = tuple(NOTHING if number is None else f"{figures.figure(number)} {kind}" for number, kind in each)
        return Line("result", label.format("loss"), texts)
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    least = min(finite) if len(finite) > 1 and len(set(finite)) > 1 else None
    return Line(
        "result",
        label.format(kinds[0]),
        tuple(map(figures.figure, numbers)),
        frozenset(at for at, number in enumerate(numbers) if least is not None and number == least),
    )
