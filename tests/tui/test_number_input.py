"""Numbers are typed, pasted and stepped without a freeze; only valid ones are told."""

from __future__ import annotations

import math
import re
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.events import Paste
from textual.widgets import Input

from workflow_tui.widgets.number_input import NumberInput, Range, parse, stepped


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back(number: float) -> None:
    assert parse(f" {number!r} ") == number


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_a_finite_number_or_a_value_error(text: str, integer: bool) -> None:
    try:
        number = parse(text, integer=integer)
    except ValueError:
        return
    assert math.isfinite(number)
    assert not integer or isinstance(number, int)


@pytest.mark.parametrize("text", ["", " ", "1_000", "nan", "inf", "-inf", "1e999", "١٢", "0x10", "1,5", "9" * 40])
def test_what_a_stranger_would_not_call_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse(text)


@pytest.mark.parametrize(("text", "number"), [("1e3", 1000), ("42", 42), ("-0", 0), ("9007199254740993", 2**53 + 1)])
def test_whole_numbers(text: str, number: int) -> None:
    assert parse(text, integer=True) == number
    with pytest.raises(ValueError, match="whole"):
        parse("0.5", integer=True)


@pytest.mark.parametrize(
    ("text", "direction", "step", "result"),
    [
        ("0.7", 1, None, "0.71"),
        ("0.01", -1, None, "0.009"),
        ("0", 1, None, "0.1"),
        ("42", 1, None, "43"),
        ("0.7", 1, 0.1, "0.8"),
        ("0.1", 2, 0.1, "0.3"),
        ("1e-05", 1, None, "0.000011"),
        ("1e-30", 1, None, "1.1e-30"),
    ],
)
def test_steps_are_exact_decimals(text: str, direction: int, step: float | None, result: str) -> None:
    assert stepped(text, direction, step, integer=False) == result


@given(st.integers(-(10**6), 10**6), st.integers(1, 1000), st.integers(1, 50))
def test_steps_there_and_back_again(start: int, step: int, count: int) -> None:
    there = stepped(str(start), count, step / 1000, integer=False)
    assert parse(stepped(there, -count, step / 1000, integer=False)) == start


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 1e6, "between 0 and 1,000,000"),
        (0.0, 0.5, "between 0 and 0.5"),
        (-1e30, 1e30, "between -1e30 and 1e30"),
        (1, 10**9, "between 1 and 1,000,000,000"),
        (0, 2**63 - 1, "between 0 and 9,223,372,036,854,775,807"),
        (1.0, None, "at least 1"),
        (None, 100.0, "at most 100"),
    ],
)
def test_limits_are_told_as_people_write_them(low: float | None, high: float | None, words: str) -> None:
    outside = "9e30" if high is not None else "-1"
    with pytest.raises(ValueError, match=rf"{re.escape(words)}$"):
        Range("rate", low, high, integer=False).number(outside)


class Fields(App[None]):
    def __init__(self, field: NumberInput) -> None:
        super().__init__()
        self.field = field
        self.told: list[tuple[str, float]] = []
        self.stock: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.field

    def on_number_input_numbered(self, event: NumberInput.Numbered) -> None:
        assert event.control is self.field
        self.told.append(("numbered", event.number))

    def on_number_input_entered(self, event: NumberInput.Entered) -> None:
        self.told.append(("entered", event.number))

    def on_number_input_stepped(self, event: NumberInput.Stepped) -> None:
        self.told.append(("stepped", event.number))

    def on_input_changed(self, event: Input.Changed) -> None:
        self.stock.append(event.value)


async def test_only_valid_numbers_are_told_and_stock_messages_go_on() -> None:
    app = Fields(NumberInput(minimum=0, maximum=100, label="epochs", integer=True))
    async with app.run_test() as pilot:
        app.field.focus()
        await pilot.press("5", "x", "enter")
        assert app.told == [("numbered", 5)]
        assert app.stock == ["5", "5x"]
        assert app.field.number is None
        assert app.field.error == "epochs is not a number"
        assert app.field.has_class("-invalid")
        await pilot.press("backspace", "0", "0", "enter")
        assert app.field.error == "epochs must lie between 0 and 100"
        await pilot.press("backspace", "enter")
        assert app.told[-2:] == [("numbered", 50), ("entered", 50)]


async def test_arrows_step_and_stop_at_the_limits() -> None:
    app = Fields(NumberInput(minimum=0, maximum=1, step=0.1))
    async with app.run_test() as pilot:
        app.field.focus()
        await pilot.press(*"0.7")
        await pilot.press("up")
        assert app.field.value == "0.8"
        await pilot.press("pageup", "up")
        assert app.field.value == "1"
        await pilot.press("pagedown", "down", "down")
        assert app.field.value == "0"
        assert [number for kind, number in app.told if kind == "stepped"] == [0.8, 1.0, 0.0]
        app.field.value = "x"
        await pilot.press("up")
        assert app.field.value == "x"


async def test_the_largest_seed_steps_without_loss() -> None:
    app = Fields(NumberInput(integer=True, minimum=0, maximum=2**63 - 1))
    async with app.run_test() as pilot:
        app.field.focus()
        app.field.value = str(2**63 - 3)
        await pilot.press("up", "up", "up")
        assert app.field.number == 2**63 - 1


async def test_twenty_digits_and_a_letter_are_instant() -> None:
    app = Fields(NumberInput())
    async with app.run_test() as pilot:
        app.field.focus()
        start = perf_counter()
        await pilot.press(*"12345678901234567890x")
        app.field.post_message(Paste("9" * 100_000 + "x"))
        app.field.value = "1" * 100_000 + "x"
        await pilot.pause()
        assert app.field.number is None
        assert perf_counter() - start < 2


async def test_a_paste_leaves_nothing_invisible_behind() -> None:
    app = Fields(NumberInput(label="[/]", unit="[@click=app.quit]s[/]"))
    async with app.run_test() as pilot:
        app.field.focus()
        app.field.post_message(Paste("\x1b[31m0.5"))
        await pilot.pause()
        assert app.field.value == "[31m0.5"
        assert app.field.error == "[/] is not a number"
