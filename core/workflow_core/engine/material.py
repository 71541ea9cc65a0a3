"""What is trained on and what is trained: data and fresh model of steps 1 and 2, and the files they come from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from torch import nn

from workflow_core import devices
from workflow_core.engine.files import Stamp, stamp
from workflow_core.errors import WorkflowError
from workflow_core.protocol import ModelView, Update
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, data

Made = tuple[DataSpec, Stamp, ModelSpec, Stamp]
"""What a run is trained on: settings, and the state of the files that they name."""


class Fresh(NamedTuple):
    """A model that nobody has trained, the state of its file, and its view where that file has changed since."""

    model: nn.Module
    stamp: Stamp
    view: ModelView | None


class Material:
    """Data and model as they are now. What raises WorkflowError has changed nothing.

    A file that a setting names is read where that is asked for anew and it has changed, never by the way.
    """

    def __init__(self) -> None:
        self.data_spec = DataSpec()
        self.model_spec = ModelSpec()
        self.dataset: data.Dataset | None = None
        self.model: nn.Module | None = None
        self._view: ModelView | None = None
        self._data_stamp: Stamp = None
        self._model_stamp: Stamp = None

    @property
    def made(self) -> Made:
        """Two runs of which this is equal are trained on the same."""
        return self.data_spec, self._data_stamp, self.model_spec, self._model_stamp

    def lacks_data(self, spec: DataSpec, anew: bool) -> bool:
        """Are there no data of `spec` yet; with `anew` also, has their file changed since?"""
        return self.dataset is None or spec != self.data_spec or (anew and _file(spec) != self._data_stamp)

    def make_data(self, spec: DataSpec, train_spec: TrainSpec) -> Update:
        """Make the data, and the model anew for them; where it cannot take them there is none until it is built."""
        read = _file(spec)
        dataset = data.make(spec)
        # the same number as without a UI: on larger data it changes the last bits of every sum
        devices.set_threads(len(dataset.X))
        update = Update(data_spec=spec, data=data.view(dataset))
        if self.model is not None:
            update = replace(update, model=self._rebuild(dataset, train_spec))
        self.data_spec, self.dataset, self._data_stamp = spec, dataset, read
        return update

    def _rebuild(self, dataset: data.Dataset, train_spec: TrainSpec) -> ModelView | None:
        read = _file(self.model_spec)
        try:
            model = _built(self.model_spec, dataset)
            view = build.view(model, self.model_spec, dataset, train_spec)
        except WorkflowError:
            self.model = self._view = None
            return None
        self.model, self._view, self._model_stamp = model, view, read
        return view

    def lacks_model(self, spec: ModelSpec, anew: bool) -> bool:
        """Is there no model of `spec` yet; with `anew` also, has its file changed since?"""
        return self.model is None or spec != self.model_spec or (anew and _file(spec) != self._model_stamp)

    def build_model(self, spec: ModelSpec, train_spec: TrainSpec) -> Update:
        """Build the model for the data that there are."""
        assert self.dataset is not None
        read = _file(spec)
        model = _built(spec, self.dataset)
        view = build.view(model, spec, self.dataset, train_spec)
        self.model_spec, self.model, self._view, self._model_stamp = spec, model, view, read
        return Update(model_spec=spec, model=view)

    def fresh_model(self, train_spec: TrainSpec) -> Fresh:
        """A model to train, by its seed with the same initial parameters every time; nothing here has changed by it."""
        assert self.dataset is not None
        read = _file(self.model_spec)
        model = _built(self.model_spec, self.dataset)
        changed = read != self._model_stamp
        return Fresh(model, read, build.view(model, self.model_spec, self.dataset, train_spec) if changed else None)

    def view_for(self, train_spec: TrainSpec) -> ModelView | None:
        """The view of the fresh model with what a training by `train_spec` makes of it; None where there is none."""
        if self.dataset is None or self.model is None:
            return None
        if self.model_spec.kind == "custom" and self._view is not None:
            # a setting is no reason to run the user's code anew: what the model would lose is told when it is built
            self._view = replace(self._view, untrained_loss=None)
        else:
            self._view = build.view(_built(self.model_spec, self.dataset), self.model_spec, self.dataset, train_spec)
        return self._view

    def take(self, dataset: data.Dataset, model: nn.Module) -> None:
        """Go on with the data and the model of a run that was trained on what is here."""
        self.dataset, self.model = dataset, model

    def take_fresh(self, fresh: Fresh) -> Update:
        """Go on with this model; the Update tells of it where it is another one than was shown."""
        self.model, self._model_stamp = fresh.model, fresh.stamp
        if fresh.view is None:
            return Update()
        self._view = fresh.view
        return Update(model=fresh.view)


def _file(spec: DataSpec | ModelSpec) -> Stamp:
    """The state of the file that `spec` reads; None where it reads none."""
    return stamp(Path(spec.file)) if spec.kind in ("table", "custom") else None


def _built(spec: ModelSpec, dataset: data.Dataset) -> nn.Module:
    return build.build(spec, len(dataset.features), dataset.spec.dtype)
