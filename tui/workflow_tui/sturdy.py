"""Stock screens and widgets, made to outlive keys, clicks and resizes that come faster than they come and go.

Every class and guard here stands for a crash or a freeze of stock Textual under random input; the tests show each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events, work
from textual._context import active_message_pump
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.content import Content
from textual.css.query import NoMatches
from textual.css.styles import RulesMap
from textual.errors import NoWidget
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import OptionList

if TYPE_CHECKING:
    _App = App[Any]
    _Screen = Screen[Any]
else:  # mixins: Textual takes styles and bindings from a class's first base, which must be the one they are mixed into
    _App = _Screen = object


class SturdyScreen(_Screen):
    """Mixed into every screen and dialog, as the first base."""

    covers: ClassVar[bool] = False
    """Does it leave nothing to be seen of the screen below, which need not be drawn then?"""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Leave with `result`, once: a second key or click at the same time would take the screen below with it."""
        if not self.is_current:
            return AwaitComplete()
        try:
            return super().dismiss(result)
        except asyncio.InvalidStateError:
            return self.app.pop_screen()  # whoever waited for the answer has been cancelled

    async def _on_resize(self, event: events.Resize) -> None:
        # A layout tells the screen its size by another such event. Two different ones, with keys between them so that
        # they are not merged, would send each other round for ever.
        if event.size != self.app.size:
            event.stop()
            event.prevent_default()


class SturdyApp(_App):
    """Mixed into the app, as the first base."""

    def action_command_palette(self) -> None:
        """Open the palette, unless it is open."""
        if self.use_command_palette and not isinstance(self.screen, CommandPalette):
            self.push_screen(Palette())

    def _handle_exception(self, error: Exception) -> None:
        # a node that is removed before it has composed is mounted without children, and its handlers miss them
        node = active_message_pump.get(None)
        leaving = self._exit or self._closing or (node is not None and (node._closing or node._closed))
        leaving = leaving or (isinstance(node, Widget) and node._pruning)
        if leaving and isinstance(error, NoMatches):
            return
        super()._handle_exception(error)


class Palette(SturdyScreen, CommandPalette):
    """The command palette. It has no id: the next may open while the last is still on its way out."""

    def _on_mount(self, event: events.Mount) -> None:
        if self not in self.app.screen_stack[1:]:
            event.prevent_default()  # it was left before it stood

    def _on_click(self, event: events.Click) -> None:  # type: ignore[override]
        try:
            self.get_widget_at(int(event.screen_x), int(event.screen_y))
        except NoWidget:
            event.prevent_default()  # the terminal has shrunk since, and there is nothing any more

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        try:
            await cast(Any, CommandPalette._gather_commands).__wrapped__(self, search_value)
        except NoMatches:
            return  # the palette was left while the search went on


_clicked = OptionList._on_click
_move_page = OptionList._move_page
_get_height = Content.get_height


def _move_page_if_laid_out(self: OptionList, direction: Any) -> None:
    if self._lines:
        _move_page(self, direction)


async def _on_click_of_what_is_there(self: OptionList, event: events.Click) -> None:
    option = event.style.meta.get("option")
    if option is None or option < len(self._options):
        await _clicked(self, event)


def _get_height_in_a_column(self: Content, rules: RulesMap, width: int) -> int:
    return _get_height(self, rules, max(width, 1 + 2 * rules.get("line_pad", 0)))


# Three that no subclass reaches, because they sit in selects, palettes and file lists alike: page up and down in a list
# that has no room for a line yet, a click on an option that has gone since it was drawn, and text in a column of no
# width.
OptionList._move_page = _move_page_if_laid_out  # type: ignore[method-assign]
OptionList._on_click = _on_click_of_what_is_there  # type: ignore[method-assign]
Content.get_height = _get_height_in_a_column  # type: ignore[method-assign]
