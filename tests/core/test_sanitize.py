"""Nothing that comes from outside can do more than be read."""

from __future__ import annotations

import json
import tomllib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_core.sanitize import escape, padded, sanitize, width

HOSTILE = st.text(
    st.sampled_from("ab \x1b\x9b\x00\n\t\u202e\u200b\u200d\u0301\ufe0f\ud800\ue000\u3000\xa0é界") | st.characters()
)
QUOTED = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n"}


@given(HOSTILE, st.integers(1, 50))
def test_the_result_is_one_short_printable_line(text: str, limit: int) -> None:
    clean = sanitize(text, limit)
    assert len(clean) <= limit
    assert len(clean.splitlines()) <= 1
    assert clean.isprintable()
    clean.encode()
    marks = 3
    for character in clean:
        kind = unicodedata.category(character)
        assert kind[0] not in "C"
        marks = marks + 1 if kind[0] == "M" else 0
        assert marks <= 3


@given(HOSTILE, st.integers(1, 50))
def test_twice_is_the_same_as_once(text: str, limit: int) -> None:
    assert sanitize(sanitize(text, limit), limit) == sanitize(text, limit)


@given(st.text(st.characters(categories=["L", "N", "P"], max_codepoint=0x7F), max_size=200))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert sanitize(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("model.pt", "model.pt"),
        ("gewichte für x.pt", "gewichte für x.pt"),
        ("模型.pt", "模型.pt"),
        ("\x1b]52;c;QQ==\x07", "�]52;c;QQ==�"),
        ("\x9b31mred", "�31mred"),
        ("two\nlines\r\nand\ttabs", "two lines  and tabs"),
        ("a\u2028b\x85c", "a b c"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("e" + "\u0301" * 500, "e" + "\u0301" * 3),
        ("\u0301start", "start"),
        ("bad\udcff.pt", "bad�.pt"),
        ("[/][@click=app.quit]", "[/][@click=app.quit]"),
        ("👩\u200d👧 👍🏽 🇩🇪 🏳\ufe0f", "👩👧 👍 DE 🏳"),
        ("", ""),
    ],
)
def test_examples(text: str, clean: str) -> None:
    assert sanitize(text) == clean


@given(HOSTILE, st.sampled_from(("utf-8", "ascii", "latin-1")))
def test_data_read_back_as_they_were_and_instruct_no_terminal(text: str, encoding: str) -> None:
    text = "".join(character for character in text if unicodedata.category(character) != "Cs")  # TOML holds none
    escaped = escape(f'"{text.translate(QUOTED)}"', encoding)
    escaped.encode(encoding)
    assert all(line.isprintable() or "Zs" in map(unicodedata.category, line) for line in escaped.split("\n"))
    assert not any(unicodedata.category(character)[0] == "C" for character in escaped)
    assert tomllib.loads(f"name = {escaped}")["name"] == text
    if max(map(ord, text), default=0) < 0x10000:
        assert json.loads(escaped) == text


@pytest.mark.parametrize(
    ("text", "wide"), [("abc", 3), ("幅", 2), ("e\u0301", 1), ("\u1112\u1161\u11ab", 2), ("ｗ", 2)]
)
def test_names_are_padded_to_the_columns_that_they_take(text: str, wide: int) -> None:
    assert width(text) == wide
    assert padded(text, 5) == text + " " * (5 - wide)
    assert padded(text, 5, right=True) == " " * (5 - wide) + text
    assert padded(text, 0) == text


def test_long_text_says_that_it_was_cut() -> None:
    assert sanitize("x" * 300) == "x" * 199 + "…"
    assert sanitize("x" * 200) == "x" * 200
    assert sanitize("abc", 1) == "…"
