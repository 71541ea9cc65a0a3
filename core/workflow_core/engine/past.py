"""Looking back at an epoch of a run, and going on from there as a new run; in slices, for the run goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workflow_core.engine import travel
from workflow_core.errors import WorkflowError
from workflow_core.history import HistoryData
from workflow_core.protocol import Answer, PastAnswer
from workflow_core.steps.train import Trainer

if TYPE_CHECKING:
    from workflow_core.engine.runner import Runner


class LookingBack:
    """The run after an epoch: from its record, or of a model that is not all on record by training it again.

    `model` holds the weights of then once it is done; -1 is before the first epoch.
    """

    def __init__(self, runner: Runner, epoch: int) -> None:
        """Raises WorkflowError for an epoch that is not done, or a model that cannot be copied."""
        if not -1 <= epoch < runner.view.epoch:
            raise WorkflowError(
                "No such epoch",
                f"epoch {epoch:,} of run {runner.view.run} cannot be looked at.",
                f"Epochs 0 to {runner.view.epoch - 1:,} are done." if runner.view.epoch else "None is done yet.",
            )
        self._run, self._epoch, self._recorded = runner.view.run, epoch, runner.recorded(epoch)
        self._model_spec, self._dataset = runner.model_spec, runner.dataset
        self._replay: travel.Replay | None = None
        values = runner.view.initial if epoch < 0 else self._recorded
        if values and travel.is_recorded(runner.trainer.model) and runner.kept.steady(runner.trainer.model):
            self.model = travel.with_values(runner.trainer.model, values)
            return
        self._replay = travel.Replay(
            runner.trainer, runner.dataset, runner.kept, epoch + 1, runner.view.lr_changes, to_the_end=False
        )
        self.model = self._replay.trainer.model

    def advance(self, until: float) -> bool:
        """A slice of it."""
        return self._replay is None or self._replay.advance(until)

    def answer(self) -> Answer:
        """The run as it was."""
        replay = self._replay
        past = travel.view_of(
            self._run,
            self._epoch,
            self.model,
            self._model_spec,
            self._dataset,
            self._recorded,
            replay.last if replay is not None else None,
            held=replay is None or replay.trainer.first_bad is None,
        )
        return PastAnswer(past=past)


class Branching:
    """The training again up to an epoch, and the record of it: what a new run begins with."""

    def __init__(
        self, runner: Runner, epoch: int, begin: Callable[[Runner, Trainer, HistoryData, dict[str, float]], None]
    ) -> None:
        """`begin` makes the new run of the old one, its trainer, its history and the figures of its last epoch.

        Raises WorkflowError where nothing can go on from `epoch`.
        """
        view = runner.view
        if not 0 <= epoch < view.epoch:
            raise WorkflowError("No such epoch", f"epoch {epoch:,} of run {view.run} is not done.")
        if view.first_bad is not None and epoch >= view.first_bad:
            raise WorkflowError(
                "Nothing to go on from",
                f"from epoch {view.first_bad:,} on figures of run {view.run} are NaN or infinite.",
                "Look at an earlier epoch, and go on from there.",
            )
        if not runner.recorded(epoch):
            raise _unreadable(runner)
        self._runner, self._epochs, self._begin = runner, epoch + 1, begin
        self._replay = travel.Replay(
            runner.trainer, runner.dataset, runner.kept, epoch + 1, view.lr_changes, to_the_end=True
        )

    def advance(self, until: float) -> bool:
        """A slice of the training."""
        return self._replay.advance(until)

    def answer(self) -> Answer:
        """The new run stands, and waits."""
        trainer = self._replay.trainer
        if trainer.ended:
            raise WorkflowError(
                "This run ended there",
                f"run {self._runner.view.run} ended with this epoch: {self._runner.view.reason}.",
                "Look at an earlier epoch, and go on from there.",
            )
        history, figures = self._runner.history(self._epochs), self._runner.recorded(self._epochs - 1)
        if history is None or not figures:
            raise _unreadable(self._runner)
        self._begin(self._runner, trainer, history, figures)
        return None


def _unreadable(runner: Runner) -> WorkflowError:
    return WorkflowError(
        "The record cannot be read",
        f"what run {runner.view.run} has recorded is not to be had, and a new run begins with it.",
        "See to the store that a message told of.",
    )
