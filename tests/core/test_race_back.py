"""A race comes back in another engine as it stood, and its lanes go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.core.test_back import NETWORK, NOISY, Life, live
from tests.core.test_race import lanes
from tests.core.test_train_state import plain

from workflow_core.engine import checkpoint
from workflow_core.engine.inbox import Inbox
from workflow_core.launcher import child_of
from workflow_core.protocol import (
    Adopt,
    BuildModel,
    Evaluate,
    MakeData,
    Pause,
    RaceView,
    Run,
    SetPace,
    SetTraining,
    StartRace,
    Stop,
)
from workflow_core.specs import DataSpec, TrainSpec
from workflow_core.store import schema
from workflow_core.workspace import Workspace

__all__ = ["live"]
Attach = Callable[[Workspace], Any]
SPEC = TrainSpec(epochs=90, batch_size=7, optimizer="adam", scheduler="cosine", scheduler_epochs=30, device="cpu")


pytestmark = pytest.mark.usefixtures("forked")


class Interrupting(Inbox):
    """Something waits in it after it was asked so many times: a command that comes in the middle of a round."""

    def __init__(self, times: int) -> None:
        self._times = times

    @property
    def waiting(self) -> bool:  # type: ignore[override]
        self._times -= 1
        return self._times < 0


def race(life: Life) -> RaceView:
    view = life.state["race"]
    assert isinstance(view, RaceView)
    return view


def begin(life: Life, spec: TrainSpec = SPEC) -> Life:
    life(MakeData(spec=NOISY), BuildModel(spec=NETWORK), SetTraining(spec=spec))
    return life


def run_on(life: Life) -> RaceView:
    """To the end."""
    if race(life).state != "finished":
        life(Run())
    while life.session.running:
        life.session.advance(life.inbox)
    return race(life)


def stand(view: RaceView) -> RaceView:
    """What must be the same, however often it was interrupted."""
    return replace(view, elapsed=0.0, rate=0.0)


def recorded(life: Life) -> Any:
    assert life.store.flush(5)
    return {
        lane.run: {name: list(column) for name, column in life.store.read(lane.run, 0, 10**9).items()}
        for lane in race(life).lanes
    }


def weights(life: Life) -> Any:
    found = life.session._race
    assert found is not None
    return plain([[lane.trainer.model.state_dict(), lane.trainer.optimizer.state_dict()] for lane in found.lanes])


def noted(life: Life) -> str:
    """What each lane's diagnosis looks at."""
    found = life.session._race
    assert found is not None
    return repr([lane.watch.figures for lane in found.lanes])


@pytest.mark.parametrize(
    ("optimizer", "rates", "ends"),
    [("adam", (0.001, 0.01, 0.1), {"finished"}), ("sgd", (0.01, 1e6), {"finished", "diverged"})],
)
@pytest.mark.parametrize("pace", [None, 1e6])
def test_a_race_that_was_interrupted_is_the_one_that_never_was(
    live: Callable[..., Life], optimizer: Any, rates: tuple[float, ...], ends: set[str], pace: float | None
) -> None:
    spec = replace(SPEC, optimizer=optimizer)
    whole = begin(live("whole"), spec)
    whole(StartRace(lanes=lanes(spec, rates)))
    assert {lane.state for lane in run_on(whole).lanes} == ends
    life = begin(live("parts"), spec)
    life(SetPace(pace=pace), StartRace(lanes=lanes(spec, rates)))
    places = set()
    for asked in (3, 40, 44, 45, 51, 97):
        life.session.advance(Interrupting(asked))
        life(Pause())
        before = race(life)
        found = life.session._race
        assert found is not None
        places.add(tuple(lane.place[1:] for lane in found.lanes))
        life.end()
        life = live("parts")
        assert stand(race(life)) == stand(before)
        assert race(life).elapsed == before.elapsed
        found = life.session._race
        assert found is not None
        assert tuple(lane.place[1:] for lane in found.lanes) in places
        assert [history.epochs for history in found.histories] == [lane.epoch for lane in before.lanes]
        life(Run())
    assert any(len({epoch for epoch, _ in place}) > 1 for place in places), "also in the middle of a round"
    assert any(batch for place in places for _, batch in place), "and of an epoch"
    run_on(life)
    assert stand(replace(race(life), pace=None)) == stand(replace(race(whole), pace=None))
    assert weights(life) == weights(whole)
    assert noted(life) == noted(whole)
    assert plain(recorded(life)) == plain(recorded(whole))


