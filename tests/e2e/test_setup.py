"""`make` sets up the virtual environment, and what it could not finish is not taken for finished the next time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROKEN = """#!/bin/sh
mkdir -p .venv/bin && ln -s /bin/sh .venv/bin/python
echo "ensurepip is not available" >&2
exit 1
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_a_virtual_environment_that_was_made_by_half_does_not_stay(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(BROKEN)
    python.chmod(0o755)
    for _ in range(2):
        done = subprocess.run(
            ["make", "PYTHON=./python", "VENV=.venv", "check"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert "ensurepip is not available" in done.stderr
        assert not (tmp_path / ".venv").exists()
