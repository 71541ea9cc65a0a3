"""A run that an earlier engine has kept, brought back with its data, its model and its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from workflow_core.engine.checkpoint import Checkpoint, digest
from workflow_core.engine.library import Library
from workflow_core.engine.material import Material
from workflow_core.engine.runner import Runner
from workflow_core.errors import WorkflowError
from workflow_core.history import HistoryData
from workflow_core.protocol import Epochs, Update
from workflow_core.steps.train import Trainer


class Back(NamedTuple):
    """What is there again, and what a UI must know of it."""

    material: Material
    runner: Runner
    update: Update


def bring_back(found: Checkpoint, library: Library, publish: Callable[[Epochs | Update], None]) -> Back:
    """The run of `found`, on the same rows as then. Raises WorkflowError where that cannot be."""
    kept, view = found.kept, found.kept.view
    material = Material()
    update = material.make_data(kept.data, view.spec)
    dataset = material.dataset
    assert dataset is not None
    if digest(dataset) != kept.rows:
        raise _not_back(f"the data of run {view.run} are not what they were: their file has changed since")
    made = material.build_model(kept.model, view.spec)
    record = library.record(view.run, kept.data, kept.model)
    history = HistoryData(epochs=0, width=1, series={})
    if view.epoch:
        record.come_back(library.find(view.run))
        recorded = library.history(view.run, view.epoch)
        if recorded is None or recorded.epochs < view.epoch:
            raise _not_back(f"the record of run {view.run} lacks some of its {view.epoch:,} epochs")
        history = recorded
    first = Trainer(material.fresh_model(view.spec).model, dataset, view.spec).state()
    trainer = Trainer.resumed(material.fresh_model(view.spec).model, dataset, view.spec, found.state)
    runner = Runner.restored(trainer, dataset, kept.model, view, history, record, first, publish)
    material.take(dataset, trainer.model)
    update = Update(
        data_spec=update.data_spec,
        data=update.data,
        model_spec=made.model_spec,
        model=made.model,
        train_spec=kept.settings,
        training=runner.view,
        history=history,
    )
    return Back(material, runner, update)


def _not_back(why: str) -> WorkflowError:
    return WorkflowError(
        "The last run cannot be brought back",
        f"{why}.",
        "Its record is in the table of runs; restore its settings there, and train it again.",
    )
