"""The last gate before the terminal: no control character of any content passes, no content is wider than the screens
take it for, and ASCII terminals get ASCII."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from workflow_core.sanitize import UNSTEADY

ASCII = str.maketrans(
    {
        **dict.fromkeys("─━┄┈╌═", "-"),
        **dict.fromkeys("│┃┆┊╎║▏▎▍▌▐▕", "|"),
        **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╞╡╪┠┨", "+"),
        **dict.fromkeys("●•·", "*"),
        **dict.fromkeys("–—−", "-"),
        "▲": "^",
        "◆": "x",
        "▶": ">",
        "■": "#",
        "✓": "+",
        "✗": "!",
        "↻": "~",
        "○": "o",
        "…": ".",
        "→": ">",
        "←": "<",
        "↑": "^",
        "↓": "v",
        "▼": "v",
        "▾": "v",
        "×": "x",
        "≠": "!",
        "²": "2",
        "∂": "d",
    }
)

_UNSTEADY = re.compile(f"[{''.join(map(chr, UNSTEADY))}]")


class OutputGuard(LineFilter):
    """Lets no control character of any content pass, and makes everything ASCII where the terminal takes no more."""

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__()
        self.ascii_only = ascii_only

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments of one line, each as wide as before."""
        return [
            segment if segment.control or self._fine(segment.text) else segment._replace(text=self._clean(segment.text))
            for segment in segments
        ]

    def _fine(self, text: str) -> bool:
        return text.isprintable() and (text.isascii() or not (self.ascii_only or _UNSTEADY.search(text)))

    def _clean(self, text: str) -> str:
        steady = text.translate(UNSTEADY)
        if self.ascii_only:
            steady = steady.translate(ASCII)
        clean = "".join(character if self._fine(character) else "?" * cell_len(character) for character in steady)
        # what stands for several characters that were joined to one would move what stands behind it
        return set_cell_size(clean, cell_len(text))
