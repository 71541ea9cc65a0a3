"""What the keys of Train ask of the engine: some epochs, more epochs, a stop, a seed, an advised rate."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import msgspec
import pytest
from tests.tui.driving import Drive, driving, squeeze, training

from workflow_core.errors import WorkflowError
from workflow_core.protocol import (
    BuildModel,
    Command,
    Extend,
    LeaveRace,
    NextLine,
    Pause,
    RaceView,
    Reset,
    Run,
    SetTraining,
    Stop,
    Update,
)
from workflow_core.specs import InitSpec, ModelSpec, TrainSpec
from workflow_tui import link
from workflow_tui.dialogs.base import Dialog
from workflow_tui.dialogs.number import NumberDialog


async def paused(drive: Drive, **changes: object) -> None:
    await drive.tell(Update(training=training(**({"state": "paused", "epoch": 50} | changes))))


async def test_b_asks_how_many_epochs_and_trains_them() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await paused(drive)
        await drive.press("b")
        assert isinstance(drive.app.screen, NumberDialog)
        await drive.press("home", "shift+end", "delete", "2", "5", "enter")
        await drive.asks(Run(epochs=25))
        await drive.press("b", "home", "shift+end", "delete", "0", "enter")
        await drive.sees("must lie between 1 and")
        await drive.press("escape")
        assert len(drive.client.commands(Run)) == 1


async def test_m_extends_by_200_epochs_unless_another_number_is_given() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3", "m")
        assert "There is no run yet" in drive.status
        await paused(drive)
        await drive.press("m")
        await drive.sees("has done 50 of 100 epochs. So many more, beyond 100:")
        await drive.press("enter")
        await drive.asks(Extend(epochs=200))


async def test_a_stop_keeps_discards_or_goes_on() -> None:
    async with driving(steps=3) as drive:
        for key, sent in (("c", []), ("escape", []), ("k", [Stop(keep=True)]), ("d", [Stop(keep=False)])):
            drive.client.asked.clear()
            await paused(drive, state="running")
            await drive.press("S")
            assert isinstance(drive.app.screen, Dialog)
            await drive.sees("finish and keep", "discard it", "it goes on")
            await drive.press(key)
            assert drive.client.commands(Stop) == sent, key


async def test_what_is_said_of_a_run_that_was_stopped_is_how_far_it_came() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, state="finished", reason="stopped by hand", epoch=17)
        await drive.press("space")
        assert "This run has ended: 17 of 100 epochs are done" in drive.status


async def test_a_training_of_which_nothing_is_heard_for_long_does_not_pass_for_one_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = 0.0
    monkeypatch.setattr(link, "monotonic", lambda: time.monotonic() + later)
    async with driving(steps=3, size=(80, 24)) as drive:
        await paused(drive, state="running")
        later += 40.0
        for key in ("", "2"):
            await drive.press(*key)
            await drive.until(lambda: re.search(r"No news from the training for 4\d s", drive.status))
            assert drive.status.rstrip().endswith("a slow batch, or its engine hangs"), "all of it has room"
        await paused(drive, state="running", epoch=51)
        assert "No news" not in drive.status
        await paused(drive)
        later += 40.0
        drive.app.redraw()
        await drive.settle()
        assert "No news" not in drive.status, "of one that is paused none is due"


async def test_a_paused_run_whose_settings_changed_gives_way_only_after_a_question() -> None:
    async with driving(steps=3) as drive:
        await paused(drive)
        assert "paused. space runs it" in drive.status
        await drive.tell(Update(train_spec=TrainSpec(learning_rate=0.05)))
        assert "Settings changed: space asks" in drive.status
        for key, asked in (
            ("escape", []),
            ("n", [Run()]),
            ("g", [SetTraining(spec=TrainSpec()), Run()]),
        ):
            drive.client.asked.clear()
            await drive.press("space")
            await drive.sees("A new run, or on with this one?", "learning rate 0.01 → 0.05", "paused after 50 of 100")
            await drive.press(key)
            assert drive.client.asked == asked
            await drive.tell(Update(train_spec=TrainSpec(learning_rate=0.05)))
            await paused(drive)
        await drive.press(".")
        await drive.sees("A new run, or on with this one?")
        await drive.press("n")
        assert drive.client.asked[-1] == Run(epochs=1)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_is_said_of_changed_settings_is_what_space_does(size: tuple[int, int]) -> None:
    other = TrainSpec(learning_rate=0.05)
    cases: tuple[tuple[dict[str, object], TrainSpec, str, list[object]], ...] = (
        ({"state": "ready", "epoch": 0}, other, "space begins", [Run()]),
        ({"state": "running", "epoch": 50}, other, "for the next run", [Pause()]),
        ({"state": "paused", "epoch": 50}, TrainSpec(epochs=200), "space goes on", [Run()]),
        ({"state": "paused", "epoch": 50}, TrainSpec(epochs=80), "space goes on", [Run()]),
        ({"state": "paused", "epoch": 50}, TrainSpec(epochs=30), "space asks", []),
        ({"state": "paused", "epoch": 0, "batch": 2, "batches": 5}, other, "space asks", []),
        ({"state": "finished", "epoch": 100}, other, "space begins", [Run()]),
    )
    async with driving(steps=3, size=size) as drive:
        for changes, spec, said, asked in cases:
            await drive.tell(Update(train_spec=spec))
            await paused(drive, **changes)
            drive.app.forget_complaint()
            await drive.settle()
            assert f"settings changed: {said}" in squeeze(drive.panel("#train-run")), changes
            drive.client.asked.clear()
            await drive.press("space")
            assert drive.client.asked == asked, changes
            assert drive.dialog == (said == "space asks")
            if drive.dialog:
                assert "paused after" in squeeze(drive.text)
                await drive.press("escape")
        # nothing but what does nothing is another one, yet another run it is
        await drive.tell(Update(train_spec=TrainSpec(batch_seed=7)))
        await paused(drive)
        await drive.press("space")
        await drive.sees("only some that do nothing here")


async def test_a_setting_that_is_under_way_counts_before_space_does() -> None:
    held = asyncio.Event()

    def slow(client: Any) -> None:
        answer = client.request

        async def request(command: Command, timeout: float | None = None) -> object:
            if isinstance(command, SetTraining):
                await held.wait()
                client.on_event(Update(train_spec=command.spec))
                return None
            return await answer(command, timeout)

        client.request = request

    async with driving(steps=3, client=slow) as drive:
        await paused(drive)
        drive.app.send(SetTraining(spec=TrainSpec(learning_rate=0.5)))
        await drive.pilot.pause()
        await drive.pilot.press("space")
        assert not drive.dialog
        held.set()
        await drive.sees("A new run, or on with this one?")
        assert drive.client.commands(Run) == []


async def test_a_run_that_went_on_behind_the_question_is_not_given_up() -> None:
    async with driving(steps=3) as drive:
        await paused(drive)
        await drive.tell(Update(train_spec=TrainSpec(learning_rate=0.05)))
        await drive.press("space")
        await paused(drive, state="running")
        await drive.press("n")
        assert drive.client.commands(Run) == []
        assert "has changed meanwhile: nothing was done" in drive.status


async def test_there_is_nothing_to_stop_before_a_run_and_after_it() -> None:
    async with driving(steps=2) as drive:
        await drive.press("3", "S")
        assert "There is no run to stop" in drive.status
    async with driving(steps=3) as drive:
        await drive.press("S")
        assert "has ended already" in drive.status
        assert not drive.dialog


async def test_a_new_seed_is_an_act_of_its_own() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, state="running")
        await drive.press("N")
        spec = msgspec.structs.replace(drive.app.state.model_spec, init=InitSpec(seed=43))
        assert drive.client.asked == [Pause(), BuildModel(spec=spec), Reset()]
        zeros = ModelSpec(init=InitSpec(kind="zeros"))
        await drive.tell(Update(model_spec=zeros))
        await drive.press("N")
        assert "zeros, not drawn by a seed" in drive.status
        assert len(drive.client.asked) == 3


@pytest.mark.parametrize(
    ("key", "states"), [("r", ("running", "paused", "finished", "diverged")), ("N", ("paused",)), ("T", ("finished",))]
)
async def test_what_took_long_and_is_in_no_file_is_given_up_after_a_question_only(
    key: str, states: tuple[str, ...]
) -> None:
    async with driving(steps=3) as drive:
        for state in states:
            drive.client.asked.clear()
            await paused(drive, state=state, elapsed=754.0, run=3, try_lr=0.1)
            for no in ("c", "enter", "escape"):
                await drive.press(key)
                await drive.sees("Give up run 3?", "has trained 50 of 100 epochs, in 12:34", "its weights are in")
                await drive.press(no)
                assert drive.client.asked == []
            await drive.press(key, key)
            assert Reset() in drive.client.asked
            assert not drive.dialog
    async with driving(steps=5) as drive:  # where the model was saved after 100 epochs
        await drive.press("3")
        # what is in a file or took a moment is not asked about
        for changes in ({"state": "finished", "epoch": 100, "elapsed": 754.0}, {"state": "running", "elapsed": 9.0}):
            drive.client.asked.clear()
            await paused(drive, try_lr=0.1, **changes)
            await drive.press(key)
            assert Reset() in drive.client.asked
            assert not drive.dialog


@pytest.mark.parametrize(
    ("key", "command", "cases"), [("space", Run(), 5), ("s", NextLine(), 1), ("full_stop", Run(epochs=1), 1)]
)
async def test_a_new_run_takes_the_place_of_a_long_one_after_a_question_only(
    key: str, command: Command, cases: int
) -> None:
    async with driving(steps=3) as drive:
        steps, other = drive.app.state.steps, TrainSpec(learning_rate=0.5)
        stale = msgspec.structs.replace(steps, train="stale", reasons={"train": "the data changed after this training"})
        for train, update in (
            ("paused", Update(steps=stale)),
            ("finished", Update(steps=stale)),
            ("finished", Update(steps=steps, train_spec=other)),
            ("diverged", Update(steps=steps, train_spec=other)),
            ("failed", Update(steps=steps, train_spec=TrainSpec())),
        )[:cases]:
            drive.client.asked.clear()
            await paused(drive, state=train, elapsed=754.0, run=3)
            await drive.tell(update)
            await drive.press(key)
            await drive.sees("Give up run 3?", "begin at epoch 0")
            await drive.press("escape")
            assert drive.client.asked == []
            await drive.press(key, "n")
            assert drive.client.asked == [command]
        # more epochs for a finished one begin nothing new
        await paused(drive, state="finished", epoch=100, elapsed=754.0)
        await drive.tell(Update(steps=steps, train_spec=TrainSpec(epochs=200)))
        await drive.press("space")
        assert not drive.dialog


async def test_after_a_race_r_goes_back_to_the_run_that_was_there() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, elapsed=754.0)
        await drive.tell(Update(race=RaceView(race=2, state="finished", lanes=(), epochs=9, epoch=9, pace=None)))
        await drive.press("r")
        assert drive.client.asked == [LeaveRace()]
        assert not drive.dialog


async def test_a_run_that_is_another_behind_the_question_is_not_given_up() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, elapsed=60.0, run=3)
        await drive.press("r")
        await paused(drive, elapsed=60.0, run=4)
        await drive.press("r")
        assert drive.client.asked == []
        assert "Run 3 has changed meanwhile: nothing was done" in drive.status


async def test_a_refused_model_resets_nothing() -> None:
    async with driving(steps=3) as drive:
        drive.client.problems["BuildModel"] = WorkflowError("No", "the model cannot be built.")
        await drive.press("N")
        await drive.sees("The model cannot be built")
        assert drive.client.commands(Reset) == []


async def test_the_rate_that_is_advised_is_one_key_away() -> None:
    async with driving(steps=3, size=(80, 24)) as drive:
        await drive.press("T")
        assert "No learning rate is advised" in drive.status
        spec = TrainSpec(learning_rate=1.5)
        diverged = training(
            state="diverged",
            spec=spec,
            first_bad=20,
            reason="the run diverged: the training loss became inf in epoch 20",
            cause="1.5 is above 0.8929, the largest stable learning rate",
            advice="set a smaller one",
            try_lr=0.8,
        )
        await drive.tell(Update(training=diverged, train_spec=spec))
        banner = " ".join(drive.panel("#banner").split())
        for words in ("inf in epoch 20.", "1.5 is above 0.8929", "Set a smaller one.", "T trains with lr 0.8"):
            assert words in banner
        await drive.press("T")
        assert drive.client.asked[-3:] == [SetTraining(spec=TrainSpec(learning_rate=0.8)), Reset(), Run()]


async def test_what_looks_wrong_is_said_while_it_runs() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, state="running", findings=("all gradients are zero: nothing is learnt",))
        assert "All gradients are zero: nothing is learnt." in drive.panel("#banner")
        await paused(drive, state="running", findings=())
        assert not drive.app.screen.query_one("#banner").display


async def test_the_pace_stands_beside_what_the_training_could_do() -> None:
    async with driving(steps=3) as drive:
        await paused(drive, state="running", pace=20.0, rate=19.9, capacity=6400.0)
        assert "19.9 epochs/s, pace 20 (flat out 6,400)" in drive.status
        await paused(drive, state="running", pace=None, rate=6300.0, capacity=6400.0)
        assert "6,300 epochs/s, flat out" in drive.status
