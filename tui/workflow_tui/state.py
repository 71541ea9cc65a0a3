"""The app's whole state in one place, and the one function that changes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from msgspec import UNSET

from workflow_core.history import History
from workflow_core.protocol import (
    DataView,
    Epochs,
    EvaluationView,
    Event,
    LoadedView,
    LoopView,
    ModelView,
    RaceView,
    Reference,
    RunView,
    SavedView,
    StepName,
    Steps,
    TrainingView,
    Update,
)
from workflow_core.protocol import EngineView as Engine
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec, goes_on
from workflow_core.views import holds

Connection = Literal["starting", "connected", "lost"]

LONG = 10.0
"""Seconds of training that are not given up without a question."""


@dataclass(frozen=True)
class State:
    """What the engine last said, and whether it can still be heard."""

    connection: Connection = "starting"
    lost_reason: str = ""
    engine: Engine = field(default_factory=Engine)
    steps: Steps = field(default_factory=Steps)
    data_spec: DataSpec = field(default_factory=DataSpec)
    model_spec: ModelSpec = field(default_factory=ModelSpec)
    train_spec: TrainSpec = field(default_factory=TrainSpec)
    data: DataView | None = None
    model: ModelView | None = None
    training: TrainingView | None = None
    history: History = field(default_factory=History)
    loop: LoopView | None = None
    race: RaceView | None = None
    runs: tuple[RunView, ...] = ()
    evaluation: EvaluationView | None = None
    saved: SavedView | None = None
    loaded: LoadedView | None = None

    @property
    def spec(self) -> WorkflowSpec:
        """The settings as they stand, in one."""
        return WorkflowSpec(data=self.data_spec, model=self.model_spec, train=self.train_spec)

    @property
    def ready(self) -> bool:
        """The engine is connected and has loaded torch."""
        return self.connection == "connected" and self.engine.state == "ready"

    @property
    def unknown(self) -> bool:
        """The engine has not said yet whether there is a run that it had kept."""
        return not (self.ready or self.lost or self.engine.state == "failed")

    def stale_because(self, step: StepName) -> str:
        """Why `step` is stale, in one sentence; empty where it is not."""
        return self.steps.reasons.get(step, "") if getattr(self.steps, step) == "stale" else ""

    @property
    def reference(self) -> Reference:
        """Where the training should arrive; empty once data or model are not those it was trained on."""
        return self.model.reference if self.model is not None and self.steps.train != "stale" else Reference()

    @property
    def truth(self) -> dict[str, float]:
        """The coefficients that the data were made with, in their own units; empty for data that were measured."""
        return self.data.coefficients if self.data is not None and self.steps.train != "stale" else {}

    @property
    def standardized(self) -> bool:
        """Does the model of the run see features and target standardised, and not in their own units?"""
        return self.data is not None and bool(self.data.scaling) and self.steps.train != "stale"

    @property
    def lost(self) -> bool:
        """There was an engine, and it can no longer be heard."""
        return self.connection == "lost"

    @property
    def running(self) -> bool:
        """A training runs at this moment, as far as is known."""
        return self.training is not None and self.training.state == "running"

    @property
    def racing(self) -> bool:
        """A race is there, and not over."""
        return self.race is not None and self.race.state in ("ready", "running", "paused")

    @property
    def busy(self) -> bool:
        """A training or a race runs at this moment, as far as is known."""
        return self.running or (self.race is not None and self.race.state == "running")

    @property
    def went_wrong(self) -> bool:
        """The run ended because a figure was NaN or infinite, or by a fault."""
        return self.training is not None and self.training.state in ("diverged", "failed")

    @property
    def trained(self) -> bool:
        """There is a model with at least one epoch behind it."""
        return self.training is not None and self.training.epoch > 0

    @property
    def lr_changes(self) -> tuple[tuple[int, float], ...]:
        """The learning rates set by hand in the run; none where the settings as they stand are not its own."""
        if self.training is None or self.steps.train == "stale" or self.training.spec != self.train_spec:
            return ()
        return self.training.lr_changes

    @property
    def held_epochs(self) -> int:
        """How many epochs are behind the weights that the model of the run holds now."""
        if self.training is None:
            return 0
        return self.training.epoch if self.training.held is None else self.training.held

    @property
    def precious(self) -> bool:
        """Took the weights of the run that is there long to train, and are in no file?"""
        return self.training is not None and not self.lost and self.unsaved and self.training.elapsed >= LONG

    @property
    def stake(self) -> int | None:
        """The run that a training which began now would give up, and that is not given up without a question."""
        training = self.training
        if training is None or self.given_up is not None:
            return self.given_up
        ended = training.state == "diverged" or training.held is not None
        other = ended or not goes_on(training.spec, training.epoch, self.train_spec)
        anew = self.steps.train == "stale" or training.state == "failed"
        anew = anew or (other and training.state != "running" and training.spec != self.train_spec)
        return training.run if anew and self.race is None and self.precious else None

    @property
    def given_up(self) -> int | None:
        """The run that would be given up if a training began now: one that is paused, and by other settings."""
        training = self.training
        if training is None or training.state != "paused" or self.race is not None or self.lost:
            return None
        if not (training.epoch or training.batch) or self.steps.train == "stale":
            return None
        return None if goes_on(training.spec, training.epoch, self.train_spec) else training.run

    @property
    def unsaved(self) -> bool:
        """The model as it was trained last is in no file."""
        return self.training is not None and self.trained and not holds(self.saved, self.training)


def reduce(state: State, event: Event) -> State:
    """The state after `event`; replies, notices and greetings change nothing.

    Pure but for the history, which is folded in place: copying it for every 50 ms of training would
    cost what its bounded size saves.
    """
    if isinstance(event, Epochs):
        if event.start == state.history.epochs:
            state.history.extend(event.series)
        return replace(state, training=event.training)
    if isinstance(event, Update):
        changes = {
            name: value
            for name in event.__struct_fields__
            if name != "history" and (value := getattr(event, name)) is not UNSET
        }
        if event.history is not UNSET:
            changes["history"] = History() if event.history is None else History.from_data(event.history)
        return replace(state, **changes)
    return state
