"""The two colour themes, and the roles (train, validation, ...) that keep one colour and one marker on every screen.

All colours lie on the xterm-256 palette (its 6x6x6 cube and grey ramp), so that a terminal without
true colour shows exactly the same picture. The hues follow Okabe and Ito's colour-blind safe set
(https://jfly.uni-koeln.de/color/), moved to the nearest palette entry that reads as text on the background.
"""

from __future__ import annotations

import sys
from typing import Literal, get_args

from textual.theme import BUILTIN_THEMES, Theme

Role = Literal[
    "train",
    "validation",
    "test",
    "target",
    "prediction",
    "weight",
    "bias",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "stale",
    "bad",
    "muted",
    "earlier",
    "cursor",
]
ROLES: tuple[Role, ...] = get_args(Role)
TRACKED: tuple[Role, ...] = ("weight", "bias", "third", "fourth", "fifth", "sixth")
"""The roles of tracked values, in the order they are given out: more than these cannot be told apart in one chart."""

DARK_NAME = "workflow-dark"
LIGHT_NAME = "workflow-light"

_DARK: dict[Role, str] = {
    "train": "#5fafff",
    "validation": "#ffaf00",
    "test": "#d75faf",
    "target": "#8a8a8a",
    "prediction": "#5fd7af",
    "weight": "#d7d75f",
    "bias": "#8787ff",
    "third": "#afffff",
    "fourth": "#afffaf",
    "fifth": "#5fafd7",
    "sixth": "#87d7af",
    "stale": "#808080",
    "bad": "#ff5f5f",
    "muted": "#9e9e9e",
    "earlier": "#808080",
    "cursor": "#eeeeee",
}
_LIGHT: dict[Role, str] = {
    "train": "#005faf",
    "validation": "#af5f00",
    "test": "#870087",
    "target": "#303030",
    "prediction": "#00875f",
    "weight": "#5f5f00",
    "bias": "#5f00d7",
    "third": "#00005f",
    "fourth": "#5f0000",
    "fifth": "#5f5faf",
    "sixth": "#5f5fd7",
    "stale": "#767676",
    "bad": "#d7005f",
    "muted": "#626262",
    "earlier": "#767676",
    "cursor": "#121212",
}

# what a point looks like, and what stands for it where the terminal takes ASCII only
_SIGNS: dict[Role, tuple[str, str]] = {
    "train": ("●", "o"),
    "validation": ("▲", "^"),
    "test": ("◆", "#"),
    "target": ("·", "."),
    "prediction": ("⠶", "="),
    "weight": ("■", "W"),
    "bias": ("▼", "B"),
    "third": ("□", "3"),
    "fourth": ("△", "4"),
    "fifth": ("◇", "5"),
    "sixth": ("▽", "6"),
    "stale": ("○", "s"),
    "bad": ("×", "x"),
    "muted": ("┊", ":"),
    "earlier": ("┄", "'"),
    "cursor": ("│", "|"),
}

SpotKind = Literal["start", "now", "minimum", "best"]
# single places that a chart points out: where a walk began, where it is, where it should end, the best epoch
_SPOTS: dict[SpotKind, tuple[str, str]] = {
    "start": ("○", "S"),
    "now": ("◉", "@"),
    "minimum": ("╋", "+"),
    "best": ("★", "*"),
}

# From the least to the greatest value of a map: greys that turn into one blue, whose lightness moves one way only
# (CIELAB L* 5 to 55, and 100 to 55): what colour-blind eyes and a grey screen see. The least is the background,
# and what is written on any of them in white (on the light theme in black) has a contrast of at least 3.7.
_HEAT_DARK = (
    "#121212",
    "#1c1c1c",
    "#262626",
    "#303030",
    "#3a3a3a",
    "#4e4e4e",
    "#005f87",
    "#005faf",
    "#0087af",
    "#5f87af",
)
_HEAT_LIGHT = (
    "#ffffff",
    "#eeeeee",
    "#e4e4e4",
    "#dadada",
    "#afd7ff",
    "#87d7ff",
    "#87afd7",
    "#5fafd7",
    "#5f87d7",
    "#5f87af",
)
HEAT_LEVELS = len(_HEAT_DARK)


def ascii_only() -> bool:
    """Whether the terminal's stream cannot carry the markers (`LANG=C`, `PYTHONIOENCODING=ascii`)."""
    encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
    try:
        "●⠶┤".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def role_hex(role: Role, *, dark: bool) -> str:
    """The colour of a role as `#rrggbb`."""
    return (_DARK if dark else _LIGHT)[role]


