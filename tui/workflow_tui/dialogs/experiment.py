"""A dialog that takes the loop apart: lines switched off or moved, and the usual mistakes ready to be tried."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from workflow_core.scripts.train import codes
from workflow_core.specs import LINES, Line, OptimizerOver, TrainSpec
from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import Ink


@dataclass(frozen=True)
class Experiment:
    """How the loop runs: its lines in their order, and whose parameters the optimizer holds."""

    loop: tuple[Line, ...] = LINES
    optimizer_over: OptimizerOver = "model"


TRIES: tuple[tuple[str, Experiment], ...] = (
    ("forget zero_grad", Experiment(("forward", "loss", "backward", "step"))),
    ("forget backward", Experiment(("forward", "loss", "zero_grad", "step"))),
    ("forget step", Experiment(("forward", "loss", "zero_grad", "backward"))),
    ("step before backward", Experiment(("forward", "loss", "zero_grad", "step", "backward"))),
    ("zero_grad after backward", Experiment(("forward", "loss", "backward", "zero_grad", "step"))),
    ("an optimizer that holds another model", Experiment(optimizer_over="another")),
)
"""The usual mistakes, on the keys 1 to 6."""


class ExperimentDialog(SturdyScreen, ModalScreen[Experiment | None]):
    """Choose the lines that run and their order; None where it was left as it is."""

    def __init__(self, spec: TrainSpec) -> None:
        """`spec` is how it stands."""
        super().__init__()
        self.codes = codes(spec)
        self.order: list[Line] = []
        self.on: set[Line] = set()
        self.over: OptimizerOver = "model"
        self._take(Experiment(spec.loop, spec.optimizer_over))
        self.at = 0

    def compose(self) -> ComposeResult:
        """The lines, the mistakes, and the keys."""
        with VerticalScroll(classes="dialog experiment") as box:
            box.border_title = "Experiment with the loop"
            box.border_subtitle = "enter takes it · escape leaves it"
            box.can_focus = False
            yield Static("", markup=False, id="experiment")

    def on_mount(self) -> None:
        """Show how it stands."""
        self._show()

    @property
    def experiment(self) -> Experiment:
        """What is chosen."""
        return Experiment(tuple(line for line in self.order if line in self.on), self.over)

    def _show(self) -> None:
        ink = Ink(self)
        text = Text("The next run does what these lines do, in this order.\n\n")
        number = 0
        for index, line in enumerate(self.order):
            here, on = index == self.at, line in self.on
            number += on
            text.append(" ▶ " if here else "   ", ink("accent", "bold"))
            text.append(f"{number} " if on else "– ", ink("muted"))
            text.append(f"{self.codes[line]:<36}", "" if on else ink("muted", "strike"))
            text.append("on\n" if on else "off\n", ink("muted") if on else ink("bad", "bold"))
        over = self.at == len(self.order)
        text.append(" ▶ " if over else "   ", ink("accent", "bold"))
        text.append(f"  {'the optimizer holds the parameters of':<38}")
        text.append(
            "this model\n" if self.over == "model" else "another\n", ink("muted" if self.over == "model" else "bad")
        )
        self._keys(text, ink)
        self.query_one("#experiment", Static).update(text)

    def _keys(self, text: Text, ink: Ink) -> None:
        text.append("\nUsual mistakes\n", "bold")
        for index, (label, experiment) in enumerate(TRIES, start=1):
            text.append(f"  {index} ", ink("accent", "bold")).append(label)
            text.append("  this one\n" if experiment == self.experiment else "\n", ink("muted"))
        for key, label in (("↑ ↓", "line"), ("space", "on/off"), ("u d", "up/down"), ("0", "the textbook's loop")):
            text.append(f"\n  {key}" if key == "↑ ↓" else f"  {key}", ink("accent", "bold")).append(f" {label} ")

    def on_key(self, event: events.Key) -> None:
        """Every key is the dialog's."""
        event.stop()
        key = event.character or event.key
        if event.key == "escape":
            self.dismiss(None)
            return
        if event.key == "enter":
            self.dismiss(self.experiment)
            return
        if event.key in ("up", "down"):
            self.at = min(max(self.at + (1 if event.key == "down" else -1), 0), len(self.order))
        elif event.key == "space":
            self._switch()
        elif key in ("u", "d") and self.at < len(self.order):
            self._move(-1 if key == "u" else 1)
        elif key == "0":
            self._take(Experiment())
        elif key.isdecimal() and key.isascii() and 1 <= int(key) <= len(TRIES):
            self._take(TRIES[int(key) - 1][1])
        self._show()

    def _switch(self) -> None:
        if self.at == len(self.order):
            self.over = "another" if self.over == "model" else "model"
        else:
            self.on ^= {self.order[self.at]}

    def _move(self, by: int) -> None:
        to = self.at + by
        if 0 <= to < len(self.order):
            self.order[self.at], self.order[to] = self.order[to], self.order[self.at]
            self.at = to

    def _take(self, experiment: Experiment) -> None:
        self.order = [*experiment.loop, *(line for line in LINES if line not in experiment.loop)]
        self.on = set(experiment.loop)
        self.over = experiment.optimizer_over
