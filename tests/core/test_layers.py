"""The UI can import what it needs of the core without torch, and the core never loads a UI library."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHARED = ["specs", "protocol", "history", "client", "workspace", "scripts", "errors", "sanitize", "atomic"]
STEPS = ["data", "build", "train", "evaluate", "save", "load"]
TORCH = {"torch", "numpy"}
UI = {"textual", "rich", "plotext", "textual_plotext", "textual_fspicker", "workflow_tui"}


def loaded(*statements: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after these statements."""
    code = "; ".join(["import sys", *statements, "print(*{name.partition('.')[0] for name in sys.modules})"])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", SHARED)
def test_what_both_sides_share_loads_neither_torch_nor_a_ui(module: str) -> None:
    assert not loaded(f"import workflow_core.{module}") & (TORCH | UI)


def test_the_headless_commands_load_torch_only_once_the_arguments_are_good() -> None:
    assert not loaded("from workflow_core.headless import main", "main(['train', '--lr', 'x'])") & (TORCH | UI)


def test_the_core_loads_no_ui_library() -> None:
    steps = "import workflow_core.steps." + ", workflow_core.steps.".join(STEPS)
    found = loaded("import workflow_core.headless", steps)
    assert "torch" in found
    assert not found & UI
