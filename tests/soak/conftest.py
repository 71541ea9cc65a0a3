"""The engines and clients of the core's tests, and the table at the end."""

from __future__ import annotations

from typing import Any

from tests.core.conftest import attach, workspace
from tests.soak.table import ROWS, table

__all__ = ["attach", "workspace"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was tried, survived and lost, where that was the full soak."""
    if ROWS and "not soak" not in terminalreporter.config.getoption("markexpr"):
        terminalreporter.section("what was survived")
        for line in table():
            terminalreporter.write_line(line)