def test_lanes_that_had_no_turn_yet_come_first(live: Callable[..., Life]) -> None:
    life = begin(live())
    life(StartRace(lanes=lanes(replace(SPEC, epochs=1000))))
    asked = 0
    while len({lane.epoch for lane in race(life).lanes}) < 2:
        asked += 1
        life.session.advance(Interrupting(asked))
        life(Pause(), Run())
    life(Pause())
    life.end()
    life = live()
    life(Run())
    seen = set()
    while max(lane.epoch for lane in race(life).lanes) < 15:
        life.session.advance(Interrupting(5))
        life(Pause(), Run())
        epochs = [lane.epoch for lane in race(life).lanes]
        seen.add(max(epochs) - min(epochs))
    assert seen == {0, 1}, "none is ever two ahead"


def test_a_race_that_is_over_comes_back_and_a_lane_of_it_is_taken_on(live: Callable[..., Life]) -> None:
    life = begin(live())
    life(StartRace(lanes=lanes(SPEC)))
    ended = run_on(life)
    assert life.keeper.flush(5)
    assert not life.session.unsaved
    life.end()
    life = live()
    assert stand(race(life)) == stand(ended)
    chosen = race(life).lanes[1]
    life(Adopt(run=chosen.run))
    assert life.state["race"] is None
    assert (life.view.run, life.view.parameters, life.history.epochs) == (chosen.run, chosen.parameters, 90)
    life(Evaluate())
    life.end()
    life = live()
    assert life.state.get("race") is None
    assert (life.view.run, life.view.epoch) == (chosen.run, 90)


def test_what_only_changes_its_pace_is_not_kept_anew(live: Callable[..., Life]) -> None:
    life = begin(live())
    life(StartRace(lanes=lanes(SPEC)), Pause())
    assert life.keeper.flush(5)
    before = life.keeper.path.stat()
    for pace in (1.0, 2.0, None):
        life(SetPace(pace=pace))
    assert life.keeper.flush(5)
    assert life.keeper.path.stat().st_mtime_ns == before.st_mtime_ns
    life(Pause())
    assert life.keeper.flush(5)
    assert life.keeper.path.stat().st_mtime_ns > before.st_mtime_ns


@pytest.mark.parametrize("how", ["discarded", "something else began", "other data"])
def test_a_race_that_was_given_up_does_not_come_back(live: Callable[..., Life], how: str) -> None:
    life = begin(live())
    life(StartRace(lanes=lanes(SPEC)))
    run_on(life)
    if how == "discarded":
        life(Stop(keep=False))
    elif how == "other data":
        life(MakeData(spec=DataSpec(noise=0.5)))
    else:
        life(Run(epochs=3))
        while life.session.running:
            life.session.advance(life.inbox)
    life.end()
    life = live()
    assert life.state.get("race") is None
    assert (life.state["training"] is not None) == (how == "something else began")


def test_the_run_beside_it_comes_back_too_also_where_it_is_of_other_data(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.train()
    weights = life.weights
    life(MakeData(spec=DataSpec(noise=0.5)), StartRace(lanes=lanes(SPEC)))
    life.session.advance(Interrupting(100))
    life(Pause())
    before = race(life)
    life.end()
    life = live()
    assert stand(race(life)) == stand(before)
    assert (life.view.run, life.view.epoch, life.steps("train")) == (1, 90, ["stale"])
    assert life.state["data_spec"] == DataSpec(noise=0.5)
    run_on(life)
    life(MakeData(spec=NOISY))
    assert life.weights == weights
    assert life.steps("train") == ["done"], "it is that of these data again"


def test_a_race_whose_table_has_changed_is_one_sentence_and_the_run_is_there(
    live: Callable[..., Life], tmp_path: Path
) -> None:
    csv = tmp_path / "own.csv"
    csv.write_text("x,y\n" + "\n".join(f"{x},{2 * x}" for x in range(30)))
    life = begin(live())
    life.advance(3)
    life(MakeData(spec=DataSpec(kind="table", file=str(csv), target="y")), StartRace(lanes=lanes(SPEC)))
    life.session.advance(Interrupting(30))
    life(Pause())
    life.end()
    csv.write_text("x,y\n" + "\n".join(f"{x},{3 * x}" for x in range(30)))
    life = live()
    assert "the data of race 1 are not what they were" in life.problems[0].message
    assert (life.view.run, life.view.epoch, life.state.get("race")) == (1, 3, None)


def kept_race(workspace: Workspace) -> int:
    """The epochs behind the race that is kept in a workspace."""
    found = checkpoint.read(workspace.kept_run)
    return found.kept.race.view.epoch if found is not None and found.kept.race is not None else -1


async def test_a_race_whose_engine_is_killed_is_named_and_goes_on(workspace: Workspace, attach: Attach) -> None:
    ui = await attach(workspace)
    await ui.request(StartRace(lanes=lanes(replace(SPEC, epochs=100_000))), timeout=60)
    await ui.until(lambda: ui.state.get("race") and ui.state["race"].epoch > 20)
    await ui.request(Pause())
    told = ui.state["race"].epoch
    async with asyncio.timeout(20):
        while kept_race(workspace) < told:  # which is written after the answer
            await asyncio.sleep(0.01)
    await ui.request(Run())
    await ui.until(lambda: ui.state["race"].epoch > told + 20)
    child = child_of(workspace)
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    ui = await attach(workspace)
    await ui.until(lambda: ui.state.get("race") and ui.notices)
    back = ui.state["race"]
    assert back.state == "paused"
    assert back.epoch >= told
    assert "race 1 was" in ui.notices[0], "training; or paused, where the kill came before that was on disk"
    assert "The race is back as it was after" in ui.notices[0]
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.state["race"].epoch > back.epoch + 20)
    assert ui.state["race"].state == "running"


