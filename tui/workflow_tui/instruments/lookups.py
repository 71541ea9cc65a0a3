"""What the Train screen asks of the engine again and again: one question of a kind at a time, the newest wish wins."""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic
from typing import TYPE_CHECKING, Any

from workflow_core.errors import Problem
from workflow_core.protocol import Command

if TYPE_CHECKING:
    from workflow_tui.screens.base import StepScreen


class Lookup:
    """A question to the engine whose answer is shown as long as nothing newer is known.

    `want` says what should be known now and may be called at every drawing: an answer to the same key is not asked for
    again before it is `fresh` seconds old (0: never again). While one question is under way the next one waits.
    """

    def __init__(self, screen: StepScreen, name: str, *, fresh: float = 0.0) -> None:
        self._screen = screen
        self._name = name
        self._fresh = fresh
        self._key: Hashable = None
        self._answer: Any = None
        self._asked_at = 0.0
        self._asking = False
        self._next: tuple[Hashable, Command] | None = None

    def want(self, key: Hashable, command: Command) -> None:
        """See to it that the answer for `key` is known, or will be."""
        old = self._fresh > 0 and monotonic() - self._asked_at >= self._fresh
        if key == self._key and not old:
            self._next = None
            return
        self._next = key, command
        if not self._asking:
            self._asking = True
            self._screen.owner.start_work(self._ask, f"look up {self._name}")

    def forget(self) -> None:
        """Nothing is known, and nothing wanted."""
        self._key = self._answer = self._next = None

    def answer(self, key: Hashable, kind: type[Any]) -> Any:
        """The answer to `key` where it is known and of this kind, or the sentence why there is none; else None."""
        if key != self._key:
            return None
        return self._answer if isinstance(self._answer, kind | str) else None

    @property
    def last(self) -> Any:
        """The newest answer, whatever it is to."""
        return self._answer

    async def _ask(self) -> None:
        try:
            while self._next is not None:
                key, command = self._next
                self._asked_at = monotonic()
                answer = await self._screen.owner.link.look_up(command)
                if self._next is not None and self._next[0] == key:
                    self._next = None
                self._key = key
                self._answer = answer.line() if isinstance(answer, Problem) else answer
                self._screen.owner.redraw()
        finally:
            self._asking = False
