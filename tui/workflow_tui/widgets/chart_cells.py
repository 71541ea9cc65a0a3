"""What a chart is made of on the screen: cells that name a role or a level of a map, not a colour.

So a change of theme needs no new drawing, and two drawings can be compared cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len

from workflow_tui.theme import Role


class Tone(NamedTuple):
    """A cell of a map: the levels of its two halves, and what role is written on it (None: nothing but the map)."""

    role: Role | None
    upper: int
    lower: int


Ink = Role | Tone | None
Cell = tuple[str, Ink]
Row = tuple[Cell, ...]
BLANK: Cell = (" ", None)


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters a chart is drawn with; `ramp` are those of a map without colours, from least to greatest, none of
    them a sign of anything else."""

    column: str
    tick_left: str
    row: str
    tick_below: str
    corner: str
    mark: str
    cursor: str
    zero: str
    more: str
    ramp: str


UNICODE = Signs("│", "┤", "─", "┬", "└", "┊", "│", "▁", "…", " ··░░▒▒▓▓█")
ASCII = Signs("|", "+", "-", "+", "+", ":", "|", "_", "~", " `,-~;!/&$")


def signs(use_ascii: bool) -> Signs:
    """The characters for a terminal that takes ASCII only, or any."""
    return ASCII if use_ascii else UNICODE


@lru_cache(256)
def narrow(text: str) -> str:
    """The text with everything that is not exactly one cell wide replaced, so that a grid can hold it."""
    return "".join(char if char.isprintable() and cell_len(char) == 1 else "?" for char in text[:200])


def elided(text: str, most: int, more: str) -> str:
    """Both ends of a text that is too long: where it belongs and what it is; `more` stands for what is left out."""
    if len(text) <= most:
        return text
    if most < 2:
        return text[: max(most, 0)]
    head = (most - 1) // 2
    return text[:head] + more + text[len(text) - (most - 1 - head) :]


def written(text: str, ink: Ink) -> list[Cell]:
    """The cells of a text; blanks have no ink."""
    return [(char, ink if char != " " else None) for char in text]


def fit(cells: list[Cell], width: int) -> Row:
    """Exactly `width` cells."""
    return tuple((cells + [BLANK] * width)[:width])
