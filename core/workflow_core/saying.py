"""Lines on standard output, and nothing else there, and sentences on standard error; no name in them does any harm."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from workflow_core.sanitize import escape, sanitize

PIPE_CLOSED = 141
"""The exit status of a program that a closed pipe ends, as shells report it (128 + SIGPIPE)."""
LONGEST = 10_000
"""Characters of a sentence: a path alone may have 4,096."""


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
    """Write a line to standard output at once, escaped where it must be. Raises OutputError."""
    out = _ours[-1] if _ours else sys.stdout
    try:
        print(escape(line, getattr(out, "encoding", None) or "utf-8"), file=out, flush=True)
    except OSError as error:
        raise OutputError(error) from error


def complain(message: str) -> None:
    """Write a sentence to standard error, if there is one that takes it."""
    if sys.stderr is None:  # which print would take for standard output
        return
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        print(escape(f"workflow-tui: {sanitize(message, LONGEST)}", encoding), file=sys.stderr, flush=True)


def output_failure(error: OSError) -> int:
    """Say what is wrong with standard output, but nothing to a reader that has seen enough; the exit status."""
    # what is still buffered goes nowhere: Python would complain about it on its way out
    with contextlib.suppress(OSError, ValueError, AttributeError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    complain(f"The output cannot be written: {reason_of(error)}.")
    return 1


def reason_of(error: OSError) -> str:
    """What the system says."""
    return (error.strerror or "the system refused").lower()


def json_line(item: Any) -> str:
    """`item` as JSON in one line of ASCII; what is NaN or infinite is null, for JSON has neither."""
    return json.dumps(_finite(item), allow_nan=False).replace("\x7f", "\\u007f")


def _finite(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {key: _finite(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return [_finite(part) for part in item]
    return None if isinstance(item, float) and not math.isfinite(item) else item
