"""Runs an app on the real terminal: signals, crashes and hang-ups each end in one sentence and a true exit status."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from textual.app import App, ReturnType
from textual.driver import Driver

from workflow_core import __version__
from workflow_core.sanitize import sanitize
from workflow_core.saying import complain
from workflow_tui.terminal.driver import guarded
from workflow_tui.terminal.garbage import look_seldom
from workflow_tui.terminal.guard import Guard

LOG_LIMIT = 1024 * 1024


class GuardedApp(App[ReturnType]):
    """An app whose crash is recorded instead of printed, and which a signal can end."""

    crash: BaseException | None = None

    def end_by_signal(self, signum: int) -> None:
        """Leave in good order, within a second; called in the event loop."""
        self.exit(return_code=128 + signum)

    def panic(self, *renderables: RenderableType) -> None:
        """Leave because of an error; it is told when the terminal is back."""
        if self.crash is None:
            self.crash = self._exception or sys.exception() or RuntimeError("the app gave up")
        self._close_messages_no_wait()

    def _fatal_error(self) -> None:
        self.panic()


def run_app(make_app: Callable[[type[Driver]], GuardedApp[Any]], log: Path) -> int:
    """Run an app to its end, and return the process's exit status.

    That is the app's own return code, 1 after a crash (one sentence on stderr, the traceback in `log`), 128 + N after
    signal N. `make_app` gets the driver class the app must use.
    """
    crash: BaseException | None = None
    app: GuardedApp[Any] | None = None
    with Guard() as guard:
        try:
            app = make_app(guarded(guard))
            look_seldom()
            app.run()
        except Exception as error:
            crash = error
    crash = crash or (app.crash if app is not None else None)
    if guard.signum:
        return 128 + guard.signum
    if crash is not None:
        _tell(crash, log)
        return 1
    return (app.return_code or 0) if app is not None else 0


def _tell(crash: BaseException, log: Path) -> None:
    where = f"The whole story is in {log}." if record(crash, log) else "No log could be written."
    what = f"{type(crash).__name__}: {crash}" if str(crash) else type(crash).__name__
    complain(f"The app failed: {sanitize(what, 300)}. {where}")


def record(crash: BaseException, log: Path) -> bool:
    """Append a traceback to the log, which is set aside when it has grown large; False where that fails."""
    story = "".join(traceback.format_exception(crash))
    header = f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} workflow-tui {__version__}, Python {sys.version.split()[0]}\n"
    try:
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name(log.name + ".1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(header + story)
    except OSError:
        return False
    return True
