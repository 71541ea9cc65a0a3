"""Exports run in a process each: a thread that writes out figures would take the training's turns beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from workflow_core import atomic
from workflow_core.errors import Problem, WorkflowError


class Exporter:
    """Starts processes that export, waits for each, and ends them with the engine."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()

    def export(self, store: Path, run: int, kind: str, path: Path, overwrite: bool) -> None:
        """Let what is on disk of `run` be written to `path`, and wait for that. Raises WorkflowError."""
        command = [sys.executable, "-P", "-m", "workflow_core.store.export", str(store), str(run), kind, str(path)]
        command += ["--overwrite"] if overwrite else []
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
                self._children.add(child)
                said, _ = child.communicate()
                self._children.discard(child)
        except OSError as error:
            raise atomic.problem(path, error, title="Not exported") from error
        if child.returncode == 1 and said:
            problem = msgspec.json.decode(said, type=Problem)
            raise WorkflowError(problem.title, problem.message, problem.advice)
        if child.returncode:
            raise WorkflowError(
                "Not exported",
                f"the process that writes the file ended before it was done (status {child.returncode}).",
                "The engine's log has the story.",
            )

    def close(self) -> None:
        """Break off what is under way; an unfinished file is removed."""
        for child in list(self._children):
            child.terminate()
