"""Each guard stands for a crash or freeze of stock Textual: the same input ends a stock app, or goes round for ever."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tui.driving import driving
from textual import events
from textual.app import App, ComposeResult
from textual.command import CommandPalette
from textual.content import Content
from textual.css.query import NoMatches
from textual.geometry import Size
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Input, OptionList

from workflow_tui.dialogs.files import Suggestions
from workflow_tui.sturdy import Palette, SturdyApp, SturdyScreen


class Question(SturdyScreen, ModalScreen[str]):
    """A dialog of one button."""

    def compose(self) -> ComposeResult:
        yield Button("yes")


class Base(SturdyScreen, Screen[None]):
    """The screen below."""

    def __init__(self) -> None:
        super().__init__()
        self.layouts: list[Size] = []

    def compose(self) -> ComposeResult:
        yield Input()

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        if size is not None:
            self.layouts.append(size)
        super()._refresh_layout(size, scroll)


class Small(SturdyApp, App[None]):
    """An app of one screen."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Base()

    def get_default_screen(self) -> Screen[Any]:
        return self.base


async def test_a_dialog_left_twice_at_once_takes_nothing_with_it() -> None:
    answers: list[str | None] = []
    async with (app := Small()).run_test() as pilot:
        question = Question()
        await app.push_screen(question, answers.append)
        question.dismiss("first")
        question.dismiss("second")
        await pilot.pause()
        assert app.screen is app.base
        assert answers == ["first"]


async def test_a_dialog_whose_answer_nobody_awaits_any_more_can_still_be_left() -> None:
    async with (app := Small()).run_test() as pilot:
        question = Question()

        async def ask() -> None:
            await app.push_screen_wait(question)

        app.run_worker(ask())
        await pilot.pause()
        callback = question._result_callbacks[-1]
        assert callback.future is not None
        callback.future.cancel()
        question.dismiss("too late")
        await pilot.pause()
        assert app.screen_stack == [app.base]


async def test_two_sizes_at_once_come_to_rest() -> None:
    async with (app := Small()).run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.base.layouts.clear()
        now, old = app.size, Size(100, 30)
        for size in (old, now, old):
            app.base.post_message(events.Resize(size, size))
            # keys between them keep Textual from merging the sizes
            app.base.post_message(events.Key("a", "a"))
        for _ in range(20):
            await pilot.pause()
        assert old not in app.base.layouts
        assert len(app.base.layouts) < 5
        assert app.base.size == now


async def test_the_palette_opens_once_and_again_at_once() -> None:
    async with (app := Small()).run_test() as pilot:
        app.action_command_palette()
        app.action_command_palette()
        await pilot.pause()
        assert [type(screen) for screen in app.screen_stack[1:]] == [Palette]
        app.screen.dismiss()
        app.action_command_palette()
        await pilot.pause()
        assert [type(screen) for screen in app.screen_stack[1:]] == [Palette]


async def test_the_palette_can_be_left_while_it_searches() -> None:
    async with (app := Small()).run_test() as pilot:
        for _ in range(5):
            app.action_command_palette()
            await pilot.pause()
            await pilot.press("q", "u", "escape")
            app.action_command_palette()
            app.screen.dismiss()
        await pilot.pause()
        assert app.screen is app.base


async def test_a_palette_left_before_it_stood_is_no_crash() -> None:
    async with (app := Small()).run_test() as pilot:
        palette = Palette()
        app.push_screen(palette)
        app.pop_screen()
        await pilot.pause()
        assert app.screen is app.base


class Eager(Question):
    """A dialog that looks for its parts as soon as it is mounted."""

    def on_mount(self) -> None:
        self.query_one(Button).focus()


async def test_a_dialog_that_has_not_composed_when_the_app_is_left_is_no_crash() -> None:
    async with (app := Small()).run_test():
        app.push_screen(Eager())
        app.exit()
    assert app.return_code == 0


async def test_what_is_missing_in_a_screen_that_stands_is_still_an_error() -> None:
    class Broken(SturdyScreen, ModalScreen[None]):
        def on_mount(self) -> None:
            self.query_one(Button)

    async def mount() -> None:
        async with (app := Small()).run_test() as pilot:
            await app.push_screen(Broken())
            await pilot.pause()

    with pytest.raises(NoMatches):
        await mount()


async def test_a_list_without_room_takes_page_keys() -> None:
    class Narrow(App[None]):
        CSS = "OptionList { width: 3; height: 3; padding: 0 1; }"

        def compose(self) -> ComposeResult:
            yield OptionList("first", "second")

    async with (app := Narrow()).run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "down", "pagedown", "pageup")
        app.query_one(OptionList).styles.width = 0
        await pilot.pause()
        await pilot.press("down", "pagedown", "pageup")
        assert app.return_code is None


async def test_a_click_on_an_option_that_has_gone_since_is_no_click() -> None:
    class Listed(App[None]):
        chosen = 0

        def compose(self) -> ComposeResult:
            yield OptionList("first", "second", "third")

        def on_option_list_option_selected(self) -> None:
            self.chosen += 1

    async with (app := Listed()).run_test() as pilot:
        await pilot.click(OptionList, offset=(3, 2))
        assert app.chosen == 1
        # what lies on the screen is still the old list when the click comes
        options = app.query_one(OptionList)
        options._options.pop()
        await pilot.click(OptionList, offset=(3, 3))
        await pilot.pause()
        assert app.chosen == 1
        assert app.return_code is None


@pytest.mark.parametrize("width", [-1, 0, 1])
def test_text_in_a_column_of_no_width_has_a_height(width: int) -> None:
    assert Content("abc").get_height({}, width) == 3


@pytest.mark.parametrize("value", ["x" * 300, "a" * 5000, "**", "[", "\0", "..", "/", "~", ""])
async def test_no_path_that_is_typed_breaks_the_suggestions(value: str, tmp_path: Any) -> None:
    (tmp_path / "model.pt").touch()
    suggestions = Suggestions()
    suggestions.root = tmp_path
    await suggestions.get_suggestion(value)
    assert await suggestions.get_suggestion("mod") == "model.pt"


async def test_a_click_where_the_terminal_has_ended_since_is_no_click() -> None:
    async with driving() as drive:
        await drive.press("ctrl+p")
        palette = drive.app.screen
        assert isinstance(palette, CommandPalette)
        at: dict[str, Any] = {
            "x": 500,
            "y": 500,
            "screen_x": 500,
            "screen_y": 500,
            "delta_x": 0,
            "delta_y": 0,
            "button": 1,
        }
        palette.post_message(events.Click(palette, **at, shift=False, meta=False, ctrl=False))
        await drive.settle()
        assert drive.app.screen is palette
