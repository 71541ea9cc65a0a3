"""The loss surface as a UI asks for it: of the run that is there, or of the model that nobody has trained."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from workflow_core.engine.errands import Errand
from workflow_core.engine.runner import Runner
from workflow_core.engine.subject import Subject
from workflow_core.errors import WorkflowError
from workflow_core.protocol import ReadSurface, SurfaceAnswer
from workflow_core.specs import ModelSpec, TrainSpec
from workflow_core.steps import linear
from workflow_core.steps.plane import Plane
from workflow_core.steps.scalars import find
from workflow_core.steps.surface import Ask, Surfaces, Walked


class SurfaceReader:
    """Sets out to answer `ReadSurface`; what was mapped lately is kept for the next time."""

    def __init__(self) -> None:
        self._surfaces = Surfaces()

    def of_run(self, command: ReadSurface, runner: Runner) -> Errand:
        """The surface that the run walks on, from where it is now or was after the epoch that is asked for."""
        values = runner.tracked_at(command.epoch) if command.epoch is not None else {}
        trainer, view = runner.trainer, runner.view
        rows = trainer.batches.X, trainer.batches.y
        walked = runner.watch.walked
        return self._set_out(command, view.run, trainer.model, runner.model_spec, rows, view.spec, walked, values)

    def of_model(self, command: ReadSurface, subject: Subject) -> Errand:
        """That of a model before any training."""
        if command.epoch is not None:
            raise WorkflowError("No run", "there is no run that could be looked back on.", "Run a training first.")
        rows = subject.dataset.inputs("train")
        return self._set_out(command, 0, subject.model, subject.model_spec, rows, subject.train_spec, Walked({}), {})

    def _set_out(
        self,
        command: ReadSurface,
        run: int,
        model: nn.Module,
        model_spec: ModelSpec,
        rows: tuple[Tensor, Tensor],
        spec: TrainSpec,
        walked: Walked,
        values: Mapping[str, float],
    ) -> Errand:
        x, y = find(model, command.x), find(model, command.y)
        if x == y:
            raise WorkflowError("One parameter", f"{command.x} and {command.y} are the same.", "Choose two.")
        ask = Ask(
            columns=command.columns,
            rows=command.rows,
            x_range=command.x_range,
            y_range=command.y_range,
            walked=(walked.span(command.x), walked.span(command.y)),
            limit=walked.limit,
            linear=linear.degree_of(model_spec) > 0 and spec.loss == "mse",
        )
        plane = Plane(model, rows, spec, x, y, {find(model, name): value for name, value in values.items()})
        return self._answer(command, run, plane, ask)

    def _answer(self, command: ReadSurface, run: int, plane: Plane, ask: Ask) -> Errand:
        surface = yield from self._surfaces.work(plane, ask)
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
        )
