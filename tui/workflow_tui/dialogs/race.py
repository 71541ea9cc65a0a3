"""A dialog that sets a race up: what differs between its lanes, and a look at each of them before it starts."""

from __future__ import annotations

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workflow_core.sanitize import sanitize
from workflow_core.specs import TrainSpec
from workflow_tui import race_text
from workflow_tui.dialogs.name import NameInput
from workflow_tui.race_text import DIFFERS, Differs
from workflow_tui.sturdy import SturdyScreen
from workflow_tui.tables import Ink

LONG = 200
PURPOSE = "Several trainings at once, each from the same initial weights on the same data, all in one chart."
WAITS = "Run {} waits, and is back as it is when the race is over and left with r."


class RaceDialog(SturdyScreen, ModalScreen[tuple[TrainSpec, ...] | None]):
    """Asks for the lanes of a race; None where it was left.

    `stable_lr` is the largest stable rate, where known, `waits` the number of a run under way, which waits meanwhile.
    """

    AUTO_FOCUS = "Input"
    BINDINGS = [  # noqa: RUF012
        Binding("up", "differs(-1)", priority=True),
        Binding("down", "differs(1)", priority=True),
    ]

    def __init__(self, spec: TrainSpec, stable_lr: float | None, waits: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.stable_lr = stable_lr
        self.purpose = PURPOSE if waits is None else f"{PURPOSE} {WAITS.format(waits)}"
        self.differs: Differs = "learning rates"
        self._texts: dict[Differs, str] = {differs: race_text.proposal(differs, spec, stable_lr) for differs in DIFFERS}
        self._refused = False
        self._stands = False

    def compose(self) -> ComposeResult:
        """What differs, the field, the lanes or what is wrong."""
        with Vertical(classes="dialog") as box:
            box.border_title = "A race"
            box.border_subtitle = "enter starts it · ↑ ↓ what differs · escape leaves"
            yield Static(self.purpose, markup=False, classes="dialog-text")
            yield Static("", id="race-differs", markup=False)
            yield NameInput(self._texts[self.differs], max_length=LONG, compact=True, id="lanes")
            yield Static("", id="race-lanes", markup=False)

    def on_mount(self) -> None:
        """Show the lanes that are proposed."""
        self._stands = True
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that come before there is a field do nothing."""
        return self._stands

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._texts[self.differs] = event.value
        self._refused = False
        self._show()

    def _show(self) -> None:
        ink = Ink(self)
        choice = Text("What differs:")
        for differs in DIFFERS:
            taken = differs == self.differs
            choice.append("  ").append(f"{'●' if taken else '○'} {differs}", ink("accent", "bold") if taken else "")
        self.query_one("#race-differs", Static).update(choice)
        self.query_one("#race-lanes", Static).update(self._lanes(ink))

    def _lanes(self, ink: Ink) -> Text:
        try:
            lanes = race_text.lanes(self._texts[self.differs], self.differs, self.spec)
        except ValueError as error:
            weight = "bold" if self._refused else ""
            return Text().append(f"× {sanitize(str(error), 300)}", ink("bad", weight))
        text = Text()
        labels = [race_text.label(lane, self.differs) for lane in lanes]
        width = max(map(len, labels))
        for number, (lane, label) in enumerate(zip(lanes, labels, strict=True), start=1):
            text.append(f"lane {number}  ", ink("muted")).append(f"{label:<{width}}", "bold")
            text.append(f"  {race_text.remark(lane, self.stable_lr)}".rstrip() + "\n", ink("validation"))
        return text.append(f"all: {race_text.shared(self.spec, self.differs)}", ink("muted"))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            self.dismiss(race_text.lanes(event.value, self.differs, self.spec))
        except ValueError:
            self._refused = True
            self._show()

    def action_differs(self, by: int) -> None:
        """The other thing that may differ; what was typed for this one is kept."""
        self.differs = DIFFERS[(DIFFERS.index(self.differs) + by) % len(DIFFERS)]
        field = self.query_one(Input)
        field.value = self._texts[self.differs]
        field.cursor_position = len(field.value)
        self._show()

    def on_key(self, event: events.Key) -> None:
        """Escape leaves everything as it is."""
        if event.key == "escape":
            event.stop()
            self.dismiss(None)
