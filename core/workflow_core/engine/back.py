"""What an earlier engine has kept, brought back with its data, its models and its records: a run, or a race."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from msgspec.structs import replace

from workflow_core.engine.checkpoint import KeptRace, KeptRun, TrainedOn, digest
from workflow_core.engine.library import Library
from workflow_core.engine.material import Material
from workflow_core.engine.race import Race
from workflow_core.engine.runner import Runner
from workflow_core.errors import WorkflowError
from workflow_core.history import NOTHING, HistoryData
from workflow_core.protocol import Epochs, Update
from workflow_core.specs import TrainSpec
from workflow_core.steps.data import Dataset
from workflow_core.steps.diagnosis import Figures
from workflow_core.steps.train import Trainer, pick_device
from workflow_core.views import TrainingView

Publish = Callable[[Epochs | Update], None]


class Back(NamedTuple):
    """A run that is there again, what it is trained on, and what a UI must know of it."""

    material: Material
    runner: Runner
    update: Update


class RaceBack(NamedTuple):
    """A race that is there again, what it is trained on, and what a UI must know of that."""

    material: Material
    race: Race
    update: Update


def bring_back(kept: KeptRun, state: dict[str, Any], library: Library, publish: Publish) -> Back:
    """The run, on the same rows as then. Raises WorkflowError where that cannot be."""
    view, what = kept.view, f"run {kept.view.run}"
    material, update = _made_again(kept.on, view.spec, what)
    dataset = material.dataset
    assert dataset is not None
    runner, history = _resumed(material, dataset, view, state, kept.figures, library, publish, what)
    runner.trained_with(kept.on.files)
    material.take(dataset, runner.trainer.model)
    return Back(material, runner, replace(update, training=runner.view, history=history))


def bring_race_back(
    kept: KeptRace,
    states: tuple[dict[str, Any], ...],
    library: Library,
    publish: Publish,
    publish_race: Callable[[Update], None],
    material: Material | None = None,
) -> RaceBack:
    """The race, on the same rows as then: those of `material` where they are these, which it shares then.

    Raises WorkflowError where that cannot be.
    """
    what, update = f"race {kept.view.race}", Update()
    dataset = material.dataset if material is not None else None
    if material is None or dataset is None or digest(dataset) != kept.on.rows or not _same(material, kept.on):
        material, update = _made_again(kept.on, kept.view.lanes[0].spec, what)
        dataset = material.dataset
    assert dataset is not None
    # of the data a device has one copy
    placed: dict[torch.device, Dataset] = {}
    lanes = []
    for view, state, figures in zip(kept.lanes, states, kept.figures or [None] * len(states), strict=True):
        device = pick_device(view.spec.device, dataset.spec.dtype)
        if device not in placed:
            placed[device] = dataset.to(device)
        lanes.append(_resumed(material, placed[device], view, state, figures, library, publish, what, kept.view.race))
    for lane, _ in lanes:
        lane.trained_with(kept.on.files)
    return RaceBack(material, Race.restored(kept.view, lanes, publish_race), update)


def _same(material: Material, on: TrainedOn) -> bool:
    return (material.data_spec, material.model_spec) == (on.data, on.model)


def _made_again(on: TrainedOn, spec: TrainSpec, what: str) -> tuple[Material, Update]:
    material = Material()
    update = material.make_data(on.data, spec)
    assert material.dataset is not None
    if digest(material.dataset) != on.rows:
        raise _not_back(what, f"the data of {what} are not what they were: their file has changed since")
    made = material.build_model(on.model, spec)
    return material, Update(data_spec=update.data_spec, data=update.data, model_spec=made.model_spec, model=made.model)


def _resumed(
    material: Material,
    placed: Dataset,
    view: TrainingView,
    state: dict[str, Any],
    figures: Figures | None,
    library: Library,
    publish: Publish,
    what: str,
    race: int = 0,
) -> tuple[Runner, HistoryData]:
    """A run that stands as it stood, and its epochs; its trainer gets the data as they are `placed`."""
    dataset = material.dataset
    assert dataset is not None
    record = library.record(view.run, material.data_spec, material.model_spec, race)
    history = NOTHING
    if view.epoch:
        record.come_back(library.find(view.run))
        recorded = library.history(view.run, view.epoch)
        if recorded is None or recorded.epochs < view.epoch:
            raise _not_back(what, f"the record of run {view.run} lacks some of its {view.epoch:,} epochs")
        history = recorded
    first = Trainer(material.fresh_model(view.spec).model, placed, view.spec).state()
    trainer = Trainer.resumed(material.fresh_model(view.spec).model, placed, view.spec, state)
    runner = Runner.restored(trainer, dataset, material.model_spec, view, history, record, first, figures, publish)
    return runner, history


def _not_back(what: str, why: str) -> WorkflowError:
    return WorkflowError(
        f"The last {what.split()[0]} cannot be brought back",
        f"{why}.",
        "Its record is in the table of runs; restore its settings there, and train it again.",
    )
