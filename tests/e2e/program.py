"""The installed program as a person starts it, and the states that the tests of it wait for."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.terminal import Terminal

from workflow_core.workspace import Workspace

PROGRAM = Path(sys.executable).with_name("workflow-tui")
SCREENS = {
    "1": "y against x",
    "2": "Untrained prediction",
    "3": "Loss · MSE",
    "4": "Metrics",
    "5": "What to save",
    "6": "The loaded file",
}
"""What stands on each screen at every size, by the key that goes there."""
EDITING = "escape back to the keys"
"""What the key bar says in a field: typing before that would press keys of the screen."""


def start(
    workspace: Path, *, size: tuple[int, int] = (80, 24), cwd: Path | None = None, options: Sequence[str] = ()
) -> Terminal:
    """The app on `workspace`, started in `cwd` (the folder its dialogs show first)."""
    return Terminal([PROGRAM, "--workspace", workspace, *options], size=size, cwd=cwd or workspace)


def ready(screen: str) -> bool:
    """Is the engine there that trains? Its light is at the end of the first line, after the name of the workspace."""
    return screen.partition("\n")[0].rstrip().endswith("●")


def go(terminal: Terminal, key: str) -> str:
    """Go to the screen of a step by its key and wait until it stands there; gives its text."""
    terminal.press(key)
    return terminal.until(SCREENS[key])


def answer(terminal: Terminal, field: str, text: str) -> None:
    """Go into a field by the key `field`, type `text` and enter."""
    terminal.press(field)
    terminal.until(EDITING)
    terminal.type(text)
    terminal.until(text)
    terminal.press("enter")


def name_file(terminal: Terminal, name: str) -> None:
    """In a file dialog, where the proposed name is selected: put another in its place, and enter."""
    terminal.type(name) if len(name) < 100 else terminal.paste(name)
    terminal.until(re.compile(rf"▊ .*{re.escape(name[-20:])}"))
    terminal.press("enter")


def train(terminal: Terminal) -> str:
    """Train flat out to the end; gives the screen that says so."""
    go(terminal, "3")
    terminal.press("g")
    terminal.until("flat out")
    terminal.press("space")
    return terminal.until("finished.")


def epoch(screen: str) -> int:
    """The epochs that are done by the status line of the training; -1 where there is none."""
    match = re.search(r"([\d,]+) (?:/|of) [\d,]+ epochs", screen)
    return int(match[1].replace(",", "")) if match else -1


def engine_pid(workspace: Path) -> int:
    """The process id of the workspace's engine. AssertionError where none runs."""
    pid = Workspace(workspace).engine_pid()
    assert pid is not None, "no engine runs"
    return pid
