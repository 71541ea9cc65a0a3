"""The one function that changes the app's state: parts are set, unset or gone, and every epoch is folded once."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tui.driving import done, training
from tests.tui.replay import load

from workflow_core.errors import Problem
from workflow_core.history import History
from workflow_core.protocol import Epochs, Event, Hello, Notice, Reply, Steps, Update
from workflow_core.specs import DataSpec
from workflow_tui.state import State, reduce

PARTS = ("data", "model", "training", "evaluation", "saved", "loaded")


def after(events: Iterable[Event], state: State | None = None) -> State:
    state = state or State()
    for event in events:
        state = reduce(state, event)
    return state


def recorded() -> State:
    return after([*load()[0], *done(6)])


def epochs(start: int, *losses: float) -> Epochs:
    return Epochs(start=start, series={"train_loss": list(losses)}, training=training(epoch=start + len(losses)))


def test_the_walkthrough_ends_with_every_part() -> None:
    state = recorded()
    assert all(getattr(state, part) is not None for part in PARTS)
    assert state.history.epochs == 100
    assert state.trained
    assert not state.running
    assert not state.unsaved
    assert state.spec.data == DataSpec()


@pytest.mark.parametrize("part", PARTS)
def test_an_update_changes_only_what_it_names(part: str) -> None:
    before = recorded()
    gone = reduce(before, msgspec.structs.replace(Update(), **{part: None}))
    assert getattr(gone, part) is None
    for other in {*PARTS, "steps", "engine", "data_spec", "history"} - {part}:
        assert getattr(gone, other) is getattr(before, other)
    back = reduce(gone, msgspec.structs.replace(Update(), **{part: getattr(before, part)}))
    assert back == before
    assert getattr(before, part) is not None, "a state that was given must not change"


@pytest.mark.parametrize(
    "event",
    [Hello(version=1, name="x"), Reply(id=1), Notice(problem=Problem(title="a", message="b")), Update()],
)
def test_what_holds_no_part_changes_nothing(event: Event) -> None:
    before = recorded()
    assert reduce(before, event) == before


def test_a_history_snapshot_replaces_and_none_empties() -> None:
    state = recorded()
    fresh = History()
    fresh.extend({"train_loss": [3.0, 2.0], "weight": [0.0, 1.0]})
    replaced = reduce(state, Update(history=fresh.to_data()))
    assert replaced.history.epochs == 2
    assert set(replaced.history.series) == {"train_loss", "weight"}
    assert replaced.history is not fresh
    assert state.history.epochs == 100
    emptied = reduce(replaced, Update(history=None))
    assert emptied.history.epochs == 0
    assert not emptied.history.series


def test_epochs_that_do_not_join_on_are_not_folded_but_their_run_is_shown() -> None:
    state = after([epochs(0, 3.0, 2.0), epochs(2, 1.0)])
    assert state.history.epochs == 3
    for start in (0, 1, 2, 4, 1000):
        other = reduce(state, epochs(start, 7.0))
        assert other.history.epochs == 3
        assert other.history.series["train_loss"].extremes() == (1.0, 3.0)
        assert other.training is not None
        assert other.training.epoch == start + 1


@given(
    losses=st.lists(st.floats(width=32), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    snapshot=st.integers(0, 60),
    repeated=st.booleans(),
)
def test_every_epoch_is_folded_exactly_once(
    losses: list[float], cuts: list[int], snapshot: int, repeated: bool
) -> None:
    """Epochs in pieces of any size, some sent twice, with a snapshot of the history somewhere between."""
    whole = History()
    whole.extend({"train_loss": losses})
    state, at, turn = State(), 0, 0
    snapshot = min(snapshot, len(losses))
    while at < len(losses):
        piece = losses[at : at + cuts[turn % len(cuts)]]
        state = reduce(state, epochs(at, *piece))
        if repeated:
            state = reduce(state, epochs(at, *piece))
        if at <= snapshot < at + len(piece):
            part = History()
            part.extend({"train_loss": losses[:snapshot]})
            state = reduce(state, Update(history=part.to_data()))
            piece = losses[at:snapshot]
            snapshot = -1
        at += len(piece)
        turn += 1
    assert repr(state.history.to_data()) == repr(whole.to_data())


def test_a_million_epochs_stay_bounded() -> None:
    state = State()
    for start in range(0, 1_000_000, 50_000):
        state = reduce(state, epochs(start, *(1 / (start + i + 1) for i in range(50_000))))
    assert state.history.epochs == 1_000_000
    assert len(state.history.series["train_loss"].low) <= 4096
    assert state.history.series["train_loss"].extremes() == (1e-6, 1.0)


def test_the_first_bad_epoch_is_kept() -> None:
    state = after([epochs(0, 1.0, math.inf), epochs(2, math.nan)])
    assert state.history.first_bad == 1
    assert state.history.series["train_loss"].extremes() == (1.0, 1.0)


def test_what_is_unsaved_is_what_was_trained_and_is_in_no_file() -> None:
    state = recorded()
    assert not state.unsaved
    stale = reduce(state, Update(steps=msgspec.structs.replace(state.steps, save="stale", train="stale")))
    assert not stale.unsaved, "other data make no other file"
    further = reduce(state, Update(training=training(epoch=101)))
    assert further.unsaved
    assert not reduce(state, Update(training=training(epoch=101, held=100))).unsaved, "they were put back"
    assert reduce(state, Update(training=training(run=2))).unsaved
    assert reduce(state, Update(saved=None)).unsaved
    assert not reduce(state, Update(saved=None, training=training(epoch=0))).unsaved
    assert not State(steps=Steps(save="open")).unsaved
