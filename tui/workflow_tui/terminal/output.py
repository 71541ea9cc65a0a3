"""Where the driver writes: a terminal that stops reading loses frames, and the app never waits for it.

Textual's own writer queues thirty frames and then blocks the event loop, and every signal callback with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from workflow_tui.terminal.tty import Tty

PATIENCE = 0.25
"""Seconds a frame may take before the terminal counts as one that has stopped reading."""


class TerminalOutput:
    """A text file, as the driver's writer thread wants one, on top of a `Tty`.

    While the terminal does not read, whole writes are dropped; the rest of the one that had begun follows as soon as
    it reads again, and `on_resume` is called, from a thread, if something was dropped in between.
    """

    def __init__(self, tty: Tty, encoding: str, on_resume: Callable[[], None]) -> None:
        self.tty = tty
        self.encoding = encoding
        self.dropped = 0
        self.gone = False
        self._on_resume = on_resume
        self._rest = b""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write a frame or drop it; takes `PATIENCE` at most."""
        data = text.encode(self.encoding, "replace")
        with self._lock:
            if self.gone:
                return len(text)
            if self._rest:
                self.dropped += 1
                return len(text)
            self._rest = self._send(data, PATIENCE)
            if self._rest:
                threading.Thread(target=self._drain, name="terminal-drain", daemon=True).start()
        return len(text)

    def _send(self, data: bytes, patience: float) -> bytes:
        """Send what the terminal takes; what it has not taken comes back."""
        try:
            while data:
                taken = self.tty.write(data)
                if not taken and not self.tty.ready(patience):
                    break
                data = data[taken:]
        except OSError:
            self.gone = True
            return b""
        return data

    def _drain(self) -> None:
        while True:
            self.tty.ready(0.5)
            with self._lock:
                self._rest = self._send(self._rest, 0.0)
                if self._rest:
                    continue
                dropped, self.dropped = self.dropped, 0
            if dropped and not self.gone:
                self._on_resume()
            return

    @property
    def stalled(self) -> bool:
        """Whether a write has begun that the terminal has not taken in full."""
        return bool(self._rest)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """The terminal's descriptor."""
        return self.tty.fd

    def isatty(self) -> bool:
        """It is one."""
        return True
