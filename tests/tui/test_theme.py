"""Roles stay readable and apart: on the xterm-256 palette, with contrast, in both themes and for colour-blind eyes."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
from rich.cells import cell_len
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from workflow_tui.theme import (
    HEAT_LEVELS,
    ROLES,
    THEMES,
    TRACKED,
    Role,
    SpotKind,
    heat_colour,
    heat_ink,
    role_colour,
    role_hex,
    role_marker,
    role_variables,
    spot_marker,
)
from workflow_tui.widgets.chart_cells import ASCII, UNICODE

LEVELS = (0, 95, 135, 175, 215, 255)
PALETTE = {(r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS} | {(8 + 10 * i,) * 3 for i in range(24)}
# roles that meet in one chart
TOGETHER: tuple[tuple[Role, ...], ...] = (
    ("train", "validation", "test", "prediction", "target"),
    (*TRACKED, "target", "bad"),
    ("train", "validation", "bad"),
)
# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB
PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))


def linear(colour: tuple[int, int, int]) -> list[float]:
    return [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]


def luminance(colour: tuple[int, int, int]) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def lab(rgb: list[float]) -> tuple[float, float, float]:
    red, green, blue = (min(max(c, 0.0), 1.0) for c in rgb)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def rgb(text: str) -> tuple[int, int, int]:
    return Color.parse(text).rgb


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_colour_is_on_the_palette(theme: Theme) -> None:
    named = {"primary", "secondary", "accent", "warning", "error", "success", "foreground", "background", "surface"}
    for name in named | {"panel", "boost"}:
        assert rgb(getattr(theme, name)) in PALETTE, name
    for name, value in theme.variables.items():
        assert rgb(value) in PALETTE, name


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("role", ROLES)
def test_roles_can_be_read_as_text(theme: Theme, role: Role) -> None:
    assert theme.background
    assert theme.surface
    for ground in (theme.background, theme.surface):
        light, dark = sorted((luminance(role_colour(theme.name, role)), luminance(rgb(ground))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("eye", [None, PROTAN, DEUTAN], ids=["full", "protan", "deutan"])
def test_roles_of_one_chart_can_be_told_apart(theme: Theme, eye: tuple[tuple[float, ...], ...] | None) -> None:
    for roles in TOGETHER:
        for a, b in combinations(roles, 2):
            seen = []
            for role in (a, b):
                colour = linear(role_colour(theme.name, role))
                if eye is not None:
                    colour = [sum(k * c for k, c in zip(row, colour, strict=True)) for row in eye]
                seen.append(lab(colour))
            distance = sum((p - q) ** 2 for p, q in zip(*seen, strict=True)) ** 0.5
            assert distance > 15, (a, b, distance)


def test_markers_are_one_cell_wide_and_all_different() -> None:
    for use_ascii in (False, True):
        markers = [role_marker(role, use_ascii=use_ascii) for role in ROLES]
        assert len(set(markers)) == len(markers)
        assert all(cell_len(marker) == 1 for marker in markers)
        assert not use_ascii or "".join(markers).isascii()


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("grey", [False, True])
def test_levels_of_a_map_are_ordered_by_lightness_alone_and_can_be_written_on(theme: Theme, grey: bool) -> None:
    levels = [rgb(heat_colour(theme.name, level, grey=grey)) for level in range(HEAT_LEVELS)]
    assert set(levels) <= PALETTE
    lightness = [lab(linear(level))[0] for level in levels]
    assert lightness == sorted(lightness, reverse=not theme.dark)
    assert len(set(levels)) >= (HEAT_LEVELS if not grey else HEAT_LEVELS - 2)
    ink = luminance(rgb(heat_ink(theme.name)))
    for level in levels:
        light, dark = sorted((luminance(level), ink), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.7
    assert theme.background
    assert levels[0] == rgb(theme.background) or grey


def test_places_have_signs_of_their_own() -> None:
    for use_ascii, chars in ((False, UNICODE), (True, ASCII)):
        places = [spot_marker(kind, use_ascii=use_ascii) for kind in get_args(SpotKind)]
        roles = {role_marker(role, use_ascii=use_ascii) for role in ROLES if role != "stale"}
        assert len({*places, *roles}) == len(places) + len(roles)
        assert all(cell_len(sign) == 1 for sign in places)
        assert not use_ascii or "".join(places).isascii()
        assert len(chars.ramp) == HEAT_LEVELS
        # the dots and blocks of a map may be a target's dot, but nothing that is drawn on a map
        assert set(chars.ramp).isdisjoint({*places, *roles} - {role_marker("target")})


def test_a_foreign_theme_gets_the_roles_for_its_darkness() -> None:
    assert role_colour("textual-light", "train") == rgb(role_hex("train", dark=False))
    assert role_colour("nord", "train") == rgb(role_hex("train", dark=True))
    assert role_colour("no such theme", "train") == rgb(role_hex("train", dark=True))


async def test_roles_are_variables_of_the_stylesheet() -> None:
    class Themed(App[None]):
        CSS = "Screen { color: $role-train; }"

        def get_theme_variable_defaults(self) -> dict[str, str]:
            return role_variables(dark=True)

        def on_mount(self) -> None:
            for theme in THEMES:
                self.register_theme(theme)
            self.theme = "workflow-light"

    app = Themed()
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.screen.styles.color.rgb == role_colour("workflow-light", "train")
