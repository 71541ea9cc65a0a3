"""Names and texts from outside are hostile: one place makes them harmless before anything shows them."""

from __future__ import annotations

import unicodedata

MAX_MARKS = 3
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_INVISIBLE = (
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
)
# each terminal draws these by themselves or joined to their neighbours as it likes
_FLAG_LETTERS = {0x1F1E6 + at: chr(0x41 + at) for at in range(26)}
_TONES_OF_SKIN = range(0x1F3FB, 0x1F400)
UNSTEADY = {**_FLAG_LETTERS, **dict.fromkeys((*_INVISIBLE, *_TONES_OF_SKIN))}
"""Letters and marks that draw nothing, change how wide their neighbours are drawn, or are of no sure width themselves;
and what stands for them, if anything."""

_BLANKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")


def sanitize(text: str, limit: int = 200) -> str:
    """`text` as one line of at most `limit` characters that any terminal, log or message can take.

    Line breaks, tabs and exotic spaces become a space; control characters (ESC and the C1 range among them), lone
    surrogates, private and unassigned characters become U+FFFD; bidi overrides, zero-width and other invisible
    characters are dropped, and so are combining marks beyond three on one character. Flags and tones of skin, whose
    width no two terminals agree on, become plain. What is cut off at the end is marked with an ellipsis. Sanitizing
    twice changes nothing.
    """
    text = text if text.isascii() else text.translate(UNSTEADY)
    clean: list[str] = []
    marks = MAX_MARKS  # a mark at the very start would attach to what stands before the text
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Cf":
            continue
        if kind[0] == "M":
            marks += 1
            if marks > MAX_MARKS:
                continue
        else:
            marks = 0
            character = _visible(character, kind)
        clean.append(character)
        if len(clean) > limit:
            return "".join([*clean[: limit - 1], "…"])[:limit]
    return "".join(clean)


def escape(text: str, encoding: str = "utf-8") -> str:
    """`text` as data for a program that a person may look at, too: nothing in it is an instruction to a terminal.

    Line breaks stay. Control, format, private and unassigned characters, and those that `encoding` lacks, become the
    escapes (`\\u009b`, `\\U000e0001`) that TOML and Python read back as the same characters within their strings.
    """
    if all(line.isprintable() for line in text.split("\n")) and _holds(encoding, text):
        return text
    return "".join(
        character if character == "\n" or (_harmless(character) and _holds(encoding, character)) else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _harmless(character: str) -> bool:
    return unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029"


def _holds(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def width(text: str) -> int:
    """How many columns of a terminal sanitized `text` takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut(text: str, room: int) -> str:
    """The beginning of sanitized `text`, as much of it as `room` columns take."""
    while width(text) > room:
        text = text[: -max(1, (width(text) - room) // 2)]
    return text


def padded(text: str, room: int, *, right: bool = False) -> str:
    """Sanitized `text` in a column of a table, which is `room` wide; at its left, or at its right."""
    blanks = " " * (room - width(text))
    return blanks + text if right else text + blanks


def _width(character: str) -> int:
    jamo = "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff"  # parts of a Hangul syllable
    if jamo or unicodedata.category(character)[0] == "M":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _visible(character: str, kind: str) -> str:
    if kind[0] == "Z" or character in _BLANKS:
        return " "
    return REPLACEMENT if kind[0] == "C" else character
