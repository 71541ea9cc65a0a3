"""Drives the installed program on a real pty, as a person at a terminal would, and sees what that person sees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from tests.e2e.emulator import Emulator
from tests.e2e.keys import key_bytes

Condition = str | re.Pattern[str] | Callable[[str], bool]
"""What `until` waits for: a text on the screen, a pattern found in it, or a test of the whole screen's text."""

# Stands where a shell stands: leads the session, starts the program, tells its pid and its status through a socket, and
# lives on until that is closed. A program that led the session itself would take its last unread output with it.
_SHELL = """
import fcntl, os, signal, sys, termios
control = int(sys.argv[1])
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
pid = os.fork()
if not pid:
    os.close(control)
    os.execvp(sys.argv[2], sys.argv[2:])
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
    signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGHUP, lambda *_: os.kill(pid, signal.SIGHUP))
os.write(control, b"%d " % pid)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for descriptor in range(3):
    os.close(descriptor)
os.write(control, b"%d " % status)
os.read(control, 1)
"""
QUIET = 0.015
"""Seconds without output after which a frame is taken to be complete."""
_FLAGS = ("iflag", "oflag", "cflag", "lflag", "ispeed", "ospeed", "cc")


class Terminal:
    """A program on a pty of its own, in a session of its own; a context manager that ends it, whatever happens.

    A thread reads all the time, so that the program never waits for the test (but see `not_reading`).
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        flow_control: bool = True,
    ) -> None:
        """Start `argv` at `size` (columns, rows). `env` is added to this process's; None takes a variable away.

        Without `flow_control` a ctrl+s stops no output, as after `stty -ixon`.
        """
        self.size = size
        self.output = bytearray()
        self._emulator = Emulator(*size)
        self._metered = 0
        self._changed = threading.Condition()
        self._reading = True
        self._failure: BaseException | None = None
        self._master, self._slave = pty.openpty()
        self._wake, self._wake_sender = os.pipe()
        os.set_blocking(self._master, False)
        self._set_size(*size)
        self._before = termios.tcgetattr(self._slave)
        if not flow_control:
            self._before[0] &= ~termios.IXON
            termios.tcsetattr(self._slave, termios.TCSANOW, self._before)
            self._before = termios.tcgetattr(self._slave)
        self._after: list[Any] | None = None
        # COLUMNS and LINES would overrule the size of the pty
        fixed = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": None, "LINES": None}
        environment: dict[str, str | None] = {**os.environ, **fixed, **(env or {})}
        self._control, control = socket.socketpair()
        self._told = b""
        self._shell = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SHELL, str(control.fileno()), *argv],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={name: value for name, value in environment.items() if value is not None},
            cwd=cwd,
            pass_fds=(control.fileno(),),
            start_new_session=True,
            # a program that a person starts does not ignore ctrl+c, though tests in the background do
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        control.close()
        self.pid = self._listen(1, 10.0)[0]
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls,
        argv: Sequence[str | os.PathLike[str]],
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str | None] | None = None,
    ) -> Terminal:
        """The constructor as a verb, for what is needed most."""
        return cls(argv, size=size, env=env)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def poll(self) -> int | None:
        """The program's exit status, negative for a signal; None while it runs."""
        told = self._listen(2, 0.0)
        return told[1] if len(told) > 1 else None

    # --- what stands there ---

    @property
    def screen(self) -> str:
        """The screen's text, a line a row, without trailing blanks."""
        with self._changed:
            return "\n".join(self._emulator.lines)

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row of the cursor, from 0."""
        with self._changed:
            return self._emulator.cursor

    @property
    def modes(self) -> frozenset[int]:
        """The DEC private modes that are on: 25 cursor, 1049 alternate screen, 1000-1006 mouse, 2004 paste ..."""
        with self._changed:
            return frozenset(self._emulator.modes)

    @property
    def commands(self) -> list[bytes]:
        """The operating system commands (OSC) so far: titles, clipboard writes (`52;...`), links."""
        with self._changed:
            return list(self._emulator.commands)

    @property
    def written(self) -> int:
        """Bytes the program has written so far."""
        with self._changed:
            return len(self.output)

    def meter(self) -> int:
        """Bytes the program has written since the last call."""
        written = self.written
        since, self._metered = written - self._metered, written
        return since

    # --- what a person does ---

    def press(self, *keys: str) -> None:
        """Press keys by Textual's names. An escape belongs to what follows within 100 ms: wait before the next key."""
        self.send(b"".join(map(key_bytes, keys)))

    def type(self, text: str) -> None:
        """Type `text` character by character."""
        self.send(text.encode())

    def paste(self, text: str) -> None:
        """Paste `text` as the terminal would, in brackets where the program asked for them."""
        self.send(b"\x1b[200~" + text.encode() + b"\x1b[201~" if 2004 in self.modes else text.encode())

    def send(self, data: bytes, timeout: float = 5.0) -> None:
        """Send raw bytes; AssertionError where the program reads none of them for `timeout` seconds."""
        while data:
            if not select.select([], [self._master], [], timeout)[1]:
                raise AssertionError(self._report(f"the program has read no input for {timeout:g} s"))
            try:
                data = data[os.write(self._master, data[:1024]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise AssertionError(self._report(f"the terminal takes no input: {error}")) from error

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; the program gets its SIGWINCH from the kernel."""
        self.size = (columns, rows)
        with self._changed:
            self._emulator.resize(columns, rows)
        self._set_size(columns, rows)

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the program to stop, as a shell does, and wait until it stands still. AssertionError if not."""
        self.signal(signal.SIGTSTP)
        deadline = time.monotonic() + timeout
        asked = ["ps", "-o", "state=", "-p", str(self.pid)]
        while not subprocess.run(asked, capture_output=True, text=True, check=True).stdout.startswith("T"):
            if time.monotonic() > deadline:
                raise AssertionError(self._report(f"the program did not stop within {timeout:g} s"))
            time.sleep(0.01)

    def hang_up(self) -> None:
        """Drop the line, as a closed window or a lost SSH link does."""
        self._stop_reading()
        self._close_slave()
        os.close(self._master)
        self._master = -1

    @contextlib.contextmanager
    def not_reading(self) -> Iterator[None]:
        """For a while, a terminal that takes nothing: the program's writes fill the pty's buffer and then block."""
        self._reading = False
        os.write(self._wake_sender, b"x")
        try:
            yield
        finally:
            self._reading = True
            os.write(self._wake_sender, b"x")

    # --- waiting ---

    def until(self, condition: Condition, timeout: float = 10.0) -> str:
        """Wait until the screen meets `condition`; give its text. AssertionError with the screen where it does not.

        A frame comes in pieces: what stands around the text that was waited for may come a moment after it, so the
        screen that is given is the one that stands once nothing has been written for `QUIET` seconds (or ten times as
        long has passed).
        """
        deadline = time.monotonic() + timeout
        self._wait(condition, timeout)
        screen = self._settled()
        return screen if _meets(screen, condition) else self._wait(condition, max(0.0, deadline - time.monotonic()))

    def _settled(self) -> str:
        deadline = time.monotonic() + 10 * QUIET
        with self._changed:
            while time.monotonic() < deadline:
                if not self._changed.wait(QUIET):
                    break
            return "\n".join(self._emulator.lines)

    def _wait(self, condition: Condition, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if self.poll() is not None:
                    self._close_slave()  # so that the reader comes to the end of the output
                ended = not self._reader.is_alive()
                screen = "\n".join(self._emulator.lines)
                if self._failure:
                    raise self._failure
                if _meets(screen, condition):
                    return screen
                if ended:
                    raise AssertionError(self._report(f"the program ended before {_name(condition)} stood there"))
                if (left := deadline - time.monotonic()) <= 0:
                    raise AssertionError(self._report(f"{_name(condition)} did not come within {timeout:g} s"))
                # a condition may look at more than the screen, so it is asked now and then all the same
                self._changed.wait(min(left, 0.05))

    def until_written(self, since: int, timeout: float = 5.0) -> None:
        """Wait until more than `since` bytes have been written in all: a sign of life. AssertionError if not."""
        self._wait(lambda _: len(self.output) > since, timeout)

    def wait_exit(self, timeout: float = 10.0) -> int:
        """Wait for the program's end and take in the last it wrote: its exit status, negative for a signal."""
        told = self._listen(2, timeout)
        if len(told) < 2:
            raise AssertionError(self._report(f"the program did not end within {timeout:g} s"))
        self._close_slave()
        if self._reading:
            self._reader.join(timeout)  # ends at the end of the output, but for a child that keeps the terminal open
        return told[1]

    # --- did the program tidy up? ---

    def leftovers(self) -> list[str]:
        """What a program that has ended left changed on the terminal, in words; empty if it gave all of it back."""
        with self._changed:
            left = self._emulator.leftovers()
        for name, before, after in zip(_FLAGS, self._before, self._after or self._attributes(), strict=True):
            if before != after:
                left.append(f"tty {name} is {after!r}, was {before!r}")
        return left

    def assert_given_back(self) -> None:
        """AssertionError that says what a program that has ended left changed on the terminal."""
        if left := self.leftovers():
            raise AssertionError(self._report("the terminal was not given back: " + "; ".join(left)))

    def close(self) -> None:
        """Kill the program if it still runs, and hang up."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._listen(2, 10.0)
        if self._master >= 0:
            self.hang_up()
        self._control.close()
        self._shell.wait(10.0)
        for descriptor in (self._wake, self._wake_sender):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake = self._wake_sender = -1

    # --- within ---

    def _listen(self, count: int, timeout: float) -> list[int]:
        """The first numbers that the shell has told, `count` of them if they come within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._told.count(b" ") < count:
            if not select.select([self._control], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            if not (told := self._control.recv(100)):
                raise AssertionError("the terminal's own shell has ended")
            self._told += told
        return [int(number) for number in self._told.split()[: self._told.count(b" ")]]

    def _read(self) -> None:
        try:
            while self._wake >= 0:
                sources = [self._wake, self._master] if self._reading else [self._wake]
                ready = select.select(sources, [], [])[0]
                if self._wake in ready:
                    if os.read(self._wake, 1) == b"q":
                        return
                elif data := os.read(self._master, 65536):
                    with self._changed:
                        self.output += data
                        self._emulator.feed(data)
                        self._changed.notify_all()
        except OSError:
            return  # the last process has let go of the terminal
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _stop_reading(self) -> None:
        os.write(self._wake_sender, b"q")
        self._reader.join(10.0)

    def _attributes(self) -> list[Any]:
        return list(termios.tcgetattr(self._slave if self._slave >= 0 else self._master))

    def _close_slave(self) -> None:
        if self._slave >= 0:
            self._after = self._attributes()
            os.close(self._slave)
            self._slave = -1

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _report(self, message: str) -> str:
        status = self.poll()
        state = "running" if status is None else f"ended with {status}"
        bar = "-" * self.size[0]
        return f"{message} ({state}); the screen:\n{bar}\n" + self.screen + f"\n{bar}"


def _meets(screen: str, condition: Condition) -> bool:
    if isinstance(condition, str):
        return condition in screen
    return bool(condition.search(screen) if isinstance(condition, re.Pattern) else condition(screen))


def _name(condition: Condition) -> str:
    return repr(condition) if isinstance(condition, str) else repr(getattr(condition, "pattern", "the condition"))
