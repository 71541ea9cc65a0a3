"""One terminal, so that it can be written to without ever waiting, and put back as it was found."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import time
from typing import Any

# In this order: end a frame that was being drawn, mouse and focus reports, pasting, resizing, line wrap, the kitty
# keyboard (kept per screen, so before the alternate screen is left), colours, the screen, the cursor.
RESTORE = (
    b"\x1b[?2026l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l"
    b"\x1b[?2004l\x1b[?2048l\x1b[?7h\x1b[<u\x1b[0m\x1b[?1049l\x1b[?25h"
)


class Tty:
    """The terminal behind a descriptor; with a description of its own where the system gives one.

    `write` takes what fits and never blocks. A description of its own, because O_NONBLOCK on the one that was inherited
    would be set for the shell as well.
    """

    CHUNK = 4096
    # a terminal that polls as writable has room for this much even where its descriptor blocks
    BLOCKING_CHUNK = 64
    # seconds a terminal has for reading the last of it: with its attributes back, a ctrl+c throws away what it has not
    READING = 0.02

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._own = False
        self._given_back = False
        self._lock = threading.Lock()
        with contextlib.suppress(OSError):
            self.fd = os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            self._own = True
        self._attributes: list[Any] | None = None
        with contextlib.suppress(termios.error):
            self._attributes = termios.tcgetattr(fd)

    def ready(self, timeout: float) -> bool:
        """Whether the terminal takes something within `timeout` seconds; True also where it is gone."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))

    def write(self, data: bytes) -> int:
        """Write what fits now, and say how much that was; all of it once the terminal has been given back.

        Raises OSError where the terminal is gone.
        """
        with self._lock:
            return len(data) if self._given_back else self._write(data)

    def _write(self, data: bytes) -> int:
        if not self._own and not self.ready(0):
            return 0
        try:
            return os.write(self.fd, data[: self.CHUNK if self._own else self.BLOCKING_CHUNK])
        except BlockingIOError:
            return 0

    def restore(self, *, screen: bool) -> None:
        """Put the attributes back; with `screen` also leave the alternate screen and turn every mode off.

        Output that the terminal has not taken yet is thrown away: a terminal that stopped reading would not take the
        rest after it either. Blocks for some tenths of a second at most, never raises.
        """
        with self._lock:
            self._given_back = True
            if screen:
                with contextlib.suppress(termios.error, OSError):
                    self._leave_screen()
            if self._attributes is not None:
                time.sleep(self.READING)
                with contextlib.suppress(termios.error, OSError):
                    termios.tcsetattr(self.fd, termios.TCSANOW, self._attributes)

    def _leave_screen(self) -> None:
        # the app may not have set its own attributes yet: a ctrl+s typed before that would hold everything up
        attributes = termios.tcgetattr(self.fd)
        attributes[0] &= ~termios.IXON
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        if not self.ready(0.1):
            termios.tcflush(self.fd, termios.TCOFLUSH)
        rest = RESTORE
        while rest and self.ready(0.1) and (taken := self._write(rest)):
            rest = rest[taken:]

    def take(self) -> None:
        """Write to it again, after it had been given back."""
        self._given_back = False

    def close(self) -> None:
        """Let go of the description of our own."""
        if self._own:
            self._own = False
            with contextlib.suppress(OSError):
                os.close(self.fd)
