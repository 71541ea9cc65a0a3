"""What the Train screen asks of the engine again and again: one question of a kind at a time, the newest wish wins."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from time import monotonic
from typing import TYPE_CHECKING, Any

from workflow_core.errors import Problem
from workflow_core.protocol import Command

if TYPE_CHECKING:
    from workflow_tui.screens.base import StepScreen


class Lookup:
    """A question to the engine, whose answer is kept until a newer one comes.

    `want` says what should be known now and may be called at every drawing. What a question is about has two parts:
    its `subject`, and what `moves` under it, such as the epoch of a run that goes on; the same question is asked once.
    While one is under way the next one waits, and so it does until `fresh` seconds after the last one was asked.
    """

    def __init__(self, screen: StepScreen, name: str, *, fresh: float = 0.0) -> None:
        self._screen = screen
        self._name = name
        self._fresh = fresh
        self._key: tuple[Hashable, Hashable] | None = None
        self._answer: Any = None
        self._asked_at = -fresh
        self._asking = False
        self._forgotten = 0
        self._next: tuple[tuple[Hashable, Hashable], Command] | None = None

    def want(self, subject: Hashable, command: Command, *, moves: Hashable = None) -> None:
        """See to it that the answer is known, or will be; of an engine that is gone the last answer stays."""
        key = subject, moves
        if self._screen.owner.state.lost:
            return
        if key == self._key:
            self._next = None
            return
        self._next = key, command
        if not self._asking:
            self._asking = True
            self._screen.owner.start_work(self._ask, f"look up {self._name}")

    def forget(self) -> None:
        """Nothing is known, and nothing wanted, not even what is being asked."""
        self._key = self._answer = self._next = None
        self._forgotten += 1

    def answer(self, subject: Hashable, kind: type[Any], *, moves: Hashable = None) -> Any:
        """The answer to this very question where it is of this kind, or the sentence why there is none; else None."""
        return self.latest(subject, kind) if self._key == (subject, moves) else None

    def latest(self, subject: Hashable, kind: type[Any]) -> Any:
        """The newest answer about `subject`, whatever has moved since, or the sentence why there is none; else None."""
        about = self._key is not None and self._key[0] == subject
        return self._answer if about and isinstance(self._answer, kind | str) else None

    @property
    def newest(self) -> Any:
        """The newest answer, whatever its subject."""
        return self._answer

    async def _ask(self) -> None:
        try:
            while self._next is not None:
                if (rest := self._asked_at + self._fresh - monotonic()) > 0:
                    await asyncio.sleep(rest)
                    continue  # with the newest wish
                (key, command), forgotten = self._next, self._forgotten
                self._asked_at = monotonic()
                answer = await self._screen.owner.link.look_up(command)
                if forgotten != self._forgotten:
                    continue
                if self._next is not None and self._next[0] == key:
                    self._next = None
                self._key = key
                self._answer = answer.line() if isinstance(answer, Problem) else answer
                self._screen.owner.redraw()
        finally:
            self._asking = False
