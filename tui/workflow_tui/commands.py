"""One registry of what keys do: bindings, the key bar, the palette and the help are all made from it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True)
class Command:
    """Something a person can do: `action` is the method's name, `keys` as Textual names them, `shown` as people do.

    `label` is the word or two in the key bar, `help` the sentence in help and palette. Commands that are
    not `bar` ones stand in the help only.
    """

    action: str
    keys: str
    shown: str
    label: str
    help: str
    bar: bool = True

    def binding(self) -> Binding:
        """The Textual binding of this command."""
        return Binding(
            self.keys, self.action, self.label, key_display=self.shown, tooltip=self.help, id=self.action, show=self.bar
        )


STEPS: tuple[Command, ...] = tuple(
    Command(
        f"app.go('{step}')", str(number), str(number), step.capitalize(), f"Go to step {number}, {purpose}.", bar=False
    )
    for number, (step, purpose) in enumerate(
        {
            "data": "make the data and deal it into splits",
            "build": "build the model",
            "train": "train it",
            "evaluate": "measure it",
            "save": "save it to a file",
            "load": "load it back and prove that it is the same",
        }.items(),
        start=1,
    )
)

COMMON: tuple[Command, ...] = (
    *STEPS,
    Command("next_step", "n", "n", "next", "Go to the next step."),
    Command("previous_step", "p", "p", "back", "Go to the step before.", bar=False),
    Command("settings", "i,enter", "enter", "settings", "Go into the settings; escape or enter comes back out."),
    Command("side('lesson')", "t", "t", "lesson", "Show or hide the lesson of this step; arrow keys scroll it."),
    Command("side('code')", "c", "c", "code", "Show or hide the PyTorch code this step runs; arrow keys scroll it."),
    Command("app.save", "w,ctrl+s", "w", "save", "Save the model to a file.", bar=False),
    Command("app.load", "o,ctrl+o", "o", "load", "Load a file into a fresh model.", bar=False),
    Command("app.export", "x", "x", "script", "Write the whole workflow as one plain PyTorch script.", bar=False),
    Command("app.theme", "d", "d", "dark/light", "Change between the dark and the light theme.", bar=False),
    Command("app.restart_engine", "a", "a", "start engine", "Start the engine again after it has ended.", bar=False),
    Command("app.help", "question_mark,f1", "?", "help", "What this screen is and every key that works here."),
    Command(
        "app.leave", "q,ctrl+q,ctrl+c", "q", "leave", "Leave the program; asks first where something would be lost."
    ),
)
"""What works on every screen."""
