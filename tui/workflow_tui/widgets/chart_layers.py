"""What a chart shows, as plain immutable values: layers in data coordinates, compared to know whether to draw again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflow_tui.theme import Role

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Lines:
    """A line through (x, y) points, y a function of x. A NaN or infinite y leaves a gap. Role target is dotted."""

    role: Role
    label: str
    points: Points

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))


@dataclass(frozen=True, slots=True)
class Scatter:
    """Single (x, y) points, each drawn as the role's marker."""

    role: Role
    label: str
    points: Points

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))


@dataclass(frozen=True, slots=True)
class Horizontal:
    """A dotted line across the whole chart at `y`, named by its value on the y axis: a target."""

    role: Role
    label: str
    y: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A dotted vertical line at `x` with a short text at its top, for instance the first bad epoch."""

    x: float
    role: Role
    text: str = ""


Layer = Lines | Scatter | Horizontal | Mark
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """Everything a chart shows. `x_range` is pinned by the caller; `y_range` None lets the chart choose."""

    layers: tuple[Layer, ...] = ()
    x_range: Range = (0.0, 1.0)
    y_range: Range | None = None
    x_label: str = ""
    log_y: bool = False
