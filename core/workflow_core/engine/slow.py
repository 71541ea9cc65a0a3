"""Work that takes longer than a command may wait for: done in slices, between which training and control go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Generic, Protocol, TypeVar

from workflow_core.protocol import Answer

T = TypeVar("T")


class Slow(Protocol):
    """Work under way. `advance` does a slice of it and says whether it is done; then `answer` gives its answer.

    Both may raise WorkflowError, which is the answer then.
    """

    def advance(self, until: float) -> bool:
        """Work until it is done, or until `until` as time.monotonic() counts."""

    def answer(self) -> Answer:
        """What was asked for."""


class InPieces(Generic[T]):
    """Work that comes in pieces, what it comes to, and the answer that is made of that."""

    def __init__(self, work: Generator[None, None, T], answer: Callable[[T], Answer]) -> None:
        self._work, self._answer = work, answer
        self._result: T

    def advance(self, until: float) -> bool:
        """Pieces of it, at least one."""
        try:
            next(self._work)
            while time.monotonic() < until:
                next(self._work)
        except StopIteration as done:
            self._result = done.value
            return True
        return False

    def answer(self) -> Answer:
        """What was asked for."""
        return self._answer(self._result)
