"""The last gate before the terminal: no content controls it, and an ASCII terminal gets ASCII of the same width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import ControlType, Segment
from rich.text import Text
from tests.tui.driving import driving, frame
from textual.color import Color
from wcwidth import wcwidth

from workflow_core.protocol import Steps, Update
from workflow_tui.output import ASCII, OutputGuard
from workflow_tui.widgets.frame import StatusLine

BACKGROUND = Color(0, 0, 0)
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


def cleaned(text: str, *, ascii_only: bool = False) -> str:
    (segment,) = OutputGuard(ascii_only=ascii_only).apply([Segment(text)], BACKGROUND)
    return segment.text


@given(st.text())
def test_nothing_that_controls_a_terminal_passes(text: str) -> None:
    clean = cleaned(text)
    assert clean.isprintable()
    assert cell_len(clean) == cell_len(text)


@pytest.mark.parametrize(
    "text", ["👩\u200d👩\u200d👧", "🏳\ufe0f", "👍🏽", "🇩🇪", "a🇩b", "\ufe0f", "\u1112\u1161", "a\u115f\u3164b"]
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_is_joined_of_several_characters_takes_the_room_that_it_was_given(text: str, ascii_only: bool) -> None:
    clean = cleaned(f"│{text}│", ascii_only=ascii_only)
    assert cell_len(clean) == sum(map(wcwidth, clean)) == cell_len(text) + 2


@given(st.text())
def test_an_ascii_terminal_gets_ascii(text: str) -> None:
    clean = cleaned(text, ascii_only=True)
    assert clean.isascii()
    assert clean.isprintable()
    assert cleaned(clean, ascii_only=True) == clean


@pytest.mark.parametrize("text", ["─│╭╮╰╯━", "●▲◆■▶✓✗↻○", "…→←↑↓▼×²∂", "Größe", "plain", "", "1 幅 wide", "e\u0301"])
def test_ascii_keeps_the_width_of_a_line(text: str) -> None:
    assert cell_len(cleaned(text, ascii_only=True)) == cell_len(text)


def test_what_ascii_stands_for_is_one_cell_for_one_cell() -> None:
    assert all(cell_len(chr(code)) == 1 for code in ASCII)
    assert all(len(str(stand_in)) == 1 and str(stand_in).isascii() for stand_in in ASCII.values())


def test_control_segments_of_textual_itself_pass() -> None:
    bell = Segment("\x07", None, [(ControlType.BELL,)])
    assert OutputGuard(ascii_only=True).apply([bell], BACKGROUND) == [bell]


async def test_no_control_character_reaches_a_strip_of_the_app() -> None:
    nasty = "".join(CONTROLS) + "\u202e\u200b[/]"
    async with driving(steps=1) as drive:
        await drive.tell(Update(steps=Steps(data="stale", reasons={"data": f"x{nasty}y"})))
        drive.app.screen.query_one(StatusLine).show(Text(nasty))
        await drive.pilot.pause()
        strips = frame(drive.app)
        texts = [segment.text for strip in strips for segment in strip if not segment.control]
        assert all(text.isprintable() for text in texts)
        assert "Stale: x" in drive.text


async def test_the_whole_app_in_ascii_has_the_same_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_tui.app.ascii_only", lambda: True)
    async with driving(steps=6, size=(80, 24)) as drive:
        for key in "123456":
            await drive.press(key)
            strips = frame(drive.app)
            assert all(strip.text.isascii() for strip in strips)
            assert {cell_len(strip.text) for strip in strips} == {80}
            assert "+-" in drive.text
        await drive.press("question_mark")
        assert drive.text.isascii()
