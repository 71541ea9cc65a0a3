"""What stands in the terminal when the screens have gone: how the run or the race stood, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from workflow_core.protocol import SavedView
from workflow_core.sanitize import padded, sanitize
from workflow_core.specs import LOSS_NAMES
from workflow_tui import figures
from workflow_tui.state import State

MOST = 8
"""Values of a model, or files, that are told one by one."""
NONE: Mapping[str, str] = MappingProxyType({})
WIDTH = 10


def last_words(state: State, last: str = "", written: Mapping[str, str] = NONE) -> str:
    """A table of the run that is there and one of the race, as lines of plain text, the files that were `written` with
    what is in them, and a `last` sentence; "" where there is none of it."""
    return "\n".join([*_table(state), *_race(state), *_files(written), *([last] if last else [])])


def _files(written: Mapping[str, str]) -> list[str]:
    """The newest files, the newest last."""
    rows = [("", f"{len(written) - MOST} files, and")] if len(written) > MOST else []
    return _lines(rows + [("saved", f"{sanitize(path, 4096)}  {what}") for path, what in list(written.items())[-MOST:]])


def contents(saved: SavedView) -> str:
    """Which model a file holds."""
    if not saved.run:
        return "untrained model"
    part = f" and {figures.whole(saved.batch)} batches" if saved.batch else ""
    return f"run {saved.run} after {figures.epochs(saved.epoch)}{part}"


def _stands(there: str, state: State) -> str:
    """How something stands, as far as that is known."""
    return "interrupted" if state.lost and there == "running" else there


def _race(state: State) -> list[str]:
    race = state.race
    if race is None or not race.epoch:
        return []
    done = f"{figures.whole(race.epoch)} of {figures.epochs(race.epochs)}"
    rows = [(f"race {race.race}", f"{done}, {_stands(race.state, state)}, {figures.duration(race.elapsed)}")]
    for lane in race.lanes:
        split, loss = ("train", lane.train_loss) if lane.val_loss is None else ("val", lane.val_loss)
        stands = _stands(lane.state, state)
        if loss is not None:
            stands += f", {split} {figures.figure(loss)}"
        rows.append((f"run {lane.run}", f"{sanitize(lane.label, 40)}: {stands}"))
    return _lines(rows)


def _lines(rows: list[tuple[str, str]]) -> list[str]:
    return [f"{padded(name, WIDTH)} {text}" for name, text in rows]


def _table(state: State) -> list[str]:
    training = state.training
    if training is None or not training.epoch:
        return []
    done = f"{figures.whole(training.epoch)} of {figures.epochs(training.spec.epochs)}"
    rows = [(f"run {training.run}", f"{done}, {_stands(training.state, state)}, {figures.duration(training.elapsed)}")]
    unit = LOSS_NAMES[training.spec.loss] + (", standardised" if state.standardized else "")
    rows += [
        (name, f"{figures.figure(loss)}  {unit}")
        for name, loss in (("train", training.train_loss), ("val", training.val_loss))
        if loss is not None
    ]
    targets, known = state.reference.targets, state.reference.targets_are
    for name, value in list(training.parameters.items())[:MOST]:
        beside = f"  {known} {figures.figure(targets[name])}" if name in targets else ""
        rows.append((sanitize(name, 40), f"{figures.figure(value)}{beside}"))
    if (more := len(training.parameters) - MOST) > 0:
        rows.append(("", f"and {more} more values"))
    return _lines(rows)
