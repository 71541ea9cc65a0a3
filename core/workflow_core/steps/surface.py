"""The loss surface over two scalars of a model: which part of it to show, its heights, and where it is lowest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from workflow_core.errors import WorkflowError
from workflow_core.history import HistoryData
from workflow_core.steps import ranges
from workflow_core.steps.least_squares import RANK, SLICE
from workflow_core.steps.plane import Plane, Work
from workflow_core.steps.ranges import Range
from workflow_core.views import Point

MAX_SIDE = 512
MAX_POINTS = 2**16
LONGEST = 10.0
"""Seconds of computing that the points of a map may take: where all of them would take longer it has fewer."""
FEWEST = 96
FAR = 100.0
"""Times the first loss: a map need not show where a run that goes astray is above that."""
KEPT = 4
KEPT_NUMBERS = 2**20
ROUNDS = 16
"""Of a search: enough to go eight steps and then to halve the step eight times."""
REACH = 8
"""Lengths of what must be seen that a search for the minimum goes beyond it."""
STAR = [(across / 2, up / 2) for up in range(-2, 3) for across in range(-2, 3) if across or up]
"""Where a search looks around the best point so far, in its steps."""

Ranges = tuple[Range, Range]
Rows = tuple[tuple[float, ...], ...]
MinimumIs = Literal["closed form", "best point of the grid", "best point found"]


@dataclass(frozen=True)
class Surface:
    """`loss[row][column]` over the ranges, the first row at the low end of y; a minimum that is nowhere is NaN."""

    x_range: Range
    y_range: Range
    loss: Rows
    now: Point
    now_loss: float
    minimum: Point
    minimum_loss: float
    minimum_is: MinimumIs


@dataclass(frozen=True)
class Ask:
    """What is to be mapped: at most `columns` times `rows` points.

    Ranges that are None are chosen so that what was `walked` on each axis (least and greatest value, or None), the
    minimum, and the values as they are now are within; the last only where their loss is not above `limit`. `linear`
    says that the model is linear in its parameters and the loss its mean squared error. Raises WorkflowError.
    """

    columns: int
    rows: int
    x_range: Range | None = None
    y_range: Range | None = None
    walked: tuple[Range | None, Range | None] = (None, None)
    limit: float = math.inf
    linear: bool = False

    def __post_init__(self) -> None:
        sides = (self.columns, self.rows)
        if not all(2 <= side <= MAX_SIDE for side in sides) or self.columns * self.rows > MAX_POINTS:
            raise WorkflowError(
                "Not a grid",
                f"{self.columns:,} times {self.rows:,} points cannot be shown.",
                f"Ask for 2 to {MAX_SIDE} on each side, and at most {MAX_POINTS:,} in all.",
            )
        for ends in (self.x_range, self.y_range):
            if ends is not None and not (all(map(math.isfinite, ends)) and ends[0] < ends[1]):
                raise WorkflowError(
                    "Not a range", f"{ends[0]:g} to {ends[1]:g} is no range.", "Give a low end and a higher one."
                )


class Surfaces:
    """Makes maps of surfaces, and keeps the last few: what has not changed since is not worked out again."""

    def __init__(self) -> None:
        self._made: list[tuple[Plane, Ask, Surface]] = []
        self._chosen: tuple[Plane, tuple[Range | None, Range | None], Ranges] | None = None

    def work(self, plane: Plane, ask: Ask) -> Work[Surface]:
        """The surface of `plane`, and where that stands on it."""
        self._made = [made for made in self._made if made[0].of is plane.of and made[0].X_train is plane.X_train]
        same = [(before, surface) for made, before, surface in self._made if made.same_as(plane)]
        now = plane.now
        (now_loss,) = yield from plane.losses([now])
        minimum: Point | None = None
        if ask.linear:
            known = next((surface.minimum for _, surface in same if surface.minimum_is == "closed form"), None)
            minimum = known or (yield from closed_form(plane))
        seen = [point for point in (minimum, None if now_loss > ask.limit else now) if point is not None]
        ends = yield from self._ranges(plane, ask, seen)
        asked = Ask(ask.columns, ask.rows, *ends, linear=ask.linear)
        for before, surface in same:
            if before == asked:
                return _moved(surface, now, now_loss)
        grid, loss = yield from _grid(plane, asked.columns, asked.rows, ends)
        lowest, height, how = yield from _least(plane, grid, loss, minimum)
        surface = Surface(*ends, loss, now, now_loss, lowest, height, how)
        if not all(ranges.fits(each, at, at) for each, at in zip(ends, lowest, strict=True)):
            self._chosen = None  # the next time it may be found farther on
        keep = KEPT if plane.numbers <= KEPT_NUMBERS else 1
        self._made = [*self._made, (plane, asked, surface)][-keep:]
        return surface

    def _ranges(self, plane: Plane, ask: Ask, seen: Sequence[Point]) -> Work[Ranges]:
        """Those that were asked for, else chosen; as they were before where that still shows everything."""
        if ask.x_range is not None and ask.y_range is not None:
            return ask.x_range, ask.y_range
        given = ask.x_range, ask.y_range
        spans = [_span(ask.walked[axis], [point[axis] for point in seen], plane.largest / 4) for axis in (0, 1)]
        if self._chosen is not None and self._chosen[0].is_over(plane) and self._chosen[1] == given:
            before = self._chosen[2]
            if all(ends or ranges.fits(old, *span) for ends, old, span in zip(given, before, spans, strict=True)):
                return before
        chosen = given[0] or ranges.rounded(*spans[0]), given[1] or ranges.rounded(*spans[1])
        if not ask.linear:
            chosen = yield from _reaching(plane, chosen, given)
        self._chosen = plane, given, chosen
        return chosen


def closed_form(plane: Plane) -> Work[Point | None]:
    """Where the mean squared error of a model that is linear in its parameters is least in the plane.

    Least squares over all rows in float64, with the two columns by which y_pred follows the scalars; of many solutions
    the one of least norm. None where it is not finite in the dtype of the model.
    """
    triangle = torch.empty(0, 3, dtype=torch.float64)
    for X, y in zip(torch.split(plane.X_train, SLICE), torch.split(plane.y_train, SLICE), strict=True):
        at_zero, along_x, along_y = plane.predict([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], X)
        rows = torch.cat([along_x - at_zero, along_y - at_zero, y.to("cpu").double() - at_zero], 1)
        triangle = torch.linalg.qr(torch.cat([triangle, rows]), mode="r").R
        yield
    if not bool(torch.isfinite(triangle).all()):
        return None
    columns = triangle[:, :2]
    lengths = torch.linalg.vector_norm(columns, dim=0)
    lengths = torch.where(lengths == 0, 1.0, lengths)
    solution = torch.linalg.lstsq(columns / lengths, triangle[:, 2:], rcond=RANK, driver="gelsd").solution.flatten()
    across, up = (solution / lengths).tolist()
    return (across, up) if max(abs(across), abs(up)) <= plane.largest else None


def _moved(surface: Surface, now: Point, now_loss: float) -> Surface:
    """The same surface with another place on it, which may be lower than what was the lowest known."""
    moved = replace(surface, now=now, now_loss=now_loss)
    inside = _inside(now, (surface.x_range, surface.y_range)) and surface.minimum_is != "closed form"
    if inside and now_loss < surface.minimum_loss:
        return replace(moved, minimum=now, minimum_loss=now_loss, minimum_is="best point found")
    return moved


def _span(walked: Range | None, values: Sequence[float], largest: float) -> Range:
    """What must be seen of an axis: the least and greatest value."""
    finite = [value for value in (*(walked or ()), *values) if math.isfinite(value)]
    kept = [max(-largest, min(largest, value)) for value in finite] or [0.0]
    return min(kept), max(kept)


def _inside(point: Point, ends: Ranges) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(point, ends, strict=True))


def _reaching(plane: Plane, ends: Ranges, given: tuple[Range | None, Range | None]) -> Work[Ranges]:
    """The ranges, but for those given with as much more as it takes to have the minimum within."""
    sizes = [high - low for low, high in ends]
    bounds = [
        own or (max(-plane.largest / 4, low - REACH * size), min(plane.largest / 4, high + REACH * size))
        for own, (low, high), size in zip(given, ends, sizes, strict=True)
    ]
    middle = (ends[0][0] + ends[0][1]) / 2, (ends[1][0] + ends[1][1]) / 2
    starts = [middle, *([plane.now] if _inside(plane.now, ends) else [])]
    lowest, height = yield from _search(plane, starts, (sizes[0] / 2, sizes[1] / 2), (bounds[0], bounds[1]))
    if _inside(lowest, ends) or not math.isfinite(height):
        return ends
    x_range, y_range = (
        own or (seen if seen[0] < at < seen[1] else ranges.rounded(min(at, seen[0]), max(at, seen[1])))
        for own, seen, at in zip(given, ends, lowest, strict=True)
    )
    return x_range, y_range


def _grid(plane: Plane, columns: int, rows: int, ends: Ranges) -> Work[tuple[list[Point], Rows]]:
    """The points of the map, row by row, and their losses; fewer than asked for where that would take too long."""
    if columns * rows * plane.seconds_each > LONGEST:
        yield from plane.losses([plane.now])  # the first takes longer than the others will
    affordable = max(FEWEST, LONGEST / plane.seconds_each)
    if columns * rows > affordable:
        share = math.sqrt(affordable / (columns * rows))
        columns, rows = max(2, int(columns * share)), max(2, int(rows * share))
    across, up = ranges.points(ends[0], columns), ranges.points(ends[1], rows)
    grid = [(x, y) for y in up for x in across]
    loss = yield from plane.losses(grid)
    return grid, tuple(tuple(loss[at : at + columns]) for at in range(0, len(loss), columns))


def _least(
    plane: Plane, grid: Sequence[Point], loss: Rows, closed: Point | None
) -> Work[tuple[Point, float, MinimumIs]]:
    """Where the loss is least (of many such points the one nearest to now), how large it is, and how that is known."""
    if closed is not None:
        (loss_there,) = yield from plane.losses([closed])
        return closed, loss_there, "closed form"
    (left, low), (right, high) = grid[0], grid[-1]
    step = (right - left) / (len(loss[0]) - 1), (high - low) / (len(loss) - 1)
    now = plane.now

    def away(point: Point) -> float:
        return math.hypot((point[0] - now[0]) / step[0], (point[1] - now[1]) / step[1])

    heights = zip((value for row in loss for value in row), grid, strict=True)
    finite = [(value, away(point), point) for value, point in heights if math.isfinite(value)]
    if not finite:
        return (math.nan, math.nan), math.nan, "best point of the grid"
    least, _, best = min(finite)
    if len(grid) >= ROUNDS * len(STAR):
        starts = [best, *([now] if _inside(now, ((left, right), (low, high))) else [])]
        found, less = yield from _search(plane, starts, step, ((left, right), (low, high)))
        if less < least:
            return found, less, "best point found"
    return best, least, "best point of the grid"


def _search(plane: Plane, starts: Sequence[Point], step: Point, bounds: Ranges) -> Work[tuple[Point, float]]:
    """The best of `starts`, or what is better around it and lies within the bounds.

    It goes on by steps while that helps, longer ones where the best was farthest out, and by ever shorter ones then.
    """
    best, least = starts[0], math.inf
    around: Sequence[Point] = starts
    for _ in range(ROUNDS + 1):
        before = best if least < math.inf else None
        for value, point in zip((yield from plane.losses(around)), around, strict=True):
            if value < least:
                best, least = point, value
        if before is not None:
            step = _next_step(step[0], best[0] - before[0]), _next_step(step[1], best[1] - before[1])
        (left, right), (low, high) = bounds
        around = [
            (min(max(best[0] + across * step[0], left), right), min(max(best[1] + up * step[1], low), high))
            for across, up in STAR
        ]
    return best, least


def _next_step(step: float, gone: float) -> float:
    return step / 2 if not gone else 2 * step if abs(gone) > 0.75 * step else step


def finite(values: Sequence[float]) -> list[float]:
    """Those of the values that are numbers."""
    return [value for value in values if math.isfinite(value)]


class Walked:
    """How far every tracked value has been from epoch to epoch, `FAR` times the first loss and more left out."""

    def __init__(self, initial: Mapping[str, float]) -> None:
        self.limit = math.inf
        self.strayed = False
        self._low, self._high, self._last = dict(initial), dict(initial), dict(initial)
        self._begun = False

    def note(self, series: Mapping[str, Sequence[float]]) -> None:
        """Take over the next epochs; the loss of each is that of the values from before it."""
        losses = series["train_loss"]
        if not self._begun and losses:
            self._begun, self.limit = True, FAR * losses[0]
        near = max(losses, default=0.0) <= self.limit
        self.strayed |= not near
        for name, last in self._last.items():
            column = series[name]
            values = [last, *column[:-1]]
            if not near:
                values = [value for value, loss in zip(values, losses, strict=True) if loss <= self.limit]
            self._low[name] = min([self._low[name], *values])
            self._high[name] = max([self._high[name], *values])
        self._last = {name: series[name][-1] for name in self._last}

    def go_on(self, history: HistoryData, initial: Mapping[str, float]) -> None:
        """Take over the walk of another run, which began at `initial`, over the epochs of `history`."""
        losses = history.series["train_loss"]
        if not losses.first:
            return
        self._begun, self.limit = True, FAR * losses.first[0]
        for name in self._last:
            series = history.series[name]
            self._low[name] = min([initial[name], self._low[name], *finite(series.low)])
            self._high[name] = max([initial[name], self._high[name], *finite(series.high)])

    def span(self, name: str) -> Range | None:
        """The least and greatest value so far; None for what is not tracked."""
        return (self._low[name], self._high[name]) if name in self._low else None
