"""What textual reads once, when it is imported: set before that, for slow lines and quick escapes."""

from __future__ import annotations

from collections.abc import MutableMapping

SLOW_FPS = "15"


def prepare(environ: MutableMapping[str, str]) -> None:
    """Fill in what the user has not set. Over SSH: fewer frames, no animations, more patience for escape sequences."""
    remote = "SSH_CONNECTION" in environ or "SSH_TTY" in environ
    if remote:
        environ.setdefault("TEXTUAL_FPS", SLOW_FPS)
        environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    # a sequence that a slow line tears apart would otherwise read as Escape and letters
    environ.setdefault("ESCDELAY", "150" if remote else "50")
