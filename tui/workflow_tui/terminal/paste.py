"""Keeps pastes small and finite before the parser collects them."""

from __future__ import annotations

START, END = "\x1b[200~", "\x1b[201~"
LIMIT = 65_536
"""Characters of one paste that are kept; a field takes far fewer."""


class PasteLimit:
    """Passes text on in pieces of any size, but of each bracketed paste only its first `LIMIT` characters.

    A paste that never ends would swallow every later key: `expire` ends it.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.pasting = False
        self._kept = 0
        self._held = ""
        # an escape at the end of a reading is passed on at once, and still may begin a mark: it is then held as well
        self._ahead = 0

    def feed(self, text: str) -> str:
        """What the parser is to see of `text`."""
        text, self._held = self._held + text, ""
        passed = []
        while text:
            mark = END if self.pasting else START
            at = text.find(mark)
            if at < 0:
                held = next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)
                cut = len(text) - held
                passed.append(self._body(text[:cut]))
                self._held = text[cut:]
                break
            passed += [self._body(text[:at]), mark]
            text = text[at + len(mark) :]
            self.pasting = not self.pasting
            self._kept = 0
        return self._once("".join(passed))

    def _once(self, text: str) -> str:
        """`text` without what was passed on ahead of it, and a lone escape ahead of the rest: it may be a key."""
        if text:
            text, self._ahead = text[self._ahead :], 0
        if self._held == "\x1b" and not self.pasting and not self._ahead:
            text, self._ahead = text + self._held, 1
        return text

    def _body(self, text: str) -> str:
        if not self.pasting:
            return text
        room = self.limit - self._kept
        self._kept += len(text)
        return text[: max(room, 0)]

    def release(self) -> str:
        """Nothing more came for a moment: the keys that looked like the beginning of a paste."""
        text, self._held, self._ahead = self._held[self._ahead :], "", 0
        return text

    def expire(self) -> str:
        """Nothing more came for long: the end of a paste that was left open."""
        text = self._body(self.release())
        if self.pasting:
            self.pasting = False
            text += END
        return text
