"""Pastes are bounded however the line tears them apart, and everything else passes unchanged."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workflow_tui.terminal.environment import prepare
from workflow_tui.terminal.paste import END, START, PasteLimit

pieces = st.lists(
    st.one_of(st.sampled_from([START, END, "\x1b", "\x1b[", "\x1b[20", "a", "\x1b[A"]), st.text(max_size=8)),
    max_size=12,
)


def fed(chunks: list[str], limit: int = 10_000) -> str:
    paste = PasteLimit(limit)
    return "".join(map(paste.feed, chunks)) + paste.release()


@given(pieces, st.lists(st.integers(0, 60), max_size=8))
def test_however_it_is_torn_apart_the_text_arrives_whole(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    marks = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in pairwise(marks)]
    assert fed(chunks) == text


@given(st.text(st.characters(exclude_characters="\x1b"), max_size=50), st.integers(0, 30), st.integers(1, 9))
def test_of_a_paste_only_the_beginning_is_kept(text: str, limit: int, size: int) -> None:
    stream = f"k{START}{text}{END}k"
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert fed(chunks, limit) == f"k{START}{text[:limit]}{END}k"


def test_a_paste_that_never_ends_is_ended() -> None:
    paste = PasteLimit()
    assert paste.feed(f"{START}abc\x1b[20") == f"{START}abc"
    assert paste.pasting
    assert paste.expire() == f"\x1b[20{END}"
    assert not paste.pasting
    assert paste.feed("q") == "q"


def test_a_lone_escape_does_not_wait() -> None:
    paste = PasteLimit()
    assert paste.feed("\x1b") == "\x1b"
    assert paste.release() == ""
    assert paste.feed("q") == "q"


def test_slow_lines_get_fewer_frames_unless_told_otherwise() -> None:
    remote = {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}
    prepare(remote)
    assert remote["TEXTUAL_FPS"] == "15"
    assert remote["TEXTUAL_ANIMATIONS"] == "none"
    told = {"SSH_CONNECTION": "x", "TEXTUAL_FPS": "30", "ESCDELAY": "10"}
    prepare(told)
    assert (told["TEXTUAL_FPS"], told["ESCDELAY"]) == ("30", "10")
    local: dict[str, str] = {}
    prepare(local)
    assert set(local) == {"ESCDELAY"}
