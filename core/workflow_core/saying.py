"""Lines on standard output, and nothing else there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO


class OutputError(Exception):
    """Standard output took no more: `error` is the OSError with which it said so."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """Let standard output carry the lines of `say` alone: what a class of the user's own prints goes to the other."""
    _ours.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _ours.pop()


_ours: list[TextIO] = []


def say(line: str) -> None:
    """Write a line to standard output at once. Raises OutputError."""
    try:
        print(line, file=_ours[-1] if _ours else sys.stdout, flush=True)
    except OSError as error:
        raise OutputError(error) from error
