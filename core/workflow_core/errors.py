"""What goes wrong is a record with a title, what happened and what to do next, the same on every surface."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One error as a person reads it: a dialog in the app, a line on stderr, a reply on the socket.

    `title` names the problem in a few words, `message` says what happened in one sentence,
    `advice` says what to do next (may be empty).
    """

    title: str
    message: str
    advice: str = ""

    def line(self) -> str:
        """The whole problem as one line of text."""
        return " ".join(part for part in (self.message, self.advice) if part)


class WorkflowError(Exception):
    """Raised by the core for everything a user can cause; carries the `Problem` to show."""

    def __init__(self, title: str, message: str, advice: str = "") -> None:
        self.problem = Problem(title=title, message=message, advice=advice)
        super().__init__(self.problem.line())
