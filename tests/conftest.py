"""What all tests stand on."""

from __future__ import annotations

import os

from workflow_tui.terminal.garbage import look_seldom

# an installed program has the bytecode of its modules, and is not compiled anew by each of the processes that are
# started here
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """Look for garbage as seldom as the program does: it takes a fifth of the tests that drive a screen."""
    look_seldom()
