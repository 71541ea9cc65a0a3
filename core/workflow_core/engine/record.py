"""What is kept of a run while it trains: every epoch of it, and how it stands."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from workflow_core.errors import WorkflowError
from workflow_core.history import HistoryData
from workflow_core.protocol import RunView, TrainingView
from workflow_core.specs import DataSpec, ModelSpec, WorkflowSpec
from workflow_core.store import Store

if TYPE_CHECKING:
    from workflow_core.engine.library import Library

SHOWN = 64
"""Tracked values of a run that the list of runs shows; its epochs have all of them."""


class Record:
    """What is kept of one run; it has its row once it has an epoch. For the thread that trains."""

    def __init__(
        self, library: Library, store: Store | None, number: int, data: DataSpec, model: ModelSpec, race: int
    ) -> None:
        self.number = number
        self._library = library
        self._store = store
        self._spec = WorkflowSpec(data=data, model=model)
        self._race = race
        self._view: RunView | None = None

    def keep(self, start: int, series: Mapping[str, Sequence[float]], training: TrainingView) -> None:
        """The epochs from `start` on, after which the run stands so."""
        begun = self._view is None
        view = self._stands(training, training.state)
        if self._store is not None:
            if begun:
                self._store.begin(view, tuple(series))
            self._store.append(view, start, series)
        self._library.put(view)

    def come_back(self, view: RunView) -> None:
        """An earlier engine has kept the run so far: `view` is what it left. Epochs beyond those of the next `keep`
        are taken back by it."""
        self._view, self._race = view, view.race

    def go_on(self, names: Sequence[str], training: TrainingView) -> None:
        """The run has the first epochs of its parent, and none of its own yet; `names` are its series."""
        view = self._stands(training, training.state)
        if self._store is not None:
            self._store.begin(view, tuple(names))
            self._store.copy(view.parent, view.parent_epoch, view.run)
        self._library.put(view)

    def figures(self, start: int, stop: int) -> Mapping[str, Sequence[float]]:
        """Every figure of these epochs (`stop` exclusive) by series; empty where they cannot be had."""
        if self._view is None:
            return {}
        with contextlib.suppress(WorkflowError):
            return self._library.figures(self.number, start, stop) or {}
        return {}

    def history(self, epochs: int) -> HistoryData | None:
        """The first `epochs` of the run; None where they cannot be had."""
        with contextlib.suppress(WorkflowError):
            return self._library.history(self.number, epochs) if self._view is not None else None
        return None

    def note(self, training: TrainingView, state: str = "") -> None:
        """How the run stands without another epoch; `state` where that is none of a TrainingView's."""
        if self._view is None:
            return
        view = self._stands(training, state or training.state)
        if self._store is not None:
            self._store.note(view)
        self._library.put(view)

    def leave(self, training: TrainingView) -> None:
        """Another run takes its place: where it could have gone on, it is `stopped`."""
        if training.state in ("running", "paused"):
            self.note(training, "stopped")

    def discard(self) -> None:
        """Forget all of it."""
        if self._view is not None:
            self._view = None
            self._library.forget([self.number])

    def _stands(self, training: TrainingView, state: str) -> RunView:
        if self._spec.train is not training.spec:
            self._spec = replace(self._spec, train=training.spec)
        self._view = RunView(
            run=self.number,
            name="",
            begun=self._view.begun if self._view is not None else time.time(),
            elapsed=training.elapsed,
            spec=self._spec,
            state=state,
            reason=training.reason,
            epochs=training.epoch,
            train_loss=training.train_loss,
            val_loss=training.val_loss,
            best_epoch=training.best_epoch,
            best_loss=training.best_loss,
            loss_scale=training.loss_scale,
            parameters=dict(itertools.islice(training.parameters.items(), SHOWN)),
            lr_changes=tuple(change for change in training.lr_changes if change[0] < training.epoch),
            parent=training.parent,
            parent_epoch=training.parent_epoch,
            race=self._race,
        )
        return self._view
