"""What all tests stand on."""

from __future__ import annotations

from workflow_tui.terminal.garbage import look_seldom


def pytest_collection_finish() -> None:
    """Look for garbage as seldom as the program does: it takes a fifth of the tests that drive a screen."""
    look_seldom()
