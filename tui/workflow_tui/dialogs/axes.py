"""A dialog that asks for the two parameters that a loss surface is over."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from workflow_core.protocol import TensorView
from workflow_core.sanitize import sanitize
from workflow_tui import figures
from workflow_tui.sturdy import SturdyScreen

MOST = 12
"""Tensors that are listed at most."""
_PLACE = re.compile(r"(.*?)(?:\[\s*([\d\s,]*)\])?$", re.DOTALL)


def scalar(text: str, tensors: Sequence[TensorView]) -> str:
    """The name of one number of the model, as the engine knows it. Raises ValueError with one sentence."""
    match = _PLACE.match(text.strip())
    assert match is not None
    name, place = match[1].strip(), match[2]
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        raise ValueError(f"there is no parameter {sanitize(name, 40)!r}" if name else "name a parameter")
    axes = [length for length in tensor.shape if length > 1]
    if math.prod(tensor.shape) == 0:
        raise ValueError(f"{sanitize(name, 40)} holds no number")
    if place is None:
        if axes:
            raise ValueError(f"{sanitize(name, 40)} has shape {figures.shape(tensor.shape)}: say which number of it")
        return name
    digits = [part.strip() for part in place.split(",")]
    if any(not part.isdecimal() or len(part) > 9 for part in digits) or len(digits) != len(axes):
        like = ",".join("0" for _ in axes)
        raise ValueError(
            f"a number of {sanitize(name, 40)} is named {sanitize(name, 40)}" + (f"[{like}]" if axes else "")
        )
    places = [int(part) for part in digits]
    if any(at >= length for at, length in zip(places, axes, strict=True)):
        raise ValueError(f"{sanitize(name, 40)} has shape {figures.shape(tensor.shape)}, counted from 0")
    return f"{name}[{','.join(map(str, places))}]"


class AxesDialog(SturdyScreen, ModalScreen[tuple[str, str] | None]):
    """Two names of single numbers; None where it was left."""

    def __init__(self, tensors: Sequence[TensorView], now: tuple[str, str] | None) -> None:
        super().__init__()
        self.tensors = tuple(tensors)
        self.now = now or ("", "")

    def compose(self) -> ComposeResult:
        """What there is, two fields, and how to leave."""
        with Vertical(classes="dialog") as box:
            box.border_title = "Loss surface over"
            box.border_subtitle = "enter applies · tab other field · escape leaves it"
            yield Static(self._what_there_is(), markup=False, classes="dialog-text")
            for axis, name in zip(("across", "up"), self.now, strict=True):
                field = Input(name, compact=True, id=f"axis-{axis}", max_length=300)
                yield Static(axis, markup=False, classes="axis-label")
                yield field
            yield Static("", markup=False, id="number-error")

    def _what_there_is(self) -> Text:
        text = Text("All other parameters stay as they are. The model has\n")
        for tensor in self.tensors[:MOST]:
            text.append(f"  {sanitize(tensor.name, 50)}", "bold").append(f"  {figures.shape(tensor.shape)}\n")
        if len(self.tensors) > MOST:
            text.append(f"  and {len(self.tensors) - MOST} more\n")
        several = next((tensor for tensor in self.tensors if math.prod(tensor.shape) > 1), None)
        if several is not None:
            name, places = sanitize(several.name, 40), ",".join("0" for length in several.shape if length > 1)
            text.append(f"One number of several is named by its place, from 0: {name}[{places}]")
        return text

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            x, y = (scalar(self.query_one(f"#axis-{axis}", Input).value, self.tensors) for axis in ("across", "up"))
            if x == y:
                raise ValueError("choose two different numbers")
        except ValueError as error:
            self.query_one("#number-error", Static).update(Text(str(error)))
            return
        self.dismiss((x, y))

    def on_key(self, event: events.Key) -> None:
        """Escape leaves it as it is."""
        if event.key == "escape":
            event.stop()
            self.dismiss(None)
