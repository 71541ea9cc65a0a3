"""Textual's driver for terminals as they are: noise on the line, floods, stalls and hang-ups do not end in a crash."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from codecs import getincrementaldecoder
from typing import Any, ClassVar, cast

from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.messages import InBandWindowResize

from workflow_tui.terminal import frugal
from workflow_tui.terminal.guard import Guard
from workflow_tui.terminal.output import TerminalOutput
from workflow_tui.terminal.paste import PasteLimit

TICK = 0.05
PASTE_PATIENCE = 1.0
"""Seconds without input after which a paste that was left open ends."""
READ = 4096
FLOOD = 64
"""Events of one reading after which the next reading waits until the app has seen them."""


class TerminalDriver(LinuxDriver):
    """LinuxDriver with a tolerant input thread, an output that never blocks, and a guard for signals.

    `guarded` makes the class that an app is given.
    """

    guard: ClassVar[Guard | None] = None

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.faults = 0
        self._suspending = False
        self._output: TerminalOutput | None = None
        if self.guard is not None:
            encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
            self._output = TerminalOutput(self.guard.tty, encoding, self._on_resume)
            self._file = cast(Any, self._output)

    def start_application_mode(self) -> None:
        """Take the terminal over; from here on it is the guard's to give back."""
        if self.guard is not None:
            loop = asyncio.get_running_loop()
            self.guard.drawing(True)
            self.guard.attach(lambda signum: _call(loop, self._end, signum), lambda: _call(loop, _nothing))
        frugal.forget(self._app.console)
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def suspend_application_mode(self) -> None:
        """Give the terminal back for a while."""
        self._suspending = True
        try:
            super().suspend_application_mode()
        finally:
            self._suspending = False
        if self.guard is not None:
            self.guard.restore()

    def resume_application_mode(self) -> None:
        """Take the terminal over again, and draw all of it: nothing has changed but what the terminal shows."""
        super().resume_application_mode()
        self._on_resume()

    def _sigtstp_application(self, *_: Any) -> None:
        # between two callbacks of the loop, not in the middle of one, which may hold a lock that this needs
        _call(self._loop, super()._sigtstp_application)

    def _sigcont_application(self, *_: Any) -> None:
        _call(self._loop, super()._sigcont_application)

    def stop_application_mode(self) -> None:
        """Leave the screen; for good, a ctrl+z that comes too late for the app no longer means anything.

        It would stop a process that is all but gone, in front of the shell that waits for its end. The attributes are
        the guard's to put back, when all is written: from then on a ctrl+c or ctrl+z throws away what nobody has read
        yet, which must not be the way out of the screen.
        """
        if not self._suspending:
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        attributes = self.attrs_before
        if self.guard is not None:
            self.attrs_before = None
        super().stop_application_mode()
        self.attrs_before = attributes

    def close(self) -> None:
        """Let the last writes out; what a stalled terminal did not take is left to the guard."""
        super().close()
        if self.guard is not None and self._output is not None and not self._output.stalled:
            self.guard.drawing(False)

    def _query_in_band_window_resize(self) -> None:
        """Not asked for: SIGWINCH tells of a new size, and an answer that anybody can type may claim any."""

    def _on_resume(self) -> None:
        _call(self._loop, self._paint_anew)

    def _paint_anew(self) -> None:
        frugal.forget(self._app.console)
        self._app.refresh()

    def _end(self, signum: int) -> None:
        end = getattr(self._app, "end_by_signal", None)
        if end is not None:
            end(signum)
        else:
            self._app.exit(return_code=128 + signum)

    def run_input_thread(self) -> None:
        """Read, decode and dispatch until told to stop or until the terminal is gone; never raises."""
        decode = getincrementaldecoder("utf-8")(errors="replace").decode
        paste = PasteLimit()
        parser = self._parser()
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        heard = time.monotonic()
        while not self.exit_event.is_set():
            text = ""
            if poll.poll(TICK * 1000):
                try:
                    data = os.read(self.fileno, READ)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self._hang_up()
                    return
                heard = time.monotonic()
                text = paste.feed(decode(data))
            elif not paste.pasting:
                text = paste.release()
            elif time.monotonic() - heard > PASTE_PATIENCE:
                text = paste.expire()
            parser = self._dispatch(parser, text)

    def _parser(self) -> XTermParser:
        return XTermParser(self._debug)

    def _dispatch(self, parser: XTermParser, text: str) -> XTermParser:
        """Send what the parser makes of `text`, and of time that has passed; the parser to go on with."""
        sent = 0
        try:
            for event in parser.feed(text) if text else ():
                self._send(event)
                sent += 1
            for event in parser.tick():
                self._send(event)
        except Exception:
            # a sequence that no terminal sends; what was sent before it is fine
            self.faults += 1
            parser = self._parser()
        if sent > FLOOD:
            self._wait_for_app()
        return parser

    def _send(self, message: Message) -> None:
        if not isinstance(message, events.Resize | InBandWindowResize):
            self.process_message(message)

    def _wait_for_app(self) -> None:
        """Hold the terminal back until the app has seen what was sent; the kernel's buffer is small."""
        seen = threading.Event()
        self._app.call_later(seen.set)
        while not seen.wait(TICK) and not self.exit_event.is_set() and self._loop.is_running():
            pass

    def _hang_up(self) -> None:
        """The terminal has gone. SIGHUP may be ignored, and reading again would spin."""
        if self.guard is not None:
            self.guard.end(signal.SIGHUP)
        else:
            _call(self._loop, self._end, signal.SIGHUP)


def guarded(guard: Guard) -> type[TerminalDriver]:
    """The driver class for an app that runs under `guard`."""
    frugal.install()
    return type("GuardedDriver", (TerminalDriver,), {"guard": guard})


def _nothing() -> None:
    """What a loop is given to do that only has to wake up."""


def _call(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> None:
    """Call `function` in the loop from any thread; a loop that has been closed needs nothing any more."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return
