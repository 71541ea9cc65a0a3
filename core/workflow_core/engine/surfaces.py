"""The loss surface for a screen: which model it is of, and the way from a question to the work that answers it."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor, nn

from workflow_core.engine.slow import Slow
from workflow_core.engine.travel import Kept
from workflow_core.protocol import Answer, ReadSurface, SurfaceAnswer
from workflow_core.specs import TrainSpec
from workflow_core.steps.plane import Plane, Work
from workflow_core.steps.scalars import Scalar, find
from workflow_core.steps.surface import Ask, Surface, Surfaces, Walked


class Mapping:
    """The work of one map, in pieces."""

    def __init__(self, work: Work[Surface], answer: Callable[[Surface], SurfaceAnswer]) -> None:
        self._work, self._answer = work, answer
        self._surface: Surface | None = None

    def advance(self, until: float) -> bool:
        """Pieces of it, at least one."""
        try:
            next(self._work)
            while time.monotonic() < until:
                next(self._work)
        except StopIteration as done:
            self._surface = done.value
            return True
        return False

    def answer(self) -> Answer:
        """The map."""
        assert self._surface is not None
        return self._answer(self._surface)


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
) -> Mapping:
    """The work that answers `command` for `model`, its training rows on the same device.

    `linear` says that the model is linear in its parameters. Raises WorkflowError for what is no number of the model.
    """
    x, y = find(model, command.x), find(model, command.y)
    plane = Plane(model, rows, spec, x, y)
    ask = Ask(
        command.columns,
        command.rows,
        command.x_range,
        command.y_range,
        walked=(walked.span(command.x), walked.span(command.y)) if walked is not None else (None, None),
        limit=walked.limit if walked is not None else float("inf"),
        linear=linear and spec.loss == "mse",
    )
    tracked = walked is not None and walked.span(command.x) is not None and walked.span(command.y) is not None
    path = () if tracked or kept is None else _path(kept, x, y)

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

    return Mapping(surfaces.work(plane, ask), answer)


def _path(kept: Kept, x: Scalar, y: Scalar) -> tuple[tuple[int, float, float], ...]:
    """Where two numbers of the model were in the states that are kept."""
    return tuple((epoch, x.read(state["model"]), y.read(state["model"])) for epoch, state in kept)
