"""A field for any row of features, and what the model predicts for it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from workflow_core.protocol import Predictions, Source
from workflow_core.sanitize import sanitize
from workflow_tui.tables import fitted_start, predictions_text
from workflow_tui.widgets.frame import Readout

LIMIT = 6
"""How many rows are answered at once."""
Rows = tuple[tuple[float, ...], ...]


class Predictor(Vertical):
    """Type rows, get predictions. Posts `Predictor.Asked`; who has the answer gives it to `answer`."""

    class Asked(Message):
        """Someone wants predictions for these rows."""

        def __init__(self, predictor: Predictor, rows: Rows) -> None:
            super().__init__()
            self.predictor = predictor
            self.rows = rows

    class Refused(Message):
        """What was typed cannot be predicted: one sentence."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, source: Source, nothing: str, *, id: str | None = None) -> None:  # noqa: A002
        """`nothing` is what to say where there is no model to ask."""
        super().__init__(id=id, classes="panel")
        self.source = source
        self.nothing = nothing
        self.features: tuple[str, ...] = ("x",)
        self.target = "y"
        self._model: object = None
        self._asked_of: object = None
        self._answer: Predictions | None = None
        self._stale = False

    def compose(self) -> ComposeResult:
        """The field above, the answers below."""
        yield Input(max_length=4096, compact=True)
        yield Readout(classes="answers")

    def show(self, model: object, features: Sequence[str], target: str, *, stale: bool = False) -> None:
        """Predict with `model`, None for none; answers of another one are taken back, those of a `stale` one dimmed."""
        self._stale = stale
        if model != self._model:
            self._model, self._answer = model, None
        self.features, self.target = tuple(features), target
        one = len(self.features) == 1
        names = ", ".join(sanitize(name, 30) for name in self.features)
        self.border_title = "Predict any x" if self.features == ("x",) else "Predict any row"
        field = self.query_one(Input)
        several = f"{names}; a second row after a semicolon"
        if len(names) > field.size.width:
            several = f"{len(self.features)} numbers: {fitted_start(names, field.size.width - 12)}"
        field.placeholder = f"{names}, for example 0.5 or 0.25 0.75" if one else several
        text = Text(f"enter, then {names if one else 'a row'}: y_pred appears here")
        if self._answer is not None:
            text = predictions_text(self, self._answer, self.features, self.target)
        self.query_one(Readout).show(text, stale=stale and self._answer is not None)

    def answer(self, answer: Predictions) -> None:
        """Show predictions, if they are those of the model that is there now."""
        if self._asked_of == self._model:
            self._answer = answer
            self.show(self._model, self.features, self.target, stale=self._stale)

    @on(Input.Submitted)
    def _asked(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value.strip():
            self.screen.set_focus(None)
            return
        if self._model is None:
            self.post_message(self.Refused(self.nothing))
            return
        try:
            rows = rows_of(event.value, self.features)
        except ValueError as error:
            self._answer = None
            self.show(self._model, self.features, self.target, stale=self._stale)
            self.post_message(self.Refused(str(error)))
            return
        self._asked_of = self._model
        self.post_message(self.Asked(self, rows))


def rows_of(text: str, features: Sequence[str]) -> Rows:
    """The rows in `text`: of one feature values with blanks between them, of several rows with semicolons between.

    Rows of several features may stand with blanks between them where commas hold each together: `1,2 3,4`.
    Raises ValueError with one sentence.
    """
    if len(features) == 1:
        rows: Rows = tuple((value,) for value in _numbers(text.replace(", ", " ").replace(";", " ")))
    else:
        rows = tuple(_numbers(part.replace(",", " ")) for part in _parts(text, len(features)))
    for row in rows:
        if len(row) != len(features):
            raise ValueError(
                f"A row needs {len(features)} numbers, not {len(row)}, and a semicolon ends it: "
                f"{sanitize(', '.join(features), 80)}"
            )
    if not rows:
        raise ValueError("Predict needs numbers: such as 0.5 or 0.25 0.75")
    if len(rows) > LIMIT:
        raise ValueError(f"Predict answers {LIMIT} rows at a time; these are {len(rows)}")
    return rows


def _parts(text: str, count: int) -> list[str]:
    if ";" not in text:
        words = re.sub(r"\s*,\s*", ",", text).split()
        if all(word.count(",") == count - 1 for word in words):
            return words
    return [part for part in text.split(";") if part.strip()]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split())
    except ValueError:
        hint = "write decimals with a point, and blanks between" if "," in text else "such as 0.5 or 0.25 0.75"
        raise ValueError(f"Predict needs numbers: {hint}") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError("Predict needs finite numbers, such as 0.5")
    return numbers
