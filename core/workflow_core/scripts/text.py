"""How values and lists of them are written in Python, so that they read back as exactly what they were."""

from __future__ import annotations

import math
from collections.abc import Iterable
from textwrap import fill

WIDTH = 100


def number(value: float) -> str:
    """A float's literal; a whole number typed for a float would make torch.arange give integers."""
    return repr(float(value))


def numbers(values: Iterable[float]) -> str:
    """The literals of several floats, with commas between them."""
    return ", ".join(map(number, values))


def comment(text: str) -> str:
    """`text` as lines of a comment, broken at its blanks, without an end of line after the last."""
    return fill(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def filled(items: Iterable[str]) -> str:
    """The items with a comma after each, on indented lines that are broken between them and never within one."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + 2 <= WIDTH:
            lines[-1] += f" {item},"
        else:
            lines.append(f"    {item},")
    return "\n".join(lines)


def listed(name: str, opening: str, items: Iterable[str], closing: str) -> str:
    """`name = opening items closing` on one line where it fits, else the items on lines of their own."""
    items = list(items)
    line = f"{name} = {opening}{', '.join(items)}{closing}"
    if len(line) <= WIDTH:
        return line + "\n"
    return f"{name} = {opening}\n{filled(items)}\n{closing}\n"


def literal(value: bool | int | float | str | list[bool | int | float | str]) -> str:
    """The literal of an argument; NaN and infinity have none of their own."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value!r}')"
    return repr(value)
