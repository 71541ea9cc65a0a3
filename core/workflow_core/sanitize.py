"""Names and texts from outside are hostile: one place makes them harmless before anything shows them."""

from __future__ import annotations

import unicodedata

MAX_MARKS = 3
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_BLANKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
# Letters and marks that draw nothing, or change how wide their neighbour is drawn.
_INVISIBLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def sanitize(text: str, limit: int = 200) -> str:
    """`text` as one line of at most `limit` characters that any terminal, log or message can take.

    Line breaks, tabs and exotic spaces become a space; control characters (ESC and the C1 range among them), lone
    surrogates, private and unassigned characters become U+FFFD; bidi overrides, zero-width and other invisible
    characters are dropped, and so are combining marks beyond three on one character. What is cut off at
    the end is marked with an ellipsis. Sanitizing twice changes nothing.
    """
    clean: list[str] = []
    marks = MAX_MARKS  # a mark at the very start would attach to what stands before the text
    for character in text:
        kind = unicodedata.category(character)
        if character in _INVISIBLE or kind == "Cf":
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


def _visible(character: str, kind: str) -> str:
    if kind[0] == "Z" or character in _BLANKS:
        return " "
    return REPLACEMENT if kind[0] == "C" else character
