"""The bytes a terminal sends for a key, by Textual's names, so that tests read like the key tables of the app."""

from __future__ import annotations

import unicodedata

_CSI = {"up": "A", "down": "B", "right": "C", "left": "D", "end": "F", "home": "H"}
_TILDE = {"insert": 2, "delete": 3, "pageup": 5, "pagedown": 6, "f5": 15, "f6": 17, "f7": 18, "f8": 19}
_TILDE |= {"f9": 20, "f10": 21, "f11": 23, "f12": 24}
_SS3 = {"f1": "P", "f2": "Q", "f3": "R", "f4": "S"}
_PLAIN = {
    "enter": b"\r",
    "tab": b"\t",
    "escape": b"\x1b",
    "space": b" ",
    "backspace": b"\x7f",
    "shift+tab": b"\x1b[Z",
}
_MODIFIERS = {"shift": 1, "alt": 2, "ctrl": 4}
# where Textual's name of a character is shorter than Unicode's
_SHORT = {
    "slash": "SOLIDUS",
    "backslash": "REVERSE SOLIDUS",
    "at": "COMMERCIAL AT",
    "minus": "HYPHEN-MINUS",
    "plus": "PLUS SIGN",
    "underscore": "LOW LINE",
}

NAMED = (*_PLAIN, *_CSI, *_TILDE, *_SS3)
"""Names of all keys that are not characters."""


def key_bytes(name: str) -> bytes:
    """What xterm sends for `name`: a single character, `enter`, `f1`, `ctrl+s`, `shift+up`, `question_mark` ...

    Raises ValueError for a name that no terminal has bytes for.
    """
    if len(name) == 1:
        return name.encode()
    if name in _PLAIN:
        return _PLAIN[name]
    *modifiers, key = name.split("+")
    if key in _CSI or key in _TILDE or key in _SS3:
        return _function_key(key, sum(_MODIFIERS[modifier] for modifier in modifiers))
    if modifiers == ["ctrl"]:
        return _control(key)
    if modifiers == ["alt"]:
        return b"\x1b" + key_bytes(key)
    try:
        return unicodedata.lookup(_SHORT.get(name, name.replace("_", " "))).encode()
    except KeyError:
        raise ValueError(f"no terminal has a key {name!r}") from None


def _function_key(key: str, modifiers: int) -> bytes:
    if key in _TILDE:
        return f"\x1b[{_TILDE[key]};{modifiers + 1}~".encode() if modifiers else f"\x1b[{_TILDE[key]}~".encode()
    final = _CSI.get(key) or _SS3[key]
    if modifiers:
        return f"\x1b[1;{modifiers + 1}{final}".encode()
    return f"\x1b{'O' if key in _SS3 else '['}{final}".encode()


def _control(key: str) -> bytes:
    if len(key) == 1 and ((key.isascii() and key.isalpha()) or key in "@[\\]^_"):
        return bytes([ord(key.upper()) - 64])
    raise ValueError(f"no terminal has a key 'ctrl+{key}'")
