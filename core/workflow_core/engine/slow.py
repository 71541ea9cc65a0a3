"""Work that takes longer than a command may wait for: done in slices, between which training and control go on."""

from __future__ import annotations

from typing import Protocol

from workflow_core.protocol import Answer


class Slow(Protocol):
    """Work under way. `advance` does a slice of it and says whether it is done; then `answer` gives its answer.

    Both may raise WorkflowError, which is the answer then.
    """

    def advance(self, until: float) -> bool:
        """Work until it is done, or until `until` as time.monotonic() counts."""

    def answer(self) -> Answer:
        """What was asked for."""
