"""The loss surface for a screen: which model it is of, and the way from a question to the work that answers it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from workflow_core.engine.slow import InPieces, Slow
from workflow_core.engine.travel import Kept
from workflow_core.errors import WorkflowError
from workflow_core.protocol import Answer, ReadSurface, SurfaceAnswer
from workflow_core.sanitize import sanitize
from workflow_core.specs import TrainSpec
from workflow_core.steps.plane import Plane
from workflow_core.steps.scalars import Scalar, find
from workflow_core.steps.surface import Ask, Surface, Surfaces, Walked


class AfterThat:
    """Work that can begin once other work is done."""

    def __init__(self, first: Slow, then: Callable[[], Slow]) -> None:
        self._first, self._then = first, then
        self._second: Slow | None = None

    def advance(self, until: float) -> bool:
        """A slice of what is to be done next."""
        if self._second is None:
            if not self._first.advance(until):
                return False
            self._second = self._then()
        return self._second.advance(until)

    def answer(self) -> Answer:
        """That of the second."""
        assert self._second is not None
        return self._second.answer()


def map_surface(
    surfaces: Surfaces,
    command: ReadSurface,
    model: nn.Module,
    rows: tuple[Tensor, Tensor],
    spec: TrainSpec,
    *,
    run: int = 0,
    linear: bool = False,
    walked: Walked | None = None,
    kept: Kept | None = None,
    of: nn.Module | None = None,
) -> Slow:
    """The work that answers `command` for `model`, its training rows on the same device.

    `of` is the model that it is an earlier state of, where it is one. `linear` says that it is linear in its
    parameters. Raises WorkflowError for what is no number of the model.
    """
    x, y = find(model, command.x), find(model, command.y)
    if x == y:
        raise WorkflowError("One parameter", f"both axes are the same: {sanitize(command.x, 60)}.", "Choose two.")
    plane = Plane(model, rows, spec, x, y, of)
    spans = tuple(walked.span(name) if walked is not None else None for name in (command.x, command.y))
    path = () if kept is None or None not in spans else _path(kept, x, y)
    if path and walked is not None and not walked.strayed:
        spans = tuple((min(values), max(values)) for values in list(zip(*path, strict=True))[1:])
    ask = Ask(
        command.columns,
        command.rows,
        command.x_range,
        command.y_range,
        walked=(spans[0], spans[1]),
        limit=walked.limit if walked is not None else float("inf"),
        linear=linear and spec.loss == "mse",
    )

    def answer(surface: Surface) -> SurfaceAnswer:
        return SurfaceAnswer(
            run=run,
            x=command.x,
            y=command.y,
            x_range=surface.x_range,
            y_range=surface.y_range,
            loss=surface.loss,
            now=surface.now,
            now_loss=surface.now_loss,
            minimum=surface.minimum,
            minimum_loss=surface.minimum_loss,
            minimum_is=surface.minimum_is,
            path=path,
        )

    return InPieces(surfaces.work(plane, ask), answer)


def _path(kept: Kept, x: Scalar, y: Scalar) -> tuple[tuple[int, float, float], ...]:
    """Where two numbers of the model were in the states that are kept."""
    return tuple((epoch, x.read(state["model"]), y.read(state["model"])) for epoch, state in kept)
