"""Signals end the app in good order, and a watchdog gives the terminal back where good order takes too long.

A thread waits for signals on the wake-up descriptor, into which the interpreter's C handler writes at once: callbacks
of the event loop do not run while it is blocked, and Python's own handlers not while C code runs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from workflow_tui.terminal.tty import Tty

GRACE = 1.0
"""Seconds that the app has for leaving in good order after a signal."""

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Guard:
    """Holds the terminal and the signals while an app runs; a context manager for the main thread.

    `signum` is the signal that ended the app, 0 where none did. A signal that was ignored when we came (`nohup`) stays
    ignored.
    """

    def __init__(self, fd: int | None = None) -> None:
        """`fd` is the terminal; None takes standard error, which the app draws on."""
        self.tty = Tty(sys.__stderr__.fileno() if fd is None and sys.__stderr__ is not None else fd or 2)
        self.signum = 0
        self._leave: Callable[[int], None] | None = None
        self._wake: Callable[[], None] | None = None
        self._drawing = False
        self._restored = False
        self._lock = threading.Lock()
        self._receiver, self._sender = os.pipe()
        self._old_wakeup = -1
        self._old: dict[int, object] = {}

    def __enter__(self) -> Guard:
        os.set_blocking(self._sender, False)
        self._old_wakeup = signal.set_wakeup_fd(self._sender, warn_on_full_buffer=False)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, _noted)
        atexit.register(self.restore)
        threading.Thread(target=self._watch, name="signal-watch", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.restore()
        if self.signum:
            # the watchdog stays: what is left of the process may block as well
            return
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        atexit.unregister(self.restore)
        os.close(self._sender)

    def attach(self, leave: Callable[[int], None], wake: Callable[[], None]) -> None:
        """From now on a signal calls `leave` with its number, from another thread; before, it ends the process.

        Any other that has a handler of Python's calls `wake`: the main thread, where that runs, may sleep on, since the
        kernel gives a signal to whichever thread it likes, and nobody else reads the wake-up descriptor.
        """
        self._leave, self._wake = leave, wake

    def drawing(self, on: bool) -> None:
        """Note that the app has taken the screen over, or has given it back itself."""
        with self._lock:
            self._drawing = on
            if on:
                self._restored = False
                self.tty.take()

    def end(self, signum: int) -> None:
        """Leave as if signal `signum` had come: what a driver does whose terminal has gone."""
        with contextlib.suppress(OSError):
            os.write(self._sender, bytes([signum]))

    def restore(self) -> None:
        """Give the terminal back, once, whoever asks, from any thread; bounded, never raises."""
        with self._lock:
            if self._restored:
                return
            self._restored = True
            drawing, self._drawing = self._drawing, False
        self.tty.restore(screen=drawing)

    def _watch(self) -> None:
        while True:
            try:
                numbers = os.read(self._receiver, 64)
            except OSError:
                return
            if not numbers:
                os.close(self._receiver)
                return
            for number in numbers:
                if number in self._old or number == signal.SIGHUP:
                    self._end(number)
                elif self._wake is not None:
                    self._wake()

    def _end(self, signum: int) -> None:
        if self.signum:
            return
        self.signum = signum
        if self._leave is not None:
            threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()
            # a loop that is closed already needs no call
            with contextlib.suppress(RuntimeError):
                self._leave(signum)
            return
        self._hard_exit()

    def _watchdog(self) -> None:
        threading.Event().wait(GRACE)
        self._hard_exit()

    def _hard_exit(self) -> None:
        self.restore()
        os._exit(128 + self.signum)


def _noted(signum: int, frame: FrameType | None) -> None:
    """The watching thread has read the number already; a handler must exist for the number to be written."""
