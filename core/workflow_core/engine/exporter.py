"""Exports run in a process each: a thread that writes out figures would take the training's turns beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from workflow_core import atomic
from workflow_core.errors import Problem, WorkflowError


class Exporter:
    """Starts processes that export, waits for each, and ends them with the engine."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        # held while a process is started: one that `close` does not see yet would write on after the engine's end
        self._lock = threading.Lock()

    def export(self, store: Path, run: int, kind: str, path: Path, overwrite: bool) -> None:
        """Let what is on disk of `run` be written to `path`, and wait for that. Raises WorkflowError."""
        command = [sys.executable, "-P", "-m", "workflow_core.store.export", str(store), str(run), kind, str(path)]
        command += ["--overwrite"] if overwrite else []
        try:
            with self._started(command) as child:
                said, _ = child.communicate()
                with self._lock:
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

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise WorkflowError("Not exported", "the engine is about to end.", "Start it again, then export.")
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            self._children.add(child)
            return child

    def close(self) -> None:
        """Break off what is under way, and start nothing any more; an unfinished file is removed."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.terminate()
