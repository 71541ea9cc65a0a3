"""The short texts beside the screens, shipped in the package so that they read the same from a wheel."""

from __future__ import annotations

from importlib.resources import files

from workflow_core.protocol import StepName


def lesson(step: StepName) -> str:
    """The lesson of one step as Markdown text: what the step is for, what to look at, what to try."""
    return files(__name__).joinpath(f"{step}.md").read_text(encoding="utf-8")
