"""A run as an SVG picture: its charts as the program draws them, with its settings and its result below.

The picture is a terminal's text written as SVG by rich. It asks the network for nothing: rich's own frame would fetch
a font from a server whenever somebody opens the file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from workflow_core.history import RECORDED, Column
from workflow_core.protocol import RunView
from workflow_core.sanitize import sanitize
from workflow_tui import runs_text
from workflow_tui.plots import column_points, told_apart
from workflow_tui.tables import labels
from workflow_tui.theme import WORKFLOW_DARK, WORKFLOW_LIGHT, role_hex
from workflow_tui.widgets.chart_cells import Row
from workflow_tui.widgets.chart_layers import ChartSpec, Horizontal, Layer, Lines, Mark
from workflow_tui.widgets.chart_paint import Painter

WIDTH, HEIGHT = 110, 22
"""Cells of each of the two charts."""
COLUMNS = 2 * WIDTH
"""Columns of history to ask for: two for each cell across."""
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', 'Courier New', monospace"

# The fields are those that rich fills in; its own format adds a window's frame and the font from a server.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {{width}} {{height}}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>{title}</title>
<style>
.{{unique_id}}-matrix {{{{ font-family: {fonts}; font-size: {{char_height}}px; line-height: {{line_height}}px;
  white-space: pre; }}}}
{{styles}}
</style>
<defs>
<clipPath id="{{unique_id}}-clip-terminal"><rect width="{{terminal_width}}" height="{{terminal_height}}"/></clipPath>
{{lines}}
</defs>
<rect width="{{width}}" height="{{height}}" fill="{background}"/>
<g transform="translate({{terminal_x}}, 20)" clip-path="url(#{{unique_id}}-clip-terminal)">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g>
</g>
</svg>
"""


def picture(
    run: RunView,
    series: Mapping[str, Sequence[Column]],
    caption: Sequence[str],
    *,
    targets: Mapping[str, float] | None = None,
    dark: bool,
) -> str:
    """The text of an SVG file: the losses of a run, its tracked values, and `caption` below, a line each.

    `series` are its recorded series in columns, `targets` where tracked values should arrive, as far as that is known.
    """
    theme = WORKFLOW_DARK if dark else WORKFLOW_LIGHT
    ink, paper = str(theme.foreground), str(theme.background)
    muted = role_hex("muted", dark=dark)
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        color_system="truecolor",
        force_terminal=True,
        legacy_windows=False,
    )
    console.print(Text(_title(run), f"bold {ink}", no_wrap=True, overflow="ellipsis"))
    for title, spec in (_losses(run, series), _tracked(run, series, targets or {})):
        console.print(Text(f"\n{title}", ink))
        for row in Painter().paint(spec, WIDTH, HEIGHT, use_ascii=False, hint="nothing to draw"):
            console.print(_line(row, dark))
    console.print()
    for line in caption:
        console.print(Text(sanitize(line, 1000), muted))
    return console.export_svg(
        title=_title(run),
        theme=TerminalTheme(_rgb(paper), _rgb(ink), [(0, 0, 0)] * 8),
        code_format=FORMAT.format(
            title=escape(_title(run)).replace("{", "{{").replace("}", "}}"), fonts=FONTS, background=paper
        ),
        unique_id=f"run-{run.run}",
    )


def _title(run: RunView) -> str:
    return runs_text.title(run)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _losses(run: RunView, series: Mapping[str, Sequence[Column]]) -> tuple[str, ChartSpec]:
    layers: list[Layer] = []
    for name, role, label in (("val_loss", "validation", "val"), ("train_loss", "train", "train")):
        if points := list(column_points(series.get(name, ()))):
            layers.append(Lines(role, label, points))  # type: ignore[arg-type]
    by_hand = [Mark(float(epoch), "muted", f"lr {rate:.4g}") for epoch, rate in run.lr_changes]
    return f"Loss · {runs_text.unit(run)} · log y", ChartSpec(
        (*by_hand, *layers, *_bad(series)), (0.0, float(max(run.epochs, 1))), None, "epoch", True, True
    )


def _tracked(
    run: RunView, series: Mapping[str, Sequence[Column]], targets: Mapping[str, float]
) -> tuple[str, ChartSpec]:
    roles = told_apart([name for name in series if name not in RECORDED], WIDTH)
    short = labels(roles, 24)
    layers: list[Layer] = [Horizontal(role, "", targets[name]) for name, role in roles.items() if name in targets]
    layers += [Lines(role, short[name], list(column_points(series[name]))) for name, role in roles.items()]
    known = any(name in targets for name in roles)
    return "Parameters" + (" → target" if known else ""), ChartSpec(
        (*layers, *_bad(series)), (0.0, float(max(run.epochs, 1))), None, "epoch"
    )


def _bad(series: Mapping[str, Sequence[Column]]) -> list[Layer]:
    """A mark where a figure is NaN or infinite first; a run that diverged ends there."""
    columns = [column for each in series.values() for column in each]
    found = [column.start for column in columns if not math.isfinite(column.first)]
    found += [column.stop - 1 for column in columns if not math.isfinite(column.last)]
    return [Mark(float(min(found)), "bad", "NaN or infinite")] if found else []


def _line(row: Row, dark: bool) -> Text:
    """The cells of a row in the colours of their roles."""
    # blanks have none: every word is a text of its own then, and stands where it belongs whatever font a viewer has
    text = Text(no_wrap=True)
    for role, cells in groupby(row, key=lambda cell: cell[1]):
        text.append("".join(char for char, _ in cells), None if role is None else role_hex(role, dark=dark))
    return text
