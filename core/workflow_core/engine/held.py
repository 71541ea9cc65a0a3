"""Which epoch the weights are of that a model holds, and its figures: after an early stop that is not the last one."""

from __future__ import annotations

from collections.abc import Callable

from workflow_core.steps.train import EARLY_STOP, Trainer


class Held:
    """`epoch` epochs are behind the weights that the model of a trainer holds; `figures` are those of the last of them.

    Figures are empty where they are not known: before the first epoch, and after a divergence that put back weights
    from before what was fetched last.
    """

    def __init__(self, epoch: int, figures: dict[str, float] | None = None) -> None:
        self.epoch = epoch
        self.figures = figures or {}
        self._best: dict[str, float] = {}
        self._last = self.figures

    def come_back(self, trainer: Trainer, recorded: Callable[[int], dict[str, float]]) -> None:
        """Those of a training that goes on: `recorded` gives the figures of an epoch, empty where it has none."""
        self.epoch = trainer.held_epochs
        self.figures = recorded(self.epoch - 1)
        self._last = recorded(trainer.done - 1)
        self._best = recorded(trainer.best[0] + trainer.validates - 1) if trainer.best is not None else {}

    def note(self, trainer: Trainer, start: int, series: dict[str, list[float]]) -> None:
        """Take the figures of the epochs from `start` on that `trainer` has done since the last time."""
        last = start + len(series["train_loss"])

        def figures(epoch: int) -> dict[str, float]:
            if epoch < start:
                return self._last if epoch == start - 1 else {}
            return {name: column[epoch - start] for name, column in series.items()}

        if trainer.best is not None and (found := figures(trainer.best[0] + trainer.validates - 1)):
            self._best = found
        self.epoch = trainer.held_epochs
        self.figures = self._best if trainer.ended == EARLY_STOP else figures(self.epoch - 1)
        self._last = figures(last - 1)
