"""What a run has gone through so far, for those who ask why it goes as it does: its figures, and how far it walked."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from torch import nn

from workflow_core.history import HistoryData
from workflow_core.protocol import TrainingView
from workflow_core.specs import ModelSpec
from workflow_core.steps import diagnosis, linear
from workflow_core.steps.data import Dataset
from workflow_core.steps.diagnosis import Divergence, Figures, Known
from workflow_core.steps.surface import Walked
from workflow_core.steps.train import Trainer


class Watch:
    """Follows the epochs of one run; what it costs does not grow with their number."""

    def __init__(self, trainer: Trainer, dataset: Dataset, model_spec: ModelSpec) -> None:
        parameters = list(trainer.model.parameters())
        own = {id(parameter) for parameter in parameters}
        groups = trainer.optimizer.param_groups
        self.walked = Walked(trainer.tracked.read() if trainer.tracked.complete else {})
        self._figures = Figures()
        self._known = Known(
            spec=trainer.spec,
            rows=trainer.batches.rows,
            numbers=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            dtype=dataset.spec.dtype,
            held=any(id(parameter) in own for group in groups for parameter in group["params"]),
            relu=any(isinstance(module, nn.ReLU) for module in trainer.model.modules()),
            standardized=dataset.scaling is not None,
            reference=functools.cache(lambda: linear.reference(model_spec, dataset, trainer.spec)),
        )

    def note(self, series: Mapping[str, Sequence[float]], view: TrainingView) -> tuple[str, ...]:
        """Take over the next epochs, after which the run stands as in `view`; what looks wrong by then."""
        self.walked.note(series)
        self._figures.note(series)
        return diagnosis.findings(self._figures, self._known, view)

    def go_on(
        self, history: HistoryData, initial: Mapping[str, float], best: tuple[int, float] | None, at_best: float
    ) -> None:
        """The run goes on from another one, of which these were the epochs.

        `initial` are the values that one began with, `at_best` is the training loss of its `best` epoch so far.
        """
        self.walked.go_on(history, initial)
        self._figures.go_on(history, best, at_best)

    @property
    def figures(self) -> Figures:
        """What is kept of the figures of the epochs so far, for an engine to come."""
        return replace(self._figures)

    def come_back(self, figures: Figures) -> None:
        """The run goes on from where an earlier engine has left it, which had kept this."""
        self._figures = replace(figures)

    def divergence(self, view: TrainingView) -> Divergence:
        """Why the run diverged that stands as in `view`."""
        by_hand = bool(view.lr_changes)
        return diagnosis.divergence(self._figures, self._known, view.learning_rate, by_hand=by_hand)
