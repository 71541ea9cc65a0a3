"""What every test on a real terminal stands on: a workspace of its own that leaves no process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import end_processes_of


@pytest.fixture
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh workspace directory with a short path; its engine is ended at teardown, whatever happened."""
    path = tmp_path_factory.mktemp("ws")
    yield path
    end_processes_of(path)
