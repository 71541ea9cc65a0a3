"""In which form a run is to be written to a file."""

from __future__ import annotations

import re
from typing import Literal

from workflow_core.protocol import RunView
from workflow_tui import figures, runs_text
from workflow_tui.dialogs.base import Choice, Dialog

Form = Literal["csv", "json", "svg"]


def export_dialog(run: RunView) -> Dialog[Form | None]:
    """CSV, JSON or a picture of this run; None where it was left."""
    return Dialog(
        f"Export {runs_text.title(run, 40)}",
        f"{figures.epochs(run.epochs)} are recorded. A file that is there already is replaced only after a question.",
        (
            Choice("c", "CSV: every epoch with all that was recorded of it", "csv", "primary"),
            Choice("j", "JSON: the same, with settings and result", "json"),
            Choice("s", "SVG: a picture of its charts", "svg"),
            Choice("l", "leave it", None),
        ),
        cancel=None,
    )


def file_name(run: RunView, form: Form) -> str:
    """A name to propose: the run's number, and of its name what any file system takes."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", run.name)[:40].strip("-").lower()
    return f"run-{run.run}{'-' + words if words else ''}.{form}"
