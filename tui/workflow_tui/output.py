"""The last gate before the terminal: no control character of any content passes, and ASCII terminals get ASCII."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

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
        return text.isprintable() and (not self.ascii_only or text.isascii())

    def _clean(self, text: str) -> str:
        if self.ascii_only:
            text = text.translate(ASCII)
        return "".join(character if self._fine(character) else "?" * cell_len(character) for character in text)
