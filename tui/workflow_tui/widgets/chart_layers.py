"""What a chart shows, as plain immutable values: layers in data coordinates, compared to know whether to draw again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflow_tui.theme import Role, SpotKind

Points = Sequence[tuple[float, float]]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pointed:
    """What consists of (x, y) points, and has a name in the legend."""

    role: Role
    label: str
    points: Points

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))


@dataclass(frozen=True, slots=True)
class Lines(Pointed):
    """A line through (x, y) points, y a function of x. A NaN or infinite y leaves a gap.

    Role target is dotted; role earlier is thin and below everything else. A `tag` of a few characters is written where
    the line ends.
    """

    tag: str = ""


@dataclass(frozen=True, slots=True)
class Scatter(Pointed):
    """Single (x, y) points, each drawn as the role's marker."""


@dataclass(frozen=True, slots=True)
class Path(Pointed):
    """A walk through (x, y) points in their order, wherever it leads. A point that is NaN or infinite interrupts it."""


@dataclass(frozen=True, slots=True)
class Spot:
    """One place pointed out by a sign of its own, above everything else."""

    kind: SpotKind
    role: Role
    label: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Horizontal:
    """A dotted line across the whole chart at `y`, named by its value on the y axis: a target."""

    role: Role
    label: str
    y: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A dotted vertical line at `x` with a short text near its top, for instance the first bad epoch.

    Texts of several marks keep clear of each other, those of role bad first; one that finds no room is left out.
    """

    x: float
    role: Role
    text: str = ""


@dataclass(frozen=True, slots=True)
class Heat:
    """A shaded map behind everything else: `grid[row][column]`, the first row at the low end of `y_range`.

    The values belong to evenly spaced points from one end of a range to the other, both included. A value's level is
    the mean of its rank and of its place between least and greatest, on a logarithmic scale or a plain one: bands as
    even as contour lines, and still some near a minimum. What is not finite is marked. Unless the chart pins its y axis
    otherwise, it is `y_range`.
    """

    grid: Sequence[Sequence[float]]
    x_range: Range
    y_range: Range
    log: bool = True
    label: str = ""
    role: Role = "muted"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(tuple(row) for row in self.grid))


Layer = Lines | Scatter | Path | Spot | Horizontal | Mark | Heat


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """Everything a chart shows. `x_range` is pinned by the caller; `y_range` None lets the chart choose.

    With `whole_x` the x axis counts: its ticks are whole numbers. `plain_axis` is what to do where a logarithmic axis
    cannot show anything, such as "y shows a plain axis".
    """

    layers: tuple[Layer, ...] = ()
    x_range: Range = (0.0, 1.0)
    y_range: Range | None = None
    x_label: str = ""
    log_y: bool = False
    whole_x: bool = False
    plain_axis: str = ""