@pytest.mark.parametrize(
    ("state", "when", "advice"),
    [
        ("running", "while {} was training", "Close this; then space goes on with it."),
        ("paused", "while {} was paused", "Close this; then space goes on with it."),
        ("finished", "after {} had finished", ""),
        ("ready", "while {} had not begun", ""),
    ],
)
def test_a_crash_is_told_in_its_time(live: Callable[..., Life], state: Any, when: str, advice: str) -> None:
    life = begin(live())
    life.advance(3)
    life(StartRace(lanes=lanes(SPEC)))
    life.session.advance(Interrupting(30))
    life(Pause())
    kept = life.session._checkpoint().kept
    assert kept.run is not None
    assert kept.race is not None
    run = replace(kept.run, view=replace(kept.run.view, state=state))
    (told,) = checkpoint.crash(run, None, (), lambda run: 3)
    assert when.format("run 1") in told.message
    assert told.message.endswith("The run is back as it was after 3 epochs.")
    assert told.advice == advice
    (told,) = checkpoint.crash(run, None, (), lambda run: 5)
    again = "The run is back as it was after 3 epochs; 2 epochs on record after that are trained again."
    assert told.message.endswith(again)
    assert "had not begun" not in told.message, "for it has epochs"
    race = replace(kept.race, view=replace(kept.race.view, state=state))
    (told,) = checkpoint.crash(kept.run, race, (), lambda run: 0)
    told_of = "run 1 was paused" if state == "finished" else when.format("race 1")
    assert told_of in told.message, "a race that is over is not what was trained last"
    assert life.store.flush(5)
    records = {view.run: view for view in life.store.runs(9)}
    (told,) = checkpoint.crash(run, None, (records[1],), lambda run: 5)
    assert "while run 1 was training" in told.message, "it had gone on after that was kept"
    unfinished = replace(kept.race, view=replace(kept.race.view, state="paused" if state == "finished" else state))
    (told,) = checkpoint.crash(kept.run, unfinished, (records[2],), lambda run: 0)
    assert "while race 1 was training" in told.message
    assert told.advice == "Close this; then space goes on with it."


def test_a_crash_that_came_before_anything_was_kept_is_told_too(live: Callable[..., Life]) -> None:
    life = begin(live())
    life.advance(3)
    kept = life.session._checkpoint().kept
    assert life.store.flush(5)
    (killed,) = (replace(view, run=2, epochs=7) for view in life.store.runs(9))
    assert checkpoint.crash(None, None, (), lambda run: 0) == []
    (told,) = checkpoint.crash(None, None, (killed,), lambda run: 7)
    begun = "while run 2 was training. Nothing of that was kept yet to go on with: 7 epochs are on record"
    assert told.message.endswith(f"{begun}.")
    (told,) = checkpoint.crash(kept.run, None, (killed,), lambda run: 7)
    assert told.message.endswith(f"{begun}; what was kept before is back, run 1 after 3 epochs.")
    lanes_killed = (replace(killed, race=4), replace(killed, run=3, race=4, epochs=6))
    (told,) = checkpoint.crash(None, None, lanes_killed, lambda run: 7)
    assert "while race 4 was training. Nothing of that was kept yet to go on with: 7 epochs" in told.message


def on_disk(workspace: Workspace) -> bool:
    """Is there a run on record that trains?"""
    with contextlib.closing(schema.connect_to_read(workspace.store)) as db:
        return bool(schema.select(db, "state = 'running'", ()))


async def test_a_first_checkpoint_that_was_never_written_is_named_by_the_next_engine(
    workspace: Workspace, attach: Attach
) -> None:
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=replace(SPEC, epochs=10**6)))
    await ui.request(Run(), timeout=60)
    await ui.until(lambda: ui.training.epoch > 5 and ui.state["runs"])
    async with asyncio.timeout(20):
        while not on_disk(workspace):
            await asyncio.sleep(0.02)
    child = child_of(workspace)
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    (workspace.checkpoints / "run.pt").unlink(missing_ok=True)
    ui = await attach(workspace)
    await ui.until(lambda: ui.notices)
    assert "while run 1 was training. Nothing of that was kept yet" in ui.notices[0]
    assert ui.state["training"] is None
