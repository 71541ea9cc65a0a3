"""Hostile names are shown, not obeyed."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult

from workflow_tui.widgets.safe import Plain, lines, text

HOSTILE = ["[/]", "[@click=app.quit]x[/]", "[bold", "\x1b]52;c;aGk=\x07", "\x9b31m", "a\u202eb", "]" * 300]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_text_does_no_harm(name: str) -> None:
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield Plain(f"one\n{name}")

    app = Shown()
    async with app.run_test() as pilot:
        plain = app.query_one(Plain)
        plain.update(f"first\n{name}")
        await pilot.pause()
        drawn = "".join(segment.text for y in range(5) for segment in plain.render_line(y))
        assert drawn.startswith("first")
        assert drawn.isprintable()
        if name.isprintable():
            assert name[:80] in drawn.replace("\n", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_for_a_cell(name: str) -> None:
    cell = text(name, "bold")
    assert cell.plain.isprintable()
    assert len(cell.plain) <= 200
    assert not cell.spans


def test_lines_stay_lines() -> None:
    assert lines("a\tb\nc\rd") == "a b\nc d"
