"""Which of the six steps are done, open or stale, and why."""

from __future__ import annotations

from typing import get_args

from workflow_core.protocol import StepName, Steps, StepStatus

NAMES: tuple[StepName, ...] = get_args(StepName)
RESULTS: tuple[StepName, ...] = ("evaluate", "save", "load")
"""What a training leads to: out of date as soon as the model is trained further."""

_DONE: dict[StepName, str] = {
    "data": "this data",
    "build": "this model was built",
    "train": "this training",
    "evaluate": "this evaluation",
    "save": "this file was saved",
    "load": "this file was loaded",
}


class Progress:
    """The statuses of the six steps; `version` grows with every change."""

    def __init__(self) -> None:
        self.version = 0
        self._status: dict[StepName, StepStatus] = dict.fromkeys(NAMES, "open")
        self._reasons: dict[StepName, str] = {}

    def __getitem__(self, step: StepName) -> StepStatus:
        return self._status[step]

    def done(self, step: StepName, reason: str = "") -> None:
        """A step is done; `reason` says what is special about that."""
        self._set(step, "done", reason)

    def reopen(self, step: StepName) -> None:
        """A step is to be done (again)."""
        self._set(step, "open", "")

    def outdate(self, steps: tuple[StepName, ...], what: str) -> None:
        """Those of `steps` that are done become stale, because of `what` happened after them."""
        for step in steps:
            if self._status[step] == "done":
                self.stale(step, what)

    def stale(self, step: StepName, what: str) -> None:
        """What a step left behind no longer fits, because of `what` happened after it."""
        self._set(step, "stale", f"{what} after {_DONE[step]}")

    def view(self) -> Steps:
        """The statuses as the screens show them."""
        return Steps(**self._status, reasons=dict(self._reasons))

    def _set(self, step: StepName, status: StepStatus, reason: str) -> None:
        if (self._status[step], self._reasons.get(step, "")) == (status, reason):
            return
        self._status[step] = status
        if reason:
            self._reasons[step] = reason
        else:
            self._reasons.pop(step, None)
        self.version += 1
