"""A race on the screen: one chart with a line a lane, and the lanes as a table."""

from __future__ import annotations

import math

from rich.text import Text
from textual.widget import Widget

from workflow_core.protocol import LaneView, RaceView
from workflow_core.sanitize import padded, sanitize
from workflow_core.specs import LOSS_NAMES
from workflow_tui import figures
from workflow_tui.instruments.curves import nothing_yet
from workflow_tui.instruments.scene import Scene
from workflow_tui.plots import column_points
from workflow_tui.tables import Ink, fitted_start
from workflow_tui.theme import TRACKED, Role, role_marker
from workflow_tui.widgets import chart as layers
from workflow_tui.widgets.chart import Chart
from workflow_tui.widgets.chart_layers import Layer

LOSSES = ("train_loss", "val_loss")
"""What is read of every lane."""


KEYS = (("space", "run/pause"), ("S", "stop"), (".", "one epoch each"), ("+", "faster"), ("-", "slower"))
LAST_KEYS = (("enter", "take a lane on"), ("r", "single run"))
COMMON_KEYS = (("↑ ↓", "zoom"), ("u", "runs"), ("?", "help"), ("q", "leave"))


def keys(race: RaceView) -> tuple[tuple[str, str], ...]:
    """What the key bar says while a race is shown, or what once it is over."""
    over = race.state in ("finished", "diverged", "failed")
    return (LAST_KEYS if over else KEYS) + COMMON_KEYS


def lane_role(index: int) -> Role:
    """The role that a lane has in chart and table."""
    return TRACKED[index % len(TRACKED)]


def watched(race: RaceView) -> str:
    """The loss that lanes are compared by: the validation loss, where there is one."""
    return "val_loss" if any(lane.val_loss is not None for lane in race.lanes) else "train_loss"


def unit(race: RaceView) -> str:
    """Which loss the lanes are compared by."""
    losses = {LOSS_NAMES[lane.spec.loss] for lane in race.lanes}
    kind = "validation" if watched(race) == "val_loss" else "training"
    return f"{kind} {losses.pop() if len(losses) == 1 else 'loss, not the same for all'}"


def show_race(chart: Chart, scene: Scene) -> None:
    """The loss of every lane over the epochs."""
    race = scene.state.race
    assert race is not None
    name = watched(race)
    strange = " · EXPERIMENT" if any(lane.spec.experiment for lane in race.lanes) else ""
    chart.border_title = f"Race{strange} · {unit(race)}" + (" · log y" if scene.log_loss else "")
    if not race.epoch:
        nothing_yet(chart, "space runs the race: a line a lane")
        return
    drawn: list[Layer] = []
    names = short_labels([sanitize(lane.label, 24) for lane in race.lanes], chart.size.width)
    for index, lane in enumerate(race.lanes):
        columns = next((one.series.get(name) for one in scene.lanes if one.run == lane.run), None)
        if columns:
            drawn.append(layers.Lines(lane_role(index), names[index], column_points(columns)))
    start, stop = scene.look.shown(race.epochs, race.epoch)
    chart.show(drawn, x_range=(start, stop), x_label="epoch", log_y=scene.log_loss, whole_x=True)
    chart.cursor = None
    chart.border_subtitle = f"{figures.whole(race.epoch)} of {figures.epochs(race.epochs)}"


def short_labels(labels: list[str], width: int) -> list[str]:
    """Labels of lanes for a legend `width` columns wide; where it is too narrow, without words they all begin with."""
    words = [label.split(" ") for label in labels]
    while sum(map(len, labels)) + 4 * len(labels) > width and all(
        len(rest) > 1 and rest[0] == words[0][0] for rest in words
    ):
        words = [rest[1:] for rest in words]
        labels = [" ".join(rest) for rest in words]
    return labels


def standing(race: RaceView) -> list[tuple[int, LaneView]]:
    """The lanes with their places in the chart, best loss so far first, those that blew up last."""

    def key(entry: tuple[int, LaneView]) -> tuple[bool, float]:
        lane = entry[1]
        loss = lane.best_loss if lane.best_loss is not None else math.inf
        return lane.state in ("diverged", "failed"), loss

    return sorted(enumerate(race.lanes), key=key)


def lanes_text(widget: Widget, race: RaceView) -> Text:
    """The lanes in the order they stand in, with their figures, and below each what is special about it."""
    ink, width = Ink(widget), widget.size.width
    roomy = width >= 44
    room = max(width - 4 - (7 if roomy else 0) - 20, 6)
    text = Text(f"    {'lane':<{room}}{'epoch':>7}" if roomy else f"    {'lane':<{room}}", ink("muted"))
    text.append(f"{'now':>10}{'best':>10}\n", ink("muted"))
    for place, (index, lane) in enumerate(standing(race), start=1):
        role = lane_role(index)
        now = lane.val_loss if watched(race) == "val_loss" else lane.train_loss
        text.append(f"{place} ", ink("muted")).append(f"{role_marker(role)} ", ink(role))
        text.append(padded(fitted_start(lane.label, room - 1), room), "bold")
        text.append(f"{figures.whole(lane.epoch):>7}" if roomy else "")
        text.append(f"{figures.figure(now):>10}{figures.figure(lane.best_loss):>10}\n")
        if note := _note(lane, width - 4):
            text.append(f"    {note}\n", ink("bad" if lane.state in ("diverged", "failed") else "muted"))
    return text


def _note(lane: LaneView, room: int) -> str:
    """What is special about a lane, in so many columns."""
    if lane.state == "diverged" and lane.first_bad is not None:
        whole = f"diverged: NaN or infinite from epoch {lane.first_bad:,} on"
        return whole if len(whole) <= room else f"diverged in epoch {lane.first_bad:,}"
    if lane.state == "diverged":
        return "diverged"
    return fitted_start(lane.reason, room) if lane.state in ("failed", "finished") and lane.reason != "epochs" else ""


def race_status(widget: Widget, race: RaceView) -> Text:
    """How far the race is, and what to press."""
    ink = Ink(widget)
    running = race.state == "running"
    text = Text(f" {'▶' if running else '■'} race ", ink("accent" if running else "muted"))
    text.append(f"{figures.whole(race.epoch)} / {figures.epochs(race.epochs)}", "bold")
    if running:
        pace = "flat out" if race.pace is None else f"pace {figures.short(race.pace)}"
        return text.append(f"  {figures.rate(race.rate)} epochs/s each, {pace}")
    if race.state in ("finished", "diverged", "failed"):
        return text.append("  over. enter takes a lane on, u compares the runs")
    return text.append("  paused. space runs it, S ends it")
