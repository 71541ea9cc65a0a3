"""A small app under the guard, for tests on a real pty: `python small_app.py LOG`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Input, Static

from workflow_tui.terminal.session import GuardedApp, run_app


class SmallApp(GuardedApp[None]):
    """Says ready, counts keys, and misbehaves on request."""

    BINDINGS = [  # noqa: RUF012
        Binding("q", "leave"),
        Binding("b", "block"),
        Binding("c", "crash"),
        Binding("f", "flood"),
        Binding("i", "input"),
    ]
    ENABLE_COMMAND_PALETTE = False  # Textual's own breaks under random keys; `sturdy` mends that, and is tested apart
    frame = 0
    keys = 0

    def compose(self) -> ComposeResult:
        yield Static("", id="frame", markup=False)
        yield Static("ready", id="state", markup=False)
        yield Input(disabled=True)

    def on_key(self, event: events.Key) -> None:
        self.keys += 1
        self.query_one("#state", Static).update(f"keys {self.keys} last {event.key}")

    def on_paste(self, event: events.Paste) -> None:
        self.query_one("#state", Static).update(f"pasted {len(event.text)}")

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#frame", Static).update(f"size {event.size.width}x{event.size.height}")

    def action_leave(self) -> None:
        self.exit(return_code=7)

    def action_block(self) -> None:
        self.query_one("#state", Static).update("blocked")
        self.set_timer(0.1, lambda: time.sleep(60))

    def action_crash(self) -> None:
        raise ValueError("[/] boom \x1b[31m")

    def action_flood(self) -> None:
        self.set_interval(1 / 60, self._flood)

    def _flood(self) -> None:
        self.frame += 1
        text = "\n".join(f"frame {self.frame} {'[]' * 30}" for _ in range(15))
        self.query_one("#frame", Static).update(text)


def main() -> int:
    def make(driver_class: object) -> SmallApp:
        return SmallApp(driver_class=driver_class)  # type: ignore[arg-type]

    return run_app(make, Path(sys.argv[1]))


if __name__ == "__main__":
    assert issubclass(SmallApp, App)
    sys.exit(main())
