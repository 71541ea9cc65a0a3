"""Stylesheets are read once, and what is left out on the way to the first frame changes no style in it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from tests.tui.driving import driving
from textual.css import parse as parser
from textual.css import stylesheet
from textual.css.errors import StylesheetError
from textual.css.stylesheet import Stylesheet, StylesheetParseError

from workflow_tui.screens.base import StepScreen
from workflow_tui.stylesheet import OnceRead
from workflow_tui.widgets.stepper import NAMES

SOURCES = {
    "app": "Screen { color: $ink; } #loss.-low { height: 3; &:focus { width: 1fr; } }",
    "widget": "Label { color: red; padding: 0 1; }",
}


def filled(kind: type[Stylesheet], ink: str = "white") -> Stylesheet:
    sheet = kind(variables={"ink": ink})
    for name, css in SOURCES.items():
        sheet.add_source(css, (name, ""), is_default_css=name == "widget")
    return sheet


def test_each_source_is_read_once_until_a_variable_changes() -> None:
    sheet = filled(OnceRead)
    with mock.patch.object(stylesheet, "parse", wraps=parser.parse) as parse:
        sheet.reparse()
        sheet.set_variables({"ink": "white"})
        sheet.reparse()
        for number in range(200):
            sheet.add_source(f"#n{number} {{ width: {number}; }}", (f"n{number}", ""))
            sheet.parse()
        assert parse.call_count == 2 + 200
        sheet.set_variables({"ink": "black"})
        sheet.reparse()
        assert parse.call_count == 2 * (2 + 200)


@pytest.mark.parametrize("ink", ["white", "black", "#123456"])
def test_the_rules_are_those_of_the_stock_stylesheet(ink: str) -> None:
    stock, ours = filled(Stylesheet, ink), filled(OnceRead)
    stock.parse()
    ours.reparse()
    ours.set_variables({"ink": ink})
    ours.reparse()
    assert ours.css == stock.css
    assert ours.rules_map.keys() == stock.rules_map.keys()


def test_what_cannot_be_read_leaves_the_rules_as_they_were() -> None:
    sheet = filled(OnceRead)
    sheet.reparse()
    before = sheet.css
    sheet.add_source("Label { colour: red; }", ("bad", ""))
    with pytest.raises((StylesheetError, StylesheetParseError)):
        sheet.reparse()
    del sheet.source["bad", ""]
    sheet.reparse()
    assert sheet.css == before


def styles_of(screen: StepScreen) -> dict[int, Any]:
    return {id(node): node._css_styles.get_rules() for node in screen.walk_children(with_self=True)}


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_widgets_have_their_styles_as_they_come(size: tuple[int, int]) -> None:
    async with driving(steps=6, size=size) as drive:
        for step in NAMES:
            await drive.go(step)
            screen = drive.app.screen
            assert isinstance(screen, StepScreen)
            before = styles_of(screen)
            screen.update_node_styles(animate=False)
            assert styles_of(screen) == before


async def test_the_first_frame_has_what_the_engine_says() -> None:
    shown: list[bool] = []
    refresh = StepScreen.refresh_state

    def refresh_state(screen: StepScreen) -> None:
        if screen._stands:
            shown.append(screen.owner.state.ready)
        refresh(screen)

    with mock.patch.object(StepScreen, "refresh_state", refresh_state):
        async with driving(steps=3):
            assert all(shown)