def role_colour(theme_name: str, role: Role) -> tuple[int, int, int]:
    """The colour of a role as (red, green, blue) from 0 to 255; a foreign theme gets the set for its darkness."""
    text = role_hex(role, dark=is_dark(theme_name))
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def is_dark(theme_name: str) -> bool:
    """Whether a theme, ours or one of Textual's own, has a dark background."""
    if theme_name in (DARK_NAME, LIGHT_NAME):
        return theme_name == DARK_NAME
    theme = BUILTIN_THEMES.get(theme_name)
    return theme is None or theme.dark


def role_marker(role: Role, *, use_ascii: bool = False) -> str:
    """The sign of a role, one cell wide: what a point of it looks like, and what a legend shows."""
    return _SIGNS[role][use_ascii]


def spot_marker(kind: SpotKind, *, use_ascii: bool = False) -> str:
    """The sign of a single place, one cell wide."""
    return _SPOTS[kind][use_ascii]


def heat_colour(theme_name: str, level: int, *, grey: bool = False) -> str:
    """The colour `#rrggbb` of a level of a map, 0 to HEAT_LEVELS - 1; `grey` gives the grey that is as light."""
    text = (_HEAT_DARK if is_dark(theme_name) else _HEAT_LIGHT)[level]
    if not grey:
        return text
    red, green, blue = int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    value = round(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    step = 8 + 10 * min(max(round((value - 8) / 10), 0), 23)
    return text if value == 255 else f"#{step:02x}{step:02x}{step:02x}"


def heat_ink(theme_name: str) -> str:
    """The colour of what is written on a map."""
    return "#ffffff" if is_dark(theme_name) else "#000000"


def role_variables(*, dark: bool) -> dict[str, str]:
    """The roles as theme variables (`role-train` is `$role-train` in a stylesheet).

    An app that lets people choose foreign themes returns these from `get_theme_variable_defaults`.
    """
    return {f"role-{role}": role_hex(role, dark=dark) for role in ROLES}


WORKFLOW_DARK = Theme(
    name=DARK_NAME,
    dark=True,
    primary="#5fafff",
    secondary="#5f87af",
    accent="#5fafff",
    warning="#ffaf00",
    error="#ff5f5f",
    success="#5fd7af",
    foreground="#d0d0d0",
    background="#121212",
    surface="#121212",
    panel="#1c1c1c",
    boost="#262626",
    variables={
        "text-muted": "#9e9e9e",
        "text-disabled": "#6c6c6c",
        "foreground-muted": "#9e9e9e",
        "foreground-disabled": "#6c6c6c",
        "border": "#5fafff",
        "border-blurred": "#3a3a3a",
        "surface-active": "#262626",
        "primary-muted": "#1c1c1c",
        "block-cursor-foreground": "#121212",
        "block-cursor-background": "#5fafff",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "block-cursor-blurred-background": "#3a3a3a",
        "block-hover-background": "#262626",
        "scrollbar": "#444444",
        "scrollbar-hover": "#585858",
        "scrollbar-active": "#5fafff",
        "scrollbar-background": "#1c1c1c",
        "input-cursor-background": "#d0d0d0",
        "input-cursor-foreground": "#121212",
        "input-selection-background": "#005f87",
        "input-selection-foreground": "#eeeeee",
        "footer-background": "#1c1c1c",
        "footer-key-foreground": "#5fafff",
        "footer-description-foreground": "#9e9e9e",
        **role_variables(dark=True),
    },
)

WORKFLOW_LIGHT = Theme(
    name=LIGHT_NAME,
    dark=False,
    primary="#005faf",
    secondary="#5f87af",
    accent="#005faf",
    warning="#af5f00",
    error="#d7005f",
    success="#00875f",
    foreground="#262626",
    background="#ffffff",
    surface="#ffffff",
    panel="#eeeeee",
    boost="#e4e4e4",
    variables={
        "text-muted": "#626262",
        "text-disabled": "#949494",
        "foreground-muted": "#626262",
        "foreground-disabled": "#949494",
        "border": "#005faf",
        "border-blurred": "#c6c6c6",
        "surface-active": "#eeeeee",
        "primary-muted": "#eeeeee",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-background": "#005faf",
        "block-cursor-blurred-foreground": "#262626",
        "block-cursor-blurred-background": "#d0d0d0",
        "block-hover-background": "#e4e4e4",
        "scrollbar": "#c6c6c6",
        "scrollbar-hover": "#a8a8a8",
        "scrollbar-active": "#005faf",
        "scrollbar-background": "#eeeeee",
        "input-cursor-background": "#262626",
        "input-cursor-foreground": "#ffffff",
        "input-selection-background": "#afd7ff",
        "input-selection-foreground": "#121212",
        "footer-background": "#eeeeee",
        "footer-key-foreground": "#005faf",
        "footer-description-foreground": "#626262",
        **role_variables(dark=False),
    },
)

THEMES = (WORKFLOW_DARK, WORKFLOW_LIGHT)
