"""`make bench`: all benchmarks, one after the other, each in a process of its own, as one table."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

NAMES = ("loop", "batches", "control", "tables", "history", "reading", "charts")


def main() -> int:
    """Run them; the exit status is 1 where one failed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()}, torch {version('torch')}"
    print(f"{python}, {platform.system()} {platform.machine()}, {cores} cores", flush=True)
    print("ratios are to the first line of each block; in brackets the middle half of the rounds\n", flush=True)
    failed = False
    for name in NAMES:
        script = Path(__file__).with_name(f"{name}.py")
        failed |= subprocess.run([sys.executable, "-W", "ignore", str(script)], check=False).returncode != 0
        print(flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
