"""Of a region that changed, exactly its cells are written, and they are the right ones."""

from __future__ import annotations

import inspect

import pyte
from textual._compositor import ChopsUpdate
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.widgets import Static

from workflow_tui.terminal import frugal

ROWS = "\n".join("".join(chr(33 + (7 * x + 13 * y) % 90) for x in range(30)) for y in range(8))


class Halves(App[None]):
    CSS = "Static { width: 1fr; border: round red; }"

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(ROWS, markup=False)
            yield Static(ROWS[::-1], markup=False)


async def test_a_span_is_cut_on_both_sides() -> None:
    app = Halves()
    async with app.run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        compositor = app.screen._compositor
        whole = ["".join(segment.text for segment in strip) for strip in compositor.render_strips()]
        for region in (Region(5, 2, 7, 1), Region(30, 1, 8, 4), Region(0, 0, 66, 10), Region(33, 9, 1, 1)):
            compositor._dirty_regions = {region}
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
    assert list(inspect.signature(ChopsUpdate.__init__).parameters) == ["self", "chops", "spans", "chop_ends"]
