"""The question before leaving while a training runs, or while a trained model is in no file of its own."""

from __future__ import annotations

from typing import Literal

from workflow_core.protocol import RaceView
from workflow_tui import figures
from workflow_tui.dialogs.base import Choice, Dialog
from workflow_tui.state import State

Leaving = Literal["detach", "stop", "save", "cancel"]


def leave_dialog(state: State, way_back: str) -> Dialog[Leaving] | None:
    """The dialog that fits `state`, or None where nothing would be lost by leaving."""
    if state.connection != "connected":
        return None
    if state.race is not None and state.race.state == "running":
        return race_dialog(state.race, way_back)
    if state.training is None:
        return None
    if state.running:
        return Dialog(
            "A training is running",
            f"{figures.whole(state.training.epoch)} of {figures.epochs(state.training.spec.epochs)} are done. "
            "The engine can go on without "
            f"this screen; {way_back} brings you back to it.",
            (
                Choice("d", "detach: leave, training goes on", "detach", "primary"),
                Choice("w", "pause it, save the model and leave", "save"),
                Choice("s", "pause it and leave: the next start brings it back", "stop"),
                Choice("c", "cancel", "cancel"),
            ),
            cancel="cancel",
        )
    if state.unsaved:
        return Dialog(
            "The model is in no file of its own",
            f"It was trained for {figures.epochs(state.held_epochs)}. The workspace keeps it: the next start brings it "
            "back, until another run takes its place.",
            (
                Choice("l", "leave", "stop", "primary"),
                Choice("s", "save it first", "save"),
                Choice("c", "cancel", "cancel"),
            ),
            cancel="cancel",
        )
    return None


def race_dialog(race: RaceView, way_back: str) -> Dialog[Leaving]:
    """A race is running; there is no one model that could be saved."""
    return Dialog(
        "A race is running",
        f"{figures.whole(race.epoch)} of {figures.epochs(race.epochs)} of each of its {len(race.lanes)} lanes "
        f"{figures.are(race.epoch)} done. The engine can go on without this screen; {way_back} brings you back to it.",
        (
            Choice("d", "detach: leave, the race goes on", "detach", "primary"),
            Choice("s", "pause it and leave: the next start brings it back", "stop"),
            Choice("c", "cancel", "cancel"),
        ),
        cancel="cancel",
    )
