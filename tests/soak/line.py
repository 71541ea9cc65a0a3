"""A line to a real shell, which can be dropped: bash as the leader of a pty of its own, or in a pane of tmux."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.e2e.emulator import Emulator
from tests.e2e.keys import key_bytes

SIZE = 120, 40
SHELL = ("bash", "--norc", "--noprofile", "-i")
KILLS = ("kill-pane", "kill-session", "kill-server", "SIGKILL")
"""What can happen to a program in tmux: three commands, and the end of the server itself."""


class Line(Protocol):
    """What a person has in front of them: keys go out, a screen comes back, and all of it may end at any moment."""

    @property
    def screen(self) -> str:
        """What stands there, read now."""

    def type(self, data: bytes) -> None:
        """Send bytes."""

    def drop(self) -> None:
        """Lose it, without a word to the program."""


def press(line: Line, *keys: str) -> None:
    """Press keys by their names."""
    for key in keys:
        line.type(key_bytes(key))


def run(line: Line, command: Sequence[str | Path], *, hangups_ignored: bool) -> None:
    """Type a command at the prompt of the shell."""
    if hangups_ignored:
        line.type(b"trap '' HUP\r")
    line.type(shlex.join(map(str, command)).encode() + b"\r")


def until(line: Line, check: Callable[[str], object], timeout: float = 20.0) -> str:
    """Wait until the screen meets `check`. AssertionError, with the screen, where it does not."""
    deadline = time.monotonic() + timeout
    while not check(screen := line.screen):
        assert time.monotonic() < deadline, f"it did not come within {timeout:g} s; the screen:\n{screen}"
        time.sleep(0.02)
    return screen


class PtyLine:
    """An interactive bash that leads the session of a pty of its own, as one that sshd has started does."""

    def __init__(self, argv: Sequence[str | Path] = SHELL) -> None:
        self._master, slave = pty.openpty()
        columns, rows = SIZE
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._emulator = Emulator(*SIZE)
        self.shell = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=_environment(),
            start_new_session=True,
            preexec_fn=_lead,
        )
        os.close(slave)

    @property
    def screen(self) -> str:
        """What stands there, read now."""
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], 0)[0] and (data := os.read(self._master, 65536)):
                self._emulator.feed(data)
        return "\n".join(self._emulator.lines)

    def type(self, data: bytes) -> None:
        """Send bytes."""
        os.write(self._master, data)

    def drop(self) -> None:
        """Close the far end, as a lost link does."""
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        """Drop it, and see the shell go too."""
        if self._master >= 0:
            self.drop()
        try:
            self.shell.wait(5)
        except subprocess.TimeoutExpired:
            self.shell.kill()
            self.shell.wait()


class TmuxLine:
    """Bash in a pane of a tmux server of its own, which `drop` ends by one of `KILLS`."""

    def __init__(self, kill: str) -> None:
        self.kill = kill
        self.name = f"soak-{uuid.uuid4().hex[:12]}"
        columns, rows = map(str, SIZE)
        self.tell("-f", "/dev/null", "new-session", "-d", "-s", "one", "-x", columns, "-y", rows, shlex.join(SHELL))
        self.server = int(self.tell("display-message", "-p", "#{pid}"))

    def tell(self, *command: str) -> str:
        """Have the server do something; what it answers."""
        argv = ["tmux", "-L", self.name, *command]
        return subprocess.run(argv, capture_output=True, text=True, check=True, env=_environment()).stdout

    @property
    def screen(self) -> str:
        """What stands there, read now."""
        return self.tell("capture-pane", "-p")

    def type(self, data: bytes) -> None:
        """Send bytes."""
        self.tell("send-keys", "-H", *(f"{byte:02x}" for byte in data))

    def drop(self) -> None:
        """End the pane, the session or the server."""
        if self.kill == "SIGKILL":
            os.kill(self.server, signal.SIGKILL)
        else:
            self.tell(self.kill)

    def close(self) -> None:
        """End the server, if it is still there."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tell("kill-server")
        with contextlib.suppress(OSError):
            Path(f"/tmp/tmux-{os.getuid()}", self.name).unlink()


@contextlib.contextmanager
def pty_line(argv: Sequence[str | Path] = SHELL) -> Iterator[PtyLine]:
    """A shell on a pty, which is gone afterwards."""
    line = PtyLine(argv)
    try:
        yield line
    finally:
        line.close()


@contextlib.contextmanager
def tmux_line(kill: str = "kill-server") -> Iterator[TmuxLine]:
    """A shell in tmux, which is gone afterwards."""
    line = TmuxLine(kill)
    try:
        yield line
    finally:
        line.close()


def _environment() -> dict[str, str]:
    """Ours, as in a plain terminal: no tmux around it, and the size is that of the pty."""
    left_out = {"TMUX", "TMUX_PANE", "TMUX_TMPDIR", "COLUMNS", "LINES"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "TERM": "xterm-256color", "PS1": "$ "}


def _lead() -> None:
    """In the child: take the terminal, and take signals as a login shell does, whatever the tests ignore."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
