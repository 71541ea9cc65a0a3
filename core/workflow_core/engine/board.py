"""What every UI may see: the engine's state as last published, and what one UI has not been told of it yet.

Board and subscriptions belong to the event loop's thread; the worker's events arrive there one by one.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from workflow_core.history import History
from workflow_core.protocol import EngineView, Epochs, Event, RaceView, Steps, TrainingView, Update
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec

FIELDS = Update.__struct_fields__
BACKLOG = 4_000
"""Epochs kept for a UI that does not read; beyond that it gets a complete snapshot instead."""


class Board:
    """The published state. The history of the run is folded here, once for all UIs."""

    def __init__(self, engine: EngineView) -> None:
        self._state: dict[str, Any] = dict.fromkeys(FIELDS)
        self._state.update(
            engine=engine, steps=Steps(), data_spec=DataSpec(), model_spec=ModelSpec(), train_spec=TrainSpec(), runs=()
        )
        self._history: History | None = None

    @property
    def engine(self) -> EngineView:
        """The engine as last published."""
        view = self._state["engine"]
        assert isinstance(view, EngineView)
        return view

    @property
    def training(self) -> TrainingView | None:
        """The run as last published."""
        view = self._state["training"]
        assert view is None or isinstance(view, TrainingView)
        return view

    @property
    def race(self) -> RaceView | None:
        """The race as last published."""
        view = self._state["race"]
        assert view is None or isinstance(view, RaceView)
        return view

    def fold(self, event: Update | Epochs) -> None:
        """Take over what the worker published."""
        if isinstance(event, Epochs):
            assert self._history is not None
            self._history.extend(event.series)
            self._state["training"] = event.training
            return
        for name in FIELDS:
            if (value := getattr(event, name)) is not UNSET:
                self._state[name] = value
        if event.history is not UNSET:
            self._history = History.from_data(event.history) if event.history is not None else None

    def snapshot(self, fields: set[str]) -> Update:
        """An Update with these fields as they are now."""
        parts = {name: self._state[name] for name in fields}
        if "history" in fields:
            parts["history"] = self._history.to_data() if self._history is not None else None
        return Update(**parts)


class Subscription:
    """What one UI has yet to be told, in bounded memory however long it does not listen."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._fields = set(FIELDS)
        self._start = 0
        self._series: dict[str, list[float]] = {}

    @property
    def waiting(self) -> bool:
        """Is there anything to tell?"""
        return bool(self._fields or self._series)

    def note(self, event: Update | Epochs) -> None:
        """Remember what `event`, already on the board, changed."""
        if isinstance(event, Update):
            self._fields.update(name for name in FIELDS if getattr(event, name) is not UNSET)
            if "history" in self._fields:
                self._series = {}
        elif "history" not in self._fields:
            self._note_epochs(event)

    def _note_epochs(self, event: Epochs) -> None:
        if not self._series:
            self._start = event.start
            self._series = {name: list(column) for name, column in event.series.items()}
        else:
            for name, column in event.series.items():
                self._series[name].extend(column)
        if max(map(len, self._series.values()), default=0) > BACKLOG:
            self._fields, self._series = set(FIELDS), {}

    def take(self) -> list[Event]:
        """Everything there is to tell, as it stands now; at first, and after a long silence, the complete state."""
        events: list[Event] = []
        training = self._board.training
        if self._series and training is not None:
            events.append(Epochs(start=self._start, series=self._series, training=training))
            self._fields.discard("training")
        if self._fields:
            events.append(self._board.snapshot(self._fields))
        self._fields, self._series = set(), {}
        return events
