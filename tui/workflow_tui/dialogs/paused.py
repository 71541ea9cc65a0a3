"""The questions before a run gives way to another one."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace
from rich.text import Text

from workflow_core.protocol import TrainingView
from workflow_tui import figures, run_settings
from workflow_tui.dialogs.base import SHOWN, Choice, Dialog
from workflow_tui.state import State
from workflow_tui.tables import fitted_start

Answer = Literal["new", "on", "cancel"]


def paused_dialog(state: State) -> Dialog[Answer]:
    """Begin a new run, or go on with the one that is paused?"""
    training = state.training
    assert training is not None
    changed = run_settings.changes(replace(state.spec, train=training.spec), state.spec)
    changed = [fitted_start(text, 68) for text in changed] or ["only some that do nothing here"]
    more = f"\nand {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    done = f"{figures.whole(training.epoch)} of {figures.epochs(training.spec.epochs)}"
    if training.batch:
        done += f" and {figures.whole(training.batch)} of {figures.whole(training.batches)} batches"
    text = Text(f"Run {training.run} is paused after {done}, and the settings have changed since it began:\n\n")
    text.append("\n".join(changed[:SHOWN]) + more, "bold")
    text.append(
        f"\n\nA new run begins at epoch 0. Run {training.run} then stays in the table (u) as it is, "
        "without its weights: it cannot go on."
    )
    return Dialog(
        "A new run, or on with this one?",
        text,
        (
            Choice("n", "new run with the settings as they are now", "new", "primary"),
            Choice("g", f"go on with run {training.run}: its settings come back", "on"),
            Choice("c", "cancel: run and settings stay as they are", "cancel"),
        ),
        cancel="cancel",
    )


def give_up_dialog(training: TrainingView, key: str, what: str) -> Dialog[bool]:
    """May the run that is there give way to another?"""
    done = f"{figures.whole(training.epoch)} of {figures.epochs(training.spec.epochs)}"
    return Dialog(
        f"Give up run {training.run}?",
        f"Run {training.run} has trained {done}, in {figures.duration(training.elapsed)}, and its weights are in no "
        "file as they are now. It would stay in the table (u) as a record, without its weights: it could not go on.",
        (
            Choice("c", "cancel: it stays as it is", False, "primary"),
            Choice(key, what, True, "error"),
        ),
        cancel=False,
    )
