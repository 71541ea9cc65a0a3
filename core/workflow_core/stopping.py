"""A signal asks a training to end after its next batch; a second one ends the program at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """While it is entered, SIGINT, SIGTERM and SIGHUP only set `asked`; signals that were ignored stay ignored.

    A second one ends the process. Python's own handlers wait for C code to return, which a large operation or a save to
    a disk that hangs may not do for long, so a thread counts the signals as well. A line that is dropped may say so
    more than once (the system does, and the shell): SIGHUP again is not a second one.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._sender = -1

    def __enter__(self) -> Stopping:
        receiver, self._sender = os.pipe()
        os.set_blocking(self._sender, False)
        threading.Thread(target=_watch, args=(receiver, self._before), name="signals", daemon=True).start()
        self._wakeup = signal.set_wakeup_fd(self._sender, warn_on_full_buffer=False)
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
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._sender)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells have it, or 0."""
        return 128 + self.asked if self.asked else 0


def _watch(receiver: int, numbers: dict[signal.Signals, Any]) -> None:
    """Read the numbers of the signals, which the interpreter writes as they come, and end the process by the second."""
    asked = hung_up = False
    with open(receiver, "rb", buffering=0) as signals:
        while number := signals.read(1):
            again = hung_up and number[0] == signal.SIGHUP
            if number[0] not in numbers or again:
                continue
            if asked:
                os._exit(128 + number[0])
            asked, hung_up = True, hung_up or number[0] == signal.SIGHUP
