"""A signal asks a training to end after its next batch; a second one ends the program at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """While it is entered, SIGINT, SIGTERM and SIGHUP only set `asked`; signals that were ignored stay ignored."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells have it, or 0."""
        return 128 + self.asked if self.asked else 0
