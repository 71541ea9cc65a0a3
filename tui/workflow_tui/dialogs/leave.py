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
    keeps = state.engine.keeps
    if state.race is not None and (state.race.state == "running" or (state.race.epoch and not keeps)):
        return race_dialog(state.race, way_back, keeps=keeps)
    if state.training is None:
        return None
    if state.running:
        return Dialog(
            "A training is running",
            f"{figures.whole(state.training.epoch)} of {figures.epochs(state.training.spec.epochs)} are done. "
            "The engine can go on without "
            f"this screen; {way_back} brings you back to it.{_risk(keeps)}",
            (
                Choice("d", "detach: leave, training goes on", "detach", "primary"),
                Choice("w", "pause it, save the model and leave", "save"),
                _pause_and_leave(keeps),
                Choice("c", "cancel", "cancel"),
            ),
            cancel="cancel",
        )
    if state.unsaved:
        then = (
            "The workspace keeps it: the next start brings it back, until another run takes its place."
            if keeps
            else "The engine cannot keep it as it stands either: what is not kept is gone when that ends."
        )
        return Dialog(
            "The model is in no file of its own",
            f"It was trained for {figures.epochs(state.held_epochs)}. {then}",
            (
                Choice(
                    "l",
                    "leave" if keeps else "leave: what is not kept is gone",
                    "stop",
                    "primary" if keeps else "error",
                ),
                Choice("s", "save it first", "save"),
                Choice("c", "cancel", "cancel"),
            ),
            cancel="cancel",
        )
    return None


def race_dialog(race: RaceView, way_back: str, *, keeps: bool) -> Dialog[Leaving]:
    """A race is there, which has no one model that could be saved, and runs or is kept by nothing else."""
    running = race.state == "running"
    on = "The engine can go on without this screen" if running else "The engine has it as long as it lives"
    return Dialog(
        "A race is running" if running else "A race is there",
        f"{figures.whole(race.epoch)} of {figures.epochs(race.epochs)} of each of its {len(race.lanes)} lanes "
        f"{figures.are(race.epoch)} done. {on}; {way_back} brings you back to it.{_risk(keeps)}",
        (
            Choice(
                "d", "detach: leave, the race goes on" if running else "detach: leave the engine", "detach", "primary"
            ),
            _pause_and_leave(keeps),
            Choice("c", "cancel", "cancel"),
        ),
        cancel="cancel",
    )


def _risk(keeps: bool) -> str:
    return "" if keeps else " It cannot be kept as things are: what is not kept is gone should the engine end."


def _pause_and_leave(keeps: bool) -> Choice[Leaving]:
    if keeps:
        return Choice("s", "pause it and leave: the next start brings it back", "stop")
    return Choice("s", "end it and leave: what is not kept is gone", "stop", "error")
