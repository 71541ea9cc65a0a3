"""One key at a time: a key that changes screen or focus has done so before the next one is looked at.

Textual hands a key to the focused widget and lets it bubble up, hop by hop, before bindings see it; a key that comes
close behind, as typeahead over a slow link does, would still go to where the focus was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App
from textual.message_pump import MessagePump
from textual.timer import Timer

LIMIT = 1000
"""Keys that are kept; more than that nobody typed."""
PATIENCE = 0.5
"""Seconds after which the next key is let through, when the last one was lost with the widget that had it."""

if TYPE_CHECKING:
    _App = App[Any]
else:  # a mixin: Textual takes styles and bindings from a class's first base, which must be a real one
    _App = object


class OneKeyAtATime(_App):
    """Mixed into the app: keys wait until the one before has gone all its way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._typed: deque[events.Key] = deque(maxlen=LIMIT)
        self._in_flight: events.Key | None = None
        self._lost: Timer | None = None
        self._deaf = False

    def take_no_more(self) -> None:
        """Nothing that is typed, pasted or clicked from now on, or waits to be taken, does anything."""
        self._deaf = True
        self._typed.clear()

    async def on_event(self, event: events.Event) -> None:
        """Let a key through when none is on its way."""
        if self._deaf and isinstance(event, events.Key | events.Paste | events.MouseEvent):
            return
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
        elif self._in_flight is not None:
            self._typed.append(event)
        else:
            await self._let_through(event)

    async def _let_through(self, key: events.Key) -> None:
        self._in_flight = key
        self._lost = self.set_timer(PATIENCE, lambda: self._next(key))
        target = self.focused or self.screen
        await super().on_event(key)
        # the first round follows the key to the bindings, the second the messages that it led to
        self._follow(target, lambda: self._follow(target, lambda: self.call_later(self._next, key)))

    def _follow(self, node: MessagePump | None, then: Callable[[], object]) -> None:
        # what is called later by a node is called after what is in its queue already
        if node is None or node is self:
            self.call_later(then)
        else:
            parent = node._parent
            node.call_later(self._follow, parent, then)

    async def _next(self, key: events.Key) -> None:
        if key is not self._in_flight:
            return
        if self._lost is not None:
            self._lost.stop()
        self._in_flight = None
        if self._typed:
            await self._let_through(self._typed.popleft())
