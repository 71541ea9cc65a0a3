"""What the charts of several screens have in common: the data, its true line, and history as points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from workflow_core.history import RECORDED, Column, History
from workflow_core.protocol import DataView, Point, SurfaceAnswer, TrainingView
from workflow_tui.theme import ROLES, TRACKED, Role
from workflow_tui.widgets.chart import Heat, Lines, Mark, Path, Scatter, Spot
from workflow_tui.widgets.chart_layers import Layer

SHORT = {"train": "train", "validation": "val", "test": "test"}
ENTRY = 12
"""Columns of a legend that a tracked value takes at least: its marker, eight of its name, the gap."""
COLUMNS = 240
"""Twice as many columns as the widest chart of a 200-column terminal needs, two points each."""


def role_of(name: str) -> Role:
    """The role of a split or parameter of this name; parameters of no role of their own look like predictions."""
    return next((role for role in ROLES if role == name), "prediction")


def tracked_names(history: History, training: TrainingView) -> list[str]:
    """The tracked values of a run: those that were recorded, and before the first epoch those it will record."""
    return [name for name in history.series if name not in RECORDED] or list(training.parameters)


def told_apart(names: Sequence[str], width: int = 0) -> dict[str, Role]:
    """As many tracked values as one chart can tell apart, each with its role; norms before means.

    Of a chart of `width` columns no more than its legend can name.
    """
    room = max((width + 2) // ENTRY, 2) if width else len(TRACKED)
    first = sorted(names, key=lambda name: name.endswith(" mean"))[: min(room, len(TRACKED))]
    roles: dict[str, Role] = {}
    for role in ("weight", "bias"):
        own = next((name for name in first if name.rpartition(".")[2] == role and name not in roles), None)
        if own is not None:
            roles[own] = role_of(role)
    free = [role for role in TRACKED if role not in roles.values()]
    for name in first:
        if name not in roles:
            roles[name] = free.pop(0)
    return {name: roles[name] for name in first}


def data_layers(data: DataView, *, truth: bool = True) -> list[Layer]:
    """The true line below, the three splits above it."""
    layers: list[Layer] = []
    if truth and data.line:
        layers.append(Lines("target", "true", list(data.line)))
    layers += [
        Scatter(role_of(split.name), SHORT[split.name], list(split.points)) for split in data.splits if split.count
    ]
    return layers


def pair_layers(pairs: Sequence[Point], label: str = "train") -> tuple[list[Layer], tuple[float, float]]:
    """(y, y_pred) pairs of training rows above the diagonal where both are equal, and the range of y."""
    values = [y for y, _ in pairs]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    perfect = Lines("target", "y_pred = y", [(low, low), (high, high)])
    return [perfect, Scatter("train", label, list(pairs))], (low, high)


def data_range(data: DataView) -> tuple[float, float]:
    """The x axis that shows every row."""
    ranges = [split.x_range for split in data.splits if split.x_range is not None]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def column_points(columns: Iterable[Column]) -> list[Point]:
    """Columns of a series as points: the least and the greatest value of each, in the order in which they came, and
    the last value of all at the end, where a marker says how it stands."""
    points, last = list[Point](), None
    for column in columns:
        points += _points(column)
        last = column
    if last is not None and not math.isnan(last.low) and points[-1][1] != last.last and not math.isnan(last.last):
        points.append((float(last.stop - 1), last.last))
    return points


def _points(column: Column) -> Iterator[Point]:
    if math.isnan(column.low):
        yield float(column.start), math.nan  # a gap, not a bridge
    elif column.low == column.high:
        yield float(column.start), column.low
        if column.stop - column.start > 1:
            yield float(column.stop - 1), column.high
    else:
        falling = not column.first <= column.last
        ends = (column.high, column.low) if falling else (column.low, column.high)
        yield float(column.start), ends[0]
        yield float(column.stop - 1), ends[1]


def path_points(history: History, x: str, y: str, stop: int | None = None) -> list[Point]:
    """Where two tracked values were together, over the epochs before `stop` (None: all): a walk of few points.

    Each is a true one, of the first epoch of a column of epochs; without `stop` the last epoch's ends it.
    """
    if x not in history.series or y not in history.series:
        return []
    end = history.epochs if stop is None else min(stop, history.epochs)
    pairs = list(
        zip(history.series[x].columns(COLUMNS, 0, end), history.series[y].columns(COLUMNS, 0, end), strict=True)
    )
    points = [(a.first, b.first) for a, b in pairs]
    if pairs and stop is None and history.epochs > pairs[-1][0].start + 1:
        points.append((pairs[-1][0].last, pairs[-1][1].last))
    return points


def surface_layers(surface: SurfaceAnswer, path: Sequence[Point], now: Point | None = None) -> list[Layer]:
    """The loss over two parameters as a map with the walk over it: where it began, where it is (`now`; None: where the
    surface was asked for), where the loss is least."""
    least = "minimum" if surface.minimum_is == "closed form" else "least of the map"
    layers: list[Layer] = [
        Heat(surface.loss, surface.x_range, surface.y_range, label="loss"),
        Path("prediction", "path", list(path)),
        Spot("minimum", "target", least, *surface.minimum),
    ]
    if path:
        layers.append(Spot("start", "prediction", "start", *path[0]))
    return [*layers, Spot("now", "prediction", "now", *(now or surface.now))]


def bad_mark(first_bad: int | None) -> list[Layer]:
    """A mark at the first epoch with a NaN or infinite figure, where there is one."""
    return [] if first_bad is None else [Mark(float(first_bad), "bad", "NaN or infinite")]
