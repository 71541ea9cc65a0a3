"""A field for any x, and what the model predicts for it."""

from __future__ import annotations

import math

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from workflow_core.protocol import Predictions, Source
from workflow_tui.tables import predictions_text
from workflow_tui.widgets.frame import Readout

LIMIT = 6
"""How many values of x are answered at once."""


class Predictor(Vertical):
    """Type x values, get predictions. Posts `Predictor.Asked`; the screen answers with `show`."""

    class Asked(Message):
        """Someone wants predictions for `x`."""

        def __init__(self, predictor: Predictor, x: tuple[float, ...]) -> None:
            super().__init__()
            self.predictor = predictor
            self.x = x

    class Refused(Message):
        """What was typed holds no numbers: one sentence."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, source: Source, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes="panel")
        self.source = source
        self.border_title = "Predict any x"

    def compose(self) -> ComposeResult:
        """The field above, the answers below."""
        yield Input(placeholder="x, for example 0.5 or 0.25 0.75", max_length=120, compact=True)
        yield Readout(classes="answers")

    def show(self, answer: Predictions | None) -> None:
        """Show predictions; None takes back those of a model that has changed."""
        text = Text("enter, then x: y_pred appears here") if answer is None else predictions_text(self, answer)
        self.query_one(Readout).show(text)

    @on(Input.Submitted)
    def _asked(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value.strip():
            self.screen.set_focus(None)
            return
        try:
            self.post_message(self.Asked(self, numbers(event.value)))
        except ValueError as error:
            self.show(None)
            self.post_message(self.Refused(str(error)))


def numbers(text: str) -> tuple[float, ...]:
    """The values of x in `text`, with spaces between them. Raises ValueError with one sentence."""
    try:
        x = tuple(float(word) for word in text.replace(", ", " ").replace(";", " ").split())
    except ValueError:
        hint = "write decimals with a point, and spaces between" if "," in text else "such as 0.5 or 0.25 0.75"
        raise ValueError(f"Predict needs numbers: {hint}") from None
    if not all(map(math.isfinite, x)):
        raise ValueError("Predict needs finite numbers, such as 0.5")
    if len(x) > LIMIT:
        raise ValueError(f"Predict answers {LIMIT} values of x at a time; these are {len(x)}")
    return x
