"""A stylesheet that reads each of its sources once.

Textual 8.2.8 reads all of them anew whenever it is told the variables that it has already and whenever a screen brings
sources of its own: four times until the first screen stands. Then, with more sources than its cache has room for, each
new kind of widget has it read them all again.
"""

from __future__ import annotations

from textual.cache import LRUCache
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

SOURCES = 1024
"""More than all screens, dialogs and widgets have together."""


class OnceRead(Stylesheet):
    """Knows what it has read for as long as the variables stay."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parse_cache = LRUCache(SOURCES)

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take other variables, where they are others."""
        if variables != self._variables:
            super().set_variables(variables)

    def reparse(self) -> None:
        """Take in what has changed. Raises as `parse` does, and leaves the rules as they were then."""
        self.parse()


# by identity as before, and not through a call of Python for each rule and widget
RuleSet.__hash__ = object.__hash__  # type: ignore[method-assign]
