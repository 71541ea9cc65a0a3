"""Long work whose answer can wait, a little of it at a time between epochs: one thread alone touches torch."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator

from workflow_core.engine.inbox import Calls
from workflow_core.errors import Problem, WorkflowError
from workflow_core.protocol import Answer

SLICE = 0.01
"""Seconds of it at a time: no training is held up for longer, and no command."""
TURN = 0.04
"""Seconds of training between two slices."""

Errand = Generator[None, None, Answer]
"""What a command sets going, and the answer that it comes to; it can be put aside wherever it yields."""
Reply = Callable[[Problem | None, Answer], None]

log = logging.getLogger(__name__)


class Errands:
    """What is under way; each gets its turn. `fault` makes a problem of what must not happen."""

    def __init__(self, fault: Callable[[Exception], Problem]) -> None:
        self._fault = fault
        self._under_way: deque[tuple[Errand, Reply]] = deque()

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def add(self, errand: Errand, reply: Reply) -> None:
        """Set out on one more; `reply` gets what it comes to."""
        self._under_way.append((errand, reply))

    def work(self, calls: Calls) -> None:
        """Go on with them for a while, or until something waits in `calls`."""
        end = time.monotonic() + SLICE
        while self._under_way and not calls.waiting and time.monotonic() < end:
            errand, reply = self._under_way.popleft()
            try:
                next(errand)
            except StopIteration as done:
                reply(None, done.value)
            except WorkflowError as error:
                reply(error.problem, None)
            except Exception as error:
                log.exception("an errand failed")
                reply(self._fault(error), None)
            else:
                self._under_way.append((errand, reply))


class Turn:
    """The calls as a training hears them while errands wait: one more when its turn is over, or nothing is due."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._end = time.monotonic() + TURN

    @property
    def waiting(self) -> bool:
        """Does anything wait, the errand among it?"""
        return self._calls.waiting or time.monotonic() >= self._end

    def wait(self, seconds: float) -> None:
        """Leave the time to the errand."""
        self._end = 0.0
