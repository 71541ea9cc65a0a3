"""Of a region that changed, exactly its cells are written that do not stand there yet, and they are the right ones."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator

import pyte
import pytest
from rich.style import Style
from rich.text import Text
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from workflow_tui.terminal import frugal

ROWS = "\n".join("".join(chr(33 + (7 * x + 13 * y) % 90) for x in range(30)) for y in range(8))


class Halves(App[None]):
    CSS = "Static { width: 1fr; border: round red; } Question { align: center middle; } Label { border: round blue; }"

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(ROWS, markup=False, id="left")
            yield Static(ROWS[::-1], markup=False, id="right")


class Question(ModalScreen[None]):
    def compose(self) -> ComposeResult:
        yield Label("Is this above the rest, 漢字 and all?")


class Watched:
    """An app together with the terminal that its updates are written to."""

    def __init__(self, pilot: Pilot[None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = pilot.app
        self.screen = pyte.Screen(*pilot.app.size)
        self.stream = pyte.Stream(self.screen)
        self.written = 0

        def display(app: App[None], screen: object, update: object) -> None:
            if isinstance(update, LayoutUpdate):
                self.take(frugal._render_layout(update, app.console))
            elif isinstance(update, ChopsUpdate):
                self.take(frugal._render_segments(update, app.console))

        monkeypatch.setattr(App, "_display", display)
        self.take(frugal._render_layout(self.compositor.render_full_update(), self.app.console))

    @property
    def compositor(self) -> Compositor:
        return self.app.screen._compositor

    def take(self, text: str) -> None:
        self.written += len(text)
        # as a raw terminal would: a line feed is no carriage return, but every row begins with a leap anyway
        self.stream.feed(text)

    def is_right(self) -> bool:
        """Does the terminal show what it would show had all of it been written at once?"""
        whole = pyte.Screen(*self.app.size)
        # with the screens below a dialog, as Textual paints it
        update = self.compositor.render_update(full=True, screen_stack=self.app._background_screens)
        assert isinstance(update, LayoutUpdate)
        pyte.Stream(whole).feed(frugal._write_all(update, self.app.console))
        rows = range(whole.lines)
        return all(self.screen.buffer[y][x] == whole.buffer[y][x] for y in rows for x in range(whole.columns))


def texts() -> Iterator[Text]:
    chance = random.Random(5)
    for turn in range(30):
        lines = [list(line) for line in ROWS.splitlines()]
        for _ in range(chance.randrange(12)):
            lines[chance.randrange(8)][chance.randrange(29)] = chance.choice("ab漢é ●\u0301")
        text = Text("\n".join(map("".join, lines)))
        for _ in range(chance.randrange(4)):
            start = chance.randrange(200)
            text.stylize(chance.choice((Style(bold=True), Style(bgcolor="red"))), start, start + turn)
        yield text


def test_a_style_is_set_once_for_all_that_has_it() -> None:
    red, blue = "\x1b[1;31m", "\x1b[34m"
    assert frugal.thrifty(f"{red}a\x1b[0m{red}b\x1b[0m") == f"{red}ab\x1b[0m"
    assert frugal.thrifty(f"{red}a\x1b[0m\x1b[3;4H{red}b\x1b[0m") == f"{red}a\x1b[3;4Hb\x1b[0m"
    assert frugal.thrifty(f"{red}a\x1b[0m{blue}b\x1b[0mc") == f"{red}a\x1b[0;34mb\x1b[0mc"
    assert frugal.thrifty("plain\x1b]8;;x\x1b\\") == "plain\x1b]8;;x\x1b\\"


async def test_what_stands_there_is_not_written_again_and_what_stands_there_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Halves().run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        terminal = Watched(pilot, monkeypatch)
        for turn, text in enumerate(texts()):
            pilot.app.query_one("#left" if turn % 2 else "#right", Static).update(text)
            await pilot.pause()
            assert terminal.is_right()
            if turn % 10 == 9:
                await pilot.app.push_screen(Question())
                await pilot.pause()
                assert terminal.is_right()
                await pilot.app.pop_screen()
                await pilot.pause()
                assert terminal.is_right()


async def test_an_equal_painting_writes_nothing_and_one_character_a_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Halves().run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        terminal = Watched(pilot, monkeypatch)
        before, left = terminal.written, pilot.app.query_one("#left", Static)
        left.refresh()
        await pilot.pause()
        assert terminal.written == before
        left.update(Text(ROWS.replace("!", "?", 1)))
        await pilot.pause()
        assert 0 < terminal.written - before < 60
        left.border_title = "Title"
        await pilot.pause()
        assert 0 < terminal.written - before < 200
        assert terminal.is_right()


async def test_painting_everything_writes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Halves().run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        terminal = Watched(pilot, monkeypatch)
        terminal.screen.reset()
        pilot.app.refresh()
        await pilot.pause()
        assert terminal.is_right()


async def test_a_span_is_cut_on_both_sides() -> None:
    app = Halves()
    async with app.run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        compositor = app.screen._compositor
        whole = ["".join(segment.text for segment in strip) for strip in compositor.render_strips()]
        for region in (Region(5, 2, 7, 1), Region(30, 1, 8, 4), Region(0, 0, 66, 10), Region(33, 9, 1, 1)):
            compositor._dirty_regions = {region}
            frugal.forget(app.console)
            update = compositor.render_partial_update()
            assert update is not None
            screen = pyte.Screen(66, 10)
            pyte.Stream(screen).feed(frugal._render_segments(update, app.console))
            for y, line in enumerate(screen.display):
                inside = whole[y][region.x : region.right] if region.y <= y < region.bottom else ""
                assert line == (" " * region.x + inside).ljust(66) if inside else not line.strip()


def test_textual_is_still_built_so_that_this_works() -> None:
    frugal.install()
    assert ChopsUpdate.render_segments is frugal._render_segments
    assert LayoutUpdate.render_segments is frugal._render_layout
    assert list(inspect.signature(LayoutUpdate.__init__).parameters) == ["self", "strips", "region"]
    assert list(inspect.signature(ChopsUpdate.__init__).parameters) == ["self", "chops", "spans", "chop_ends"]
