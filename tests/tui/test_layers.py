"""The UI process never loads torch or numpy: every module of it is imported in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
import workflow_tui
names = [module.name for module in pkgutil.walk_packages(workflow_tui.__path__, "workflow_tui.")]
for name in names:
    importlib.import_module(name)
heavy = ("torch", "numpy", "polars", "pandas")
core = ("workflow_core.steps", "workflow_core.engine", "workflow_core.headless")
print(len(names), [name for name in (*heavy, *core) if name in sys.modules])
"""


def test_no_module_of_the_ui_loads_torch_or_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    count, loaded = done.stdout.strip().split(" ", 1)
    assert int(count) > 20
    assert loaded == "[]"
