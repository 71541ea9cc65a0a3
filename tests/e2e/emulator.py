"""What a terminal makes of a program's bytes: the screen that stands there, and the modes that are switched on."""

from __future__ import annotations

import re

import pyte

_ESC = 0x1B
_SEQUENCE = re.compile(
    rb"\x1b(?:"
    rb"\[(?P<prefix>[<=>?]?)(?P<params>[0-9:;]*)(?P<middle>[ -/]*)(?P<final>[@-~])"
    rb"|\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|[PX^_][^\x1b]*\x1b\\"
    rb"|(?P<plain>[ -/]*[0-OQ-WYZ\\`-~])"
    rb")"
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?")

AUTOWRAP, CURSOR, SYNCHRONIZED = 7, 25, 2026
ALTERNATE = (47, 1047, 1049)
NAMES = {
    CURSOR: "the cursor is hidden",
    **dict.fromkeys(ALTERNATE, "the alternate screen stands"),
    **dict.fromkeys((9, 1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016), "the mouse is reported"),
    1004: "the focus is reported",
    2004: "pastes are bracketed",
    SYNCHRONIZED: "a synchronized update is open",
    2031: "colour changes are reported",
    2048: "resizes are reported in band",
}
_ON_AT_START = frozenset({AUTOWRAP, CURSOR})


class Emulator:
    """A screen of `columns` by `rows`, with a second one for the alternate screen, as real terminals have.

    pyte knows one screen only, and takes several sequences for others that look alike (`CSI > 1 u` for "restore the
    cursor"); those never reach it. Modes are kept by their DEC number.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._main = pyte.Screen(columns, rows)
        self._alternate = pyte.Screen(columns, rows)
        self._screen = self._main
        self._stream = pyte.ByteStream(self._screen)
        self._unfinished = b""
        self.modes: set[int] = set(_ON_AT_START)
        self.keyboard_levels = 0
        self.modify_other_keys = 0
        self.title = ""
        self.commands: list[bytes] = []  # operating system commands: titles, clipboard writes ...

    @property
    def alternate(self) -> bool:
        """Does the alternate screen stand?"""
        return self._screen is self._alternate

    @property
    def lines(self) -> list[str]:
        """The rows of the screen that stands, without trailing blanks."""
        screen = self._screen
        rows = (screen.buffer[y] for y in range(screen.lines))
        return ["".join(row[x].data for x in range(screen.columns)).rstrip() for row in rows]

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row of the cursor, from 0."""
        return self._screen.cursor.x, self._screen.cursor.y

    def resize(self, columns: int, rows: int) -> None:
        """Give both screens another size."""
        for screen in (self._main, self._alternate):
            screen.resize(rows, columns)

    def leftovers(self) -> list[str]:
        """What is not as it was at the start, in words; empty after a program that has tidied up."""
        left = {NAMES.get(mode, f"mode {mode} is on") for mode in self.modes - _ON_AT_START}
        left |= {NAMES.get(mode, f"mode {mode} is off") for mode in _ON_AT_START - self.modes}
        if self.keyboard_levels:
            left.add("the kitty keyboard protocol is on")
        if self.modify_other_keys:
            left.add("modified keys are reported")
        attributes = self._screen.cursor.attrs
        if (attributes.fg, attributes.bg, attributes.bold, attributes.reverse) != ("default", "default", False, False):
            left.add("text goes on in another style")
        return sorted(left)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a sequence that they break off in waits for its rest."""
        data = self._unfinished + data
        at, text = 0, bytearray()
        while (escape := data.find(_ESC, at)) >= 0:
            text += data[at:escape]
            if match := _SEQUENCE.match(data, escape):
                at = match.end()
                if self._passes(match):
                    text += match[0]
                else:
                    self._draw(text)
                    self._apply(match)
            elif _UNFINISHED.fullmatch(data, escape):
                at = escape
                break
            else:
                at = escape + 1  # no sequence at all
        else:
            text += data[at:]
            at = len(data)
        self._unfinished = data[at:]
        self._draw(text)

    def _draw(self, text: bytearray) -> None:
        self._stream.feed(bytes(text))
        text.clear()

    def _passes(self, match: re.Match[bytes]) -> bool:
        if match["final"]:
            return not match["prefix"] and not match["middle"] and b":" not in match["params"]
        # pyte takes one byte after ESC, or two where the first is one of these
        plain = match["plain"]
        return plain is not None and (len(plain) == 1 or (len(plain) == 2 and plain[:1] in b"#%()"))

    def _apply(self, match: re.Match[bytes]) -> None:
        if match["osc"] is not None:
            self.commands.append(match["osc"])
            code, _, value = match["osc"].partition(b";")
            if code in (b"0", b"2"):
                self.title = value.decode(errors="replace")
            return
        if match["middle"] or not match["prefix"]:
            return
        numbers = [int(number) for number in re.findall(rb"\d+", match["params"])]
        kind = match["prefix"] + match["final"]
        if kind in (b"?h", b"?l"):
            for mode in numbers:
                self._switch(mode, kind == b"?h")
        elif kind == b">u":
            self.keyboard_levels += 1
        elif kind == b"<u":
            self.keyboard_levels = max(0, self.keyboard_levels - (numbers[0] if numbers else 1))
        elif kind == b">m" and numbers[:1] in ([], [4]):
            self.modify_other_keys = numbers[1] if len(numbers) > 1 else 0

    def _switch(self, mode: int, on: bool) -> None:
        (self.modes.add if on else self.modes.discard)(mode)
        if mode in ALTERNATE and on is not self.alternate:
            if on:
                self._alternate.reset()
            self._screen = self._alternate if on else self._main
            self._stream = pyte.ByteStream(self._screen)
        elif mode in (AUTOWRAP, CURSOR):
            (self._screen.set_mode if on else self._screen.reset_mode)(mode, private=True)
