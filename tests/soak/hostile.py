"""Names that were made to do harm where they are shown, and what of them must never reach a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

STRINGS = (
    # sequences that a terminal carries out
    "\x1b[31;5;777mred\x1b[777m",
    "\x1b[777J\x1b[77;777Hcleared",
    "\x1b[?1049;777lleft",
    "\x1b[777n\x1b[777c\x1b[>777q",
    "\x1b]0;OWNED\x07title",
    "\x1b]2;OWNED\x1b\\title",
    "\x1b]8;;http:evil\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;T1dORUQ=\x07clip",
    "\x1b]1337;File=inline=1:T1dORUQ=\x07image",
    "\x1bP+q544e\x1b\\dcs\x1b_apc\x1b\\",
    "\x1bPq#0;2;0;0;0#0~~\x1b\\sixel",
    "bare\x1b",
    "\x9b777mc1\x9b777m",
    "\x9d0;OWNED\x9cc1 title",
    "\x90+q\x9cdcs\x84\x85nel",
    # control characters
    "two\nlines\r\nthree\rover",
    "tab\tbell\x07back\x08\x08\x08del\x7f",
    "\x0e\x0fshift\x18\x1acan\x05enq",
    # markup
    "[red]red[/red]",
    "[@click=app.quit]x[/]",
    "[@click=app.bell()]x[/@click]",
    "[/]",
    "[link=http:evil]x[/link]",
    "[unclosed",
    "back\\[slash\\",
    "[$primary on $error]v[/][[]]",
    # what changes the order or the width of its neighbours
    "\u202egnp.tp\u202c\u2066x\u2069\u200f",
    "zero\u200b\u200c\u2060\ufeffwidth\u00ad",
    "marks" + "\u0301\u0308\u0336" * 20,
    "\u0301\u0302begins with marks",
    "幅広い文字列ｗｉｄｅ한글",
    "👩\u200d👩\u200d👧\u200d👦🏳\ufe0f\u200d🌈👍🏽🇩🇪",
    "sep\u2028ara\u2029tors\u3000\u00a0nbsp",
    "\ue000private\U000f0000\U000e0041tag\ufdd0\uffff",
    "\u115f\u3164\uffa0blank\u2800\u17b5",
    # what shells, formats and programs read
    "$(reboot) `reboot` ; rm -rf . | x & y > z",
    "%s %n %(x)s {0} {x!r} ${HOME} ~",
    "--json",
    "'\"\"\"'''; __import__('os')#",
    '=cmd|" C"!A1',
    "nan",
    "1e309",
    "engine ● · finished. Error: Traceback (most recent call last):",
    "x" * 240,
    "Ｉ" * 80,
)
"""At least 40, each a name of at most 255 bytes without a slash or a NUL."""

TOGETHER = "\x1b[777m[@click=app.quit]x[/]幅\u202e🇩🇪\x9b777me\u0301\n\x1b]52;c;QQ==\x07{0} %s =1+1 ' \" \\ [unclosed"
"""Much of that in one."""

BYTES = (b"not\xffutf8\xfe", b"\x9b31m raw c1", b"cut\xe2\x82")
"""Names of files only."""

MARK = b"777"
"""A parameter of all control sequences in these names, and of none that the program writes itself."""

_COMMAND = re.compile(rb"\x1b\]([^\x07\x1b]*)(?:\x07|\x1b\\)")
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;:<=>?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78cHMDE])")


def harm(output: bytes, own: Container[bytes] = ()) -> list[str]:
    """What in the bytes that were written to a terminal can only be of a name: empty where nothing is.

    `own` are the operating system commands that the program gives itself.
    """
    found = [f"command {command!r}" for command in _COMMAND.findall(output) if command not in own]
    found += [f"sequence {each!r}" for each in _SEQUENCE.findall(output) if MARK in each]
    text = _SEQUENCE.sub(b"", _COMMAND.sub(b"", output)).decode(errors="surrogateescape")
    for character in sorted(set(text)):
        kind = unicodedata.category(character)
        if character not in "\r\n\t" and kind in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            at = text.index(character)
            found.append(f"U+{ord(character):04X} in {text[max(0, at - 20) : at + 20]!r}")
    return found
