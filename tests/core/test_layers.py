"""The UI can import what it needs of the core without torch, and the core never loads a UI library."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import workflow_tui

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
SHARED = next(
    contract["source_modules"]
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    if contract["name"] == "What both sides share is free of torch"
)
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
    assert not loaded(f"import {module}") & (TORCH | UI)


def test_whatever_the_ui_takes_from_the_core_is_held_free_of_torch() -> None:
    taken: set[str] = set()
    for path in Path(workflow_tui.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "workflow_core":
                names = {f"workflow_core.{alias.name}" for alias in node.names}
                taken |= {name for name in names if find_spec(name) is not None}
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("workflow_core."):
                taken.add(node.module)
    assert {"workflow_core.specs", "workflow_core.protocol"} < taken
    assert taken <= set(SHARED)


def test_the_headless_commands_load_torch_only_once_the_arguments_are_good() -> None:
    assert not loaded("from workflow_core.headless import main", "main(['train', '--lr', 'x'])") & (TORCH | UI)


def test_the_core_loads_no_ui_library() -> None:
    steps = "import workflow_core.steps." + ", workflow_core.steps.".join(STEPS)
    found = loaded("import workflow_core.headless", steps)
    assert "torch" in found
    assert not found & UI
