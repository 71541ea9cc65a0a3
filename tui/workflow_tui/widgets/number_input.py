"""A field for a number that cannot freeze: float() and int() decide, not a regular expression.

Textual's own `Input(type="number")` matches a pattern that backtracks; twenty digits and a letter stop the app.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.validation import ValidationResult, Validator
from textual.widgets import Input

MAX_LENGTH = 32
Number = float | int


def parse(text: str, *, integer: bool = False) -> Number:
    """The number a person typed. Raises ValueError with half a sentence that follows the field's name."""
    text = text.strip()
    if not text:
        raise ValueError("needs a number")
    # float() also takes 1_000 and digits of other scripts, which a stranger would not expect here
    if len(text) > MAX_LENGTH or not text.isascii() or "_" in text:
        raise ValueError("is not a number")
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    if not integer:
        return number
    try:
        return int(text)
    except ValueError:
        pass
    if not number.is_integer() or abs(number) >= 2**53:
        raise ValueError("must be a whole number")
    return int(number)


class Range(Validator):
    """Accepts what `parse` accepts and what lies between two limits, both included; None is no limit."""

    def __init__(self, name: str, minimum: Number | None, maximum: Number | None, *, integer: bool) -> None:
        super().__init__()
        self.name = name
        self.minimum = minimum
        self.maximum = maximum
        self.integer = integer

    def number(self, text: str) -> Number:
        """The number in `text`. Raises ValueError with one short sentence."""
        try:
            number = parse(text, integer=self.integer)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None
        low, high = self.minimum, self.maximum
        too_low, too_high = low is not None and number < low, high is not None and number > high
        if too_low or too_high:
            limits = [_limit(limit) for limit in (low, high) if limit is not None]
            bound = "lie between" if len(limits) == 2 else "be at least" if too_low else "be at most"
            raise ValueError(f"{self.name} must {bound} {' and '.join(limits)}")
        return number

    def validate(self, value: str) -> ValidationResult:
        """For the stock Input: valid or not, with the sentence."""
        try:
            self.number(value)
        except ValueError as error:
            return self.failure(str(error), value)
        return self.success()


def _limit(number: Number) -> str:
    """A limit as people write it: 1,000,000 and 0.5, but 1e30."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        number = int(number)
    return f"{number:,}" if isinstance(number, int) else f"{number:g}".replace("e+", "e")


def stepped(text: str, direction: int, step: Number | None, *, integer: bool) -> str:
    """The text `direction` steps on, in exact decimals; without a `step`, one in the second significant digit.

    Raises ValueError where the text is no number.
    """
    number = Decimal(str(parse(text, integer=integer)))
    if step is not None:
        unit = Decimal(str(step))
    elif number == 0:
        unit = Decimal(1) if integer else Decimal("0.1")
    else:
        unit = Decimal(10) ** (number.adjusted() - 1)
    if integer:
        unit = max(unit, Decimal(1)).to_integral_value()
    return _plain(number + direction * unit)


def _plain(number: Decimal) -> str:
    number = number.normalize() if number else Decimal(0)
    return f"{number:f}" if -7 < number.adjusted() < 20 else f"{number:e}".replace("e+", "e")


class NumberInput(Input):
    """One number in a field: up and down step it, `number` is its value, `error` what is wrong with it.

    Everything that holds for `Input` holds here, its messages included; the messages below come beside them, and only
    for numbers that are valid.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(1)", "more", show=False),
        Binding("down", "step(-1)", "less", show=False),
        Binding("pageup", "step(10)", "ten more", show=False),
        Binding("pagedown", "step(-10)", "ten less", show=False),
    ]

    class _Numbered(Message):
        def __init__(self, control: NumberInput, number: Number) -> None:
            super().__init__()
            self.number_input = control
            self.number = number

        @property
        def control(self) -> NumberInput:
            """The field."""
            return self.number_input

    class Numbered(_Numbered):
        """The field holds another valid number."""

    class Entered(_Numbered):
        """Enter was pressed on a valid number."""

    class Stepped(_Numbered):
        """A key stepped the field to another valid number."""

    def __init__(
        self,
        value: Number | str | None = None,
        *,
        integer: bool = False,
        minimum: Number | None = None,
        maximum: Number | None = None,
        step: Number | None = None,
        label: str = "",
        unit: str = "",
        placeholder: str = "",
        name: str | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
        disabled: bool = False,
        compact: bool = False,
    ) -> None:
        """`label` names the number in its error; label and unit stand in the border where there is one (not `compact`).

        Without a `step` the arrow keys change the second significant digit.
        """
        self.range = Range(label or "this", minimum, maximum, integer=integer)
        self.step = step
        self._reported: Number | None = None
        super().__init__(
            None if value is None else str(value),
            placeholder=placeholder,
            max_length=MAX_LENGTH,
            validators=[self.range],
            name=name,
            id=id,
            classes=classes,
            disabled=disabled,
            compact=compact,
        )
        if not compact:
            self.border_title = Content(label)
            self.border_subtitle = Content(unit)

    @property
    def number(self) -> Number | None:
        """The number in the field, None where it is not valid."""
        try:
            return self.range.number(self.value)
        except ValueError:
            return None

    @property
    def error(self) -> str:
        """What is wrong with the field as one short sentence; empty where nothing is."""
        try:
            self.range.number(self.value)
        except ValueError as error:
            return str(error)
        return ""

    def replace(self, text: str, start: int, end: int) -> None:
        """Put `text` in place of a part; what cannot be seen is left out."""
        super().replace("".join(char for char in text if char.isprintable()), start, end)

    def action_step(self, steps: int) -> None:
        """Step the number; at a limit it stays there, and what is no number is left alone."""
        try:
            text = stepped(self.value, steps, self.step, integer=self.range.integer)
            number = parse(text, integer=self.range.integer)
        except ValueError:
            return
        low, high = self.range.minimum, self.range.maximum
        if low is not None and number < low:
            text = _plain(Decimal(str(low)))
        elif high is not None and number > high:
            text = _plain(Decimal(str(high)))
        if text == self.value:
            return
        self.value = text
        self.cursor_position = len(text)
        if self.number is not None:
            self.post_message(self.Stepped(self, self.number))

    def on_input_changed(self) -> None:
        """Tell of a number that is new and valid."""
        number = self.number
        if number is not None and number != self._reported:
            self._reported = number
            self.post_message(self.Numbered(self, number))

    def on_input_submitted(self) -> None:
        """Tell of a valid number that was entered."""
        if (number := self.number) is not None:
            self.post_message(self.Entered(self, number))
